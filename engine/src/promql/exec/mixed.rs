//! Functions over time for windows that hold histograms, start timestamps, or samples around their
//! bounds: window by window.

mod extended;
/// Between two samples.
pub mod interpolate;
mod rates;

use std::sync::Arc;

use crate::batch::step::histogram_samples;
use crate::batch::{Cell, SampleBatch, SeriesSamples, StepGrid, Windows, bitmap};
use crate::model::value::is_stale_nan;
use crate::model::{Error, FloatHistogram, TimeRange};

use super::super::annotations::Annotation;
use super::super::function::RangeFunction as F;
use super::super::histogram::{self, Difference, Notes, RateRange, SeriesRates};
use super::super::plan::Extension;
use super::over_time::{self, RangeInput, RowOut};
use super::{Query, StartTimestamps};

/// The samples of a series without stale ones.
#[derive(Debug, Default)]
pub struct Samples {
    /// Unix milliseconds of the floats.
    pub timestamps: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
    /// Unix milliseconds of the histograms.
    pub histogram_timestamps: Vec<i64>,
    histograms: Vec<Arc<FloatHistogram>>,
    histogram_starts: Vec<i64>,
}

/// The samples of one window.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Unix milliseconds of the floats.
    pub timestamps: &'a [i64],
    /// Floats.
    pub values: &'a [f64],
    /// Start timestamps of the floats, or empty.
    pub starts: &'a [i64],
    /// Unix milliseconds of the histograms.
    pub histogram_timestamps: &'a [i64],
    /// Histograms.
    pub histograms: &'a [Arc<FloatHistogram>],
    /// Start timestamps of the histograms, or empty.
    pub histogram_starts: &'a [i64],
}

/// Times of a window in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Where the window ends, after offset and `@`.
    pub end: i64,
    /// The step of the evaluation.
    pub step: i64,
}

/// A function and where it is applied.
pub struct Function<'a> {
    /// The query, for its annotations.
    pub query: &'a Query,
    /// The function.
    pub function: F,
    /// Metric name of the series.
    pub metric: &'a str,
    /// Byte of the query at which the first argument begins.
    pub first_position: usize,
    /// Length of the window in milliseconds.
    pub range: i64,
    /// Whether samples around the bounds count.
    pub extension: Extension,
}

impl Samples {
    /// The samples of `series` that are not stale.
    pub fn live(series: &SeriesSamples<'_>) -> Self {
        let mut out = Self::default();
        for (at, value) in series.values.iter().enumerate() {
            if !is_stale_nan(*value) {
                out.timestamps.push(series.timestamps[at]);
                out.values.push(*value);
                out.starts.extend(series.starts.get(at));
            }
        }
        for (at, histogram) in series.histograms.iter().enumerate() {
            if !is_stale_nan(histogram.sum) {
                out.histogram_timestamps.push(series.histogram_timestamps[at]);
                out.histograms.push(Arc::clone(histogram));
                out.histogram_starts.extend(series.histogram_starts.get(at));
            }
        }
        out
    }

    /// Of the histograms of a window that ends at `end`, those that Prometheus sees: where a float and a
    /// histogram have the same time, as merged series of a subquery may, the float comes first, and the
    /// window ends with the first sample at its end.
    pub fn histograms_before_ties(
        &self,
        (floats, mut histograms): (&std::ops::Range<usize>, std::ops::Range<usize>),
        end: i64,
    ) -> std::ops::Range<usize> {
        let ends_window = |times: &[i64]| times.last() == Some(&end);
        if ends_window(&self.timestamps[floats.clone()]) && ends_window(&self.histogram_timestamps[histograms.clone()])
        {
            histograms.end -= 1;
        }
        histograms
    }

    /// What the histograms before each one count for as samples, and last what all do.
    pub fn histogram_weights(&self) -> Vec<usize> {
        let mut weights = Vec::with_capacity(self.histograms.len() + 1);
        weights.push(0);
        let mut total = 0;
        for histogram in &self.histograms {
            total += histogram_samples(histogram);
            weights.push(total);
        }
        weights
    }

    /// The window of these floats and histograms.
    pub fn window(&self, floats: std::ops::Range<usize>, histograms: std::ops::Range<usize>) -> Window<'_> {
        Window {
            timestamps: &self.timestamps[floats.clone()],
            values: &self.values[floats.clone()],
            starts: self.starts.get(floats).unwrap_or(&[]),
            histogram_timestamps: &self.histogram_timestamps[histograms.clone()],
            histograms: &self.histograms[histograms.clone()],
            histogram_starts: self.histogram_starts.get(histograms).unwrap_or(&[]),
        }
    }
}

impl Window<'_> {
    /// The last `count` floats and as many histograms.
    pub fn last(&self, count: usize) -> Self {
        fn last<T>(all: &[T], count: usize) -> &[T] {
            &all[all.len().saturating_sub(count)..]
        }
        Self {
            timestamps: last(self.timestamps, count),
            values: last(self.values, count),
            starts: last(self.starts, count),
            histogram_timestamps: last(self.histogram_timestamps, count),
            histograms: last(self.histograms, count),
            histogram_starts: last(self.histogram_starts, count),
        }
    }

    /// Whether floats and histograms come together.
    pub fn is_mixed(&self) -> bool {
        !self.values.is_empty() && !self.histograms.is_empty()
    }
}

