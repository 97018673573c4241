//! Evaluation: operators over all steps at once, batch of series by batch of series.
//!
//! Operators that work on one series at a time *stream*: they hand batches of rows to a sink as
//! their input comes in, so that `sum(rate(x[5m]))` never holds more than a batch of rates. All
//! others *evaluate* to a whole matrix.

mod absent;
mod aggregate;
mod binary;
/// Dates in UTC.
pub mod calendar;
mod cores;
/// Exponentials, logarithms and powers to the last bit as Go has them.
pub(super) mod elementary;
mod elementwise;
mod group;
mod histogram;
mod info;
mod labels;
/// Float arithmetic with Go's and Prometheus' corner cases.
pub mod math;
mod mixed;
mod over_time;
mod range;
mod scalar;
mod selector;
mod sort;
mod stats;
mod stepwise;
mod twins;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::batch::{Cell, StepGrid};
use crate::model::{Error, Labels, Matcher, TimeRange};

use super::account::Account;
use super::annotations::{Annotation, Annotations};
use super::budget::Budget;
use super::explain::Profile;
use super::plan::{Call, Node, Operator, ValueKind};
use super::source::{Files, Part, Source};
use super::value::{Matrix, RowLabels, without_metadata};

use cores::Reading;
use stepwise::Stepwise;
use twins::{Twins, Watch};

pub(super) use aggregate::count_values;
pub(super) use group::{Room, merge_same_labels};
pub(super) use range::samples;
pub(super) use scalar::eval as scalar_value;

/// Takes batches of rows; it may take their contents.
pub(super) type RowSink<'s> = dyn FnMut(&mut Matrix) -> Result<(), Error> + 's;

/// What is left of a row's labels.
type Rest = fn(&Arc<Labels>) -> Arc<Labels>;

/// Cells that a selector hands on at once, at least: few series have many of them where steps are many.
const CELLS_MAX: usize = 1 << 17;

/// Steps of a row that are worked on between two looks at whether the query is still wanted; whole words of a bitmap.
const STEPS_UNWATCHED: usize = 1 << 18;

/// Rows that there is room for before the first comes, unless they are long: growing by doubling would touch
/// as much memory again, and room that is not used is none.
const ROWS_AT_ONCE: usize = 1024;

/// What all operators of a query share, on whatever core they run.
pub(super) struct Query {
    /// All operators.
    pub root: Node,
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// How far back an instant selector looks, in milliseconds.
    pub lookback: i64,
    /// Times of the samples that the query may look at.
    pub extent: TimeRange,
    /// When metric names are dropped.
    pub name_removal: NameRemoval,
    /// Whether `__type__` decides what a counter is.
    pub counter_evidence: CounterEvidence,
    /// Whether start timestamps are looked at.
    pub starts: StartTimestamps,
    /// What info series must match besides what the query says.
    pub info_matchers: Vec<Matcher>,
    /// What the query may use.
    pub budget: Budget,
    /// Series that only their type or unit tells apart.
    pub twins: Twins,
    /// Warnings and infos so far.
    pub annotations: Mutex<Annotations>,
    /// Warnings of the source.
    pub warnings: Mutex<Vec<String>>,
    /// What each operator did.
    pub profile: Profile,
}

/// When metric names are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NameRemoval {
    /// By each operator.
    #[default]
    Immediate,
    /// At the end of the query.
    Delayed,
}

/// By what a counter is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CounterEvidence {
    /// The suffix of its name.
    #[default]
    Name,
    /// Its `__type__` label.
    TypeLabel,
}

/// Whether start timestamps take part in rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StartTimestamps {
    /// They do not.
    #[default]
    Ignored,
    /// They do.
    Used,
}

/// Evaluates operators over one grid of steps.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    /// What all operators share.
    pub query: &'a Arc<Query>,
    /// What the core that the evaluator runs on holds.
    pub account: &'a Account<'a>,
    /// The steps.
    pub steps: StepGrid,
    /// Which part of the series selectors give.
    pub part: Part,
    /// The files of the core that the evaluator runs on.
    pub files: Files<'a>,
    /// How often a sample counts that a selector gives to a step: for each of those that the step stands for, and not
    /// at all where the windows of a function count it again.
    pub times_counted: usize,
    /// The operator that it evaluates.
    pub operator: usize,
    /// The operator down to which series are known to be read as a whole: those on the way are not asked again.
    pub whole_to: Option<usize>,
}

