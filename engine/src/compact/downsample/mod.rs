//! Downsampling: samples of each window of five minutes or an hour become their count, sum, minimum,
//! maximum and counter. Chunk for chunk what Thanos makes.

mod aggregated;
mod floats;
mod histograms;
/// Which blocks are downsampled.
pub mod plan;
mod series;
mod window;

use std::sync::Arc;

use super::fetch::Fetched;
use super::merge::SLICE_CHUNKS;
use super::output::{Job, Made, Output, SlicesToBlock, Target, Written};
use super::pipeline::{self, Work};
use super::slice::{Slice, Slicer, merge_symbols};
use super::source::{Malformed, SourceBlock};
use super::watch::Watch;
use super::workers::{self, Budget, Workers};
use crate::block::health::IndexHealth;
use crate::bucket::Meta;
use crate::bucket::meta::Thanos;
use crate::bucket::name::BlockObject;
use crate::chunk::samples::Samples;
use crate::chunk::{Encoding, segment, xor};
use crate::model::{Error, ErrorKind, Resolution, TimeRange};
use floats::Floats;
use series::Series;

/// XOR chunks that are decoded at once, at least: enough for the lanes of the decoder.
const DECODE_CHUNKS: usize = 128;

/// How blocks are downsampled.
#[derive(Clone, Debug)]
pub struct DownsampleOptions {
    /// Who works besides the caller.
    pub workers: Workers,
    /// Chunks of a slice that one thread works on: memory grows with it.
    pub slice_chunks: usize,
    /// Whether an index that is not sound is read.
    pub malformed: Malformed,
}

impl Default for DownsampleOptions {
    fn default() -> Self {
        Self { workers: Workers::threads(0), slice_chunks: SLICE_CHUNKS, malformed: Malformed::Refuse }
    }
}

/// Downsamples `source` to `resolution`, which is coarser, into the block of `target`, which is not durable
/// yet, see [`Written`]. An index that is not sound is an error that says what is wrong with it; it is looked at while
/// its series are read.
pub fn downsample(
    source: SourceBlock,
    resolution: Resolution,
    target: &Target,
    options: &DownsampleOptions,
    watch: &dyn Watch,
) -> Result<Written, Error> {
    let old = source.meta();
    let from = old.resolution();
    if from >= resolution {
        let message = format!("block {}: its resolution {from} is not finer than {resolution}", old.ulid);
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut meta = Meta { ulid: target.id, ..Meta::clone(old) };
    let index_stats = old.thanos.as_ref().map(|thanos| thanos.index_stats).unwrap_or_default();
    meta.thanos = Some(Thanos { index_stats, ..target.thanos(resolution) });
    let counted = meta.stats.clone();
    let mut sources = [source];
    let (symbols, places) = merge_symbols(&mut sources)?;
    let work = Arc::new(Downsample { sources, from, to: resolution });
    let slice_chunks = options.workers.slice_chunks(options.slice_chunks);
    let mut slicer = Slicer::new((&work.sources, places), TimeRange::ALL, slice_chunks);
    slicer.examine();
    let output = Output::create(target, symbols, counted.num_series, watch)?;
    let mut ends = SlicesToBlock { slicer, output, watch };
    let [source] = &work.sources;
    if let Err(error) = pipeline::run(&options.workers, &work, &mut ends) {
        // Where the index is at fault, that is what is to be told.
        if error.kind() == ErrorKind::Corrupt
            && let Ok(health) = source.health()
        {
            refuse(source, &health, options.malformed)?;
        }
        return Err(error);
    }
    refuse(source, &ends.slicer.health(0), options.malformed)?;
    // As upstream has it: counts by kind of sample stay those of the raw block.
    ends.output.finish_with(meta, |stats| {
        stats.num_float_samples = counted.num_float_samples;
        stats.num_histogram_samples = counted.num_histogram_samples;
        stats.num_tombstones = counted.num_tombstones;
    })
}

/// An error when the index of `source` is as `health` says and must not be read then.
fn refuse(source: &SourceBlock, health: &IndexHealth, malformed: Malformed) -> Result<(), Error> {
    match (malformed, source.judge(health, malformed)) {
        (Malformed::Refuse, Err(fault)) => Err(fault.error().clone().within("input block index not valid")),
        _ => Ok(()),
    }
}

struct Downsample {
    sources: [SourceBlock; 1],
    from: Resolution,
    to: Resolution,
}

/// What a slice needs, and the next one has the room of.
#[derive(Default)]
struct Worker {
    batch: xor::Batch,
    floats: Floats,
    place: Place,
}

/// How far a slice is.
#[derive(Default)]
struct Place {
    begun: bool,
    /// The next series.
    series: usize,
    /// How far that series is, when it is not done in one go.
    long: Option<Series>,
}

impl Work for Downsample {
    type Job = Job;
    type Worker = Worker;

    fn fetch(&self, job: &mut Job) -> Result<(), Error> {
        job.fetch(&self.sources)
    }

    fn step(&self, worker: &mut Worker, job: &mut Job, units: usize) -> Result<bool, Error> {
        let Worker { batch, floats, place } = worker;
        let Job { slice, fetched, made, .. } = job;
        if !place.begun {
            made.begin(fetched);
            made.stats.chunks_decoded += slice.chunks.len() as u64;
            place.begun = true;
        }
        let mut budget = Budget::new(units);
        let (source, resolutions) = (&self.sources[0], (self.from, self.to));
        let mut act = Act { source, resolutions, slice, fetched, batch, floats };
        while place.series < slice.len() {
            if budget.is_spent() {
                return Ok(true);
            }
            if place.long.is_none() {
                let next = act.run(place.series, made, &mut budget)?;
                if next > place.series {
                    place.series = next;
                    continue;
                }
            }
            let range = act.range(place.series)?;
            let long = place.long.get_or_insert_with(|| Series::of(self.from));
            if long.resume(range, &mut act, made, &mut budget)? {
                return Ok(true);
            }
            made.end_series();
            (place.series, place.long) = (place.series + 1, None);
        }
        *place = Place::default();
        Ok(false)
    }
}

/// Downsampling one slice.
struct Act<'a> {
    source: &'a SourceBlock,
    /// From which to which.
    resolutions: (Resolution, Resolution),
    slice: &'a Slice,
    fetched: &'a Fetched,
    batch: &'a mut xor::Batch,
    floats: &'a mut Floats,
}

