//! meta.json: what a block holds and where it came from, by Prometheus and, in the section `thanos`,
//! by Thanos. Written byte for byte as they do; fields that are not known here are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::go_json;
use super::go_time::GoTime;
use crate::model::{BlockId, Error, ErrorKind, Labels, Resolution, TimeRange};

/// The only version of the file and of its section `thanos`.
pub const VERSION: u32 = 1;

/// Largest meta.json that is read, in bytes.
pub const LEN_MAX: usize = 64 << 20;

/// Which component made a block.
pub mod source {
    /// Shipped beside a Prometheus.
    pub const SIDECAR: &str = "sidecar";
    /// Cut from remote-written samples.
    pub const RECEIVE: &str = "receive";
    /// Merged or downsampled.
    pub const COMPACTOR: &str = "compactor";
    /// Cut from the results of rules.
    pub const RULER: &str = "ruler";
    /// Mended by a compactor.
    pub const COMPACTOR_REPAIR: &str = "compactor.repair";
    /// Mended by a tool.
    pub const BUCKET_REPAIR: &str = "bucket.repair";
    /// Rewritten by a tool.
    pub const BUCKET_REWRITE: &str = "bucket.rewrite";
    /// Uploaded by a tool.
    pub const BUCKET_UPLOAD: &str = "bucket.upload";
}

/// A whole meta.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The block's id, which is also the name of its folder.
    pub ulid: BlockId,
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds before which the last sample lies.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: Stats,
    /// Where it came from.
    pub compaction: Compaction,
    /// [`VERSION`].
    pub version: u32,
    /// What Thanos adds; Prometheus' own blocks have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<Thanos>,
    /// Fields of others.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Counts of what a block holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples of every kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histograms.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted ranges.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    /// Fields of others.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// What a block was made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// Most compactions that a source has gone through, this one among them.
    pub level: u32,
    /// Blocks that were cut from a head and have gone into this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub sources: Vec<BlockId>,
    /// Nothing was left after compaction: to be deleted.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// Blocks that this one was merged of.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub parents: Vec<Parent>,
    /// A compaction of it failed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// More about it, such as `from-out-of-order`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub hints: Vec<String>,
    /// Fields of others.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A block that another was merged of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Its id.
    pub ulid: BlockId,
    /// Its first time.
    pub min_time: i64,
    /// Its last time.
    pub max_time: i64,
}

/// What Thanos adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thanos {
    /// [`VERSION`]; old files have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// External labels of who made the block.
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// How coarse its samples are.
    pub downsample: Downsample,
    /// Which component made it, see [`source`].
    pub source: String,
    /// Names of segment files; newer files say it in `files`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub segment_files: Vec<String>,
    /// Its files by path.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub files: Vec<File>,
    /// What was deleted from it or changed in it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub rewrites: Vec<Rewrite>,
    /// Sizes that help to read it.
    pub index_stats: IndexStats,
    /// Whatever others put there.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub extensions: Value,
    /// When meta.json was uploaded.
    pub upload_time: GoTime,
    /// Fields of others.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// How coarse a block's samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// Milliseconds between samples; 0 for raw data.
    pub resolution: i64,
}

/// A file of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Path within the block's folder.
    pub rel_path: String,
    /// Bytes; 0 when it is not known, as of meta.json.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Its hash, when hashing is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

/// The hash of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileHash {
    /// `SHA256`.
    #[serde(rename = "hashFunc")]
    pub func: String,
    /// Hexadecimal digits.
    pub value: String,
}

/// A change made to a block after it was cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// Blocks that it was applied to.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub sources: Vec<BlockId>,
    /// Deletions, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub deletions_applied: Vec<DeletionRequest>,
    /// Relabel configurations.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub relabels_applied: Vec<Value>,
}

/// A deletion that was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeletionRequest {
    /// Matchers as Thanos writes them.
    pub matchers: Value,
    /// Deleted ranges; all of the series when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub intervals: Vec<DeletedInterval>,
    /// Who asked for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// A deleted range, both ends included, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeletedInterval {
    /// First deleted millisecond.
    pub mint: i64,
    /// Last deleted millisecond.
    pub maxt: i64,
}

/// Sizes that help to read a block, as far as upstream measures them; 0 when they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    /// Bytes of the largest series entry but the last.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: u64,
    /// Bytes of the largest chunk, the last two of each series aside.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: u64,
}

impl File {
    /// Whether it may have `len` bytes: it has, or how many is not known.
    pub fn may_have(&self, len: u64) -> bool {
        self.size_bytes == 0 || self.size_bytes == len
    }
}

impl Meta {
    /// Files that it tells of.
    pub fn files(&self) -> &[File] {
        self.thanos.as_ref().map_or(&[], |thanos| thanos.files.as_slice())
    }

    /// The description of a block cut from a head, of samples from `min_time` to before `max_time`.
    pub fn new(ulid: BlockId, min_time: i64, max_time: i64) -> Self {
        Self {
            ulid,
            min_time,
            max_time,
            stats: Stats::default(),
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
            version: VERSION,
            thanos: None,
            others: Map::new(),
        }
    }

