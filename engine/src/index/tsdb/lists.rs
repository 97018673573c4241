//! Postings lists in the making: references come series by series and leave list by list.
//!
//! In memory each list is a run of deltas. When all of them together exceed a limit they are written to
//! a [`Spool`], ordered by label, and begun anew; in the end these runs are merged:
//!
//! ```text
//! run 1   ▐a=1 ●●●▌▐a=2 ●▌▐b=1 ●●▌           list a=1   ●●● ●●
//! run 2   ▐a=1 ●●▌▐b=1 ●▌▐b=2 ●▌             list a=2   ●
//!                                            …
//! list    name + 1 <uvarint>, value <uvarint>, count <uvarint>, then each reference as the
//!         difference to the one before it, the first to 0 <uvarint>; of all series 0, 0 is the label
//! ```
//!
//! As series come in the order of their references, a list's part in a run comes before its parts in
//! later runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use super::postings;
use super::source::{Source, Window};
use super::spool::Spool;
use super::symbols::SymbolRef;
use crate::codec::{Corrupt, varint};
use crate::model::Error;

/// Bytes of postings that an index in the making keeps in memory by default: some 150,000 series.
pub const POSTINGS_BYTES: usize = 4 << 20;

/// References that are handed out at once.
const PIECE_REFS: usize = 16 << 10;

/// Bytes that are decoded at once.
const DECODE_BYTES: usize = 4 << 10;

/// Bytes that all runs together read at once, shared by them.
const READ_BYTES: usize = 4 << 20;

/// Fewest and most bytes that one run reads at once.
const RUN_READ_BYTES: std::ops::RangeInclusive<usize> = DECODE_BYTES..=64 << 10;

/// No list.
const NONE: u32 = u32::MAX;

/// Where postings go that are too many for memory.
#[derive(Clone, Debug)]
pub struct Spill {
    /// A folder; what is made there has no name when it is used.
    pub folder: PathBuf,
    /// Bytes that stay in memory.
    pub bytes_max: usize,
}

/// The label of a list, ordered as the offset table is: the list of all series, then by name and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

impl Key {
    const ALL: Self = Self(0);

    fn new(name: u32, value: u32) -> Self {
        Self((u64::from(name) + 1) << 32 | u64::from(value))
    }