impl Function<'_> {
    /// Adds a warning or info.
    pub fn note(&self, annotation: Annotation) {
        self.query.annotate(annotation);
    }

    /// The histogram that `compute` gives, with annotations for what was noteworthy.
    fn noting(&self, compute: impl FnOnce(&mut Notes) -> Option<FloatHistogram>) -> Cell {
        let mut notes = Notes::default();
        let result = compute(&mut notes);
        for note in notes.iter() {
            self.note(note.at(self.metric, self.first_position));
        }
        result.map_or(Cell::Empty, |histogram| Cell::Histogram(Arc::new(histogram)))
    }

    /// Which difference the function is; that of a gauge for all but rates.
    fn difference(&self) -> Difference {
        match self.function {
            F::Rate | F::Irate => Difference::Rate,
            F::Increase => Difference::Increase,
            _ => Difference::Delta,
        }
    }

    /// The window that ends at `end`.
    fn rate_range(&self, end: i64) -> RateRange {
        RateRange { start: end - self.range, end, seconds: self.range as f64 / 1000.0 }
    }

    /// The resets between the histograms of a series, where the function is a rate between samples.
    pub fn rates<'s>(&self, all: &'s Samples) -> Option<SeriesRates<'s, Arc<FloatHistogram>>> {
        let plain = self.extension == Extension::None && !all.histograms.is_empty();
        let starts = if self.uses_starts() { all.histogram_starts.as_slice() } else { &[] };
        (plain && matches!(self.function, F::Rate | F::Increase | F::Delta))
            .then(|| SeriesRates::new(&all.histogram_timestamps, &all.histograms, starts, self.difference()))
    }

    /// The rate over a window of histograms that ends at `end`.
    pub fn histogram_rate(
        &self,
        rates: &SeriesRates<'_, Arc<FloatHistogram>>,
        window: std::ops::Range<usize>,
        end: i64,
    ) -> Cell {
        self.noting(|notes| rates.over(window, self.rate_range(end), notes))
    }

    /// Whether start timestamps take part.
    pub fn uses_starts(&self) -> bool {
        self.query.starts == StartTimestamps::Used
    }

    /// The result for one window.
    pub fn apply(&self, window: &Window<'_>, times: Times, params: &[f64]) -> Result<Cell, Error> {
        Ok(match self.function {
            F::Rate | F::Increase | F::Delta if self.extension != Extension::None => {
                extended::rate(self, window, times.end)
            }
            F::Rate | F::Increase | F::Delta => rates::rate(self, window, times.end),
            F::Irate | F::Idelta => rates::instant(self, window),
            F::Changes | F::Resets => rates::count(self, window, times.end),
            F::Sum | F::Avg if window.is_mixed() => {
                self.note(Annotation::mixed_floats_histograms(self.metric, self.first_position));
                Cell::Empty
            }
            F::Sum if window.values.is_empty() => self.noting(|notes| histogram::sum(window.histograms, notes)),
            F::Avg if window.values.is_empty() => self.noting(|notes| histogram::avg(window.histograms, notes)),
            F::Count => Cell::Float((window.values.len() + window.histograms.len()) as f64),
            F::Present | F::Absent => Cell::Float(1.0),
            F::First | F::TsOfFirst => self.end_of(window, End::First),
            F::Last | F::TsOfLast => self.end_of(window, End::Last),
            _ => self.floats_only(window, times, params)?,
        })
    }

    /// The first or last sample of a window, or its time.
    fn end_of(&self, window: &Window<'_>, end: End) -> Cell {
        let pick = |length: usize| match end {
            End::First => 0,
            End::Last => length.saturating_sub(1),
        };
        let float = window.timestamps.get(pick(window.timestamps.len())).copied();
        let histogram = window.histogram_timestamps.get(pick(window.histogram_timestamps.len())).copied();
        let float_wins = match (float, histogram) {
            (Some(float), Some(histogram)) => match end {
                End::First => float < histogram,
                End::Last => histogram < float,
            },
            (float, _) => float.is_some(),
        };
        if matches!(self.function, F::TsOfFirst | F::TsOfLast) {
            let time = if float_wins { float } else { histogram };
            return time.map_or(Cell::Empty, |time| Cell::Float(time as f64 / 1000.0));
        }
        if float_wins {
            return Cell::Float(window.values[pick(window.values.len())]);
        }
        Cell::Histogram(Arc::clone(&window.histograms[pick(window.histograms.len())]))
    }

    /// Functions that look at floats only, and say so when there were histograms.
    fn floats_only(&self, window: &Window<'_>, times: Times, params: &[f64]) -> Result<Cell, Error> {
        if window.values.is_empty() {
            if self.function == F::DoubleExponentialSmoothing {
                over_time::check_factors(params[0], params[1])?;
            }
            return Ok(Cell::Empty);
        }
        if !window.histograms.is_empty() {
            self.note(Annotation::histogram_ignored_in_mixed_range(self.metric, self.first_position));
        }
        let whole = Windows { starts: vec![0], ends: vec![window.values.len() as u32] };
        let params: Vec<Vec<f64>> = params.iter().map(|param| vec![*param]).collect();
        let mut spans = over_time::Spans::default();
        if self.function.is_extrapolated() {
            spans.find(&whole, window.timestamps, (&StepGrid::instant(times.end), self.range));
        }
        let input = RangeInput {
            timestamps: window.timestamps,
            values: window.values,
            falls: true,
            windows: &whole,
            spans: &spans,
            steps: &StepGrid::instant(times.step),
            range: self.range,
            params: &params,
            budget: &self.query.budget,
        };
        let (mut values, mut valid) = ([0.0], [0]);
        let mut out = RowOut { values: &mut values, valid: &mut valid };
        over_time::apply(self.function, &input, &mut over_time::Scratch::default(), &mut out)?;
        Ok(if bitmap::any(&valid) { Cell::Float(values[0]) } else { Cell::Empty })
    }
}

