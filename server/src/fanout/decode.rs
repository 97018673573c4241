//! Series of endpoints become columns on as many threads as there are cores, in the order in which they came.
//!
//! ```text
//! caller    merge ─ full ─> job 1 ─> job 2 ─> … ─ in order ─> sink
//! threads                    └ decode, dedup ┘
//! ```
//! Whoever asks merges streams and evaluates; chunks are decoded beside it. Jobs are few at a time, so an
//! evaluation that is slower than its endpoints lets them wait.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::chunk::xor;
use engine::model::{Budget, Error, ErrorKind, Reservation};
use engine::promql::assemble::Assembler;
use engine::promql::source::BatchSink;
use engine::select::ChunkSet;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::stream::{RemoteChunk, RemoteSeries};

/// Series of a batch that is handed on.
const BATCH_SERIES: usize = 128;

/// Bytes of chunks from which on a batch is handed on, however few its series are.
const BATCH_BYTES: u64 = 256 << 10;

/// Turns series into batches of samples.
pub struct Decoding {
    /// Decoders that nobody works with.
    idle: Vec<Decoder>,
    /// A fresh one.
    assembler: Box<dyn Fn() -> Assembler + Send + Sync>,
    runtime: Handle,
    memory: Arc<Budget>,
    jobs: VecDeque<JoinHandle<Result<Decoded, Error>>>,
    jobs_max: usize,
    waiting: Vec<RemoteSeries>,
    waiting_bytes: u64,
    /// Series and samples that were handed on.
    counts: (u64, u64),
}

/// What one thread decodes with; its columns are used again.
struct Decoder {
    assembler: Assembler,
    batch: SampleBatch,
}

/// A decoded batch, and the memory that it is accounted for with.
struct Decoded {
    decoder: Decoder,
    _held: Reservation,
}

impl Decoding {
    /// Decodes with what `assembler` makes, on the threads of `runtime`, within `memory`.
    pub fn new(
        assembler: impl Fn() -> Assembler + Send + Sync + 'static,
        runtime: Handle,
        memory: Arc<Budget>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            idle: Vec::new(),
            assembler: Box::new(assembler),
            runtime,
            memory,
            jobs: VecDeque::new(),
            jobs_max: if cores > 1 { cores + 1 } else { 0 },
            waiting: Vec::new(),
            waiting_bytes: 0,
            counts: (0, 0),
        }
    }

    /// Takes one series, and hands on what is decoded.
    pub async fn push(&mut self, series: RemoteSeries, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        self.waiting_bytes += series.chunks.iter().map(RemoteChunk::data_bytes).sum::<u64>();
        self.waiting.push(series);
        if self.waiting.len() < BATCH_SERIES && self.waiting_bytes < BATCH_BYTES {
            return Ok(());
        }
        if self.jobs_max == 0 {
            let decoded = self.decode_here()?;
            return self.hand_on(decoded, sink);
        }
        while self.jobs.len() >= self.jobs_max || self.jobs.front().is_some_and(JoinHandle::is_finished) {
            self.hand_on_oldest(sink).await?;
        }
        let (series, held, decoder) = self.take_waiting()?;
        self.jobs.push_back(self.runtime.spawn_blocking(move || decode(&series, held, decoder)));
        Ok(())
    }

    /// Hands on everything that is left; the numbers of series and samples that there were.
    pub async fn finish(mut self, sink: &mut BatchSink<'_>) -> Result<(u64, u64), Error> {
        // The last batch needs no thread of its own while the ones before it are being decoded.
        let last = if self.waiting.is_empty() { None } else { Some(self.decode_here()?) };
        while !self.jobs.is_empty() {
            self.hand_on_oldest(sink).await?;
        }
        if let Some(last) = last {
            self.hand_on(last, sink)?;
        }
        Ok(self.counts)
    }

    fn decode_here(&mut self) -> Result<Decoded, Error> {
        let (series, held, decoder) = self.take_waiting()?;
        decode(&series, held, decoder)
    }

    /// The series that wait, memory for them and their samples, and what decodes them.
    fn take_waiting(&mut self) -> Result<(Vec<RemoteSeries>, Reservation, Decoder), Error> {
        let series = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.waiting_bytes) + decoded_bytes(&series);
        let held = self.memory.reserve(bytes)?;
        let fresh = || Decoder { assembler: (self.assembler)(), batch: SampleBatch::default() };
        let decoder = self.idle.pop().unwrap_or_else(fresh);
        Ok((series, held, decoder))
    }

    async fn hand_on_oldest(&mut self, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let Some(oldest) = self.jobs.front_mut() else { return Ok(()) };
        let decoded = oldest.await;
        self.jobs.pop_front();
        let lost = |error| Error::new(ErrorKind::Bug, format!("decoding the series of endpoints failed: {error}"));
        self.hand_on(decoded.map_err(lost)??, sink)
    }

    fn hand_on(&mut self, mut decoded: Decoded, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let batch = &mut decoded.decoder.batch;
        self.counts.0 += batch.len() as u64;
        self.counts.1 += batch.samples() as u64;
        sink(batch)?;
        batch.clear();
        self.idle.push(decoded.decoder);
        Ok(())
    }
}

/// Bytes of the samples of `series`, as far as their chunks tell: what they say is checked when they are
/// decoded.
fn decoded_bytes(series: &[RemoteSeries]) -> u64 {
    let parts = series.iter().flat_map(|series| &series.chunks).flat_map(|chunk| chunk.parts.iter().flatten());
    let samples: usize = parts.map(|(_, data)| xor::count(data).unwrap_or(0)).sum();
    samples as u64 * SAMPLE_BYTES
}

/// Bytes of a float sample in a column.
const SAMPLE_BYTES: u64 = 16;

fn decode(series: &[RemoteSeries], held: Reservation, mut decoder: Decoder) -> Result<Decoded, Error> {
    for one in series {
        let sets: Vec<ChunkSet<'_>> = one.chunks.iter().map(RemoteChunk::as_set).collect();
        decoder.assembler.append(Arc::new(one.labels.clone()), &sets, &mut decoder.batch)?;
    }
    Ok(Decoded { decoder, _held: held })
}
