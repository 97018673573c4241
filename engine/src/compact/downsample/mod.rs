//! Downsampling: samples of each window of five minutes or an hour become their count, sum, minimum,
//! maximum and counter. Chunk for chunk what Thanos makes.

mod aggregated;
mod floats;
mod histograms;
/// Which blocks are downsampled.
pub mod plan;
mod window;

use std::sync::Arc;

use super::merge::SLICE_CHUNKS;
use super::output::{Job, Made, Output, SlicesToBlock, Target, Written};
use super::pipeline::{self, Work};
use super::samples::Samples;
use super::slice::{Slice, Slicer};
use super::source::SourceBlock;
use super::watch::Watch;
use super::workers::{self, Workers};
use crate::bucket::Meta;
use crate::bucket::name::BlockObject;
use crate::chunk::{Encoding, aggr, segment, xor};
use crate::model::{Error, ErrorKind, Resolution, TimeRange};
use floats::Floats;
use histograms::Histograms;

/// XOR chunks that are decoded at once, at least: enough for the lanes of the decoder.
const DECODE_CHUNKS: usize = 128;

/// How blocks are downsampled.
#[derive(Clone, Debug)]
pub struct DownsampleOptions {
    /// Who works besides the caller.
    pub workers: Workers,
    /// Chunks of a slice that one thread works on: memory grows with it.
    pub slice_chunks: usize,
}

impl Default for DownsampleOptions {
    fn default() -> Self {
        Self { workers: Workers::threads(0), slice_chunks: SLICE_CHUNKS }
    }
}

/// Downsamples `source` to `resolution`, which is coarser, into the block of `target`.
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
    meta.thanos = Some(target.thanos(resolution));
    let counted = meta.stats.clone();
    let work = Arc::new(Downsample { sources: [source], from, to: resolution });
    let slice_chunks = options.workers.slice_chunks(options.slice_chunks);
    let (slicer, symbols) = Slicer::new(&work.sources, TimeRange::ALL, slice_chunks)?;
    let output = Output::create(target, symbols, counted.num_series, watch)?;
    let mut ends = SlicesToBlock { slicer, output, watch };
    pipeline::run(&options.workers, &work, &mut ends)?;
    // As upstream has it: counts by kind of sample stay those of the raw block.
    ends.output.finish_with(meta, |stats| {
        stats.num_float_samples = counted.num_float_samples;
        stats.num_histogram_samples = counted.num_histogram_samples;
        stats.num_tombstones = counted.num_tombstones;
    })
}

struct Downsample {
    sources: [SourceBlock; 1],
    from: Resolution,
    to: Resolution,
}

/// What one thread keeps from slice to slice.
#[derive(Default)]
struct Worker {
    batch: xor::Batch,
    floats: Floats,
    histograms: Histograms,
}

impl Work for Downsample {
    type Job = Job;
    type Worker = Worker;

    fn fetch(&self, job: &mut Job) -> Result<(), Error> {
        job.fetch(&self.sources)
    }

    fn units(&self, job: &Job) -> usize {
        (0..job.slice.chunks.len()).map(|chunk| workers::units(job.fetched.chunk(chunk).encoding)).sum()
    }

    fn work(&self, worker: &mut Worker, job: &mut Job) -> Result<(), Error> {
        let Worker { batch, floats, histograms } = worker;
        let Job { slice, fetched, made, .. } = job;
        made.begin(fetched);
        made.stats.chunks_decoded += slice.chunks.len() as u64;
        let chunks: Vec<_> = (0..slice.chunks.len()).map(|at| fetched.chunk(at)).collect();
        let (source, resolutions) = (&self.sources[0], (self.from, self.to));
        let mut act = Act { source, resolutions, slice, chunks: &chunks, batch, floats, histograms };
        let mut at = 0;
        while at < slice.len() {
            at = act.run(at, made)?;
        }
        Ok(())
    }
}

/// Downsampling one slice.
struct Act<'a> {
    source: &'a SourceBlock,
    /// From which to which.
    resolutions: (Resolution, Resolution),
    slice: &'a Slice,
    chunks: &'a [segment::Chunk<'a>],
    batch: &'a mut xor::Batch,
    floats: &'a mut Floats,
    histograms: &'a mut Histograms,
}