    /// Name plus one, and value.
    fn parts(self) -> (u64, u64) {
        (self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// All postings lists in the making.
#[derive(Debug)]
pub(super) struct PostingsLists {
    /// The first, number 0, is that of all series.
    lists: Vec<List>,
    /// For each symbol the first list of which it is the value; the others are chained by `next`, for
    /// hardly ever is one symbol the value of several names.
    by_value: Vec<u32>,
    /// Bytes of the lists in memory.
    bytes: usize,
    bytes_max: usize,
    spool: Spool,
    /// Where each run ends in the spool.
    runs: Vec<u64>,
}

#[derive(Debug)]
struct List {
    key: Key,
    next: u32,
    last: u32,
    count: u32,
    /// Differences between references, the first to 0.
    deltas: Vec<u8>,
}

impl List {
    fn new(key: Key, next: u32) -> Self {
        Self { key, next, last: 0, count: 0, deltas: Vec::new() }
    }

    /// Appends a reference; gives how many bytes more it takes.
    fn push(&mut self, series_ref: u32) -> usize {
        let before = self.deltas.capacity();
        varint::encode_u64(u64::from(series_ref - self.last), &mut self.deltas);
        self.last = series_ref;
        self.count += 1;
        self.deltas.capacity() - before
    }
}

impl PostingsLists {
    /// No lists, of series whose labels are among `symbol_count` symbols.
    pub(super) fn new(symbol_count: usize, spill: Option<&Spill>) -> Self {
        Self {
            lists: vec![List::new(Key::ALL, NONE)],
            by_value: vec![NONE; symbol_count],
            bytes: 0,
            bytes_max: spill.map_or(usize::MAX, |spill| spill.bytes_max),
            spool: Spool::new(spill.map(|spill| spill.folder.join("postings.tmp"))),
            runs: Vec::new(),
        }
    }

    /// Appends a series, whose reference is greater than all before.
    pub(super) fn add(&mut self, labels: &[(SymbolRef, SymbolRef)], series_ref: u32) -> Result<(), Error> {
        self.bytes += self.lists[0].push(series_ref);
        for (name, value) in labels {
            let list = self.list(name.0, value.0);
            self.bytes += self.lists[list as usize].push(series_ref);
        }
        if self.bytes > self.bytes_max { self.spill() } else { Ok(()) }
    }

    /// Ends the last run; the runs can be merged then.
    pub(super) fn finish(mut self) -> Result<Runs, Error> {
        self.spill()?;
        Ok(Runs { spool: self.spool, ends: self.runs })
    }

    fn list(&mut self, name: u32, value: u32) -> u32 {
        let (first, key) = (self.by_value[value as usize], Key::new(name, value));
        let mut list = first;
        while list != NONE && self.lists[list as usize].key != key {
            list = self.lists[list as usize].next;
        }
        if list == NONE {
            list = self.lists.len() as u32;
            self.lists.push(List::new(key, first));
            self.by_value[value as usize] = list;
            self.bytes += size_of::<List>();
        }
        list
    }

    /// Makes a run of what is in memory.
    fn spill(&mut self) -> Result<(), Error> {
        for list in &self.lists[1..] {
            self.by_value[list.key.parts().1 as usize] = NONE;
        }
        self.lists.sort_unstable_by_key(|list| list.key);
        for list in self.lists.drain(..).filter(|list| list.count > 0) {
            let (end, (name, value)) = (self.spool.end(), list.key.parts());
            varint::encode_u64(name, end);
            varint::encode_u64(value, end);
            varint::encode_u64(u64::from(list.count), end);
            end.extend_from_slice(&list.deltas);
            self.spool.settle()?;
        }
        self.lists.push(List::new(Key::ALL, NONE));
        self.bytes = 0;
        self.runs.push(self.spool.len());
        Ok(())
    }
}

/// Runs of lists.
#[derive(Debug)]
pub(super) struct Runs {
    spool: Spool,
    ends: Vec<u64>,
}

impl Runs {
    /// Merges the runs from their first lists on.
    pub(super) fn merge(&self) -> Result<Merge<'_>, Error> {
        let read_len = (READ_BYTES / self.ends.len().max(1)).clamp(*RUN_READ_BYTES.start(), *RUN_READ_BYTES.end());
        let mut merge = Merge { runs: Vec::new(), heads: BinaryHeap::new(), current: Vec::new(), at: 0 };
        let mut start = 0;
        for end in self.ends.iter().copied() {
            let window = Window::sized(&self.spool, postings::WHAT, read_len);
            merge.runs.push(Run { window, at: start, end, left: 0, last: 0 });
            merge.open_next(merge.runs.len() - 1)?;
            start = end;
        }
        Ok(merge)
    }
}

/// The lists of all runs, one after the other.
#[derive(Debug)]
pub(super) struct Merge<'s> {
    runs: Vec<Run<'s>>,
    /// The next list of each run that is not in the current one.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    /// The runs that have a part of the current list.
    current: Vec<usize>,
    /// How many of them are read.
    at: usize,
}

/// A list of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// Its label's name and value; `None` for the list of all series.
    pub(super) label: Option<(SymbolRef, SymbolRef)>,
    /// Its references.
    pub(super) count: u64,
}

impl Merge<'_> {
    /// The next list, once all references of the one before were taken; `None` behind the last.
    pub(super) fn next(&mut self) -> Option<Merged> {
        let Reverse((key, first)) = self.heads.pop()?;
        self.current.clear();
        self.current.push(first);
        self.at = 0;
        while let Some(Reverse((_, run))) = self.heads.peek().copied().filter(|head| head.0.0 == key) {
            self.heads.pop();
            self.current.push(run);
        }
        let count = self.current.iter().map(|run| self.runs[*run].left).sum();
        let (name, value) = key.parts();
        let label = name.checked_sub(1).map(|name| (SymbolRef(name as u32), SymbolRef(value as u32)));
        Some(Merged { label, count })
    }

    /// Replaces `refs` by the next references of the list; by none behind its last.
    pub(super) fn take(&mut self, refs: &mut Vec<u32>) -> Result<(), Error> {
        refs.clear();
        while refs.len() < PIECE_REFS
            && let Some(run) = self.current.get(self.at).copied()
        {
            self.runs[run].take(refs)?;
            if self.runs[run].left == 0 {
                self.open_next(run)?;
                self.at += 1;
            }
        }
        Ok(())
    }

    fn open_next(&mut self, run: usize) -> Result<(), Error> {
        self.heads.extend(self.runs[run].open()?.map(|key| Reverse((key, run))));
        Ok(())
    }
}