/// Which sample of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

/// Appends the samples of a range selector in `(from, to]`, with those at the bounds when the
/// selector is extended: then it looks at samples around it, too, which are all within `wanted`.
pub fn range_samples(
    series: &SeriesSamples<'_>,
    extension: Extension,
    (wanted, from, to): (TimeRange, i64, i64),
    out: &mut SampleBatch,
) -> Result<(), Error> {
    let all = Samples::live(series);
    let within = |times: &[i64]| {
        let start = times.partition_point(|time| *time < wanted.min_time);
        start..times.partition_point(|time| *time <= wanted.max_time).max(start)
    };
    let floats = within(&all.timestamps);
    let histograms = within(&all.histogram_timestamps);
    // As in Prometheus, markers of stale histograms are histograms here.
    if extension != Extension::None && !within(series.histogram_timestamps).is_empty() {
        let word = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
        return Err(Error::invalid(format!("{word} modifier is not supported with histograms")));
    }
    if floats.is_empty() && histograms.is_empty() {
        return Ok(());
    }
    if extension == Extension::None {
        out.floats.timestamps.extend_from_slice(&all.timestamps[floats.clone()]);
        out.floats.values.extend_from_slice(&all.values[floats]);
        out.histograms.timestamps.extend_from_slice(&all.histogram_timestamps[histograms.clone()]);
        out.histograms.values.extend_from_slice(&all.histograms[histograms]);
        out.finish_series(Arc::clone(series.labels));
        return Ok(());
    }
    let (times, values) = (&all.timestamps[floats.clone()], &all.values[floats]);
    let extended = extended::extend(times, values, extension, (from, to));
    if !extended.is_empty() {
        for (time, value) in extended {
            out.floats.push(time, value);
        }
        out.finish_series(Arc::clone(series.labels));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::model::Labels;
    use crate::model::value::stale_nan;

    use super::*;

    #[test]
    fn an_extended_range_looks_no_further_than_its_lookback() {
        let mut batch = SampleBatch::default();
        (0..10).for_each(|at| batch.floats.push(at * 1000, at as f64));
        batch.histograms.timestamps.push(100_000);
        batch.histograms.values.push(Arc::new(FloatHistogram::default()));
        batch.finish_series(Arc::new(Labels::default()));
        let ask = |from: i64, to: i64| {
            let mut out = SampleBatch::default();
            let times = (TimeRange::new(from - 1999, to + 2000), from, to);
            range_samples(&batch.series(0), Extension::Smoothed, times, &mut out).map(|()| out)
        };
        let found = ask(8500, 10_500).unwrap();
        assert_eq!((found.floats.timestamps, found.floats.values), (vec![8500, 9000, 10_500], vec![8.5, 9.0, 9.0]));
        for (from, to) in [(-20_000, -15_000), (20_000, 25_000)] {
            assert!(ask(from, to).unwrap().is_empty(), "{from} to {to}");
        }
        assert_eq!(
            ask(95_000, 99_000).unwrap_err(),
            Error::invalid("smoothed modifier is not supported with histograms")
        );
    }

    #[test]
    fn the_marker_of_a_stale_histogram_is_one_to_an_extended_range() {
        let mut batch = SampleBatch::default();
        batch.histograms.timestamps.push(1000);
        batch.histograms.values.push(Arc::new(FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }));
        batch.finish_series(Arc::new(Labels::default()));
        let ask = |extension, min_time: i64| {
            let (mut out, times) = (SampleBatch::default(), (TimeRange::new(min_time, 5000), 2000, 5000));
            range_samples(&batch.series(0), extension, times, &mut out).map(|()| out.len())
        };
        for (extension, word) in [(Extension::Anchored, "anchored"), (Extension::Smoothed, "smoothed")] {
            let refused = Error::invalid(format!("{word} modifier is not supported with histograms"));
            assert_eq!((ask(extension, 1000), ask(extension, 1001)), (Err(refused), Ok(0)));
        }
        assert_eq!(ask(Extension::None, 1000), Ok(0));
    }
}
