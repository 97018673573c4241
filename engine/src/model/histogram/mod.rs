//! Native histograms: exponential buckets of a schema, or custom bounds (schema -53).

use std::sync::Arc;

use super::error::Error;
use super::value::is_stale_nan;

mod arithmetic;
mod bounds;
mod bucket;
mod custom;
mod kahan;
mod layout;
mod reset;
mod text;
mod trim;
mod validate;
mod zero;

pub use arithmetic::{Combined, MixedSchemas};
pub use bounds::{SCHEMA_MAX, SCHEMA_MIN, bound, exponential_bound};
pub use bucket::{Bucket, Spread};
pub use kahan::{KahanMean, KahanSum, kahan_add};
pub use trim::Trim;

/// The schema whose bucket bounds are given one by one (`custom_values`).
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of consecutive buckets, `offset` buckets after the end of the run before it; of the first
/// run, its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the previous span, or the index of the first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known of a counter reset between the previous histogram and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum CounterReset {
    /// Nothing is known: compare to find out.
    #[default]
    Unknown = 0,
    /// There was a reset.
    Yes = 1,
    /// There was none.
    No = 2,
    /// A gauge histogram, which has no resets.
    Gauge = 3,
}

/// A histogram of integer counts; bucket counts are deltas to the bucket before.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Histogram {
    /// What is known of a reset before it.
    pub counter_reset: CounterReset,
    /// Resolution: bounds grow by `2^(2^-schema)`; -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations; the stale marker makes the whole histogram stale.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets, each as the difference to the one before.
    pub positive_buckets: Vec<i64>,
    /// Counts of the negative buckets, each as the difference to the one before.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds of custom buckets, ascending, without the last (+Inf); empty otherwise.
    pub custom_values: Arc<[f64]>,
}

/// A histogram of float counts; bucket counts are absolute.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FloatHistogram {
    /// What is known of a reset before it.
    pub counter_reset: CounterReset,
    /// Resolution: bounds grow by `2^(2^-schema)`; -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker makes the whole histogram stale.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without the last (+Inf); empty otherwise.
    pub custom_values: Arc<[f64]>,
}

/// A histogram of either kind, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramValue {
    /// Of integer counts.
    Integer(Box<Histogram>),
    /// Of float counts.
    Float(Box<FloatHistogram>),
}

impl HistogramValue {
    /// Whether it is consistent, in Prometheus' words; a stale one always is.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            _ if self.is_stale() => Ok(()),
            Self::Integer(histogram) => histogram.validate(),
            Self::Float(histogram) => histogram.validate(),
        }
    }

    /// Whether its sum is the stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale_nan(match self {
            Self::Integer(histogram) => histogram.sum,
            Self::Float(histogram) => histogram.sum,
        })
    }

    /// How many spans it has, and how many buckets and bounds.
    pub fn lens(&self) -> (usize, usize) {
        match self {
            Self::Integer(found) => (
                found.positive_spans.len() + found.negative_spans.len(),
                found.positive_buckets.len() + found.negative_buckets.len() + found.custom_values.len(),
            ),
            Self::Float(found) => (
                found.positive_spans.len() + found.negative_spans.len(),
                found.positive_buckets.len() + found.negative_buckets.len() + found.custom_values.len(),
            ),
        }
    }

    /// Whether both are of one kind and hold the same data, floats compared bit by bit; what they say
    /// of resets is not compared.
    pub fn same_data(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => left.to_float().same_data(&right.to_float()),
            (Self::Float(left), Self::Float(right)) => left.same_data(right),
            _ => false,
        }
    }
}

impl Histogram {
    /// The same histogram with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: Arc::clone(&self.custom_values),
        }
    }
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    deltas
        .iter()
        .scan(0i64, |count, delta| {
            *count = count.wrapping_add(*delta);
            Some(*count as f64)
        })
        .collect()
}

impl FloatHistogram {
    /// Whether both hold the same data, float bits compared: NaNs equal themselves, and spans may
    /// be cut differently. The counter reset hint is not compared.
    pub fn same_data(&self, other: &Self) -> bool {
        let same = |left: &[f64], right: &[f64]| {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.to_bits() == right.to_bits())
        };
        self.schema == other.schema
            && same(&[self.count, self.sum, self.zero_count], &[other.count, other.sum, other.zero_count])
            && self.zero_threshold == other.zero_threshold
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && same(&self.positive_buckets, &other.positive_buckets)
            && same(&self.negative_buckets, &other.negative_buckets)
            && bucket::Indexes::new(&self.positive_spans, usize::MAX)
                .eq(bucket::Indexes::new(&other.positive_spans, usize::MAX))
            && bucket::Indexes::new(&self.negative_spans, usize::MAX)
                .eq(bucket::Indexes::new(&other.negative_spans, usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram with positive buckets and small integer counts, made from `seed`.
    pub(super) fn random(seed: u64) -> FloatHistogram {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % limit
        };
        let mut histogram = FloatHistogram { schema: below(4) as i32 - 1, ..FloatHistogram::default() };
        for at in 0..below(5) {
            let offset = if at == 0 { below(20) as i32 - 10 } else { below(4) as i32 };
            let length = below(4) as u32;
            histogram.positive_spans.push(Span { offset, length });
            for _ in 0..length {
                histogram.positive_buckets.push(below(5) as f64);
            }
        }
        histogram.count = histogram.positive_buckets.iter().sum();
        histogram
    }

    #[test]
    fn buckets_walked_backwards_are_those_walked_forwards() {
        for seed in 0..300 {
            let histogram = random(seed);
            let forwards: Vec<_> = histogram.all().collect();
            let mut backwards: Vec<_> = histogram.all().rev().collect();
            backwards.reverse();
            assert_eq!(forwards, backwards, "seed {seed}");
            assert_eq!(forwards.len(), histogram.positive_buckets.len());
        }
    }

    #[test]
    fn spans_that_promise_more_buckets_than_there_are_do_no_harm() {
        let histogram = FloatHistogram {
            positive_spans: vec![Span { offset: i32::MAX, length: 3 }, Span { offset: 5, length: 9 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        assert_eq!(histogram.all().count(), 2);
        assert_eq!(histogram.all().rev().count(), 2);
    }

    #[test]
    fn equality_of_data_looks_at_bits_and_places() {
        let with = |sum, spans: &[(i32, u32)]| FloatHistogram {
            sum,
            positive_spans: spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect(),
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        assert!(with(f64::NAN, &[(0, 2)]).same_data(&with(f64::NAN, &[(0, 1), (0, 0), (0, 1)])));
        assert!(!with(1.0, &[(0, 2)]).same_data(&with(1.0, &[(0, 1), (1, 1)])));
    }
}