impl Act<'_> {
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

    /// Downsamples series number `series` and as many after it as are decoded together; gives the next.
    fn run(&mut self, series: usize, made: &mut Made) -> Result<usize, Error> {
        if self.resolutions.0 != Resolution::RAW {
            self.aggregated(self.range(series)?, made)?;
            made.end_series();
            return Ok(series + 1);
        }
        let is_float = |chunk: &segment::Chunk<'_>| chunk.encoding == Encoding::Xor;
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for next in series..self.slice.len() {
            let range = self.range(next)?;
            let decoded = runs.last().map_or(0, |last| last.end - runs[0].start);
            if decoded >= DECODE_CHUNKS || !self.chunks[range.clone()].iter().all(is_float) {
                break;
            }
            runs.push(range);
        }
        if runs.is_empty() {
            self.mixed(self.range(series)?, made)?;
            made.end_series();
            return Ok(series + 1);
        }
        let start = runs[0].start;
        let all: Vec<&[u8]> = self.chunks[start..runs[runs.len() - 1].end].iter().map(|chunk| chunk.data).collect();
        xor::decode_batch(&all, self.batch).map_err(|(at, corrupt)| self.place(start + at, corrupt))?;
        made.stats.samples_decoded += self.batch.sample_count() as u64;
        for run in &runs {
            self.decoded_floats(run.start - start..run.end - start, made);
            made.end_series();
        }
        Ok(series + runs.len())
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

    /// Downsamples a series of which not all chunks are floats, run by run of one kind.
    fn mixed(&mut self, range: std::ops::Range<usize>, made: &mut Made) -> Result<(), Error> {
        let mut at = range.start;
        while at < range.end {
            let kind = self.kind(at)?;
            let mut end = at + 1;
            while end < range.end && self.kind(end)? == kind {
                end += 1;
            }
            match kind {
                Kind::Floats => self.floats_of(at..end, made)?,
                Kind::Exponential | Kind::Custom => self.histograms_of(at..end, made)?,
            }
            at = end;
        }
        Ok(())
    }

    fn kind(&self, at: usize) -> Result<Kind, Error> {
        let chunk = self.chunks[at];
        Ok(match chunk.encoding {
            Encoding::Xor | Encoding::Xor2 => Kind::Floats,
            Encoding::Aggr => {
                let error = Error::new(ErrorKind::Corrupt, "downsampled data in a raw block");
                return Err(self.place(at, error));
            }
            _ => {
                let mut histograms = Histograms::default();
                histograms.extend(self.samples(at)?);
                let custom = histograms.values.first().is_some_and(|first| first.uses_custom_buckets());
                if custom { Kind::Custom } else { Kind::Exponential }
            }
        })
    }

    fn samples(&self, at: usize) -> Result<Samples, Error> {
        let mut samples = Samples::default();
        let decoded = samples.decode(self.chunks[at].encoding, self.chunks[at].data);
        decoded.map_err(|corrupt| self.place(at, corrupt))?;
        Ok(samples)
    }

    fn floats_of(&mut self, range: std::ops::Range<usize>, made: &mut Made) -> Result<(), Error> {
        let (mut times, mut values, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for at in range {
            let samples = self.samples(at)?;
            times.extend_from_slice(&samples.times);
            values.extend(samples.into_floats());
            ends.push(times.len());
        }
        made.stats.samples_decoded += times.len() as u64;
        self.floats.downsample((&times, &values), ends.into_iter(), self.resolutions.1.0, made);
        Ok(())
    }

    fn histograms_of(&mut self, range: std::ops::Range<usize>, made: &mut Made) -> Result<(), Error> {
        self.histograms.clear();
        for at in range {
            let samples = self.samples(at)?;
            made.stats.samples_decoded += samples.times.len() as u64;
            self.histograms.extend(samples);
        }
        self.histograms.downsample(self.resolutions.1.0, made);
        Ok(())
    }

    /// Downsamples a series of downsampled data. Old blocks can hold raw chunks among it, which are
    /// downsampled to five minutes first, and empty ones, which are left out.
    fn aggregated(&mut self, range: std::ops::Range<usize>, made: &mut Made) -> Result<(), Error> {
        let mut raw = Made::default();
        for at in range.clone().filter(|at| self.chunks[*at].encoding != Encoding::Aggr) {
            let mut act = Act {
                source: self.source,
                resolutions: (self.resolutions.0, Resolution::FIVE_MINUTES),
                slice: self.slice,
                chunks: self.chunks,
                batch: &mut *self.batch,
                floats: &mut *self.floats,
                histograms: &mut *self.histograms,
            };
            act.mixed(at..at + 1, &mut raw)?;
            raw.end_series();
        }
        let mut mended = raw.series();
        let mut chunks = Vec::new();
        for at in range {
            let chunk = self.chunks[at];
            if chunk.encoding == Encoding::Aggr {
                let parts = aggr::split(chunk.data).map_err(|corrupt| self.place(at, corrupt))?;
                made.stats.samples_decoded +=
                    u64::from(crate::block::writer::sample_count(chunk.encoding, chunk.data)?);
                let meta = self.slice.chunks[at].meta;
                chunks.push(aggregated::Chunk { times: (meta.min_time, meta.max_time), place: at, parts });
                continue;
            }
            for (times, data) in mended.next().into_iter().flatten() {
                let parts = aggr::split(data).map_err(|corrupt| self.place(at, corrupt))?;
                chunks.push(aggregated::Chunk { times, place: at, parts });
            }
        }
        let resolutions = (self.resolutions.0.0, self.resolutions.1.0);
        aggregated::downsample(&chunks, resolutions, made).map_err(|(at, corrupt)| self.place(at, corrupt))
    }
}

/// What a chunk holds, as far as it cannot be aggregated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floats,
    Exponential,
    Custom,
}
