//! How large the chunks are that heads are cut into, in the buckets in which Prometheus counts them.

use crate::block::writer::{ChunkData, sample_count};
use crate::codec::Corrupt;

/// Most buckets of a distribution, the last of which has no bound.
const BUCKETS_MAX: usize = 15;

/// Upper bounds of the buckets of a distribution, but for the last: each so many times the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    first: f64,
    factor: f64,
    len: usize,
}

const BYTES: Bounds = Bounds { first: 32.0, factor: 1.5, len: 12 };
const SAMPLES: Bounds = Bounds { first: 4.0, factor: 1.5, len: 12 };
const RANGES: Bounds = Bounds { first: 100.0, factor: 4.0, len: 10 };
const DURATIONS_MS: Bounds = Bounds { first: 1000.0, factor: 2.0, len: 14 };

impl Bounds {
    fn iter(self) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.first), move |bound| Some(bound * self.factor)).take(self.len)
    }
}

/// Numbers counted in buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    bounds: Bounds,
    counts: [u64; BUCKETS_MAX],
    sum: u64,
}

impl Distribution {
    fn new(bounds: Bounds) -> Self {
        assert!(bounds.len < BUCKETS_MAX, "the last bucket has no bound");
        Self { bounds, counts: [0; BUCKETS_MAX], sum: 0 }
    }

    /// Of the milliseconds that compactions took.
    pub fn of_durations_ms() -> Self {
        Self::new(DURATIONS_MS)
    }

    /// Counts a number.
    pub fn count(&mut self, value: u64) {
        self.counts[self.bounds.iter().take_while(|bound| value as f64 > *bound).count()] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, count)| *own += count);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Upper bounds and the numbers between each and the one before; the last bound is infinite.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        self.bounds.iter().chain([f64::INFINITY]).zip(self.counts).collect()
    }

    /// The sum of all numbers.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// Chunks that heads were cut into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkShapes {
    /// Bytes of each.
    pub bytes: Distribution,
    /// Samples of each.
    pub samples: Distribution,
    /// Milliseconds from the first to the last sample of each.
    pub ranges: Distribution,
}

impl Default for ChunkShapes {
    fn default() -> Self {
        let [bytes, samples, ranges] = [BYTES, SAMPLES, RANGES].map(Distribution::new);
        Self { bytes, samples, ranges }
    }
}

impl ChunkShapes {
    /// Counts a chunk.
    pub fn count(&mut self, chunk: &ChunkData<'_>) -> Result<(), Corrupt> {
        self.bytes.count(chunk.data.len() as u64);
        self.samples.count(u64::from(sample_count(chunk.encoding, chunk.data)?));
        self.ranges.count(chunk.max_time.saturating_sub(chunk.min_time).max(0) as u64);
        Ok(())
    }

    /// Counts what `other` has counted.
    pub fn add(&mut self, other: &Self) {
        self.bytes.add(&other.bytes);
        self.samples.add(&other.samples);
        self.ranges.add(&other.ranges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Encoding;

    #[test]
    fn chunks_are_counted_in_the_buckets_of_prometheus() {
        let data = [&[0, 6][..], &[0; 30]].concat();
        let chunk = |max_time| ChunkData { min_time: 1, max_time, encoding: Encoding::Xor, data: &data };
        let mut shapes = ChunkShapes::default();
        shapes.count(&chunk(101)).unwrap();
        shapes.count(&chunk(i64::MAX)).unwrap();
        shapes.add(&shapes.clone());
        let last = |found: &Distribution| found.buckets()[found.buckets().len() - 2].0;
        assert_eq!(
            [&shapes.bytes, &shapes.samples, &shapes.ranges].map(last),
            [2767.921875, 345.990234375, 26_214_400.0]
        );
        assert_eq!((shapes.bytes.buckets()[0], shapes.bytes.sum()), ((32.0, 4), 128));
        assert_eq!((shapes.samples.buckets()[1], shapes.samples.sum()), ((6.0, 4), 24));
        assert_eq!((shapes.ranges.buckets()[0], shapes.ranges.buckets()[10]), ((100.0, 2), (f64::INFINITY, 2)));
    }
}
