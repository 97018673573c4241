//! Functions over time: range selectors and subqueries, cut into windows, one row per series.

use std::collections::HashSet;
use std::sync::Arc;

use crate::batch::step::{histogram_bytes, histogram_samples};
use crate::batch::{SampleBatch, SeriesSamples, StepGrid, Windows, bitmap};
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, Error, FloatColumns, Labels, TimeRange};
use crate::simd;

use super::super::annotations::Annotation;
use super::super::function::RangeFunction;
use super::super::plan::{Extension, Names, OverTime, RangeArgument, Select, Subquery};
use super::super::source::Types;
use super::super::value::{Matrix, RowLabels, without_metadata};
use super::over_time::{self, RangeInput, RowOut, Scratch, Spans};
use super::twins::Watch;
use super::{
    CELLS_MAX, CounterEvidence, Evaluator, RowSink, STEPS_UNWATCHED, StartTimestamps, group, mixed, scalar, selector,
};

/// Samples in windows that are worked on between two looks at whether the query is still wanted: milliseconds.
const SAMPLES_UNWATCHED: usize = 1 << 20;

/// Floats that take as long as a native histogram, about.
const HISTOGRAM_WEIGHT: usize = 64;

/// Streams the rows of a function over time.
pub fn stream(eval: &Evaluator<'_>, call: &OverTime, sink: &mut RowSink<'_>) -> Result<(), Error> {
    check_extension(call)?;
    let mut pass = Pass::new(eval, call)?;
    match &call.argument {
        RangeArgument::Select(select, range) => {
            if eval.count() == 0 {
                return Ok(());
            }
            let wanted = sample_range(eval, select, *range);
            selector::fetch(eval, select, wanted, &mut |batch| pass.rows(batch, &[], sink))
        }
        RangeArgument::Subquery(subquery) => {
            // Its samples count in the windows, and not where its selectors give them, as in Prometheus.
            let (batch, drops) = run_subquery(&eval.counted(0), subquery)?;
            pass.rows(&batch, &drops, sink)?;
            eval.account.release_samples(batch.weight());
            eval.account.release_bytes(batch.heap_bytes());
            Ok(())
        }
    }
}

/// Times of the samples that the windows of a range selector may hold.
pub fn sample_range(eval: &Evaluator<'_>, select: &Select, range: i64) -> TimeRange {
    let reference = eval.steps.shifted(select.offset, select.at);
    let (before, after) = select.extension.around(eval.query.lookback);
    TimeRange::new(reference.start - range - before + 1, reference.end() + after)
}

/// What looks for twins among the series of `call`, whose names are to go.
fn watch_over(eval: &Evaluator<'_>, call: &OverTime) -> Result<Watch, Error> {
    let is_asked = eval.count() > 0 && !call.function.keeps_name();
    Ok(Watch::new(if is_asked { types(eval, call)? } else { Types::Unknown }))
}

/// What is known beforehand of the types of the series of `call`.
pub fn types(eval: &Evaluator<'_>, call: &OverTime) -> Result<Types, Error> {
    match &call.argument {
        RangeArgument::Select(select, range) => selector::types(eval, select, sample_range(eval, select, *range)),
        RangeArgument::Subquery(_) => Ok(Types::Unknown),
    }
}

fn check_extension(call: &OverTime) -> Result<(), Error> {
    let RangeArgument::Select(select, _) = &call.argument else { return Ok(()) };
    use RangeFunction as F;
    let rates = matches!(call.function, F::Rate | F::Increase | F::Delta);
    let (word, known, names) = match select.extension {
        Extension::None => return Ok(()),
        Extension::Anchored => (
            "anchored",
            rates || matches!(call.function, F::Changes | F::Resets),
            "changes, delta, increase, rate, resets",
        ),
        Extension::Smoothed => ("smoothed", rates, "delta, increase, rate"),
    };
    if known {
        return Ok(());
    }
    let name = call.function.name();
    Err(Error::invalid(format!("{word} modifier can only be used with: {names} - not with {name}")))
}

/// Whether a row's metric name outlives the function.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    Kept,
    Lost,
}

