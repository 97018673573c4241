//! Running a script against an evaluator.

use engine::promql::syntax;

use super::pinned::{other_times, pin};
use super::script::{Action, Case, parse};
use super::store::Store;
use super::{Answer, Evaluator, Sample, Value, When, compare};

/// What became of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that were run.
    pub cases: usize,
    /// Cases that did not give what they must.
    pub failures: Vec<Failure>,
}

/// A case that did not give what it must.
#[derive(Debug)]
pub struct Failure {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query, as it was asked.
    pub query: String,
    /// What was wrong.
    pub reason: String,
}

/// The language with everything that is experimental, which the corpora use.
fn syntax_options() -> syntax::Options {
    syntax::Options::ALL
}

/// Holds `evaluator` to every case of the script `text`. Fails when the script is not understood.
pub fn run(text: &str, evaluator: &mut dyn Evaluator) -> Result<Report, String> {
    let mut report = Report::default();
    let mut store = Store::default();
    evaluator.load(&store.batch());
    for command in parse(text)? {
        match command.action {
            Action::Clear => {
                store = Store::default();
                evaluator.load(&store.batch());
            }
            Action::Load(load) => {
                store.load(&load).map_err(|error| format!("line {}: {error}", command.line))?;
                evaluator.load(&store.batch());
            }
            Action::Eval(case) => {
                report.cases += 1;
                if let Err((query, reason)) = check(&case, evaluator) {
                    report.failures.push(Failure { line: case.line, query, reason });
                }
            }
        }
    }
    Ok(report)
}

/// Runs a case in all its forms; fails with the form and the reason.
fn check(case: &Case, evaluator: &dyn Evaluator) -> Result<(), (String, String)> {
    let asked_as = |query: &str, when: When| format!("{query} ({when:?})");
    let once = |query: &str, when: When| {
        check_once(case, query, when, evaluator).map_err(|reason| (asked_as(query, when), reason))
    };
    let answer = once(&case.query, case.when)?;
    let When::Instant(time) = case.when else { return Ok(()) };
    if let Some(answer) = answer {
        as_middle_step(case, &case.query, (time, &answer), evaluator)
            .map_err(|reason| (format!("{} (middle step)", case.query), reason))?;
    }
    let Ok(expr) = syntax::parse(&case.query, syntax_options()) else { return Ok(()) };
    let Some(pinned) = pin(expr, time) else { return Ok(()) };
    let query = pinned.to_string();
    for other in other_times(time) {
        if let Some(answer) = once(&query, When::Instant(other))? {
            as_middle_step(case, &query, (other, &answer), evaluator)
                .map_err(|reason| (format!("{query} (middle step {other})"), reason))?;
        }
    }
    Ok(())
}

/// Asks once; gives the answer unless an error was expected.
fn check_once(case: &Case, query: &str, when: When, evaluator: &dyn Evaluator) -> Result<Option<Answer>, String> {
    let answer = match (evaluator.evaluate(query, when), &case.expectations.fail) {
        (Err(error), Some(pattern)) if pattern.matches(&error) => return Ok(None),
        (Err(error), Some(pattern)) => return Err(format!("expected the error {pattern:?}, got {error:?}")),
        (Err(error), None) => return Err(format!("error: {error}")),
        (Ok(answer), Some(_)) => return Err(format!("expected an error, got {:?}", answer.value)),
        (Ok(answer), None) => answer,
    };
    compare::annotations(case, &answer)?;
    compare::value(case, &answer.value)?;
    Ok(Some(answer))
}

/// Asks an instant query as the middle step of a range query, which must give the same.
fn as_middle_step(
    case: &Case,
    query: &str,
    (time, answer): (i64, &Answer),
    evaluator: &dyn Evaluator,
) -> Result<(), String> {
    let depends_on_range = ["start()", "end()", "range()", "step()"].iter().any(|call| query.contains(call));
    let is_vector = matches!(answer.value, Value::Scalar(_) | Value::Vector(_));
    if case.samples_at.is_some() || !is_vector || depends_on_range {
        return Ok(());
    }
    let when = When::Range { start: time - 60_000, end: time + 60_000, step: 60_000 };
    let Value::Matrix(series) = evaluator.evaluate(query, when)?.value else {
        return Err("a range query gave no matrix".to_owned());
    };
    if case.expectations.ordered.is_some() {
        return Ok(());
    }
    compare::sorted(&series)?;
    let mut vector = Vec::new();
    for series in series {
        let float = series.floats.iter().find(|(at, _)| *at == time).map(|(_, value)| Sample::Float(*value));
        let histogram = series.histograms.iter().find(|(at, _)| *at == time);
        let sample = float.or_else(|| histogram.map(|(_, histogram)| Sample::Histogram(histogram.clone())));
        vector.extend(sample.map(|sample| (series.labels, sample)));
    }
    let value = match (&answer.value, vector.first()) {
        (Value::Scalar(_), Some((_, Sample::Float(value)))) => Value::Scalar(*value),
        _ => Value::Vector(vector),
    };
    compare::value(case, &value)
}
