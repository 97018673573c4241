//! What is asked of the blocks, and what limits the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xxhash_rust::xxh64::xxh64;

use crate::block::Detail;
use crate::model::Matcher;
use crate::model::{Budget, Error, Patience, Reservation, Resolution, TimeRange};

/// Samples that a chunk counts for under the sample limits, as in Thanos.
pub const SAMPLES_PER_CHUNK: u64 = 120;

/// The limit of bytes that a request reads, and what it counts.
const DOWNLOADED: (&str, &str) = ("--store.grpc.downloaded-bytes-limit", "bytes");

/// A request for series.
#[derive(Clone, Debug)]
pub struct Request {
    /// Only series with a chunk in this range, and only its chunks; whole, not trimmed.
    pub range: TimeRange,
    /// What series must match, external labels among them.
    pub matchers: Vec<Matcher>,
    /// Only labels, or chunks too.
    pub detail: Detail,
    /// The coarsest resolution that will do.
    pub max_resolution: Resolution,
    /// What is wanted of downsampled chunks.
    pub aggregates: Aggregates,
    /// The part of all series that is wanted.
    pub shard: Option<ShardInfo>,
    /// Labels that are dropped.
    pub without_labels: Vec<String>,
    /// Series wanted at most; 0 for all.
    pub limit: u64,
    /// Series of one frame at most; 0 or 1 for one each.
    pub batch_series_max: usize,
    /// What the external labels and `__block_id` of blocks must match.
    pub block_matchers: Vec<Matcher>,
    /// The labels that the caller looks at, when it says so.
    pub projection: Option<Projection>,
}

impl Request {
    /// All raw chunks in `range` of the series that match.
    pub fn new(range: TimeRange, matchers: Vec<Matcher>) -> Self {
        Self {
            range,
            matchers,
            detail: Detail::Chunks,
            max_resolution: Resolution::RAW,
            aggregates: Aggregates::default(),
            shard: None,
            without_labels: Vec::new(),
            limit: 0,
            batch_series_max: 0,
            block_matchers: Vec::new(),
            projection: None,
        }
    }
}

/// One of the five parts of a downsampled chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aggregate {
    /// Number of samples.
    Count = 1,
    /// Sum of the samples.
    Sum = 2,
    /// Least sample.
    Min = 3,
    /// Greatest sample.
    Max = 4,
    /// The counter without its resets.
    Counter = 5,
}

/// A set of aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Aggregates(u8);

/// A share of all series by a hash of some of their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Which share, from 0.
    pub index: u64,
    /// How many shares; at least 1.
    pub total: u64,
    /// Which labels are hashed.
    pub hashed: Hashed,
}

/// Which labels a shard's hash is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// These.
    By(Vec<String>),
    /// All but these.
    Without(Vec<String>),
}

/// The labels that a query looks at: series come with these alone, and a hash of all their labels
/// that keeps them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Which labels stay.
    pub kept: Hashed,
    /// Name of the label that carries the hash; empty for none.
    pub hash_label: String,
}

/// What ends a request; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--store.limits.request-series`: series of the answer.
    pub series_max: u64,
    /// `--store.limits.request-samples`: samples of the answer, a chunk counting 120.
    pub samples_max: u64,
    /// `--store.grpc.touched-series-limit`: series found in blocks.
    pub touched_series_max: u64,
    /// `--store.grpc.series-sample-limit`: samples read, a chunk counting 120.
    pub chunk_samples_max: u64,
    /// `--store.grpc.downloaded-bytes-limit`: bytes read.
    pub bytes_max: u64,
}

/// What a request has used of its limits, and whether it is still wanted; shared by all of its ranges.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    budget: Arc<Budget>,
    series: AtomicU64,
    samples: AtomicU64,
    touched: AtomicU64,
    bytes: AtomicU64,
    canceled: AtomicBool,
    patience: Patience,
}

impl Aggregate {
    /// All, in the order in which an aggregated chunk stores them.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Counter => "counter",
        }
    }
}

impl Aggregates {
    /// The set with `aggregate` in it.
    pub fn with(self, aggregate: Aggregate) -> Self {
        Self(self.0 | 1 << aggregate as u8)
    }

    /// Whether `aggregate` is in the set.
    pub fn contains(self, aggregate: Aggregate) -> bool {
        self.0 & (1 << aggregate as u8) != 0
    }

