//! Trimming: keeping the observations on one side of a value (`</` and `>/` of PromQL).

use super::FloatHistogram;
use super::bucket::{Bucket, Spread};

/// Which observations are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Those above the value (`</`).
    Upper,
    /// Those below the value (`>/`).
    Lower,
}

/// The sign of a bucket's observations and how they are spread.
#[derive(Clone, Copy)]
struct Kind {
    sign: f64,
    spread: Spread,
}

/// What is left of a bucket and where its middle is.
#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    middle: f64,
}

impl FloatHistogram {
    /// Removes the observations on one side of `value`, estimating those of the bucket that holds
    /// it, and estimates count and sum anew if that removed any.
    pub fn trim(&mut self, value: f64, trim: Trim) {
        let spread = if self.uses_custom_buckets() { Spread::Linear } else { Spread::Exponential };
        let populated = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
        let (has_positive, has_negative) = (populated(&self.positive_buckets), populated(&self.negative_buckets));
        let positive = keep_each(self.positive(), value, trim, Kind { sign: 1.0, spread });
        let negative = keep_each(self.negative(), value, trim, Kind { sign: -1.0, spread });
        let mut zero = Kept { count: self.zero_count, middle: 0.0 };
        let has_zero = self.zero_count > 0.0;
        if has_zero {
            let mut bucket = self.zero_bucket();
            if has_negative && !has_positive {
                bucket.upper = 0.0;
            }
            if has_positive && !has_negative {
                bucket.lower = 0.0;
            }
            zero = keep_of_zero_bucket(&bucket, value, trim);
        }
        let counts = |kept: &[Kept]| kept.iter().map(|kept| kept.count).collect::<Vec<_>>();
        let (positive_counts, negative_counts) = (counts(&positive), counts(&negative));
        if positive_counts == self.positive_buckets
            && negative_counts == self.negative_buckets
            && (!has_zero || zero.count == self.zero_count)
        {
            return;
        }
        let (mut count, mut sum) = (0.0, 0.0);
        for kept in positive.iter().chain(&negative) {
            count += kept.count;
            sum += kept.middle * kept.count;
        }
        if has_zero {
            sum += zero.middle * zero.count;
            count += zero.count;
        }
        (self.positive_buckets, self.negative_buckets) = (positive_counts, negative_counts);
        (self.zero_count, self.count, self.sum) = (zero.count, count, sum);
        self.compact(0);
    }
}

fn keep_each(buckets: impl Iterator<Item = Bucket>, value: f64, trim: Trim, kind: Kind) -> Vec<Kept> {
    let keep = |bucket: Bucket| {
        if bucket.count == 0.0 { Kept { count: 0.0, middle: 0.0 } } else { keep_of_bucket(&bucket, value, trim, kind) }
    };
    buckets.map(keep).collect()
}

fn keep_of_bucket(bucket: &Bucket, value: f64, trim: Trim, kind: Kind) -> Kept {
    let (keeps_all, is_cut) = match trim {
        Trim::Upper => (bucket.upper <= value, bucket.lower < value),
        Trim::Lower => (bucket.lower >= value, bucket.upper > value),
    };
    if keeps_all {
        return Kept { count: bucket.count, middle: middle_of(bucket.lower, bucket.upper, kind) };
    }
    if !is_cut {
        return Kept { count: 0.0, middle: 0.0 };
    }
    if bucket.lower == f64::NEG_INFINITY {
        return keep_of_lowest(bucket, value, trim);
    }
    if bucket.upper == f64::INFINITY {
        return keep_of_highest(bucket, value, trim);
    }
    let below = if value <= bucket.lower {
        0.0
    } else if value >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(value, kind.spread)
    };
    match trim {
        Trim::Upper => Kept { count: below, middle: middle_of(bucket.lower, value, kind) },
        Trim::Lower => Kept { count: bucket.count - below, middle: middle_of(value, bucket.upper, kind) },
    }
}

