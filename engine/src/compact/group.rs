//! Compaction groups: the blocks of one set of external labels and one resolution, which are merged
//! with each other and with no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

use crate::bucket::Meta;
use crate::model::{BlockId, Error, ErrorKind, Labels, Resolution};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Milliseconds that the blocks of each compaction level cover: 1 h, 2 h, 8 h, 2 d, 14 d.
pub const LEVELS_MS: [i64; 5] = [HOUR_MS, 2 * HOUR_MS, 8 * HOUR_MS, 48 * HOUR_MS, 14 * 24 * HOUR_MS];

/// Between names and values of labels when they are hashed: no UTF-8 has this byte.
const SEPARATOR: u8 = 0xff;

/// What the only label of a block says after all its labels were replica labels.
const DEDUPED: &str = "deduped";

/// The levels up to number `max_level`, counted from 0.
pub fn levels(max_level: usize) -> Result<&'static [i64], Error> {
    LEVELS_MS.get(..=max_level).ok_or_else(|| {
        let highest = LEVELS_MS.len() - 1;
        Error::invalid(format!("debug.max-compaction-level: {max_level} is higher than the highest level, {highest}"))
    })
}

/// The name of a group: resolution in milliseconds and a hash of the labels, as Thanos names it.
pub fn group_key(labels: &Labels, resolution: Resolution) -> String {
    let mut hashed = Vec::new();
    for (name, value) in labels.iter() {
        for text in [name, value] {
            hashed.extend_from_slice(text.as_bytes());
            hashed.push(SEPARATOR);
        }
    }
    format!("{}@{}", resolution.0, xxh64(&hashed, 0))
}

/// Removes the labels that tell replicas apart from a block's external labels; gives how many.
/// A block that has no label left then gets the first of them with the value `deduped`.
pub fn drop_replica_labels(meta: &mut Meta, replica_labels: &[String]) -> usize {
    let Some(thanos) = &mut meta.thanos else { return 0 };
    let dropped = replica_labels.iter().filter(|label| thanos.labels.remove(*label).is_some()).count();
    if let Some(first) = replica_labels.first().filter(|_| thanos.labels.is_empty()) {
        thanos.labels.insert(first.clone(), DEDUPED.to_owned());
    }
    dropped
}

/// The blocks of one set of external labels and one resolution.
#[derive(Clone, Debug)]
pub struct Group {
    /// See [`group_key`].
    pub key: String,
    /// External labels of all blocks.
    pub labels: Labels,
    /// Resolution of all blocks.
    pub resolution: Resolution,
    /// The blocks by their first times.
    pub metas: Vec<Arc<Meta>>,
    /// Extensions that all blocks with extensions have; null when no block has any.
    pub extensions: Value,
}

/// The groups of `metas`, in the order of their keys.
pub fn groups(metas: impl IntoIterator<Item = Arc<Meta>>) -> Vec<Group> {
    let mut by_key = BTreeMap::<String, Group>::new();
    for meta in metas {
        let (labels, resolution) = (meta.external_labels(), meta.resolution());
        let key = group_key(&labels, resolution);
        let group = by_key.entry(key.clone()).or_insert_with(|| Group {
            key,
            labels,
            resolution,
            metas: Vec::new(),
            extensions: Value::Null,
        });
        group.metas.push(meta);
    }
    let mut groups: Vec<_> = by_key.into_values().collect();
    for group in &mut groups {
        sort_by_min_time(&mut group.metas);
        group.extensions = shared_extensions(&group.metas);
    }
    groups
}

/// Sorts blocks by their first times; blocks that start together, by age.
pub fn sort_by_min_time(metas: &mut [Arc<Meta>]) {
    metas.sort_by_key(|meta| (meta.min_time, meta.ulid));
}

/// The extensions of the first block that has some, without those that another with some lacks.
fn shared_extensions(metas: &[Arc<Meta>]) -> Value {
    let mut objects = metas.iter().filter_map(|meta| meta.thanos.as_ref()?.extensions.as_object());
    let Some(mut shared) = objects.next().cloned() else { return Value::Null };
    for object in objects {
        shared.retain(|key, _| object.contains_key(key));
    }
    Value::Object(shared)
}

impl Group {
    /// An error that names blocks that overlap; `None` when none do.
    pub fn overlaps(&self) -> Option<Error> {
        let metas: Vec<&Meta> = self.metas.iter().map(Arc::as_ref).collect();
        Some(overlaps(&metas)?.within("pre compaction overlap check"))
    }

    /// An error that names blocks that would overlap once the block `result` replaced those of
    /// `without`; `None` when none would.
    pub fn overlaps_with(&self, result: &Meta, without: &[BlockId]) -> Option<Error> {
        let mut metas: Vec<&Meta> = self.metas.iter().map(Arc::as_ref).collect();
        metas.retain(|meta| !without.contains(&meta.ulid));
        let at = metas.partition_point(|meta| meta.min_time <= result.min_time);
        metas.insert(at, result);
        Some(overlaps(&metas)?.within(format_args!("resulted compacted block {} overlaps with something", result.ulid)))
    }