/// One evaluation of a function over time.
struct Pass<'a> {
    eval: &'a Evaluator<'a>,
    call: &'a OverTime,
    reference: StepGrid,
    range: i64,
    extension: Extension,
    params: Vec<Vec<f64>>,
    /// Times of the samples that `windows` and `spans` are of: the series of one target share them.
    known: Vec<i64>,
    windows: Windows,
    /// Samples of the widest of `windows`, of all of them, and of the last.
    windows_samples: (usize, usize, usize),
    /// Most samples at a time, of the rows at hand and a window: what all cores count is changed once for all of them.
    widest: usize,
    /// Samples of the rows at hand.
    given: usize,
    /// Samples of the windows of all series of a batch.
    queried: usize,
    spans: Spans,
    scratch: Scratch,
    extended_windows: Windows,
    histogram_windows: Windows,
    live: Live,
    seen: Option<HashSet<Arc<Labels>>>,
    /// What looks for series that are the same but for their type, where nothing else may be.
    twins: Watch,
    /// The metric name that was last said to look like no counter.
    named: Option<Box<str>>,
    /// Samples that were looked at since somebody looked whether the query is still wanted.
    unwatched: usize,
    out: Matrix,
}

impl<'a> Pass<'a> {
    fn new(eval: &'a Evaluator<'a>, call: &'a OverTime) -> Result<Self, Error> {
        let params = call.params.iter().map(|param| scalar::eval(eval, param)).collect::<Result<_, _>>()?;
        let (offset, at, range, extension) = match &call.argument {
            RangeArgument::Select(select, range) => (select.offset, select.at, *range, select.extension),
            RangeArgument::Subquery(subquery) => (subquery.offset, subquery.at, subquery.range, Extension::None),
        };
        let distinct = match &call.argument {
            // Which series there are does not matter where all that is asked is whether there is any.
            _ if call.function == RangeFunction::Absent => true,
            RangeArgument::Select(select, _) => select.has_one_name() || call.function.keeps_name(),
            RangeArgument::Subquery(subquery) => call.function.keeps_name() || subquery.input.distinct_without_name(),
        };
        Ok(Self {
            eval,
            call,
            reference: eval.steps.shifted(offset, at),
            range,
            extension,
            params,
            known: Vec::new(),
            windows: Windows::default(),
            windows_samples: (0, 0, 0),
            widest: 0,
            given: 0,
            named: None,
            queried: 0,
            spans: Spans::default(),
            scratch: Scratch::default(),
            extended_windows: Windows::default(),
            histogram_windows: Windows::default(),
            live: Live::default(),
            seen: (!distinct && !eval.query.delays_names()).then(HashSet::new),
            twins: watch_over(eval, call)?,
            unwatched: 0,
            out: Matrix::new(eval.count()),
        })
    }

    /// Hands what becomes of all series of `batch` to `sink`. Where `drops` is set, the series' name
    /// is to be dropped anyway.
    fn rows(&mut self, batch: &SampleBatch, drops: &[bool], sink: &mut RowSink<'_>) -> Result<(), Error> {
        self.twins.look(batch.labels.iter().map(|labels| &**labels));
        for (at, series) in batch.iter().enumerate() {
            let drop_name = !self.call.function.keeps_name() || drops.get(at).copied().unwrap_or(false);
            self.row(&series, if drop_name { Naming::Lost } else { Naming::Kept })?;
            if self.out.len() * self.out.steps() >= CELLS_MAX {
                self.hand_on(sink)?;
            }
        }
        self.hand_on(sink)
    }

    /// So many samples were looked at. Fails once the query was canceled or its time is over.
    fn watch(&mut self, samples: usize) -> Result<(), Error> {
        self.unwatched += samples;
        if self.unwatched < SAMPLES_UNWATCHED {
            return Ok(());
        }
        self.unwatched = 0;
        self.eval.query.budget.check()
    }

    /// Hands the rows so far to `sink`.
    fn hand_on(&mut self, sink: &mut RowSink<'_>) -> Result<(), Error> {
        self.eval.query.budget.pass_samples(std::mem::take(&mut self.widest))?;
        self.eval.count_queried(std::mem::take(&mut self.queried));
        self.eval.account.hold_samples(std::mem::take(&mut self.given))?;
        let result = sink(&mut self.out);
        self.out.clear();
        result
    }

