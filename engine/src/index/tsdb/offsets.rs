//! The postings offset table: where the postings list of each label lies.
//!
//! ```text
//! section content: count <4b be>, then count times
//! ┌────────┬────────────────┬──────┬─────────────────┬───────┬──────────────────┐
//! │ 2 <1b> │ len <uvarint>  │ name │ len <uvarint>   │ value │ offset <uvarint> │
//! └────────┴────────────────┴──────┴─────────────────┴───────┴──────────────────┘
//! ```
//!
//! In version 2 entries ascend by name and value, the list of all series (empty name and value)
//! first; in version 1 they come in any order. Lists lie in the file in the order of the table, so
//! the next entry's offset bounds a list. In memory stays one position for every 32 values.

use super::Version;
use super::source::{Source, Window};
use crate::codec::{Corrupt, Cursor, section, varint};
use crate::model::Error;

/// The part's name in errors.
pub(in crate::index) const WHAT: &str = "postings offset table";

/// Of so many values of a name the position of one is kept.
const STRIDE: u32 = 32;

/// Bytes in which most entries fit.
const ENTRY_GUESS_LEN: usize = 1024;

/// One entry of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostingsOffset {
    /// Label name; empty for the list of all series.
    pub name: String,
    /// Label value; empty for the list of all series.
    pub value: String,
    /// Byte of the index file at which the list's section starts.
    pub offset: u64,
}

/// The bytes of the index file in which a postings list lies, padding after it among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingsRange {
    /// First byte of the list's section.
    pub start: u64,
    /// Byte after the last that can belong to it.
    pub end: u64,
}

/// All entries in the order of the file; the checksum is compared after the last one.
#[derive(Debug)]
pub struct OffsetTableScan<'s, S: ?Sized> {
    window: Window<'s, S>,
    section_start: u64,
    at: u64,
    end: u64,
    entries_left: u32,
    checksum: u32,
}

impl<'s, S: Source + ?Sized> OffsetTableScan<'s, S> {
    /// The entries of the table whose section starts at byte `offset` of `source`.
    /// Offset 0 stands for a table that is not there.
    pub fn new(source: &'s S, offset: u64) -> Result<Self, Error> {
        let mut window = Window::new(source, WHAT);
        if offset == 0 {
            return Ok(Self { window, section_start: 0, at: 0, end: 0, entries_left: 0, checksum: 0 });
        }
        let mut cursor = Cursor::new(WHAT, window.bytes(offset, 8)?, offset);
        let (len, count) = (u64::from(cursor.u32_be()?), cursor.u32_be()?);
        let checksum = section::checksum(&count.to_be_bytes());
        let end = offset.saturating_add(4).saturating_add(len);
        if len < 4 || end.saturating_add(4) > source.len() {
            let reason = format!("{len} bytes announced, the file ends at byte {}", source.len());
            return Err(Corrupt::new(WHAT, offset, reason).into());
        }
        Ok(Self { window, section_start: offset, at: offset + 8, end, entries_left: count, checksum })
    }

    /// Entries not read yet.
    pub fn entries_left(&self) -> u32 {
        self.entries_left
    }

    /// The byte of the source at which the next entry starts.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Replaces `entry` by the next one; false when there is none left and the checksum is right.
    pub fn next(&mut self, entry: &mut PostingsOffset) -> Result<bool, Error> {
        if self.entries_left == 0 {
            self.finish()?;
            return Ok(false);
        }
        let len = decode_at(&mut self.window, self.at, self.end, entry)?;
        self.checksum = section::checksum_append(self.checksum, self.window.bytes(self.at, len)?);
        self.at += len as u64;
        self.entries_left -= 1;
        Ok(true)
    }

    /// Takes what lies behind the last entry into the checksum and compares it.
    fn finish(&mut self) -> Result<(), Error> {
        if self.section_start == 0 {
            return Ok(());
        }
        while self.at < self.end {
            let rest = self.window.up_to(self.at, ENTRY_GUESS_LEN, self.end)?;
            self.checksum = section::checksum_append(self.checksum, rest);
            self.at += rest.len() as u64;
        }
        let stored = Cursor::new(WHAT, self.window.bytes(self.end, 4)?, self.end).u32_be()?;
        Ok(section::compare(WHAT, self.section_start, self.checksum, stored)?)
    }
}