/// Of a bucket that starts at -Inf: one that ends above zero is taken to start at zero.
fn keep_of_lowest(bucket: &Bucket, value: f64, trim: Trim) -> Kept {
    let finite = |value: f64| if value.is_infinite() { 0.0 } else { value };
    match trim {
        Trim::Upper if value >= bucket.upper => Kept { count: bucket.count, middle: 0.0 },
        Trim::Upper if value > 0.0 && bucket.upper > 0.0 && bucket.upper < f64::INFINITY => {
            Kept { count: bucket.count * value / bucket.upper, middle: value / 2.0 }
        }
        Trim::Upper if bucket.upper <= 0.0 => Kept { count: bucket.count, middle: value },
        Trim::Lower if value <= bucket.lower => Kept { count: bucket.count, middle: 0.0 },
        Trim::Lower if value >= 0.0 && bucket.upper > value && bucket.upper < f64::INFINITY => {
            Kept { count: bucket.count * (1.0 - value / bucket.upper), middle: (value + bucket.upper) / 2.0 }
        }
        _ => Kept { count: 0.0, middle: finite(bucket.upper) },
    }
}

/// Of a bucket that ends at +Inf nothing is known of the spread: it goes or stays whole.
fn keep_of_highest(bucket: &Bucket, value: f64, trim: Trim) -> Kept {
    if trim == Trim::Lower && value >= bucket.lower {
        return Kept { count: bucket.count, middle: value };
    }
    Kept { count: 0.0, middle: if bucket.lower.is_infinite() { 0.0 } else { bucket.lower } }
}

fn keep_of_zero_bucket(bucket: &Bucket, value: f64, trim: Trim) -> Kept {
    let all = Kept { count: bucket.count, middle: (bucket.lower + bucket.upper) / 2.0 };
    let none = Kept { count: 0.0, middle: 0.0 };
    let width = bucket.upper - bucket.lower;
    match trim {
        Trim::Upper if value <= bucket.lower => none,
        Trim::Upper if value >= bucket.upper => all,
        Trim::Upper => {
            Kept { count: bucket.count * ((value - bucket.lower) / width), middle: (bucket.lower + value) / 2.0 }
        }
        Trim::Lower if value <= bucket.lower => all,
        Trim::Lower if value >= bucket.upper => none,
        Trim::Lower => {
            Kept { count: bucket.count * ((bucket.upper - value) / width), middle: (value + bucket.upper) / 2.0 }
        }
    }
}

/// The middle of an interval: geometric for exponential buckets, arithmetic for others.
fn middle_of(lower: f64, upper: f64, kind: Kind) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if kind.spread == Spread::Linear => (lower + upper) / 2.0,
        (false, false) => kind.sign * (lower * upper).abs().sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    #[test]
    fn a_cut_bucket_keeps_its_share_on_the_logarithmic_scale() {
        let whole = FloatHistogram {
            count: 7.0,
            sum: 20.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 2.0, 4.0],
            ..FloatHistogram::default()
        };
        let mut lower = whole.clone();
        lower.trim(2f64.sqrt(), Trim::Upper);
        assert_eq!(lower.positive_buckets.len(), 2);
        assert!((lower.count - 2.0).abs() < 1e-12);
        let mut untouched = whole.clone();
        untouched.trim(0.5, Trim::Lower);
        assert_eq!(untouched, whole);
        let mut no_number = FloatHistogram { zero_count: f64::NAN, ..whole.clone() };
        no_number.trim(0.5, Trim::Lower);
        assert_eq!((no_number.count, no_number.sum), (whole.count, whole.sum));
        let mut empty = whole;
        empty.trim(100.0, Trim::Lower);
        assert!(empty.positive_buckets.is_empty() && empty.positive_spans.is_empty());
        assert_eq!((empty.count, empty.sum), (0.0, 0.0));
    }
}
