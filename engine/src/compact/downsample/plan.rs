//! Which blocks are to be downsampled.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::bucket::Meta;
use crate::model::{BlockId, Error, ErrorKind, Resolution};

/// Milliseconds that a raw block covers at least before it is downsampled to five minutes: 40 h.
pub const FIVE_MINUTES_RANGE_MS: i64 = 40 * 60 * 60 * 1000;

/// Milliseconds that a block of five minutes covers at least before it is downsampled to an hour: 10 d.
pub const ONE_HOUR_RANGE_MS: i64 = 10 * 24 * 60 * 60 * 1000;

/// A block and the resolution that is made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DownsamplePlan {
    /// The block.
    pub meta: Arc<Meta>,
    /// The resolution of the result.
    pub resolution: Resolution,
}

/// What is to be downsampled of `metas`, all blocks without a no-downsample mark, by their ids.
/// Results of one pass are not among the sources of the same pass.
pub fn downsamples(metas: &[Arc<Meta>]) -> Result<Vec<DownsamplePlan>, Error> {
    let (mut five_minutes, mut one_hour) = (BTreeSet::<BlockId>::new(), BTreeSet::new());
    for meta in metas {
        let known = match meta.resolution() {
            Resolution::RAW => continue,
            Resolution::FIVE_MINUTES => &mut five_minutes,
            Resolution::ONE_HOUR => &mut one_hour,
            Resolution(other) => {
                let message = format!("block {}: unexpected downsampling resolution {other}", meta.ulid);
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        };
        known.extend(meta.compaction.sources.iter().copied());
    }
    let mut plans = Vec::new();
    for meta in metas {
        let (known, range, resolution) = match meta.resolution() {
            Resolution::RAW => (&five_minutes, FIVE_MINUTES_RANGE_MS, Resolution::FIVE_MINUTES),
            Resolution::FIVE_MINUTES => (&one_hour, ONE_HOUR_RANGE_MS, Resolution::ONE_HOUR),
            _ => continue,
        };
        let missing = meta.compaction.sources.iter().any(|id| !known.contains(id));
        if missing && meta.max_time - meta.min_time >= range {
            plans.push(DownsamplePlan { meta: Arc::clone(meta), resolution });
        }
    }
    plans.sort_by_key(|plan| plan.meta.ulid);
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::meta::{Downsample, Thanos};

    fn meta(id: u128, sources: &[u128], range: i64, resolution: i64) -> Arc<Meta> {
        let thanos = Thanos { downsample: Downsample { resolution }, ..Thanos::default() };
        let mut meta = Meta { thanos: Some(thanos), ..Meta::new(BlockId(id), 0, range) };
        meta.compaction.sources = sources.iter().map(|id| BlockId(*id)).collect();
        Arc::new(meta)
    }

    #[test]
    fn blocks_that_are_long_enough_and_not_downsampled_yet_are_chosen() {
        let raw = FIVE_MINUTES_RANGE_MS;
        let metas = [
            meta(5, &[5, 6], raw, 0),
            meta(4, &[4], raw, 0),
            meta(3, &[3], raw - 1, 0),
            meta(2, &[4, 5], ONE_HOUR_RANGE_MS, 300_000),
            meta(1, &[9], ONE_HOUR_RANGE_MS - 1, 300_000),
            meta(7, &[8], raw, 3_600_000),
        ];
        let plans = downsamples(&metas).unwrap();
        let chosen: Vec<_> = plans.iter().map(|plan| (plan.meta.ulid.0, plan.resolution)).collect();
        assert_eq!(chosen, [(2, Resolution::ONE_HOUR), (5, Resolution::FIVE_MINUTES)]);
        assert!(downsamples(&[meta(1, &[1], 1, 60_000)]).unwrap_err().message().contains("resolution 60000"));
    }
}
