//! The symbol table: every label name and value once, ascending.
//!
//! ```text
//! section content: count <4b be>, then count times: len <uvarint>, text <len b, UTF-8>
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Version;
use super::source::{Source, Window};
use crate::codec::{Corrupt, Cursor, varint};
use crate::model::Error;

/// The part's name in errors.
pub(in crate::index) const WHAT: &str = "symbol table";

/// Bytes of the number of symbols.
const COUNT_LEN: usize = 4;

/// A symbol's place in the table of its index, counted from 0. As symbols ascend, so do their
/// places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SymbolRef(pub u32);

/// All symbols of an index, in one piece of memory.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    /// The symbols one after the other.
    text: String,
    /// Where each symbol ends in `text`.
    ends: Vec<u32>,
    /// Of version 1: the byte of the file at which each symbol's entry starts.
    entry_offsets: Vec<u32>,
}

impl Symbols {
    /// Reads and checks the table that starts at byte `offset` of `source`; out of a file it is in memory once.
    pub fn read<S: Source + ?Sized>(source: &S, offset: u64, version: Version) -> Result<Self, Error> {
        let mut window = Window::new(source, WHAT);
        let content = window.section(offset)?;
        if source.in_memory().is_some() {
            return Ok(Self::decode(content, offset + 4, version)?);
        }
        let len = content.len();
        let mut bytes = window.into_buffer();
        bytes.truncate(4 + len);
        Ok(Self::decode_in_place(bytes, 4, (offset + 4, version))?)
    }

    /// The table in `content`, the content of a section that starts at byte `offset` of its file.
    pub fn decode(content: &[u8], offset: u64, version: Version) -> Result<Self, Corrupt> {
        Self::decode_in_place(content.to_vec(), 0, (offset, version))
    }

    /// The table in `bytes` from `start` on, which is byte `offset` of their file. Its texts are moved to each other
    /// where they are.
    fn decode_in_place(mut bytes: Vec<u8>, start: usize, (offset, version): (u64, Version)) -> Result<Self, Corrupt> {
        let mut entries = Entries::decode(bytes.get(start..).unwrap_or(&[]), offset)?;
        let (mut ends, mut entry_offsets) = (Vec::with_capacity(entries.left), Vec::new());
        let mut end = 0;
        while let Some((entry_offset, symbol)) = entries.next()? {
            end += symbol.len();
            ends.push(end as u32);
            if version == Version::V1 {
                let beyond = |_| Corrupt::new(WHAT, entry_offset, "symbol lies beyond 4 GiB");
                entry_offsets.push(u32::try_from(entry_offset).map_err(beyond)?);
            }
        }
        let (mut from, mut to) = (start + COUNT_LEN, 0);
        for end in &ends {
            from += varint::decode_u64(&bytes[from..]).map_or(0, |(_, len)| len);
            let len = *end as usize - to;
            bytes.copy_within(from..from + len, to);
            (from, to) = (from + len, to + len);
        }
        bytes.truncate(to);
        if bytes.capacity() > 2 * to {
            bytes.shrink_to_fit();
        }
        let text = String::from_utf8(bytes).map_err(|_| Corrupt::new(WHAT, offset, "symbols are not UTF-8"))?;
        Ok(Self { text, ends, entry_offsets })
    }

    /// The table of `symbols`, which ascend strictly; of at most 4 GiB.
    pub fn from_sorted<T: AsRef<str>>(symbols: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        symbols.into_iter().for_each(|symbol| table.push_sorted(symbol.as_ref()));
        table
    }

