//! Instant selectors: the newest sample of each series at each step.

use std::sync::Arc;

use crate::batch::{Cell, SeriesSamples, StepGrid, align, bitmap};
use crate::model::value::is_stale_nan;
use crate::model::{Error, TimeRange};
use crate::simd;
use crate::simd::steps::Samples;

use super::super::annotations::Annotation;
use super::super::plan::{Extension, Node, Operator, Select};
use super::super::source::{BatchSink, SelectRequest, Types};
use super::super::value::{Matrix, RowLabels};
use super::mixed::interpolate;
use super::stepwise::Stepwise;
use super::{CELLS_MAX, Evaluator, RowSink, STEPS_UNWATCHED, StartTimestamps, group, stats};

/// What is asked of the source for the samples of `select` in `range`. A source that gives no samples beside
/// those that it is asked for begins to merge replicas with them, so that Prometheus' range is asked for.
pub fn request<'r>(eval: &Evaluator<'r>, select: &'r Select, range: TimeRange) -> SelectRequest<'r> {
    let range = range.hull(select.times);
    SelectRequest {
        matchers: &select.matchers,
        range,
        extent: eval.query.extent.hull(range),
        hints: &select.hints,
        part: eval.part,
        files: eval.files,
    }
}

/// Times of the samples that an instant selector may give; `None` when there is no step.
pub fn sample_range(eval: &Evaluator<'_>, select: &Select) -> Option<TimeRange> {
    let reference = eval.steps.shifted(select.offset, select.at);
    let lookback = eval.query.lookback;
    let (_, after) = select.extension.around(lookback);
    (reference.count > 0)
        .then(|| TimeRange::new(reference.start - lookback + 1 - after.min(1), reference.end() + after))
}

/// What the source knows of the types of the series of `select` that have samples in `range`.
pub fn types(eval: &Evaluator<'_>, select: &Select, range: TimeRange) -> Result<Types, Error> {
    eval.query.source.types(&request(eval, select, range))
}

