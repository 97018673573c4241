//! Rates of native histograms between the very bounds of a window (`anchored` and `smoothed`):
//! from the sample at or before the start, or from values interpolated at both bounds.

use std::borrow::Borrow;

use crate::model::histogram::MixedSchemas;
use crate::model::{CounterReset, FloatHistogram};

use super::Difference;
use super::notes::{Note, Notes};
use super::rate::RateRange;

/// What stands at the bounds of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The last sample at or before the start, and the last sample of the window.
    Anchored,
    /// Values interpolated between the samples around each bound.
    Smoothed,
}

/// A window and the samples around it that its bounds need.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedRange<'a, H> {
    /// Unix milliseconds, ascending.
    pub timestamps: &'a [i64],
    /// As many histograms.
    pub histograms: &'a [H],
    /// What stands at the bounds.
    pub boundary: Boundary,
    /// Where the window lies.
    pub range: RateRange,
}

impl<H: Borrow<FloatHistogram>> ExtendedRange<'_, H> {
    /// The rate, increase or delta between the bounds; `None` where there are too few samples or
    /// they do not mix.
    pub fn rate(&self, difference: Difference, notes: &mut Notes) -> Option<FloatHistogram> {
        let (first, last) = self.bounds()?;
        self.check(first..last + 1, difference, notes)?;
        let left = self.left(first, difference, notes)?;
        let right = self.right(last, difference, notes)?;
        let gauges = [&left, &right].map(|bound| bound.counter_reset == CounterReset::Gauge);
        if !difference.is_counter() && gauges.contains(&false) {
            notes.add(Note::NotGauge);
        }
        let mut result = right.clone();
        subtract(&mut result, &left, notes)?;
        if difference.is_counter()
            && let Some(correction) = self.correction((first, last), (&left, &right), notes)?
        {
            add(&mut result, &correction, notes)?;
        }
        if difference == Difference::Rate {
            result.div(self.range.seconds);
        }
        result.counter_reset = CounterReset::Gauge;
        result.compact(0);
        Some(result)
    }

    /// The samples that stand at the bounds or around them.
    fn bounds(&self) -> Option<(usize, usize)> {
        let mut last = self.timestamps.len().checked_sub(1)?;
        let inner = &self.timestamps[..last];
        let first = inner.partition_point(|time| *time <= self.range.start).saturating_sub(1);
        if self.boundary == Boundary::Smoothed {
            last = inner.partition_point(|time| *time < self.range.end);
        }
        let ends_before = self.timestamps[last] <= self.range.start;
        let starts_behind = self.boundary == Boundary::Smoothed && self.timestamps[first] > self.range.end;
        (!ends_before && !starts_behind).then_some((first, last))
    }

    fn at(&self, at: usize) -> &FloatHistogram {
        self.histograms[at].borrow()
    }

    fn check(&self, samples: std::ops::Range<usize>, difference: Difference, notes: &mut Notes) -> Option<()> {
        let custom = self.at(samples.start).uses_custom_buckets();
        for at in samples {
            let histogram = self.at(at);
            if histogram.uses_custom_buckets() != custom {
                notes.add(Note::MixedExponentialCustom);
                return None;
            }
            if difference.is_counter() && histogram.counter_reset == CounterReset::Gauge {
                notes.add(Note::NotCounter);
            }
        }
        Some(())
    }

    fn left(&self, first: usize, difference: Difference, notes: &mut Notes) -> Option<FloatHistogram> {
        if self.boundary == Boundary::Smoothed && self.timestamps[first] < self.range.start {
            return self.interpolate(first, self.range.start, difference, notes);
        }
        Some(self.at(first).clone())
    }

    fn right(&self, last: usize, difference: Difference, notes: &mut Notes) -> Option<FloatHistogram> {
        if self.boundary == Boundary::Smoothed && last > 0 && self.timestamps[last] > self.range.end {
            return self.interpolate(last - 1, self.range.end, difference, notes);
        }
        Some(self.at(last).clone())
    }

    fn interpolate(
        &self,
        before: usize,
        time: i64,
        difference: Difference,
        notes: &mut Notes,
    ) -> Option<FloatHistogram> {
        let sample = |at: usize| (self.timestamps[at], self.at(at));
        interpolate([sample(before), sample(before + 1)], time, difference, notes)
    }

    /// What was counted before each reset between the bounds; the inner `None` where there was none.
    fn correction(
        &self,
        (first, last): (usize, usize),
        (left, right): (&FloatHistogram, &FloatHistogram),
        notes: &mut Notes,
    ) -> Option<Option<FloatHistogram>> {
        let mut next = first + 1;
        let mut before = left;
        if self.boundary == Boundary::Smoothed
            && self.timestamps[first] < self.range.start
            && self.at(first + 1).detect_reset(self.at(first))
        {
            // The reset lies where the left bound was interpolated, which has made up for it.
            before = self.at(first + 1);
            next += 1;
        }
        if next > last {
            return Some(None);
        }
        let mut correction: Option<FloatHistogram> = None;
        // The last sample is what the right bound is or was interpolated from.
        for now in (next..last).map(|at| self.at(at)).chain([right]) {
            if now.detect_reset(before) {
                match &mut correction {
                    None => correction = Some(before.clone()),
                    Some(sum) => add(sum, before, notes)?,
                }
            }
            before = now;
        }
        Some(correction)
    }
}