    fn row(&mut self, series: &SeriesSamples<'_>, naming: Naming) -> Result<(), Error> {
        let row = self.out.push_row(RowLabels::plain(Arc::clone(series.labels)));
        let plain = series.histograms.is_empty()
            && self.extension == Extension::None
            && (self.eval.query.starts == StartTimestamps::Ignored || series.starts.is_empty());
        let last_window;
        if plain {
            self.watch(series.values.len())?;
            let (timestamps, values, falls) = self.live.floats(series);
            if self.known != timestamps {
                self.windows.find(&self.reference, self.range, timestamps);
                let (widest, total) = self.windows.widest_and_total();
                let last = self.eval.count().checked_sub(1).map_or(0, |step| self.windows.range(step).len());
                self.windows_samples = (widest, total, last);
                if self.call.function.is_extrapolated() {
                    self.spans.find(&self.windows, timestamps, (&self.reference, self.range));
                }
                timestamps.clone_into(&mut self.known);
                if timestamps.len() >= SAMPLES_UNWATCHED {
                    self.eval.query.budget.check()?;
                }
            }
            let (widest, total, last) = self.windows_samples;
            last_window = last;
            self.widest = self.widest.max(self.given + widest);
            self.queried += total;
            let input = RangeInput {
                timestamps,
                values,
                falls,
                windows: &self.windows,
                spans: &self.spans,
                steps: &self.eval.steps,
                range: self.range,
                params: &self.params,
                budget: &self.eval.query.budget,
            };
            let (values, valid) = self.out.cells.row_mut(row);
            over_time::apply(self.call.function, &input, &mut self.scratch, &mut RowOut { values, valid })?;
            self.watch(total)?;
        } else {
            last_window = self.mixed_row(series, row)?;
        }
        if !self.out.cells.occupied(row) {
            self.out.rows.pop();
            self.out.cells.pop_row();
            return Ok(());
        }
        self.given += row_samples(&self.out, row);
        self.widest = self.widest.max(self.given + last_window);
        self.note_counter(series, row);
        self.note_quantile(row);
        self.label_row(row, naming)
    }

    /// A series that has histograms or start timestamps, or whose windows are extended. Gives the samples of the last
    /// window.
    fn mixed_row(&mut self, series: &SeriesSamples<'_>, row: usize) -> Result<usize, Error> {
        let all = mixed::Samples::live(series);
        let (before, after) = self.extension.around(self.eval.query.lookback);
        let bounds = (-self.range - before, after);
        self.extended_windows.find_between(&self.reference, bounds, &all.timestamps);
        self.histogram_windows.find_between(&self.reference, bounds, &all.histogram_timestamps);
        let weights = all.histogram_weights();
        let function = mixed::Function {
            query: self.eval.query,
            function: self.call.function,
            metric: series.labels.metric_name(),
            first_position: self.call.first_position,
            range: self.range,
            extension: self.extension,
        };
        let rates = function.rates(&all);
        let mut last_window = 0;
        for step in 0..self.eval.count() {
            let floats = self.extended_windows.range(step);
            let found = self.histogram_windows.range(step);
            let histograms = all.histograms_before_ties((&floats, found), self.reference.time(step));
            last_window = floats.len() + weights[histograms.end] - weights[histograms.start];
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            self.widest = self.widest.max(self.given + last_window);
            self.queried += last_window;
            self.watch(floats.len() + HISTOGRAM_WEIGHT * histograms.len())?;
            if let Some(rates) = rates.as_ref().filter(|_| floats.is_empty()) {
                let cell = function.histogram_rate(rates, histograms, self.reference.time(step));
                self.out.cells.push_cell(row, step, cell);
                continue;
            }
            let params: Vec<f64> = self.params.iter().map(|param| param[step]).collect();
            let window = all.window(floats, histograms);
            let times = mixed::Times { end: self.reference.time(step), step: self.eval.steps.time(step) };
            let cell = function.apply(&window, times, &params)?;
            self.out.cells.push_cell(row, step, cell);
        }
        Ok(last_window)
    }