/// Asks the source for the samples of `select` in `range`.
pub fn fetch(eval: &Evaluator<'_>, select: &Select, range: TimeRange, sink: &mut BatchSink<'_>) -> Result<(), Error> {
    let request = request(eval, select, range);
    let min_time = request.range.min_time;
    let selected = eval.query.source.select(&request, &mut |batch| {
        eval.query.budget.check()?;
        eval.query.budget.count_read(batch.samples());
        if select.hints.histogram_stats {
            stats::strip(batch, min_time);
        }
        sink(batch)
    })?;
    let mut warnings = eval.query.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for warning in selected.warnings {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(())
}

/// Streams the rows of an instant selector.
pub fn stream(eval: &Evaluator<'_>, select: &Select, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let reference = eval.steps.shifted(select.offset, select.at);
    let Some(range) = sample_range(eval, select) else { return Ok(()) };
    let mut out = Matrix::new(eval.count());
    let mut picks = Picks::default();
    let mut hand_on = |out: &mut Matrix| {
        let samples = out.cells.samples();
        // Prometheus counts what it interpolates in none of its figures.
        if select.extension != Extension::Smoothed {
            eval.count_queried(samples);
        }
        eval.account.hold_samples(samples)?;
        let result = sink(out);
        out.clear();
        result
    };
    fetch(eval, select, range, &mut |batch| {
        for series in batch.iter() {
            let row = out.push_row(RowLabels::plain(Arc::clone(series.labels)));
            if select.extension == Extension::Smoothed {
                smooth(eval, (&reference, select.position), &series, &mut out)?;
            } else {
                picks.align(eval, &reference, &series, &mut out)?;
            }
            if !out.cells.occupied(row) {
                out.rows.pop();
                out.cells.pop_row();
            }
            if out.len() * out.steps() >= CELLS_MAX {
                hand_on(&mut out)?;
            }
        }
        hand_on(&mut out)
    })
}

/// Scratch of an alignment.
#[derive(Default)]
struct Picks {
    floats: Vec<u32>,
    histograms: Vec<u32>,
}

impl Picks {
    /// Chooses the newest sample of `series` for each step.
    fn choose(&mut self, reference: &StepGrid, lookback: i64, series: &SeriesSamples<'_>) {
        align::latest(reference, lookback, series.timestamps, &mut self.floats);
        self.histograms.clear();
        if !series.histograms.is_empty() {
            align::latest(reference, lookback, series.histogram_timestamps, &mut self.histograms);
            align::newer(series, &mut self.floats, &mut self.histograms);
        }
    }

    /// Fills the last row of `out`.
    fn align(
        &mut self,
        eval: &Evaluator<'_>,
        reference: &StepGrid,
        series: &SeriesSamples<'_>,
        out: &mut Matrix,
    ) -> Result<(), Error> {
        let (row, lookback) = (out.len() - 1, eval.query.lookback);
        if series.histograms.is_empty() {
            let samples = Samples { timestamps: series.timestamps, values: series.values };
            return newest((reference, lookback), samples, out.cells.row_mut(row), || eval.query.budget.check());
        }
        self.choose(reference, lookback, series);
        let (values, valid) = out.cells.row_mut(row);
        align::gather(&self.floats, series.values, values, valid);
        if !self.histograms.is_empty() {
            align::gather_histograms(&self.histograms, series.histograms, out.cells.histograms_mut(row));
        }
        Ok(())
    }
}

/// Fills a row with the newest float of each step, one stretch of steps after the other. Fails between two as soon as
/// `check` does.
fn newest(
    (reference, lookback): (&StepGrid, i64),
    samples: Samples<'_>,
    (values, valid): (&mut [f64], &mut [u64]),
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let stretches = values.chunks_mut(STEPS_UNWATCHED).zip(valid.chunks_mut(STEPS_UNWATCHED / 64));
    for (at, row) in stretches.enumerate() {
        if at > 0 {
            check()?;
        }
        let from = StepGrid { start: reference.time(at * STEPS_UNWATCHED), ..*reference };
        simd::steps::newest(simd::isa(), samples, (from.limits(0), lookback), row);
    }
    Ok(())
}

/// `timestamp(v)`: of a selector the times of its samples, otherwise those of the steps.
pub fn timestamps(eval: &Evaluator<'_>, input: &Node) -> Result<Matrix, Error> {
    let mut out = match &input.operator {
        Operator::Select(select) => sample_times(eval, select, |series, pick| series.timestamps[pick])?,
        _ => {
            let mut rows = eval.eval(input)?;
            let mut work = Stepwise::new(eval, 0);
            work.take(&rows);
            for row in 0..rows.len() {
                let present = rows.cells.present(row);
                let (values, valid) = rows.cells.row_mut(row);
                valid.copy_from_slice(&present);
                for (step, value) in values.iter_mut().enumerate() {
                    *value = eval.steps.time(step) as f64 / 1000.0;
                }
            }
            rows.cells.clear_histograms();
            work.give(&rows);
            work.pass(eval)?;
            rows
        }
    };
    eval.drop_names(&mut out);
    group::merge_same_labels(eval, out, group::Room::One)
}

/// `start_timestamp(v)`: the start timestamps of a selector's samples, when they are used.
pub fn start_timestamps(eval: &Evaluator<'_>, input: &Node) -> Result<Matrix, Error> {
    let mut out = match &input.operator {
        Operator::Select(select) if eval.query.starts == StartTimestamps::Used => {
            sample_times(eval, select, |series, pick| series.starts.get(pick).copied().unwrap_or(0))?
        }
        Operator::Select(_) => Matrix::new(eval.count()),
        // For what it has to say.
        _ => {
            eval.eval(input)?;
            Matrix::new(eval.count())
        }
    };
    eval.drop_names(&mut out);
    group::merge_same_labels(eval, out, group::Room::One)
}

fn sample_times(
    eval: &Evaluator<'_>,
    select: &Select,
    time: impl Fn(&SeriesSamples<'_>, usize) -> i64,
) -> Result<Matrix, Error> {
    let reference = eval.steps.shifted(select.offset, select.at);
    let mut out = Matrix::new(eval.count());
    if reference.count == 0 {
        return Ok(out);
    }
    // Upstream remembers samples for one millisecond less than it looks back; both agree.
    let lookback = eval.query.lookback;
    let range = TimeRange::new(reference.start - lookback + 1, reference.end());
    let mut picks = Picks::default();
    fetch(eval, select, range, &mut |batch| {
        eval.account.hold_bytes(batch.len() * reference.count * size_of::<f64>())?;
        let mut queried = 0;
        for series in batch.iter() {
            let row = out.push_row(RowLabels::plain(Arc::clone(series.labels)));
            picks.choose(&reference, lookback, &series);
            let as_floats = histogram_times(&series);
            let (values, valid) = out.cells.row_mut(row);
            for (step, pick) in picks.floats.iter().enumerate() {
                if let Some(value) = series.values.get(*pick as usize) {
                    if !is_stale_nan(*value) {
                        values[step] = time(&series, *pick as usize) as f64 / 1000.0;
                        bitmap::set(valid, step);
                    }
                } else if let Some(pick) = picks.histograms.get(step).map(|pick| *pick as usize)
                    && series.histograms.get(pick).is_some_and(|histogram| !is_stale_nan(histogram.sum))
                {
                    values[step] = time(&as_floats, pick) as f64 / 1000.0;
                    bitmap::set(valid, step);
                }
            }
            queried += bitmap::count(valid);
        }
        eval.count_queried(queried);
        eval.account.hold_samples(queried)
    })?;
    let mut work = Stepwise::new(eval, 0);
    work.take(&out);
    work.pass(eval)?;
    Ok(out)
}

/// The histograms of a series seen as its samples.
fn histogram_times<'a>(series: &SeriesSamples<'a>) -> SeriesSamples<'a> {
    SeriesSamples { timestamps: series.histogram_timestamps, starts: series.histogram_starts, ..*series }
}

