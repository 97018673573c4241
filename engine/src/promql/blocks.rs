//! Series of opened blocks, decoded where the chunks are.
//!
//! ```text
//! plan of a selection ─ cut into ranges ─> parts ─ read, check, decode ─> sample batches
//! ```
//! Chunks of floats are decoded many at a time, lane by lane, into the columns that the query's
//! operators read. A source serves one query: it plans each of the query's selections once and keeps the plan for
//! all parts that read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::batch::SampleBatch;
use crate::block::{BlockSet, LabelView};
use crate::chunk::xor;
use crate::io::{self, BlockIo};
use crate::model::matcher::Matcher;
use crate::model::{Budget, Error, Labels, Patience, Resolution, TimeRange};
use crate::select::plan::Naming;
use crate::select::{
    ChunkSet, Classes, Failure, Fetched, LabelBuffers, Limits, Meter, Outcome, Plan, Prepared, RangeSeries,
    RemoteRange, Request, SeriesName, SeriesSink, ShardInfo, Source as Found,
};

use super::assemble::{Assembler, Merging, Reading, are_plain};
use super::floats::FloatDecoder;
use super::source::{BatchSink, Cores, SelectRequest, Selected, Shares, Source, Threads, Types};

/// Samples of a batch: what stays in a core's cache.
const BATCH_SAMPLES: usize = 16_384;

/// Gets bytes of chunks that are not local, and waits for them. The bytes are those of each range,
/// in order.
pub type Fetch = dyn Fn(&[RemoteRange]) -> Vec<Fetched> + Send + Sync;

/// What of the blocks a query sees.
#[derive(Clone)]
pub struct Scope {
    /// Labels that tell replicas apart; they are dropped.
    pub replica_labels: Vec<String>,
    /// How replicas become one series.
    pub merging: Merging,
    /// The coarsest resolution that will do.
    pub max_resolution: Resolution,
    /// The only share of the series; none for all.
    pub shard: Option<ShardInfo>,
    /// What ends the request.
    pub limits: Limits,
    /// When and by whom it is ended.
    pub patience: Patience,
    /// The process' memory.
    pub budget: Arc<Budget>,
    /// Cores that work on the query; without any, whoever asks reads all of it.
    pub cores: Option<Arc<dyn Cores>>,
    /// Gets what is not local; without it such chunks are missing.
    pub fetch: Option<Arc<Fetch>>,
}

/// The blocks as the source of one query.
pub struct BlockSource {
    blocks: Arc<BlockSet>,
    scope: Scope,
    meter: Arc<Meter>,
    /// Few, as a query has few selections.
    plans: Mutex<Vec<(PlanKey, Arc<Plan>)>>,
}

/// What a plan depends on.
struct PlanKey {
    matchers: Vec<Matcher>,
    range: TimeRange,
    function: String,
    max_resolution: Resolution,
    is_projected: bool,
}

impl PlanKey {
    fn new(request: &SelectRequest<'_>, max_resolution: Resolution) -> Self {
        let SelectRequest { matchers, range, hints, .. } = request;
        let (matchers, function) = (matchers.to_vec(), hints.function.clone());
        Self { matchers, range: *range, function, max_resolution, is_projected: hints.projection.is_some() }
    }

    fn is_of(&self, request: &SelectRequest<'_>, max_resolution: Resolution) -> bool {
        let hints = request.hints;
        self.range == request.range
            && self.max_resolution == max_resolution
            && self.is_projected == hints.projection.is_some()
            && self.function == hints.function
            && self.matchers == request.matchers
    }
}

impl Default for Scope {
    /// Raw data, no replicas, no cores.
    fn default() -> Self {
        Self {
            replica_labels: Vec::new(),
            merging: Merging::Nothing,
            max_resolution: Resolution::RAW,
            shard: None,
            limits: Limits::default(),
            patience: Patience::default(),
            budget: Budget::new("query.memory-limit", u64::MAX),
            cores: None,
            fetch: None,
        }
    }
}

impl BlockSource {
    /// A source of what `scope` shows of `blocks`.
    pub fn new(blocks: Arc<BlockSet>, scope: Scope) -> Self {
        let meter = Arc::new(Meter::new(scope.limits, &scope.budget).with_patience(scope.patience.clone()));
        Self { blocks, scope, meter, plans: Mutex::default() }
    }

