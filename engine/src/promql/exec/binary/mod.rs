//! Binary operators: between numbers, between a vector and a number, between vectors.

mod aligned;
mod matching;
mod operation;
mod sets;

use crate::batch::{Cell, bitmap};
use crate::model::Error;

use super::super::plan::{Binary, BinaryOperator as B, Comparison, Node, ValueKind};
use super::super::value::Matrix;
use super::stepwise::Stepwise;
use super::{Evaluator, RowSink, scalar};

pub use operation::float_operation;

/// The rows of an operation between two vectors.
pub fn eval(eval: &Evaluator<'_>, binary: &Binary) -> Result<Matrix, Error> {
    let before = eval.account.held();
    let left = eval.eval(&binary.left)?;
    let right = eval.eval(&binary.right)?;
    let mut work = Stepwise::new(eval, 0);
    work.take(&left);
    work.take(&right);
    let result = if binary.operator.is_set() {
        sets::eval(eval, binary, (&left, &right))
    } else if aligned::are(binary, &left, &right) {
        aligned::eval(eval, binary, (left, right))
    } else {
        matching::eval(eval, binary, (left, right))
    }?;
    work.give(&result);
    work.pass(eval)?;
    eval.account.settle(before, &result)?;
    Ok(result)
}

/// Streams an operation between a vector and a number.
pub fn stream_with_scalar(eval: &Evaluator<'_>, binary: &Binary, sink: &mut RowSink<'_>) -> Result<(), Error> {
    let vector_first = binary.left.kind() == ValueKind::Vector;
    let (vector, number) = if vector_first { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
    let before = eval.account.held();
    let numbers = scalar::eval(eval, number)?;
    if binary.trims_a_number() {
        return refuse(eval, binary, vector);
    }
    let side = if vector_first { Side::Left } else { Side::Right };
    let mut work = Stepwise::new(eval, 1);
    let mut change = |batch: &mut Matrix| {
        work.take(batch);
        let histograms = batch.cells.has_histograms();
        for row in 0..batch.len() {
            eval.query.budget.check_at(row)?;
            let native = if histograms { batch.cells.histograms(row).to_vec() } else { Vec::new() };
            let (values, valid) = batch.cells.row_mut(row);
            float_row(binary, side, (values, valid), &numbers, |note| eval.query.annotate(note.at(binary.position)));
            if !native.is_empty() {
                batch.cells.histograms_mut(row).clear();
                native_row(eval, binary, (side, &numbers), (batch, row, &native));
            }
        }
        work.give(batch);
        Ok(())
    };
    if binary.operator.drops_name() || binary.comparison == Comparison::Bool {
        eval.stream_renamed(vector, &mut change, sink)?;
    } else {
        eval.stream(vector, &mut |batch| {
            change(batch)?;
            sink(batch)
        })?;
    }
    work.hold(eval, before)
}

/// Says that a number is not trimmed by what `vector` holds: as in Prometheus by the last sample of each step.
fn refuse(eval: &Evaluator<'_>, binary: &Binary, vector: &Node) -> Result<(), Error> {
    let mut last = vec![None; eval.count()];
    eval.stream(vector, &mut |batch| {
        for row in 0..batch.len() {
            eval.query.budget.check_at(row)?;
            batch.floats(row).for_each(|(step, _)| last[step] = Some("float"));
            batch.histograms(row).iter().for_each(|(step, _)| last[*step as usize] = Some("histogram"));
        }
        Ok(())
    })?;
    for kind in ["float", "histogram"] {
        if last.contains(&Some(kind)) {
            let note = operation::Note::incompatible("float", binary.operator, kind);
            eval.query.annotate(note.at(binary.position));
        }
    }
    Ok(())
}

/// On which side of the operator the vector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The floats of one row; the number takes the other side.
fn float_row(
    binary: &Binary,
    side: Side,
    (values, valid): (&mut [f64], &mut [u64]),
    numbers: &[f64],
    note: impl Fn(operation::Note),
) {
    if matches!(binary.operator, B::TrimLower | B::TrimUpper) {
        if bitmap::any(valid) {
            note(operation::Note::incompatible("float", binary.operator, "float"));
        }
        valid.fill(0);
        return;
    }
    let operands = match side {
        Side::Left => operation::Operands::VectorFirst,
        Side::Right => operation::Operands::NumberFirst,
    };
    operation::apply_row(binary, operands, (values, valid), numbers);
}

/// The histograms of one row against numbers, written back into the row.
fn native_row(
    eval: &Evaluator<'_>,
    binary: &Binary,
    (side, numbers): (Side, &[f64]),
    (batch, row, native): (&mut Matrix, usize, &[(u32, std::sync::Arc<crate::model::FloatHistogram>)]),
) {
    for (step, histogram) in native {
        let step = *step as usize;
        let vector = Cell::Histogram(std::sync::Arc::clone(histogram));
        let number = Cell::Float(numbers[step]);
        let (left, right) = if side == Side::Left { (vector, number) } else { (number, vector) };
        let outcome = operation::element(binary.operator, &left, &right);
        if let Some(note) = outcome.error {
            // An operation that gives nothing says why; one that gives something says nothing.
            eval.query.annotate(note.at(binary.position));
            continue;
        }
        let cell = match (binary.comparison, outcome.keep) {
            (Comparison::Bool, keep) => Cell::Float(f64::from(u8::from(keep))),
            (Comparison::Filter, true) => outcome.cell,
            (Comparison::Filter, false) => continue,
        };
        batch.cells.push_cell(row, step, cell);
    }
}
