//! Kahan summation in Neumaier's form, of floats and of whole histograms.

use super::FloatHistogram;
use super::arithmetic::{Combined, MixedSchemas};

/// Adds `increment` to `sum` with its `compensation`; gives the new pair. An infinite sum needs no
/// compensation.
#[inline]
pub fn kahan_add(increment: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + increment;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= increment.abs() { (sum - total) + increment } else { (increment - total) + sum };
    (total, compensation + lost)
}

/// What is still to be added to a histogram, field by field and bucket by bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Compensation {
    pub(super) zero_count: f64,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) positive: Vec<f64>,
    pub(super) negative: Vec<f64>,
}

impl Compensation {
    fn for_layout_of(histogram: &FloatHistogram) -> Self {
        Self {
            positive: vec![0.0; histogram.positive_buckets.len()],
            negative: vec![0.0; histogram.negative_buckets.len()],
            ..Self::default()
        }
    }

    fn scale(&mut self, scale: impl Fn(f64) -> f64) {
        self.zero_count = scale(self.zero_count);
        self.count = scale(self.count);
        self.sum = scale(self.sum);
        for kept in self.positive.iter_mut().chain(&mut self.negative) {
            *kept = scale(*kept);
        }
    }
}

/// A sum of histograms with what rounding has lost from it.
#[derive(Clone, Debug)]
pub struct KahanSum {
    sum: FloatHistogram,
    compensation: Option<Compensation>,
}

impl KahanSum {
    /// A sum that starts with `first`.
    pub fn new(first: FloatHistogram) -> Self {
        Self { sum: first, compensation: None }
    }

    /// The sum so far, before compensation.
    pub fn sum(&self) -> &FloatHistogram {
        &self.sum
    }

    /// Adds `other`; see [`FloatHistogram::add`].
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, MixedSchemas> {
        self.sum.check_schemas(other)?;
        let compensation = self.compensation.get_or_insert_with(|| Compensation::for_layout_of(&self.sum));
        Ok(self.sum.combine(other, 1.0, Some(compensation)))
    }

    /// Adds another sum with what was lost from it.
    pub fn merge(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        let combined = self.add(&other.sum)?;
        if let Some(lost) = &other.compensation {
            let mut addend = other.sum.clone();
            addend.zero_count = lost.zero_count;
            addend.count = lost.count;
            addend.sum = lost.sum;
            addend.positive_buckets.copy_from_slice(&lost.positive);
            addend.negative_buckets.copy_from_slice(&lost.negative);
            self.add(&addend)?;
        }
        Ok(combined)
    }

    /// Multiplies the sum and its compensation.
    pub fn mul(&mut self, factor: f64) {
        self.sum.mul(factor);
        if let Some(compensation) = &mut self.compensation {
            compensation.scale(|kept| kept * factor);
        }
    }

    /// Divides the sum and its compensation.
    pub fn div(&mut self, divisor: f64) {
        self.sum.div(divisor);
        if let Some(compensation) = &mut self.compensation {
            compensation.scale(|kept| kept / divisor);
        }
    }

    /// The sum with its compensation added.
    pub fn finish(self) -> FloatHistogram {
        let Self { mut sum, compensation } = self;
        let Some(compensation) = compensation else { return sum };
        sum.zero_count += compensation.zero_count;
        sum.count += compensation.count;
        sum.sum += compensation.sum;
        for (count, kept) in sum.positive_buckets.iter_mut().zip(&compensation.positive) {
            *count += kept;
        }
        for (count, kept) in sum.negative_buckets.iter_mut().zip(&compensation.negative) {
            *count += kept;
        }
        sum
    }
}

/// The mean of histograms: their sum divided by their number or, once that overflows, moved
/// towards each histogram that comes.
#[derive(Clone, Debug)]
pub struct KahanMean {
    state: KahanSum,
    count: f64,
    incremental: bool,
}

impl KahanMean {
    /// The mean of `first` alone.
    pub fn new(first: FloatHistogram) -> Self {
        Self { state: KahanSum::new(first), count: 1.0, incremental: false }
    }

    /// Takes `other` into the mean; see [`FloatHistogram::add`].
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, MixedSchemas> {
        self.count += 1.0;
        let mut combined = Combined::default();
        if !self.incremental {
            let mut tried = self.state.clone();
            combined = tried.add(other)?;
            if !tried.sum.has_overflow() {
                self.state = tried;
                return Ok(combined);
            }
            self.incremental = true;
            self.state.div(self.count - 1.0);
        }
        self.state.mul((self.count - 1.0) / self.count);
        let mut share = other.clone();
        share.div(self.count);
        let again = self.state.add(&share)?;
        Ok(Combined {
            counter_reset_collision: combined.counter_reset_collision || again.counter_reset_collision,
            bounds_reconciled: combined.bounds_reconciled || again.bounds_reconciled,
        })
    }

    /// Takes the histograms of another mean into this one.
    pub fn merge(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        let total = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut tried = self.state.clone();
            let combined = tried.merge(&other.state)?;
            if !tried.sum.has_overflow() {
                (self.state, self.count) = (tried, total);
                return Ok(combined);
            }
        }
        let mut theirs = other.state.clone();
        if !other.incremental {
            theirs.div(other.count);
        }
        if !self.incremental {
            self.state.div(self.count);
            self.incremental = true;
        }
        theirs.mul(other.count / total);
        self.state.mul(self.count / total);
        self.count = total;
        self.state.merge(&theirs)
    }

    /// The mean with its compensation added.
    pub fn finish(mut self) -> FloatHistogram {
        if !self.incremental {
            self.state.div(self.count);
        }
        self.state.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_loses_is_kept() {
        let (mut sum, mut lost) = (0.0, 0.0);
        for increment in [1e16, 1.0, 1.0, -1e16] {
            (sum, lost) = kahan_add(increment, sum, lost);
        }
        assert_eq!(sum + lost, 2.0);
        assert_eq!(kahan_add(f64::MAX, f64::MAX, 1.0), (f64::INFINITY, 0.0));
    }

    #[test]
    fn merged_sums_keep_what_each_has_lost() {
        let of = |sum: f64| FloatHistogram { sum, count: 1.0, ..FloatHistogram::default() };
        let mut left = KahanSum::new(of(1e100));
        left.add(&of(1.0)).unwrap();
        let mut right = KahanSum::new(of(2.0));
        right.add(&of(-1e100)).unwrap();
        left.merge(&right).unwrap();
        assert_eq!(left.finish().sum, 3.0);
    }
}
