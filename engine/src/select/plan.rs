//! Which series of which blocks answer a request, in which order, cut into ranges that shards work
//! on side by side.
//!
//! ```text
//! source 0   o o o o|o o o o|o o o o      ordinals in the order of the answer
//! source 1     o o o|  o    |o o o o o    cut at the same labels
//!           0       1       2             positions
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::block::{Chosen, ChunkSource, Detail, Home, LabelView, OpenedBlock, SeriesBatch};
use crate::index::SeriesLabels;
use crate::index::pages::PagesRead;
use crate::io::KeptOpen;
use crate::model::labels::{TYPE_AND_UNIT, is_type_or_unit};
use crate::model::{BlockId, Error, Reservation, TimeRange};

use super::merge::Within;
use super::request::{Meter, Request};
use super::shape::{Order, Shape};
use super::stats::Stats;

/// Chunk bytes that a range is made to have, at most and at least.
const RANGE_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=768 << 10;

/// Bytes that are worth a request to an object store, which takes about as long for far fewer and is paid for
/// each.
const REMOTE_BYTES: u64 = 2 << 20;

/// The part of the process' memory that a range of remote chunks has at most, with as many requests at once as a
/// store usually allows, and ranges in work of each.
const REMOTE_MEMORY_SHARE: u64 = 256;

/// Bytes that a series counts for besides its chunks.
const SERIES_BYTES: u64 = 384;

/// Bytes for each series of a block that finding series takes meanwhile: lists and bitmaps of
/// ordinals, and ids of values.
pub const FIND_BYTES_PER_SERIES: u64 = 12;

/// Most series of a range.
const RANGE_SERIES_MAX: u64 = 8192;

/// Series of a batch that is made to be sorted, and that are looked at before the request may end.
const SORT_SERIES: usize = 4096;

/// A part of the answer that is missing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The block that could not answer.
    pub block: BlockId,
    /// What happened; names block, file, offset and reason.
    pub error: Error,
}

/// The series of one block that answer a request.
#[derive(Debug)]
pub struct Source {
    pub(super) block: Arc<OpenedBlock>,
    /// The TSDB that the block belongs to, by the number of its first source; `None` of a bucket's.
    pub(super) tsdb: Option<u32>,
    pub(super) shape: Shape,
    pub(super) ordinals: Vec<u32>,
    order: Order,
    /// The type and unit of all of the series, empty where they have none; `None` where they may differ in these.
    metadata: Option<[String; 2]>,
    fetched: PagesRead,
    /// Memory that the ordinals are accounted for with.
    _held: Reservation,
}

/// A place within an answer: of each source, the number of series that come before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub(super) Box<[u32]>);

/// A request, the series that answer it, and the ranges they are cut into.
#[derive(Debug)]
pub struct Plan {
    pub(super) request: Request,
    pub(super) meter: Arc<Meter>,
    pub(super) sources: Vec<Source>,
    positions: Vec<Position>,
    failures: Vec<Failure>,
    stats: Stats,
    naming: Naming,
    /// Local files that a range has open at once, at most, beside those that stay open.
    pub(super) files_max: usize,
    /// Memory that the positions are accounted for with.
    held: Reservation,
}

/// What sinks get to know of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Naming {
    /// Their labels.
    #[default]
    Labels,
    /// Their places in the order of the answer.
    Places,
}

/// Buffers for the labels of one series: its own, and in their final form.
type Scratch = (SeriesLabels, SeriesBatch);

/// What finding a block's series gave.
pub type Found = Result<Source, Failure>;

impl Source {
    /// Finds the series of a block that answer `request`. The error of a limit ends the request, and so does
    /// that nobody waits for it or its time is over; any other is the block's own.
    pub fn find(chosen: Chosen, request: &Request, meter: &Meter) -> Result<Found, Error> {
        let block = Arc::clone(&chosen.block);
        let before = PagesRead::here();
        let found = Self::find_in(chosen, request, meter);
        meter.read_bytes(PagesRead::here().since(before).bytes)?;
        match found {
            Ok(source) => {
                meter.touch_series(source.ordinals.len() as u64)?;
                Ok(Ok(source))
            }
            Err(error) if error.kind().ends_request() => Err(error),
            Err(error) => Ok(Err(Failure { block: block.id(), error: block.place(error) })),
        }
    }

