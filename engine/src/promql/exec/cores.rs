//! The series of an operator cut into parts, each read and evaluated on a core of its own.
//!
//! ```text
//! caller   cut ─ send ─────────────────────── gather, in the order of the parts
//! core 0         select ─ decode ─ window ─ fold ─┘│
//! core 1         select ─ decode ─ window ─ fold ──┘
//! ```
//! What crosses are rows over steps, or the state of an aggregation; samples stay where they were
//! decoded. A job never waits for another one, so that queries cannot lock each other out.

use std::sync::Arc;

use crate::model::{Error, ErrorKind};

use super::super::account::Account;
use super::super::plan::{Node, Operator, OverTime, RangeArgument, ValueKind};
use super::super::source::{Cores, Files, Part, SelectRequest};
use super::super::value::Matrix;
use super::{Evaluator, range, selector};

/// The cores that work on an operator, and the number of parts that its series are cut into.
pub struct Cut {
    cores: Arc<dyn Cores>,
    parts: usize,
}

/// What is made of one part.
type Work<T> = fn(&Evaluator<'_>, &Node) -> Result<T, Error>;

/// How the series under `node`, which streams, are cut; `None` where they are read as a whole, or by
/// a core already.
pub fn cut(eval: &Evaluator<'_>, node: &Node) -> Result<Option<Cut>, Error> {
    if eval.files.0.is_some() || eval.count() == 0 || !eval.streams(node) {
        return Ok(None);
    }
    match &node.operator {
        Operator::Select(select) => {
            let Some(times) = selector::sample_range(eval, select) else { return Ok(None) };
            ask(eval, selector::request(eval, select, times))
        }
        Operator::OverTime(call) => cut_over_time(eval, call),
        Operator::Float(_, args) if args[1..].iter().all(Node::is_free_of_series) => cut_renamed(eval, &args[0]),
        Operator::Histogram(_, input) | Operator::Negate(input) => cut_renamed(eval, input),
        Operator::Binary(binary) => {
            let left_is_vector = binary.left.kind() == ValueKind::Vector;
            let (vector, number) =
                if left_is_vector { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
            if number.is_free_of_series() { cut_renamed(eval, vector) } else { Ok(None) }
        }
        _ => Ok(None),
    }
}

/// Rows lose their names: only where they stay distinct can parts do so on their own.
fn cut_renamed(eval: &Evaluator<'_>, input: &Node) -> Result<Option<Cut>, Error> {
    if input.distinct_without_name() || eval.query.delays_names() { cut(eval, input) } else { Ok(None) }
}

fn cut_over_time(eval: &Evaluator<'_>, call: &OverTime) -> Result<Option<Cut>, Error> {
    let RangeArgument::Select(select, length) = &call.argument else { return Ok(None) };
    let is_distinct = select.has_one_name() || call.function.keeps_name() || eval.query.delays_names();
    if !is_distinct || !call.params.iter().all(Node::is_free_of_series) {
        return Ok(None);
    }
    let times = range::sample_range(eval, select, *length);
    ask(eval, selector::request(eval, select, times))
}

fn ask(eval: &Evaluator<'_>, request: SelectRequest<'_>) -> Result<Option<Cut>, Error> {
    let cores = eval.query.source.cores(&request)?;
    Ok(cores.map(|(cores, parts)| Cut { cores, parts: parts.max(1) }))
}

/// The rows of `node`: what is made of a part where nothing is aggregated.
pub fn rows(eval: &Evaluator<'_>, node: &Node) -> Result<Matrix, Error> {
    eval.eval(node)
}

impl Cut {
    /// What `work` makes of each part of the series under `node`, in the order of the parts.
    pub fn run<T: Send + 'static>(&self, eval: &Evaluator<'_>, node: &Node, work: Work<T>) -> Result<Vec<T>, Error> {
        let (sender, results) = flume::bounded(self.parts);
        for index in 0..self.parts {
            let (query, sender) = (Arc::clone(eval.query), sender.clone());
            let (steps, part, id) = (eval.steps, Part { index, count: self.parts }, node.id);
            self.cores.send(Box::new(move |files| {
                let account = Account::new(&query.budget);
                let eval = Evaluator { query: &query, account: &account, steps, part, files: Files(Some(files)) };
                let lost = || Error::new(ErrorKind::Bug, "an operator is not part of its own query");
                let result = query.root.find(id).ok_or_else(lost).and_then(|node| work(&eval, node));
                // Whoever asked may have failed already; then nobody takes the result.
                let _ = sender.send((index, result.map(|part| (part, account.held()))));
            }))?;
        }
        drop(sender);
        let mut done: Vec<Option<T>> = Vec::new();
        done.resize_with(self.parts, || None);
        for (index, result) in results {
            let (part, held) = result?;
            eval.account.take_over(held);
            done[index] = Some(part);
        }
        let lost = || Error::new(ErrorKind::Bug, "a core's part of the query panicked; the query fails alone");
        done.into_iter().map(|part| part.ok_or_else(lost)).collect()
    }
}
