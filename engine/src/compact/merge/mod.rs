//! Merging: several blocks become one. Chunks that overlap no other are copied as bytes; those that do
//! are decoded, their samples merged, and encoded again.
//!
//! ```text
//! source 1   ▐─a─▌▐─b─▌                    result   ▐─a─▌▐─b─▌▐─c─▌▐─d+e─▌▐─f─▌
//! source 2             ▐─c─▌▐──d──▌
//! source 3                    ▐──e──▌▐─f─▌
//! ```
//!
//! Memory holds the symbols of all sources and a few slices of series.

mod items;
mod long;
mod steps;

use std::sync::Arc;

use super::aggregates;
use super::output::{Job, JobStats, Made, Output, SlicesToBlock, Target, Written};
use super::pipeline::{self, Work};
use super::slice::{Slicer, merge_symbols};
use super::source::SourceBlock;
use super::watch::Watch;
use super::workers::{self, Budget, COPY_UNITS, Workers};
use crate::bucket::Meta;
use crate::bucket::meta::merged;
use crate::chunk::samples::SAMPLES_PER_CHUNK;
use crate::chunk::{Encoding, xor};
use crate::dedup::fold::Fold;
use crate::model::{Error, ErrorKind, TimeRange};
use items::{Item, Items, Origin};
use long::{Aggregates, Long, Others};
use steps::{Step, Steps};

/// Chunks of a slice that one thread works on, by default.
pub const SLICE_CHUNKS: usize = 384;

/// XOR chunks that are decoded at once: enough for the lanes of the decoder, few enough for the caches.
const DECODE_CHUNKS: usize = 192;

/// What becomes of samples of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// All samples stay, each time once.
    OneToOne,
    /// One replica is followed at a time, see [`crate::dedup::penalty`].
    Penalty,
}

/// What is mended on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// Chunks outside the block's times are dropped.
    DropOutside,
    /// Also, chunks are put in order, duplicates dropped, and chunks that overlap merged.
    All,
}

/// How blocks are merged.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// What becomes of samples of replicas.
    pub replicas: Replicas,
    /// What is mended.
    pub repair: Repair,
    /// Who works besides the caller.
    pub workers: Workers,
    /// Chunks of a slice that one thread works on: memory grows with it.
    pub slice_chunks: usize,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            replicas: Replicas::OneToOne,
            repair: Repair::Nothing,
            workers: Workers::threads(0),
            slice_chunks: SLICE_CHUNKS,
        }
    }
}

/// What came of a merge.
#[derive(Clone, Debug, PartialEq)]
pub enum Merged {
    /// A block.
    Block(Box<Written>),
    /// Nothing: no sample is left.
    Empty,
}