    fn find_in(chosen: Chosen, request: &Request, meter: &Meter) -> Result<Self, Error> {
        let Chosen { block, matchers } = chosen;
        let shape = Shape::new(request, &block.info().external_labels);
        let before = PagesRead::here();
        // As in Thanos: without a matcher on a block's own labels none of its series is found.
        if matchers.is_empty() || !block.index().may_match(&matchers) {
            let (fetched, held) = (PagesRead::here().since(before), meter.hold(0)?);
            let (ordinals, order, metadata) = (Vec::new(), Order::Kept, None);
            return Ok(Self { block, tsdb: None, shape, ordinals, order, metadata, fetched, _held: held });
        }
        let mut held = meter.hold(block.series_max().saturating_mul(FIND_BYTES_PER_SERIES))?;
        let mut ordinals = block.index().select(&matchers, &|| meter.check_wanted())?.into_list();
        let kept_bytes = (ordinals.capacity() * size_of::<u32>()) as u64;
        held.grow(kept_bytes.saturating_sub(held.bytes()))?;
        held.shrink(held.bytes() - kept_bytes);
        let mut order = Order::Kept;
        let mut may_be_typed = !ordinals.is_empty();
        // The order of a single series is not worth a look.
        if ordinals.len() > 1 {
            let names = block.index().label_names(None)?;
            may_be_typed = names.iter().any(|name| is_type_or_unit(name));
            order = shape.order(&names, || least_extension(&block, (&ordinals, meter)))?;
            if order == Order::Changed {
                ordinals = sort_ordinals(&block, &shape, (&ordinals, meter))?;
            }
        }
        let metadata =
            if may_be_typed { common_metadata(&block, (&ordinals, meter))? } else { Some(Default::default()) };
        let fetched = PagesRead::here().since(before);
        Ok(Self { block, tsdb: None, shape, ordinals, order, metadata, fetched, _held: held })
    }

