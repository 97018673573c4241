//! `sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`: the order of an instant vector.

use std::cmp::Ordering;

use crate::batch::bitmap;
use crate::model::Error;

use super::super::annotations::Annotation;
use super::super::order::sort_while;
use super::super::plan::{Node, Order};
use super::super::value::Matrix;
use super::Evaluator;
use super::stepwise::Stepwise;

/// Rows by their value, NaN last; histograms are left out.
pub fn by_value(eval: &Evaluator<'_>, node: &Node, input: &Node, order: Order) -> Result<Matrix, Error> {
    let mut rows = eval.eval(input)?;
    let mut work = Stepwise::new(eval, 0);
    work.take(&rows);
    rows.cells.clear_histograms();
    work.give(&rows);
    work.pass(eval)?;
    if note_range(eval, node) {
        return Ok(rows);
    }
    let value = |row: &usize| rows.cells.values(*row).first().copied().unwrap_or(f64::NAN);
    let kept: Vec<usize> = (0..rows.len()).filter(|row| bitmap::any(rows.cells.valid(*row))).collect();
    let by_value = |left: &usize, right: &usize| {
        let (left, right) = (value(left), value(right));
        let ascending = left.partial_cmp(&right);
        match (ascending, order) {
            (None, _) => left.is_nan().cmp(&right.is_nan()),
            (Some(ascending), Order::Ascending) => ascending,
            (Some(ascending), Order::Descending) => ascending.reverse(),
        }
    };
    let kept = sort_while(kept, by_value, || eval.query.budget.check())?;
    eval.account.ordered(rows, Some(kept))
}

/// Rows by the values of labels, numbers within them compared as numbers.
pub fn by_label(
    eval: &Evaluator<'_>,
    node: &Node,
    input: &Node,
    (order, names): (Order, &[String]),
) -> Result<Matrix, Error> {
    let rows = eval.eval(input)?;
    let mut work = Stepwise::new(eval, 0);
    work.take(&rows);
    work.give(&rows);
    work.pass(eval)?;
    if note_range(eval, node) {
        return Ok(rows);
    }
    let by_label = |left: &usize, right: &usize| {
        let (left, right) = (&rows.rows[*left].labels, &rows.rows[*right].labels);
        let values = names.iter().map(|name| (left.get(name).unwrap_or(""), right.get(name).unwrap_or("")));
        let mut by_value = values.filter(|(left, right)| left != right).map(|(left, right)| natural(left, right));
        let ascending = by_value.next().unwrap_or_else(|| left.cmp(right));
        if order == Order::Descending { ascending.reverse() } else { ascending }
    };
    let sorted = sort_while((0..rows.len()).collect(), by_label, || eval.query.budget.check())?;
    eval.account.ordered(rows, Some(sorted))
}

/// Warns in a range, whose results have an order of their own, and says so.
fn note_range(eval: &Evaluator<'_>, node: &Node) -> bool {
    let is_range = eval.steps.is_range();
    if is_range {
        eval.query.annotate(Annotation::sort_in_range_query(node.position));
    }
    is_range
}

/// Compares text piece by piece, runs of digits as numbers.
fn natural(left: &str, right: &str) -> Ordering {
    let (left_pieces, right_pieces) = (pieces(left), pieces(right));
    for (left, right) in left_pieces.iter().zip(&right_pieces) {
        if left == right {
            continue;
        }
        let numbers = left.parse::<u64>().ok().zip(right.parse::<u64>().ok());
        return match numbers {
            Some((one, other)) if one != other => one.cmp(&other),
            _ => left.cmp(right),
        };
    }
    left_pieces.len().cmp(&right_pieces.len()).then_with(|| left.cmp(right))
}

/// Runs of digits and runs of anything else, in order.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let bytes = text.as_bytes();
    for at in 1..bytes.len() {
        if bytes[at].is_ascii_digit() != bytes[at - 1].is_ascii_digit() {
            out.push(&text[start..at]);
            start = at;
        }
    }
    if !text.is_empty() {
        out.push(&text[start..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu", "4m5", "4m1000", "b"];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(names, ["4m5", "4m1000", "b", "cpu", "cpu2", "cpu10"]);
    }
}
