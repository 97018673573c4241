//! Samples that Prometheus has in memory where an operator of its goes from step to step: all that went in, what came
//! out of the steps so far, and once more what is gathered for the step at hand. Here operators go from row to row, and
//! count as it does, so that a query comes to its limit where it does there.

use std::ops::Range;

use crate::batch::step::histogram_samples;
use crate::batch::{StepBatch, bitmap};
use crate::model::{Error, FloatHistogram};

use super::super::account::Held;
use super::super::value::Matrix;
use super::Evaluator;

/// What one operator takes and gives.
#[derive(Debug)]
pub struct Stepwise {
    steps: usize,
    inputs: usize,
    gathered: PerStep,
    results: PerStep,
}

/// Samples by step.
#[derive(Debug, Default)]
struct PerStep {
    /// Those of rows that have one at every step.
    of_all: isize,
    /// By how many more those of other rows are at a step than at the one before; empty where there is none.
    changes: Vec<isize>,
}

impl PerStep {
    /// Adds the samples of `cells`, of whose histograms each counts for `weight`.
    fn add(&mut self, cells: &StepBatch, weight: fn(&FloatHistogram) -> usize) {
        let steps = cells.steps();
        for row in 0..cells.rows() {
            let valid = cells.valid(row);
            if bitmap::all(valid, steps) {
                self.of_all += 1;
            } else {
                bitmap::runs(valid).for_each(|run| self.add_at(steps, run, 1));
            }
            for (step, histogram) in cells.histograms(row) {
                let step = *step as usize;
                self.add_at(steps, step..step + 1, weight(histogram) as isize);
            }
        }
    }

    fn add_at(&mut self, steps: usize, run: Range<usize>, samples: isize) {
        if self.changes.is_empty() {
            self.changes.resize(steps + 1, 0);
        }
        self.changes[run.start] += samples;
        self.changes[run.end] -= samples;
    }

    /// Samples at each step.
    fn by_step(&self) -> impl Iterator<Item = isize> + '_ {
        let changes = self.changes.iter().copied().chain(std::iter::repeat(0));
        changes.scan(self.of_all, |samples, change| {
            *samples += change;
            Some(*samples)
        })
    }
}

impl Stepwise {
    /// An operator of `eval` that takes `numbers` scalars beside rows. The first part counts them for all.
    pub fn new(eval: &Evaluator<'_>, numbers: usize) -> Self {
        let (steps, numbers) = (eval.count(), if eval.is_first_part() { numbers } else { 0 });
        let gathered = PerStep { of_all: numbers as isize, changes: Vec::new() };
        Self { steps, inputs: numbers * steps, gathered, results: PerStep::default() }
    }

    /// It takes `rows`. A histogram is gathered without its buckets.
    pub fn take(&mut self, rows: &Matrix) {
        self.inputs += rows.cells.samples();
        self.gathered.add(&rows.cells, |_| 1);
    }

    /// It gives `rows`.
    pub fn give(&mut self, rows: &Matrix) {
        self.results.add(&rows.cells, histogram_samples);
    }

    /// It gives a scalar.
    pub fn give_number(&mut self) {
        self.results.of_all += 1;
    }

    /// Most samples that are there beside what it takes.
    pub fn beside_inputs(&self) -> usize {
        let mut given = 0;
        let both = self.results.by_step().zip(self.gathered.by_step()).take(self.steps);
        let at = both.map(|(results, gathered)| {
            given += results;
            given + gathered
        });
        at.max().unwrap_or(0) as usize
    }

    /// Fails when what is there beside its inputs, which are held, is too much.
    pub fn pass(&self, eval: &Evaluator<'_>) -> Result<(), Error> {
        eval.query.budget.pass_samples(self.beside_inputs())
    }

    /// Holds inputs and results until whoever takes the results lets go of them, beside what was held `before` there
    /// were inputs.
    pub fn hold(&self, eval: &Evaluator<'_>, before: Held) -> Result<(), Error> {
        eval.account.settle_samples(before, self.inputs)?;
        eval.account.hold_samples(self.beside_inputs())
    }
}
