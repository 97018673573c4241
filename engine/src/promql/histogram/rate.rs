//! Rates of native histograms, extrapolated to the bounds of the window.
//!
//! Resets are found once for each pair of neighbouring samples, not once for each window.

use std::borrow::Borrow;
use std::ops::Range;

use crate::model::{CounterReset, FloatHistogram};

use super::Difference;
use super::notes::{Note, Notes};

/// The samples of one series, ready for rates over any of its windows.
#[derive(Debug)]
pub struct SeriesRates<'a, H> {
    timestamps: &'a [i64],
    histograms: &'a [H],
    /// Start timestamps, or empty.
    starts: &'a [i64],
    difference: Difference,
    /// Whether there was a reset between the sample before and this one.
    resets: Vec<bool>,
}

/// Where a window lies; times in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct RateRange {
    /// Where it begins; the sample there is not in it.
    pub start: i64,
    /// Where it ends.
    pub end: i64,
    /// Its length in seconds.
    pub seconds: f64,
}

/// Whether start timestamps say that a counter began anew between two samples, each given as
/// (start timestamp, timestamp) in Unix milliseconds.
pub fn is_start_reset(before: (i64, i64), now: (i64, i64)) -> bool {
    if now.0 == 0 || now.0 >= now.1 || now.0 < before.1 {
        return false;
    }
    // A sample that starts at the one before it follows a reset if that one's own start was known:
    // so do deltas. It was not known if it was its own time, and is wrong if it was after it.
    now.0 > before.1 || (before.0 < before.1 && before.0 != 0)
}

/// Whether a sample that started at `start` says that it began before the sample `before` (start
/// timestamp, timestamp) was taken, without being of the same count.
pub fn starts_overlap(before: (i64, i64), start: i64) -> bool {
    start != 0 && start < before.1 && start != before.0
}

impl<'a, H: Borrow<FloatHistogram>> SeriesRates<'a, H> {
    /// Looks for resets between the samples of a series. `starts` are their start timestamps; empty
    /// when none is known.
    pub fn new(timestamps: &'a [i64], histograms: &'a [H], starts: &'a [i64], difference: Difference) -> Self {
        let mut rates = Self { timestamps, histograms, starts, difference, resets: Vec::new() };
        if difference.is_counter() {
            rates.resets = (0..histograms.len()).map(|at| at > 0 && rates.is_reset(at)).collect();
        }
        rates
    }

    /// The rate, increase or delta over the samples `window`; `None` where there are too few or they
    /// do not mix.
    pub fn over(&self, window: Range<usize>, range: RateRange, notes: &mut Notes) -> Option<FloatHistogram> {
        let (first, last) = (window.start, window.end.checked_sub(1)?);
        if first > last {
            return None;
        }
        let from_start = self.start_within(first, range.start);
        let mut result = match (first < last, from_start) {
            (true, None) => self.increase(window, notes)?,
            (true, Some(_)) => {
                let mut increase = self.increase(window, notes)?;
                match increase.add(self.at(first)) {
                    Ok(combined) if combined.bounds_reconciled => notes.add(Note::ReconciledByAddition),
                    Ok(_) => {}
                    Err(_) => {
                        notes.add(Note::MixedExponentialCustom);
                        return None;
                    }
                }
                increase
            }
            (false, Some(_)) => self.at(first).clone(),
            (false, None) => return None,
        };
        let sampled = Sampled {
            start: from_start.unwrap_or(self.timestamps[first]),
            first: self.timestamps[first],
            last: self.timestamps[last],
            intervals: last - first,
        };
        let is_counted = self.difference.is_counter() && from_start.is_none() && result.count > 0.0;
        let zero_share = (is_counted && self.at(first).count >= 0.0).then(|| self.at(first).count / result.count);
        let factor = sampled.factor(range, zero_share);
        result.mul(if self.difference == Difference::Rate { factor / range.seconds } else { factor });
        Some(result)
    }

    fn at(&self, at: usize) -> &FloatHistogram {
        self.histograms[at].borrow()
    }

    /// Start timestamp and timestamp of a sample.
    fn times(&self, at: usize) -> (i64, i64) {
        (self.starts.get(at).copied().unwrap_or(0), self.timestamps[at])
    }