    fn plan(&self, request: &SelectRequest<'_>) -> Result<Arc<Plan>, Error> {
        let max_resolution = request.hints.max_resolution(self.scope.max_resolution);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = plans.iter().find(|(key, _)| key.is_of(request, max_resolution)) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.find(request, max_resolution)?);
        plans.push((PlanKey::new(request, max_resolution), Arc::clone(&plan)));
        Ok(plan)
    }

    fn find(&self, request: &SelectRequest<'_>, max_resolution: Resolution) -> Result<Plan, Error> {
        let wanted = Request {
            max_resolution,
            aggregates: Reading::of_function(&request.hints.function).aggregates(),
            without_labels: self.scope.replica_labels.clone(),
            shard: self.scope.shard.clone(),
            ..Request::new(request.range, request.matchers.to_vec())
        };
        let chosen = self.blocks.choose(&wanted.matchers, wanted.range, wanted.max_resolution, &[]);
        let mut found = Vec::with_capacity(chosen.len());
        for chosen in chosen {
            self.meter.check_wanted()?;
            found.push(Found::find(chosen, &wanted, &self.meter)?);
        }
        let parallel = self.scope.cores.as_ref().map_or(1, |cores| cores.count());
        let mut plan = Plan::new(wanted, Arc::clone(&self.meter), found, parallel)?;
        if projection(request, &plan).is_some() {
            plan.leave_labels_out();
        }
        Ok(plan)
    }

    /// Reads one range of a plan, series after series.
    fn read_range(
        &self,
        plan: &Plan,
        range: usize,
        (io, decoder): (&mut dyn BlockIo, &mut Decoder<'_, '_>),
        selected: &mut Selected,
    ) -> Result<(), Error> {
        let (start, end) = plan.range(range);
        // What is left of it, the first part last.
        let mut left = vec![(start.clone(), end.clone())];
        let mut labels = LabelBuffers::default();
        while let Some((start, end)) = left.pop() {
            let mut prepared = Prepared::new(plan, (&start, &end), u64::MAX, &mut labels)?;
            let mut output = loop {
                let wanted = prepared.remote_ranges(plan);
                let _held = plan.hold(wanted.iter().map(|range| range.len).sum())?;
                if let (false, Some(fetch)) = (wanted.is_empty(), &self.scope.fetch) {
                    let begin = Instant::now();
                    let fetched = fetch(&wanted);
                    prepared.set_fetched(plan, fetched, begin.elapsed())?;
                }
                let _lists = plan.hold(prepared.lists_bytes())?;
                match prepared.encode(plan, io, decoder)? {
                    Outcome::Done(output) => break output,
                    Outcome::Fetch(again) => prepared = *again,
                }
            };
            warn(&output.failures, selected);
            left.extend(output.left(end).rev());
        }
        Ok(())
    }
}

/// The only labels that series come with. Where they differ in type or unit they come with all: nothing else tells
/// series apart that differ in these alone from others.
fn projection<'r>(request: &SelectRequest<'r>, plan: &Plan) -> Option<&'r [String]> {
    request.hints.projection.as_deref().filter(|_| !plan.differs_in_type())
}

fn warn(failures: &[Failure], selected: &mut Selected) {
    for failure in failures {
        let warning = failure.error.to_string();
        if !selected.warnings.contains(&warning) {
            selected.warnings.push(warning);
        }
    }
}

impl Source for BlockSource {
    /// Parts go to the cores; to threads of their own where bytes must be waited for.
    fn cores(&self, request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        let Some(cores) = &self.scope.cores else { return Ok(None) };
        let plan = self.plan(request)?;
        let parts = cores.count().min(plan.range_count());
        let waits = !plan.is_local();
        let cores = if waits { Arc::new(Threads(parts)) } else { Arc::clone(cores) };
        Ok((parts > 0).then_some((cores, parts)))
    }

    fn types(&self, request: &SelectRequest<'_>) -> Result<Types, Error> {
        Ok(if self.plan(request)?.differs_in_type() { Types::Differ } else { Types::Same })
    }

    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let plan = self.plan(request)?;
        let mut selected = Selected::default();
        warn(plan.failures(), &mut selected);
        if plan.range_count() == 0 {
            return Ok(selected);
        }
        let assembler =
            Assembler::new(request.range, &request.hints.function, self.scope.merging).merging_over(request.extent);
        let ranges = request.part.share(plan.range_count());
        let projection = projection(request, &plan);
        let mut decoder = Decoder::new(assembler, projection, sink);
        let mut held = self.meter.hold(0)?;
        if let (Naming::Places, Some(wanted)) = (plan.naming(), projection) {
            decoder.classes = plan.classes(ranges.clone(), wanted)?;
            // The labels are there once more, as series share them.
            held.grow(2 * decoder.classes.heap_bytes() as u64)?;
            decoder.class_labels = decoder.classes.labels().iter().cloned().map(Arc::new).collect();
        }
        let mut own = None;
        let mut lent = request.files.0.map(|files| files.borrow_mut());
        let io: &mut dyn BlockIo = match &mut lent {
            Some(lent) => &mut ***lent,
            None => &mut **own.insert(io::open(io::Mode::Pread)?),
        };
        for range in ranges {
            self.read_range(&plan, range, (&mut *io, &mut decoder), &mut selected)?;
        }
        decoder.flush()?;
        Ok(selected)
    }
}

