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
mod steps;

use std::sync::Arc;

use super::aggregates;
use super::output::{Job, JobStats, Made, Output, SlicesToBlock, Target, Written};
use super::pipeline::{self, Work};
use super::samples::{Encoder, SAMPLES_PER_CHUNK, Samples};
use super::slice::Slicer;
use super::source::SourceBlock;
use super::watch::Watch;
use super::workers::{self, COPY_UNITS, Workers};
use crate::bucket::Meta;
use crate::bucket::meta::merged;
use crate::chunk::{Encoding, xor};
use crate::dedup::fold::Fold;
use crate::model::{Error, ErrorKind, TimeRange};
use items::{Item, Items, Origin};
use steps::{Step, Steps};

/// Chunks of a slice that one thread works on, by default.
pub const SLICE_CHUNKS: usize = 512;

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

/// Merges `sources` into the block of `target`.
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

/// Writes the block of `target` anew without what `repair` takes away. It keeps level and sources.
pub fn repair(source: SourceBlock, target: &Target, repair: Repair, watch: &dyn Watch) -> Result<Merged, Error> {
    let old = Arc::clone(source.meta());
    let mut meta = Meta { ulid: target.id, ..Meta::clone(&old) };
    meta.compaction.deletable = false;
    meta.thanos = Some(target.thanos(old.resolution()));
    run(vec![source], meta, (target, &MergeOptions { repair, ..MergeOptions::default() }), watch)
}

fn run(
    sources: Vec<SourceBlock>,
    meta: Meta,
    (target, options): (&Target, &MergeOptions),
    watch: &dyn Watch,
) -> Result<Merged, Error> {
    let range = TimeRange::new(meta.min_time, meta.max_time.saturating_sub(1).max(meta.min_time));
    let outside = match options.repair {
        Repair::Nothing => range,
        _ => TimeRange::ALL,
    };
    let work = Arc::new(Merge { sources, range, replicas: options.replicas, repair: options.repair });
    let slice_chunks = options.workers.slice_chunks(options.slice_chunks);
    let (slicer, symbols) = Slicer::new(&work.sources, outside, slice_chunks)?;
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

/// What one thread keeps from slice to slice.
#[derive(Default)]
struct Worker {
    items: Items,
    steps: Steps,
    floats: Floats,
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

    fn units(&self, job: &Job) -> usize {
        let (slice, fetched) = (&job.slice, &job.fetched);
        let of_series = |series: usize| {
            let is_copied = !slice.may_overlap(series) && self.repair != Repair::All;
            let chunks = slice.parts(series).iter().flat_map(|part| {
                let deleted = !self.sources[part.source as usize].tombstones().of(part.series_ref).is_empty();
                (part.start..part.end).map(move |chunk| (chunk as usize, deleted))
            });
            let units = chunks.map(|(chunk, deleted)| {
                let meta = slice.chunks[chunk].meta;
                let whole = self.range.min_time <= meta.min_time && meta.max_time <= self.range.max_time;
                if is_copied && whole && !deleted { COPY_UNITS } else { workers::units(fetched.chunk(chunk).encoding) }
            });
            units.sum::<usize>()
        };
        (0..slice.len()).map(of_series).sum()
    }

    fn work(&self, worker: &mut Worker, job: &mut Job) -> Result<(), Error> {
        let Worker { items, steps, floats } = worker;
        let Job { slice, fetched, made, .. } = job;
        made.begin(fetched);
        let origin = Origin { sources: &self.sources, slice, fetched, range: self.range, repair: self.repair };
        items.clear();
        steps.clear();
        for series in 0..slice.len() {
            for part in slice.parts(series) {
                items.add(part, origin, &mut made.stats)?;
            }
            steps.add_series(items, origin, &mut made.stats);
            items.end_series();
        }
        let mut act = Act { origin, items, overlapping: &steps.overlapping, replicas: self.replicas, floats };
        let mut at = 0;
        while at < steps.steps.len() {
            let end = act.window_end(&steps.steps, at);
            act.run(&steps.steps[at..end], made)?;
            at = end;
        }
        Ok(())
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

impl Act<'_> {
    /// The step after those whose floats are decoded together with those of step `at`.
    fn window_end(&self, steps: &[Step], at: usize) -> usize {
        let mut chunks = 0;
        let full = steps[at..].iter().position(|step| {
            if let Step::Merge { start, end } = step {
                chunks += end - start;
            }
            chunks as usize >= DECODE_CHUNKS
        });
        full.map_or(steps.len(), |full| at + full + 1)
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
                Step::Merge { start, end } => {
                    let group = &self.overlapping[*start as usize..*end as usize];
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
            let Step::Merge { start, end } = step else { continue };
            let group = &self.overlapping[*start as usize..*end as usize];
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
        made.stats.chunks_decoded += group.len() as u64;
        if group.iter().all(|item| item.encoding == Encoding::Aggr) {
            let chunks: Vec<&[u8]> = group.iter().map(|item| self.items.chunk(*item, self.origin).data).collect();
            let merged = aggregates::merge(&chunks, self.replicas, made);
            return merged.map_err(|(at, corrupt)| self.items.place(group[at], corrupt, self.origin));
        }
        let (mut samples, mut ranges) = (Samples::default(), Vec::new());
        let base_last = self.replicas == Replicas::OneToOne;
        let (base, others) = group.split_at(1);
        let order = if base_last { [others, base] } else { [base, others] };
        for item in order.into_iter().flatten() {
            let start = samples.times.len();
            let chunk = self.items.chunk(*item, self.origin);
            let decoded = samples.decode(chunk.encoding, chunk.data);
            decoded.map_err(|corrupt| self.items.place(*item, corrupt, self.origin))?;
            ranges.push(start..samples.times.len());
        }
        made.stats.samples_decoded += samples.times.len() as u64;
        let mut encoder = Encoder::new(SAMPLES_PER_CHUNK);
        for pick in aggregates::pick(&samples.times, &ranges, self.replicas) {
            encoder.push(samples.times[pick as usize], &samples.values[pick as usize], made);
        }
        encoder.finish(made);
        Ok(())
    }
}

fn is_floats(group: &[Item]) -> bool {
    group.iter().all(|item| item.encoding == Encoding::Xor)
}