    fn is_reset(&self, at: usize) -> bool {
        let by_start = !self.starts.is_empty() && is_start_reset(self.times(at - 1), self.times(at));
        by_start || self.at(at).detect_reset(self.at(at - 1))
    }

    /// The start timestamp of the first sample, if the counter began within the window.
    fn start_within(&self, first: usize, range_start: i64) -> Option<i64> {
        let start = self.starts.get(first).copied().filter(|start| *start != 0)?;
        (self.difference.is_counter() && start > range_start && start < self.timestamps[first]).then_some(start)
    }

    /// Last less first, plus what was counted before each reset.
    fn increase(&self, window: Range<usize>, notes: &mut Notes) -> Option<FloatHistogram> {
        let (first, last) = (window.start, window.end - 1);
        let is_counter = self.difference.is_counter();
        let hints = [self.at(first).counter_reset, self.at(last).counter_reset];
        if is_counter && hints.contains(&CounterReset::Gauge) {
            notes.add(Note::NotCounter);
        }
        // After a reset right behind the first sample that one does not matter.
        let base = if is_counter && self.resets[first + 1] { first + 1 } else { first };
        let custom = self.at(base).uses_custom_buckets();
        if self.at(last).uses_custom_buckets() != custom {
            notes.add(Note::MixedExponentialCustom);
            return None;
        }
        let mut schema = self.at(last).schema.min(self.at(base).schema);
        if is_counter {
            for at in first + 1..last {
                let histogram = self.at(at);
                if histogram.counter_reset == CounterReset::Gauge {
                    notes.add(Note::NotCounter);
                }
                if histogram.uses_custom_buckets() != custom {
                    notes.only(Note::MixedExponentialCustom);
                    return None;
                }
                schema = schema.min(histogram.schema);
            }
        }
        let mut increase = self.at(last).clone();
        if !custom {
            increase.reduce_resolution(schema);
        }
        if base == first {
            subtract(&mut increase, self.at(first), notes);
        } else if custom {
            // In its place nothing is taken off, in the buckets of the one behind it.
            let (schema, custom_values) = (self.at(base).schema, self.at(base).custom_values.clone());
            let nothing = FloatHistogram { schema, custom_values, ..FloatHistogram::default() };
            subtract(&mut increase, &nothing, notes);
        }
        if is_counter {
            self.make_up_for_resets(&mut increase, base, last, notes);
        } else if hints != [CounterReset::Gauge; 2] {
            notes.add(Note::NotGauge);
        }
        self.note_overlaps(first, last, notes);
        increase.counter_reset = CounterReset::Gauge;
        increase.compact(0);
        Some(increase)
    }

    fn make_up_for_resets(&self, increase: &mut FloatHistogram, base: usize, last: usize, notes: &mut Notes) {
        for at in base + 1..=last {
            if self.resets[at] {
                // All were seen to be of one kind of schema.
                let combined = increase.add(self.at(at - 1)).unwrap_or_default();
                if combined.bounds_reconciled {
                    notes.add(Note::ReconciledByAddition);
                }
            }
        }
    }

    fn note_overlaps(&self, first: usize, last: usize, notes: &mut Notes) {
        let overlaps = |at: usize| starts_overlap(self.times(at - 1), self.times(at).0);
        if self.difference.is_counter() && !self.starts.is_empty() && (first + 1..=last).any(overlaps) {
            notes.add(Note::StartOverlap);
        }
    }
}

/// Takes `other` off, which was seen to be of the same kind of schema.
fn subtract(increase: &mut FloatHistogram, other: &FloatHistogram, notes: &mut Notes) {
    let combined = increase.sub(other).unwrap_or_default();
    if combined.bounds_reconciled {
        notes.add(Note::ReconciledBySubtraction);
    }
}

/// When the samples of a window were taken.
struct Sampled {
    /// When counting began: the first sample's start timestamp if it lies in the window, else its
    /// own time.
    start: i64,
    first: i64,
    last: i64,
    intervals: usize,
}

