//! Series of one metric that differ in type or unit alone, which nothing tells apart when these go with the name.
//! Operators hand them on batch by batch, core by core, so that what they made of such series is remembered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{StepBatch, bitmap};
use crate::model::{Error, Labels};

use super::super::value::{RowLabels, has_type_or_unit};
use super::Evaluator;
use super::group::{Room, same_labels};

/// What the operators of a query have made of series that have a type or unit.
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
#[derive(Debug, Default)]
pub struct Watch {
    /// Whether there was a row with a type or unit: one without may follow that is left with the same labels.
    are_typed: bool,
}

impl Watch {
    /// Whether rows of `labels`, of which name, type and unit are about to go, may have twins.
    pub fn concerns(&mut self, eval: &Evaluator<'_>, labels: &Labels) -> bool {
        self.are_typed |= has_type_or_unit(labels);
        self.are_typed && !eval.query.delays_names()
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

fn take(eval: &Evaluator<'_>, kind: Kind, labels: &Arc<Labels>, present: Vec<u64>) -> Result<(), Error> {
    let bytes = eval.query.twins.take((eval.operator, kind, Arc::clone(labels)), present)?;
    // They are there as long as the query is, and no operator lets go of them.
    eval.query.budget.memory().hold(bytes)
}
