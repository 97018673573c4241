//! Writing the block that a job makes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::fetch::{Fetched, Wanted, make_room};
use super::pipeline::Ends;
use super::slice::{Slice, Slicer};
use super::source::SourceBlock;
use super::watch::{self, Progress, Watch};
use crate::block::writer::{BlockWriter, ChunkRecord, sample_count};
use crate::bucket::Meta;
use crate::bucket::meta::{Downsample, Stats, Thanos};
use crate::chunk::samples::ChunkSink;
use crate::chunk::{Encoding, segment};
use crate::codec::Corrupt;
use crate::index::tsdb::Symbols;
use crate::model::{BlockId, Error, Resolution};

/// Where a result goes and what its meta.json says besides what the sources tell.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder in which the block's folder appears.
    pub parent: PathBuf,
    /// The block's id.
    pub id: BlockId,
    /// Its external labels.
    pub labels: BTreeMap<String, String>,
    /// What others put into its section `thanos`; null for nothing.
    pub extensions: Value,
    /// Which component makes it, one of [`crate::bucket::meta::source`].
    pub source: &'static str,
}

impl Target {
    /// The section `thanos` of a block of `resolution`.
    pub(super) fn thanos(&self, resolution: Resolution) -> Thanos {
        Thanos {
            labels: self.labels.clone(),
            downsample: Downsample { resolution: resolution.0 },
            source: self.source.to_owned(),
            extensions: self.extensions.clone(),
            ..Thanos::default()
        }
    }
}

/// What a job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Series written.
    pub series: u64,
    /// Chunks copied as bytes.
    pub chunks_copied: u64,
    /// Chunks that were decoded and went into others.
    pub chunks_decoded: u64,
    /// Chunks dropped: duplicates, and what repair leaves out.
    pub chunks_dropped: u64,
    /// Chunks encoded.
    pub chunks_encoded: u64,
    /// Samples of the chunks that were decoded.
    pub samples_decoded: u64,
    /// Samples of the chunks that were encoded.
    pub samples_encoded: u64,
    /// Bytes of chunks read.
    pub bytes_read: u64,
    /// Bytes of chunks written.
    pub bytes_written: u64,
}

impl JobStats {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            series,
            chunks_copied,
            chunks_decoded,
            chunks_dropped,
            chunks_encoded,
            samples_decoded,
            samples_encoded,
            bytes_read,
            bytes_written,
        } = other;
        self.series += series;
        self.chunks_copied += chunks_copied;
        self.chunks_decoded += chunks_decoded;
        self.chunks_dropped += chunks_dropped;
        self.chunks_encoded += chunks_encoded;
        self.samples_decoded += samples_decoded;
        self.samples_encoded += samples_encoded;
        self.bytes_read += bytes_read;
        self.bytes_written += bytes_written;
    }
}

/// A block that was written, and has its name: a crash of the machine may take parts of it away until it was made
/// durable, see [`super::settle_written`].
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its meta.json.
    pub meta: Meta,
    /// What was done for it.
    pub stats: JobStats,
}

/// A slice and the records of the chunks that its series become.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// The series and what they are made of.
    pub(super) slice: Slice,
    /// Their chunks.
    pub(super) fetched: Fetched,
    wanted: Vec<Wanted>,
    /// What they become.
    pub(super) made: Made,
}

impl Job {
    /// Reads all chunks of the slice.
    pub(super) fn fetch(&mut self, sources: &[SourceBlock]) -> Result<(), Error> {
        let Self { slice, fetched, wanted, .. } = self;
        wanted.clear();
        wanted
            .extend(slice.chunks.iter().map(|chunk| Wanted { source: chunk.source, chunk_ref: chunk.meta.chunk_ref }));
        fetched.fetch(sources, wanted)
    }
}

/// Both ends of a job's pipeline: slices of the sources go in, what they become goes into the block.
pub(super) struct SlicesToBlock<'a> {
    /// Where slices come from.
    pub(super) slicer: Slicer<'a>,
    /// Where their chunks go.
    pub(super) output: Output<'a>,
    /// Says when to end.
    pub(super) watch: &'a dyn Watch,
}

impl Ends<Job> for SlicesToBlock<'_> {
    fn fill(&mut self, job: &mut Job) -> Result<bool, Error> {
        watch::check(self.watch)?;
        self.slicer.next(&mut job.slice)
    }

    fn take(&mut self, job: &mut Job) -> Result<(), Error> {
        self.output.write(job)
    }
}

/// Records of chunks, one behind the other, of one series behind the other.
#[derive(Debug, Default)]
pub(super) struct Made {
    records: Vec<u8>,
    chunks: Vec<ChunkRecord>,
    /// For each series, where its records and chunks end.
    ends: Vec<(usize, usize)>,
    /// What was done.
    pub(super) stats: JobStats,
}

