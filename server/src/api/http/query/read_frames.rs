//! Series of a batch as remote read has them: samples, or chunks in frames.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Bytes;
use engine::batch::{CountKind, SeriesSamples};
use engine::chunk::native::{Appender, Native};
use engine::chunk::xor;
use engine::model::{Budget, Error, FloatHistogram, Histogram, Reservation, TimeRange};
use prost::Message;
use prost::bytes::{BufMut, BytesMut};
use proto::prometheus_copy::chunk::Encoding;
use proto::prometheus_copy::histogram::{Count, ZeroCount};
use proto::prometheus_copy::{self as wire, BucketSpan, Chunk, ChunkedReadResponse, ChunkedSeries, Sample, TimeSeries};
use proto::thanos::Label;

use crate::api::grpc::wire::wire_labels;
use crate::fanout::queries::wire_histogram;

/// Samples of a chunk, as Prometheus cuts them.
const CHUNK_SAMPLES: usize = 120;

/// Bytes of chunks after which a frame is sent, as in Prometheus.
const FRAME_BYTES: usize = 1 << 20;

/// The samples of `series` within `range`.
pub fn samples(series: &SeriesSamples<'_>, range: TimeRange) -> TimeSeries {
    let is_within = |time: i64| (range.min_time..=range.max_time).contains(&time);
    let floats = series.timestamps.iter().zip(series.values).filter(|(time, _)| is_within(**time));
    let histograms = series.histogram_timestamps.iter().zip(series.histograms).enumerate();
    let histograms = histograms.filter(|(_, (time, _))| is_within(**time));
    let wire = |(at, (time, found)): (usize, (&i64, &Arc<FloatHistogram>))| match series.histogram_kinds.get(at) {
        Some(CountKind::Integers) => wire_integers(found, *time),
        Some(CountKind::Floats) | None => wire_histogram(found, *time),
    };
    TimeSeries {
        labels: wire_labels(series.labels),
        samples: floats.map(|(time, value)| Sample { value: *value, timestamp: *time }).collect(),
        histograms: histograms.map(wire).collect(),
        ..TimeSeries::default()
    }
}

/// A histogram whose counts are integers on the wire: those of buckets as differences to the ones before.
fn wire_integers(histogram: &FloatHistogram, timestamp: i64) -> wire::Histogram {
    wire::Histogram {
        count: Some(Count::CountInt(histogram.count as u64)),
        zero_count: Some(ZeroCount::ZeroCountInt(histogram.zero_count as u64)),
        negative_deltas: deltas(&histogram.negative_buckets),
        negative_counts: Vec::new(),
        positive_deltas: deltas(&histogram.positive_buckets),
        positive_counts: Vec::new(),
        ..wire_histogram(histogram, timestamp)
    }
}

/// Bytes that [`samples`] takes of `series`, at most.
pub fn samples_bytes(series: &SeriesSamples<'_>) -> u64 {
    let histogram = |histogram: &Arc<FloatHistogram>| {
        let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
        let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len();
        let numbers = buckets + histogram.custom_values.len();
        size_of::<wire::Histogram>() + spans * size_of::<BucketSpan>() + numbers * size_of::<f64>()
    };
    let histograms: usize = series.histograms.iter().map(histogram).sum();
    let labels = series.labels.len() * size_of::<Label>() + series.labels.heap_bytes();
    (series.timestamps.len() * size_of::<Sample>() + histograms + labels) as u64
}

/// Makes frames of the series of one query.
pub struct Frames {
    query_index: i64,
    range: TimeRange,
    memory: Arc<Budget>,
}

