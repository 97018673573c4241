//! Where queries read: the merged series of endpoints, as columns.

use std::sync::Arc;
use std::time::Instant;

use engine::batch::SampleBatch;
use engine::chunk::xor;
use engine::model::{Budget, Error, ErrorKind, Reservation, Resolution};
use engine::promql::assemble::{Assembler, Merging, Reading};
use engine::promql::floats::{FloatDecoder, follow_each_other};
use engine::promql::source::{BatchSink, Hints, SelectRequest, Selected, Source};
use engine::select::ChunkSet;
use proto::thanos::{Func, Grouping, QueryHints, SeriesRequest};
use tokio::runtime::Handle;

use super::merge::Merge;
use super::proxy::{Proxy, SeriesAsked};
use super::stream::{RemoteChunk, RemoteSeries, aggregate_number};
use crate::api::grpc::wire::wire_shard;
use crate::api::http::query::backend::Scope;
use crate::api::http::query::ending::Ending;

/// Series of one frame that endpoints are asked for.
const FRAME_SERIES: i64 = 64;

/// Series of a batch that is handed on.
const BATCH_SERIES: usize = 128;

/// Bytes of samples from which on a batch is handed on, however few its series are: what stays in a core's
/// cache while it is decoded and evaluated.
const BATCH_BYTES: u64 = 256 << 10;

/// Bytes of a float sample in a column.
const SAMPLE_BYTES: u64 = 16;

/// The label that a store with projections puts a series' hash into.
const SERIES_HASH_LABEL: &str = "__cf_series_hash__";

/// Reads from endpoints. `select` waits on the calling thread.
pub struct RemoteSource {
    /// Who asks.
    pub proxy: Proxy,
    /// How the request wants its series.
    pub scope: Scope,
    /// When whoever asks has no use for more.
    pub ending: Ending,
    /// How replicas become one series.
    pub merging: Merging,
    /// The runtime whose sockets the endpoints answer on.
    pub runtime: Handle,
}

impl Source for RemoteSource {
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let (begin, _selecting) = (Instant::now(), self.proxy.metrics.select_begins());
        let mut batches = self.wait(self.open(request))?;
        // What takes a batch may wait too, for example for a client who reads: so it is called between
        // two waits, not within one.
        let mut filled = Filled::More;
        while filled == Filled::More {
            filled = self.wait(batches.fill())?;
            batches.hand_on(sink)?;
        }
        self.proxy.metrics.selected(begin.elapsed(), batches.counts, &self.scope.tenant);
        Ok(Selected { warnings: batches.merge.take_warnings() })
    }
}

/// Whether series come after those of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// There may be some.
    More,
    /// There are none.
    Last,
}

/// Merged series on their way into batches.
struct Batches<'a> {
    memory: &'a Arc<Budget>,
    merge: Merge,
    assembler: Assembler,
    decoder: FloatDecoder,
    /// Series of the next batch, and whether they are floats that need no more than to be decoded.
    series: Vec<(RemoteSeries, bool)>,
    batch: SampleBatch,
    held: Reservation,
    /// Series and samples that were handed on.
    counts: (u64, u64),
}

