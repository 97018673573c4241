//! The writable block of one tenant on one shard: series, their chunks as they grow, and the inverted
//! index over them.
//!
//! ```text
//! write batch ─ hash ─> table ─> series ─┬─ line   what an append touches: one cache line
//!                                        ├─ key    hashes, which the next series of a request is foretold by
//!                                        ├─ meta   labels, closed chunks, out-of-order samples
//!                                        └─ postings of its labels, once
//! view        <─ matchers, range ─ index of what was found, chunks copied: an ordinary block
//! ```
//!
//! A head is owned by one thread. Readers get a [`view`]: a copy that stays as it is while the head
//! grows. Chunks are cut where Prometheus' TSDB cuts them, so that blocks come out as its own do.

/// Samples into series, and which are refused.
pub mod append;
/// A tenant's part of a write request.
pub mod batch;
/// Counts of series by their labels.
pub mod cardinality;
mod chunks;
mod create;
/// Blocks out of heads.
pub mod cut;
/// Copies of some series.
pub mod excerpt;
mod exemplars;
/// What series are told apart by.
pub mod hash;
mod index;
mod list;
mod lookup;
mod metadata;
mod native;
mod out_of_order;
mod paged;
mod places;
mod recent;
/// Records onto a head.
pub mod replay;
mod series;
/// How large cut chunks are.
pub mod shapes;
/// Heads to records and back.
pub mod snapshot;
mod sweep;
mod symbols;
mod table;
/// What readers get.
pub mod view;
mod zero;

use std::collections::BTreeMap;

pub use append::{AppendLimits, BadLabels, Reason, Rejected, RejectedKind, SeriesLeft, Unread, WriteReport};
pub use batch::{Metadata, MetricKind, WriteBatch, body_room};
pub use exemplars::{ExemplarClock, ExemplarValue, SeriesExemplars};
pub use hash::{SeriesCheck, SeriesHash};

use exemplars::ExemplarRing;
use index::Postings;
use paged::Paged;
use places::Places;
use series::{Key, Line, Meta};
use symbols::Symbols;
use table::SeriesTable;

/// What a head is given when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Milliseconds of a block; chunks end where blocks do.
    pub block_range_ms: i64,
    /// How far behind the latest sample others may still come, in milliseconds; 0 when they may not.
    pub out_of_order_window_ms: i64,
    /// Late samples of a series that become a chunk (`--tsdb.out-of-order.cap-max`).
    pub out_of_order_cap_max: usize,
    /// Exemplars of the tenant that are kept, those of its other heads among them; 0 for none.
    pub exemplars_max: usize,
    /// What becomes of start timestamps.
    pub start_times: StartTimes,
}

/// What becomes of the start timestamps that samples are sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTimes {
    /// They are not kept, as in Thanos.
    #[default]
    Dropped,
    /// A sample of zero at the start timestamp says where a counter began, unless it is older than what the
    /// series has (`created-timestamp-zero-ingestion` of Prometheus).
    ZeroSamples,
}

/// Late samples of a chunk unless something else is asked for; Prometheus' figure.
pub const OUT_OF_ORDER_CAP_MAX: usize = 32;

/// One tenant's series on one shard.
pub struct Head {
    options: Options,
    symbols: Symbols,
    table: SeriesTable,
    lines: Paged<Line>,
    keys: Paged<Key>,
    metas: Paged<Meta>,
    /// How the WAL refers to each series.
    numbers: Paged<u32>,
    /// Places of the labels of all series, in label order.
    places: Places,
    postings: Postings,
    exemplars: ExemplarRing,
    /// What is said of metrics, by the symbols of their names.
    metadata: BTreeMap<u32, OwnedMetadata>,
    /// No sample before this is taken in order: a block has been cut up to here.
    min_valid_time: i64,
    /// Time of the latest sample ever appended; the earliest time there is without one.
    max_time: i64,
    /// Time of the earliest sample there is, or before it; the latest time there is without one.
    min_time: i64,
    next_ref: u32,
    /// Numbers behind that of the next series that some have, ascending; none until numbers begin anew.
    taken: Vec<u32>,
    /// The series that is looked for next, should series come in the order of their creation.
    next_id: u32,
    /// Set while series without samples are being removed.
    sweep: Option<Box<sweep::Sweep>>,
    stats: HeadStats,
    scratch: append::Scratch,
}

/// Counts of a head, kept as it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Series ever created.
    pub series_created: u64,
    /// Series removed because nothing was left of them.
    pub series_removed: u64,
    /// Chunks, open ones among them.
    pub chunks: u64,
    /// Chunks removed; there ever were as many as these and [`HeadStats::chunks`].
    pub chunks_removed: u64,
    /// Bytes of closed chunks' data.
    pub chunk_bytes: u64,
    /// Samples appended; what was replayed is not counted again.
    pub samples: SampleCounts,
    /// Of these, out of order.
    pub samples_out_of_order: SampleCounts,
    /// Samples refused as [`Reason::OutOfOrder`].
    pub refused_out_of_order: SampleCounts,
    /// Samples refused as [`Reason::OutOfBounds`].
    pub refused_out_of_bounds: SampleCounts,
    /// Samples refused as [`Reason::TooOld`].
    pub refused_too_old: SampleCounts,
    /// Exemplars appended.
    pub exemplars: u64,
    /// Exemplars left out as [`Reason::ExemplarOvertaken`]: as in Prometheus, those that are refused do not count.
    pub exemplars_out_of_order: u64,
    /// Bytes of what is said of metrics, their names among them.
    pub metadata_bytes: u64,
    /// Times that something was said of a metric and not kept, as it was more than a head keeps.
    pub metadata_left_out: u64,
    /// Nanoseconds that batches took to be appended.
    pub append_ns: u64,
    /// Of these, what finding their series took.
    pub lookup_ns: u64,
}