impl Query {
    /// Adds a warning or info.
    pub fn annotate(&self, annotation: Annotation) {
        self.annotations.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(annotation);
    }

    /// Whether metric names are dropped at the end only.
    pub fn delays_names(&self) -> bool {
        self.name_removal == NameRemoval::Delayed
    }
}

/// Bytes that a step takes whatever comes out of it: a row in the making, its windows, and what functions keep of them.
const STEP_BYTES: usize = 64;

/// Steps that are not worth counting.
const STEPS_FREE: usize = 1 << 16;

impl<'a> Evaluator<'a> {
    /// Holds what a core needs for this many steps before it makes room for them: they may be more than there is
    /// memory for.
    pub fn hold_steps(&self) -> Result<(), Error> {
        let counted = self.count().saturating_sub(STEPS_FREE);
        self.account.hold_bytes(counted.saturating_mul(STEP_BYTES).min(1 << 60))
    }

    /// Number of steps.
    pub fn count(&self) -> usize {
        self.steps.count
    }

    /// Whether it evaluates what comes first of all that is evaluated in parts, or all.
    pub fn is_first_part(&self) -> bool {
        self.part.index == 0
    }

    /// The same evaluator over other steps.
    pub fn over(&self, steps: StepGrid) -> Self {
        Self { steps, ..*self }
    }

    /// The same evaluator whose selectors' samples count `times` as often.
    pub fn counted(&self, times: usize) -> Self {
        Self { times_counted: self.times_counted.saturating_mul(times), ..*self }
    }

    /// Counts `count` samples that a selector gave to steps.
    pub fn count_queried(&self, count: usize) {
        self.query.budget.count_queried(count.saturating_mul(self.times_counted));
        self.query.profile.count_queried(self.operator, count);
    }

    /// The same evaluator where series are read as a whole down to operator `last`.
    fn whole_down_to(&self, last: usize) -> Self {
        Self { whole_to: Some(last), ..*self }
    }

    /// The whole result of `node`, a vector; a scalar becomes a row without labels. A step of a row
    /// holds one sample.
    pub fn eval(&self, node: &Node) -> Result<Matrix, Error> {
        let mut rows = self.eval_both(node)?;
        if node.merges_kinds() {
            rows.cells.floats_first();
        }
        Ok(rows)
    }

    /// The whole result of `node`, in which steps of rows that became one may hold a float and a
    /// histogram.
    pub fn eval_both(&self, node: &Node) -> Result<Matrix, Error> {
        self.query.budget.check()?;
        if node.streams() {
            return self.eval_streamed(node);
        }
        let started = Instant::now();
        let result = Self { operator: node.id, whole_to: None, ..*self }.eval_whole(node)?;
        self.query.profile.record(node.id, started.elapsed(), &result);
        Ok(result)
    }

    fn eval_streamed(&self, node: &Node) -> Result<Matrix, Error> {
        let (before, twins) = (self.account.held(), self.query.twins.count());
        let mut all = Matrix::new(self.count());
        match self.reading(node)? {
            Reading::Parts(cut) => {
                for mut rows in cut.run(self, node, cores::rows)? {
                    self.account.hold_bytes(rows.heap_bytes())?;
                    all.append(&mut rows, || self.query.budget.check())?;
                }
            }
            Reading::Whole(last) => {
                all.cells.reserve(CELLS_MAX.min(ROWS_AT_ONCE * self.count()));
                self.whole_down_to(last).stream_both(node, &mut |batch| {
                    self.account.hold_bytes(batch.heap_bytes() + batch.doubled_bytes())?;
                    all.append(batch, || self.query.budget.check())
                })?;
            }
        }
        if self.query.twins.count() > twins {
            all = group::merge_same_labels(self, all, Room::Both)?;
        }
        self.account.settle(before, &all)?;
        Ok(all)
    }