#[derive(Debug)]
struct Run<'s> {
    window: Window<'s, Spool>,
    at: u64,
    end: u64,
    /// References left of its current list.
    left: u64,
    last: u32,
}

impl Run<'_> {
    /// Goes on to the next list; `None` behind the last.
    fn open(&mut self) -> Result<Option<Key>, Error> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (bytes, mut len) = (self.window.up_to(self.at, 3 * varint::LEN_MAX, self.end)?, 0);
        let mut next = || {
            let (value, used) = varint::decode_u64(bytes.get(len..)?)?;
            len += used;
            Some(value)
        };
        let head = (|| Some((next()?, next()?, next()?)))();
        let Some((name, value, count)) = head else { return Err(self.cut_off()) };
        (self.at, self.left, self.last) = (self.at + len as u64, count, 0);
        Ok(Some(Key(name << 32 | value)))
    }

    /// Appends references of the current list until there are enough or none is left.
    fn take(&mut self, refs: &mut Vec<u32>) -> Result<(), Error> {
        while self.left > 0 && refs.len() < PIECE_REFS {
            let bytes = self.window.up_to(self.at, DECODE_BYTES, self.end)?;
            let wanted = self.left.min((PIECE_REFS - refs.len()) as u64);
            let (mut used, before) = (0, refs.len());
            for _ in 0..wanted {
                let Some((delta, len)) = varint::decode_u64(&bytes[used..]) else { break };
                self.last = self.last.wrapping_add(delta as u32);
                refs.push(self.last);
                used += len;
            }
            if used == 0 {
                return Err(self.cut_off());
            }
            self.at += used as u64;
            self.left -= (refs.len() - before) as u64;
        }
        Ok(())
    }

    fn cut_off(&self) -> Error {
        Corrupt::new(postings::WHAT, self.at, "what was put aside came back cut off").into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lists_are_the_same_however_often_they_were_spilled() {
        let folder = std::env::temp_dir().join(format!("uru-lists-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let labels = |at: u32| {
            let labels = [(0, at % 7), (1, at % 7), (2, 7 + at % 900), (2_000, at / 3)];
            labels.map(|(name, value)| (SymbolRef(name), SymbolRef(value)))
        };
        let series: Vec<u32> = (0..50_000).map(|at| at * 3 + at % 2).collect();
        let mut expected: BTreeMap<Option<(SymbolRef, SymbolRef)>, Vec<u32>> = BTreeMap::new();
        for (at, series_ref) in series.iter().enumerate() {
            for label in labels(at as u32).map(Some).into_iter().chain([None]) {
                expected.entry(label).or_default().push(*series_ref);
            }
        }
        for bytes_max in [None, Some(1 << 30), Some(1 << 20), Some(100_000), Some(3_000)] {
            let spill = bytes_max.map(|bytes_max| Spill { folder: folder.clone(), bytes_max });
            let mut lists = PostingsLists::new(20_000, spill.as_ref());
            for (at, series_ref) in series.iter().enumerate() {
                lists.add(&labels(at as u32), *series_ref).unwrap();
            }
            let runs = lists.finish().unwrap();
            assert_eq!(runs.ends.len() > 1, bytes_max.is_some_and(|bytes| bytes <= 1 << 20), "{bytes_max:?}");
            let (mut merge, mut refs, mut found) = (runs.merge().unwrap(), Vec::new(), Vec::new());
            while let Some(Merged { label, count }) = merge.next() {
                let mut whole = Vec::new();
                loop {
                    merge.take(&mut refs).unwrap();
                    if refs.is_empty() {
                        break;
                    }
                    whole.extend_from_slice(&refs);
                }
                assert_eq!(whole.len() as u64, count);
                found.push((label, whole));
            }
            assert!(found.iter().map(|(label, refs)| (label, refs)).eq(&expected), "{bytes_max:?}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
