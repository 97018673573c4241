//! What one core holds of a query's budget. Operators give back what they held themselves, and nothing of
//! what other cores hold meanwhile.

use std::cell::Cell;

use crate::model::Error;

use super::budget::Budget;
use super::value::Matrix;

/// One core's part of what a query holds.
#[derive(Debug)]
pub struct Account<'a> {
    budget: &'a Budget,
    held: Cell<Held>,
}

/// Samples and bytes that a core holds at one point of a query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    samples: u64,
    bytes: u64,
}

impl<'a> Account<'a> {
    /// Holds nothing of `budget` yet.
    pub fn new(budget: &'a Budget) -> Self {
        Self { budget, held: Cell::default() }
    }

    /// What is held now.
    pub fn held(&self) -> Held {
        self.held.get()
    }

    /// Answers from now on for what another core of the query held when it ended.
    pub fn take_over(&self, other: Held) {
        let Held { samples, bytes } = self.held();
        self.held.set(Held { samples: samples + other.samples, bytes: bytes + other.bytes });
    }

    /// Counts `count` samples that stay in memory.
    pub fn hold_samples(&self, count: usize) -> Result<(), Error> {
        let held = self.held();
        self.held.set(Held { samples: held.samples + count as u64, ..held });
        self.budget.hold_samples(count)
    }

    /// Lets go of `count` samples.
    pub fn release_samples(&self, count: usize) {
        let held = self.held();
        self.held.set(Held { samples: held.samples.saturating_sub(count as u64), ..held });
        self.budget.release_samples(count);
    }

    /// Counts `count` bytes that stay in memory.
    pub fn hold_bytes(&self, count: usize) -> Result<(), Error> {
        let held = self.held();
        self.held.set(Held { bytes: held.bytes + count as u64, ..held });
        self.budget.memory().hold(count)
    }

    /// Lets go of `count` bytes.
    pub fn release_bytes(&self, count: usize) {
        let held = self.held();
        self.held.set(Held { bytes: held.bytes.saturating_sub(count as u64), ..held });
        self.budget.memory().release(count);
    }

    /// Holds `result` besides what [`Account::held`] told: the inputs of an operator are gone, its result
    /// stays.
    pub fn settle(&self, before: Held, result: &Matrix) -> Result<(), Error> {
        self.settle_bytes(before, result.heap_bytes())?;
        self.settle_samples(before, result.cells.samples())
    }

    /// Holds `count` samples besides those of which [`Account::held`] told.
    pub fn settle_samples(&self, before: Held, count: usize) -> Result<(), Error> {
        match self.held().samples.saturating_sub(before.samples) as usize {
            now if now > count => self.release_samples(now - count),
            now => self.hold_samples(count - now)?,
        }
        Ok(())
    }

    /// Holds `count` bytes besides those of which [`Account::held`] told. Others can't have meanwhile what is
    /// held on.
    pub fn settle_bytes(&self, before: Held, count: usize) -> Result<(), Error> {
        match self.held().bytes.saturating_sub(before.bytes) as usize {
            now if now > count => self.release_bytes(now - count),
            now => self.hold_bytes(count - now)?,
        }
        Ok(())
    }

    /// What `copy` makes of `rows`, which count twice until one of the two is gone.
    pub fn copied(&self, rows: Matrix, copy: impl FnOnce(&Matrix) -> Result<Matrix, Error>) -> Result<Matrix, Error> {
        let bytes = rows.heap_bytes();
        self.hold_bytes(bytes)?;
        let copied = copy(&rows)?;
        drop(rows);
        self.release_bytes(bytes);
        Ok(copied)
    }

    /// `rows` sorted by their labels.
    pub fn by_labels(&self, rows: Matrix) -> Result<Matrix, Error> {
        let order = rows.by_labels(|| self.budget.check())?;
        self.ordered(rows, order)
    }

    /// `rows` without those that hold nothing.
    pub fn occupied(&self, rows: Matrix) -> Result<Matrix, Error> {
        let occupied = rows.occupied();
        self.ordered(rows, occupied)
    }

    /// `rows` in the order of `order`, where there is one.
    pub fn ordered(&self, rows: Matrix, order: Option<Vec<usize>>) -> Result<Matrix, Error> {
        let Some(order) = order else { return Ok(rows) };
        self.copied(rows, |rows| rows.reordered(&order, |at| self.budget.check_at(at)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::budget::{Memory, Patience};
    use super::super::value::RowLabels;
    use super::*;

    #[test]
    fn what_an_operator_lets_go_of_is_nothing_of_another_cores() {
        let budget = Budget::new(10, Arc::new(Memory::new(1000, None).unwrap()), &Patience::default());
        let (one, other) = (Account::new(&budget), Account::new(&budget));
        one.hold_bytes(100).unwrap();
        let before = other.held();
        other.hold_bytes(50).unwrap();
        other.hold_samples(4).unwrap();
        one.hold_bytes(30).unwrap();
        one.hold_samples(6).unwrap();
        other.settle(before, &Matrix::new(1)).unwrap();
        assert_eq!(budget.memory().held(), 130);
        one.hold_samples(4).unwrap();
        assert!(one.hold_samples(1).is_err());
        // Whoever waited for the other core lets go of what that one held.
        other.hold_bytes(70).unwrap();
        let before = one.held();
        one.take_over(other.held());
        one.settle_bytes(before, 5).unwrap();
        assert_eq!(budget.memory().held(), 135);
    }

    #[test]
    fn rows_that_are_copied_count_twice_until_the_copy_is_made() {
        let budget = Budget::new(10, Arc::new(Memory::new(1000, None).unwrap()), &Patience::default());
        let account = Account::new(&budget);
        let mut rows = Matrix::new(1);
        rows.push_row(RowLabels::plain(Arc::default()));
        let bytes = rows.heap_bytes();
        account.hold_bytes(bytes).unwrap();
        let copy = |rows: &Matrix| {
            assert_eq!(budget.memory().held(), 2 * bytes as u64);
            Ok(rows.clone())
        };
        assert_eq!(account.copied(rows, copy).unwrap().len(), 1);
        assert_eq!(budget.memory().held(), bytes as u64);
    }
}
