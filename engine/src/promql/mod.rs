//! Prometheus' query language over columns.
//!
//! ```text
//! text ─ syntax ─> tree ─ plan ─> operators ─ exec ─> rows over steps ─> value
//!                                   │
//!                                 source   (blocks, heads, stores: anything that gives series)
//! ```

/// Text to tree and back.
pub mod syntax;
/// The functions of the language.
pub mod function;
/// Where samples come from.
pub mod source;
/// From chunks of floats to samples, many series at once.
pub mod floats;
/// From chunks to samples.
pub mod assemble;
/// Series of opened blocks.
pub mod blocks;
/// From tree to operators.
pub mod plan;
/// The words of warnings and infos.
mod words;
/// Warnings and infos.
pub mod annotations;
/// Warnings and infos as texts of others.
pub mod remarks;
/// Sorting that can be ended.
pub mod order;
/// Rows over steps and the values of queries.
pub mod value;
/// Text in pieces.
pub mod pieces;
/// Values as Prometheus' JSON.
pub mod json;
/// Limits of a query.
pub mod budget;
/// What one core holds of them.
pub mod account;
/// What operators did.
pub mod explain;
/// What is computed from histograms.
pub mod histogram;
/// Operators at work.
pub mod exec;

use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::StepGrid;
use crate::model::{self, Error, Matcher};

use account::Account;
use annotations::{Annotations, Severity};
use budget::{Budget, Memory, Patience};
use exec::{CounterEvidence, Evaluator, NameRemoval, Query, StartTimestamps};
use explain::{Explained, Profile};
use plan::{AggregateOperator, Build, Operator, Plan, ValueKind};
use source::{Files, Part, Source};
use syntax::Expr;
use value::{Matrix, QueryValue};

/// How queries are evaluated.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which experimental syntax is understood.
    pub syntax: syntax::Options,
    /// Milliseconds that an instant selector looks back.
    pub lookback_ms: i64,
    /// Samples that one query may hold in memory.
    pub samples_max: u64,
    /// Bytes that one query may hold in memory.
    pub bytes_max: u64,
    /// The process' memory, which queries share with all else; none where nothing else counts.
    pub memory: Option<Arc<model::budget::Budget>>,
    /// Milliseconds between the steps of a subquery that says none.
    pub default_step_ms: i64,
    /// When metric names are dropped.
    pub name_removal: NameRemoval,
    /// By what counters are recognised.
    pub counter_evidence: CounterEvidence,
    /// Whether start timestamps take part in rates.
    pub starts: StartTimestamps,
}

/// What one request says beside its query.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// When and by whom the query is ended.
    pub patience: Patience,
    /// Another lookback delta, in milliseconds.
    pub lookback_ms: Option<i64>,
    /// What series must match that `info` finds by itself, besides what the query says.
    pub info_matchers: Vec<Matcher>,
}

/// The steps of a range query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSteps {
    /// First step (Unix milliseconds).
    pub start: i64,
    /// Last step at most (Unix milliseconds).
    pub end: i64,
    /// Milliseconds between steps, above 0.
    pub step: i64,
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The value.
    pub value: QueryValue,
    /// Warnings, with their place in the query.
    pub warnings: Vec<String>,
    /// Infos, with their place in the query.
    pub infos: Vec<String>,
    /// What the query cost.
    pub stats: QueryStats,
    /// The operators and what each did.
    pub explained: Explained,
    /// The bytes of the value, which count as long as this is kept.
    pub memory: Arc<Memory>,
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that sources gave.
    pub samples_read: u64,
    /// Samples that selectors gave to steps; one that lies in several windows counts in each.
    pub samples_queried: u64,
    /// Most samples in memory at a time.
    pub peak_samples: u64,
}

/// At which point a query failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The query is not understood, or not of a type that can be answered.
    Prepare,
    /// The query is understood and its evaluation failed.
    Execute,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// At which point it happened.
    pub stage: Stage,
    /// What happened.
    pub error: Error,
}

