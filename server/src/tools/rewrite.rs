//! `tools bucket rewrite`: a block written anew with series relabelled, then with samples deleted.
//!
//! Relabelling can give several series the same labels. These go into blocks of their own, layer upon
//! layer, which the merge at the end makes one again; what is deleted are tombstones of that merge.
//!
//! ```text
//! source ──relabel──> layer 0, layer 1, …  ──tombstones──> merge ──> result
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::block::tombstones::Tombstones;
use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::meta::{DeletedInterval, DeletionRequest, Rewrite};
use engine::bucket::{BlockObject, Meta, name};
use engine::chunk::segment;
use engine::compact::source::Bytes;
use engine::compact::{MergeOptions, Merged, SourceBlock, Target, Unwatched, Workers, merge, settle_written};
use engine::index::tsdb::source::Window;
use engine::index::tsdb::{FileSource, Series, Source, Symbols};
use engine::io::replace;
use engine::model::relabel::{self, Rule};
use engine::model::{Error, Labels, Matcher, SeriesRef, TimeRange};
use engine::promql::syntax;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{ConfigError, from_yaml, selector};
use crate::upkeep::new_block_id;

/// Source of blocks that were rewritten.
const REWRITTEN: &str = engine::bucket::meta::source::BUCKET_REWRITE;