impl Made {
    /// Removes everything and keeps the room, of which there is as much as copies of `fetched` take: room
    /// that grows step by step leaves what it was in memory.
    pub(super) fn begin(&mut self, fetched: &Fetched) {
        self.records.clear();
        make_room(&mut self.records, fetched.bytes_read() as usize);
        self.chunks.clear();
        self.ends.clear();
        self.stats = JobStats { bytes_read: fetched.bytes_read(), ..JobStats::default() };
    }

    /// Appends a chunk as it is.
    pub(super) fn copy(&mut self, times: (i64, i64), record: &[u8], chunk: segment::Chunk<'_>) -> Result<(), Corrupt> {
        let (min_time, max_time) = times;
        let samples = sample_count(chunk.encoding, chunk.data)?;
        self.records.extend_from_slice(record);
        let len = record.len() as u32;
        self.chunks.push(ChunkRecord { min_time, max_time, encoding: chunk.encoding, samples, len });
        self.stats.chunks_copied += 1;
        Ok(())
    }

    /// Encodes a chunk of `data`, which holds `samples` samples.
    pub(super) fn encode(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), samples: u16) {
        let ((min_time, max_time), (encoding, data)) = (times, chunk);
        let start = self.records.len();
        segment::encode(encoding, data, &mut self.records);
        let len = (self.records.len() - start) as u32;
        self.chunks.push(ChunkRecord { min_time, max_time, encoding, samples, len });
        self.stats.chunks_encoded += 1;
        self.stats.samples_encoded += u64::from(samples);
    }

    /// For each series, the times and the data of its chunks.
    pub(super) fn series(&self) -> impl Iterator<Item = Vec<((i64, i64), &[u8])>> {
        let mut start = (0, 0);
        self.ends.iter().map(move |end| {
            let (mut at, chunks) = (start.0, &self.chunks[start.1..end.1]);
            start = *end;
            let data = |chunk: &ChunkRecord| {
                let record = &self.records[at..at + chunk.len as usize];
                at += chunk.len as usize;
                let header = segment::HEADER_LEN as u64;
                let data = segment::read_at(record, header, header).map_or(&[][..], |chunk| chunk.data);
                ((chunk.min_time, chunk.max_time), data)
            };
            chunks.iter().map(data).collect()
        })
    }

    /// Ends a series.
    pub(super) fn end_series(&mut self) {
        self.ends.push((self.records.len(), self.chunks.len()));
    }
}

impl ChunkSink for Made {
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), samples: u16) {
        self.encode(times, chunk, samples);
    }
}

/// The block in the making and what is told of it.
pub(super) struct Output<'a> {
    writer: BlockWriter,
    watch: &'a dyn Watch,
    series_total: u64,
    stats: JobStats,
}

impl<'a> Output<'a> {
    /// Starts the block of `target`, whose labels are among `symbols` and which has at most
    /// `series_total` series.
    pub(super) fn create(
        target: &Target,
        symbols: Symbols,
        series_total: u64,
        watch: &'a dyn Watch,
    ) -> Result<Self, Error> {
        let writer = BlockWriter::create(&target.parent, target.id, symbols)?;
        Ok(Self { writer, watch, series_total, stats: JobStats::default() })
    }

    /// Writes what a slice has become; series without chunks are left out.
    pub(super) fn write(&mut self, job: &Job) -> Result<(), Error> {
        let Job { slice, made, .. } = job;
        let mut start = (0, 0);
        for (at, end) in made.ends.iter().enumerate() {
            if start.1 < end.1 {
                let (records, chunks) = (&made.records[start.0..end.0], &made.chunks[start.1..end.1]);
                self.writer.add_records(slice.labels(at), records, chunks)?;
            }
            start = *end;
        }
        self.stats.add(&made.stats);
        self.stats.bytes_written += made.records.len() as u64;
        self.stats.series = self.writer.stats().num_series;
        let JobStats { series, bytes_read, bytes_written, .. } = self.stats;
        self.watch.progress(Progress { series, series_total: self.series_total, bytes_read, bytes_written });
        Ok(())
    }

    /// Whether nothing was written.
    pub(super) fn is_empty(&self) -> bool {
        self.writer.stats().num_samples == 0
    }

    /// Gives the block its name; it is durable once it was read back, see [`super::settle_written`].
    pub(super) fn finish(self, meta: Meta) -> Result<Written, Error> {
        self.finish_with(meta, |_| {})
    }

    /// As [`Output::finish`], its counts being as `correct` makes them.
    pub(super) fn finish_with(mut self, meta: Meta, correct: impl Fn(&mut Stats)) -> Result<Written, Error> {
        correct(self.writer.stats_mut());
        Ok(Written { meta: self.writer.finish_unsynced(meta)?, stats: self.stats })
    }
}
