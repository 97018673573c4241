//! Arithmetic between vectors whose rows stand side by side, as those of two metrics of the same targets
//! do: nobody is looked for, and the results come to lie where the left side was.

use crate::batch::bitmap;
use crate::model::Error;

use super::super::super::plan::{Binary, Cardinality, Matching};
use super::super::super::value::{Matrix, is_metadata_label};
use super::super::Evaluator;
use super::operation::{self, Operands};

/// Whether row by row both sides have the same labels, each once, all of which count and stay: then every row
/// matches the one beside it, and no other.
pub fn are(binary: &Binary, left: &Matrix, right: &Matrix) -> bool {
    let Some(matching) = binary.matching.as_ref().filter(|matching| is_simple(matching)) else { return false };
    let is_plain = binary.operator.drops_name() && !left.cells.has_histograms() && !right.cells.has_histograms();
    if !is_plain || left.len() != right.len() {
        return false;
    }
    let is_whole = |row: usize| {
        left.rows[row].labels.iter().all(|(name, _)| matching.labels.takes(name) && !is_metadata_label(name))
    };
    (0..left.len()).all(|row| {
        left.rows[row].labels == right.rows[row].labels
            && (row == 0 || left.rows[row - 1].labels < left.rows[row].labels)
            && is_whole(row)
    })
}

/// Whether one matches one and nothing stands for what is missing.
fn is_simple(matching: &Matching) -> bool {
    matching.cardinality == Cardinality::OneToOne && matching.fill_left.is_none() && matching.fill_right.is_none()
}

/// The rows of `left operator right` of sides that [`are`] so.
pub fn eval(eval: &Evaluator<'_>, binary: &Binary, (mut left, right): (Matrix, Matrix)) -> Result<Matrix, Error> {
    for row in 0..left.len() {
        eval.query.budget.check_at(row)?;
        left.rows[row].drop_name = false;
        let (values, valid) = left.cells.row_mut(row);
        bitmap::intersect(valid, right.cells.valid(row));
        operation::apply_row(binary, Operands::VectorFirst, (values, valid), right.cells.values(row));
    }
    drop(right);
    eval.account.occupied(left)
}
