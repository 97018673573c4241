//! All blocks that can be asked, grouped as Thanos groups them: by external labels, then resolution.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Matcher;
use crate::model::{BlockId, Labels, Resolution, TimeRange};

use super::opened::{BLOCK_ID_LABEL, OpenedBlock};

/// Resolutions that Thanos writes, the coarsest first.
const RESOLUTIONS: [Resolution; 3] = [Resolution::ONE_HOUR, Resolution::FIVE_MINUTES, Resolution::RAW];

/// An immutable set of blocks; a sync makes a new one.
#[derive(Clone, Debug, Default)]
pub struct BlockSet {
    groups: BTreeMap<Labels, [Vec<Arc<OpenedBlock>>; 3]>,
    blocks: BTreeMap<BlockId, Arc<OpenedBlock>>,
}

/// A block that a request must ask, and those of its matchers that are not about external labels.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The block.
    pub block: Arc<OpenedBlock>,
    /// What its series must match.
    pub matchers: Arc<[Matcher]>,
}

impl BlockSet {
    /// The set of `blocks`. Blocks of a resolution that Thanos doesn't write are left out.
    pub fn new(blocks: impl IntoIterator<Item = Arc<OpenedBlock>>) -> Self {
        let mut set = Self::default();
        for block in blocks {
            let info = block.info();
            let Some(level) = RESOLUTIONS.iter().position(|known| *known == info.resolution) else { continue };
            set.groups.entry(info.external_labels.clone()).or_default()[level].push(Arc::clone(&block));
            set.blocks.insert(block.id(), block);
        }
        for group in set.groups.values_mut() {
            for level in group {
                level.sort_by_key(|block| (block.info().min_time, block.info().max_time, block.id()));
                level.dedup_by_key(|block| block.id());
            }
        }
        set
    }

    /// The blocks of both sets. One that is in both, as after it was shipped, counts once.
    pub fn with(&self, others: &Self) -> Self {
        Self::new(self.blocks().chain(others.blocks()).cloned())
    }

    /// All blocks, by id.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Arc<OpenedBlock>> {
        self.blocks.values()
    }

    /// The block called `id`.
    pub fn get(&self, id: BlockId) -> Option<&Arc<OpenedBlock>> {
        self.blocks.get(&id)
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// External label sets, ascending, each with the time range its blocks cover (closed).
    pub fn label_sets(&self) -> impl Iterator<Item = (&Labels, TimeRange)> {
        self.groups.iter().map(|(labels, levels)| {
            let mut range = TimeRange::new(i64::MAX, i64::MIN);
            for block in levels.iter().flatten() {
                range = range.hull(TimeRange::new(block.info().min_time, block.info().max_time));
            }
            (labels, range)
        })
    }

    /// The blocks that answer for `range`: of each external label set the coarsest resolution up to
    /// `max_resolution`, its gaps filled with finer ones. `block_matchers` see the external labels
    /// and `__block_id`.
    pub fn choose(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        max_resolution: Resolution,
        block_matchers: &[Matcher],
    ) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        for (labels, levels) in &self.groups {
            let Some(rest) = strip_external(matchers, labels) else { continue };
            let rest: Arc<[Matcher]> = rest.into();
            let first = RESOLUTIONS.iter().position(|level| *level <= max_resolution).unwrap_or(RESOLUTIONS.len() - 1);
            let mut found = Vec::new();
            cover(&levels[first..], range, &mut found);
            // A fine block beside two coarse ones fills the gaps on both its sides.
            let mut seen = std::collections::BTreeSet::new();
            found.retain(|block| seen.insert(block.id()) && matches_block(block_matchers, block));
            chosen.extend(found.into_iter().map(|block| Chosen { block, matchers: Arc::clone(&rest) }));
        }
        chosen
    }

    /// All blocks that may have a sample in `range`, of any resolution: what label names and values
    /// are taken from.
    pub fn overlapping(&self, matchers: &[Matcher], range: TimeRange, block_matchers: &[Matcher]) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        for (labels, levels) in &self.groups {
            let Some(rest) = strip_external(matchers, labels) else { continue };
            let rest: Arc<[Matcher]> = rest.into();
            for block in levels.iter().flatten() {
                if block.overlaps(range) && matches_block(block_matchers, block) {
                    chosen.push(Chosen { block: Arc::clone(block), matchers: Arc::clone(&rest) });
                }
            }
        }
        chosen
    }
}

