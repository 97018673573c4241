//! Arithmetic of histograms: sums, differences, products and quotients, after the two layouts were
//! made the same.

use std::fmt;
use std::mem;

use super::kahan::{Compensation, kahan_add};
use super::layout::{Addend, Side};
use super::{CUSTOM_BUCKETS_SCHEMA, CounterReset, FloatHistogram, Span};

/// One histogram has exponential buckets and the other custom ones: they do not combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixedSchemas;

impl fmt::Display for MixedSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")
    }
}

impl std::error::Error for MixedSchemas {}

/// What was noteworthy when two histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One follows a counter reset and the other says that there was none.
    pub counter_reset_collision: bool,
    /// Custom bounds differed: the result has those that both had.
    pub bounds_reconciled: bool,
}

impl FloatHistogram {
    /// Whether the bounds are given one by one.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether the two histograms combine.
    pub(super) fn check_schemas(&self, other: &Self) -> Result<(), MixedSchemas> {
        if self.uses_custom_buckets() == other.uses_custom_buckets() { Ok(()) } else { Err(MixedSchemas) }
    }

    /// Adds `other`. Schemas, zero buckets and custom bounds that differ are reconciled to the
    /// coarser ones. The result may have empty buckets: see [`FloatHistogram::compact`].
    pub fn add(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        self.check_schemas(other)?;
        Ok(self.combine(other, 1.0, None))
    }

    /// Subtracts `other`, with the same reconciliation as [`FloatHistogram::add`].
    pub fn sub(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        self.check_schemas(other)?;
        Ok(self.combine(other, -1.0, None))
    }

