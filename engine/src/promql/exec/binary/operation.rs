//! What an operator makes of two samples, and of two rows of floats at once.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::histogram::{Combined, MixedSchemas, Trim};
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::{Annotation, HistogramOperation};
use super::super::super::plan::{Binary, BinaryOperator as B, Comparison};
use super::super::elementary;

/// What became of two samples.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The result; of a comparison the left sample.
    pub cell: Cell,
    /// Whether a comparison holds; `true` for arithmetic.
    pub keep: bool,
    /// Why there is no result.
    pub error: Option<Note>,
    /// What is noteworthy about the result.
    pub notes: [Option<Note>; 2],
}

/// An annotation that lacks its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Operand types that the operator does not take.
    Incompatible(&'static str, &'static str, &'static str),
    /// Exponential and custom buckets met under an operator.
    Layout(&'static str),
    /// One histogram had a reset and the other none.
    Collision(HistogramOperation),
    /// Custom buckets were made to fit.
    Reconciled(HistogramOperation),
}

impl Note {
    /// Operand types that `operator` does not take.
    pub fn incompatible(left: &'static str, operator: B, right: &'static str) -> Self {
        Self::Incompatible(left, operator.symbol(), right)
    }

    /// The annotation for an expression at `position`.
    pub fn at(self, position: usize) -> Annotation {
        match self {
            Self::Incompatible(left, operator, right) => {
                Annotation::incompatible_types(left, operator, right, position)
            }
            Self::Layout(operator) => Annotation::incompatible_bucket_layout(operator, position),
            Self::Collision(operation) => Annotation::counter_reset_collision(operation, position),
            Self::Reconciled(operation) => Annotation::mismatched_custom_buckets(operation, position),
        }
    }
}

/// Which operand a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// `row operator other`
    VectorFirst,
    /// `other operator row`; a comparison still keeps the row's values
    NumberFirst,
}

/// The operator on floats; comparisons give 1 or 0.
pub fn float_operation(operator: B) -> fn(f64, f64) -> f64 {
    match operator {
        B::Add => |left, right| left + right,
        B::Sub => |left, right| left - right,
        B::Mul => |left, right| left * right,
        B::Div => |left, right| left / right,
        B::Mod => |left, right| left % right,
        B::Pow => elementary::pow,
        B::Atan2 => f64::atan2,
        B::Equal => |left, right| f64::from(u8::from(left == right)),
        B::NotEqual => |left, right| f64::from(u8::from(left != right)),
        B::Greater => |left, right| f64::from(u8::from(left > right)),
        B::Less => |left, right| f64::from(u8::from(left < right)),
        B::GreaterEqual => |left, right| f64::from(u8::from(left >= right)),
        B::LessEqual => |left, right| f64::from(u8::from(left <= right)),
        B::TrimUpper | B::TrimLower | B::And | B::Or | B::Unless => |_, _| f64::NAN,
    }
}

/// Applies a float operator to a row in place. A comparison that filters clears the steps where it
/// does not hold.
pub fn apply_row(binary: &Binary, operands: Operands, row: (&mut [f64], &mut [u64]), other: &[f64]) {
    match binary.operator {
        B::Add => arithmetic(operands, row.0, other, |left, right| left + right),
        B::Sub => arithmetic(operands, row.0, other, |left, right| left - right),
        B::Mul => arithmetic(operands, row.0, other, |left, right| left * right),
        B::Div => arithmetic(operands, row.0, other, |left, right| left / right),
        B::Mod => arithmetic(operands, row.0, other, |left, right| left % right),
        B::Pow => arithmetic(operands, row.0, other, elementary::pow),
        B::Atan2 => arithmetic(operands, row.0, other, f64::atan2),
        B::Equal => compare(binary, operands, row, other, |left, right| left == right),
        B::NotEqual => compare(binary, operands, row, other, |left, right| left != right),
        B::Greater => compare(binary, operands, row, other, |left, right| left > right),
        B::Less => compare(binary, operands, row, other, |left, right| left < right),
        B::GreaterEqual => compare(binary, operands, row, other, |left, right| left >= right),
        B::LessEqual => compare(binary, operands, row, other, |left, right| left <= right),
        B::TrimUpper | B::TrimLower | B::And | B::Or | B::Unless => row.1.fill(0),
    }
}

#[inline]
fn arithmetic(operands: Operands, row: &mut [f64], other: &[f64], f: impl Fn(f64, f64) -> f64) {
    if operands == Operands::VectorFirst {
        for (value, other) in row.iter_mut().zip(other) {
            *value = f(*value, *other);
        }
    } else {
        for (value, other) in row.iter_mut().zip(other) {
            *value = f(*other, *value);
        }
    }
}