/// What is changed in blocks.
#[derive(Debug, Default)]
pub struct Changes {
    deletions: Vec<Deletion>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Deletion {
    matchers: Vec<Matcher>,
    intervals: Vec<TimeRange>,
    request: DeletionRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletionYaml {
    matchers: String,
    #[serde(default)]
    intervals: Vec<IntervalYaml>,
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntervalYaml {
    mint: i64,
    maxt: i64,
}

impl Changes {
    /// Reads the YAML of what to delete and of how to relabel.
    pub fn parse(to_delete: Option<&str>, to_relabel: Option<&str>) -> Result<Self, ConfigError> {
        let mut changes = Self::default();
        if let Some(text) = to_delete.filter(|text| !text.trim().is_empty()) {
            let flag = "rewrite.to-delete-config";
            for deletion in from_yaml::<Vec<DeletionYaml>>(flag, text)? {
                changes.deletions.push(deletion.check().map_err(|why| ConfigError::new(flag, why))?);
            }
        }
        if let Some(text) = to_relabel.filter(|text| !text.trim().is_empty()) {
            let flag = "rewrite.to-relabel-config";
            changes.rules = selector::rules(flag, text)?;
        }
        if changes.deletions.is_empty() && changes.rules.is_empty() {
            let why = "rewrite configuration should be provided: say what to delete or how to relabel";
            return Err(ConfigError::new("rewrite.to-delete-config", why));
        }
        Ok(changes)
    }

    /// What is deleted of a series with these labels; [`TimeRange::ALL`] for all of it.
    fn deleted(&self, labels: &Labels) -> Vec<TimeRange> {
        let mut ranges = Vec::new();
        for deletion in &self.deletions {
            let matches = |matcher: &Matcher| {
                labels.get(matcher.name()).is_some_and(|value| !value.is_empty() && matcher.matches(value))
            };
            if !deletion.matchers.iter().all(matches) {
                continue;
            }
            if deletion.intervals.is_empty() {
                return vec![TimeRange::ALL];
            }
            ranges.extend(&deletion.intervals);
        }
        ranges
    }

    fn rewrite(&self, sources: &[engine::model::BlockId]) -> Rewrite {
        Rewrite {
            sources: sources.to_vec(),
            deletions_applied: self.deletions.iter().map(|deletion| deletion.request.clone()).collect(),
            relabels_applied: self.rules.iter().map(|rule| told(rule.config())).collect(),
        }
    }
}

/// A relabelling rule as Thanos writes it in meta.json: what the YAML leaves out has its default, and all but the
/// modulus is text, as anything else makes the file corrupt to Thanos.
fn told(config: &relabel::Config) -> Value {
    let mut told = json!({
        "separator": config.separator,
        "regex": config.regex.as_deref().unwrap_or_default(),
        "replacement": config.replacement,
        "action": config.action.as_str(),
    });
    if !config.source_labels.is_empty() {
        told["source_labels"] = json!(config.source_labels);
    }
    if config.modulus != 0 {
        told["modulus"] = json!(config.modulus);
    }
    if !config.target_label.is_empty() {
        told["target_label"] = json!(config.target_label);
    }
    told
}

impl DeletionYaml {
    fn check(self) -> Result<Deletion, String> {
        let matchers = syntax::parse_selector(&self.matchers).map_err(|error| format!("matchers: {error}"))?;
        let kind = |matcher: &Matcher| ["=", "!=", "=~", "!~"].iter().position(|kind| *kind == matcher.kind().as_str());
        let told = matchers
            .iter()
            .map(|matcher| json!({"Type": kind(matcher), "Name": matcher.name(), "Value": matcher.value().as_str()}));
        let request = DeletionRequest {
            matchers: told.collect(),
            intervals: self.intervals.iter().map(|at| DeletedInterval { mint: at.mint, maxt: at.maxt }).collect(),
            request_id: self.request_id,
        };
        let bad = self.intervals.iter().find(|at| at.mint > at.maxt);
        if let Some(bad) = bad {
            return Err(format!("intervals: {} is after {}", bad.mint, bad.maxt));
        }
        let intervals = self.intervals.iter().map(|at| TimeRange::new(at.mint, at.maxt)).collect();
        Ok(Deletion { matchers, intervals, request })
    }
}

/// A block that was rewritten.
#[derive(Debug)]
pub struct Rewritten {
    /// Its folder; none in a dry run and when nothing is left.
    pub dir: Option<PathBuf>,
    /// What its meta.json says.
    pub meta: Meta,
    /// A line for each series that was changed.
    pub log: String,
}

/// Whether anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Only the log.
    Dry,
    /// The block.
    Real,
}

/// Writes the block in the folder `from` anew, below `work`.
pub fn rewrite(from: &Path, work: &Path, changes: &Changes, run: Run) -> Result<Rewritten, Error> {
    let source = SourceBlock::open(from)?;
    let old = Arc::clone(source.meta());
    let mut log = String::new();
    let layers_dir = work.join(format!("{}-layers", old.ulid));
    let layers = if changes.rules.is_empty() {
        vec![(from.to_owned(), source)]
    } else {
        relabelled(&source, &layers_dir, (changes, &mut log))?
    };
    let mut sources = Vec::new();
    for (dir, layer) in layers {
        let (tombstones, times) = tombstones(&layer, changes, &mut log)?;
        sources.push(with_tombstones(&dir, &layer, (tombstones, times))?);
    }
    let thanos = old.thanos.clone();
    let mut meta = Meta { ulid: new_block_id(), ..Meta::clone(&old) };
    meta.compaction.sources = vec![meta.ulid];
    if let Some(thanos) = &mut meta.thanos {
        thanos.rewrites.push(changes.rewrite(&old.compaction.sources));
        thanos.source = REWRITTEN.to_owned();
    }
    if run == Run::Dry || sources.is_empty() {
        return Ok(Rewritten { dir: None, meta, log });
    }
    let target = Target {
        parent: work.to_owned(),
        id: meta.ulid,
        labels: thanos.as_ref().map(|thanos| thanos.labels.clone()).unwrap_or_default(),
        extensions: thanos.map(|thanos| thanos.extensions).unwrap_or_default(),
        source: REWRITTEN,
    };
    let merged = merge(sources, &target, &MergeOptions::default(), &Unwatched)?;
    drop(std::fs::remove_dir_all(&layers_dir));
    let Merged::Block(written) = merged else { return Ok(Rewritten { dir: None, meta, log }) };
    let dir = work.join(meta.ulid.to_string());
    meta.stats = written.meta.stats.clone();
    if let (Some(thanos), Some(new)) = (&mut meta.thanos, written.meta.thanos) {
        (thanos.files, thanos.segment_files, thanos.index_stats) = (new.files, new.segment_files, new.index_stats);
    }
    settle_written(&dir, &Workers::threads(0))?;
    // The block's times stay, as in Thanos, also where chunks lie outside of them.
    let (path, json) = (dir.join(name::META), meta.to_json());
    replace::write_whole(&path, |file| file.write_all(&json)).map_err(|error| Error::file(&path, error))?;
    Ok(Rewritten { dir: Some(dir), meta, log })
}

/// A series of the source and what became of its labels.
struct Moved {
    labels: Labels,
    series: Series,
}

/// The series of `source` with new labels, in as many blocks as are needed for no two to be equal.
fn relabelled(
    source: &SourceBlock,
    dir: &Path,
    (changes, log): (&Changes, &mut String),
) -> Result<Vec<(PathBuf, SourceBlock)>, Error> {
    drop(std::fs::remove_dir_all(dir));
    std::fs::create_dir_all(dir).map_err(|error| Error::file(dir, error))?;
    let mut layers: Vec<BTreeMap<Labels, Moved>> = Vec::new();
    let index = source.index();
    let (mut scan, mut series) = (index.series(), Series::default());
    while scan.next(&mut series).map_err(|error| source.place(error, name::INDEX))? {
        let labels = series.labels(index.symbols());
        let Some(new) = relabel::relabel(&changes.rules, &labels).filter(|new| !new.is_empty()) else {
            log_deleted(log, &labels, span(&series).as_slice());
            continue;
        };
        if new != labels {
            // Writing to a string can't fail.
            let _ = writeln!(log, "Relabelled {labels} {new}");
        }
        let free = layers.iter().position(|layer| !layer.contains_key(&new));
        let layer = free.unwrap_or(layers.len());
        if layer == layers.len() {
            layers.push(BTreeMap::new());
        }
        layers[layer].insert(new.clone(), Moved { labels: new, series: series.clone() });
    }
    layers.into_iter().map(|layer| write_layer(source, layer.into_values().collect(), dir)).collect()
}

/// Writes series with the chunks and the tombstones that they have in `source`.
fn write_layer(source: &SourceBlock, moved: Vec<Moved>, dir: &Path) -> Result<(PathBuf, SourceBlock), Error> {
    let id = new_block_id();
    let words: BTreeSet<&str> =
        moved.iter().flat_map(|moved| moved.labels.iter()).flat_map(|(name, value)| [name, value]).collect();
    let mut writer = BlockWriter::create(dir, id, Symbols::from_sorted(words))?;
    let mut tombstones = Tombstones::default();
    for Moved { labels, series } in &moved {
        let mut copied = Vec::new();
        for meta in &series.chunks {
            let (segment, offset) = (meta.chunk_ref.segment(), u64::from(meta.chunk_ref.offset()));
            let bytes = source.segment(segment)?;
            copied.push(copy_chunk(bytes, offset).map_err(|error| source.place(error, BlockObject::Segment(segment)))?);
        }
        let chunks = series.chunks.iter().zip(&copied).map(|(meta, (encoding, data))| ChunkData {
            min_time: meta.min_time,
            max_time: meta.max_time,
            encoding: *encoding,
            data,
        });
        let series_ref = writer.add_labels(labels, &chunks.collect::<Vec<_>>())?;
        source.tombstones().of(series.series_ref).iter().for_each(|range| tombstones.add(series_ref, *range));
    }
    let meta = Meta { ulid: id, ..Meta::clone(source.meta()) };
    writer.finish(meta)?;
    let path = dir.join(id.to_string());
    let file = path.join(name::TOMBSTONES);
    std::fs::write(&file, tombstones.to_bytes()).map_err(|error| Error::file(&file, error))?;
    Ok((path.clone(), SourceBlock::open(&path)?))
}

fn copy_chunk(bytes: &Bytes, offset: u64) -> Result<(engine::chunk::Encoding, Vec<u8>), Error> {
    let mut window = Window::glance(bytes, "chunk segment");
    let start = window.up_to(offset, engine::codec::varint::LEN_MAX, bytes.len())?;
    let data_len = engine::codec::Cursor::new("chunk segment", start, offset).uvarint()?;
    let record_len = segment::record_len(usize::try_from(data_len.min(bytes.len())).unwrap_or(usize::MAX));
    let chunk = segment::read_at(window.up_to(offset, record_len, bytes.len())?, offset, offset)?;
    Ok((chunk.encoding, chunk.data.to_vec()))
}

/// What the changes delete of a block, and the times of the block and of all its chunks.
fn tombstones(block: &SourceBlock, changes: &Changes, log: &mut String) -> Result<(Tombstones, TimeRange), Error> {
    let mut tombstones = block.tombstones().clone();
    let mut times = TimeRange::new(block.meta().min_time, block.meta().max_time.saturating_sub(1));
    let index = block.index();
    let (mut scan, mut series) = (index.series(), Series::default());
    while scan.next(&mut series).map_err(|error| block.place(error, name::INDEX))? {
        let Some(span) = span(&series) else { continue };
        times = times.hull(span);
        let labels = series.labels(index.symbols());
        let ranges = changes.deleted(&labels);
        if ranges.is_empty() {
            continue;
        }
        let within = ranges.iter().filter(|range| range.min_time <= span.max_time && span.min_time <= range.max_time);
        let cut =
            |range: &TimeRange| TimeRange::new(range.min_time.max(span.min_time), range.max_time.min(span.max_time));
        let mut own = Tombstones::default();
        within.for_each(|range| own.add(SeriesRef(0), cut(range)));
        log_deleted(log, &labels, own.of(SeriesRef(0)));
        ranges.iter().for_each(|range| tombstones.add(series.series_ref, *range));
    }
    Ok((tombstones, times))
}

/// The same block with other tombstones, and with times in which all of its chunks lie: a merge leaves out those that
/// lie outside, and Thanos keeps them.
fn with_tombstones(
    dir: &Path,
    block: &SourceBlock,
    (tombstones, times): (Tombstones, TimeRange),
) -> Result<SourceBlock, Error> {
    let index = Bytes::new(FileSource::open(&dir.join(name::INDEX))?);
    let mut segments = Vec::new();
    while let Ok(bytes) = block.segment(segments.len() as u32) {
        segments.push(bytes.clone());
    }
    let (min_time, max_time) = (times.min_time, times.max_time.saturating_add(1));
    let meta = Meta { min_time, max_time, ..Meta::clone(block.meta()) };
    SourceBlock::new(Arc::new(meta), index, segments, tombstones)
}

/// The times that a series covers; `None` when it has no chunks.
fn span(series: &Series) -> Option<TimeRange> {
    let min_time = series.chunks.iter().map(|chunk| chunk.min_time).min()?;
    let max_time = series.chunks.iter().map(|chunk| chunk.max_time).max()?;
    Some(TimeRange::new(min_time, max_time))
}

fn log_deleted(log: &mut String, labels: &Labels, ranges: &[TimeRange]) {
    let ranges: Vec<String> = ranges.iter().map(|range| format!("{{{} {}}}", range.min_time, range.max_time)).collect();
    if !ranges.is_empty() {
        // Writing to a string can't fail.
        let _ = writeln!(log, "Deleted {labels} [{}]", ranges.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_say_what_is_deleted_and_refuse_what_they_do_not_know() {
        let yaml = "- {matchers: '{a=\"b\"}', intervals: [{mint: 1, maxt: 5}]}\n- {matchers: 'up{a=\"c\"}'}";
        let changes = Changes::parse(Some(yaml), None).unwrap();
        let deleted = |pairs: &[(&str, &str)]| changes.deleted(&Labels::from_pairs(pairs.iter().copied()));
        assert_eq!(deleted(&[("a", "b")]), [TimeRange::new(1, 5)]);
        assert_eq!(deleted(&[("__name__", "up"), ("a", "c")]), [TimeRange::ALL]);
        assert!(deleted(&[("__name__", "up"), ("a", "d")]).is_empty());
        for (bad, why) in [
            ("- {matchers: '{a='}", "matchers"),
            ("- {matchers: 'up', intervals: [{mint: 5, maxt: 1}]}", "5 is after 1"),
            ("- {matchers: up, other: 1}", "other"),
        ] {
            assert!(Changes::parse(Some(bad), None).unwrap_err().to_string().contains(why), "{bad}");
        }
        assert!(Changes::parse(None, Some("")).unwrap_err().to_string().contains("should be provided"));
    }

    /// Numbers and truth values of the YAML once came into meta.json as such, which Thanos took for corrupt.
    #[test]
    fn relabelling_is_told_as_thanos_writes_it() {
        let yaml = "- {action: DROP, source_labels: [1, b], regex: 5}\n\
                    - {target_label: c, replacement: 7, regex: true, separator: 1.50}\n\
                    - {action: hashmod, source_labels: [a], target_label: d, modulus: 8, regex: null}";
        let changes = Changes::parse(None, Some(yaml)).unwrap();
        let expected = json!([
            {"source_labels": ["1", "b"], "separator": ";", "regex": "5", "replacement": "$1", "action": "drop"},
            {"separator": "1.50", "regex": "true", "target_label": "c", "replacement": "7", "action": "replace"},
            {
                "source_labels": ["a"], "separator": ";", "regex": "", "modulus": 8, "target_label": "d",
                "replacement": "$1", "action": "hashmod",
            },
        ]);
        assert_eq!(Value::Array(changes.rewrite(&[]).relabels_applied), expected);
    }
}
