//! The zero bucket: widening it until it fits both of two histograms.

use super::FloatHistogram;
use super::bucket::Bucket;
use super::kahan::{Compensation, kahan_add};

/// What a zero bucket would hold at a greater threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Widened {
    pub(super) count: f64,
    pub(super) compensation: f64,
    /// The threshold asked for or, where that lies within a populated bucket, the end of the bucket.
    pub(super) threshold: f64,
}

impl FloatHistogram {
    /// The zero bucket as it would be with `threshold`, which is not less than the one it has.
    pub(super) fn widen_zero_bucket(&self, threshold: f64, kept: Option<&Compensation>) -> Widened {
        let start =
            Widened { count: self.zero_count, compensation: kept.map_or(0.0, |kept| kept.zero_count), threshold };
        if threshold == self.zero_threshold {
            return start;
        }
        let mut threshold = threshold;
        loop {
            let mut widened = Widened { threshold, ..start };
            widened.take_in(self.positive(), kept.map(|kept| &*kept.positive));
            let asked = widened.threshold;
            let mirrored =
                self.negative().map(|bucket| Bucket { lower: -bucket.upper, upper: -bucket.lower, ..bucket });
            widened.take_in(mirrored, kept.map(|kept| &*kept.negative));
            if widened.threshold == asked {
                return widened;
            }
            // The negative side moved the threshold, so that the positive side has to be redone.
            threshold = widened.threshold;
        }
    }

    /// Empties the buckets within the zero bucket, which has their counts already.
    fn trim_buckets_in_zero_bucket(&mut self, mut kept: Option<&mut Compensation>) {
        let positive = self.positive().take_while(|bucket| bucket.lower < self.zero_threshold).count();
        let negative = self.negative().take_while(|bucket| bucket.upper > -self.zero_threshold).count();
        self.positive_buckets[..positive].fill(0.0);
        self.negative_buckets[..negative].fill(0.0);
        if let Some(kept) = kept.as_deref_mut() {
            kept.positive[..positive].fill(0.0);
            kept.negative[..negative].fill(0.0);
        }
        self.edit_sides(kept, |side| side.compact(0));
    }

    /// Widens the zero bucket until it covers the other's and no populated bucket of either is cut.
    /// Gives the count (and its compensation) that the other's zero bucket would then have.
    pub(super) fn reconcile_zero_buckets(&mut self, other: &Self, mut kept: Option<&mut Compensation>) -> (f64, f64) {
        let mut theirs = Widened { count: other.zero_count, compensation: 0.0, threshold: other.zero_threshold };
        while theirs.threshold != self.zero_threshold {
            if self.zero_threshold > theirs.threshold {
                theirs = other.widen_zero_bucket(self.zero_threshold, None);
            }
            if theirs.threshold > self.zero_threshold {
                let ours = self.widen_zero_bucket(theirs.threshold, kept.as_deref());
                (self.zero_count, self.zero_threshold) = (ours.count, ours.threshold);
                if let Some(kept) = kept.as_deref_mut() {
                    kept.zero_count = ours.compensation;
                }
                self.trim_buckets_in_zero_bucket(kept.as_deref_mut());
            }
            if theirs.threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        (theirs.count, theirs.compensation)
    }
}

impl Widened {
    /// Takes in the buckets of one side that start below the threshold, from zero outwards.
    fn take_in(&mut self, buckets: impl Iterator<Item = Bucket>, kept: Option<&[f64]>) {
        for (at, bucket) in buckets.enumerate() {
            if bucket.lower >= self.threshold {
                return;
            }
            (self.count, self.compensation) = kahan_add(bucket.count, self.count, self.compensation);
            if let Some(kept) = kept.and_then(|kept| kept.get(at)) {
                (self.count, self.compensation) = kahan_add(*kept, self.count, self.compensation);
            }
            if bucket.upper > self.threshold {
                if bucket.count != 0.0 {
                    self.threshold = bucket.upper;
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    #[test]
    fn a_threshold_within_a_populated_bucket_moves_to_its_end() {
        let histogram = FloatHistogram {
            zero_threshold: 0.01,
            zero_count: 1.0,
            count: 10.0,
            positive_spans: vec![Span { offset: -1, length: 3 }],
            positive_buckets: vec![2.0, 3.0, 4.0],
            ..FloatHistogram::default()
        };
        let widened = histogram.widen_zero_bucket(0.6, None);
        assert_eq!((widened.count, widened.threshold), (6.0, 1.0));
        let mut sum = FloatHistogram { zero_threshold: 0.6, zero_count: 1.0, count: 1.0, ..FloatHistogram::default() };
        sum.add(&histogram).unwrap();
        assert_eq!((sum.zero_threshold, sum.zero_count), (1.0, 7.0));
        assert_eq!(sum.positive_buckets, [4.0]);
        assert_eq!(sum.positive_spans, [Span { offset: 1, length: 1 }]);
    }
}
