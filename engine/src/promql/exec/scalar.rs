//! Scalars: one number for each step.

use crate::batch::bitmap;
use crate::model::{Error, Labels};

use super::super::plan::{BinaryOperator, Call, Node, Operator};
use super::super::value::{Matrix, RowLabels};
use super::binary::float_operation;
use super::stepwise::Stepwise;
use super::{Evaluator, math};

/// The number of `node`, a scalar, at each step, which counts as so many samples: in the first part for all.
pub fn eval(eval: &Evaluator<'_>, node: &Node) -> Result<Vec<f64>, Error> {
    let before = eval.account.held();
    let numbers = numbers(eval, node)?;
    eval.account.settle_samples(before, if eval.is_first_part() { numbers.len() } else { 0 })?;
    Ok(numbers)
}

fn numbers(eval: &Evaluator<'_>, node: &Node) -> Result<Vec<f64>, Error> {
    let count = eval.count();
    match &node.operator {
        Operator::Number(value) => Ok(vec![*value; count]),
        Operator::Plus(input) => self::eval(eval, input),
        Operator::Negate(input) => Ok(self::eval(eval, input)?.into_iter().map(|value| -value).collect()),
        Operator::Binary(binary) => {
            let (left, right) = (self::eval(eval, &binary.left)?, self::eval(eval, &binary.right)?);
            if matches!(binary.operator, BinaryOperator::TrimLower | BinaryOperator::TrimUpper) {
                let operator = binary.operator.symbol();
                return Err(Error::invalid(format!("operator {operator:?} not allowed for Scalar operations")));
            }
            pass(eval, 2)?;
            let operation = float_operation(binary.operator);
            Ok(left.into_iter().zip(right).map(|(left, right)| operation(left, right)).collect())
        }
        Operator::StepInvariant(input) => {
            eval.query.profile.count_steps(node.id, count);
            let once = eval.over(eval.steps.first()).counted(count);
            let value = self::eval(&once, input)?.first().copied().unwrap_or(f64::NAN);
            Ok(vec![value; count])
        }
        Operator::Call(call, args) => eval_call(eval, call, args),
        _ => Err(Error::new(crate::model::ErrorKind::Bug, "a vector was evaluated as a scalar")),
    }
}

fn eval_call(eval: &Evaluator<'_>, call: &Call, args: &[Node]) -> Result<Vec<f64>, Error> {
    let count = eval.count();
    let both = |choose: fn(f64, f64) -> f64| -> Result<Vec<f64>, Error> {
        let (left, right) = (self::eval(eval, &args[0])?, self::eval(eval, &args[1])?);
        pass(eval, 2)?;
        Ok(left.into_iter().zip(right).map(|(left, right)| choose(left, right)).collect())
    };
    match call {
        Call::Time => Ok((0..count).map(|step| eval.steps.time(step) as f64 / 1000.0).collect()),
        Call::Pi => Ok(vec![std::f64::consts::PI; count]),
        Call::MaxOf => both(math::max),
        Call::MinOf => both(math::min),
        Call::Scalar => only_floats(eval, &args[0]),
        _ => Err(Error::new(crate::model::ErrorKind::Bug, "a vector was evaluated as a scalar")),
    }
}

/// Counts what makes one scalar of `taken` others.
fn pass(eval: &Evaluator<'_>, taken: usize) -> Result<(), Error> {
    let mut work = Stepwise::new(eval, taken);
    work.give_number();
    work.pass(eval)
}

/// `scalar(v)`: the float of the only row that has one, NaN otherwise.
fn only_floats(eval: &Evaluator<'_>, input: &Node) -> Result<Vec<f64>, Error> {
    let count = eval.count();
    let mut out = vec![f64::NAN; count];
    let mut seen = vec![0u64; bitmap::words(count)];
    let mut twice = seen.clone();
    let mut work = Stepwise::new(eval, 0);
    eval.stream(input, &mut |batch| {
        work.take(batch);
        for row in 0..batch.len() {
            for (step, value) in batch.floats(row) {
                if bitmap::get(&seen, step) {
                    bitmap::set(&mut twice, step);
                }
                bitmap::set(&mut seen, step);
                out[step] = value;
            }
        }
        Ok(())
    })?;
    for step in bitmap::ones(&twice) {
        out[step] = f64::NAN;
    }
    work.give_number();
    work.pass(eval)?;
    Ok(out)
}

/// A scalar as a row without labels.
pub fn as_matrix(eval: &Evaluator<'_>, node: &Node) -> Result<Matrix, Error> {
    let numbers = self::eval(eval, node)?;
    let mut out = Matrix::new(eval.count());
    let row = out.push_row(RowLabels::plain(Labels::default().into()));
    let (values, valid) = out.cells.row_mut(row);
    values.copy_from_slice(&numbers);
    bitmap::fill(valid, eval.count());
    Ok(out)
}