/// Evaluates queries.
#[derive(Clone, Debug)]
pub struct Engine {
    options: Options,
}

/// A query and its syntax tree.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a> {
    /// The query as it was written, for the places of warnings.
    pub text: &'a str,
    /// Its tree.
    pub expr: &'a Expr,
}

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once, at a time in Unix milliseconds.
    Instant(i64),
    /// At steps.
    Range(RangeSteps),
}

impl Default for Options {
    /// Prometheus' defaults.
    fn default() -> Self {
        Self {
            syntax: syntax::Options::default(),
            lookback_ms: 5 * 60 * 1000,
            samples_max: 50_000_000,
            bytes_max: u64::MAX,
            memory: None,
            default_step_ms: 60 * 1000,
            name_removal: NameRemoval::Immediate,
            counter_evidence: CounterEvidence::Name,
            starts: StartTimestamps::Ignored,
        }
    }
}

impl Engine {
    /// An engine with `options`.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Its options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Evaluates `query` at `time` (Unix milliseconds).
    pub fn instant(
        &self,
        query: &str,
        time: i64,
        source: Arc<dyn Source>,
        context: &Context,
    ) -> Result<QueryResult, QueryError> {
        let expr = self.parse(query)?;
        self.evaluate(Parsed { text: query, expr: &expr }, When::Instant(time), source, context)
    }

    /// Evaluates `query` at all `steps`.
    pub fn range(
        &self,
        query: &str,
        steps: RangeSteps,
        source: Arc<dyn Source>,
        context: &Context,
    ) -> Result<QueryResult, QueryError> {
        let expr = self.parse(query)?;
        self.evaluate(Parsed { text: query, expr: &expr }, When::Range(steps), source, context)
    }

    /// The tree of `query`; fails with the place of what is wrong, in Prometheus' words.
    pub fn parse(&self, query: &str) -> Result<Expr, QueryError> {
        syntax::parse(query, self.options.syntax)
            .map_err(|error| QueryError { stage: Stage::Prepare, error: Error::invalid(error.to_string()) })
    }

    /// Evaluates a query whose tree is known.
    pub fn evaluate(
        &self,
        query: Parsed<'_>,
        when: When,
        source: Arc<dyn Source>,
        context: &Context,
    ) -> Result<QueryResult, QueryError> {
        check_kind(query.expr, when)?;
        self.run((query.text, query.expr), when, source, context)
    }

    /// The operators of `expr` without evaluating them.
    pub fn explain(&self, expr: &Expr, when: When) -> Result<Explained, QueryError> {
        check_kind(expr, when)?;
        let plan = self.plan(expr, when, self.options.lookback_ms)?;
        Ok(Profile::new(0).explain(&plan.root))
    }

    fn plan(&self, expr: &Expr, when: When, lookback: i64) -> Result<Plan, QueryError> {
        let (start, end, step) = match when {
            When::Instant(time) => (time, time, 0),
            When::Range(steps) => (steps.start, steps.end, steps.step),
        };
        let build = Build { start, end, step, default_step: self.options.default_step_ms, lookback };
        plan::build(&build, expr).map_err(|error| QueryError { stage: Stage::Prepare, error })
    }