    /// Says so when a rate is taken of what does not look like a counter.
    fn note_counter(&mut self, series: &SeriesSamples<'_>, row: usize) {
        if !matches!(self.call.function, RangeFunction::Rate | RangeFunction::Increase)
            || !bitmap::any(self.out.cells.valid(row))
        {
            return;
        }
        let position = self.call.first_position;
        let name = series.labels.metric_name();
        let query = self.eval.query;
        if name.is_empty() {
            return;
        }
        if query.counter_evidence == CounterEvidence::TypeLabel {
            let kind = series.labels.get("__type__").unwrap_or("");
            if kind != "counter" && kind != "histogram" {
                query.annotate(Annotation::possible_non_counter_label(name, kind, position));
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
            && self.named.as_deref() != Some(name)
        {
            query.annotate(Annotation::possible_non_counter(name, position));
            self.named = Some(name.into());
        }
    }

    /// Says so when a quantile is taken that is none.
    fn note_quantile(&self, row: usize) {
        if self.call.function != RangeFunction::Quantile {
            return;
        }
        for step in bitmap::ones(self.out.cells.valid(row)) {
            let quantile = self.params[0][step];
            if !(0.0..=1.0).contains(&quantile) {
                self.eval.query.annotate(Annotation::invalid_quantile(quantile, self.call.first_position));
            }
        }
    }

    fn label_row(&mut self, row: usize, naming: Naming) -> Result<(), Error> {
        let labels = &mut self.out.rows[row];
        if naming == Naming::Lost {
            let may_have_twins = self.seen.is_none() && self.call.function != RangeFunction::Absent;
            let is_watched = may_have_twins && self.twins.concerns(self.eval, &labels.labels);
            let is_marked = self.eval.query.delays_names() || (self.call.names == Names::Mark && self.seen.is_none());
            let rest = (is_watched || !is_marked).then(|| without_metadata(&labels.labels));
            if let Some(rest) = rest.as_ref().filter(|_| is_watched) {
                self.twins.take_whole(self.eval, rest)?;
            }
            match rest.filter(|_| !is_marked) {
                Some(rest) => labels.labels = rest,
                None => labels.drop_name = true,
            }
        }
        if let Some(seen) = &mut self.seen
            && !seen.insert(Arc::clone(&labels.labels))
        {
            return Err(Error::invalid("vector cannot contain metrics with the same labelset"));
        }
        Ok(())
    }
}

/// Samples of row `row`.
fn row_samples(rows: &Matrix, row: usize) -> usize {
    let histograms = rows.histograms(row).iter().map(|(_, histogram)| histogram_samples(histogram));
    bitmap::count(rows.cells.valid(row)) + histograms.sum::<usize>()
}

/// Scratch for the samples of a series without its stale markers.
#[derive(Default)]
struct Live {
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Live {
    /// Times and values of the samples, and whether one may be less than the one before it.
    fn floats<'a>(&'a mut self, series: &SeriesSamples<'a>) -> (&'a [i64], &'a [f64], bool) {
        let found = simd::reduce::survey(simd::isa(), series.values);
        if !found.is_stale {
            return (series.timestamps, series.values, found.falls);
        }
        self.timestamps.clear();
        self.values.clear();
        for (time, value) in series.timestamps.iter().zip(series.values) {
            if !is_stale_nan(*value) {
                self.timestamps.push(*time);
                self.values.push(*value);
            }
        }
        (&self.timestamps, &self.values, true)
    }
}

/// Steps on which a subquery is evaluated: multiples of its step, those that any window can hold.
pub fn subquery_steps(steps: &StepGrid, subquery: &Subquery) -> StepGrid {
    let reference = steps.shifted(subquery.offset, subquery.at);
    let before = reference.start - subquery.range;
    let mut start = subquery.step * (before / subquery.step);
    if start <= before {
        start += subquery.step;
    }
    StepGrid::range(start, reference.end(), subquery.step)
}

/// Evaluates a subquery: its samples, and which of its series are to lose their names.
pub fn run_subquery(eval: &Evaluator<'_>, subquery: &Subquery) -> Result<(SampleBatch, Vec<bool>), Error> {
    let steps = subquery_steps(&eval.steps, subquery);
    let mut batch = SampleBatch::default();
    if steps.count == 0 || eval.count() == 0 {
        return Ok((batch, Vec::new()));
    }
    let before = eval.account.held();
    let inner = eval.over(steps);
    inner.hold_steps()?;
    let rows = inner.eval_both(&subquery.input)?;
    // Rows and samples are there together until the rows go.
    let floats: usize = (0..rows.len()).map(|row| bitmap::count(rows.cells.valid(row))).sum();
    eval.account.hold_bytes(2 * size_of::<f64>() * floats)?;
    batch.floats.timestamps.reserve(floats);
    batch.floats.values.reserve(floats);
    let mut drops = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        eval.query.budget.check_at(row)?;
        push_floats(&rows, row, (&steps, &mut batch.floats), || eval.query.budget.check())?;
        for (step, histogram) in rows.histograms(row) {
            batch.histograms.timestamps.push(steps.time(*step as usize));
            let certain = matches!(histogram.counter_reset, CounterReset::Yes | CounterReset::No);
            batch.histograms.values.push(if certain {
                eval.account.hold_bytes(histogram_bytes(histogram))?;
                let mut unsure = (**histogram).clone();
                unsure.counter_reset = CounterReset::Unknown;
                Arc::new(unsure)
            } else {
                Arc::clone(histogram)
            });
        }
        // What a comparison leaves nothing of is no series.
        if rows.cells.occupied(row) {
            batch.finish_series(Arc::clone(&rows.rows[row].labels));
            drops.push(rows.rows[row].drop_name);
        }
    }
    drop(rows);
    eval.account.settle_bytes(before, batch.heap_bytes())?;
    eval.account.settle_samples(before, batch.weight())?;
    Ok((batch, drops))
}

/// Appends the floats of row `row` with their times. Fails between two stretches of steps as soon as `check` does.
fn push_floats(
    rows: &Matrix,
    row: usize,
    (steps, out): (&StepGrid, &mut FloatColumns),
    mut check: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let values = rows.cells.values(row);
    for (at, valid) in rows.cells.valid(row).chunks(STEPS_UNWATCHED / 64).enumerate() {
        if at > 0 {
            check()?;
        }
        for step in bitmap::ones(valid) {
            let step = at * STEPS_UNWATCHED + step;
            out.push(steps.time(step), values[step]);
        }
    }
    Ok(())
}

/// The samples of a range vector that no function is applied to.
pub fn samples(eval: &Evaluator<'_>, argument: &RangeArgument) -> Result<SampleBatch, Error> {
    match argument {
        RangeArgument::Subquery(subquery) => {
            let (batch, drops) = run_subquery(eval, subquery)?;
            group::named_at_the_end(eval, batch, &drops)
        }
        RangeArgument::Select(select, range) => {
            let wanted = sample_range(eval, select, *range);
            let end = eval.steps.shifted(select.offset, select.at).end();
            let mut out = SampleBatch::default();
            let before = eval.account.held();
            let mut bytes = 0;
            selector::fetch(eval, select, wanted, &mut |batch| {
                // The batch is there until what lies in the window is copied, which is all of it at most.
                eval.account.hold_bytes(2 * batch.heap_bytes())?;
                let first = out.len();
                for series in batch.iter() {
                    mixed::range_samples(&series, select.extension, (wanted, end - range, end), &mut out)?;
                }
                let mut samples = 0;
                for series in (first..out.len()).map(|at| out.series(at)) {
                    samples += series.weight();
                    bytes += series.heap_bytes();
                }
                eval.count_queried(samples);
                eval.account.settle_bytes(before, bytes)?;
                eval.account.hold_samples(samples)
            })?;
            Ok(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_many_steps_is_copied_whole_and_the_copy_ends_between_two_stretches() {
        const COUNT: usize = 2 * STEPS_UNWATCHED + 5;
        let mut rows = Matrix::new(COUNT);
        rows.push_row(RowLabels::plain(Arc::new(Labels::from_pairs([("a", "b")]))));
        let (values, valid) = rows.cells.row_mut(0);
        for step in (0..COUNT).step_by(3) {
            values[step] = step as f64;
            bitmap::set(valid, step);
        }
        let (steps, mut out) = (StepGrid::range(10, 10 + 7 * (COUNT as i64 - 1), 7), FloatColumns::default());
        let mut looks = 0;
        let look = || {
            looks += 1;
            Ok(())
        };
        push_floats(&rows, 0, (&steps, &mut out), look).unwrap();
        let expected: Vec<(i64, f64)> = rows.floats(0).map(|(step, value)| (steps.time(step), value)).collect();
        let found: Vec<(i64, f64)> = out.timestamps.iter().copied().zip(out.values.iter().copied()).collect();
        assert!(found == expected && looks == 2, "{looks}");
        let mut part = FloatColumns::default();
        let ended = push_floats(&rows, 0, (&steps, &mut part), || Err(Error::invalid("gone")));
        assert_eq!((ended, part.len()), (Err(Error::invalid("gone")), STEPS_UNWATCHED.div_ceil(3)));
    }
}
