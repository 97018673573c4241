//! `and`, `or` and `unless`: rows pass where the other side has, or lacks, their signature.

use crate::batch::{StepBatch, bitmap};
use crate::model::Error;

use super::super::super::plan::{Binary, BinaryOperator as B};
use super::super::super::value::{Matrix, RowLabels};
use super::super::Evaluator;
use super::super::group::Merged;
use super::matching::{Signatures, present_by_signature};

/// The rows of a set operation.
pub fn eval(eval: &Evaluator<'_>, binary: &Binary, (left, right): (&Matrix, &Matrix)) -> Result<Matrix, Error> {
    let Some(matching) = &binary.matching else {
        return Err(Error::new(crate::model::ErrorKind::Bug, "two vectors meet without a rule of matching"));
    };
    let signatures = Signatures::new(&matching.labels, left, right);
    let mut out = Out { eval, merged: Merged::new(eval.count()), scratch: Matrix::new(eval.count()) };
    match binary.operator {
        B::And => {
            let there = present_by_signature(right, &signatures.right, signatures.count);
            out.rows(left, |row, mask| bitmap::intersect(mask, &there[signatures.left[row]]))?;
        }
        B::Unless => {
            let there = present_by_signature(right, &signatures.right, signatures.count);
            out.rows(left, |row, mask| bitmap::subtract(mask, &there[signatures.left[row]]))?;
        }
        _ => {
            let there = present_by_signature(left, &signatures.left, signatures.count);
            out.rows(left, |_, _| {})?;
            out.rows(right, |row, mask| bitmap::subtract(mask, &there[signatures.right[row]]))?;
        }
    }
    Ok(out.merged.rows)
}

struct Out<'e> {
    eval: &'e Evaluator<'e>,
    merged: Merged,
    scratch: Matrix,
}

impl Out<'_> {
    /// Adds the steps of each row that `narrow` leaves.
    fn rows(&mut self, rows: &Matrix, narrow: impl Fn(usize, &mut [u64])) -> Result<(), Error> {
        for (row, labels) in rows.rows.iter().enumerate() {
            self.eval.query.budget.check_at(row)?;
            let mut mask = rows.cells.present(row);
            narrow(row, &mut mask);
            if bitmap::any(&mask) {
                self.add(labels, &rows.cells, row, &mask)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, labels: &RowLabels, cells: &StepBatch, row: usize, mask: &[u64]) -> Result<(), Error> {
        let mut valid = cells.valid(row).to_vec();
        bitmap::intersect(&mut valid, mask);
        let histograms = cells.histograms(row).iter().filter(|(step, _)| bitmap::get(mask, *step as usize));
        let histograms: Vec<_> = histograms.cloned().collect();
        self.scratch.clear();
        self.scratch.rows.push(labels.clone());
        self.scratch.cells.push_parts(cells.values(row), &valid, &histograms);
        self.merged.add(labels, &self.scratch, 0)
    }
}
