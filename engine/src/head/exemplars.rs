//! The latest exemplars of a tenant; those of a series are chained.
//!
//! ```text
//! head of shard 0   0   2 3     6      the next one drops those that are too old, or the first
//! head of shard 1     1     4 5   7    numbers are the tenant's: with 5 to keep, 0 to 2 are too old
//! latest of a series ──previous──> … ──previous──> its oldest that is still there
//! ```
//!
//! Heads of one tenant share nothing but the number of the next exemplar: each keeps its own as long as
//! they are among the tenant's latest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::EncodedLabels;
use crate::model::{Labels, TimeRange};

/// Most characters of an exemplar's labels, names and values together, as OpenMetrics says.
pub const LABEL_CHARS_MAX: usize = 128;

/// Exemplars of one time and value that a new one is compared with, at most.
const ALIKE_MAX: usize = 64;

/// Later exemplars of its series behind which one is looked for that may be a repeat, at most.
const LATER_MAX: usize = 64;

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
    /// It is earlier than the latest before its batch.
    OutOfOrder,
    /// It is earlier than another of its batch.
    Overtaken,
    TooLong,
    Disabled,
}

/// The latest exemplar of a series at some time: it may be gone since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    place: u64,
    time: i64,
    value: f64,
}

impl Latest {
    /// Whether an exemplar of this time and value is earlier.
    fn is_after(&self, (time, value): (i64, f64)) -> bool {
        time < self.time || time == self.time && value < self.value
    }
}

/// Number of the next exemplar of a tenant, counted from 0 over all its heads.
pub type ExemplarClock = Arc<AtomicU64>;

#[derive(Clone, Debug)]
struct Slot {
    series: u32,
    /// Place of the exemplar before it of its series.
    previous: Option<u64>,
    /// Its number among the tenant's.
    number: u64,
    time: i64,
    value: f64,
    labels: Box<[u8]>,
}

/// The exemplars of one head. The place of one is how many came before it.
#[derive(Clone, Debug, Default)]
pub(super) struct ExemplarRing {
    slots: VecDeque<Slot>,
    /// Exemplars of the tenant that are kept, those of its other heads among them.
    max: usize,
    /// Place of the first that is still there.
    first: u64,
    clock: ExemplarClock,
    latest: HashMap<u32, u64>,
}

impl ExemplarRing {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Counts with `clock` from now on. What is there already has the ascending numbers `numbers`.
    pub(super) fn share(&mut self, clock: ExemplarClock, numbers: &[u64]) {
        self.clock = clock;
        self.slots.iter_mut().zip(numbers).for_each(|(slot, number)| slot.number = *number);
    }

