//! How much is left to do, found by going through the plans without carrying them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::downsample::plan::downsamples;
use super::group::{Group, sort_by_min_time};
use super::plan::{Planned, Planner, Vertical};
use super::retention::Retention;
use crate::bucket::Meta;
use crate::bucket::meta::merged;
use crate::model::{BlockId, Error};

/// Counts of what is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Merges.
    pub compactions: u64,
    /// Blocks that go into these merges, results of earlier ones among them.
    pub compaction_blocks: u64,
    /// Blocks to downsample.
    pub downsample_blocks: u64,
    /// Blocks past their retention.
    pub deletion_blocks: u64,
}

/// Merges that are left in `groups`, and blocks that go into them, blocks of `marked` being left as
/// they are. Limits of index sizes are not looked at.
pub fn compactions_left(groups: &[Group], planner: &Planner, marked: &BTreeSet<BlockId>) -> (u64, u64) {
    let planner = Planner { ranges: planner.ranges.clone(), index_bytes_max: u64::MAX, vertical: Vertical::Disabled };
    let (mut runs, mut blocks) = (0, 0);
    for group in groups {
        let mut metas = group.metas.clone();
        while metas.len() > 1 {
            let sizes: BTreeMap<BlockId, u64> = metas.iter().map(|meta| (meta.ulid, 0)).collect();
            let Planned::Ready(plan) = planner.plan(&metas, marked, &sizes) else { break };
            if plan.compact.is_empty() {
                break;
            }
            runs += 1;
            blocks += plan.compact.len() as u64;
            metas.retain(|meta| !plan.compact.iter().any(|planned| planned.ulid == meta.ulid));
            if metas.is_empty() {
                break;
            }
            let planned: Vec<&Meta> = plan.compact.iter().map(Arc::as_ref).collect();
            // An id that no block has: made at no time, told apart by the run.
            metas.push(Arc::new(merged(BlockId::from_parts(0, u128::from(runs)), &planned)));
            sort_by_min_time(&mut metas);
        }
    }
    (runs, blocks)
}

/// Blocks that are left to downsample in `groups`.
pub fn downsamples_left(groups: &[Group]) -> Result<u64, Error> {
    let metas: Vec<Arc<Meta>> = groups.iter().flat_map(|group| group.metas.iter().cloned()).collect();
    Ok(downsamples(&metas)?.len() as u64)
}

/// Blocks of `metas` that are past their retention at the Unix millisecond `now_ms`.
pub fn deletions_left(metas: &[Arc<Meta>], retention: &Retention, now_ms: i64) -> u64 {
    metas.iter().filter(|meta| retention.expired(meta, now_ms).is_some()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::group::{LEVELS_MS, groups};

    #[test]
    fn a_month_of_two_hour_blocks_takes_as_many_merges_as_thanos_counts() {
        let two_hours = LEVELS_MS[1];
        let metas =
            (0..12 * 30).map(|at| Arc::new(Meta::new(BlockId(at as u128 + 1), at * two_hours, (at + 1) * two_hours)));
        let planner = Planner { ranges: LEVELS_MS.to_vec(), index_bytes_max: 1, vertical: Vertical::Disabled };
        // 359 blocks of 2 h into 89 of 8 h and one of 6 h that isn't ready, 14 times 6 of these into 2 d,
        // of which seven make 14 d twice.
        let (runs, blocks) = compactions_left(&groups(metas), &planner, &BTreeSet::new());
        assert_eq!((runs, blocks), (89 + 14 + 2, 89 * 4 + 14 * 6 + 2 * 7));
    }
}
