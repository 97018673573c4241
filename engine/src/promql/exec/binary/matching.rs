//! Arithmetic and comparisons between vectors: rows find each other by a signature of their labels,
//! computed once; what happens at each step is then a question of bitmaps.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::{Cell, bitmap};
use crate::model::labels::METRIC_NAME;
use crate::model::{Error, Labels, LabelsBuilder};

use super::super::super::plan::{Binary, BinaryOperator as B, Cardinality, Comparison, MatchLabels, Matching};
use super::super::super::value::{Matrix, RowLabels, is_metadata_label};
use super::super::Evaluator;
use super::super::group::Merged;
use super::operation::{self, Note, Operands};

/// Signatures of the rows of both sides, as numbers from 0.
#[derive(Debug, Default)]
pub struct Signatures {
    /// Of each row of the left side.
    pub left: Vec<usize>,
    /// Of each row of the right side.
    pub right: Vec<usize>,
    /// How many there are.
    pub count: usize,
}

impl Signatures {
    /// Numbers the signatures of both sides.
    pub fn new(labels: &MatchLabels, left: &Matrix, right: &Matrix) -> Self {
        let mut known: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut key = Vec::new();
        let mut number = |rows: &Matrix| -> Vec<usize> {
            let of_row = |row: &RowLabels| {
                key.clear();
                for (name, value) in row.labels.iter().filter(|(name, _)| labels.takes(name)) {
                    key.extend_from_slice(name.as_bytes());
                    key.push(0xff);
                    key.extend_from_slice(value.as_bytes());
                    key.push(0xff);
                }
                if let Some(known) = known.get(key.as_slice()) {
                    return *known;
                }
                let next = known.len();
                known.insert(key.as_slice().into(), next);
                next
            };
            rows.rows.iter().map(of_row).collect()
        };
        let (left, right) = (number(left), number(right));
        Self { left, right, count: known.len() }
    }
}

impl MatchLabels {
    /// Whether the label called `name` is part of a signature.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::On(names) => names.iter().any(|known| known == name),
            Self::Ignoring(names) => name != METRIC_NAME && !names.iter().any(|known| known == name),
        }
    }

    /// The labels of a signature.
    fn of(&self, labels: &Labels) -> Labels {
        Labels::from_sorted(labels.iter().filter(|(name, _)| self.takes(name)))
    }
}

/// For each signature the steps at which any of `rows` holds something.
pub fn present_by_signature(rows: &Matrix, signatures: &[usize], count: usize) -> Vec<Vec<u64>> {
    let mut present = vec![vec![0; bitmap::words(rows.steps())]; count];
    for (row, signature) in signatures.iter().enumerate() {
        bitmap::union(&mut present[*signature], &rows.cells.present(row));
    }
    present
}

/// The rows of `left operator right`.
pub fn eval(eval: &Evaluator<'_>, binary: &Binary, (left, right): (Matrix, Matrix)) -> Result<Matrix, Error> {
    let Some(matching) = &binary.matching else {
        return Err(Error::new(crate::model::ErrorKind::Bug, "two vectors meet without a rule of matching"));
    };
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (&right, &left) } else { (&left, &right) };
    let signatures = Signatures::new(&matching.labels, many, one);
    let mut join = Join {
        eval,
        binary,
        matching,
        many,
        one,
        one_present: present_by_signature(one, &signatures.right, signatures.count),
        active: active_steps(matching, many, one),
        matched_anyhow: vec![vec![0; bitmap::words(eval.count())]; signatures.count],
        signatures,
        matched: HashMap::new(),
        notes: HashMap::new(),
        scratch: Matrix::new(eval.count()),
        out: Merged::new(eval.count()),
    };
    let duplicate = join.duplicate_of_one_side();
    if let Some((step, _)) = duplicate {
        // What fails at an earlier step is told in its place.
        bitmap::keep_before(&mut join.active, step);
    }
    if bitmap::any(&join.active) {
        join.run()?;
    }
    if let Some((step, row)) = duplicate {
        return Err(join.duplicate(step, row));
    }
    join.annotate();
    Ok(join.out.rows)
}

/// Steps at which anything can match.
fn active_steps(matching: &Matching, many: &Matrix, one: &Matrix) -> Vec<u64> {
    let mut active = many.present_anywhere();
    let other = one.present_anywhere();
    if matching.fill_left.is_some() || matching.fill_right.is_some() {
        bitmap::union(&mut active, &other);
    } else {
        bitmap::intersect(&mut active, &other);
    }
    active
}