    /// The same, in memory that is as large as they are from the start.
    pub fn from_sorted_texts<'t>(symbols: impl ExactSizeIterator<Item = &'t str> + Clone) -> Self {
        let text = String::with_capacity(symbols.clone().map(str::len).sum());
        let mut table = Self { text, ends: Vec::with_capacity(symbols.len()), entry_offsets: Vec::new() };
        symbols.for_each(|symbol| table.push_sorted(symbol));
        table
    }

    fn push_sorted(&mut self, symbol: &str) {
        let last = self.len().checked_sub(1).map(|at| self.get(SymbolRef(at as u32)));
        assert!(last.is_none_or(|last| last < symbol), "symbol {symbol:?} comes after {last:?}");
        self.text.push_str(symbol);
        let end = u32::try_from(self.text.len());
        self.ends.push(end.expect("the symbols of a block have at most 4 GiB"));
    }

    /// One table of all symbols of `tables`, and for each of these tables the places of its symbols in
    /// it. Fails when they have more than 4 GiB together.
    pub fn merge(tables: &[&Self]) -> Result<(Self, Vec<Vec<SymbolRef>>), Error> {
        // Blocks of the same times mostly have the same symbols.
        let largest = tables.iter().map(|table| table.text.len()).max().unwrap_or(0);
        let mut merged = Self { text: String::with_capacity(largest), ..Self::default() };
        let mut places: Vec<Vec<SymbolRef>> = tables.iter().map(|table| Vec::with_capacity(table.len())).collect();
        let next = |table: usize, places: &[Vec<SymbolRef>]| {
            let at = places[table].len();
            (at < tables[table].len()).then(|| Reverse((tables[table].get(SymbolRef(at as u32)), table)))
        };
        let mut heap: BinaryHeap<_> = (0..tables.len()).filter_map(|table| next(table, &places)).collect();
        while let Some(Reverse((symbol, table))) = heap.pop() {
            let last = merged.len().checked_sub(1).map(|at| merged.get(SymbolRef(at as u32)));
            if last != Some(symbol) {
                merged.text.push_str(symbol);
                let end = u32::try_from(merged.text.len());
                merged.ends.push(end.map_err(|_| Error::limit("symbols of a block", "they would exceed 4 GiB"))?);
            }
            places[table].push(SymbolRef(merged.len() as u32 - 1));
            heap.extend(next(table, &places));
        }
        Ok((merged, places))
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The symbol at `place`, which is less than [`Symbols::len`]: series entries give no other.
    pub fn get(&self, place: SymbolRef) -> &str {
        let at = place.0 as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.text[start..self.ends[at] as usize]
    }

    /// The place of `symbol`; `None` when it is not in the table.
    pub fn find(&self, symbol: &str) -> Option<SymbolRef> {
        let (mut low, mut high) = (0, self.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(SymbolRef(middle)).cmp(symbol) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(SymbolRef(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All symbols, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len() as u32).map(|at| self.get(SymbolRef(at)))
    }

    /// Gives the texts away, when only the number of symbols and where they lie count any more; all are empty from then
    /// on.
    pub(super) fn forget_texts(&mut self) {
        self.text = String::new();
        self.ends.fill(0);
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.text.capacity() + (self.ends.capacity() + self.entry_offsets.capacity()) * size_of::<u32>()
    }

    /// What the series entries of an index of `version` that has these symbols can refer to.
    pub(super) fn references(&self, version: Version) -> References<'_> {
        match version {
            Version::V1 => References::Bytes { base: 0, starts: &self.entry_offsets },
            Version::V2 => References::Places(self.ends.len() as u32),
        }
    }
}

/// How series entries refer to the symbols of their index.
#[derive(Clone, Copy, Debug)]
pub enum References<'s> {
    /// Version 1: by the byte of the file at which a symbol's entry starts.
    Bytes {
        /// The byte of the file from which on the others are counted.
        base: u64,
        /// Where the entries start, ascending.
        starts: &'s [u32],
    },
    /// Version 2: by their places, of which there are so many.
    Places(u32),
}

impl References<'_> {
    /// The place of the symbol that a series entry refers to as `stored`.
    pub(super) fn resolve(self, stored: u64) -> Option<SymbolRef> {
        match self {
            Self::Places(count) => (stored < u64::from(count)).then_some(SymbolRef(stored as u32)),
            Self::Bytes { base, starts } => {
                let start = u32::try_from(stored.checked_sub(base)?).ok()?;
                starts.binary_search(&start).ok().map(|at| SymbolRef(at as u32))
            }
        }
    }
}

/// The entries of a table in the order of the file, which is ascending.
pub(super) struct Entries<'c> {
    cursor: Cursor<'c>,
    left: usize,
    last: Option<&'c str>,
}

impl<'c> Entries<'c> {
    /// Those of the table in `content`, the content of a section that starts at byte `offset` of its file.
    pub(super) fn decode(content: &'c [u8], offset: u64) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(WHAT, content, offset);
        let count = cursor.u32_be()? as usize;
        if count > cursor.remaining() {
            return Err(cursor.corrupt(format!("{count} symbols announced, {} bytes left", cursor.remaining())));
        }
        Ok(Self { cursor, left: count, last: None })
    }

