//! `label_replace` and `label_join`: labels made of other labels.

use std::sync::Arc;

use crate::model::labels::METRIC_NAME;
use crate::model::regexp::Regexp;
use crate::model::{ByteString, Error, Labels, LabelsBuilder};

use super::super::account::Held;
use super::super::plan::{LabelJoin, LabelReplace, Node};
use super::super::value::{Matrix, RowLabels};
use super::Evaluator;
use super::group::{self, Room};

/// `label_replace`
pub fn replace(eval: &Evaluator<'_>, input: &Node, call: &LabelReplace) -> Result<Matrix, Error> {
    let bad =
        || Error::invalid(format!("invalid regular expression in label_replace(): {}", call.pattern.to_string_lossy()));
    // Prometheus puts `^(?s:` and `)$` around the text, which may end the group, or quote its end.
    let pattern = [b"(?s:".as_slice(), call.pattern.as_bytes(), b")"].concat();
    let regexp = Regexp::new_anchored(&ByteString::from(pattern)).map_err(|_| bad())?;
    let destination = check("destination", "label_replace", &call.destination)?;
    let before = eval.account.held();
    eval.account.hold_bytes(regexp.automaton_bytes())?;
    let mut rows = eval.eval_both(input)?;
    let mut made = Made::new(eval);
    for row in &mut rows.rows {
        let source = row.labels.get(&call.source).unwrap_or("");
        if let Some(value) = regexp.expand(source, &call.replacement) {
            *row = with_label(row, destination, &value);
            made.add(&row.labels, 0)?;
        }
    }
    made.settle(before, group::merge_same_labels(eval, rows, Room::Both)?)
}

/// `label_join`
pub fn join(eval: &Evaluator<'_>, input: &Node, call: &LabelJoin) -> Result<Matrix, Error> {
    let sources = call.sources.iter().map(|source| check("source", "label_join", source));
    let sources = sources.collect::<Result<Vec<&str>, Error>>()?;
    let destination = check("destination", "label_join", &call.destination)?;
    let before = eval.account.held();
    let mut rows = eval.eval_both(input)?;
    let mut made = Made::new(eval);
    for row in &mut rows.rows {
        let values: Vec<&str> = sources.iter().map(|source| row.labels.get(source).unwrap_or("")).collect();
        *row = with_label(row, destination, &values.join(&call.separator));
        made.add(&row.labels, 0)?;
    }
    made.settle(before, group::merge_same_labels(eval, rows, Room::Both)?)
}

/// Bytes of labels between two looks at limits and patience.
const LOOK_BYTES: usize = 1 << 20;

/// Labels that a query makes, counted while it makes them: there may be gigabytes of them.
pub(super) struct Made<'e, 'a> {
    eval: &'e Evaluator<'a>,
    pending: usize,
}

impl<'e, 'a> Made<'e, 'a> {
    pub(super) fn new(eval: &'e Evaluator<'a>) -> Self {
        Self { eval, pending: 0 }
    }

    /// Counts the labels of a row and `more` bytes. Limit when there is no memory for them; fails also when the
    /// query was ended.
    pub(super) fn add(&mut self, labels: &Labels, more: usize) -> Result<(), Error> {
        self.pending += labels.heap_bytes() + more;
        if self.pending < LOOK_BYTES {
            return Ok(());
        }
        self.eval.query.budget.check()?;
        self.eval.account.hold_bytes(std::mem::take(&mut self.pending))
    }

    /// Holds `result` in place of all that was held since `before`.
    pub(super) fn settle(self, before: Held, result: Matrix) -> Result<Matrix, Error> {
        self.eval.account.settle(before, &result)?;
        Ok(result)
    }
}

/// `name` when a label can have it: not empty, and UTF-8.
fn check<'a>(role: &str, function: &str, name: &'a ByteString) -> Result<&'a str, Error> {
    name.as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        let name = name.to_string_lossy();
        Error::invalid(format!("invalid {role} label name in {function}(): {name}"))
    })
}

fn with_label(row: &RowLabels, name: &str, value: &str) -> RowLabels {
    let mut builder = LabelsBuilder::from_labels(&row.labels);
    builder.set(name, value);
    let labels: Arc<Labels> = Arc::new(builder.build());
    RowLabels { labels, drop_name: row.drop_name && name != METRIC_NAME }
}
