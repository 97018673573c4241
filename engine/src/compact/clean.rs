//! Cleaning: which blocks are to be hidden, marked or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::group::group_key;
use crate::bucket::meta::source;
use crate::bucket::{DeletionMark, Meta};
use crate::model::BlockId;

/// Age after which a block without meta.json counts as given up: 48 h.
pub const PARTIAL_UPLOAD_AGE: Duration = Duration::from_hours(48);

/// The blocks all of whose data other blocks of their group have too, as sources say: of blocks with
/// equal sources the oldest stays. They are to be hidden, and marked for deletion.
pub fn duplicates(metas: &[Arc<Meta>]) -> Vec<BlockId> {
    let mut groups = BTreeMap::<String, Vec<&Meta>>::new();
    for meta in metas {
        groups.entry(group_key(&meta.external_labels(), meta.resolution())).or_default().push(meta);
    }
    let mut found = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|meta| (std::cmp::Reverse(meta.compaction.sources.len()), meta.ulid));
        let mut covering: Vec<BTreeSet<BlockId>> = Vec::new();
        for meta in group {
            let sources = &meta.compaction.sources;
            if covering.iter().any(|parent| sources.iter().all(|id| parent.contains(id))) {
                found.push(meta.ulid);
            } else {
                covering.push(sources.iter().copied().collect());
            }
        }
    }
    found.sort_unstable();
    found
}

/// Whether a block is so new at the Unix millisecond `now_ms` that others may not see all of it yet.
/// What a compactor wrote is whole.
pub fn too_fresh(meta: &Meta, now_ms: i64, consistency_delay: Duration) -> bool {
    let thanos = meta.thanos.as_ref();
    let uploaded = thanos.and_then(|thanos| thanos.upload_time.unix_ms());
    let since = uploaded.unwrap_or(meta.ulid.time_ms() as i64);
    let age = now_ms.saturating_sub(since);
    let own = [source::COMPACTOR, source::COMPACTOR_REPAIR, source::BUCKET_REPAIR];
    let by_compactor = thanos.is_some_and(|thanos| own.contains(&thanos.source.as_str()));
    age < consistency_delay.as_millis() as i64 && !by_compactor
}

/// Whether a marked block is to be deleted at the Unix millisecond `now_ms`.
pub fn deletable(mark: &DeletionMark, now_ms: i64, delete_delay: Duration) -> bool {
    let age_ms = now_ms.saturating_sub(mark.deletion_time.saturating_mul(1000));
    age_ms > delete_delay.as_millis() as i64
}

/// Whether the upload of a block without meta.json was given up: `last_modified_ms` is when its last
/// object changed, where that is known.
pub fn is_aborted(id: BlockId, last_modified_ms: Option<i64>, now_ms: i64) -> bool {
    let since = last_modified_ms.unwrap_or(id.time_ms() as i64);
    now_ms.saturating_sub(since) > PARTIAL_UPLOAD_AGE.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::meta::Thanos;

    fn meta(id: u128, sources: &[u128]) -> Arc<Meta> {
        let mut meta = Meta::new(BlockId(id), 0, 1);
        meta.compaction.sources = sources.iter().map(|id| BlockId(*id)).collect();
        Arc::new(meta)
    }

    #[test]
    fn blocks_whose_sources_are_all_in_another_are_duplicates() {
        let metas = [meta(1, &[1]), meta(2, &[2]), meta(9, &[1, 2]), meta(8, &[1, 2]), meta(7, &[2, 3]), meta(4, &[4])];
        assert_eq!(duplicates(&metas), [1, 2, 9].map(BlockId));
        let mut elsewhere = Meta::clone(&metas[0]);
        elsewhere.thanos = Some(Thanos { labels: [("a".to_owned(), "b".to_owned())].into(), ..Thanos::default() });
        assert_eq!(duplicates(&[Arc::new(elsewhere), metas[2].clone()]), []);
    }

    #[test]
    fn a_block_is_fresh_until_its_delay_is_over_unless_a_compactor_wrote_it() {
        let mut meta = Meta::new(BlockId::from_parts(10_000, 1), 0, 1);
        meta.thanos = Some(Thanos { source: source::SIDECAR.to_owned(), ..Thanos::default() });
        let delay = Duration::from_secs(5);
        assert!(too_fresh(&meta, 14_999, delay) && !too_fresh(&meta, 15_000, delay));
        meta.thanos.as_mut().unwrap().source = source::COMPACTOR.to_owned();
        assert!(!too_fresh(&meta, 14_999, delay));
    }

    #[test]
    fn what_is_marked_or_half_uploaded_goes_after_its_delay() {
        let id = BlockId::from_parts(1_000, 1);
        let mark = DeletionMark { id, version: 1, details: String::new(), deletion_time: 10 };
        let delay = Duration::from_secs(20);
        assert!(!deletable(&mark, 30_000, delay) && deletable(&mark, 30_001, delay));
        let age = PARTIAL_UPLOAD_AGE.as_millis() as i64;
        assert!(!is_aborted(id, None, age + 1_000) && is_aborted(id, None, age + 1_001));
        assert!(!is_aborted(id, Some(5_000), age + 1_001));
    }
}