/// `matchers` without those about `labels`; `None` when one of these doesn't match.
pub fn strip_external(matchers: &[Matcher], labels: &Labels) -> Option<Vec<Matcher>> {
    let mut rest = Vec::new();
    for matcher in matchers {
        match labels.get(matcher.name()) {
            Some(value) if !matcher.matches(value) => return None,
            Some(_) => {}
            None => rest.push(matcher.clone()),
        }
    }
    Some(rest)
}

fn matches_block(matchers: &[Matcher], block: &OpenedBlock) -> bool {
    matchers.iter().all(|matcher| {
        if matcher.name() == BLOCK_ID_LABEL {
            return matcher.matches(&block.id().to_string());
        }
        matcher.matches(block.info().external_labels.get(matcher.name()).unwrap_or(""))
    })
}

/// Appends blocks of the coarsest of `levels`, and between them, and in the place of those that can't be read,
/// blocks of the finer ones.
fn cover(levels: &[Vec<Arc<OpenedBlock>>], range: TimeRange, found: &mut Vec<Arc<OpenedBlock>>) {
    let Some((coarsest, finer)) = levels.split_first() else { return };
    if range.min_time > range.max_time {
        return;
    }
    let mut start = range.min_time;
    for block in coarsest {
        let info = block.info();
        if info.max_time <= range.min_time {
            continue;
        }
        if info.min_time > range.max_time {
            break;
        }
        if !block.index().is_readable() {
            found.push(Arc::clone(block));
            continue;
        }
        cover(finer, TimeRange::new(start, info.min_time.saturating_sub(1)), found);
        found.push(Arc::clone(block));
        start = start.max(info.max_time);
    }
    cover(finer, TimeRange::new(start, range.max_time), found);
}

#[cfg(test)]
mod tests {
    use super::super::opened::{BlockInfo, ChunkSource};
    use super::*;
    use crate::index::{column, tsdb};
    use crate::model::{Error, ErrorKind};