impl<'a> Act<'a> {
    /// Chunk number `at`.
    fn chunk(&self, at: usize) -> segment::Chunk<'a> {
        self.fetched.chunk(at)
    }

    /// The places of the chunks of a series.
    fn range(&self, series: usize) -> Result<std::ops::Range<usize>, Error> {
        let [part] = self.slice.parts(series) else {
            return Err(Error::new(ErrorKind::Bug, "a series of one block has several parts"));
        };
        let range = part.start as usize..part.end as usize;
        for at in range.clone().skip(1) {
            let (before, chunk) = (&self.slice.chunks[at - 1].meta, &self.slice.chunks[at].meta);
            if before.max_time >= chunk.min_time {
                let reason = format!(
                    "chunks of a series overlap: one ends at {}, the next starts at {}",
                    before.max_time, chunk.min_time
                );
                return Err(self.place(at, Error::new(ErrorKind::Corrupt, reason)));
            }
        }
        Ok(range)
    }

    /// An error in what chunk number `at` holds.
    fn place(&self, at: usize, error: impl Into<Error>) -> Error {
        let chunk = self.slice.chunks[at];
        let error = error.into().within(format_args!("chunk at byte {}", chunk.meta.chunk_ref.offset()));
        let object = BlockObject::Segment(chunk.meta.chunk_ref.segment());
        self.source.place(error, object)
    }

    /// Downsamples series number `series` of raw floats and as many after it as are decoded together, as far
    /// as that may be done in one go; gives the next.
    fn run(&mut self, series: usize, made: &mut Made, budget: &mut Budget) -> Result<usize, Error> {
        if self.resolutions.0 != Resolution::RAW {
            return Ok(series);
        }
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        let mut units = 0;
        for next in series..self.slice.len() {
            let range = self.range(next)?;
            let decoded = runs.last().map_or(0, |last| last.end - runs[0].start);
            let with_next = (decoded + range.len()) * workers::units(Encoding::Xor);
            let all_floats = || range.clone().all(|at| self.chunk(at).encoding == Encoding::Xor);
            if decoded >= DECODE_CHUNKS || !budget.fits(with_next) || !all_floats() {
                break;
            }
            units = with_next;
            runs.push(range);
        }
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(series) };
        budget.spend(units);
        let start = first.start;
        self.decode(start..last.end, made)?;
        for run in &runs {
            self.decoded_floats(run.start - start..run.end - start, made);
            made.end_series();
        }
        Ok(series + runs.len())
    }

    /// Decodes chunks of floats into the batch.
    fn decode(&mut self, range: std::ops::Range<usize>, made: &mut Made) -> Result<(), Error> {
        let all: Vec<&[u8]> = range.clone().map(|at| self.chunk(at).data).collect();
        xor::decode_batch(&all, self.batch).map_err(|(at, corrupt)| self.place(range.start + at, corrupt))?;
        made.stats.samples_decoded += self.batch.sample_count() as u64;
        Ok(())
    }

    /// Downsamples the samples of the chunks of the batch at `chunks`.
    fn decoded_floats(&mut self, chunks: std::ops::Range<usize>, made: &mut Made) {
        if chunks.is_empty() {
            return;
        }
        let samples = self.batch.range(chunks.start).start..self.batch.range(chunks.end - 1).end;
        let start = samples.start;
        let columns = (&self.batch.timestamps()[samples.clone()], &self.batch.values()[samples]);
        let ends = chunks.map(|chunk| self.batch.range(chunk).end - start);
        self.floats.downsample(columns, ends, self.resolutions.1.0, made);
    }

    /// The samples of chunk number `at`.
    fn samples(&self, at: usize) -> Result<Samples, Error> {
        let (mut samples, chunk) = (Samples::default(), self.chunk(at));
        let decoded = samples.decode(chunk.encoding, chunk.data);
        decoded.map_err(|corrupt| self.place(at, corrupt))?;
        Ok(samples)
    }
}