impl Batches<'_> {
    /// Waits for the series of the next batch.
    async fn fill(&mut self) -> Result<Filled, Error> {
        self.held = self.memory.reserve(0)?;
        let mut bytes = 0;
        while self.series.len() < BATCH_SERIES && bytes <= BATCH_BYTES {
            let Some(series) = self.merge.next().await? else { return Ok(Filled::Last) };
            let decoded = decoded_bytes(&series);
            // Its chunks are there until it is decoded, and their sets meanwhile.
            let sets = (series.chunks.len() * size_of::<ChunkSet<'_>>()) as u64;
            self.held.grow(decoded + series.bytes() + sets)?;
            bytes += decoded;
            let is_plain = follow_each_other(series.chunks.iter().map(RemoteChunk::outline));
            self.series.push((series, is_plain));
        }
        Ok(Filled::More)
    }

    /// Decodes the series that were waited for and hands them to `sink`, in order. Chunks that cannot be read are left
    /// out, where endpoints may fail: which they are is looked for once decoding has failed.
    fn hand_on(&mut self, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let mut series = std::mem::take(&mut self.series);
        for run in series.chunk_by_mut(|left, right| left.1 == right.1) {
            if run[0].1 {
                self.hand_on_floats(run, sink)?;
            } else {
                self.hand_on_assembled(run, sink)?;
            }
        }
        series.clear();
        self.series = series;
        Ok(())
    }

    /// Hands on series of floats that need no more than to be decoded.
    fn hand_on_floats(&mut self, run: &mut [(RemoteSeries, bool)], sink: &mut BatchSink<'_>) -> Result<(), Error> {
        match self.decode_floats(run, sink) {
            // It may be the sink's, which gets nothing before every chunk has been read.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if !self.leave_out_unread(run)? {
                    return Err(error);
                }
                self.decode_floats(run, sink)
            }
            result => result,
        }
    }

    fn decode_floats(&mut self, run: &[(RemoteSeries, bool)], sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let Self { decoder, batch, counts, .. } = self;
        let (mut chunks, mut ends) = (Vec::new(), Vec::with_capacity(run.len()));
        for (series, _) in run {
            chunks.extend(series.chunks.iter().filter_map(RemoteChunk::raw_data));
            ends.push((Arc::clone(&series.labels), chunks.len()));
        }
        decoder.hand_on(&chunks, ends, batch, &mut |batch: &mut SampleBatch| counted(batch, counts, sink))
    }

    /// Hands on all other series.
    fn hand_on_assembled(&mut self, run: &mut [(RemoteSeries, bool)], sink: &mut BatchSink<'_>) -> Result<(), Error> {
        for one in run {
            let Err(error) = self.assemble(&one.0) else { continue };
            if !self.leave_out_unread(std::slice::from_mut(one))? {
                return Err(error);
            }
            self.assemble(&one.0)?;
        }
        counted(&mut self.batch, &mut self.counts, sink)?;
        self.batch.clear();
        Ok(())
    }

    /// Appends the samples of `series` to the batch.
    fn assemble(&mut self, series: &RemoteSeries) -> Result<(), Error> {
        let sets: Vec<ChunkSet<'_>> = series.chunks.iter().map(RemoteChunk::as_set).collect();
        let appended = self.assembler.append(Arc::clone(&series.labels), &sets, &mut self.batch);
        appended.map_err(|error| error.within(format_args!("series {}", series.labels)))
    }

    /// Takes out of `run` the chunks that cannot be read; whether there are some. Where endpoints may not fail they are
    /// an error.
    fn leave_out_unread(&mut self, run: &mut [(RemoteSeries, bool)]) -> Result<bool, Error> {
        let Self { merge, assembler, .. } = self;
        let mut is_any = false;
        for (RemoteSeries { labels, chunks }, _) in run {
            let mut told = Ok(());
            chunks.retain(|chunk| {
                let Err(why) = assembler.check(&chunk.as_set()) else { return true };
                is_any = true;
                if told.is_ok() {
                    told = merge.leave_out(chunk.endpoint, labels, &why);
                }
                false
            });
            told?;
        }
        Ok(is_any)
    }
}

/// Hands `batch` to `sink`, and counts its series and samples.
fn counted(batch: &mut SampleBatch, counts: &mut (u64, u64), sink: &mut BatchSink<'_>) -> Result<(), Error> {
    *counts = (counts.0 + batch.len() as u64, counts.1 + batch.samples() as u64);
    sink(batch)
}

impl RemoteSource {
    /// Waits for `work` on the calling thread, as long as whoever asks has use for it.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(self.ending.race(work))
    }

    async fn open(&self, request: &SelectRequest<'_>) -> Result<Batches<'_>, Error> {
        let merging = if self.scope.replica_labels.is_empty() { Merging::Nothing } else { self.merging };
        let assembler = Assembler::new(request.range, &request.hints.function, merging).merging_over(request.extent);
        let memory = &self.proxy.memory;
        Ok(Batches {
            memory,
            merge: self.proxy.series(&self.scope, self.asked(request)).await?,
            assembler,
            decoder: FloatDecoder::default(),
            series: Vec::new(),
            batch: SampleBatch::default(),
            held: memory.reserve(0)?,
            counts: (0, 0),
        })
    }

    fn asked(&self, request: &SelectRequest<'_>) -> SeriesAsked {
        let hints = request.hints;
        let aggregates = Reading::of_function(&hints.function).aggregates();
        let request_rest = SeriesRequest {
            max_resolution_window: hints.max_resolution(Resolution(self.scope.max_resolution_ms)).0,
            aggregates: aggregates.iter().map(aggregate_number).collect(),
            step: hints.step_ms,
            range: hints.range_ms,
            query_hints: Some(query_hints(hints)),
            response_batch_size: FRAME_SERIES,
            shard_info: self.scope.shard.as_ref().map(wire_shard),
            ..SeriesRequest::default()
        };
        SeriesAsked { matchers: request.matchers.to_vec(), range: request.range, request: request_rest }
    }
}

/// Bytes of the samples of `series`, as far as their chunks tell: what they say is checked when they are
/// decoded.
fn decoded_bytes(series: &RemoteSeries) -> u64 {
    let parts = series.chunks.iter().flat_map(|chunk| chunk.parts.iter().flatten());
    let samples: usize = parts.map(|(_, data)| xor::count(data).unwrap_or(0)).sum();
    samples as u64 * SAMPLE_BYTES
}

fn query_hints(hints: &Hints) -> QueryHints {
    QueryHints {
        step_millis: hints.step_ms,
        func: Some(Func { name: hints.function.clone() }),
        grouping: Some(Grouping { by: hints.by, labels: hints.grouping.clone() }),
        range: Some(proto::thanos::Range { millis: hints.range_ms }),
        projection_labels: Vec::new(),
        projection_include: false,
        series_hash_label_name: SERIES_HASH_LABEL.to_owned(),
    }
}