    /// An empty block; its number is its id.
    fn block(number: u128, (min_time, max_time): (i64, i64), resolution: Resolution, zone: &str) -> Arc<OpenedBlock> {
        let writer = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(Vec::<&str>::new())).unwrap();
        let index = tsdb::Reader::open(writer.finish().unwrap().1).unwrap();
        let columns = column::build_in_memory(&index).unwrap();
        let index = column::Reader::from_bytes(columns, column::Check::Everything).unwrap();
        let external_labels = Labels::from_pairs([("zone", zone)]);
        let info = BlockInfo { id: BlockId(number), min_time, max_time, resolution, series: 0, external_labels };
        Arc::new(OpenedBlock::new(info, Arc::new(index), ChunkSource::Remote(Vec::new())))
    }

    fn ids(chosen: &[Chosen]) -> Vec<u128> {
        chosen.iter().map(|chosen| chosen.block.id().0).collect()
    }

    fn choose(set: &BlockSet, range: (i64, i64), resolution: Resolution) -> Vec<u128> {
        let matchers = [Matcher::equal("zone", "a")];
        ids(&set.choose(&matchers, TimeRange::new(range.0, range.1), resolution, &[]))
    }

    #[test]
    fn the_coarsest_resolution_answers_and_finer_ones_fill_its_gaps() {
        let (raw, five, hour) = (Resolution::RAW, Resolution::FIVE_MINUTES, Resolution::ONE_HOUR);
        let set = BlockSet::new([
            block(1, (0, 100), raw, "a"),
            block(2, (100, 200), raw, "a"),
            block(3, (200, 300), raw, "a"),
            block(4, (300, 400), raw, "a"),
            block(5, (0, 100), five, "a"),
            block(6, (100, 300), five, "a"),
            block(7, (100, 200), hour, "a"),
            block(8, (0, 400), raw, "b"),
        ]);
        assert_eq!(choose(&set, (0, 399), raw), [1, 2, 3, 4]);
        assert_eq!(choose(&set, (0, 399), Resolution(299_999)), [1, 2, 3, 4]);
        assert_eq!(choose(&set, (0, 399), five), [5, 6, 4]);
        assert_eq!(choose(&set, (0, 399), hour), [5, 7, 6, 4]);
        assert_eq!(choose(&set, (120, 150), hour), [7]);
        assert_eq!(choose(&set, (150, 20), hour), [0u128; 0]);
    }

    #[test]
    fn a_block_ends_before_its_max_time_and_its_last_millisecond_is_its_own() {
        let raw = Resolution::RAW;
        let set = BlockSet::new([block(1, (0, 100), raw, "a"), block(2, (100, 200), raw, "a")]);
        assert_eq!(choose(&set, (99, 99), raw), [1]);
        assert_eq!(choose(&set, (100, 100), raw), [2]);
        assert_eq!(choose(&set, (99, 100), raw), [1, 2]);
        assert_eq!(choose(&set, (200, 300), raw), [0u128; 0]);
    }

    #[test]
    fn a_fine_block_that_fills_two_gaps_is_asked_once() {
        let set = BlockSet::new([
            block(1, (0, 400), Resolution::RAW, "a"),
            block(2, (100, 200), Resolution::FIVE_MINUTES, "a"),
        ]);
        assert_eq!(choose(&set, (0, 399), Resolution::FIVE_MINUTES), [1, 2]);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_asked_and_finer_ones_beside_it() {
        let labels = Labels::from_pairs([("zone", "a")]);
        let broken =
            |info: BlockInfo| Arc::new(OpenedBlock::unreadable(info, Error::new(ErrorKind::Corrupt, "index: broken")));
        let of_times = |number, range: (i64, i64), resolution| BlockInfo {
            min_time: range.0,
            max_time: range.1,
            resolution,
            external_labels: labels.clone(),
            ..BlockInfo::unknown(BlockId(number))
        };
        let (raw, five) = (Resolution::RAW, Resolution::FIVE_MINUTES);
        let set = BlockSet::new([
            block(1, (0, 400), raw, "a"),
            block(2, (0, 100), five, "a"),
            broken(of_times(3, (100, 200), five)),
            block(4, (200, 400), five, "a"),
            broken(of_times(5, (400, 500), raw)),
            broken(BlockInfo::unknown(BlockId(6))),
        ]);
        assert_eq!(choose(&set, (0, 99), five), [6, 2]);
        assert_eq!(choose(&set, (0, 499), five), [6, 2, 3, 1, 4, 5]);
        assert_eq!(choose(&set, (0, 399), raw), [6, 1]);
        assert_eq!(choose(&set, (400, 400), raw), [6, 5]);
        let of_b = ids(&set.choose(&[Matcher::equal("zone", "b")], TimeRange::ALL, raw, &[]));
        assert_eq!(of_b, [6], "nobody knows whose it is");
    }

    #[test]
    fn block_matchers_see_external_labels_and_the_id() {
        let set = BlockSet::new([block(1, (0, 9), Resolution::RAW, "a"), block(2, (0, 9), Resolution::RAW, "b")]);
        let ask = |matcher: Matcher| ids(&set.choose(&[], TimeRange::ALL, Resolution::RAW, &[matcher]));
        assert_eq!(ask(Matcher::equal(BLOCK_ID_LABEL, BlockId(2).to_string())), [2]);
        assert_eq!(ask(Matcher::equal("zone", "a")), [1]);
    }
}