    /// How the series under `node`, which streams, are read.
    fn reading(&self, node: &Node) -> Result<Reading, Error> {
        self.whole_to.map_or_else(|| cores::cut(self, node), |last| Ok(Reading::Whole(last)))
    }

    fn eval_whole(&self, node: &Node) -> Result<Matrix, Error> {
        if node.kind() == ValueKind::Scalar {
            return scalar::as_matrix(self, node);
        }
        match &node.operator {
            Operator::Aggregate(aggregate) => aggregate::eval(self, node, aggregate),
            Operator::Binary(binary) => binary::eval(self, binary),
            Operator::Plus(input) => self.eval_both(input),
            Operator::StepInvariant(input) => self.eval_once(input),
            Operator::OverTime(call) => absent::eval_over_time(self, call),
            Operator::Float(function, _) => {
                self.account.hold_samples(self.count())?;
                Ok(elementwise::calendar_of_steps(&self.steps, *function))
            }
            Operator::Call(call, args) => {
                let before = self.account.held();
                let result = self.eval_call(node, call, args)?;
                self.account.settle(before, &result)?;
                Ok(result)
            }
            _ => Err(Error::new(crate::model::ErrorKind::Bug, "an operator that streams was evaluated whole")),
        }
    }

    fn eval_call(&self, node: &Node, call: &Call, args: &[Node]) -> Result<Matrix, Error> {
        match call {
            Call::Vector => {
                let rows = scalar::as_matrix(self, &args[0])?;
                let mut work = Stepwise::new(self, 1);
                work.give(&rows);
                work.pass(self)?;
                Ok(rows)
            }
            Call::Timestamp => selector::timestamps(self, &args[0]),
            Call::StartTimestamp => selector::start_timestamps(self, &args[0]),
            Call::Absent => absent::eval(self, &args[0]),
            Call::Sort(order) => sort::by_value(self, node, &args[0], *order),
            Call::SortByLabel(order, names) => sort::by_label(self, node, &args[0], (*order, names)),
            Call::LabelReplace(replace) => labels::replace(self, &args[0], replace),
            Call::LabelJoin(join) => labels::join(self, &args[0], join),
            Call::HistogramQuantile => histogram::quantile(self, &args[0], &args[1]),
            Call::HistogramQuantiles(label) => histogram::quantiles(self, label, args),
            Call::HistogramFraction => histogram::fraction(self, args),
            Call::Info(matchers, time) => info::eval(self, &args[0], (matchers.as_deref(), *time)),
            Call::Time | Call::Pi | Call::Scalar | Call::MaxOf | Call::MinOf => scalar::as_matrix(self, node),
        }
    }

    /// Evaluates what does not depend on the step at the first step and repeats it.
    fn eval_once(&self, input: &Node) -> Result<Matrix, Error> {
        self.query.profile.count_steps(self.operator, self.count());
        let once = self.over(self.steps.first()).counted(self.count()).eval_both(input)?;
        let mut out = Matrix::new(self.count());
        self.account.hold_bytes(once.len() * self.count() * size_of::<f64>())?;
        for (row, labels) in once.rows.iter().enumerate() {
            let cell = once.cell(row, 0);
            if matches!(cell, Cell::Float(_)) && !once.histograms(row).is_empty() {
                return Err(Error::invalid("unexpected number of samples"));
            }
            let to = out.push_row(labels.clone());
            self.query.budget.check_at(row)?;
            for step in 0..self.count() {
                if step > 0 && step.is_multiple_of(STEPS_UNWATCHED) {
                    self.query.budget.check()?;
                }
                out.cells.push_cell(to, step, cell.clone());
            }
        }
        self.account.hold_samples(out.cells.samples().saturating_sub(once.cells.samples()))?;
        Ok(out)
    }

    /// Hands the rows of `node` to `sink`, batch by batch where that is possible. A step of a row
    /// holds one sample.
    pub fn stream(&self, node: &Node, sink: &mut RowSink<'_>) -> Result<(), Error> {
        if !node.merges_kinds() {
            return self.stream_both(node, sink);
        }
        self.stream_both(node, &mut |batch| {
            batch.cells.floats_first();
            sink(batch)
        })
    }