/// Samples by their type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// Floats.
    pub floats: u64,
    /// Native histograms.
    pub histograms: u64,
}

impl HeadStats {
    /// Counts a sample that was not taken, where it is told why.
    fn refuse(&mut self, rejected: &Rejected) {
        let counts = match rejected.reason {
            Reason::OutOfOrder => &mut self.refused_out_of_order,
            Reason::OutOfBounds => &mut self.refused_out_of_bounds,
            Reason::TooOld => &mut self.refused_too_old,
            _ => return,
        };
        counts.count(rejected.kind);
    }
}

impl SampleCounts {
    /// Of both types.
    pub fn total(self) -> u64 {
        self.floats + self.histograms
    }

    fn count(&mut self, kind: RejectedKind) {
        match kind {
            RejectedKind::Float => self.floats += 1,
            RejectedKind::Histogram => self.histograms += 1,
            RejectedKind::Exemplar => {}
        }
    }
}

/// What is said of a metric, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMetadata {
    /// Its type.
    pub kind: MetricKind,
    /// What it means.
    pub help: String,
    /// In what it is counted.
    pub unit: String,
}

impl Head {
    /// An empty head that takes no sample in order from before `min_valid_time`.
    pub fn new(options: Options, min_valid_time: i64) -> Self {
        assert!(options.block_range_ms > 0, "blocks cover some time");
        assert!(options.out_of_order_cap_max > 0, "a chunk has some samples");
        Self {
            options,
            symbols: Symbols::default(),
            table: SeriesTable::default(),
            lines: Paged::default(),
            keys: Paged::default(),
            metas: Paged::default(),
            numbers: Paged::default(),
            places: Places::default(),
            postings: Postings::default(),
            exemplars: ExemplarRing::new(options.exemplars_max),
            metadata: BTreeMap::new(),
            min_valid_time,
            max_time: i64::MIN,
            min_time: i64::MAX,
            next_ref: 0,
            taken: Vec::new(),
            next_id: 0,
            sweep: None,
            stats: HeadStats::default(),
            scratch: append::Scratch::default(),
        }
    }

    /// Counts exemplars with the tenant's other heads from now on. Those that are there already have the
    /// ascending numbers `numbers`.
    pub fn share_exemplars(&mut self, clock: ExemplarClock, numbers: &[u64]) {
        self.exemplars.share(clock, numbers);
    }

    /// Unix milliseconds of the exemplars that are there, in the order they came.
    pub fn exemplar_times(&self) -> impl Iterator<Item = i64> {
        self.exemplars.times()
    }

    /// Exemplars that are kept, their series, and the Unix milliseconds of the first that came of them.
    pub fn exemplars_kept(&self) -> (usize, usize, Option<i64>) {
        self.exemplars.kept()
    }

    /// Counts.
    pub fn stats(&self) -> &HeadStats {
        &self.stats
    }

    /// Times of the earliest and the latest sample; `None` without samples.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let before = self.sweep.as_ref().map_or(i64::MAX, |sweep| sweep.min_time_before);
        let min_time = self.min_time.min(before);
        (min_time <= self.max_time).then_some((min_time, self.max_time))
    }

    /// The time before which no sample is taken in order.
    pub fn min_valid_time(&self) -> i64 {
        self.min_valid_time
    }

    /// Takes no sample in order from before `min_valid_time` from now on.
    pub fn begin_at(&mut self, min_valid_time: i64) {
        self.min_valid_time = self.min_valid_time.max(min_valid_time);
    }

    /// What is said of metrics, by metric name.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &OwnedMetadata)> {
        self.metadata.iter().map(|(name, metadata)| (self.symbols.text(*name), metadata))
    }

    /// Bytes on the heap, chunks and what is said of metrics among them.
    pub fn heap_bytes(&self) -> usize {
        let open: usize = self.lines.iter().map(|line| line.data.capacity()).sum();
        let own: usize = self.metas.iter().map(Meta::heap_bytes).sum();
        let texts = |said: &OwnedMetadata| said.help.capacity() + said.unit.capacity();
        let said: usize = self.metadata.values().map(|said| size_of::<(u32, OwnedMetadata)>() + texts(said)).sum();
        self.symbols.heap_bytes()
            + self.table.heap_bytes()
            + self.postings.heap_bytes()
            + self.lines.heap_bytes()
            + self.keys.heap_bytes()
            + self.metas.heap_bytes()
            + self.numbers.heap_bytes()
            + self.places.heap_bytes()
            + open
            + own
            + said
    }

    /// The labels of series `id`, as text.
    fn labels_of(&self, id: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs_of(id).map(|(name, value)| (self.symbols.text(name), self.symbols.text(value)))
    }

    /// The symbols of the names and values of series `id`.
    fn pairs_of(&self, id: u32) -> impl Iterator<Item = (u32, u32)> + Clone {
        self.places_of(id).iter().map(|place| self.postings.label(*place))
    }

    fn places_of(&self, id: u32) -> &[u32] {
        let meta = &self.metas[id as usize];
        self.places.get(meta.labels_at, usize::from(meta.labels))
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("stats", &self.stats).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