    /// Entries not read yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The byte of the file at which the next entry starts, and its symbol; `None` behind the last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, &'c str)>, Corrupt> {
        if self.left == 0 {
            return Ok(None);
        }
        let start = self.cursor.offset();
        let symbol = self.cursor.string()?;
        if self.last.is_some_and(|last| last >= symbol) {
            return Err(self.cursor.corrupt(format!("symbol {symbol:?} does not come after {:?}", self.last)));
        }
        (self.left, self.last) = (self.left - 1, Some(symbol));
        Ok(Some((start, symbol)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tsdb::{FileSource, Reader, Writer};

    fn table(symbols: &[&str]) -> Vec<u8> {
        let mut content = (symbols.len() as u32).to_be_bytes().to_vec();
        for symbol in symbols {
            content.push(symbol.len() as u8);
            content.extend_from_slice(symbol.as_bytes());
        }
        content
    }

    #[test]
    fn symbols_are_found_by_place_and_by_text() {
        let symbols = Symbols::decode(&table(&["", "a", "bb", "ccc"]), 9, Version::V2).unwrap();
        assert_eq!(symbols.iter().collect::<Vec<_>>(), ["", "a", "bb", "ccc"]);
        assert_eq!(symbols.find("bb"), Some(SymbolRef(2)));
        assert_eq!(symbols.find("b"), None);
        assert_eq!(symbols.references(Version::V2).resolve(3), Some(SymbolRef(3)));
        assert_eq!(symbols.references(Version::V2).resolve(4), None);
    }

    #[test]
    fn merged_tables_hold_each_symbol_once_and_say_where_each_went() {
        let [a, b, c] = [&["", "a", "c"][..], &["b", "c", "d"], &[]].map(Symbols::from_sorted);
        let (merged, places) = Symbols::merge(&[&a, &b, &c]).unwrap();
        assert_eq!(merged.iter().collect::<Vec<_>>(), ["", "a", "b", "c", "d"]);
        assert_eq!(places, [[0, 1, 3].map(SymbolRef).to_vec(), [2, 3, 4].map(SymbolRef).to_vec(), vec![]]);
    }

    #[test]
    fn a_table_that_is_read_from_a_file_takes_no_more_memory_than_its_texts() {
        let path = std::env::temp_dir().join(format!("uru-symbols-{}", std::process::id()));
        for (count, len) in [(0, 0), (3, 1), (10, 127), (10, 128), (300, 4000)] {
            let texts: Vec<String> = (0..count).map(|at| format!("{at:03}é{}", "v".repeat(len))).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let symbols = Symbols::from_sorted_texts(texts.iter().copied());
            let writer = Writer::create(Vec::new(), symbols.clone()).unwrap();
            let index = writer.finish().unwrap().1;
            std::fs::write(&path, &index).unwrap();
            let file = FileSource::open(&path).unwrap();
            let (found, same) = (Reader::open(file).unwrap(), Reader::open(index).unwrap());
            assert!(
                found.symbols().iter().eq(texts.iter().copied()) && same.symbols().iter().eq(texts.iter().copied())
            );
            let bytes: usize = texts.iter().map(|text| str::len(text)).sum();
            assert_eq!(symbols.heap_bytes(), bytes + 4 * texts.len());
            assert!(found.symbols().heap_bytes() <= 2 * bytes + 4 * texts.len(), "{}", found.symbols().heap_bytes());
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn version_1_refers_to_symbols_by_their_byte() {
        let symbols = Symbols::decode(&table(&["a", "bb"]), 9, Version::V1).unwrap();
        let references = symbols.references(Version::V1);
        assert_eq!([13, 15, 14].map(|byte| references.resolve(byte)), [Some(SymbolRef(0)), Some(SymbolRef(1)), None]);
    }

    #[test]
    fn a_table_out_of_order_or_with_too_many_symbols_is_refused() {
        let error = Symbols::decode(&table(&["b", "a"]), 0, Version::V2).unwrap_err();
        assert!(error.reason.contains("does not come after"), "{error}");
        assert!(Symbols::decode(&[0xff; 8], 0, Version::V2).is_err());
        assert!(Symbols::decode(&[0, 0, 0, 1, 2, 0xff, 0xfe], 0, Version::V2).is_err());
    }
}