#[inline]
fn compare(
    binary: &Binary,
    operands: Operands,
    (values, valid): (&mut [f64], &mut [u64]),
    other: &[f64],
    holds: impl Fn(f64, f64) -> bool,
) {
    let swapped = operands == Operands::NumberFirst;
    let holds = |value: f64, other: f64| if swapped { holds(other, value) } else { holds(value, other) };
    if binary.comparison == Comparison::Bool {
        for (value, other) in values.iter_mut().zip(other) {
            *value = f64::from(u8::from(holds(*value, *other)));
        }
        return;
    }
    for (word, bits) in valid.iter_mut().enumerate() {
        let steps = word * 64..((word + 1) * 64).min(values.len());
        let mut kept = 0u64;
        for (bit, (value, other)) in values[steps.clone()].iter().zip(&other[steps]).enumerate() {
            kept |= u64::from(holds(*value, *other)) << bit;
        }
        *bits &= kept;
    }
}

/// The operator on any two samples, neither of them empty.
pub fn element(operator: B, left: &Cell, right: &Cell) -> Outcome {
    match (left, right) {
        (Cell::Float(left), Cell::Float(right)) => floats(operator, *left, *right),
        (Cell::Float(factor), Cell::Histogram(histogram)) if operator == B::Mul => {
            changed(histogram, |histogram| histogram.mul(*factor))
        }
        (Cell::Histogram(histogram), Cell::Float(number)) => match operator {
            B::Mul => changed(histogram, |histogram| histogram.mul(*number)),
            B::Div => changed(histogram, |histogram| histogram.div(*number)),
            B::TrimUpper => trimmed(histogram, *number, Trim::Upper),
            B::TrimLower => trimmed(histogram, *number, Trim::Lower),
            _ => Outcome::error(Note::incompatible("histogram", operator, "float")),
        },
        (Cell::Float(_), Cell::Histogram(_)) => Outcome::error(Note::incompatible("float", operator, "histogram")),
        (Cell::Histogram(left), Cell::Histogram(right)) => histograms(operator, left, right),
        (Cell::Empty, _) | (_, Cell::Empty) => Outcome { keep: false, ..Outcome::of(Cell::Empty) },
    }
}

fn floats(operator: B, left: f64, right: f64) -> Outcome {
    if matches!(operator, B::TrimUpper | B::TrimLower) {
        return Outcome::error(Note::incompatible("float", operator, "float"));
    }
    let value = float_operation(operator)(left, right);
    if operator.is_comparison() {
        return Outcome { keep: value != 0.0, ..Outcome::of(Cell::Float(left)) };
    }
    Outcome::of(Cell::Float(value))
}

fn histograms(operator: B, left: &Arc<FloatHistogram>, right: &FloatHistogram) -> Outcome {
    match operator {
        B::Add => combined(left, operator, HistogramOperation::Addition, |sum| sum.add(right)),
        B::Sub => combined(left, operator, HistogramOperation::Subtraction, |difference| {
            let combined = difference.sub(right)?;
            difference.counter_reset = CounterReset::Gauge;
            Ok(combined)
        }),
        B::Equal | B::NotEqual => {
            let keep = left.same_data(right) == (operator == B::Equal);
            Outcome { keep, ..Outcome::of(Cell::Histogram(Arc::clone(left))) }
        }
        _ => Outcome::error(Note::incompatible("histogram", operator, "histogram")),
    }
}

fn combined(
    left: &FloatHistogram,
    operator: B,
    operation: HistogramOperation,
    combine: impl Fn(&mut FloatHistogram) -> Result<Combined, MixedSchemas>,
) -> Outcome {
    let mut result = left.clone();
    let Ok(combined) = combine(&mut result) else {
        return Outcome::error(Note::Layout(operator.symbol()));
    };
    result.compact(0);
    let collision = combined.counter_reset_collision.then_some(Note::Collision(operation));
    let reconciled = combined.bounds_reconciled.then_some(Note::Reconciled(operation));
    Outcome { notes: [collision, reconciled], ..Outcome::of(Cell::Histogram(Arc::new(result))) }
}

fn changed(histogram: &FloatHistogram, change: impl Fn(&mut FloatHistogram)) -> Outcome {
    let mut result = histogram.clone();
    change(&mut result);
    result.compact(0);
    Outcome::of(Cell::Histogram(Arc::new(result)))
}

fn trimmed(histogram: &FloatHistogram, at: f64, trim: Trim) -> Outcome {
    let mut result = histogram.clone();
    result.trim(at, trim);
    Outcome::of(Cell::Histogram(Arc::new(result)))
}

impl Outcome {
    fn of(cell: Cell) -> Self {
        Self { cell, keep: true, error: None, notes: [None; 2] }
    }

    fn error(note: Note) -> Self {
        Self { keep: false, error: Some(note), ..Self::of(Cell::Empty) }
    }
}
