//! Filters over a view, in Thanos' order: time, labels, freshness, deletion marks, duplicates.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::bucket::meta::source;
use engine::bucket::{DeletionMark, Meta};
use engine::compact::group::drop_replica_labels;
use engine::model::{BlockId, Labels, LabelsBuilder};

use super::fetch::SyncedBlock;
use super::metrics::{State, Tally};
use crate::cli::TimeOrDuration;

/// Name under which relabelling sees a block's id.
pub const BLOCK_ID_LABEL: &str = "__block_id";

/// Sources whose blocks are never too fresh: they replace others, which go away.
const NEVER_FRESH: [&str; 3] = [source::COMPACTOR, source::COMPACTOR_REPAIR, source::BUCKET_REPAIR];

/// Which blocks count.
pub struct Filters {
    /// Blocks that end before this are left out.
    pub min_time: TimeOrDuration,
    /// Blocks that begin after this are left out.
    pub max_time: TimeOrDuration,
    /// Whether relabelling keeps a block with these labels, its id among them.
    pub keeps: Box<dyn Fn(&Labels) -> bool + Send + Sync>,
    /// Blocks younger than this are left out.
    pub consistency_delay: Duration,
    /// Blocks marked for deletion longer than this ago are left out.
    pub ignore_deletion_marks_delay: Duration,
    /// External labels that blocks lose, so that replicas are told apart no longer.
    pub replica_labels: Vec<String>,
    /// Blocks whose sources are all among those of another.
    pub duplicates: Duplicates,
}

/// What becomes of blocks whose sources are all among those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// They are left out.
    LeftOut,
    /// They count.
    Kept,
}

/// What filters have seen on their way.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every block with a deletion mark that got as far as the filter of marks.
    pub marked: BTreeMap<BlockId, DeletionMark>,
    /// Blocks that were left out because others, which stay, hold the same.
    pub duplicates: Vec<BlockId>,
    /// Replica labels that were taken from blocks.
    pub labels_removed: usize,
}

impl Filters {
    /// Leaves nothing out but duplicates.
    pub fn all() -> Self {
        Self {
            min_time: TimeOrDuration::At(i64::MIN),
            max_time: TimeOrDuration::At(i64::MAX),
            keeps: Box::new(|_| true),
            consistency_delay: Duration::ZERO,
            ignore_deletion_marks_delay: Duration::MAX,
            replica_labels: Vec::new(),
            duplicates: Duplicates::LeftOut,
        }
    }

    /// Leaves out of `blocks` those that don't count when it is `now` (Unix milliseconds).
    pub fn apply(&self, blocks: &mut BTreeMap<BlockId, SyncedBlock>, now: i64, tally: &mut Tally) -> Seen {
        let (min_time, max_time) = (self.min_time.resolve(now), self.max_time.resolve(now));
        let mut leave_out = |state: State, keeps: &dyn Fn(BlockId, &SyncedBlock) -> bool| {
            let before = blocks.len();
            blocks.retain(|id, block| keeps(*id, block));
            tally.add_many(state, before - blocks.len());
        };
        leave_out(State::TimeExcluded, &|_, block| block.meta.max_time >= min_time && block.meta.min_time <= max_time);
        leave_out(State::LabelExcluded, &|id, block| {
            let mut labels = LabelsBuilder::from_labels(&block.meta.external_labels());
            labels.set(BLOCK_ID_LABEL, &id.to_string());
            (self.keeps)(&labels.build())
        });
        leave_out(State::TooFresh, &|id, block| !is_too_fresh(id, &block.meta, now, self.consistency_delay));
        let mut seen = Seen::default();
        seen.marked.extend(blocks.iter().filter_map(|(id, block)| Some((*id, block.deletion_mark.clone()?))));
        let before = blocks.len();
        blocks.retain(|_, block| match &block.deletion_mark {
            Some(mark) => !is_older(mark, self.ignore_deletion_marks_delay, now),
            None => true,
        });
        tally.add_many(State::MarkedForDeletion, before - blocks.len());
        if !self.replica_labels.is_empty() {
            for block in blocks.values_mut() {
                seen.labels_removed += drop_replica_labels(Arc::make_mut(&mut block.meta), &self.replica_labels);
            }
        }
        if self.duplicates == Duplicates::LeftOut {
            let duplicates = duplicates(blocks);
            tally.add_many(State::Duplicate, duplicates.len());
            blocks.retain(|id, _| !duplicates.contains_key(id));
            seen.duplicates.extend(duplicates.iter().filter(|(_, other)| **other == Other::Stays).map(|(id, _)| *id));
        }
        seen
    }
}

