//! Whether a histogram is consistent, in Prometheus' words.

use super::bounds::{SCHEMA_MAX, SCHEMA_MIN};
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};
use crate::model::Error;
use crate::model::float_text::{Notation, format_float_as};

impl FloatHistogram {
    /// Whether spans fit the buckets, no count is negative and only the fields of the schema's kind
    /// are used.
    pub fn validate(&self) -> Result<(), Error> {
        let layout = Layout {
            schema: self.schema,
            zero_is_used: (self.zero_count != 0.0, self.zero_threshold != 0.0),
            positive: (&self.positive_spans, self.positive_buckets.len()),
            negative: (&self.negative_spans, self.negative_buckets.len()),
            custom_values: &self.custom_values,
        };
        layout.check()?;
        check_counts(self.negative_buckets.iter().copied()).map_err(|error| error.within("negative side"))?;
        if self.zero_count < 0.0 {
            let count = format_float_as(self.zero_count, Notation::General);
            return Err(Error::invalid(format!("zero bucket has observation count of {count}: {NEGATIVE_BUCKET}")));
        }
        if self.count < 0.0 {
            let count = format_float_as(self.count, Notation::General);
            return Err(Error::invalid(format!("observation count is  {count}: {NEGATIVE_COUNT}")));
        }
        check_counts(self.positive_buckets.iter().copied()).map_err(|error| error.within("positive side"))
    }
}

impl Histogram {
    /// As [`FloatHistogram::validate`]; and the buckets' counts add up to the count, or to no more
    /// than it where the sum is NaN.
    pub fn validate(&self) -> Result<(), Error> {
        let layout = Layout {
            schema: self.schema,
            zero_is_used: (self.zero_count != 0, self.zero_threshold != 0.0),
            positive: (&self.positive_spans, self.positive_buckets.len()),
            negative: (&self.negative_spans, self.negative_buckets.len()),
            custom_values: &self.custom_values,
        };
        layout.check()?;
        let negative = sum_deltas(&self.negative_buckets).map_err(|error| error.within("negative side"))?;
        let positive = sum_deltas(&self.positive_buckets).map_err(|error| error.within("positive side"))?;
        let found = negative.wrapping_add(positive).wrapping_add(self.zero_count);
        let rule = if self.sum.is_nan() {
            (found > self.count).then_some(COUNT_TOO_SMALL)
        } else {
            (found != self.count).then_some(COUNT_MISMATCH)
        };
        match rule {
            None => Ok(()),
            Some(rule) => {
                let count = self.count;
                let message = format!("{found} observations found in buckets, but the Count field is {count}: {rule}");
                Err(Error::invalid(message))
            }
        }
    }
}

const NEGATIVE_BUCKET: &str = "histogram has a bucket whose observation count is negative";
const NEGATIVE_COUNT: &str = "histogram's observation count is negative";
const NEGATIVE_OFFSET: &str = "histogram has a span whose offset is negative";
const SPANS_MISMATCH: &str = "histogram spans specify different number of buckets than provided";
const COUNT_TOO_SMALL: &str =
    "histogram's observation count should be at least the number of observations found in the buckets";
const COUNT_MISMATCH: &str =
    "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)";

