//! One native histogram: quantiles, fractions, mean and variance. Positions within a bucket are
//! interpolated on the logarithmic scale of exponential buckets, else linearly.

use crate::model::FloatHistogram;
use crate::model::histogram::{Bucket, Spread, kahan_add};

use super::super::exec::elementary::{exp2, log2};
use super::notes::{Note, Notes};

/// Mean observation.
pub fn avg(histogram: &FloatHistogram) -> f64 {
    histogram.sum / histogram.count
}

/// Estimated variance: every observation of a bucket is taken to be in its middle.
pub fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = avg(histogram);
    let (mut sum, mut compensation) = (0.0, 0.0);
    for bucket in histogram.all().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = middle - mean;
        (sum, compensation) = kahan_add(bucket.count * delta * delta, sum, compensation);
    }
    (sum + compensation) / histogram.count
}

/// Quantile `quantile`: NaN without observations or for a NaN quantile, an infinity for one outside
/// of [0, 1]. NaN observations count as greater than all others.
pub fn quantile(quantile: f64, histogram: &FloatHistogram, notes: &mut Notes) -> f64 {
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    if histogram.count == 0.0 || quantile.is_nan() {
        return f64::NAN;
    }
    let has_nan_sum = histogram.sum.is_nan();
    let forwards = has_nan_sum || quantile < 0.5;
    let rank = if forwards { quantile * histogram.count } else { (1.0 - quantile) * histogram.count };
    let mut buckets = histogram.all();
    let (mut bucket, mut count) =
        if forwards { walk(&mut buckets, rank) } else { walk(&mut histogram.all().rev(), rank) };
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow_zero_bucket(&mut bucket, histogram);
    }
    if count > histogram.count {
        count = histogram.count;
    }
    if count < rank {
        if has_nan_sum {
            notes.add(Note::QuantileIsNan);
            return f64::NAN;
        }
        return bucket.upper;
    }
    let rank = if forwards { rank - (count - bucket.count) } else { count - rank };
    if has_nan_sum {
        for rest in buckets {
            bucket = rest;
            count += bucket.count;
        }
        if count < histogram.count {
            notes.add(Note::QuantileIsSkewed);
        }
    }
    let fraction = rank / bucket.count;
    if histogram.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    if bucket.lower > 0.0 {
        exp2(lower + (upper - lower) * fraction)
    } else {
        -exp2(upper + (lower - upper) * (1.0 - fraction))
    }
}

/// Walks to the bucket that holds `rank`; gives the last bucket seen and the observations so far.
fn walk(buckets: &mut impl Iterator<Item = Bucket>, rank: f64) -> (Bucket, f64) {
    let mut last =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0, index: 0 };
    let mut count = 0.0;
    for bucket in buckets {
        last = bucket;
        if bucket.count != 0.0 {
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
    }
    (last, count)
}

/// A histogram with buckets on one side only has no observations on the other side of zero.
fn narrow_zero_bucket(bucket: &mut Bucket, histogram: &FloatHistogram) {
    match (histogram.negative_buckets.is_empty(), histogram.positive_buckets.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The fraction of observations between `lower` and `upper`: NaN without observations or where one
/// of them is NaN, zero where they are reversed.
pub fn fraction(lower: f64, upper: f64, histogram: &FloatHistogram, notes: &mut Notes) -> f64 {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut count = histogram.count;
    if histogram.sum.is_nan() {
        count = histogram.all().map(|bucket| bucket.count).sum();
        if count < histogram.count {
            notes.add(Note::NansInNoFraction);
        }
    }
    let clamp = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
    (clamp(rank_of(upper, histogram)) - clamp(rank_of(lower, histogram))) / histogram.count
}

/// How many observations are at most `value`, interpolated; `None` beyond the last bucket.
fn rank_of(value: f64, histogram: &FloatHistogram) -> Option<f64> {
    let mut rank = 0.0;
    for mut bucket in histogram.all() {
        let is_zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero_bucket {
            narrow_zero_bucket(&mut bucket, histogram);
        }
        if bucket.lower >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            let linear = histogram.uses_custom_buckets() || is_zero_bucket;
            if linear && bucket.lower == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            let spread = if linear { Spread::Linear } else { Spread::Exponential };
            return Some(rank + bucket.count * bucket.fraction_below(value, spread));
        }
        rank += bucket.count;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Span;
    use crate::model::histogram::CUSTOM_BUCKETS_SCHEMA;

    fn exponential(offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            count: counts.iter().sum(),
            sum: 1.0,
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn quantiles_are_interpolated_on_the_buckets_scale() {
        let mut notes = Notes::default();
        let mut of = |q, histogram: &FloatHistogram| quantile(q, histogram, &mut notes);
        let histogram = exponential(1, &[2.0, 4.0]);
        assert!((of(1.0 / 6.0, &histogram) - 2f64.sqrt()).abs() < 1e-12);
        assert!((of(4.0 / 6.0, &histogram) - 8f64.sqrt()).abs() < 1e-12);
        assert_eq!(of(1.0, &histogram), 4.0);
        let custom = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: Arc::from([10.0, 20.0]),
            ..exponential(0, &[2.0, 4.0, 2.0])
        };
        assert_eq!(of(0.125, &custom), 5.0);
        assert_eq!(of(0.5, &custom), 15.0);
        assert_eq!(of(0.99, &custom), 20.0);
        assert!(of(0.5, &FloatHistogram::default()).is_nan());
        assert!(notes.is_empty());
    }

    #[test]
    fn nan_observations_lie_above_all_buckets() {
        let histogram = FloatHistogram { count: 10.0, sum: f64::NAN, ..exponential(1, &[4.0]) };
        let mut notes = Notes::default();
        assert!(quantile(0.9, &histogram, &mut notes).is_nan());
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::QuantileIsNan]);
        let mut notes = Notes::default();
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &histogram, &mut notes), 0.4);
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::NansInNoFraction]);
    }

    #[test]
    fn the_variance_is_that_of_the_buckets_middles() {
        let histogram = FloatHistogram { sum: 6.0 * 2f64.sqrt(), ..exponential(1, &[6.0]) };
        assert!(variance(&histogram) < 1e-24);
    }
}