/// Merges `sources` into the block of `target`, which is not durable yet, see [`Written`].
pub fn merge(
    mut sources: Vec<SourceBlock>,
    target: &Target,
    options: &MergeOptions,
    watch: &dyn Watch,
) -> Result<Merged, Error> {
    if sources.is_empty() {
        return Err(Error::new(ErrorKind::Bug, "a merge needs one block at least"));
    }
    sources.sort_by_key(|source| (source.meta().min_time, source.meta().ulid));
    let metas: Vec<Arc<Meta>> = sources.iter().map(|source| Arc::clone(source.meta())).collect();
    let resolution = metas[0].resolution();
    if let Some(other) = metas.iter().find(|meta| meta.resolution() != resolution) {
        let message = format!("blocks {} and {} differ in resolution", metas[0].ulid, other.ulid);
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut meta = merged(target.id, &metas.iter().map(Arc::as_ref).collect::<Vec<_>>());
    meta.thanos = Some(target.thanos(resolution));
    run(sources, meta, (target, options), watch)
}

/// Writes the block of `target` anew without what `repair` takes away. It keeps level and sources, and is not
/// durable yet, see [`Written`].
pub fn repair(source: SourceBlock, target: &Target, repair: Repair, watch: &dyn Watch) -> Result<Merged, Error> {
    let old = Arc::clone(source.meta());
    let mut meta = Meta { ulid: target.id, ..Meta::clone(&old) };
    meta.compaction.deletable = false;
    meta.thanos = Some(target.thanos(old.resolution()));
    run(vec![source], meta, (target, &MergeOptions { repair, ..MergeOptions::default() }), watch)
}

fn run(
    mut sources: Vec<SourceBlock>,
    meta: Meta,
    (target, options): (&Target, &MergeOptions),
    watch: &dyn Watch,
) -> Result<Merged, Error> {
    let range = TimeRange::new(meta.min_time, meta.max_time.saturating_sub(1).max(meta.min_time));
    let outside = match options.repair {
        Repair::Nothing => range,
        _ => TimeRange::ALL,
    };
    let (symbols, places) = merge_symbols(&mut sources)?;
    let work = Arc::new(Merge { sources, range, replicas: options.replicas, repair: options.repair });
    let slice_chunks = options.workers.slice_chunks(options.slice_chunks);
    let slicer = Slicer::new((&work.sources, places), outside, slice_chunks);
    let series_total = work.sources.iter().map(|source| source.meta().stats.num_series).sum();
    let output = Output::create(target, symbols, series_total, watch)?;
    let mut ends = SlicesToBlock { slicer, output, watch };
    pipeline::run(&options.workers, &work, &mut ends)?;
    if ends.output.is_empty() {
        return Ok(Merged::Empty);
    }
    Ok(Merged::Block(Box::new(ends.output.finish(meta)?)))
}

struct Merge {
    sources: Vec<SourceBlock>,
    range: TimeRange,
    replicas: Replicas,
    repair: Repair,
}

/// What a slice needs, and the next one has the room of.
#[derive(Default)]
struct Worker {
    items: Items,
    steps: Steps,
    floats: Floats,
    place: Place,
}

/// How far a slice is.
#[derive(Default)]
struct Place {
    begun: bool,
    /// The next series and the next of its parts that become items.
    series: usize,
    part: usize,
    /// The next step.
    step: usize,
    /// How far that step is, when it is too long for one go.
    long: Option<Long>,
}

/// Room for merging floats.
#[derive(Default)]
struct Floats {
    batch: xor::Batch,
    fold: Fold,
    times: Vec<i64>,
    values: Vec<f64>,
    data: Vec<u8>,
}

impl Work for Merge {
    type Job = Job;
    type Worker = Worker;

    fn fetch(&self, job: &mut Job) -> Result<(), Error> {
        job.fetch(&self.sources)
    }

    fn step(&self, worker: &mut Worker, job: &mut Job, units: usize) -> Result<bool, Error> {
        let Worker { items, steps, floats, place } = worker;
        let Job { slice, fetched, made, .. } = job;
        let mut budget = Budget::new(units);
        if !place.begun {
            made.begin(fetched);
            items.clear();
            steps.clear();
            place.begun = true;
        }
        let origin = Origin { sources: &self.sources, slice, fetched, range: self.range, repair: self.repair };
        while place.series < slice.len() {
            if let Some(part) = slice.parts(place.series).get(place.part) {
                if !items.add(part, origin, &mut made.stats, &mut budget)? {
                    return Ok(true);
                }
                place.part += 1;
            } else {
                steps.add_series(items, origin, &mut made.stats);
                items.end_series();
                (place.series, place.part) = (place.series + 1, 0);
            }
        }
        let mut act = Act { origin, items, overlapping: &steps.overlapping, replicas: self.replicas, floats };
        while let Some(step) = steps.steps.get(place.step) {
            if budget.is_spent() {
                return Ok(true);
            }
            let end = act.window_end(&steps.steps, place.step, &mut budget);
            if end > place.step {
                act.run(&steps.steps[place.step..end], made)?;
                place.step = end;
                continue;
            }
            let group = act.group(step);
            if place.long.get_or_insert_with(|| Long::of(group)).resume(group, &mut act, made, &mut budget)? {
                return Ok(true);
            }
            (place.long, place.step) = (None, place.step + 1);
        }
        *place = Place::default();
        Ok(false)
    }
}

/// Carrying out the steps of one slice.
struct Act<'a> {
    origin: Origin<'a>,
    items: &'a Items,
    overlapping: &'a [Item],
    replicas: Replicas,
    floats: &'a mut Floats,
}