/// Turns series of chunks into sample batches.
struct Decoder<'p, 's> {
    assembler: Assembler,
    projection: Option<&'p [String]>,
    /// Of a plan that leaves labels out, the classes of its series and their labels.
    classes: Classes,
    class_labels: Vec<Arc<Labels>>,
    /// Label sets that a projection has made before, by their text.
    known: HashMap<Box<[u8]>, Arc<Labels>>,
    key: Vec<u8>,
    batch: SampleBatch,
    floats: FloatDecoder,
    sink: &'p mut BatchSink<'s>,
}

/// Series of floats of one range whose chunks are decoded together, where they were read.
#[derive(Default)]
struct Waiting<'b> {
    chunks: Vec<&'b [u8]>,
    /// Labels of each series, and the number of chunks up to its last.
    series: Vec<(Arc<Labels>, usize)>,
    samples: usize,
}

impl<'p, 's> Decoder<'p, 's> {
    fn new(assembler: Assembler, projection: Option<&'p [String]>, sink: &'p mut BatchSink<'s>) -> Self {
        let (known, key) = (HashMap::new(), Vec::new());
        let (batch, floats) = (SampleBatch::default(), FloatDecoder::default());
        let (classes, class_labels) = (Classes::default(), Vec::new());
        Self { assembler, projection, classes, class_labels, known, key, batch, floats, sink }
    }

    /// Hands what is assembled to the sink.
    fn flush(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        (self.sink)(&mut self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// Decodes what waits and hands it to the sink.
    fn decode(&mut self, waiting: &mut Waiting<'_>) -> Result<(), Error> {
        if waiting.series.is_empty() {
            return Ok(());
        }
        self.floats.hand_on(&waiting.chunks, waiting.series.drain(..), &mut self.batch, self.sink)?;
        waiting.chunks.clear();
        waiting.samples = 0;
        Ok(())
    }

    fn take_series<'b>(
        &mut self,
        labels: Arc<Labels>,
        chunks: &[ChunkSet<'b>],
        waiting: &mut Waiting<'b>,
    ) -> Result<(), Error> {
        if are_plain(chunks) {
            self.flush()?;
            waiting.push(labels, chunks)?;
            return if waiting.samples >= BATCH_SAMPLES { self.decode(waiting) } else { Ok(()) };
        }
        self.decode(waiting)?;
        self.assembler.append(labels, chunks, &mut self.batch)?;
        if self.batch.samples() >= BATCH_SAMPLES { self.flush() } else { Ok(()) }
    }

    fn labels(&mut self, labels: LabelView<'_>) -> Arc<Labels> {
        let Some(wanted) = self.projection else { return Arc::new(labels.to_labels()) };
        let kept = || labels.iter().filter(|(name, _)| wanted.iter().any(|wanted| wanted == name));
        self.key.clear();
        for (name, value) in kept() {
            self.key.extend_from_slice(name.as_bytes());
            self.key.push(0xff);
            self.key.extend_from_slice(value.as_bytes());
            self.key.push(0xff);
        }
        if let Some(known) = self.known.get(self.key.as_slice()) {
            return Arc::clone(known);
        }
        let made = Arc::new(Labels::from_sorted(kept()));
        self.known.insert(self.key.as_slice().into(), Arc::clone(&made));
        made
    }
}

impl SeriesSink for Decoder<'_, '_> {
    fn range(&mut self, series: &mut RangeSeries<'_>) -> Result<(), Error> {
        let (mut chunks, mut waiting) = (Vec::new(), Waiting::default());
        while let Some(name) = series.next(&mut chunks) {
            let labels = match name {
                SeriesName::Labels(labels) => self.labels(labels),
                SeriesName::Place(place) => Arc::clone(&self.class_labels[self.classes.of(place)]),
            };
            self.take_series(labels, &chunks, &mut waiting)?;
        }
        self.decode(&mut waiting)
    }
}

impl<'b> Waiting<'b> {
    fn push(&mut self, labels: Arc<Labels>, chunks: &[ChunkSet<'b>]) -> Result<(), Error> {
        for chunk in chunks.iter().filter_map(|set| set.raw_part()) {
            self.samples += xor::count(chunk.data)?;
            self.chunks.push(chunk.data);
        }
        self.series.push((labels, self.chunks.len()));
        Ok(())
    }
}
