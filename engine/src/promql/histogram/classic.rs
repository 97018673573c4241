//! Classic histograms: quantiles and fractions by linear interpolation between the upper bounds of
//! cumulative counts.

use crate::model::value::almost_equal;

/// One bucket of a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicBucket {
    /// The bound that its `le` label gives; never NaN.
    pub upper_bound: f64,
    /// Observations up to the bound.
    pub count: f64,
}

/// Where counts had to be raised because they went down from one bound to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forced {
    /// Lowest bound of a raised count.
    pub min_bucket: f64,
    /// Highest bound of a raised count.
    pub max_bucket: f64,
    /// By how much a count was raised at most.
    pub max_diff: f64,
}

/// A quantile and whether the counts had to be raised for it.
#[derive(Clone, Copy, Debug)]
pub struct ClassicQuantile {
    /// The quantile.
    pub value: f64,
    /// What was raised, where anything was.
    pub forced: Option<Forced>,
}

/// Counts of neighbouring buckets that differ by less than this, relatively, are taken as equal.
const SMALL_DELTA: f64 = 1e-12;

/// Quantile `quantile` of a histogram, whose `buckets` (at least one) are sorted, merged and made
/// monotonic on the way.
///
/// NaN without a bucket that ends at +Inf, without observations and for a NaN quantile; an infinity
/// for a quantile outside of [0, 1]. In the last bucket it is that bucket's lower bound; a lowest
/// bucket that ends above zero is taken to start at zero.
pub fn quantile(quantile: f64, buckets: &mut Vec<ClassicBucket>) -> ClassicQuantile {
    let plain = |value| ClassicQuantile { value, forced: None };
    if quantile.is_nan() {
        return plain(f64::NAN);
    }
    if quantile < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if quantile > 1.0 {
        return plain(f64::INFINITY);
    }
    if !sort_and_merge(buckets) {
        return plain(f64::NAN);
    }
    let forced = make_monotonic(buckets);
    ClassicQuantile { value: interpolate(quantile, buckets), forced }
}

/// The quantile of sorted, monotonic buckets of which the last ends at +Inf.
fn interpolate(quantile: f64, buckets: &[ClassicBucket]) -> f64 {
    let [.., second_last, last] = buckets else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let rank = quantile * last.count;
    let at = buckets[..buckets.len() - 1]
        .partition_point(|bucket| bucket.count < rank || bucket.count.is_nan() || rank.is_nan());
    if at == buckets.len() - 1 {
        return second_last.upper_bound;
    }
    let bucket = buckets[at];
    if at == 0 {
        if bucket.upper_bound <= 0.0 {
            return bucket.upper_bound;
        }
        return bucket.upper_bound * (rank / bucket.count);
    }
    let before = buckets[at - 1];
    let share = (rank - before.count) / (bucket.count - before.count);
    before.upper_bound + (bucket.upper_bound - before.upper_bound) * share
}

/// The fraction of observations between `lower` and `upper` of a histogram, whose `buckets` (at
/// least one) are sorted and merged on the way. NaN where [`quantile`] would be.
pub fn fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !sort_and_merge(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, count) - rank_of(lower, buckets, count)) / count
}

/// How many observations are at most `value`, interpolated; at most `count`.
fn rank_of(value: f64, buckets: &[ClassicBucket], count: f64) -> f64 {
    let mut start = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut rank = 0.0;
    for bucket in buckets {
        if start >= value {
            return clamp(rank, count);
        }
        if bucket.upper_bound > value {
            if start == f64::NEG_INFINITY {
                return clamp(bucket.count, count);
            }
            let width = bucket.upper_bound - start;
            return clamp(rank + (bucket.count - rank) * (value - start) / width, count);
        }
        (start, rank) = (bucket.upper_bound, bucket.count);
    }
    count
}

fn clamp(rank: f64, count: f64) -> f64 {
    if rank > count { count } else { rank }
}

/// Sorts by bound and adds up the counts of equal bounds; gives whether the last is +Inf.
fn sort_and_merge(buckets: &mut Vec<ClassicBucket>) -> bool {
    let ascends = |pair: &[ClassicBucket]| pair[0].upper_bound < pair[1].upper_bound;
    if !buckets.windows(2).all(ascends) {
        buckets.sort_by(|left, right| left.upper_bound.total_cmp(&right.upper_bound));
        buckets.dedup_by(|next, kept| {
            let same = next.upper_bound == kept.upper_bound;
            if same {
                kept.count += next.count;
            }
            same
        });
    }
    buckets.last().is_some_and(|last| last.upper_bound == f64::INFINITY)
}

/// Raises counts that are less than the one before them, and levels those that differ from it by
/// rounding only. Gives what was raised.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if almost_equal(before, count, SMALL_DELTA) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let (bound, diff) = (bucket.upper_bound, before - count);
            let known = forced.get_or_insert(Forced { min_bucket: bound, max_bucket: bound, max_diff: 0.0 });
            known.min_bucket = known.min_bucket.min(bound);
            known.max_bucket = known.max_bucket.max(bound);
            known.max_diff = known.max_diff.max(diff);
        } else {
            before = count;
        }
    }
    forced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
        pairs.iter().map(|(upper_bound, count)| ClassicBucket { upper_bound: *upper_bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_are_interpolated_between_bounds() {
        let of = |q, pairs: &[(f64, f64)]| quantile(q, &mut buckets(pairs)).value;
        let histogram = [(f64::INFINITY, 10.0), (1.0, 4.0), (2.0, 8.0)];
        assert_eq!(of(0.2, &histogram), 0.5);
        assert_eq!(of(0.6, &histogram), 1.5);
        assert_eq!(of(0.9, &histogram), 2.0);
        assert_eq!(of(-1.0, &histogram), f64::NEG_INFINITY);
        assert_eq!(of(0.1, &[(-1.0, 5.0), (f64::INFINITY, 5.0)]), -1.0);
        assert!(of(0.5, &histogram[1..]).is_nan());
        assert!(of(0.5, &[(1.0, 0.0), (f64::INFINITY, 0.0)]).is_nan());
    }

    #[test]
    fn counts_that_go_down_are_raised_and_told() {
        let result = quantile(0.5, &mut buckets(&[(1.0, 4.0), (2.0, 3.0), (3.0, 1.0), (f64::INFINITY, 8.0)]));
        assert_eq!(result.forced, Some(Forced { min_bucket: 2.0, max_bucket: 3.0, max_diff: 3.0 }));
        assert_eq!(result.value, 1.0);
        let rounding = quantile(0.5, &mut buckets(&[(1.0, 4.0), (2.0, 4.0 - 1e-15), (f64::INFINITY, 4.0)]));
        assert_eq!(rounding.forced, None);
    }

    #[test]
    fn fractions_are_the_inverse_of_quantiles() {
        let of = |lower, upper| fraction(lower, upper, &mut buckets(&[(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)]));
        assert_eq!(of(f64::NEG_INFINITY, 1.5), 0.6);
        assert_eq!(of(0.5, 1.0), 0.2);
        assert_eq!(of(3.0, f64::INFINITY), 0.2);
        assert_eq!(of(1.0, 1.0), 0.0);
        assert!(of(f64::NAN, 1.0).is_nan());
    }
}
