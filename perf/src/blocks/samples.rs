//! Values of series over time, encoded into chunks.

use engine::block::writer::ChunkData;
use engine::chunk::{Encoding, histogram, xor};
use engine::model::{CounterReset, Histogram, HistogramColumns, Span};

use super::fleet::{Kind, Series};
use crate::random::Random;

/// Samples of a chunk of floats, as Prometheus cuts them.
const FLOATS_PER_CHUNK: usize = 120;
/// Samples of a chunk of native histograms: about as many as Prometheus fits into a kilobyte.
const HISTOGRAMS_PER_CHUNK: usize = 64;
const BUCKETS: usize = 30;

/// When pods are scraped.
#[derive(Clone, Debug)]
pub struct Scrapes {
    /// Unix milliseconds of the block's start.
    pub start: i64,
    /// Unix milliseconds at which no scrape is due any more.
    pub end: i64,
    /// Milliseconds between scrapes.
    pub interval: i64,
    /// Milliseconds by which a scrape is late, at most.
    pub jitter: i64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Scrapes {
    /// Unix milliseconds at which `pod` is scraped.
    fn of_pod(&self, pod: u64) -> impl Iterator<Item = i64> {
        let mut random = Random::new(&[self.seed, self.start as u64, pod]);
        let first = self.start + random.below(self.interval as u64) as i64;
        let jitter = self.jitter.max(1) as u64;
        (first..self.end).step_by(self.interval as usize).map(move |time| time + random.below(jitter) as i64)
    }
}

/// The chunks of a series in a block.
#[derive(Debug, Default)]
pub struct Encoded {
    data: Vec<u8>,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    min_time: i64,
    max_time: i64,
    encoding: Encoding,
    end: usize,
}

impl Encoded {
    /// The chunks, in order.
    pub fn iter(&self) -> impl Iterator<Item = ChunkData<'_>> {
        let starts = std::iter::once(0).chain(self.chunks.iter().map(|chunk| chunk.end));
        self.chunks.iter().zip(starts).map(|(chunk, start)| ChunkData {
            min_time: chunk.min_time,
            max_time: chunk.max_time,
            encoding: chunk.encoding,
            data: &self.data[start..chunk.end],
        })
    }

    fn close(&mut self, encoding: Encoding, times: &[i64]) {
        let (min_time, max_time) = (times[0], times[times.len() - 1]);
        self.chunks.push(Chunk { min_time, max_time, encoding, end: self.data.len() });
    }
}

/// Lets `series` go on for the length of a block.
pub fn encode(series: &mut Series, scrapes: &Scrapes) -> Encoded {
    let times: Vec<i64> = scrapes.of_pod(series.pod).collect();
    let mut random = Random::new(&[scrapes.seed, scrapes.start as u64, series.seed, 1]);
    let mut encoded = Encoded::default();
    if series.kind == Kind::Native {
        encode_histograms(series, &times, &mut random, &mut encoded);
    } else {
        let seconds = scrapes.interval as f64 / 1000.0;
        let values = values(series, times.len(), seconds, &mut random);
        for (times, values) in times.chunks(FLOATS_PER_CHUNK).zip(values.chunks(FLOATS_PER_CHUNK)) {
            xor::encode(times, values, &mut encoded.data);
            encoded.close(Encoding::Xor, times);
        }
    }
    encoded
}

fn values(series: &mut Series, count: usize, seconds: f64, random: &mut Random) -> Vec<f64> {
    let mut value = series.value;
    let mut add = |amount: f64| {
        value += amount;
        value
    };
    let scrapes = 0..count;
    let values: Vec<f64> = match series.kind {
        Kind::Counter { rate } if rate >= 1.0 => {
            scrapes.map(|_| add((rate * seconds * (0.8 + 0.4 * random.unit())).floor())).collect()
        }
        Kind::Counter { rate } => scrapes.map(|_| add(rate * seconds * (0.8 + 0.4 * random.unit()))).collect(),
        Kind::Errors => scrapes.map(|_| add(f64::from(u8::from(random.unit() < 0.05)))).collect(),
        Kind::Bytes => {
            let wander = |random: &mut Random| (random.below(2001) as f64 - 1000.0) * 4096.0;
            scrapes.map(|_| add(if random.unit() < 0.5 { wander(random) } else { 0.0 })).collect()
        }
        Kind::Ratio => scrapes.map(|_| random.unit()).collect(),
        Kind::Constant | Kind::Native => vec![value; count],
    };
    series.value = values.last().copied().unwrap_or(series.value);
    values
}

fn encode_histograms(series: &mut Series, times: &[i64], random: &mut Random, encoded: &mut Encoded) {
    let state = series.histogram.get_or_insert_with(|| Box::new(first_histogram()));
    for (at, times) in times.chunks(HISTOGRAMS_PER_CHUNK).enumerate() {
        let mut columns = HistogramColumns { timestamps: times.to_vec(), values: Vec::with_capacity(times.len()) };
        for _ in times {
            let bucket = random.below(BUCKETS as u64 - 1) as usize;
            state.positive_buckets[bucket] += 3;
            state.positive_buckets[bucket + 1] -= 3;
            state.count += 3;
            state.sum += 3.0 * random.unit();
            columns.values.push((**state).clone());
        }
        let counter_reset = if at == 0 { CounterReset::Unknown } else { CounterReset::No };
        histogram::encode(&columns, counter_reset, &mut encoded.data);
        encoded.close(Encoding::Histogram, times);
    }
}

fn first_histogram() -> Histogram {
    Histogram {
        counter_reset: CounterReset::Unknown,
        schema: 3,
        zero_threshold: 1e-128,
        positive_spans: vec![Span { offset: -20, length: BUCKETS as u32 }],
        positive_buckets: vec![0; BUCKETS],
        ..Histogram::default()
    }
}