    /// The labels, in their final form, of the series at `place` in the order of the answer.
    fn labels_at<'b>(&self, place: u32, scratch: &'b mut Scratch) -> Result<LabelView<'b>, Error> {
        let (own, shaped) = scratch;
        shaped.clear();
        self.block.index().labels(self.ordinals[place as usize], own)?;
        self.shape.append(own, &[], shaped);
        Ok(shaped.labels(0))
    }

    /// The first place from `from` on whose labels are not less than `labels`; gallops.
    fn lower_bound(&self, labels: LabelView<'_>, from: u32) -> Result<u32, Error> {
        let mut scratch = Scratch::default();
        let count = self.ordinals.len() as u32;
        let mut is_less = |place: u32| -> Result<bool, Error> {
            Ok(self.labels_at(place, &mut scratch)?.compare(labels) == Ordering::Less)
        };
        let (mut low, mut step) = (from, 1u32);
        let mut high = from;
        while high < count && is_less(high)? {
            low = high + 1;
            high = high.saturating_add(step);
            step = step.saturating_mul(2);
        }
        high = high.min(count);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_less(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// About how many bytes of chunks a series has in `range`.
    fn chunk_bytes_per_series(&self, range: TimeRange) -> u64 {
        let info = self.block.info();
        let (start, end) = (info.min_time.max(range.min_time), info.max_time.min(range.max_time.saturating_add(1)));
        let covered = end.saturating_sub(start).max(1) as f64;
        let whole = info.max_time.saturating_sub(info.min_time).max(1) as f64;
        let series = info.series.max(1);
        let bytes = self.block.chunk_bytes() as f64 * (covered / whole).min(1.0);
        // At least one chunk is read whole, however short the range.
        (bytes / series as f64) as u64 + 64
    }
}

impl Plan {
    /// Cuts what was found into ranges, about `parallel` or more of them when there is enough. Limit when more than
    /// may be downloaded is read of indexes meanwhile, or there is no memory for the places of the cuts; Canceled or
    /// Deadline when nobody waits for it any more.
    pub fn new(request: Request, meter: Arc<Meter>, found: Vec<Found>, parallel: usize) -> Result<Self, Error> {
        let mut plan = Self {
            held: meter.hold(0)?,
            request,
            meter,
            sources: Vec::new(),
            positions: Vec::new(),
            failures: Vec::new(),
            stats: Stats { blocks_queried: found.len() as u64, ..Stats::default() },
            naming: Naming::Labels,
            files_max: KeptOpen::opened_max(),
        };
        for outcome in found {
            match outcome {
                Ok(source) => {
                    plan.stats.add_postings(source.ordinals.len() as u64, source.fetched);
                    if !source.ordinals.is_empty() {
                        plan.sources.push(source);
                    }
                }
                Err(failure) => plan.failures.push(failure),
            }
        }
        let (started, before) = (Instant::now(), PagesRead::here());
        while let Err(failure) = plan.cut(parallel)? {
            plan.sources.retain(|source| source.block.id() != failure.block);
            plan.failures.push(failure);
        }
        plan.meter.read_bytes(PagesRead::here().since(before).bytes)?;
        plan.number_tsdbs();
        let bytes = plan.heap_bytes();
        plan.held.grow(bytes)?;
        plan.stats.index_ns = started.elapsed().as_nanos() as u64;
        Ok(plan)
    }

    /// The same plan with other files open at once, at most.
    #[cfg(test)]
    pub fn opening(self, files_max: usize) -> Self {
        Self { files_max, ..self }
    }

    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Number of ranges.
    pub fn range_count(&self) -> usize {
        self.positions.len().saturating_sub(1)
    }

    /// Where range `at` starts, and where it ends.
    pub fn range(&self, at: usize) -> (&Position, &Position) {
        (&self.positions[at], &self.positions[at + 1])
    }

    /// Leaves the labels of series out where nothing but the sink needs them: when all come from one
    /// block, in its order. From then on sinks get places.
    pub fn leave_labels_out(&mut self) {
        let is_simple = matches!(self.sources.as_slice(), [only] if only.order == Order::Kept);
        if is_simple && self.request.shard.is_none() {
            self.naming = Naming::Places;
        }
    }

    /// Whether some of the series may differ in type or unit; none counts as one.
    pub fn differs_in_type(&self) -> bool {
        let first = self.sources.first().and_then(|source| source.metadata.as_ref());
        self.sources.iter().any(|source| {
            let is_overwritten = source.shape.external().iter().any(|(name, _)| is_type_or_unit(name));
            is_overwritten || source.metadata.is_none() || source.metadata.as_ref() != first
        })
    }

    /// Holds `bytes` of the process' memory until what is returned is dropped; Limit when they are not there.
    pub fn hold(&self, bytes: u64) -> Result<Reservation, Error> {
        self.meter.hold(bytes)
    }

    /// What sinks get to know of series.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// Whether all chunks lie in local files.
    pub fn is_local(&self) -> bool {
        self.sources.iter().all(|source| matches!(source.block.chunks(), ChunkSource::Local(_)))
    }

    /// Series found in all blocks; the same series in several counts as often.
    pub fn series_count(&self) -> u64 {
        self.stats.postings_touched
    }

    /// Whether looking up series may have to wait for bytes of indexes that are not local.
    pub fn index_waits(&self) -> bool {
        self.sources.iter().any(|source| source.block.index_waits())
    }

    /// Blocks that could not say which of their series match.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What finding the series has touched.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Ids of the blocks that have a part in the answer.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.sources.iter().map(|source| source.block.id())
    }

    /// Bytes that the plan holds besides the ordinals of its sources, which account for them.
    pub fn heap_bytes(&self) -> u64 {
        (size_of::<u32>() * self.positions.len() * self.sources.len()) as u64
    }

    pub(super) fn within(&self) -> Within {
        let kept = self.sources.iter().all(|source| source.order == Order::Kept);
        if kept { Within::Distinct } else { Within::Repeated }
    }

    /// Whether series of a TSDB may come from several of its blocks.
    pub(super) fn joins(&self) -> bool {
        self.sources.iter().enumerate().any(|(at, source)| source.tsdb.is_some_and(|first| (first as usize) < at))
    }

    fn number_tsdbs(&mut self) {
        let mut first = BTreeMap::new();
        for (at, source) in self.sources.iter_mut().enumerate() {
            source.tsdb = match source.block.home() {
                Home::Bucket => None,
                Home::Tsdb => Some(*first.entry(&source.block.info().external_labels).or_insert(at as u32)),
            };
        }
    }

    /// An error ends the request, a failure is a block's own.
    fn cut(&mut self, parallel: usize) -> Result<Result<(), Failure>, Error> {
        self.positions.clear();
        let Some(widest) = (0..self.sources.len()).max_by_key(|at| self.sources[*at].ordinals.len()) else {
            return Ok(Ok(()));
        };
        let ranges = self.range_estimate(parallel);
        let count = self.sources[widest].ordinals.len() as u64;
        let mut last = Position(vec![0; self.sources.len()].into());
        self.positions.push(last.clone());
        let mut scratch = Scratch::default();
        for number in 1..ranges.min(count) {
            self.meter.check_wanted()?;
            let place = (count * number / ranges.min(count)) as u32;
            let position = match self.position_at(widest, place, &last, &mut scratch) {
                Ok(position) => position,
                Err(failure) => return Ok(Err(failure)),
            };
            if position != last {
                last = position;
                self.positions.push(last.clone());
            }
        }
        let end = Position(self.sources.iter().map(|source| source.ordinals.len() as u32).collect());
        if end != last {
            self.positions.push(end);
        }
        Ok(Ok(()))
    }

    /// The position of the labels at `place` of source `widest`; not before `last`.
    fn position_at(
        &self,
        widest: usize,
        place: u32,
        last: &Position,
        scratch: &mut Scratch,
    ) -> Result<Position, Failure> {
        let failed = |source: &Source, error| Failure { block: source.block.id(), error: source.block.place(error) };
        let from = &self.sources[widest];
        if self.sources.len() == 1 && from.order == Order::Kept {
            return Ok(Position([place].into()));
        }
        let labels = from.labels_at(place, scratch).map_err(|error| failed(from, error))?;
        let mut places = Vec::with_capacity(self.sources.len());
        for (at, source) in self.sources.iter().enumerate() {
            // Where labels are dropped, equal ones may follow each other; they belong to one range.
            let exact = at == widest && source.order == Order::Kept;
            let found = if exact { Ok(place) } else { source.lower_bound(labels, last.0[at]) };
            places.push(found.map_err(|error| failed(source, error))?);
        }
        Ok(Position(places.into()))
    }

    fn range_estimate(&self, parallel: usize) -> u64 {
        let (mut bytes, mut series) = (0u64, 0u64);
        for source in &self.sources {
            let count = source.ordinals.len() as u64;
            series = series.max(count);
            bytes += count * SERIES_BYTES;
            if self.request.detail == Detail::Chunks {
                bytes += count * source.chunk_bytes_per_series(self.request.range);
            }
        }
        let parallel = parallel.max(1) as u64;
        let wanted = if self.request.detail == Detail::Chunks && self.has_remote_chunks() {
            (bytes / parallel).clamp(*RANGE_BYTES.start(), self.remote_range_bytes())
        } else {
            (bytes / (4 * parallel)).clamp(*RANGE_BYTES.start(), *RANGE_BYTES.end())
        };
        (bytes / wanted).max(series / RANGE_SERIES_MAX) + 1
    }

    /// Chunk bytes after which a range is ended early and taken up again from there: `local`, unless that would
    /// cut what is asked for over a network.
    pub(super) fn bytes_max(&self, local: u64) -> u64 {
        if self.has_remote_chunks() { local.max(self.remote_range_bytes()) } else { local }
    }

    fn has_remote_chunks(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.block.chunks(), ChunkSource::Remote(_)))
    }

    /// Chunk bytes of a range, at most, where they are asked for over a network: every range asks every block at
    /// least once, and waits for the slowest.
    fn remote_range_bytes(&self) -> u64 {
        let asked = self.sources.len() as u64 * REMOTE_BYTES;
        asked.min(self.meter.memory_limit() / REMOTE_MEMORY_SHARE).max(*RANGE_BYTES.end())
    }
}

