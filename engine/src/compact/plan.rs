//! Planning: which blocks of a group become one next. The decisions are those of Thanos' planner,
//! which are those of Prometheus' TSDB with exceptions.
//!
//! In this order, the first that gives blocks:
//!
//! 1. Blocks that overlap, with all that overlap them (with vertical compaction).
//! 2. For each level, the first aligned range of it that holds two or more blocks and is either full
//!    or lies before the newest block. The newest block itself is left alone.
//! 3. A large block with tombstones for more than a twentieth of its series.
//!
//! A block that is marked stays as it is, and blocks before and after it are merged without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bucket::Meta;
use crate::bucket::marker::reason;
use crate::bucket::name;
use crate::model::{BlockId, Resolution};

/// Bytes that the index of a merged block may have by default: 64 GiB, which its references reach.
pub const INDEX_BYTES_MAX: u64 = 64 << 30;

/// Share of the limit that the indexes of the blocks of a plan may have together: merging adds some.
const INDEX_SHARE: f64 = 0.85;

/// Share of a block's series that tombstones must exceed to make it worth a rewrite.
const TOMBSTONES_SHARE: f64 = 0.05;

/// Whether blocks that overlap are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vertical {
    /// No: the group halts.
    Disabled,
    /// Yes; downsampled ones are marked instead.
    Enabled,
}

/// The rules by which blocks are chosen.
#[derive(Clone, Debug)]
pub struct Planner {
    /// Milliseconds that the blocks of each level cover, ascending.
    pub ranges: Vec<i64>,
    /// Bytes that the index of a merged block may have.
    pub index_bytes_max: u64,
    /// Whether blocks that overlap are merged.
    pub vertical: Vertical,
}

/// A no-compact mark that is to be written before the plan is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMark {
    /// The block.
    pub id: BlockId,
    /// Why, one of [`reason`].
    pub reason: &'static str,
    /// Why, for people.
    pub details: String,
}

/// What is to be done in a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The blocks to merge, by their first times; none when there is nothing to do.
    pub compact: Vec<Arc<Meta>>,
    /// Marks to write, in the order in which they were decided on.
    pub marks: Vec<NewMark>,
}

/// A plan, or what is missing for one.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// The plan.
    Ready(Plan),
    /// The size of this block's index is not in its meta.json: to be looked up.
    NeedsIndexSize(BlockId),
}

impl Planner {
    /// What is to be done with `metas`, the blocks of one group by their first times, of which
    /// `marked` are left as they are. `index_sizes` has bytes of indexes that meta.json doesn't tell.
    pub fn plan(
        &self,
        metas: &[Arc<Meta>],
        marked: &BTreeSet<BlockId>,
        index_sizes: &BTreeMap<BlockId, u64>,
    ) -> Planned {
        let mut marked = marked.clone();
        let mut marks = Vec::new();
        loop {
            let compact = self.choose(metas, &marked);
            let mark = match self.index_fault(&compact, index_sizes) {
                Err(unknown) => return Planned::NeedsIndexSize(unknown),
                Ok(Some(mark)) => vec![mark],
                Ok(None) if self.vertical == Vertical::Enabled => downsampled_overlaps(&compact),
                Ok(None) => Vec::new(),
            };
            if mark.is_empty() {
                return Planned::Ready(Plan { compact, marks });
            }
            marked.extend(mark.iter().map(|mark| mark.id));
            marks.extend(mark);
        }
    }

    /// The blocks to merge, whatever their indexes and resolutions.
    fn choose(&self, metas: &[Arc<Meta>], marked: &BTreeSet<BlockId>) -> Vec<Arc<Meta>> {
        let mut unmarked: Vec<&Arc<Meta>> = metas.iter().filter(|meta| !marked.contains(&meta.ulid)).collect();
        let overlapping = overlapping(&unmarked);
        if !overlapping.is_empty() {
            return overlapping;
        }
        // The newest block stays, so that a block that is late by its whole range can still be merged.
        let Some((newest, older)) = metas.split_last() else { return Vec::new() };
        if !marked.contains(&newest.ulid) {
            unmarked.pop();
        }
        let chosen = self.choose_range(older, marked);
        if !chosen.is_empty() {
            return chosen;
        }
        let large = self.ranges[self.ranges.len() / 2];
        let large = unmarked.into_iter().rev().take_while(|meta| meta.max_time - meta.min_time >= large);
        let share = |meta: &Meta| meta.stats.num_tombstones as f64 / (meta.stats.num_series + 1) as f64;
        large.filter(|meta| share(meta) > TOMBSTONES_SHARE).take(1).cloned().collect()
    }