struct Join<'a> {
    eval: &'a Evaluator<'a>,
    binary: &'a Binary,
    matching: &'a Matching,
    many: &'a Matrix,
    one: &'a Matrix,
    signatures: Signatures,
    one_present: Vec<Vec<u64>>,
    active: Vec<u64>,
    /// For each signature the steps at which two operands went together. What did not go together is
    /// no match, and its right operand is still in want of a filled one.
    matched_anyhow: Vec<Vec<u64>>,
    /// Steps at which a signature (and, unless one to one, a result) has matched already.
    matched: HashMap<(usize, Option<Arc<Labels>>), Vec<u64>>,
    /// What is noteworthy at a step: the last that was met, as Prometheus tells one for each step.
    notes: HashMap<usize, Note>,
    scratch: Matrix,
    out: Merged,
}

/// The floats of an operand at all steps.
fn floats(side: &Matrix, operand: Operand, steps: usize) -> Cow<'_, [f64]> {
    match operand {
        Operand::Row(row) => Cow::Borrowed(side.cells.values(row)),
        Operand::Fill(value) => Cow::Owned(vec![value; steps]),
    }
}

/// One side of a match: a row, or a number that stands for a missing one.
#[derive(Clone, Copy)]
enum Operand {
    Row(usize),
    Fill(f64),
}

