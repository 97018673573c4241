//! Series that nothing is left of go, and what only they used, while samples are taken.
//!
//! ```text
//! count ─ none is empty ─> done
//!   └───> copy labels of those that stay, part by part ─> series move up, in one step
//! ```
//! A series that gets a sample after it was passed over is taken in at the end.

use super::Head;
use super::index::Postings;
use super::places::Places;
use super::series::{Key, Line, Meta};
use super::symbols::Symbols;
use super::table::SeriesTable;
use crate::codec::{EncodedLabel, EncodedLabels};

/// Series of one step.
const PART_SERIES: usize = 1024;

/// No series has this number.
const NONE: u32 = u32::MAX;

/// How far a sweep has come.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    /// The next series to look at.
    next: usize,
    /// Unix milliseconds of the first sample seen. Of what comes meanwhile the head takes note.
    min_time: i64,
    /// What the head said of its first sample before.
    pub(super) min_time_before: i64,
    /// Whether a series without samples was seen; all before that was counting.
    is_copying: bool,
    kept: Kept,
}

/// The series that stay.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// Of each series seen its number to be; [`NONE`] for those that go.
    renumbered: Vec<u32>,
    /// Of each series that stays its number so far.
    olds: Vec<u32>,
    /// Where its labels start.
    labels_at: Vec<u32>,
    places: Places,
    symbols: Symbols,
    postings: Postings,
    table: SeriesTable,
    bytes: Vec<u8>,
}

impl Head {
    /// One step of removing series without samples; whether there is more to do.
    pub fn sweep(&mut self) -> bool {
        let mut sweep = self.sweep.take().unwrap_or_else(|| {
            let min_time_before = std::mem::replace(&mut self.min_time, i64::MAX);
            let kept = Kept::default();
            Box::new(Sweep { next: 0, min_time: i64::MAX, min_time_before, is_copying: false, kept })
        });
        let end = (sweep.next + PART_SERIES).min(self.metas.len());
        for id in sweep.next..end {
            let start = self.start_of(id as u32);
            sweep.min_time = sweep.min_time.min(start.unwrap_or(i64::MAX));
            if sweep.is_copying {
                sweep.kept.look_at(self, id as u32, start.is_some());
            } else if start.is_none() {
                // From the first on.
                sweep.is_copying = true;
                sweep.next = 0;
                self.sweep = Some(sweep);
                return true;
            }
        }
        sweep.next = end;
        if end < self.metas.len() {
            self.sweep = Some(sweep);
            return true;
        }
        if sweep.is_copying {
            self.move_up(sweep.kept);
        }
        self.min_time = self.min_time.min(sweep.min_time);
        false
    }

    /// Unix milliseconds of the first sample of series `id`; `None` when it has none.
    fn start_of(&self, id: u32) -> Option<i64> {
        let (meta, line) = (&self.metas[id as usize], &self.lines[id as usize]);
        let late = meta.out_of_order.as_ref().and_then(|late| late.chunks().first().map(|chunk| chunk.min_time));
        let open = (line.tail.count() > 0).then(|| crate::chunk::xor::Tail::first_time(&line.data));
        let native = meta.native.as_ref().map(|open| open.min_time);
        let closed = meta.closed.first().map(|chunk| chunk.min_time);
        [late, closed, native, open].into_iter().flatten().min()
    }

    /// Gives every series its new number; those without one go.
    fn move_up(&mut self, mut kept: Kept) {
        let revived: Vec<u32> = (0..self.metas.len() as u32)
            .filter(|id| kept.renumbered[*id as usize] == NONE && self.start_of(*id).is_some())
            .collect();
        revived.iter().for_each(|id| kept.keep(self, *id));
        let removed = self.metas.len() - kept.olds.len();
        self.stats.series_removed += removed as u64;
        self.stats.series -= removed as u64;
        let in_order = kept.olds.len() - revived.len();
        let taken: Vec<(Line, Key, Meta, u32)> = revived
            .iter()
            .map(|id| {
                let at = *id as usize;
                (std::mem::take(&mut self.lines[at]), self.keys[at], self.metas[at].clone(), self.numbers[at])
            })
            .collect();
        // Those before have moved already, so that what is overwritten is of no use any more.
        for (new, old) in kept.olds[..in_order].iter().enumerate() {
            self.lines.swap(new, *old as usize);
            self.keys[new] = self.keys[*old as usize];
            self.metas.swap(new, *old as usize);
            self.numbers[new] = self.numbers[*old as usize];
        }
        self.lines.truncate(in_order);
        self.keys.truncate(in_order);
        self.metas.truncate(in_order);
        self.numbers.truncate(in_order);
        for (line, key, meta, number) in taken {
            self.lines.push(line);
            self.keys.push(key);
            self.metas.push(meta);
            self.numbers.push(number);
        }
        for (meta, labels_at) in self.metas.iter_mut().zip(&kept.labels_at) {
            meta.labels_at = *labels_at;
        }
        let metadata = std::mem::take(&mut self.metadata);
        for (name, said) in metadata {
            self.metadata.insert(kept.symbols.intern(self.symbols.get(name)), said);
        }
        let renumbered: Vec<Option<u32>> =
            kept.renumbered.iter().map(|number| Some(*number).filter(|number| *number != NONE)).collect();
        self.exemplars.renumber(&renumbered);
        (self.symbols, self.postings, self.table, self.places) = (kept.symbols, kept.postings, kept.table, kept.places);
    }
}

impl Kept {
    /// The next series stays, or goes.
    fn look_at(&mut self, head: &Head, id: u32, stays: bool) {
        debug_assert_eq!(self.renumbered.len(), id as usize, "series are looked at one after the other");
        self.renumbered.push(NONE);
        if stays {
            self.keep(head, id);
        }
    }

    /// Gives series `id`, which was looked at, the next number, and copies its labels.
    fn keep(&mut self, head: &Head, id: u32) {
        let new = self.olds.len() as u32;
        self.renumbered[id as usize] = new;
        self.olds.push(id);
        let mut places = Vec::with_capacity(usize::from(head.metas[id as usize].labels));
        for (name, value) in head.pairs_of(id) {
            let (name, value) = (head.symbols.get(name), head.symbols.get(value));
            self.bytes.clear();
            EncodedLabels::push_inner(name, value, &mut self.bytes);
            let label = EncodedLabel { name, value, bytes: &self.bytes };
            places.push(self.postings.add(label, new, &mut self.symbols));
        }
        self.labels_at.push(self.places.push(places.into_iter()));
        self.table.insert(head.keys[id as usize], new);
    }
}