impl Sampled {
    /// By what the increase is multiplied to cover the whole window: up to its bounds where these
    /// are about as far away as samples are from each other, else half as far. Where it is known,
    /// not back beyond the time at which the counter was zero, which lay `zero_share` times the
    /// sampled time before the first sample.
    fn factor(&self, range: RateRange, zero_share: Option<f64>) -> f64 {
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        let sampled = seconds(self.start, self.last);
        let average = if self.intervals == 0 { 0.0 } else { seconds(self.first, self.last) / self.intervals as f64 };
        let threshold = average * 1.1;
        let mut to_start = 0.0;
        if self.start == self.first {
            to_start = seconds(range.start, self.first);
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some(share) = zero_share {
                to_start = to_start.min(sampled * share);
            }
        }
        let mut to_end = seconds(self.last, range.end);
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;
    use crate::model::histogram::CUSTOM_BUCKETS_SCHEMA;

    fn histogram(counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            count: counts.iter().sum(),
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    const RANGE: RateRange = RateRange { start: 0, end: 30_000, seconds: 30.0 };

    #[test]
    fn an_increase_covers_the_window_and_makes_up_for_resets() {
        let samples = [histogram(&[10.0, 10.0]), histogram(&[15.0, 10.0]), histogram(&[1.0, 2.0])];
        let times = [5_000, 15_000, 25_000];
        let mut notes = Notes::default();
        let rates = SeriesRates::new(&times, &samples, &[], Difference::Increase);
        let increase = rates.over(0..3, RANGE, &mut notes).unwrap();
        // 25 - 20 before the reset, 3 after it; 20 s of samples stand for 30 s.
        assert_eq!(increase.count, 8.0 * 1.5);
        assert_eq!(increase.positive_buckets, [6.0 * 1.5, 2.0 * 1.5]);
        assert!(rates.over(0..1, RANGE, &mut notes).is_none());
        assert!(notes.is_empty());
    }

    #[test]
    fn behind_a_reset_the_buckets_are_those_that_follow_it_and_the_last_have_in_common() {
        let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: bounds.into(),
            ..histogram(counts)
        };
        let (narrow, wide) = (custom(&[1.0, 2.0], &[9.0, 9.0, 9.0]), custom(&[2.0], &[1.0, 2.0]));
        let samples = [narrow, wide, custom(&[1.0, 2.0], &[2.0, 2.0, 2.0])];
        let times = [5_000, 15_000, 25_000];
        let mut notes = Notes::default();
        let rates = SeriesRates::new(&times, &samples, &[], Difference::Increase);
        let increase = rates.over(0..3, RANGE, &mut notes).unwrap();
        assert_eq!((&increase.custom_values[..], &increase.positive_buckets[..]), (&[2.0][..], &[6.0, 3.0][..]));
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::ReconciledBySubtraction]);
    }

    #[test]
    fn a_start_within_the_window_counts_from_zero() {
        let samples = [histogram(&[10.0]), histogram(&[15.0])];
        let times = [15_000, 25_000];
        let starts = [5_000, 5_000];
        let rates = SeriesRates::new(&times, &samples, &starts, Difference::Increase);
        let mut notes = Notes::default();
        assert_eq!(rates.over(0..2, RANGE, &mut notes).unwrap().count, 15.0 * 25.0 / 20.0);
        assert_eq!(rates.over(0..1, RANGE, &mut notes).unwrap().count, 10.0 * (10.0 + 0.0) / 10.0);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_gauge_has_no_rate_and_a_counter_no_delta() {
        let gauge = FloatHistogram { counter_reset: CounterReset::Gauge, ..histogram(&[1.0]) };
        let (gauges, counters) = ([gauge.clone(), gauge], [histogram(&[1.0]), histogram(&[2.0])]);
        let times = [5_000, 15_000];
        let mut notes = Notes::default();
        assert!(SeriesRates::new(&times, &gauges, &[], Difference::Rate).over(0..2, RANGE, &mut notes).is_some());
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::NotCounter]);
        let mut notes = Notes::default();
        assert!(SeriesRates::new(&times, &counters, &[], Difference::Delta).over(0..2, RANGE, &mut notes).is_some());
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Note::NotGauge]);
    }

    #[test]
    fn a_start_at_the_sample_before_is_a_reset_of_a_delta_only() {
        assert!(is_start_reset((10, 20), (20, 30)));
        assert!(!is_start_reset((0, 20), (20, 30)));
        assert!(!is_start_reset((20, 20), (20, 30)));
        assert!(is_start_reset((10, 20), (25, 30)));
        assert!(!is_start_reset((10, 20), (30, 30)));
        assert!(!is_start_reset((10, 20), (15, 30)));
    }
}
