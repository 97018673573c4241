//! Where samples come from: blocks, heads, remote stores, or memory.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::batch::SampleBatch;
use crate::io::{self, BlockIo};
use crate::model::labels::TYPE_AND_UNIT;
use crate::model::matcher::Matcher;
use crate::model::{Error, ErrorKind, Labels, Resolution, TimeRange};

/// What a selector asks of its source.
#[derive(Clone, Debug)]
pub struct SelectRequest<'a> {
    /// All must match.
    pub matchers: &'a [Matcher],
    /// Samples wanted (Unix milliseconds, both ends included). More may be given.
    pub range: TimeRange,
    /// The same of all selectors of the query together: replicas are merged from its start, so that
    /// each selector of a query follows the same replica.
    pub extent: TimeRange,
    /// What the query does with the samples.
    pub hints: &'a Hints,
    /// Which part of the series is wanted.
    pub part: Part,
    /// The files of the core that asks.
    pub files: Files<'a>,
}

/// How the core that works on a query reads local files; nothing where no core of [`Cores`] does.
#[derive(Clone, Copy, Default)]
pub struct Files<'a>(pub Option<&'a OwnFiles>);

/// A core's own way to local files.
pub type OwnFiles = RefCell<Box<dyn BlockIo>>;

/// Work for one core, which lends its way to local files.
pub type CoreJob = Box<dyn FnOnce(&OwnFiles) + Send>;

/// Cores that work on one query side by side. Jobs own what they work on, and never wait for each
/// other.
pub trait Cores: Send + Sync {
    /// How many there are, at least 1.
    fn count(&self) -> usize;

    /// Sends `job` to one of them, each in turn.
    fn send(&self, job: CoreJob) -> Result<(), Error>;
}

/// The cores that share a selection, and the number of parts that it is cut into.
pub type Shares = (Arc<dyn Cores>, usize);

/// A thread of its own for each job: for sources that wait, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct Threads(pub usize);

/// What a query does with the samples of a selector; a source may do less work for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// Name of the nearest function or aggregation around the selector; empty when there is none.
    pub function: String,
    /// Length of the windows in milliseconds; 0 for an instant selector.
    pub range_ms: i64,
    /// Milliseconds between steps; 0 for an instant query.
    pub step_ms: i64,
    /// Labels that the nearest aggregation groups by or leaves out.
    pub grouping: Vec<String>,
    /// Whether `grouping` is of `by`.
    pub by: bool,
    /// The only labels that the query looks at, when that is known; series may come without the
    /// others, several of them with the same labels.
    pub projection: Option<Vec<String>>,
    /// Whether only count and sum of native histograms are looked at.
    pub histogram_stats: bool,
}

impl Hints {
    /// The coarsest resolution up to `wanted` that will do: functions over two samples need two of them in a
    /// window.
    pub fn max_resolution(&self, wanted: Resolution) -> Resolution {
        const TWO_SAMPLES: [&str; 9] =
            ["rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "xrate", "xincrease"];
        if self.range_ms > 0 && TWO_SAMPLES.contains(&self.function.as_str()) {
            wanted.min(Resolution(self.range_ms / 2))
        } else {
            wanted
        }
    }
}

/// A share of the series: part `index` of `count`, all parts in label order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

/// What else a source has to say.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// Warnings, as of stores that did not answer.
    pub warnings: Vec<String>,
}

/// What a source knows beforehand of the types and units of the series of a selection; none counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Types {
    /// All have the same.
    Same,
    /// Some may differ.
    Differ,
    /// Nothing; their labels tell.
    #[default]
    Unknown,
}

/// What takes the batches of a selection; it may take the batch's contents and must not expect
/// them to stay.
pub type BatchSink<'a> = dyn FnMut(&mut SampleBatch) -> Result<(), Error> + 'a;

/// Gives series by matchers. Shared by the cores that work on a query.
pub trait Source: Send + Sync {
    /// The cores to whom the parts of the selection go, and how many parts there are; `None` where
    /// whoever asks reads all of it.
    fn cores(&self, _request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        Ok(None)
    }

    /// What is known of the types and units of the matching series, of all parts together.
    fn types(&self, _request: &SelectRequest<'_>) -> Result<Types, Error> {
        Ok(Types::Unknown)
    }