/// What the block's index says of how its series `ordinals` go on where others end. Where nobody waits for the
/// request any more, only a part of them is looked at.
fn least_extension(block: &OpenedBlock, (ordinals, meter): (&[u32], &Meter)) -> Result<Option<String>, Error> {
    let mut least: Option<String> = None;
    for start in (0..ordinals.len()).step_by(SORT_SERIES) {
        meter.check_wanted()?;
        // Together with the first of the next part.
        let end = ordinals.len().min(start + SORT_SERIES + 1);
        let found = block.index().least_extension(&ordinals[start..end])?;
        least = least.into_iter().chain(found).min();
    }
    Ok(least)
}

/// The type and unit that all series `ordinals` have, empty where they have none; `None` where they differ in these, or
/// may do so: of an index that may be far away only the names of labels are looked at.
fn common_metadata(block: &OpenedBlock, (ordinals, meter): (&[u32], &Meter)) -> Result<Option<[String; 2]>, Error> {
    let index = block.index();
    let mut texts: [String; 2] = Default::default();
    if index.reads_index_file() {
        let may_be_typed = index.label_names(None)?.iter().any(|name| is_type_or_unit(name));
        return Ok((!may_be_typed).then_some(texts));
    }
    let [kind, unit] = TYPE_AND_UNIT;
    let (mut kinds, mut units) = (Vec::new(), Vec::new());
    let mut first: Option<(u32, u32)> = None;
    for part in ordinals.chunks(SORT_SERIES) {
        meter.check_wanted()?;
        kinds.clear();
        units.clear();
        index.value_ids(kind, part, &mut kinds)?;
        index.value_ids(unit, part, &mut units)?;
        for pair in kinds.iter().copied().zip(units.iter().copied()) {
            if *first.get_or_insert(pair) != pair {
                return Ok(None);
            }
        }
    }
    let (kind_id, unit_id) = first.unwrap_or_default();
    index.append_value(kind, kind_id, &mut texts[0])?;
    index.append_value(unit, unit_id, &mut texts[1])?;
    Ok(Some(texts))
}

/// `ordinals` in the order of their final labels. Limit when there is no memory for the labels of all.
fn sort_ordinals(block: &OpenedBlock, shape: &Shape, (ordinals, meter): (&[u32], &Meter)) -> Result<Vec<u32>, Error> {
    let mut held = meter.hold((2 * size_of_val(ordinals)) as u64)?;
    let mut runs = Vec::with_capacity(ordinals.len().div_ceil(SORT_SERIES));
    let mut own = SeriesLabels::default();
    for part in ordinals.chunks(SORT_SERIES) {
        meter.check_wanted()?;
        let mut shaped = SeriesBatch::default();
        for ordinal in part {
            block.index().labels(*ordinal, &mut own)?;
            shape.append(&own, &[], &mut shaped);
        }
        held.grow(shaped.heap_bytes() as u64)?;
        runs.push(shaped);
    }
    let labels = |place: u32| runs[place as usize / SORT_SERIES].labels(place as usize % SORT_SERIES);
    let mut places: Vec<u32> = (0..ordinals.len() as u32).collect();
    places.sort_by(|left, right| labels(*left).compare(labels(*right)));
    Ok(places.into_iter().map(|place| ordinals[place as usize]).collect())
}