/// Replaces `entry` by the one at byte `at` of a table that ends at `end`; returns its length.
fn decode_at<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    at: u64,
    end: u64,
    entry: &mut PostingsOffset,
) -> Result<usize, Error> {
    let mut wanted = ENTRY_GUESS_LEN;
    loop {
        let bytes = window.up_to(at, wanted, end)?;
        match decode(bytes, at, entry) {
            Ok(len) => return Ok(len),
            Err(_) if bytes.len() == wanted => wanted = wanted.saturating_mul(4),
            Err(corrupt) => return Err(corrupt.into()),
        }
    }
}

/// Appends the entry of the list of `name` and `value`, whose section starts at byte `offset`.
pub(super) fn encode_entry((name, value): (&str, &str), offset: u64, out: &mut Vec<u8>) {
    out.push(2);
    for text in [name, value] {
        varint::encode_u64(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    }
    varint::encode_u64(offset, out);
}

fn decode(bytes: &[u8], at: u64, entry: &mut PostingsOffset) -> Result<usize, Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes, at);
    let keys = cursor.uvarint()?;
    if keys != 2 {
        return Err(Corrupt::new(WHAT, at, format!("an entry has {keys} keys instead of name and value")));
    }
    let (name, value) = (cursor.string()?, cursor.string()?);
    entry.offset = cursor.uvarint()?;
    name.clone_into(&mut entry.name);
    value.clone_into(&mut entry.value);
    Ok(bytes.len() - cursor.remaining())
}

/// What is kept of the table in memory to find entries of it: 8 bytes for every 32 values of a name, and about 40
/// and its text for each name. Of version 1, whose entries are in any order, all of them.
#[derive(Clone, Debug)]
pub struct OffsetTable {
    /// Byte after the last entry.
    end: u64,
    /// Byte of the index file before which all lists end.
    lists_end: u64,
    names: Vec<Name>,
    entries: Entries,
}

#[derive(Clone, Debug)]
enum Entries {
    /// Byte of every [`STRIDE`]th entry of each name, of its first in any case.
    Sampled(Vec<u64>),
    /// All entries, ascending: value and range.
    Full(Vec<(String, PostingsRange)>),
}

#[derive(Clone, Debug)]
struct Name {
    name: String,
    /// Place in `entries` of its first.
    first: usize,
    values: u32,
}

impl OffsetTable {
    /// Reads and checks the table whose section starts at byte `offset` of `source`; postings lists
    /// end before byte `lists_end` of the index file.
    pub fn read<S: Source + ?Sized>(source: &S, offset: u64, lists_end: u64, version: Version) -> Result<Self, Error> {
        let scan = OffsetTableScan::new(source, offset)?;
        match version {
            Version::V1 => Self::read_full(scan, lists_end),
            Version::V2 => Self::read_sampled(scan, lists_end),
        }
    }

    fn read_sampled<S: Source + ?Sized>(mut scan: OffsetTableScan<'_, S>, lists_end: u64) -> Result<Self, Error> {
        let (mut names, mut samples) = (Vec::<Name>::new(), Vec::new());
        let (mut entry, mut before) = (PostingsOffset::default(), PostingsOffset::default());
        loop {
            let at = scan.offset();
            if !scan.next(&mut entry)? {
                break;
            }
            if !names.is_empty() && (&entry.name, &entry.value) <= (&before.name, &before.value) {
                let reason =
                    format!("{}={:?} does not come after {}={:?}", entry.name, entry.value, before.name, before.value);
                return Err(Corrupt::new(WHAT, at, reason).into());
            }
            match names.last_mut().filter(|last| last.name == entry.name) {
                Some(last) => {
                    if last.values.is_multiple_of(STRIDE) {
                        samples.push(at);
                    }
                    last.values += 1;
                }
                None => {
                    names.push(Name { name: entry.name.clone(), first: samples.len(), values: 1 });
                    samples.push(at);
                }
            }
            std::mem::swap(&mut entry, &mut before);
        }
        samples.shrink_to_fit();
        Ok(Self { end: scan.end, lists_end, names, entries: Entries::Sampled(samples) })
    }