    /// The blocks of the first range of any level that is ready.
    fn choose_range(&self, metas: &[Arc<Meta>], marked: &BTreeSet<BlockId>) -> Vec<Arc<Meta>> {
        let Some(newest) = metas.last() else { return Vec::new() };
        for range in self.ranges.iter().skip(1) {
            for part in split_by_range(metas, *range) {
                let ([first, .., last], false) = (part, part.iter().any(|meta| meta.compaction.failed)) else {
                    continue;
                };
                let full = last.max_time - first.min_time == *range;
                if !full && last.max_time > newest.min_time {
                    continue;
                }
                let run = part.split(|meta| marked.contains(&meta.ulid)).find(|run| run.len() > 1);
                if let Some(run) = run {
                    return run.to_vec();
                }
            }
        }
        Vec::new()
    }

    /// The mark for the largest index so far when the indexes together get too large; an error names
    /// the block whose index has no known size.
    fn index_fault(
        &self,
        plan: &[Arc<Meta>],
        index_sizes: &BTreeMap<BlockId, u64>,
    ) -> Result<Option<NewMark>, BlockId> {
        let (mut total, mut largest) = (0, None);
        for meta in plan {
            let size = index_size(meta).or_else(|| index_sizes.get(&meta.ulid).copied()).ok_or(meta.ulid)?;
            total += size;
            if largest.is_none_or(|(most, _)| most < size) {
                largest = Some((size, meta.ulid));
            }
            let (Some((_, id)), true) = (largest, total >= (self.index_bytes_max as f64 * INDEX_SHARE) as u64) else {
                continue;
            };
            let details = format!(
                "largeTotalIndexSizeFilter: Total compacted block's index size could exceed: {} with this block. \
                 See https://github.com/thanos-io/thanos/issues/1424",
                self.index_bytes_max
            );
            return Ok(Some(NewMark { id, reason: reason::INDEX_SIZE_EXCEEDING, details }));
        }
        Ok(None)
    }
}

/// Bytes of the index, as meta.json says.
fn index_size(meta: &Meta) -> Option<u64> {
    let files = &meta.thanos.as_ref()?.files;
    files.iter().rfind(|file| file.rel_path == name::INDEX).map(|file| file.size_bytes).filter(|size| *size > 0)
}

/// Marks for the downsampled blocks of a plan of blocks that overlap.
fn downsampled_overlaps(plan: &[Arc<Meta>]) -> Vec<NewMark> {
    if overlapping(&plan.iter().collect::<Vec<_>>()).is_empty() {
        return Vec::new();
    }
    let downsampled = plan.iter().filter(|meta| meta.resolution() != Resolution::RAW);
    let mark = |meta: &Arc<Meta>| NewMark {
        id: meta.ulid,
        reason: reason::DOWNSAMPLE_VERTICAL_COMPACTION,
        details: "verticalCompactionDownsampleFilter: Downsampled block, \
                  see https://github.com/thanos-io/thanos/issues/6775"
            .to_owned(),
    };
    downsampled.map(mark).collect()
}

/// The first run of `metas`, which ascend by their first times, in which each block overlaps one
/// before it.
fn overlapping(metas: &[&Arc<Meta>]) -> Vec<Arc<Meta>> {
    let mut run: Vec<Arc<Meta>> = Vec::new();
    let Some(first) = metas.first() else { return run };
    let mut max_time = first.max_time;
    for pair in metas.windows(2) {
        let [before, meta] = pair else { break };
        if meta.min_time < max_time {
            if run.is_empty() {
                run.push(Arc::clone(before));
            }
            run.push(Arc::clone(meta));
        } else if !run.is_empty() {
            break;
        }
        max_time = max_time.max(meta.max_time);
    }
    run
}

/// Runs of `metas` that lie in one range each, ranges of `range` milliseconds starting at its
/// multiples; blocks that lie in no single range are left out.
fn split_by_range(metas: &[Arc<Meta>], range: i64) -> Vec<&[Arc<Meta>]> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(first) = metas.get(at) {
        let end = first.min_time.div_euclid(range).saturating_add(1).saturating_mul(range);
        let len = metas[at..].iter().take_while(|meta| meta.max_time <= end).count();
        if len > 0 {
            parts.push(&metas[at..at + len]);
        }
        at += len.max(1);
    }
    parts
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