/// Whether a block was marked longer ago than `delay` when it is `now`, in Unix milliseconds; marks carry
/// whole seconds, so without a delay every mark has come of age.
pub fn is_older(mark: &DeletionMark, delay: Duration, now: i64) -> bool {
    let age = i128::from(now) - i128::from(mark.deletion_time) * 1000;
    delay.is_zero() || age > i128::try_from(delay.as_millis()).unwrap_or(i128::MAX)
}

/// A block whose id or upload is of a time to come, of a machine whose clock is ahead, is not: it would be hidden for
/// as long as the clocks differ.
fn is_too_fresh(id: BlockId, meta: &Meta, now: i64, delay: Duration) -> bool {
    let thanos = meta.thanos.as_ref();
    let made = i64::try_from(id.time_ms()).ok().filter(|made| *made <= now);
    let uploaded = thanos.and_then(|thanos| thanos.upload_time.unix_ms()).filter(|uploaded| *uploaded <= now);
    let Some(since) = uploaded.or(made) else { return false };
    let is_exempt = thanos.is_some_and(|thanos| NEVER_FRESH.contains(&thanos.source.as_str()));
    !is_exempt && i128::from(now.saturating_sub(since)) < i128::try_from(delay.as_millis()).unwrap_or(i128::MAX)
}

/// A block, the blocks it was made of, whether its data is there, and whether it is marked for deletion.
struct Sourced {
    sources: BTreeSet<BlockId>,
    is_whole: bool,
    is_marked: bool,
    id: BlockId,
}

/// What becomes of the blocks that hold what a duplicate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// One of them stays.
    Stays,
    /// All of them are marked for deletion: then the duplicate is the one that is left.
    Goes,
}