    /// The aggregates of the set.
    pub fn iter(self) -> impl Iterator<Item = Aggregate> {
        Aggregate::ALL.into_iter().filter(move |aggregate| self.contains(*aggregate))
    }
}

impl Hashed {
    /// Whether the label called `name` is one of these.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::By(names) => names.iter().any(|known| known == name),
            Self::Without(names) => names.iter().all(|known| known != name),
        }
    }
}

impl ShardInfo {
    /// Whether the series of `labels` belongs to this share: xxhash64 of each hashed label's name
    /// and value, a byte 0xff after each. `scratch` is any buffer.
    pub fn contains<'l>(&self, labels: impl Iterator<Item = (&'l str, &'l str)>, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        labels.for_each(|label| self.push_hashed(label, scratch));
        self.is_hash_of(scratch)
    }

    /// Appends what the hash takes of a label; of a series' labels in their order.
    pub(super) fn push_hashed(&self, (name, value): (&str, &str), hashed: &mut Vec<u8>) {
        if self.hashed.covers(name) {
            hashed.extend_from_slice(name.as_bytes());
            hashed.push(0xff);
            hashed.extend_from_slice(value.as_bytes());
            hashed.push(0xff);
        }
    }

    /// Whether the series of which this is hashed belongs to this share.
    pub(super) fn is_hash_of(&self, hashed: &[u8]) -> bool {
        xxh64(hashed, 0) % self.total.max(1) == self.index
    }
}

impl Meter {
    /// Nothing used yet of `limits` and of the process' memory.
    pub fn new(limits: Limits, budget: &Arc<Budget>) -> Self {
        Self {
            limits,
            budget: Arc::clone(budget),
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            canceled: AtomicBool::new(false),
            patience: Patience::default(),
        }
    }

    /// The same for a request that `patience` ends too.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Says that nobody waits for the answer any more.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// An error when nobody waits for the answer any more, or its time is over.
    pub fn check_wanted(&self) -> Result<(), Error> {
        self.patience.check_unless(&self.canceled)
    }

    /// Counts series found in a block.
    pub fn touch_series(&self, count: u64) -> Result<(), Error> {
        charge(&self.touched, count, self.limits.touched_series_max, ("--store.grpc.touched-series-limit", "series"))
    }

    /// Counts `count` series no more that were found in a block which is asked again.
    pub fn forget_series(&self, count: u64) {
        self.touched.fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts series of the answer and their chunks.
    pub fn answer(&self, series: u64, chunks: u64) -> Result<(), Error> {
        let samples = chunks * SAMPLES_PER_CHUNK;
        charge(&self.series, series, self.limits.series_max, ("--store.limits.request-series", "series"))?;
        let total = self.samples.load(Ordering::Relaxed);
        charge(&self.samples, samples, self.limits.samples_max, ("--store.limits.request-samples", "samples"))?;
        over(total + samples, self.limits.chunk_samples_max, ("--store.grpc.series-sample-limit", "samples"))
    }

    /// Holds `bytes` of the process' memory until what is returned is dropped.
    pub fn hold(&self, bytes: u64) -> Result<Reservation, Error> {
        self.budget.reserve(bytes)
    }

    /// Bytes of the process' memory that all requests share.
    pub fn memory_limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Counts bytes that are about to be read, or that were read beyond what was counted before.
    pub fn read_bytes(&self, bytes: u64) -> Result<(), Error> {
        charge(&self.bytes, bytes, self.limits.bytes_max, DOWNLOADED)
    }

    /// An error when `bytes` more would be too many to read; they are not counted.
    pub fn check_bytes(&self, bytes: u64) -> Result<(), Error> {
        over(self.bytes.load(Ordering::Relaxed).saturating_add(bytes), self.limits.bytes_max, DOWNLOADED)
    }
}

fn charge(counter: &AtomicU64, amount: u64, limit: u64, name: (&str, &str)) -> Result<(), Error> {
    let total = counter.fetch_add(amount, Ordering::Relaxed) + amount;
    over(total, limit, name)
}

fn over(total: u64, limit: u64, (flag, what): (&str, &str)) -> Result<(), Error> {
    if limit > 0 && total > limit {
        return Err(Error::limit(flag, format_args!("the request needs {total} {what} or more, the limit is {limit}")));
    }
    Ok(())
}