/// The histogram between two samples (Unix milliseconds, histogram) at `time`. Between samples of a
/// counter that was reset it grows from zero.
pub fn interpolate(
    [before, after]: [(i64, &FloatHistogram); 2],
    time: i64,
    difference: Difference,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if time == before.0 {
        return Some(before.1.clone());
    }
    let mut result = after.1.clone();
    if time == after.0 {
        return Some(result);
    }
    let fraction = (time - before.0) as f64 / (after.0 - before.0) as f64;
    if difference.is_counter() && after.1.detect_reset(before.1) {
        result.mul(fraction);
        return Some(result);
    }
    subtract(&mut result, before.1, notes)?;
    result.mul(fraction);
    add(&mut result, before.1, notes)?;
    Some(result)
}

fn add(sum: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> Option<()> {
    match sum.add(other) {
        Ok(combined) if combined.bounds_reconciled => notes.add(Note::ReconciledByAddition),
        Ok(_) => {}
        Err(MixedSchemas) => {
            notes.add(Note::MixedExponentialCustom);
            return None;
        }
    }
    Some(())
}

fn subtract(difference: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) -> Option<()> {
    match difference.sub(other) {
        Ok(combined) if combined.bounds_reconciled => notes.add(Note::ReconciledBySubtraction),
        Ok(_) => {}
        Err(MixedSchemas) => {
            notes.add(Note::MixedExponentialCustom);
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    fn histogram(count: f64) -> FloatHistogram {
        FloatHistogram {
            count,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![count],
            ..FloatHistogram::default()
        }
    }

    fn increase(boundary: Boundary, samples: &[(i64, f64)]) -> Option<f64> {
        let timestamps: Vec<i64> = samples.iter().map(|(time, _)| *time).collect();
        let histograms: Vec<FloatHistogram> = samples.iter().map(|(_, count)| histogram(*count)).collect();
        let range = RateRange { start: 10_000, end: 40_000, seconds: 30.0 };
        let extended = ExtendedRange { timestamps: &timestamps, histograms: &histograms, boundary, range };
        let mut notes = Notes::default();
        let result = extended.rate(Difference::Increase, &mut notes);
        assert!(notes.is_empty());
        result.map(|result| result.count)
    }

    #[test]
    fn bounds_are_samples_or_interpolated() {
        let samples = [(5_000, 10.0), (15_000, 20.0), (35_000, 40.0), (45_000, 60.0)];
        assert_eq!(increase(Boundary::Anchored, &samples[..3]), Some(30.0));
        assert_eq!(increase(Boundary::Smoothed, &samples), Some(50.0 - 15.0));
        assert_eq!(increase(Boundary::Smoothed, &[(1_000, 1.0), (2_000, 2.0)]), None);
    }

    #[test]
    fn resets_between_the_bounds_are_made_up_for_once() {
        let samples = [(5_000, 10.0), (15_000, 20.0), (25_000, 5.0), (35_000, 15.0)];
        assert_eq!(increase(Boundary::Anchored, &samples), Some(15.0 - 10.0 + 20.0));
        let at_left = [(5_000, 10.0), (15_000, 4.0), (45_000, 40.0)];
        // At 10 s it is 2, at 40 s 34.
        assert_eq!(increase(Boundary::Smoothed, &at_left), Some(32.0));
    }
}