/// What a histogram says of its buckets' places.
struct Layout<'a> {
    schema: i32,
    /// Whether there is a zero count, and a zero threshold.
    zero_is_used: (bool, bool),
    /// Spans and number of buckets.
    positive: (&'a [Span], usize),
    negative: (&'a [Span], usize),
    custom_values: &'a [f64],
}

impl Layout<'_> {
    fn check(&self) -> Result<(), Error> {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            return self.check_custom();
        }
        if !(SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            return Err(Error::invalid(format!(
                "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for exponential \
                 buckets, or {CUSTOM_BUCKETS_SCHEMA} for custom buckets, got schema {}",
                self.schema
            )));
        }
        check_spans(self.positive, 1).map_err(|error| error.within("positive side"))?;
        check_spans(self.negative, 1).map_err(|error| error.within("negative side"))?;
        if !self.custom_values.is_empty() {
            return Err(Error::invalid("histogram with exponential schema must not have custom bounds"));
        }
        Ok(())
    }

    fn check_custom(&self) -> Result<(), Error> {
        check_bounds(self.custom_values).map_err(|error| error.within("custom buckets"))?;
        check_spans(self.positive, 0).map_err(|error| error.within("custom buckets"))?;
        let covered: u64 =
            self.positive.0.iter().map(|span| u64::from(span.length) + u64::from(span.offset.max(0) as u32)).sum();
        let bounds = self.custom_values.len();
        if (bounds as u64 + 1) < covered {
            return Err(Error::invalid(format!(
                "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length \
                 of {covered}: histogram custom bounds are too few"
            )));
        }
        let rules = [
            (self.zero_is_used.0, "custom buckets: must have zero count of 0"),
            (self.zero_is_used.1, "custom buckets: must have zero threshold of 0"),
            (!self.negative.0.is_empty(), "custom buckets: must not have negative spans"),
            (self.negative.1 > 0, "custom buckets: must not have negative buckets"),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, rule)) => Err(Error::invalid(rule)),
            None => Ok(()),
        }
    }
}

/// Spans from number `first_checked` on must not go back; together they must have `buckets` buckets.
fn check_spans((spans, buckets): (&[Span], usize), first_checked: usize) -> Result<(), Error> {
    for (at, span) in spans.iter().enumerate().skip(first_checked) {
        if span.offset < 0 {
            let (number, offset) = (at + 1, span.offset);
            return Err(Error::invalid(format!("span number {number} with offset {offset}: {NEGATIVE_OFFSET}")));
        }
    }
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed == buckets as u64 {
        return Ok(());
    }
    Err(Error::invalid(format!("spans need {needed} buckets, have {buckets} buckets: {SPANS_MISMATCH}")))
}

fn check_bounds(bounds: &[f64]) -> Result<(), Error> {
    if bounds.iter().any(|bound| bound.is_nan()) {
        return Err(Error::invalid("histogram custom bounds must not be NaN"));
    }
    if let Some(pair) = bounds.windows(2).find(|pair| pair[1] <= pair[0]) {
        return Err(Error::invalid(format!(
            "previous bound is {:.6} and current is {:.6}: histogram custom bounds must be in strictly increasing order",
            pair[0], pair[1]
        )));
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(Error::invalid(
            "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        ));
    }
    Ok(())
}

fn check_counts(mut counts: impl Iterator<Item = f64>) -> Result<(), Error> {
    let mut number = 0;
    match counts.find(|count| (number += 1, *count < 0.0).1) {
        None => Ok(()),
        Some(count) => {
            let count = format_float_as(count, Notation::General);
            Err(Error::invalid(format!("bucket number {number} has observation count of {count}: {NEGATIVE_BUCKET}")))
        }
    }
}

fn sum_deltas(deltas: &[i64]) -> Result<u64, Error> {
    let (mut count, mut sum) = (0i64, 0u64);
    for (at, delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(*delta);
        if count < 0 {
            let number = at + 1;
            return Err(Error::invalid(format!(
                "bucket number {number} has observation count of {count}: {NEGATIVE_BUCKET}"
            )));
        }
        sum = sum.wrapping_add(count as u64);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inconsistent_is_named_in_prometheus_words() {
        let good = FloatHistogram {
            count: 3.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let says = |histogram: FloatHistogram| histogram.validate().unwrap_err().message().to_owned();
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(
            says(FloatHistogram { positive_buckets: vec![1.0, -2.0], ..good.clone() }),
            "positive side: bucket number 2 has observation count of -2: \
             histogram has a bucket whose observation count is negative"
        );
        assert_eq!(
            says(FloatHistogram { positive_buckets: vec![1.0], ..good.clone() }),
            "positive side: spans need 2 buckets, have 1 buckets: \
             histogram spans specify different number of buckets than provided"
        );
        assert_eq!(
            says(FloatHistogram { schema: 9, ..good.clone() }),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
             or -53 for custom buckets, got schema 9"
        );
        assert_eq!(
            says(FloatHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..good }),
            "custom buckets: only 0 custom bounds defined which is insufficient to cover total span length of 2: \
             histogram custom bounds are too few"
        );
    }
}