    /// Hands the matching series to `sink`, sorted by their labels, in batches of a size that
    /// stays in the cache. Each series comes once, whole, its samples in time order.
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error>;
}

impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Files(lent)" } else { "Files(none)" })
    }
}

impl Cores for Threads {
    fn count(&self) -> usize {
        self.0.max(1)
    }

    fn send(&self, job: CoreJob) -> Result<(), Error> {
        let run = move || {
            if let Ok(files) = io::open(io::Mode::Pread) {
                job(&RefCell::new(files));
            }
        };
        let started = std::thread::Builder::new().name("query".to_owned()).spawn(run);
        let failed = |error| Error::new(ErrorKind::Unavailable, format!("a query's thread did not start: {error}"));
        started.map(drop).map_err(failed)
    }
}

impl Part {
    /// All series.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The share of `0..total` that the part stands for.
    pub fn share(self, total: usize) -> std::ops::Range<usize> {
        total * self.index / self.count..total * (self.index + 1) / self.count
    }
}

/// Series in memory, for tests and small answers.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    series: SampleBatch,
    /// What all of them have in common.
    types: Types,
    parts: usize,
}

/// Series of one batch of a [`MemorySource`].
const BATCH_SERIES: usize = 128;

impl MemorySource {
    /// A source of the series of `batch`, which are put in order.
    pub fn new(batch: &SampleBatch) -> Self {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by(|left, right| batch.labels[*left].cmp(&batch.labels[*right]));
        let mut series = SampleBatch::default();
        for at in order {
            copy_series(batch, at, TimeRange::ALL, &mut series);
        }
        let metadata = |labels: &Arc<Labels>| TYPE_AND_UNIT.map(|name| labels.get(name).unwrap_or("").to_owned());
        let is_same = series.labels.iter().map(metadata).is_sorted_by(|left, right| left == right);
        let types = if is_same { Types::Same } else { Types::Differ };
        Self { series, types, parts: 1 }
    }

    /// The same source, cut into `parts`.
    pub fn with_parts(self, parts: usize) -> Self {
        Self { parts, ..self }
    }

    /// Labels of all series, in order.
    pub fn labels(&self) -> &[Arc<Labels>] {
        &self.series.labels
    }

    /// The numbers of the series that match.
    fn matching(&self, matchers: &[Matcher]) -> Vec<usize> {
        let matches =
            |labels: &Labels| matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")));
        (0..self.series.len()).filter(|at| matches(&self.series.labels[*at])).collect()
    }
}

impl Source for MemorySource {
    fn cores(&self, _request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        let cores = Arc::new(Threads(self.parts));
        Ok((self.parts > 1).then_some((cores, self.parts)))
    }

    fn types(&self, _request: &SelectRequest<'_>) -> Result<Types, Error> {
        Ok(self.types)
    }

    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let found = self.matching(request.matchers);
        let mut batch = SampleBatch::default();
        for chosen in found[request.part.share(found.len())].chunks(BATCH_SERIES) {
            batch.clear();
            for at in chosen {
                copy_series(&self.series, *at, request.range, &mut batch);
            }
            sink(&mut batch)?;
        }
        Ok(Selected::default())
    }
}

/// Appends the samples of series `at` that lie in `range`.
fn copy_series(from: &SampleBatch, at: usize, range: TimeRange, to: &mut SampleBatch) {
    let series = from.series(at);
    let within = |timestamps: &[i64]| {
        let start = timestamps.partition_point(|time| *time < range.min_time);
        start..timestamps.partition_point(|time| *time <= range.max_time).max(start)
    };
    let floats = within(series.timestamps);
    to.floats.timestamps.extend_from_slice(&series.timestamps[floats.clone()]);
    to.floats.values.extend_from_slice(&series.values[floats.clone()]);
    to.float_starts.extend_from_slice(series.starts.get(floats).unwrap_or(&[]));
    let histograms = within(series.histogram_timestamps);
    to.histograms.timestamps.extend_from_slice(&series.histogram_timestamps[histograms.clone()]);
    to.histograms.values.extend_from_slice(&series.histograms[histograms.clone()]);
    to.histogram_starts.extend_from_slice(series.histogram_starts.get(histograms.clone()).unwrap_or(&[]));
    to.histogram_kinds.extend_from_slice(series.histogram_kinds.get(histograms).unwrap_or(&[]));
    to.finish_series(Arc::clone(series.labels));
}