    /// The meta.json in `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |message: String| Error::new(ErrorKind::Corrupt, format!("meta.json: {message}"));
        if bytes.len() > LEN_MAX {
            return Err(corrupt(format!("{} bytes are more than {LEN_MAX}", bytes.len())));
        }
        let meta: Self = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        if meta.version != VERSION {
            return Err(corrupt(format!("version is {}, known is {VERSION}", meta.version)));
        }
        match meta.thanos.as_ref().and_then(|thanos| thanos.version) {
            None | Some(0 | VERSION) => Ok(meta),
            Some(other) => Err(corrupt(format!("version of section thanos is {other}, known is {VERSION}"))),
        }
    }

    /// The file's bytes: as Thanos writes them, without the section `thanos` as Prometheus does.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = go_json::to_vec(self);
        if self.thanos.is_some() {
            bytes.push(b'\n');
        }
        bytes
    }

    /// The labels of who made the block.
    pub fn external_labels(&self) -> Labels {
        Labels::from_pairs(self.thanos.iter().flat_map(|thanos| &thanos.labels))
    }

    /// How coarse its samples are.
    pub fn resolution(&self) -> Resolution {
        Resolution(self.thanos.as_ref().map_or(0, |thanos| thanos.downsample.resolution))
    }

    /// The times it covers; `max_time` is excluded in the file and included here.
    pub fn time_range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1).max(self.min_time))
    }
}

/// What Prometheus says of the block `ulid` that is merged of the blocks `metas`, one at least: times,
/// level, sources and parents.
///
/// # Panics
/// When there is no block.
pub fn merged(ulid: BlockId, metas: &[&Meta]) -> Meta {
    let first = metas.first().expect("a block is merged of one block at least");
    let mut meta = Meta::new(ulid, first.min_time, first.max_time);
    meta.compaction = Compaction::default();
    for source in metas {
        meta.min_time = meta.min_time.min(source.min_time);
        meta.max_time = meta.max_time.max(source.max_time);
        meta.compaction.level = meta.compaction.level.max(source.compaction.level + 1);
        meta.compaction.sources.extend_from_slice(&source.compaction.sources);
        if source.compaction.sources.is_empty() {
            // Otherwise nobody would know that the result holds it.
            meta.compaction.sources.push(source.ulid);
        }
        let (min_time, max_time) = (source.min_time, source.max_time);
        meta.compaction.parents.push(Parent { ulid: source.ulid, min_time, max_time });
    }
    meta.compaction.sources.sort_unstable();
    meta.compaction.sources.dedup();
    meta
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Go writes an empty list or map as null.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        r#"{"ulid":"01M7YFY7H37F9ZH8ZQ1CX44W25","minTime":1,"maxTime":2,"compaction":{"level":1},"version":1"#;

    #[test]
    fn every_golden_meta_is_written_as_it_was_read() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden"));
        if !root.exists() {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is not there", root.display());
            return eprintln!("SKIPPED: {} is not there", root.display());
        }
        let mut count = 0;
        for folder in ["blocks", "thanos"] {
            for set in std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
                let Ok(blocks) = std::fs::read_dir(&set) else { continue };
                for block in blocks {
                    let bytes = std::fs::read(block.unwrap().path().join("meta.json")).unwrap();
                    let again = Meta::parse(&bytes).unwrap().to_json();
                    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&bytes));
                    count += 1;
                }
            }
        }
        assert!(count >= 19, "{count}");
    }

    #[test]
    fn fields_that_are_not_known_are_kept() {
        let text = format!(
            r#"{MINIMAL},"more":[1],"thanos":{{"labels":null,"downsample":{{"resolution":300000}},"source":"x","index_stats":{{}},"extensions":{{"parquet_migrated":true}},"upload_time":"0001-01-01T00:00:00Z","odd":{{"b":1}}}}}}"#
        );
        let meta = Meta::parse(text.as_bytes()).unwrap();
        assert_eq!(meta.resolution(), Resolution::FIVE_MINUTES);
        let again: Value = serde_json::from_slice(&meta.to_json()).unwrap();
        assert_eq!(again["more"], serde_json::json!([1]));
        assert_eq!(again["thanos"]["odd"]["b"], 1);
        assert_eq!(again["thanos"]["extensions"]["parquet_migrated"], true);
        assert_eq!(again["thanos"]["labels"], serde_json::json!({}));
        assert_eq!(Meta::parse(&meta.to_json()).unwrap(), meta);
    }

    #[test]
    fn a_block_that_names_no_source_is_one_itself_when_it_is_merged() {
        let (mut one, two) = (Meta::new(BlockId(1), 0, 10), Meta::new(BlockId(2), 10, 20));
        one.compaction.sources.clear();
        assert_eq!(merged(BlockId(3), &[&one, &two]).compaction.sources, [BlockId(1), BlockId(2)]);
    }

    #[test]
    fn another_version_or_broken_json_is_refused_with_the_place() {
        let error = Meta::parse(MINIMAL.replace(r#""version":1"#, r#""version":3}"#).as_bytes()).unwrap_err();
        assert_eq!(error.message(), "meta.json: version is 3, known is 1");
        let error = Meta::parse(MINIMAL.as_bytes()).unwrap_err();
        assert!(error.message().contains("line 1 column"), "{error}");
    }
}
