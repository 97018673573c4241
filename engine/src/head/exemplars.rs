//! The latest exemplars of a tenant, in a ring; those of a series are chained.
//!
//! ```text
//! ring   e e e e e e e        the next one overwrites the oldest
//!            ^ next
//! latest of a series ──previous──> … ──previous──> its oldest that is still there
//! ```

use std::collections::HashMap;

use crate::codec::EncodedLabels;
use crate::model::{Labels, TimeRange};

/// Most characters of an exemplar's labels, names and values together, as OpenMetrics says.
pub const LABEL_CHARS_MAX: usize = 128;

const NONE: u32 = u32::MAX;

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarValue {
    /// Its own labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Unix milliseconds.
    pub time: i64,
}

/// Exemplars of one series, ascending by time.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// Labels of the series, external labels among them.
    pub series: Labels,
    /// Its exemplars.
    pub exemplars: Vec<ExemplarValue>,
}

/// What becomes of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    New,
    Same,
    OutOfOrder,
    TooLong,
    Disabled,
}

#[derive(Clone, Debug)]
struct Slot {
    series: u32,
    previous: u32,
    /// Number of the exemplar, from 0; tells whether `previous` was overwritten.
    number: u64,
    time: i64,
    value: f64,
    labels: Box<[u8]>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ExemplarRing {
    slots: Vec<Slot>,
    max: usize,
    appended: u64,
    latest: HashMap<u32, u32>,
}

impl ExemplarRing {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Keeps an exemplar of series `series`, unless it is the same as the one before or earlier.
    pub(super) fn push(&mut self, series: u32, (time, value): (i64, f64), labels: EncodedLabels<'_>) -> Kept {
        if self.max == 0 {
            return Kept::Disabled;
        }
        let chars = |text: &[u8]| text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        if labels.iter().map(|(name, value)| chars(name) + chars(value)).sum::<usize>() > LABEL_CHARS_MAX {
            return Kept::TooLong;
        }
        let previous = self.latest.get(&series).copied();
        if let Some(last) = previous.map(|at| &self.slots[at as usize]) {
            if last.time == time && last.value.to_bits() == value.to_bits() && *last.labels == *labels.0 {
                return Kept::Same;
            }
            if time < last.time || time == last.time && value <= last.value {
                return Kept::OutOfOrder;
            }
        }
        let at = (self.appended % self.max as u64) as usize;
        let slot = Slot {
            series,
            previous: previous.unwrap_or(NONE),
            number: self.appended,
            time,
            value,
            labels: labels.0.into(),
        };
        if at < self.slots.len() {
            let old = std::mem::replace(&mut self.slots[at], slot);
            if self.latest.get(&old.series) == Some(&(at as u32)) {
                self.latest.remove(&old.series);
            }
            if old.series == series && self.slots[at].previous == at as u32 {
                self.slots[at].previous = NONE;
            }
        } else {
            self.slots.push(slot);
        }
        self.latest.insert(series, at as u32);
        self.appended += 1;
        Kept::New
    }

    /// The exemplars of series `series` in `range`, ascending by time.
    pub(super) fn of(&self, series: u32, range: TimeRange) -> Vec<ExemplarValue> {
        let mut found = Vec::new();
        let mut at = self.latest.get(&series).copied().unwrap_or(NONE);
        let mut before = u64::MAX;
        while let Some(slot) = self.slots.get(at as usize).filter(|slot| slot.series == series && slot.number < before)
        {
            if range.contains(slot.time) {
                let labels = Labels::from_sorted(EncodedLabels(&slot.labels).pairs());
                found.push(ExemplarValue { labels, value: slot.value, time: slot.time });
            }
            before = slot.number;
            at = slot.previous;
        }
        found.reverse();
        found
    }

    /// All exemplars in the order they came: series, time, value, labels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, i64, f64, EncodedLabels<'_>)> {
        let is_full = self.max > 0 && self.slots.len() == self.max;
        let start = if is_full { (self.appended % self.max as u64) as usize } else { 0 };
        let (late, early) = self.slots.split_at(start.min(self.slots.len()));
        early.iter().chain(late).map(|slot| (slot.series, slot.time, slot.value, EncodedLabels(&slot.labels)))
    }

    /// Gives every series its number in `renumbered`; the exemplars of those without one are dropped.
    pub(super) fn renumber(&mut self, renumbered: &[Option<u32>]) {
        let old = std::mem::replace(self, Self::new(self.max));
        for (series, time, value, labels) in old.iter() {
            if let Some(series) = renumbered.get(series as usize).copied().flatten() {
                self.push(series, (time, value), labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut out);
        out
    }

    #[test]
    fn the_oldest_exemplars_give_way_and_those_of_a_series_stay_together() {
        let mut ring = ExemplarRing::new(4);
        let labels = encode("trace_id", "x");
        for at in 0..10i64 {
            let kept = ring.push((at % 2) as u32, (at, at as f64), EncodedLabels(&labels));
            assert_eq!(kept, Kept::New);
        }
        let times =
            |ring: &ExemplarRing, series| ring.of(series, TimeRange::ALL).iter().map(|e| e.time).collect::<Vec<_>>();
        assert_eq!((times(&ring, 0), times(&ring, 1)), (vec![6, 8], vec![7, 9]));
        assert_eq!(ring.push(1, (9, 9.0), EncodedLabels(&labels)), Kept::Same);
        assert_eq!(ring.push(1, (9, 8.0), EncodedLabels(&labels)), Kept::OutOfOrder);
        assert_eq!(ring.push(1, (10, 0.0), EncodedLabels(&encode("a", &"x".repeat(200)))), Kept::TooLong);
        assert_eq!(ExemplarRing::new(0).push(1, (9, 9.0), EncodedLabels(&labels)), Kept::Disabled);
        assert_eq!(ExemplarRing::new(0).iter().count(), 0, "none are kept by default");
        ring.renumber(&[Some(0), None]);
        assert_eq!((times(&ring, 0), times(&ring, 1)), (vec![6, 8], vec![]));
        let mut one = ExemplarRing::new(1);
        one.push(3, (1, 1.0), EncodedLabels(&labels));
        one.push(3, (2, 1.0), EncodedLabels(&labels));
        assert_eq!(times(&one, 3), [2]);
    }
}