/// Fills the last row of `out` with values interpolated between the samples around each step.
fn smooth(
    eval: &Evaluator<'_>,
    (reference, position): (&StepGrid, usize),
    series: &SeriesSamples<'_>,
    out: &mut Matrix,
) -> Result<(), Error> {
    let lookback = eval.query.lookback;
    let row = out.len() - 1;
    let floats: Vec<(i64, f64)> = live(series.timestamps, series.values, |value| is_stale_nan(*value));
    let histograms = live(series.histogram_timestamps, series.histograms, |value| is_stale_nan(value.sum));
    for step in 0..reference.count {
        eval.query.budget.check_at(step)?;
        let time = reference.time(step);
        let floats = within(&floats, time - lookback, time + lookback);
        let histograms = within(&histograms, time - lookback, time + lookback);
        if !floats.is_empty() && !histograms.is_empty() {
            eval.query.annotate(Annotation::mixed_floats_histograms(series.labels.metric_name(), position));
            continue;
        }
        let cell = if histograms.is_empty() {
            smooth_float(floats, time)
        } else {
            interpolate::at(eval.query, (series.labels.metric_name(), position), histograms, time)
        };
        out.cells.push_cell(row, step, cell);
    }
    Ok(())
}

fn live<T: Clone>(timestamps: &[i64], values: &[T], is_stale: impl Fn(&T) -> bool) -> Vec<(i64, T)> {
    let pairs = timestamps.iter().copied().zip(values.iter().cloned());
    pairs.filter(|(_, value)| !is_stale(value)).collect()
}

/// The samples in `(from, to]`.
fn within<T>(samples: &[(i64, T)], from: i64, to: i64) -> &[(i64, T)] {
    let start = samples.partition_point(|(time, _)| *time <= from);
    let end = samples.partition_point(|(time, _)| *time <= to).max(start);
    &samples[start..end]
}

fn smooth_float(floats: &[(i64, f64)], time: i64) -> Cell {
    let next = floats.partition_point(|(at, _)| *at < time);
    match (next.checked_sub(1).map(|at| floats[at]), floats.get(next)) {
        (_, Some((at, value))) if *at == time => Cell::Float(*value),
        (Some(before), Some(after)) => Cell::Float(interpolate::float(before, *after, time)),
        (Some((_, value)), None) => Cell::Float(value),
        (None, _) => Cell::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_many_steps_is_that_of_all_stretches_and_ends_between_two() {
        const COUNT: usize = 3 * STEPS_UNWATCHED + 77;
        let timestamps: Vec<i64> = (0..500).map(|at| at * 2000).collect();
        let values: Vec<f64> = (0..500).map(f64::from).collect();
        let samples = Samples { timestamps: &timestamps, values: &values };
        let grid = StepGrid { start: -10, interval: 1, count: COUNT, until: COUNT as i64 };
        let row = || (vec![0.0; COUNT], vec![0; bitmap::words(COUNT)]);
        let (mut whole, mut parts) = (row(), row());
        simd::steps::newest(simd::isa(), samples, (grid.limits(0), 1500), (&mut whole.0, &mut whole.1));
        let mut looks = 0;
        let look = || {
            looks += 1;
            Ok(())
        };
        newest((&grid, 1500), samples, (&mut parts.0, &mut parts.1), look).unwrap();
        let shown = |row: &(Vec<f64>, Vec<u64>)| -> Vec<(usize, f64)> {
            bitmap::ones(&row.1).map(|step| (step, row.0[step])).collect()
        };
        assert!(shown(&whole) == shown(&parts) && looks == 3, "{looks}");
        let gone = || Err(Error::invalid("gone"));
        let (mut values, mut valid) = row();
        newest((&grid, 1500), samples, (&mut values, &mut valid), gone).unwrap_err();
        assert_eq!(valid[..STEPS_UNWATCHED / 64], whole.1[..STEPS_UNWATCHED / 64]);
        assert!(!bitmap::any(&valid[STEPS_UNWATCHED / 64..]));
    }
}