/// Blocks whose sources are all among the sources of another block of the same labels and
/// resolution. Of blocks with equal sources one that is not marked for deletion stays, the newest of several: what a
/// block was rewritten as has the sources of that block, which is marked next. Of two compactors, one of which does
/// so just now, neither marks what the other keeps. A block whose data is not all listed replaces no other.
fn duplicates(blocks: &BTreeMap<BlockId, SyncedBlock>) -> BTreeMap<BlockId, Other> {
    let mut groups: BTreeMap<(i64, Labels), Vec<Sourced>> = BTreeMap::new();
    for (id, block) in blocks {
        let sources = block.meta.compaction.sources.iter().copied().collect();
        let key = (block.meta.resolution().0, block.meta.external_labels());
        let (is_whole, is_marked) = (block.files.holds_all_of(&block.meta), block.deletion_mark.is_some());
        groups.entry(key).or_default().push(Sourced { sources, is_whole, is_marked, id: *id });
    }
    let mut found = BTreeMap::new();
    for group in groups.values_mut() {
        group.sort_by_key(|block| {
            (Reverse(block.sources.len()), Reverse(block.is_whole), block.is_marked, Reverse(block.id))
        });
        // A block that covers another shares each of its sources, so one source leads to all that may.
        let mut covering: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
        for (at, block) in group.iter().enumerate() {
            let candidates = match block.sources.first() {
                Some(source) => covering.get(source).map_or(&[][..], Vec::as_slice),
                None => &[],
            };
            let covers =
                candidates.iter().map(|at| &group[*at]).filter(|other| block.sources.is_subset(&other.sources));
            let other = match covers.map(|other| other.is_marked).min() {
                Some(false) => Other::Stays,
                Some(true) => Other::Goes,
                None if !block.is_whole => continue,
                None => {
                    // A block without sources says nothing of what it was made of.
                    block.sources.iter().for_each(|source| covering.entry(*source).or_default().push(at));
                    continue;
                }
            };
            found.insert(block.id, other);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use engine::bucket::meta::File;
    use engine::bucket::{BlockObject, GoTime};

    use super::*;
    use crate::sync::BlockFiles;

    const NOW: i64 = 1_700_000_000_000;

    fn id(seed: u8) -> BlockId {
        BlockId::from_parts(NOW as u64 - 3_600_000, u128::from(seed))
    }

    fn block(seed: u8, label: &str, sources: &[u8]) -> (BlockId, SyncedBlock) {
        let sources: Vec<String> = sources.iter().map(|source| format!("{:?}", id(*source).to_string())).collect();
        let text = format!(
            r#"{{"ulid":"{}","minTime":1000,"maxTime":2000,"version":1,"compaction":{{"level":1,"sources":[{}]}},
            "thanos":{{"labels":{{"a":"{label}"}},"downsample":{{"resolution":0}},"source":"sidecar"}}}}"#,
            id(seed),
            sources.join(",")
        );
        let meta = Arc::new(Meta::parse(text.as_bytes()).unwrap());
        let objects = [(BlockObject::Index, 20), (BlockObject::Segment(0), 10)].into();
        let files = BlockFiles { objects, ..BlockFiles::default() };
        (id(seed), SyncedBlock { meta, files, deletion_mark: None })
    }

    fn kept(filters: &Filters, blocks: impl IntoIterator<Item = (BlockId, SyncedBlock)>) -> (Vec<u128>, Tally) {
        let mut blocks = blocks.into_iter().collect();
        let mut tally = Tally::default();
        filters.apply(&mut blocks, NOW, &mut tally);
        (blocks.keys().map(|id| id.0 & 0xff).collect(), tally)
    }

    #[test]
    fn blocks_made_of_the_same_sources_are_duplicates_within_their_labels() {
        let blocks = [
            block(1, "x", &[1]),
            block(2, "x", &[2]),
            block(3, "x", &[1, 2]),
            block(4, "y", &[1]),
            block(5, "x", &[5]),
        ];
        let (left, tally) = kept(&Filters::all(), blocks.clone());
        assert_eq!((left, tally.of(State::Duplicate)), (vec![3, 4, 5], 2));
        let seen = Filters::all().apply(&mut blocks.clone().into_iter().collect(), NOW, &mut Tally::default());
        assert_eq!(seen.duplicates, [id(1), id(2)]);
        let all = Filters { duplicates: Duplicates::Kept, ..Filters::all() };
        assert_eq!(kept(&all, blocks).0, [1, 2, 3, 4, 5]);
    }

    /// The same block, marked for deletion now.
    fn marked((id, block): (BlockId, SyncedBlock)) -> (BlockId, SyncedBlock) {
        let mark = DeletionMark { id, version: 1, details: String::new(), deletion_time: NOW / 1000 };
        (id, SyncedBlock { deletion_mark: Some(mark), ..block })
    }

    #[test]
    fn a_block_that_goes_away_is_no_reason_for_another_to_go() {
        let seen = |blocks: &[(BlockId, SyncedBlock)]| {
            let mut blocks = blocks.iter().cloned().collect();
            let seen = Filters::all().apply(&mut blocks, NOW, &mut Tally::default());
            (blocks.into_keys().collect::<Vec<_>>(), seen.duplicates)
        };
        // A block and what it was rewritten as.
        assert_eq!(seen(&[marked(block(1, "x", &[1])), block(2, "x", &[1])]), (vec![id(2)], vec![id(1)]));
        assert_eq!(seen(&[block(1, "x", &[1]), block(2, "x", &[1])]), (vec![id(2)], vec![id(1)]));
        // A result that somebody has marked, and a source of it.
        assert_eq!(seen(&[marked(block(3, "x", &[1, 2])), block(1, "x", &[1])]), (vec![id(3)], vec![]));
        let both = [marked(block(3, "x", &[1, 2])), block(4, "x", &[1, 2]), block(1, "x", &[1])];
        assert_eq!(seen(&both), (vec![id(4)], vec![id(1), id(3)]));
    }

    #[test]
    fn a_block_whose_data_is_not_there_is_no_reason_for_another_to_go() {
        let file = |rel_path: &str, size_bytes| File { rel_path: rel_path.into(), size_bytes, hash: None };
        let with = |(id, mut block): (BlockId, SyncedBlock), objects: &[(BlockObject, u64)], told: &[File]| {
            block.files.objects = objects.iter().copied().collect();
            Arc::make_mut(&mut block.meta).thanos.as_mut().unwrap().files = told.to_vec();
            (id, block)
        };
        let (index, first) = ((BlockObject::Index, 20), (BlockObject::Segment(0), 10));
        let told = [file("chunks/000001", 10), file("chunks/000002", 10), file("index", 20), file("meta.json", 0)];
        type Listed<'a> = &'a [(BlockObject, u64)];
        let cases: [(Listed<'_>, &[File], bool); 7] = [
            (&[], &[], false),
            (&[index], &[], false),
            (&[first], &[], false),
            (&[index, first], &[], true),
            (&[index, first], &told, false),
            (&[index, first, (BlockObject::Segment(1), 9)], &told, false),
            (&[index, first, (BlockObject::Segment(1), 10)], &told, true),
        ];
        for (objects, told, replaces) in cases {
            for result in [block(3, "x", &[1, 2]), block(3, "x", &[1])] {
                let blocks = [with(result, objects, told), block(1, "x", &[1])];
                let seen = Filters::all().apply(&mut blocks.into_iter().collect(), NOW, &mut Tally::default());
                assert_eq!(seen.duplicates.contains(&id(1)), replaces, "{objects:?} of {told:?}");
            }
        }
        // Of blocks with equal sources the one that is whole stays.
        let blocks = [with(block(3, "x", &[1]), &[], &[]), block(1, "x", &[1])];
        assert_eq!(kept(&Filters::all(), blocks).0, [1]);
    }

    #[test]
    fn replicas_are_the_same_once_their_label_is_gone() {
        let filters = Filters { replica_labels: vec!["a".into()], ..Filters::all() };
        let mut blocks = [block(1, "x", &[1]), block(2, "y", &[1])].into_iter().collect();
        let seen = filters.apply(&mut blocks, NOW, &mut Tally::default());
        assert_eq!((seen.labels_removed, blocks.len()), (2, 1));
        assert_eq!(blocks[&id(2)].meta.external_labels().get("a"), Some("deduped"));
    }

    #[test]
    fn each_filter_leaves_out_what_it_is_for() {
        let mut filters = Filters::all();
        filters.min_time = TimeOrDuration::At(2001);
        assert_eq!(kept(&filters, [block(1, "x", &[1])]).1.of(State::TimeExcluded), 1);

        filters = Filters::all();
        filters.keeps = Box::new(|labels| labels.get("a") == Some("x") && labels.get("__block_id").is_some());
        assert_eq!(kept(&filters, [block(1, "x", &[1]), block(2, "y", &[2])]).0, [1]);

        filters = Filters::all();
        filters.consistency_delay = Duration::from_secs(3601);
        assert_eq!(kept(&filters, [block(1, "x", &[1])]).1.of(State::TooFresh), 1);
        filters.consistency_delay = Duration::from_secs(3599);
        assert_eq!(kept(&filters, [block(1, "x", &[1])]).0, [1]);
    }

    #[test]
    fn blocks_of_a_clock_that_is_ahead_are_not_hidden_until_it_is_not() {
        let id = |ms: i64| BlockId(u128::from(ms as u64) << 80);
        let (_, block) = block(1, "x", &[1]);
        let hour = Duration::from_secs(3600);
        assert!(is_too_fresh(id(NOW), &block.meta, NOW, hour));
        assert!(!is_too_fresh(id(NOW + 1), &block.meta, NOW, hour));
        let mut meta = Meta::clone(&block.meta);
        let uploaded = |ms: i64| GoTime::from_unix_nanos(i128::from(ms) * 1_000_000);
        for (time, is_hidden) in [(NOW, true), (NOW + 1, false)] {
            meta.thanos.as_mut().unwrap().upload_time = uploaded(time);
            assert_eq!(is_too_fresh(id(NOW + 1), &meta, NOW, hour), is_hidden);
        }
    }

    #[test]
    fn a_deletion_mark_counts_after_its_delay() {
        let mut marked = block(1, "x", &[1]);
        let mark = DeletionMark { id: marked.0, version: 1, details: String::new(), deletion_time: NOW / 1000 - 60 };
        marked.1.deletion_mark = Some(mark);
        let mut filters = Filters::all();
        filters.ignore_deletion_marks_delay = Duration::from_secs(60);
        assert_eq!(kept(&filters, [marked.clone()]).0, [1]);
        filters.ignore_deletion_marks_delay = Duration::from_secs(59);
        assert_eq!(kept(&filters, [marked.clone()]).1.of(State::MarkedForDeletion), 1);
        let seen = filters.apply(&mut [marked].into_iter().collect(), NOW, &mut Tally::default());
        assert_eq!(seen.marked.keys().collect::<Vec<_>>(), [&id(1)]);
    }
}