    fn run(
        &self,
        (text, expr): (&str, &Expr),
        when: When,
        source: Arc<dyn Source>,
        context: &Context,
    ) -> Result<QueryResult, QueryError> {
        let options = &self.options;
        let lookback = context.lookback_ms.filter(|lookback| *lookback > 0).unwrap_or(options.lookback_ms);
        let memory = Memory::new(options.bytes_max, options.memory.as_ref())
            .map_err(|error| QueryError { stage: Stage::Execute, error })?;
        let Plan { root: node, operators, extent } = self.plan(expr, when, lookback)?;
        let query = Arc::new(Query {
            root: node,
            source,
            lookback,
            extent,
            name_removal: options.name_removal,
            counter_evidence: options.counter_evidence,
            starts: options.starts,
            info_matchers: context.info_matchers.clone(),
            budget: Budget::new(options.samples_max, Arc::new(memory), &context.patience),
            twins: Default::default(),
            annotations: Mutex::new(Annotations::default()),
            warnings: Mutex::new(Vec::new()),
            profile: Profile::new(operators),
        });
        let value = evaluate(&query, when).map_err(|error| QueryError { stage: Stage::Execute, error })?;
        let stats = QueryStats {
            samples_read: query.budget.samples_read(),
            samples_queried: query.budget.samples_queried(),
            peak_samples: query.budget.peak_samples(),
        };
        let explained = query.profile.explain(&query.root);
        let memory = Arc::clone(query.budget.memory());
        memory.settle(value.heap_bytes() as u64);
        let annotations = query.annotations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut warnings = std::mem::take(&mut *query.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        warnings.extend(annotations.render(Severity::Warning, text));
        // An endpoint that evaluates its share tells infos as warnings.
        let mut infos: Vec<String> = warnings.extract_if(.., |text| text.starts_with(annotations::INFO)).collect();
        infos.extend(annotations.render(Severity::Info, text));
        Ok(QueryResult { value, warnings, infos, stats, explained, memory })
    }
}

/// Fails when a value of this kind can't be had at several steps.
fn check_kind(expr: &Expr, when: When) -> Result<(), QueryError> {
    let kind = expr.value_type();
    let in_range = matches!(kind, syntax::ValueType::Scalar | syntax::ValueType::Vector);
    if in_range || matches!(when, When::Instant(_)) {
        return Ok(());
    }
    let kind = kind.documented();
    let message = format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
    Err(QueryError { stage: Stage::Prepare, error: Error::invalid(message) })
}

fn evaluate(query: &Arc<Query>, when: When) -> Result<QueryValue, Error> {
    let node = &query.root;
    let steps = match when {
        When::Instant(time) => StepGrid::instant(time),
        When::Range(steps) => StepGrid::range(steps.start, steps.end, steps.step),
    };
    let account = Account::new(&query.budget);
    let eval = Evaluator {
        query,
        account: &account,
        steps,
        part: Part::WHOLE,
        files: Files::default(),
        times_counted: 1,
        operator: node.id,
        whole_to: None,
    };
    eval.hold_steps()?;
    match (&node.operator, node.kind()) {
        (Operator::Text(text), _) => Ok(QueryValue::Text(steps.start, text.to_string_lossy())),
        (Operator::Samples(argument), _) => {
            let samples = exec::samples(&eval, argument)?;
            Ok(QueryValue::Samples(samples))
        }
        (Operator::Aggregate(aggregate), _)
            if aggregate.operator == AggregateOperator::CountValues && matches!(when, When::Range(_)) =>
        {
            Ok(QueryValue::Samples(exec::count_values(&eval, node, aggregate)?))
        }
        (_, ValueKind::Scalar) if matches!(when, When::Instant(_)) => {
            Ok(QueryValue::Scalar(steps, exec::scalar_value(&eval, node)?))
        }
        _ => {
            let rows = finish(&eval, eval.eval_both(node)?)?;
            Ok(match when {
                When::Instant(_) => QueryValue::Vector(steps, one_of_both(rows)),
                When::Range(_) => QueryValue::Matrix(steps, eval.account.by_labels(rows)?),
            })
        }
    }
}

/// An instant vector: of a float and a histogram of one series the histogram.
fn one_of_both(mut rows: Matrix) -> Matrix {
    rows.cells.histograms_only();
    rows
}

/// Takes names that were to be dropped at the end, and rows that hold nothing.
fn finish(eval: &Evaluator<'_>, rows: Matrix) -> Result<Matrix, Error> {
    let mut rows = eval.account.occupied(rows)?;
    for row in rows.rows.iter_mut().filter(|row| row.drop_name) {
        row.labels = value::without_metadata(&row.labels);
    }
    eval.query.budget.check()?;
    exec::merge_same_labels(eval, rows, exec::Room::Both)
}

#[cfg(test)]
mod tests;