    fn stream_both(&self, node: &Node, sink: &mut RowSink<'_>) -> Result<(), Error> {
        if !node.streams() {
            return sink(&mut self.eval_both(node)?);
        }
        self.query.budget.check()?;
        match self.reading(node)? {
            Reading::Parts(cut) => cut.run(self, node, cores::rows)?.iter_mut().try_for_each(sink),
            Reading::Whole(last) => {
                let whole_to = Some(last).filter(|last| *last != node.id);
                Self { operator: node.id, whole_to, ..*self }.stream_whole(node, sink)
            }
        }
    }

    /// [`Self::stream_both`] of `node`, which streams and is not cut.
    fn stream_whole(&self, node: &Node, sink: &mut RowSink<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let mut inside = std::time::Duration::ZERO;
        let mut counted = |batch: &mut Matrix| {
            self.query.budget.check()?;
            self.query.profile.count_rows(node.id, batch);
            let entered = Instant::now();
            let result = sink(batch);
            inside += entered.elapsed();
            result
        };
        let result = match &node.operator {
            Operator::Select(select) => selector::stream(self, select, &mut counted),
            Operator::OverTime(call) => range::stream(self, call, &mut counted),
            Operator::Float(function, args) => elementwise::stream(self, *function, args, &mut counted),
            Operator::Histogram(function, input) => histogram::stream(self, *function, input, &mut counted),
            Operator::Aggregate(aggregate) => aggregate::stream_counts(self, aggregate, &mut counted),
            Operator::Negate(input) => elementwise::negate(self, input, &mut counted),
            Operator::Plus(input) => self.stream_both(input, &mut counted),
            Operator::Binary(binary) => binary::stream_with_scalar(self, binary, &mut counted),
            _ => Ok(()),
        };
        self.query.profile.add_time(node.id, started.elapsed().saturating_sub(inside));
        result
    }

    /// Applies `change` to the rows of `input` and takes their names, types and units away.
    fn stream_renamed(&self, input: &Node, change: &mut RowSink<'_>, sink: &mut RowSink<'_>) -> Result<(), Error> {
        self.stream_without((without_metadata, Room::One), input, change, sink)
    }

    /// Applies `change` to the rows of `input` and leaves of their labels what `rest` gives; a step of those that are
    /// left with the same has so much room.
    fn stream_without(
        &self,
        (rest, room): (Rest, Room),
        input: &Node,
        change: &mut RowSink<'_>,
        sink: &mut RowSink<'_>,
    ) -> Result<(), Error> {
        if self.query.delays_names() || input.distinct_without_name() {
            let mut watch = Watch::over(self, input)?;
            return self.stream(input, &mut |batch| {
                change(batch)?;
                let Matrix { rows, cells } = &mut *batch;
                watch.look(rows.iter().map(|row| &*row.labels));
                for (at, row) in rows.iter_mut().enumerate() {
                    let is_concerned = watch.concerns(self, &row.labels);
                    *row = self.left_of(row, rest);
                    if is_concerned {
                        watch.take(self, row, (&*cells, at), room)?;
                    }
                }
                sink(batch)
            });
        }
        let mut all = self.eval(input)?;
        change(&mut all)?;
        for row in &mut all.rows {
            *row = self.left_of(row, rest);
        }
        sink(&mut group::merge_same_labels(self, all, room)?)
    }

    /// Takes metric name, type and unit from all rows, or marks them for the end of the query.
    pub fn drop_names(&self, rows: &mut Matrix) {
        for row in &mut rows.rows {
            *row = self.renamed(row);
        }
    }

    /// A row's labels without its name, type and unit, or marked for the end of the query.
    pub fn renamed(&self, row: &RowLabels) -> RowLabels {
        self.left_of(row, without_metadata)
    }

    fn left_of(&self, row: &RowLabels, rest: Rest) -> RowLabels {
        if self.query.delays_names() || row.drop_name {
            return RowLabels { labels: row.labels.clone(), drop_name: true };
        }
        RowLabels::plain(rest(&row.labels))
    }
}