    /// Multiplies every count and the sum; a negative factor makes it a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.scale(|value| value * factor);
        if factor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    /// Divides every count and the sum; a negative divisor makes it a gauge, and zero removes all
    /// buckets.
    pub fn div(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive_buckets.clear();
            self.negative_buckets.clear();
            self.positive_spans.clear();
            self.negative_spans.clear();
        }
        self.scale(|value| value / divisor);
        if divisor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    fn scale(&mut self, scale: impl Fn(f64) -> f64) {
        self.zero_count = scale(self.zero_count);
        self.count = scale(self.count);
        self.sum = scale(self.sum);
        for count in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *count = scale(*count);
        }
    }

    /// Whether a count, the sum or a custom bound is infinite.
    pub fn has_overflow(&self) -> bool {
        let mut fields = [self.zero_count, self.count, self.sum].into_iter();
        let mut buckets = self.positive_buckets.iter().chain(&self.negative_buckets).chain(&*self.custom_values);
        fields.any(f64::is_infinite) || buckets.any(|value| value.is_infinite())
    }

    /// Removes empty buckets; runs of at most `gap_max` empty buckets between others stay, and gaps
    /// as narrow are filled with empty buckets.
    pub fn compact(&mut self, gap_max: usize) {
        self.edit_sides(None, |side| side.compact(gap_max));
    }

    /// The same observations in the coarser exponential schema `schema`.
    ///
    /// # Panics
    /// When either schema is that of custom buckets or `schema` is the finer one.
    pub fn reduce_resolution(&mut self, schema: i32) {
        assert!(
            self.schema != CUSTOM_BUCKETS_SCHEMA && schema != CUSTOM_BUCKETS_SCHEMA && schema <= self.schema,
            "the resolution of a histogram goes from a finer exponential schema to a coarser one"
        );
        if schema < self.schema {
            let origin = mem::replace(&mut self.schema, schema);
            self.edit_sides(None, |side| *side = side.reduce(origin, schema));
        }
    }

    /// Adds `sign` times `other`, whose kind of schema is the same, with compensation where given.
    pub(super) fn combine(&mut self, other: &Self, sign: f64, mut kept: Option<&mut Compensation>) -> Combined {
        let counter_reset_collision = self.adjust_counter_reset(other);
        let custom = self.uses_custom_buckets();
        let (zero, zero_kept) =
            if custom { (0.0, 0.0) } else { self.reconcile_zero_buckets(other, kept.as_deref_mut()) };
        match kept.as_deref_mut() {
            None => {
                self.zero_count += sign * zero;
                self.count += sign * other.count;
                self.sum += sign * other.sum;
            }
            Some(kept) => {
                let once = kahan_add(sign * zero, self.zero_count, kept.zero_count);
                (self.zero_count, kept.zero_count) = kahan_add(sign * zero_kept, once.0, once.1);
                (self.count, kept.count) = kahan_add(sign * other.count, self.count, kept.count);
                (self.sum, kept.sum) = kahan_add(sign * other.sum, self.sum, kept.sum);
            }
        }
        let bounds_reconciled = custom && self.custom_values != other.custom_values;
        if bounds_reconciled {
            self.combine_mismatched_bounds(other, sign, kept);
        } else {
            self.combine_buckets(other, sign, kept);
        }
        Combined { counter_reset_collision, bounds_reconciled }
    }

    fn combine_buckets(&mut self, other: &Self, sign: f64, mut kept: Option<&mut Compensation>) {
        let origin = self.schema;
        if other.schema < origin {
            self.schema = other.schema;
            self.edit_sides(kept.as_deref_mut(), |side| *side = side.reduce(origin, other.schema));
        }
        let (schema, threshold, with_kept) = (self.schema, self.zero_threshold, kept.is_some());
        let coarse = |spans: &[Span], counts: &[f64]| {
            let compensation = with_kept.then(|| vec![0.0; counts.len()]);
            Side { spans: spans.to_vec(), counts: counts.to_vec(), compensation }.reduce(other.schema, schema)
        };
        let add = |side: &mut Side, spans: &[Span], counts: &[f64]| {
            if other.schema > schema {
                let reduced = coarse(spans, counts);
                let addend = Addend { spans: &reduced.spans, counts: &reduced.counts, sign, threshold, schema };
                side.add(addend, reduced.compensation.as_deref());
            } else {
                side.add(Addend { spans, counts, sign, threshold, schema }, None);
            }
        };
        let mut sides =
            [(&other.positive_spans, &other.positive_buckets), (&other.negative_spans, &other.negative_buckets)]
                .into_iter();
        self.edit_sides(kept, |side| {
            if let Some((spans, counts)) = sides.next() {
                add(side, spans, counts);
            }
        });
    }

    /// Runs `edit` over the positive side, then over the negative one.
    pub(super) fn edit_sides(&mut self, mut kept: Option<&mut Compensation>, mut edit: impl FnMut(&mut Side)) {
        let mut positive = Side {
            spans: mem::take(&mut self.positive_spans),
            counts: mem::take(&mut self.positive_buckets),
            compensation: kept.as_deref_mut().map(|kept| mem::take(&mut kept.positive)),
        };
        edit(&mut positive);
        let mut negative = Side {
            spans: mem::take(&mut self.negative_spans),
            counts: mem::take(&mut self.negative_buckets),
            compensation: kept.as_deref_mut().map(|kept| mem::take(&mut kept.negative)),
        };
        edit(&mut negative);
        (self.positive_spans, self.positive_buckets) = (positive.spans, positive.counts);
        (self.negative_spans, self.negative_buckets) = (negative.spans, negative.counts);
        if let Some(kept) = kept {
            kept.positive = positive.compensation.unwrap_or_default();
            kept.negative = negative.compensation.unwrap_or_default();
        }
    }

    /// Sets what is known of a reset before the combination; gives whether the two contradict.
    fn adjust_counter_reset(&mut self, other: &Self) -> bool {
        let (ours, theirs) = (self.counter_reset, other.counter_reset);
        self.counter_reset = match (ours, theirs) {
            _ if ours == theirs => ours,
            (CounterReset::Gauge, _) | (_, CounterReset::Gauge) => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        };
        matches!((ours, theirs), (CounterReset::Yes, CounterReset::No) | (CounterReset::No, CounterReset::Yes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::super::{KahanSum, Span};
    use super::*;
    use std::collections::BTreeMap;

    /// Counts by bucket index: the plain model of one side.
    fn model(histogram: &FloatHistogram, schema: i32) -> BTreeMap<i32, f64> {
        let mut counts = BTreeMap::new();
        for bucket in histogram.positive() {
            *counts.entry(super::super::bounds::target_index(bucket.index, histogram.schema, schema)).or_insert(0.0) +=
                bucket.count;
        }
        counts
    }

    #[test]
    fn sums_hold_the_buckets_of_both_in_the_coarser_schema() {
        for seed in 0..500 {
            let (left, right) = (random(seed), random(seed + 1000));
            let schema = left.schema.min(right.schema);
            let mut want = model(&left, schema);
            for (index, count) in model(&right, schema) {
                *want.entry(index).or_insert(0.0) += count;
            }
            let mut sum = left.clone();
            sum.add(&right).unwrap();
            assert_eq!(model(&sum, schema), want, "seed {seed}");
            assert_eq!(sum.schema, schema);
            let mut kahan = KahanSum::new(left.clone());
            kahan.add(&right).unwrap();
            assert_eq!(model(&kahan.finish(), schema), want, "seed {seed}");
            sum.sub(&right).unwrap();
            sum.compact(0);
            let mut back = left.clone();
            back.reduce_resolution(schema);
            back.compact(0);
            assert_eq!(model(&sum, schema), model(&back, schema), "seed {seed}");
            assert_eq!(sum.positive_spans, back.positive_spans, "seed {seed}");
        }
    }

    #[test]
    fn a_hint_survives_only_when_both_agree() {
        let of = |counter_reset| FloatHistogram { counter_reset, ..FloatHistogram::default() };
        let mut left = of(CounterReset::Yes);
        assert!(left.add(&of(CounterReset::No)).unwrap().counter_reset_collision);
        assert_eq!(left.counter_reset, CounterReset::Unknown);
        assert!(!left.add(&of(CounterReset::Gauge)).unwrap().counter_reset_collision);
        assert_eq!(left.counter_reset, CounterReset::Gauge);
    }

    #[test]
    fn division_by_zero_removes_the_buckets() {
        let mut histogram = FloatHistogram {
            count: 3.0,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![3.0],
            ..FloatHistogram::default()
        };
        histogram.div(0.0);
        assert_eq!(histogram.count, f64::INFINITY);
        assert!(histogram.sum.is_nan() && histogram.positive_buckets.is_empty() && histogram.positive_spans.is_empty());
    }

    #[test]
    fn compacting_closes_narrow_gaps_and_cuts_wide_ones() {
        let layout = |spans: &[(i32, u32)], counts: &[f64]| FloatHistogram {
            positive_spans: spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect(),
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        };
        let mut histogram = layout(&[(-2, 2), (1, 4), (0, 2), (3, 1)], &[0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 5.0]);
        let mut wide = histogram.clone();
        histogram.compact(0);
        assert_eq!(histogram, layout(&[(-1, 1), (1, 1), (2, 2), (4, 1)], &[1.0, 2.0, 3.0, 4.0, 5.0]));
        wide.compact(2);
        assert_eq!(wide, layout(&[(-1, 7), (4, 1)], &[1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0]));
    }
}