    fn read_full<S: Source + ?Sized>(mut scan: OffsetTableScan<'_, S>, lists_end: u64) -> Result<Self, Error> {
        let mut all = Vec::new();
        let mut entry = PostingsOffset::default();
        while scan.next(&mut entry)? {
            all.push(std::mem::take(&mut entry));
        }
        let mut starts: Vec<u64> = all.iter().map(|entry| entry.offset).collect();
        starts.sort_unstable();
        all.sort_unstable_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        let (mut names, mut entries) = (Vec::<Name>::new(), Vec::new());
        for PostingsOffset { name, value, offset } in all {
            match names.last_mut().filter(|last| last.name == name) {
                Some(last) => last.values += 1,
                None => names.push(Name { name, first: entries.len(), values: 1 }),
            }
            let next = starts.partition_point(|start| *start <= offset);
            let end = starts.get(next).copied().unwrap_or(lists_end);
            entries.push((value, PostingsRange { start: offset, end }));
        }
        Ok(Self { end: scan.end, lists_end, names, entries: Entries::Full(entries) })
    }

    /// Label names, ascending, without the empty one.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.name.as_str()).filter(|name| !name.is_empty())
    }

    /// How many values the label called `name` has.
    pub fn value_count(&self, name: &str) -> u32 {
        self.name(name).map_or(0, |name| name.values)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.name.capacity() + size_of::<Name>()).sum();
        let entries = match &self.entries {
            Entries::Sampled(samples) => samples.capacity() * size_of::<u64>(),
            Entries::Full(entries) => {
                entries.iter().map(|(value, _)| value.capacity() + size_of::<(String, PostingsRange)>()).sum()
            }
        };
        names + entries
    }

    /// Calls `visit` with the values of `name`, ascending, from the first that is not less than `from`
    /// on, and where their lists lie, until it returns [`std::ops::ControlFlow::Break`].
    pub fn visit_values<S: Source + ?Sized>(
        &self,
        source: &S,
        name: &str,
        from: &str,
        mut visit: impl FnMut(&str, PostingsRange) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Error> {
        let Some(found) = self.name(name) else { return Ok(()) };
        match &self.entries {
            Entries::Full(entries) => {
                let of_name = entries.iter().skip(found.first).take(found.values as usize);
                for (value, range) in of_name.filter(|(value, _)| value.as_str() >= from) {
                    if visit(value, *range).is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Entries::Sampled(samples) => self.visit_sampled(source, found, (samples, from), &mut visit),
        }
    }

    /// Where the postings list of `name` and `value` lies; `None` when no series has that label.
    pub fn find<S: Source + ?Sized>(
        &self,
        source: &S,
        name: &str,
        value: &str,
    ) -> Result<Option<PostingsRange>, Error> {
        let mut found = None;
        self.visit_values(source, name, value, |at, range| {
            found = (at == value).then_some(range);
            std::ops::ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let at = self.names.binary_search_by(|known| known.name.as_str().cmp(name)).ok()?;
        self.names.get(at)
    }

    fn visit_sampled<S: Source + ?Sized>(
        &self,
        source: &S,
        name: &Name,
        (samples, from): (&[u64], &str),
        visit: &mut dyn FnMut(&str, PostingsRange) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut window = Window::new(source, WHAT);
        let (mut entry, mut next) = (PostingsOffset::default(), PostingsOffset::default());
        let sample_count = name.values.div_ceil(STRIDE) as usize;
        let (mut low, mut high) = (name.first, name.first + sample_count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            decode_at(&mut window, samples[middle], self.end, &mut entry)?;
            if entry.value.as_str() <= from { low = middle } else { high = middle }
        }
        let values_left = name.values - (low - name.first) as u32 * STRIDE;
        let mut at = samples[low];
        at += decode_at(&mut window, at, self.end, &mut entry)? as u64;
        for _ in 0..values_left {
            let more = at < self.end;
            if more {
                at += decode_at(&mut window, at, self.end, &mut next)? as u64;
            }
            let end = if more { next.offset } else { self.lists_end };
            let range = PostingsRange { start: entry.offset, end: end.max(entry.offset) };
            if entry.value.as_str() >= from && visit(&entry.value, range).is_break() {
                break;
            }
            std::mem::swap(&mut entry, &mut next);
        }
        Ok(())
    }
}