impl<'a> Act<'a> {
    /// The items that a step merges.
    fn group(&self, step: &Step) -> &'a [Item] {
        match step {
            Step::Merge { start, end } => &self.overlapping[*start as usize..*end as usize],
            Step::Copy(_) | Step::EndSeries => &[],
        }
    }

    /// The step after those whose floats are decoded together with those of step `at`; that step itself
    /// when it must not be done in one go.
    fn window_end(&self, steps: &[Step], at: usize, budget: &mut Budget) -> usize {
        let (mut end, mut chunks) = (at, 0);
        while end < steps.len() && chunks < DECODE_CHUNKS && !budget.is_spent() {
            let group = self.group(&steps[end]);
            let units = group.iter().map(|item| workers::units(item.encoding)).sum::<usize>().max(COPY_UNITS);
            if !budget.fits(units) {
                break;
            }
            budget.spend(units);
            chunks += group.len();
            end += 1;
        }
        end
    }

    fn run(&mut self, steps: &[Step], made: &mut Made) -> Result<(), Error> {
        self.decode_floats(steps, &mut made.stats)?;
        let mut decoded = 0;
        for step in steps {
            match step {
                Step::Copy(item) => {
                    let chunk = self.items.chunk(*item, self.origin);
                    let copied = made.copy(item.times, self.items.record(*item, self.origin), chunk);
                    copied.map_err(|corrupt| self.items.place(*item, corrupt, self.origin))?;
                }
                Step::Merge { .. } => {
                    let group = self.group(step);
                    if is_floats(group) {
                        self.merge_floats(decoded..decoded + group.len(), made);
                        decoded += group.len();
                    } else {
                        self.merge_others(group, made)?;
                    }
                }
                Step::EndSeries => made.end_series(),
            }
        }
        Ok(())
    }

    /// Decodes the chunks of all merges of floats among `steps` into the batch, in their order.
    fn decode_floats(&mut self, steps: &[Step], stats: &mut JobStats) -> Result<(), Error> {
        let (mut chunks, mut of): (Vec<&[u8]>, Vec<Item>) = (Vec::new(), Vec::new());
        for step in steps {
            let group = self.group(step);
            if is_floats(group) {
                for item in group {
                    chunks.push(self.items.chunk(*item, self.origin).data);
                    of.push(*item);
                }
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let decoded = xor::decode_batch(&chunks, &mut self.floats.batch);
        decoded.map_err(|(at, corrupt)| self.items.place(of[at], corrupt, self.origin))?;
        stats.chunks_decoded += chunks.len() as u64;
        stats.samples_decoded += self.floats.batch.sample_count() as u64;
        Ok(())
    }

    /// Merges the chunks of the batch that lie at `chunks`, the base first.
    fn merge_floats(&mut self, chunks: std::ops::Range<usize>, made: &mut Made) {
        let Floats { batch, fold, times, values, data } = &mut *self.floats;
        times.clear();
        values.clear();
        match self.replicas {
            Replicas::Penalty => {
                fold.clear();
                for chunk in chunks {
                    fold.add(batch.chunk(chunk).0, batch.range(chunk).start as u32);
                }
                times.extend_from_slice(fold.times());
                let decoded = batch.values();
                values.extend(fold.picks().iter().map(|pick| decoded[*pick as usize]));
            }
            Replicas::OneToOne => {
                let ranges: Vec<_> =
                    (chunks.start + 1..chunks.end).chain([chunks.start]).map(|at| batch.range(at)).collect();
                for pick in aggregates::pick(batch.timestamps(), &ranges, self.replicas) {
                    times.push(batch.timestamps()[pick as usize]);
                    values.push(batch.values()[pick as usize]);
                }
            }
        }
        for (times, values) in times.chunks(SAMPLES_PER_CHUNK).zip(values.chunks(SAMPLES_PER_CHUNK)) {
            data.clear();
            xor::encode(times, values, data);
            made.encode((times[0], times[times.len() - 1]), (Encoding::Xor, data), times.len() as u16);
        }
    }

    /// Merges chunks of which not all are floats, the base first.
    fn merge_others(&mut self, group: &[Item], made: &mut Made) -> Result<(), Error> {
        let mut unbounded = Budget::new(usize::MAX);
        if is_aggregates(group) {
            return Aggregates::default().resume(group, self, made, &mut unbounded).map(drop);
        }
        Others::default().resume(group, self, made, &mut unbounded).map(drop)
    }
}

fn is_floats(group: &[Item]) -> bool {
    group.iter().all(|item| item.encoding == Encoding::Xor)
}

fn is_aggregates(group: &[Item]) -> bool {
    group.iter().all(|item| item.encoding == Encoding::Aggr)
}