impl Join<'_> {
    /// The first step at which two rows of the "one" side have the same signature, and the second of them.
    fn duplicate_of_one_side(&self) -> Option<(usize, usize)> {
        let words = bitmap::words(self.eval.count());
        let mut seen = vec![Vec::new(); self.signatures.count];
        let mut first: Option<(usize, usize)> = None;
        for (row, signature) in self.signatures.right.iter().enumerate() {
            let mut present = self.one.cells.present(row);
            bitmap::intersect(&mut present, &self.active);
            let seen: &mut Vec<u64> = &mut seen[*signature];
            seen.resize(words, 0);
            if let Some(step) = bitmap::first_common(seen, &present)
                && first.is_none_or(|(earliest, _)| step < earliest)
            {
                first = Some((step, row));
            }
            bitmap::union(seen, &present);
        }
        first
    }

    fn duplicate(&self, step: usize, row: usize) -> Error {
        let signature = self.signatures.right[row];
        let holds = |other: &usize| bitmap::get(&self.one.cells.present(*other), step);
        let mut rows = (0..row).filter(|other| self.signatures.right[*other] == signature);
        let other = rows.find(holds).unwrap_or(row);
        let labels = &self.one.rows[row].labels;
        let group = self.matching.labels.of(labels);
        let side = if self.matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
        let mut both = [self.one.rows[other].labels.to_string(), labels.to_string()];
        both.sort();
        let [first, second] = both;
        Error::invalid(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, \
             {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut ones_of = vec![Vec::new(); self.signatures.count];
        for (row, signature) in self.signatures.right.iter().enumerate() {
            // Where a signature is not unique, at most one of its rows is at any step that is looked at.
            if bitmap::first_common(&self.one.cells.present(row), &self.active).is_some() {
                ones_of[*signature].push(row);
            }
        }
        for row in 0..self.many.len() {
            self.eval.query.budget.check_at(row)?;
            let signature = self.signatures.left[row];
            let present = self.many.cells.present(row);
            for other in &ones_of[signature] {
                let mut mask = self.one.cells.present(*other);
                bitmap::intersect(&mut mask, &present);
                self.pair((Operand::Row(row), Operand::Row(*other)), signature, mask)?;
            }
            if let Some(fill) = self.matching.fill_right {
                let mut mask = present;
                bitmap::subtract(&mut mask, &self.one_present[signature]);
                self.pair((Operand::Row(row), Operand::Fill(fill)), signature, mask)?;
            }
        }
        let Some(fill) = self.matching.fill_left else { return Ok(()) };
        for row in 0..self.one.len() {
            self.eval.query.budget.check_at(row)?;
            let signature = self.signatures.right[row];
            let mut mask = self.one.cells.present(row);
            bitmap::subtract(&mut mask, &self.matched_anyhow[signature]);
            self.pair((Operand::Fill(fill), Operand::Row(row)), signature, mask)?;
        }
        Ok(())
    }

    /// Computes the steps `mask` of a pair and adds them to the result.
    fn pair(&mut self, (many, one): (Operand, Operand), signature: usize, mut mask: Vec<u64>) -> Result<(), Error> {
        bitmap::intersect(&mut mask, &self.active);
        if !bitmap::any(&mask) {
            return Ok(());
        }
        let labels = Arc::new(self.result_labels(many, one));
        self.scratch.clear();
        self.scratch.push_row(RowLabels::plain(Arc::clone(&labels)));
        let computed = self.compute(many, one, &mask);
        self.claim(signature, &labels, &computed)?;
        let drop_name = self.binary.comparison == Comparison::Bool;
        let row = RowLabels { labels, drop_name: drop_name && self.eval.query.delays_names() };
        self.out.add(&row, &self.scratch, 0)
    }

    /// Says what was noteworthy, once for each step.
    fn annotate(&self) {
        for note in self.notes.values() {
            self.eval.query.annotate(note.at(self.binary.position));
        }
    }

    /// Remembers that steps have matched; fails when they had already.
    fn claim(&mut self, signature: usize, labels: &Arc<Labels>, mask: &[u64]) -> Result<(), Error> {
        bitmap::union(&mut self.matched_anyhow[signature], mask);
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let key = (signature, (!one_to_one).then(|| Arc::clone(labels)));
        let Some(matched) = self.matched.get_mut(&key) else {
            self.matched.insert(key, mask.to_vec());
            return Ok(());
        };
        if bitmap::first_common(matched, mask).is_none() {
            bitmap::union(matched, mask);
            return Ok(());
        }
        let reason = if one_to_one {
            "many-to-one matching must be explicit (group_left/group_right)"
        } else {
            "grouping labels must ensure unique matches"
        };
        Err(Error::invalid(format!("multiple matches for labels: {reason}")))
    }

    /// Fills the scratch row; gives the steps at which the operands went together.
    fn compute(&mut self, many: Operand, one: Operand, mask: &[u64]) -> Vec<u64> {
        let native = |side: &Matrix, operand| match operand {
            Operand::Row(row) => !side.cells.histograms(row).is_empty(),
            Operand::Fill(_) => false,
        };
        let trims = matches!(self.binary.operator, B::TrimLower | B::TrimUpper);
        if trims || native(self.many, many) || native(self.one, one) {
            return self.compute_cells(many, one, mask);
        }
        let steps = self.eval.count();
        let (many_side, one_side) = (self.many, self.one);
        let of_many = floats(many_side, many, steps);
        let of_one = floats(one_side, one, steps);
        let (values, valid) = self.scratch.cells.row_mut(0);
        valid.copy_from_slice(mask);
        let is_swapped = self.matching.cardinality == Cardinality::OneToMany;
        let (left, right) = if is_swapped { (of_one, of_many) } else { (of_many, of_one) };
        values.copy_from_slice(&left);
        operation::apply_row(self.binary, Operands::VectorFirst, (values, valid), &right);
        mask.to_vec()
    }

    fn compute_cells(&mut self, many: Operand, one: Operand, mask: &[u64]) -> Vec<u64> {
        let mut computed = vec![0; mask.len()];
        let cell = |side: &Matrix, operand, step| match operand {
            Operand::Row(row) => side.cell(row, step),
            Operand::Fill(value) => Cell::Float(value),
        };
        for step in bitmap::ones(mask) {
            let (mut left, mut right) = (cell(self.many, many, step), cell(self.one, one, step));
            if self.matching.cardinality == Cardinality::OneToMany {
                std::mem::swap(&mut left, &mut right);
            }
            let outcome = operation::element(self.binary.operator, &left, &right);
            let [collision, reconciled] = outcome.notes;
            if let Some(note) = outcome.error.or(collision).or(reconciled) {
                self.notes.insert(step, note);
            }
            if outcome.error.is_some() || collision.is_some() {
                continue;
            }
            bitmap::set(&mut computed, step);
            let result = match (self.binary.comparison, outcome.keep) {
                (Comparison::Bool, keep) => Cell::Float(f64::from(u8::from(keep))),
                (Comparison::Filter, true) => outcome.cell,
                (Comparison::Filter, false) => continue,
            };
            self.scratch.cells.push_cell(0, step, result);
        }
        computed
    }

    fn result_labels(&self, many: Operand, one: Operand) -> Labels {
        let of_row = |side: &'_ Matrix, operand| match operand {
            Operand::Row(row) => Some(Arc::clone(&side.rows[row].labels)),
            Operand::Fill(_) => None,
        };
        let signature = |labels: &Option<Arc<Labels>>| {
            Arc::new(labels.as_ref().map(|labels| self.matching.labels.of(labels)).unwrap_or_default())
        };
        let (of_many, of_one) = (of_row(self.many, many), of_row(self.one, one));
        let many_labels = of_many.clone().unwrap_or_else(|| signature(&of_one));
        let one_labels = of_one.unwrap_or_else(|| signature(&of_many));
        let unnamed = self.binary.operator.drops_name()
            || (self.binary.comparison == Comparison::Bool && !self.eval.query.delays_names());
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let stays = |name: &str| {
            if unnamed && is_metadata_label(name) {
                return false;
            }
            match &self.matching.labels {
                _ if !one_to_one => true,
                MatchLabels::On(names) => names.iter().any(|known| known == name),
                MatchLabels::Ignoring(names) => !names.iter().any(|known| known == name),
            }
        };
        let kept = Labels::from_sorted(many_labels.iter().filter(|(name, _)| stays(name)));
        if self.matching.include.is_empty() {
            return kept;
        }
        let mut builder = LabelsBuilder::from_labels(&kept);
        for name in &self.matching.include {
            builder.set(name, one_labels.get(name).unwrap_or(""));
        }
        builder.build()
    }
}