    /// An error when a block that was cut from a head has gone into more than one block of `plan`.
    pub fn shared_sources(plan: &[Arc<Meta>]) -> Option<Error> {
        let mut sources: Vec<BlockId> = plan.iter().flat_map(|meta| meta.compaction.sources.iter().copied()).collect();
        sources.sort_unstable();
        let shared = sources.windows(2).find(|pair| pair[0] == pair[1])?[0];
        let blocks: Vec<String> = plan.iter().map(|meta| meta.ulid.to_string()).collect();
        let message =
            format!("overlapping sources detected for plan [{}]: {shared} is in several of them", blocks.join(" "));
        Some(Error::new(ErrorKind::Invalid, message))
    }
}

/// An error that names the first blocks of `metas`, which ascend by their first times, that overlap.
fn overlaps(metas: &[&Meta]) -> Option<Error> {
    let mut last = *metas.first()?;
    for meta in &metas[1..] {
        if meta.min_time < last.max_time {
            let describe =
                |meta: &Meta| format!("<ulid: {}, mint: {}, maxt: {}>", meta.ulid, meta.min_time, meta.max_time);
            let (from, to) = (meta.min_time, meta.max_time.min(last.max_time));
            let message = format!(
                "overlaps found while gathering blocks. [mint: {from}, maxt: {to}]: {}, {}",
                describe(last),
                describe(meta)
            );
            return Some(Error::new(ErrorKind::Invalid, message));
        }
        if meta.max_time > last.max_time {
            last = meta;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::meta::Thanos;

    fn meta(id: u128, range: (i64, i64), labels: &[(&str, &str)]) -> Meta {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let thanos = Some(Thanos { labels, ..Thanos::default() });
        Meta { thanos, ..Meta::new(BlockId(id), range.0, range.1) }
    }

    #[test]
    fn a_group_is_named_as_thanos_names_it() {
        // Printed by Thanos 0.43 for these labels.
        let labels = Labels::from_pairs([("cluster", "c1"), ("replica", "a")]);
        assert_eq!(group_key(&labels, Resolution::FIVE_MINUTES), "300000@11069613780914061285");
        assert_eq!(group_key(&Labels::default(), Resolution::RAW), "0@17241709254077376921");
    }

    #[test]
    fn blocks_are_grouped_by_labels_and_resolution() {
        let mut coarse = meta(3, (0, 10), &[("a", "1")]);
        coarse.thanos.as_mut().unwrap().downsample.resolution = 300_000;
        let metas = [meta(1, (10, 20), &[("a", "1")]), meta(2, (0, 10), &[("a", "1")]), coarse, meta(4, (0, 9), &[])];
        let groups = groups(metas.map(Arc::new));
        assert_eq!(groups.len(), 3);
        assert!(groups.is_sorted_by(|a, b| a.key < b.key));
        let raw = groups.iter().find(|group| group.metas.len() == 2).unwrap();
        assert_eq!(raw.metas.iter().map(|meta| meta.ulid.0).collect::<Vec<_>>(), [2, 1]);
        assert!(raw.overlaps().is_none());
    }

    #[test]
    fn a_block_whose_only_labels_are_replica_labels_says_that_it_is_deduped() {
        let replica_labels = ["replica".to_owned(), "rule_replica".to_owned()];
        let mut only = meta(1, (0, 1), &[("replica", "a"), ("rule_replica", "b")]);
        assert_eq!(drop_replica_labels(&mut only, &replica_labels), 2);
        assert_eq!(only.external_labels().to_string(), r#"{replica="deduped"}"#);
        let mut more = meta(1, (0, 1), &[("cluster", "c"), ("replica", "a")]);
        assert_eq!(drop_replica_labels(&mut more, &replica_labels), 1);
        assert_eq!(more.external_labels().to_string(), r#"{cluster="c"}"#);
    }

    #[test]
    fn overlaps_and_shared_sources_name_the_blocks() {
        let metas = [meta(1, (0, 10), &[]), meta(2, (10, 20), &[]), meta(3, (15, 30), &[])].map(Arc::new);
        let group = groups(metas.clone()).remove(0);
        let message = group.overlaps().unwrap().message().to_owned();
        assert!(message.contains("[mint: 15, maxt: 20]: <ulid: 00000000000000000000000002, mint: 10"), "{message}");
        let result = meta(4, (10, 30), &[]);
        assert!(group.overlaps_with(&result, &[BlockId(2), BlockId(3)]).is_none());
        assert!(group.overlaps_with(&result, &[BlockId(2)]).is_some());
        assert!(Group::shared_sources(&metas).is_none());
        assert!(Group::shared_sources(&[metas[0].clone(), metas[0].clone()]).is_some());
    }

    #[test]
    fn extensions_stay_that_all_blocks_with_extensions_have() {
        let with = |id, json: &str| {
            let mut meta = meta(id, (id as i64, id as i64 + 1), &[]);
            meta.thanos.as_mut().unwrap().extensions = serde_json::from_str(json).unwrap();
            Arc::new(meta)
        };
        let metas = [with(1, "null"), with(2, r#"{"x":1,"y":2}"#), with(3, r#"{"x":7}"#)];
        assert_eq!(groups(metas).remove(0).extensions, serde_json::json!({"x": 1}));
    }
}
