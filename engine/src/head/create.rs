//! New series: what is wrong with their labels, and where these are in the inverted index.
//!
//! ```text
//! labels ─ as in the series before? ─> its place
//!             └ no ─ in the index? ──> its place
//!                       └ no ─ text? ─> new, or the series is left out
//! ```
//! A label that a series has needs no second look, and series that follow each other share most.

use std::cmp::Ordering;

use super::append::{Pass, Rejected, RejectedKind};
use super::index::Postings;
use super::series::{Line, Meta};
use super::symbols::Symbols;
use super::{Head, Reason, SeriesCheck, SeriesHash};
use crate::codec::{EncodedLabel, EncodedLabels, LabelFault, is_text, name_order};

/// No label has this place.
const NEW: u32 = u32::MAX;

/// Series that a batch makes in one head before it asks again whether there is memory for more.
const ASKED: u64 = 64;

/// Bytes that a series takes beside its labels, rather too many than too few.
const SERIES_BYTES: u64 = 1 << 10;

/// Bytes of labels for which there must be memory of their own.
const LONG_LABELS: usize = 4 << 10;

/// The labels of one series with their places.
#[derive(Debug, Default)]
pub(super) struct Located<'a> {
    labels: Vec<(EncodedLabel<'a>, u32)>,
    /// Bytes that they take in canonical form.
    canonical_len: usize,
}

impl<'a> Located<'a> {
    /// Forgets all labels.
    pub(super) fn clear(&mut self) {
        self.labels.clear();
    }

    /// Replaces the labels by `labels`; says what is wrong with them.
    fn locate(&mut self, labels: EncodedLabels<'a>, (index, symbols): (&Postings, &Symbols)) -> Result<(), LabelFault> {
        let (mut rest, mut len, mut ordered_before) = (labels.iter(), 0, true);
        let (mut fault, mut canonical_len) = (None, 0);
        let mut before: &[u8] = &[];
        loop {
            // As in the series before, mostly.
            let known = self.labels.get(len).filter(|(known, place)| *place != NEW && rest.pass(known));
            let is_known = known.is_some();
            let Some(label) = known.map(|(known, _)| *known).or_else(|| rest.next_label()) else { break };
            if !is_known {
                let place = index.place(label, symbols).unwrap_or(NEW);
                if place == NEW && (label.name.is_empty() || label.value.is_empty()) {
                    fault = fault.or(Some(LabelFault::Empty));
                }
                if place == NEW && !(is_text(label.name) && is_text(label.value)) {
                    // It is told whatever other faults there are.
                    fault = Some(LabelFault::NotUtf8);
                }
                match self.labels.get_mut(len) {
                    Some(entry) => *entry = (label, place),
                    None => self.labels.push((label, place)),
                }
            }
            // Labels that stood side by side in a series ascend.
            if !(is_known && ordered_before) {
                fault = fault.or(match name_order(before, label.name) {
                    Ordering::Less => None,
                    Ordering::Equal => Some(LabelFault::Duplicate),
                    Ordering::Greater => Some(LabelFault::OutOfOrder),
                });
            }
            canonical_len += label.canonical_len();
            ordered_before = is_known;
            before = label.name;
            len += 1;
        }
        self.labels.truncate(len);
        self.canonical_len = canonical_len;
        let fault = fault.or((len == 0).then_some(LabelFault::Empty));
        fault.map_or(Ok(()), Err)
    }

    /// Whether these labels, which were located last, in canonical form are all that there is of `labels`.
    fn are_all_of(&self, labels: EncodedLabels<'_>) -> bool {
        self.canonical_len == labels.0.len()
    }
}

impl Pass<'_> {
    /// Whether there is memory for a new series whose labels take so many bytes: one in [`ASKED`] asks for those behind
    /// it as well.
    fn has_memory(&self, label_bytes: usize) -> bool {
        let Some(memory) = &self.limits.memory else { return true };
        let asks = self.report.series_created.is_multiple_of(ASKED) || label_bytes >= LONG_LABELS;
        !asks || memory.has_room(ASKED * SERIES_BYTES + label_bytes as u64)
    }
}

impl Head {
    /// Creates the series of `row` when its labels are those of a series and it has a sample that would be
    /// taken.
    #[cold]
    pub(super) fn create_wanted(&mut self, row: u32, pass: &mut Pass<'_>) -> Option<u32> {
        let batch = pass.batch;
        // Where it will be in the table is far away, and needed last.
        self.table.prefetch(batch.check(row));
        let floats = batch.samples(row).times.iter().map(|time| (*time, RejectedKind::Float, None));
        let histograms = batch.histograms(row).iter().map(|histogram| {
            let bad = histogram.value.validate().is_err().then_some(Reason::InvalidHistogram);
            (histogram.time, RejectedKind::Histogram, bad)
        });
        let samples = floats.chain(histograms);
        let labels = batch.labels(row);
        let located = pass.located.locate(labels, (&self.postings, &self.symbols));
        if !pass.located.are_all_of(labels) {
            pass.located.clear();
            pass.report.unread.push(batch.unread(row));
            return None;
        }
        if let Err(fault) = located {
            pass.located.clear();
            pass.report.bad_labels.count(fault);
            return None;
        }
        let refusal = |time: i64, bad: Option<Reason>| bad.or_else(|| self.bounds(time, pass));
        let is_wanted = samples.clone().any(|(time, _, bad)| refusal(time, bad).is_none());
        let has_room = self.symbols.has_room(labels.0.len()) && self.places.has_room();
        let has_memory = !is_wanted || pass.has_memory(labels.0.len());
        if is_wanted && has_room && has_memory && pass.limits.take_series() {
            let number = self.next_number();
            let id = self.create_located((batch.hash(row), batch.check(row)), &mut pass.located, number);
            pass.recent.note(batch.hash(row));
            pass.scratch.created.push((row, self.numbers[id as usize]));
            pass.report.series_created += 1;
            return Some(id);
        }
        let limit = if has_memory { Reason::SeriesLimit } else { Reason::NoMemory };
        let rejected = samples.map(|(time, kind, bad)| {
            let reason = refusal(time, bad).unwrap_or(limit);
            Rejected { kind, series: row, time, reason }
        });
        let rejected: Vec<Rejected> = rejected.collect();
        pass.report.rejected.extend(rejected);
        let orphans = batch.exemplars(row).map(|exemplar| Rejected {
            kind: RejectedKind::Exemplar,
            series: row,
            time: exemplar.time,
            reason: Reason::ExemplarWithoutSeries,
        });
        pass.report.rejected_exemplars.extend(orphans);
        None
    }

