//! Series of one metric that differ in type or unit alone, which nothing tells apart when these go with the name.
//! Operators hand them on batch by batch, core by core, so that what they made of such series is remembered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{StepBatch, bitmap};
use crate::model::{Error, Labels};

use super::super::plan::{Comparison, Node, Operator, ValueKind};
use super::super::source::Types;
use super::super::value::{RowLabels, has_type_or_unit};
use super::group::{Room, same_labels};
use super::{Evaluator, range, selector};

/// What the operators of a query have made of series that may differ in type or unit.
#[derive(Debug, Default)]
pub struct Twins {
    taken: Mutex<HashMap<Place, Vec<u64>>>,
    count: AtomicUsize,
}

/// The number of an operator, what shares no step with others, and the labels that are left.
type Place = (usize, Kind, Arc<Labels>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Sample,
    Float,
    Histogram,
}

impl Twins {
    /// How often steps were taken so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes the steps `present` at `place`; gives the bytes that this needs. Fails where one of them is taken.
    fn take(&self, place: Place, present: Vec<u64>) -> Result<usize, Error> {
        let bytes = size_of::<(Place, Vec<u64>)>() + place.2.heap_bytes() + size_of_val(present.as_slice());
        self.count.fetch_add(1, Ordering::Relaxed);
        match self.taken.lock().unwrap_or_else(PoisonError::into_inner).entry(place) {
            Entry::Vacant(entry) => {
                entry.insert(present);
                Ok(bytes)
            }
            Entry::Occupied(entry) if bitmap::first_common(entry.get(), &present).is_some() => Err(same_labels()),
            Entry::Occupied(mut entry) => {
                bitmap::union(entry.get_mut(), &present);
                Ok(0)
            }
        }
    }
}

/// Looks for twins among the rows that an operator gives one after the other.
#[derive(Debug)]
pub struct Watch {
    /// What is known of the rows' types beforehand.
    types: Types,
    /// Where that is nothing, whether there was a row with a type or unit: one without may follow that is left with the
    /// same labels.
    are_typed: bool,
}

impl Watch {
    /// Over rows of whose types so much is known.
    pub fn new(types: Types) -> Self {
        Self { types, are_typed: false }
    }

    /// Over the rows of `node`. Asks the source what it knows, of the series that are read for them.
    pub fn over(eval: &Evaluator<'_>, mut node: &Node) -> Result<Self, Error> {
        if eval.query.delays_names() || eval.count() == 0 {
            return Ok(Self::new(Types::Same));
        }
        let types = loop {
            match &node.operator {
                Operator::Select(select) => {
                    let times = selector::sample_range(eval, select);
                    break times.map_or(Ok(Types::Same), |times| selector::types(eval, select, times))?;
                }
                // What takes names has looked for twins itself.
                Operator::Float(..) | Operator::Negate(_) => break Types::Same,
                Operator::OverTime(call) if !call.function.keeps_name() => break Types::Same,
                Operator::OverTime(call) => break range::types(eval, call)?,
                Operator::Plus(input) | Operator::Histogram(_, input) => node = input,
                Operator::Binary(binary) => match (binary.left.kind(), binary.right.kind()) {
                    (ValueKind::Vector, ValueKind::Vector) => break Types::Unknown,
                    _ if binary.operator.drops_name() || binary.comparison == Comparison::Bool => break Types::Same,
                    (ValueKind::Vector, _) => node = &binary.left,
                    _ => node = &binary.right,
                },
                _ => break Types::Unknown,
            }
        };
        Ok(Self::new(types))
    }

    /// Has a look at the labels of rows that come together.
    pub fn look<'l>(&mut self, mut labels: impl Iterator<Item = &'l Labels>) {
        self.are_typed = self.are_typed || self.types == Types::Unknown && labels.any(has_type_or_unit);
    }

    /// Whether rows of `labels`, of which name, type and unit are about to go, may have twins. Rows that come together
    /// are looked at before.
    pub fn concerns(&self, eval: &Evaluator<'_>, labels: &Labels) -> bool {
        let may_have_twins = match self.types {
            Types::Same => false,
            Types::Differ => true,
            Types::Unknown => self.are_typed || comes_before_typed(labels),
        };
        may_have_twins && !eval.query.delays_names()
    }

    /// Remembers what is left of row `row`. Fails where a twin of it has a sample at the same step.
    pub fn take(
        &self,
        eval: &Evaluator<'_>,
        labels: &RowLabels,
        (cells, row): (&StepBatch, usize),
        room: Room,
    ) -> Result<(), Error> {
        match room {
            Room::One => take(eval, Kind::Sample, &labels.labels, cells.present(row)),
            Room::Both => {
                take(eval, Kind::Float, &labels.labels, cells.valid(row).to_vec())?;
                let mut histograms = vec![0; bitmap::words(cells.steps())];
                cells.histograms(row).iter().for_each(|(step, _)| bitmap::set(&mut histograms, *step as usize));
                take(eval, Kind::Histogram, &labels.labels, histograms)
            }
        }
    }

    /// Remembers a row that is left with `labels`. Fails where it has a twin, at whatever steps.
    pub fn take_whole(&self, eval: &Evaluator<'_>, labels: &Arc<Labels>) -> Result<(), Error> {
        take(eval, Kind::Sample, labels, vec![u64::MAX])
    }
}

/// Whether a series of `labels` comes before those that have the same and a type or unit: where it has no label that
/// these come before.
fn comes_before_typed(labels: &Labels) -> bool {
    labels.iter().all(|(name, _)| name < "__unit__")
}

fn take(eval: &Evaluator<'_>, kind: Kind, labels: &Arc<Labels>, present: Vec<u64>) -> Result<(), Error> {
    let bytes = eval.query.twins.take((eval.operator, kind, Arc::clone(labels)), present)?;
    // They are there as long as the query is, and no operator lets go of them.
    eval.query.budget.memory().hold(bytes)
}
