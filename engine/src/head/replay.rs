//! Records onto a head: what was taken once is taken again, what is there already is skipped.

use super::Head;
use super::append::LateValue;
use super::create::Located;
use super::series::NATIVE;
use crate::codec::{Corrupt, EncodedLabels};
use crate::model::HistogramValue;
use crate::model::value::is_stale_nan;
use crate::simd::prefetch;
use crate::wal::record::{ExemplarRecord, FloatRows, MetadataRecord};
use crate::wal::{Cut, CutKind, CutPhase, Order, Record};

use super::{Metadata, MetricKind};

/// Samples whose series are asked for ahead.
const AHEAD: usize = 32;

/// No series has this number.
const NONE: u32 = u32::MAX;

/// Numbers of one page.
const PAGE: usize = 4096;

/// A head that records are applied to.
#[derive(Debug)]
pub struct Replay {
    head: Head,
    /// The series that each number in the log stands for, in pages: numbers ascend, but may start
    /// anywhere.
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Whether samples have left the head. Series that nothing is left of stay until the end: the head
    /// that wrote the log swept them some time after the cut, and until then took samples under their
    /// numbers without naming them again.
    is_cut: bool,
    /// Samples of series that the log never named, and histograms that no head would take; a log that was
    /// cut where it may be has none.
    pub unknown: u64,
}

impl Replay {
    /// Goes on with `head`.
    pub fn new(head: Head) -> Self {
        let mut replay = Self { head, pages: Vec::new(), is_cut: false, unknown: 0 };
        for id in 0..replay.head.metas.len() as u32 {
            replay.bind(replay.head.numbers[id as usize], id);
        }
        replay
    }

    /// Takes in what `record` says of the head. A chunk that can't be decoded is an error.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), Corrupt> {
        match record {
            // Of which tenant the head is, is not its own affair.
            Record::Tenant(..) | Record::Removed(_) => {}
            Record::Series(_, series) => self.series(series),
            Record::Floats(_, order, rows) => self.floats(*order, rows),
            Record::Histograms(_, order, rows) => self.histograms(*order, rows),
            Record::Exemplars(_, rows) => self.exemplars(rows),
            Record::Metadata(_, rows) => self.metadata(rows),
            Record::State(_, state) => self.state(state),
            Record::Chunks(_, chunks) => self.chunks(chunks)?,
            Record::Cut(_, cut) => self.cut(cut),
        }
        Ok(())
    }

    /// The head as the records have made it.
    pub fn finish(mut self) -> Head {
        while self.is_cut && self.head.sweep() {}
        if self.head.numbers.iter().any(|number| *number >= self.head.next_ref) {
            self.head.find_taken();
        }
        self.head
    }

    /// The head so far.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Gives series their numbers.
    pub fn series(&mut self, series: &[(u32, EncodedLabels<'_>)]) {
        let mut located = Located::default();
        for (number, labels) in series {
            let known = self.head.find_series(*labels);
            let id = known.unwrap_or_else(|| self.head.create_series(*labels, &mut located, *number));
            self.head.numbers[id as usize] = *number;
            // Numbers go round: the later one of two is that which lies less than half of the way behind the other.
            if number.wrapping_sub(self.head.next_ref) < 1 << 31 {
                self.head.next_ref = number.wrapping_add(1);
            }
            self.bind(*number, id);
        }
        self.head.postings.settle(0);
    }

    /// Appends floats.
    pub fn floats(&mut self, order: Order, rows: &FloatRows) {
        for (at, ((number, time), value)) in rows.refs.iter().zip(&rows.times).zip(&rows.values).enumerate() {
            if let Some(line) = rows.refs.get(at + AHEAD).and_then(|ahead| self.id(*ahead)) {
                prefetch(&self.head.lines[line as usize]);
            }
            let Some(id) = self.id(*number) else {
                self.unknown += 1;
                continue;
            };
            match order {
                Order::Broken => self.head.replay_late(id, *time, &LateValue::Float(*value)),
                Order::Kept => self.float(id, *time, *value),
            }
        }
    }

    fn float(&mut self, id: u32, time: i64, value: f64) {
        let tail = &self.head.lines[id as usize].tail;
        if time <= tail.last_time() || time < self.head.min_valid_time {
            return;
        }
        if tail.mark == NATIVE && is_stale_nan(value) {
            // As heads recorded it before they recorded the histogram that it becomes.
            let stale = self.head.metas[id as usize].stale_native(&self.head.lines[id as usize]);
            self.head.push_native(id, time, stale);
        } else {
            self.head.push_float(id, time, value);
        }
        self.head.note_time(time);
    }

    /// Appends histograms.
    pub fn histograms(&mut self, order: Order, rows: &[(u32, i64, HistogramValue)]) {
        for (number, time, value) in rows {
            let Some(id) = self.id(*number) else {
                self.unknown += 1;
                continue;
            };
            if value.validate().is_err() {
                self.unknown += 1;
            } else if order == Order::Broken {
                self.head.replay_late(id, *time, &LateValue::Native(value));
            } else if *time > self.head.lines[id as usize].tail.last_time() && *time >= self.head.min_valid_time {
                self.head.push_native(id, *time, value);
                self.head.note_time(*time);
            }
        }
    }

    /// Appends exemplars.
    pub fn exemplars(&mut self, rows: &[ExemplarRecord<'_>]) {
        for (number, time, value, labels) in rows {
            if let Some(id) = self.id(*number) {
                self.head.exemplars.push(id, (*time, *value), *labels);
            }
        }
    }

    /// Says what metrics are.
    pub fn metadata(&mut self, rows: &[MetadataRecord<'_>]) {
        for row in rows {
            let kind = MetricKind::from_number(u64::from(row.kind));
            self.head.note_metadata(row.name, Metadata { kind, help: row.help, unit: row.unit });
        }
    }

    /// Samples leave the head when they are in blocks. Late ones are frozen where the log says so: which blocks they
    /// go into is known some time later, and what comes late meanwhile stays.
    pub fn cut(&mut self, cut: &Cut) {
        match (cut.kind, cut.phase) {
            (CutKind::OutOfOrder, CutPhase::Intended) if cut.blocks.is_empty() => drop(self.head.freeze_late()),
            (_, CutPhase::Intended) => {}
            (CutKind::InOrder, CutPhase::Done) => {
                self.head.cut_off(cut.until);
                self.is_cut = true;
            }
            (CutKind::OutOfOrder, CutPhase::Done) => {
                self.head.truncate_late();
                self.is_cut = true;
            }
        }
    }

    pub(super) fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    pub(super) fn id(&self, number: u32) -> Option<u32> {
        let page = self.pages.get(number as usize / PAGE)?.as_ref()?;
        Some(page[number as usize % PAGE]).filter(|id| *id != NONE)
    }

    fn bind(&mut self, number: u32, id: u32) {
        let page = number as usize / PAGE;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([NONE; PAGE]))[number as usize % PAGE] = id;
    }
}