/// A frame with the memory that it takes, wherever it waits.
struct Held {
    bytes: Bytes,
    _memory: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Frames {
    /// Frames of query `query_index` of a request, held of `memory` until they are sent; samples outside of
    /// `range` are left out.
    pub fn new(query_index: i64, range: TimeRange, memory: &Arc<Budget>) -> Self {
        Self { query_index, range, memory: Arc::clone(memory) }
    }

    /// Gives the frames of one series to `send`; a series without samples has none. Limit, named, when there
    /// is no memory for them.
    pub fn push(
        &mut self,
        series: &SeriesSamples<'_>,
        send: &impl Fn(Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let chunks = self.chunks(series);
        let _held = self.memory.reserve(chunks.iter().map(|chunk| chunk.data.len() as u64).sum())?;
        let labels = wire_labels(series.labels);
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        let mut chunks = chunks.into_iter().peekable();
        while let Some(chunk) = chunks.next() {
            bytes += chunk.data.len();
            waiting.push(chunk);
            if bytes >= FRAME_BYTES || chunks.peek().is_none() {
                bytes = 0;
                let series = ChunkedSeries { labels: labels.clone(), chunks: std::mem::take(&mut waiting) };
                let message = ChunkedReadResponse { chunked_series: vec![series], query_index: self.query_index };
                send(self.held(frame(&message))?)?;
            }
        }
        Ok(())
    }

    fn held(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let _memory = self.memory.reserve(bytes.len() as u64)?;
        Ok(Bytes::from_owner(Held { bytes, _memory }))
    }

    /// The chunks of a series in order of time. None spans a sample of another kind, as they are read one behind the
    /// other.
    fn chunks(&self, series: &SeriesSamples<'_>) -> Vec<Chunk> {
        let (mut floats, mut histograms) = (self.within(series.timestamps), self.within(series.histogram_timestamps));
        let mut chunks = Vec::new();
        while !floats.is_empty() || !histograms.is_empty() {
            let times = &series.timestamps[floats.clone()];
            let other = series.histogram_timestamps[histograms.clone()].first();
            let count = other.map_or(times.len(), |other| times.partition_point(|time| time < other));
            push_floats(&times[..count], &series.values[floats.clone()][..count], &mut chunks);
            floats.start += count;
            let times = &series.histogram_timestamps[histograms.clone()];
            let other = series.timestamps[floats.clone()].first();
            // Where one has the time of a float, which should not be, it comes first.
            let count = other.map_or(times.len(), |other| times.partition_point(|time| time <= other));
            push_runs(series, histograms.start..histograms.start + count, &mut chunks);
            histograms.start += count;
        }
        chunks
    }

    /// Which of `times`, which ascend, are within the range.
    fn within(&self, times: &[i64]) -> Range<usize> {
        let start = times.partition_point(|time| *time < self.range.min_time);
        start..times.partition_point(|time| *time <= self.range.max_time).max(start)
    }
}

/// Appends the chunks of floats.
fn push_floats(times: &[i64], values: &[f64], chunks: &mut Vec<Chunk>) {
    let chunk = |(times, values): (&[i64], &[f64])| {
        let mut data = Vec::new();
        xor::encode(times, values, &mut data);
        chunk(Encoding::Xor, (times[0], times[times.len() - 1]), data)
    };
    chunks.extend(times.chunks(CHUNK_SAMPLES).zip(values.chunks(CHUNK_SAMPLES)).map(chunk));
}

/// Appends the chunks of each run of histograms of one kind among those of `range`.
fn push_runs(series: &SeriesSamples<'_>, range: Range<usize>, chunks: &mut Vec<Chunk>) {
    let kind = |at: &usize| series.histogram_kinds.get(*at).copied().unwrap_or(CountKind::Floats);
    let places: Vec<usize> = range.collect();
    for run in places.chunk_by(|left, right| kind(left) == kind(right)) {
        let found = run.iter().map(|at| (series.histogram_timestamps[*at], &series.histograms[*at]));
        match kind(&run[0]) {
            CountKind::Integers => {
                let run = found.map(|(time, histogram)| (time, integers(histogram)));
                push_histograms::<Histogram, _>(Encoding::Histogram, run, chunks);
            }
            CountKind::Floats => {
                let run = found.map(|(time, histogram)| (time, histogram.as_ref()));
                push_histograms::<FloatHistogram, _>(Encoding::FloatHistogram, run, chunks);
            }
        }
    }
}

/// Appends the chunks of histograms of one kind.
fn push_histograms<N: Native, B: Borrow<N>>(
    encoding: Encoding,
    run: impl Iterator<Item = (i64, B)>,
    chunks: &mut Vec<Chunk>,
) {
    let mut appender = Appender::<N>::default();
    let mut times = (0, 0);
    for (time, histogram) in run {
        let histogram = histogram.borrow();
        let finished = if appender.len() == CHUNK_SAMPLES {
            let next = Appender::after(&appender, time, histogram);
            Some(std::mem::replace(&mut appender, next).into_data())
        } else {
            let is_first = appender.is_empty();
            let finished = appender.append(time, histogram);
            if is_first {
                times.0 = time;
            }
            finished
        };
        if let Some(finished) = finished {
            chunks.push(chunk(encoding, times, finished));
            times.0 = time;
        }
        times.1 = time;
    }
    if !appender.is_empty() {
        chunks.push(chunk(encoding, times, appender.into_data()));
    }
}

/// A histogram whose counts were integers, as they were.
fn integers(histogram: &FloatHistogram) -> Histogram {
    Histogram {
        counter_reset: histogram.counter_reset,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count as u64,
        count: histogram.count as u64,
        sum: histogram.sum,
        positive_spans: histogram.positive_spans.clone(),
        negative_spans: histogram.negative_spans.clone(),
        positive_buckets: deltas(&histogram.positive_buckets),
        negative_buckets: deltas(&histogram.negative_buckets),
        custom_values: Arc::clone(&histogram.custom_values),
    }
}

/// Counts of buckets, each as the difference to the one before.
fn deltas(counts: &[f64]) -> Vec<i64> {
    let before = std::iter::once(0).chain(counts.iter().map(|count| *count as i64));
    counts.iter().zip(before).map(|(count, before)| (*count as i64).wrapping_sub(before)).collect()
}

fn chunk(encoding: Encoding, (min_time_ms, max_time_ms): (i64, i64), data: Vec<u8>) -> Chunk {
    Chunk { min_time_ms, max_time_ms, r#type: encoding.into(), data }
}

fn frame(message: &ChunkedReadResponse) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(len + 14);
    prost::encoding::encode_varint(len as u64, &mut out);
    let bytes = message.encode_to_vec();
    out.put_u32(engine::simd::crc32c::crc32c(&bytes));
    out.extend_from_slice(&bytes);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use engine::batch::SampleBatch;
    use engine::chunk::native;
    use engine::model::{CounterReset, Labels, Span};

    use super::*;

    #[test]
    fn histograms_of_integers_are_integers_among_samples_and_others_are_floats() {
        let mut batch = SampleBatch::default();
        for (time, kind) in [(1, CountKind::Floats), (2, CountKind::Integers)] {
            batch.histograms.timestamps.push(time);
            batch.histograms.values.push(Arc::new(FloatHistogram {
                count: 9.0,
                zero_count: 1.0,
                positive_buckets: vec![3.0, 1.0, 4.0],
                ..FloatHistogram::default()
            }));
            batch.histogram_kinds.push(kind);
        }
        batch.finish_series(Arc::default());
        let found = samples(&batch.series(0), TimeRange::new(0, 5)).histograms;
        assert_eq!(found[0].count, Some(Count::CountFloat(9.0)));
        assert_eq!((&found[0].positive_counts[..], found[0].positive_deltas.len()), (&[3.0, 1.0, 4.0][..], 0));
        assert_eq!(found[1].count, Some(Count::CountInt(9)));
        assert_eq!(found[1].zero_count, Some(ZeroCount::ZeroCountInt(1)));
        assert_eq!((&found[1].positive_deltas[..], found[1].positive_counts.len()), (&[3, -2, 3][..], 0));
        let later = samples(&batch.series(0), TimeRange::new(2, 5)).histograms;
        assert_eq!(later, found[1..]);
        batch.histogram_kinds.clear();
        let unknown = samples(&batch.series(0), TimeRange::new(2, 5)).histograms;
        assert_eq!(unknown[0].count, Some(Count::CountFloat(9.0)));
    }

    #[test]
    fn chunks_of_histograms_are_of_the_kind_that_was_stored_and_hold_each_once() {
        let mut batch = SampleBatch::default();
        let kind = |at: i64| if (100..400).contains(&at) { CountKind::Integers } else { CountKind::Floats };
        let histogram = |at: i64| FloatHistogram {
            count: at as f64 + 8.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![3.0, 1.0, 4.0 + at as f64],
            ..FloatHistogram::default()
        };
        for at in 0..500 {
            batch.histograms.timestamps.push(at);
            batch.histograms.values.push(Arc::new(histogram(at)));
            batch.histogram_kinds.push(kind(at));
        }
        batch.finish_series(Arc::default());
        let memory = Budget::new("query.memory-limit", 1 << 20);
        let chunks = Frames::new(0, TimeRange::new(5, 1000), &memory).chunks(&batch.series(0));
        let mut read = Vec::new();
        for chunk in &chunks {
            let begin = read.len();
            let mut push = |time: i64, found: FloatHistogram, kind: CountKind| read.push((time, found, kind));
            match Encoding::try_from(chunk.r#type).unwrap() {
                Encoding::Histogram => native::decode(&chunk.data, |time, found: Histogram| {
                    push(time, found.to_float(), CountKind::Integers);
                }),
                _ => native::decode(&chunk.data, |time, found| push(time, found, CountKind::Floats)),
            }
            .unwrap();
            assert_eq!((chunk.min_time_ms, chunk.max_time_ms), (read[begin].0, read[read.len() - 1].0));
        }
        assert_eq!(read.iter().map(|(time, ..)| *time).collect::<Vec<_>>(), (5..500).collect::<Vec<_>>());
        for (time, found, of_kind) in read {
            assert!(found.same_data(&histogram(time)), "{time}");
            assert_eq!(of_kind, kind(time));
        }
    }

    #[test]
    fn a_chunk_ends_where_samples_of_another_kind_begin() {
        let mut batch = SampleBatch::default();
        for at in 0..400 {
            if (3..6).contains(&at) || (200..350).contains(&at) {
                batch.histograms.timestamps.push(at);
                batch.histograms.values.push(Arc::new(FloatHistogram {
                    counter_reset: CounterReset::No,
                    count: at as f64,
                    zero_count: at as f64,
                    zero_threshold: 1.0,
                    ..FloatHistogram::default()
                }));
                batch.histogram_kinds.push(if at < 300 { CountKind::Integers } else { CountKind::Floats });
            } else {
                batch.floats.push(at, at as f64);
            }
        }
        batch.finish_series(Arc::default());
        let memory = Budget::new("query.memory-limit", 1 << 20);
        let chunks = Frames::new(0, TimeRange::new(1, 390), &memory).chunks(&batch.series(0));
        let found: Vec<_> = chunks.iter().map(|chunk| (chunk.r#type(), chunk.min_time_ms, chunk.max_time_ms)).collect();
        let expected = [
            (Encoding::Xor, 1, 2),
            (Encoding::Histogram, 3, 5),
            (Encoding::Xor, 6, 125),
            (Encoding::Xor, 126, 199),
            (Encoding::Histogram, 200, 299),
            (Encoding::FloatHistogram, 300, 349),
            (Encoding::Xor, 350, 390),
        ];
        assert_eq!(found, expected);
        // Nothing is known of a reset behind floats, as in Prometheus.
        for of_integers in [1, 4] {
            let (count, reset) = native::header::<Histogram>(&chunks[of_integers].data).unwrap();
            assert_eq!((count as i64, reset), (found[of_integers].2 - found[of_integers].1 + 1, CounterReset::Unknown));
        }
    }

    #[test]
    fn a_long_series_is_cut_into_chunks_and_each_sample_comes_once() {
        let mut batch = SampleBatch::default();
        (0..500).for_each(|at| batch.floats.push(at * 1000, at as f64));
        batch.finish_series(Arc::new(Labels::from_pairs([("a", "b")])));
        let sent = RefCell::new(Vec::new());
        let memory = Budget::new("query.memory-limit", 1 << 20);
        let mut frames = Frames::new(3, TimeRange::new(10_000, 400_000), &memory);
        let send = |frame: Bytes| {
            sent.borrow_mut().push(frame);
            Ok(())
        };
        frames.push(&batch.series(0), &send).unwrap();
        let [frame] = sent.into_inner().try_into().unwrap();
        assert_eq!(memory.usage().used, frame.len() as u64, "a frame is held until it has been sent");
        let mut rest: &[u8] = &frame;
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (sum, message) = rest.split_first_chunk::<4>().unwrap();
        assert_eq!((message.len(), u32::from_be_bytes(*sum)), (len, engine::simd::crc32c::crc32c(message)));
        let message = ChunkedReadResponse::decode(message).unwrap();
        assert_eq!(message.query_index, 3);
        let chunks = &message.chunked_series[0].chunks;
        assert_eq!(chunks.len(), 4);
        let mut read = engine::model::FloatColumns::default();
        chunks.iter().for_each(|chunk| xor::decode(&chunk.data, &mut read).unwrap());
        assert_eq!(read.timestamps, (10..=400).map(|at| at * 1000).collect::<Vec<_>>());
        drop(frame);
        let _others = memory.reserve(memory.limit()).unwrap();
        let refused = frames.push(&batch.series(0), &|_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("query.memory-limit: "), "{refused}");
    }
}