    /// Unix milliseconds of those that are there, in the order they came.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        self.slots.iter().map(|slot| slot.time)
    }

    /// How many are there, of how many series, and the Unix milliseconds of the first that came.
    pub(super) fn kept(&self) -> (usize, usize, Option<i64>) {
        (self.slots.len(), self.latest.len(), self.slots.front().map(|slot| slot.time))
    }

    /// The latest exemplar of series `series` now.
    pub(super) fn latest(&self, series: u32) -> Option<Latest> {
        let place = *self.latest.get(&series)?;
        self.at(place).map(|slot| Latest { place, time: slot.time, value: slot.value })
    }

    /// Keeps an exemplar of series `series`, unless it is there, as SDKs send again what they have sent, or earlier
    /// than the last one. Of one time there may be several with ascending values, and of one value several with
    /// other labels, as the buckets of a native histogram have them.
    pub(super) fn push(&mut self, series: u32, (time, value): (i64, f64), labels: EncodedLabels<'_>) -> Kept {
        self.push_behind(self.latest(series), series, (time, value), labels)
    }

    /// As [`ExemplarRing::push`], of a batch before which `before` was the latest of the series. As in Prometheus, it
    /// is refused for that one alone, and where another of its batch is later left out without a word.
    pub(super) fn push_behind(
        &mut self,
        before: Option<Latest>,
        series: u32,
        (time, value): (i64, f64),
        labels: EncodedLabels<'_>,
    ) -> Kept {
        if self.max == 0 {
            return Kept::Disabled;
        }
        let chars = |text: &[u8]| text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        if labels.iter().map(|(name, value)| chars(name) + chars(value)).sum::<usize>() > LABEL_CHARS_MAX {
            return Kept::TooLong;
        }
        let last = self.latest(series);
        let is_same =
            |latest: Latest| self.at(latest.place).is_some_and(|latest| self.has_same(latest, (time, value), labels));
        if before.is_some_and(is_same) || last.is_some_and(is_same) {
            return Kept::Same;
        }
        let is_after = |latest: Option<Latest>| latest.is_some_and(|latest| latest.is_after((time, value)));
        if is_after(before) || is_after(last) {
            let refused = if is_after(before) { Kept::OutOfOrder } else { Kept::Overtaken };
            return if self.has_earlier(last, (time, value), labels) { Kept::Same } else { refused };
        }
        let previous = last.map(|last| last.place);
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        while self.slots.len() == self.max || self.slots.front().is_some_and(|slot| !self.is_kept(slot, number + 1)) {
            self.drop_first();
        }
        self.add(Slot { series, previous, number, time, value, labels: labels.0.into() });
        Kept::New
    }

    /// Whether the exemplar is among the last ones of its time and value, of which `last` is the latest.
    fn has_same(&self, last: &Slot, (time, value): (i64, f64), labels: EncodedLabels<'_>) -> bool {
        let before = std::iter::successors(Some(last), |slot| self.at(slot.previous?));
        let alike = before.take_while(|slot| slot.time == time && slot.value.to_bits() == value.to_bits());
        alike.take(ALIKE_MAX).any(|slot| *slot.labels == *labels.0)
    }

    /// Whether the exemplar is among those up to `last`, which is later.
    fn has_earlier(&self, last: Option<Latest>, (time, value): (i64, f64), labels: EncodedLabels<'_>) -> bool {
        let last = last.and_then(|last| self.at(last.place));
        let later = std::iter::successors(last, |slot| self.at(slot.previous?)).take_while(|slot| slot.time >= time);
        let is_same = |slot: &Slot| slot.time == time && slot.value.to_bits() == value.to_bits();
        later.take(LATER_MAX).any(|slot| is_same(slot) && *slot.labels == *labels.0)
    }

    fn add(&mut self, slot: Slot) {
        self.latest.insert(slot.series, self.first + self.slots.len() as u64);
        self.slots.push_back(slot);
    }

    fn drop_first(&mut self) {
        if let Some(old) = self.slots.pop_front()
            && self.latest.get(&old.series) == Some(&self.first)
        {
            self.latest.remove(&old.series);
        }
        self.first += 1;
    }

    /// The exemplar at `place`; `None` when it is no longer there.
    fn at(&self, place: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(place.checked_sub(self.first)?).ok()?)
    }

    /// Whether an exemplar is among the latest when `next` is the number of the next one.
    fn is_kept(&self, slot: &Slot, next: u64) -> bool {
        slot.number + self.max as u64 >= next
    }

    /// The exemplars of series `series` in `range`, ascending by time.
    pub(super) fn of(&self, series: u32, range: TimeRange) -> Vec<ExemplarValue> {
        let (mut found, next) = (Vec::new(), self.clock.load(Ordering::Relaxed));
        let mut place = self.latest.get(&series).copied();
        while let Some(slot) = place.and_then(|place| self.at(place)).filter(|slot| self.is_kept(slot, next)) {
            if range.contains(slot.time) {
                let labels = Labels::from_sorted(EncodedLabels(&slot.labels).pairs());
                found.push(ExemplarValue { labels, value: slot.value, time: slot.time });
            }
            place = slot.previous;
        }
        found.reverse();
        found
    }

    /// All exemplars in the order they came: series, time, value, labels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, i64, f64, EncodedLabels<'_>)> {
        let next = self.clock.load(Ordering::Relaxed);
        let kept = self.slots.iter().filter(move |slot| self.is_kept(slot, next));
        kept.map(|slot| (slot.series, slot.time, slot.value, EncodedLabels(&slot.labels)))
    }

    /// Gives every series its number in `renumbered`; the exemplars of those without one are dropped.
    pub(super) fn renumber(&mut self, renumbered: &[Option<u32>]) {
        let (old, next) = (std::mem::take(&mut self.slots), self.clock.load(Ordering::Relaxed));
        self.latest.clear();
        self.first = 0;
        for slot in old {
            let series = renumbered.get(slot.series as usize).copied().flatten();
            if let Some(series) = series.filter(|_| self.is_kept(&slot, next)) {
                let previous = self.latest.get(&series).copied();
                self.add(Slot { series, previous, ..slot });
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
    fn exemplars_of_one_time_and_value_differ_by_their_labels() {
        let mut ring = ExemplarRing::new(10);
        let mut push = |value, id| ring.push(0, (5, value), EncodedLabels(&encode("trace_id", id)));
        let pushed = ["b", "a", "c", "b", "a"].map(|id| push(1.0, id));
        assert_eq!(pushed, [Kept::New, Kept::New, Kept::New, Kept::Same, Kept::Same], "in any order");
        assert_eq!([push(2.0, "a"), push(2.0, "a"), push(1.0, "d")], [Kept::New, Kept::Same, Kept::OutOfOrder]);
        let found = ring.of(0, TimeRange::ALL);
        let ids = found.iter().map(|exemplar| exemplar.labels.get("trace_id").unwrap().to_owned());
        assert_eq!(ids.collect::<Vec<_>>(), ["b", "a", "c", "a"]);
    }

    /// What was kept was refused as out of order, which SDKs and agents send again until there is something later.
    #[test]
    fn what_is_kept_of_a_series_is_a_repeat_also_behind_later_ones() {
        let mut ring = ExemplarRing::new(4);
        let mut push =
            |series: u32, value: (i64, f64), id| ring.push(series, value, EncodedLabels(&encode("trace_id", id)));
        let sent = [(1, 1.0), (2, 7.0), (2, 8.0), (3, 1.0)];
        assert_eq!(sent.map(|value| push(0, value, "a")), [Kept::New; 4]);
        assert_eq!(sent.map(|value| push(0, value, "a")), [Kept::Same; 4]);
        for (value, id) in [((1, 1.0), "b"), ((1, 2.0), "a"), ((2, 7.5), "a"), ((0, 1.0), "a"), ((2, -7.0), "a")] {
            assert_eq!(push(0, value, id), Kept::OutOfOrder, "{value:?} {id}");
        }
        assert_eq!(push(1, (1, 1.0), "a"), Kept::New, "of another series");
        assert_eq!(push(0, (1, 1.0), "a"), Kept::OutOfOrder, "it has given way");
        assert_eq!(push(0, (2, 7.0), "a"), Kept::Same);
        // What comes within one batch is looked for as well.
        let before = ring.latest(1);
        let labels = encode("trace_id", "a");
        let behind = |time| ring.push_behind(before, 1, (time, 1.0), EncodedLabels(&labels));
        assert_eq!([5, 6, 5, 4].map(behind), [Kept::New, Kept::New, Kept::Same, Kept::Overtaken]);
    }

    /// They were refused as if another request had brought what is later, which nobody sends again.
    #[test]
    fn an_exemplar_is_refused_for_what_came_before_its_batch_alone() {
        let labels = encode("trace_id", "x");
        let mut ring = ExemplarRing::new(3);
        let mut push = |is_next: bool, value: (i64, f64)| {
            let before = if is_next { ring.latest(0) } else { None };
            let kept = ring.push_behind(before, 0, value, EncodedLabels(&labels));
            (kept, ring.latest(0))
        };
        assert_eq!(push(false, (5, 1.0)).0, Kept::New, "the first of a batch");
        assert_eq!(
            [(4, 1.0), (5, 0.5), (5, 1.0)].map(|value| push(false, value).0),
            [Kept::Overtaken, Kept::Overtaken, Kept::Same]
        );
        assert_eq!(
            [(4, 1.0), (5, 0.5), (5, 1.0)].map(|value| push(true, value).0),
            [Kept::OutOfOrder, Kept::OutOfOrder, Kept::Same]
        );
        // What was the latest before a batch stays that, also when the batch has made it give way.
        let before = push(true, (5, 1.0)).1;
        for (time, kept) in [(6, Kept::New), (5, Kept::Same), (7, Kept::New), (8, Kept::New), (4, Kept::OutOfOrder)] {
            assert_eq!(ring.push_behind(before, 0, (time, 1.0), EncodedLabels(&labels)), kept, "{time}");
        }
        assert_eq!(ring.of(0, TimeRange::ALL).iter().map(|one| one.time).collect::<Vec<_>>(), [6, 7, 8]);
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
        assert_eq!((one.kept(), ring.kept().1), ((1, 1, Some(2)), 1));
    }

    #[test]
    fn heads_of_one_tenant_keep_as_many_as_one_would() {
        let clock = ExemplarClock::default();
        let (mut rings, labels) = ([ExemplarRing::new(5), ExemplarRing::new(5)], encode("trace_id", "x"));
        rings.iter_mut().for_each(|ring| ring.share(Arc::clone(&clock), &[]));
        let times = |rings: &[ExemplarRing; 2]| {
            let mut times: Vec<i64> = rings.iter().flat_map(|ring| ring.iter().map(|row| row.1)).collect();
            let chained = rings.iter().flat_map(|ring| (0..3).flat_map(|series| ring.of(series, TimeRange::ALL)));
            let mut chained: Vec<i64> = chained.map(|exemplar| exemplar.time).collect();
            times.sort_unstable();
            chained.sort_unstable();
            assert_eq!(times, chained);
            times
        };
        for (at, ring) in [0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1].into_iter().enumerate() {
            let at = at as i64;
            assert_eq!(rings[ring].push((at % 3) as u32, (at, 1.0), EncodedLabels(&labels)), Kept::New);
            assert_eq!(times(&rings), ((at - 4).max(0)..=at).collect::<Vec<_>>());
        }
        rings[0].renumber(&[Some(2), Some(0), None]);
        assert_eq!(times(&rings), [6, 7, 9, 10]);
        let mut late = ExemplarRing::new(5);
        late.push(0, (3, 1.0), EncodedLabels(&labels));
        late.push(0, (8, 1.0), EncodedLabels(&labels));
        late.share(clock, &[2, 9]);
        assert_eq!(late.of(0, TimeRange::ALL).iter().map(|exemplar| exemplar.time).collect::<Vec<_>>(), [8]);
    }
}