    /// The number of the next series. A head that has made four thousand million of them begins anew, and leaves out
    /// those that are there.
    fn next_number(&mut self) -> u32 {
        loop {
            let number = self.next_ref;
            self.next_ref = number.wrapping_add(1);
            if number == u32::MAX {
                self.find_taken();
            } else if self.taken.binary_search(&number).is_err() {
                return number;
            }
        }
    }

    /// Takes note of the numbers that series have.
    pub(super) fn find_taken(&mut self) {
        self.taken = self.numbers.iter().copied().collect();
        self.taken.sort_unstable();
    }

    /// Adds the series of `labels`, whatever they are, which isn't there, under the number `wal_ref`.
    /// `located` is of the series that was added last. Postings are to be settled before anything is read.
    pub(super) fn create_series<'a>(
        &mut self,
        labels: EncodedLabels<'a>,
        located: &mut Located<'a>,
        wal_ref: u32,
    ) -> u32 {
        let fault = located.locate(labels, (&self.postings, &self.symbols));
        if fault.is_err() {
            // It may have a label twice.
            self.postings.settle(0);
        }
        let id = self.create_located(SeriesHash::with_check(labels), located, wal_ref);
        if fault.is_err() {
            self.postings.settle(0);
            located.clear();
        }
        id
    }

    /// Adds a series. Postings are to be settled before anything is read.
    fn create_located(
        &mut self,
        (hash, check): (SeriesHash, SeriesCheck),
        located: &mut Located<'_>,
        wal_ref: u32,
    ) -> u32 {
        let id = self.metas.len() as u32;
        for (at, (label, place)) in located.labels.iter_mut().enumerate() {
            let mut ids = id..id + 1;
            if *place == NEW {
                *place = self.postings.add(*label, id, &mut self.symbols);
                ids.start = ids.end;
            }
            self.postings.add_later(at, *place, ids);
        }
        self.postings.settle(located.labels.len());
        self.lines.push(Line::default());
        self.keys.push((hash, check));
        self.numbers.push(wal_ref);
        self.metas.push(Meta {
            labels_at: self.places.push(located.labels.iter().map(|(_, place)| *place)),
            labels: located.labels.len() as u16,
            closed: Vec::new(),
            native: None,
            out_of_order: None,
        });
        self.table.insert((hash, check), id);
        self.stats.series += 1;
        self.stats.series_created += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"bc".to_vec(), "\u{e9}".into()]),
            1 => prop::sample::select(vec![b"".to_vec(), vec![0xff]]),
        ]
    }

    proptest! {
        /// Series after series, of which many are as the one before but for a label, against what is wrong
        /// with each on its own.
        #[test]
        fn what_is_wrong_with_labels_does_not_hang_on_the_series_before(
            all in prop::collection::vec((0..5usize, prop::collection::vec((texts(), texts()), 0..4)), 1..30),
        ) {
            let (mut index, mut symbols) = (Postings::default(), Symbols::default());
            let mut before: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let series: Vec<_> = all
                .into_iter()
                .map(|(shared, own)| {
                    before.truncate(shared);
                    before.extend(own);
                    let mut bytes = Vec::new();
                    before.iter().for_each(|(name, value)| EncodedLabels::push(name, value, &mut bytes));
                    bytes
                })
                .collect();
            let mut located = Located::default();
            for (id, bytes) in series.iter().enumerate() {
                let labels = EncodedLabels(bytes);
                let found = located.locate(labels, (&index, &symbols));
                prop_assert_eq!(found.err(), LabelFault::of(labels.iter()));
                if found.is_err() {
                    located.clear();
                    continue;
                }
                // Every other one is not taken after all.
                if id % 2 == 0 {
                    for (label, place) in &mut located.labels {
                        *place = index.add(*label, id as u32, &mut symbols);
                    }
                }
                let mut rest = labels.iter();
                for (label, place) in &located.labels {
                    prop_assert_eq!(Some(*label), rest.next_label());
                    prop_assert_eq!((*place != NEW).then_some(*place), index.place(*label, &symbols));
                }
                prop_assert!(rest.next_label().is_none());
            }
        }
    }
}
