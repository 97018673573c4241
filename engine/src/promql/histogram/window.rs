//! Sums and means of the native histograms of a window, and the difference of its last two.

use std::borrow::Borrow;

use crate::model::histogram::{Combined, KahanMean, KahanSum, MixedSchemas};
use crate::model::{CounterReset, FloatHistogram};

use super::Difference;
use super::notes::{Note, Notes};
use super::rate::is_start_reset;

/// A histogram with its times in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct HistogramSample<'a> {
    /// When it was taken.
    pub timestamp: i64,
    /// When it began to count; 0 when that is not known.
    pub start: i64,
    /// The histogram.
    pub histogram: &'a FloatHistogram,
}

/// The sum of a window's histograms; `None` for an empty window and where schemas do not mix.
pub fn sum<H: Borrow<FloatHistogram>>(window: &[H], notes: &mut Notes) -> Option<FloatHistogram> {
    let (first, rest) = window.split_first()?;
    let mut total = KahanSum::new(first.borrow().clone());
    combine_all(window, rest, notes, |histogram| total.add(histogram))?;
    Some(total.finish())
}

/// The mean of a window's histograms; `None` as in [`sum`].
pub fn avg<H: Borrow<FloatHistogram>>(window: &[H], notes: &mut Notes) -> Option<FloatHistogram> {
    let (first, rest) = window.split_first()?;
    let mut mean = KahanMean::new(first.borrow().clone());
    combine_all(window, rest, notes, |histogram| mean.add(histogram))?;
    Some(mean.finish())
}

fn combine_all<H: Borrow<FloatHistogram>>(
    window: &[H],
    rest: &[H],
    notes: &mut Notes,
    mut add: impl FnMut(&FloatHistogram) -> Result<Combined, MixedSchemas>,
) -> Option<()> {
    let mut reconciled = false;
    for histogram in rest {
        match add(histogram.borrow()) {
            Ok(combined) => reconciled |= combined.bounds_reconciled,
            Err(MixedSchemas) => {
                notes.add(Note::MixedExponentialCustom);
                return None;
            }
        }
    }
    let has = |hint| window.iter().any(|histogram| histogram.borrow().counter_reset == hint);
    if has(CounterReset::Yes) && has(CounterReset::No) {
        notes.add(Note::CounterResetCollision);
    }
    if reconciled {
        notes.add(Note::ReconciledByAggregation);
    }
    Some(())
}

/// What `irate` (a rate) and `idelta` (a delta) make of the last two samples of a window: the
/// difference, per second for a rate. `None` where they are of one time or do not mix.
pub fn instant(pair: [HistogramSample<'_>; 2], difference: Difference, notes: &mut Notes) -> Option<FloatHistogram> {
    let [before, now] = pair;
    let interval = now.timestamp - before.timestamp;
    if interval == 0 {
        return None;
    }
    let gauges = [before, now].map(|sample| sample.histogram.counter_reset == CounterReset::Gauge);
    match difference.is_counter() {
        true if gauges.contains(&true) => notes.add(Note::NotCounter),
        false if gauges.contains(&false) => notes.add(Note::NotGauge),
        _ => {}
    }
    let mut result = now.histogram.clone();
    let reset = difference.is_counter()
        && (is_start_reset((before.start, before.timestamp), (now.start, now.timestamp))
            || now.histogram.detect_reset(before.histogram));
    if !reset {
        match result.sub(before.histogram) {
            Ok(combined) if combined.bounds_reconciled => notes.add(Note::ReconciledBySubtraction),
            Ok(_) => {}
            Err(MixedSchemas) => {
                notes.add(Note::MixedExponentialCustom);
                return None;
            }
        }
    }
    result.counter_reset = CounterReset::Gauge;
    result.compact(0);
    if difference == Difference::Rate {
        result.div(interval as f64 / 1000.0);
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    fn histogram(count: f64) -> FloatHistogram {
        FloatHistogram {
            count,
            sum: count,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![count],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn means_that_would_overflow_are_taken_step_by_step() {
        let mut notes = Notes::default();
        let window = [histogram(1e308), histogram(1e308), histogram(1e308)];
        let mean = avg(&window, &mut notes).unwrap();
        assert!((mean.count / 1e308 - 1.0).abs() < 1e-12, "{}", mean.count);
        assert_eq!(sum(&window[..2], &mut notes).unwrap().count, f64::INFINITY);
        assert!(notes.is_empty());
    }

    #[test]
    fn an_instant_rate_is_per_second_and_starts_anew_after_a_reset() {
        let (ten, four) = (histogram(10.0), histogram(4.0));
        let at = |timestamp, histogram| HistogramSample { timestamp, start: 0, histogram };
        let mut notes = Notes::default();
        let up = instant([at(0, &four), at(2000, &ten)], Difference::Rate, &mut notes).unwrap();
        assert_eq!((up.count, up.counter_reset), (3.0, CounterReset::Gauge));
        let reset = instant([at(0, &ten), at(2000, &four)], Difference::Rate, &mut notes).unwrap();
        assert_eq!(reset.count, 2.0);
        assert!(notes.is_empty());
        let delta = instant([at(0, &ten), at(2000, &four)], Difference::Delta, &mut notes).unwrap();
        assert_eq!(delta.count, -6.0);
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::NotGauge]);
    }
}
