//! A symbol table that stays in its file: in memory is where every 32nd symbol lies, as in Prometheus and
//! Thanos.

use std::cmp::Ordering;

use super::Version;
use super::symbols::{Entries, References, SymbolRef, WHAT};
use crate::codec::{Corrupt, Cursor};

/// Of so many symbols the position of one is kept.
const STRIDE: u32 = 32;

/// What is kept in memory of a symbol table to read symbols of it: 4 bytes for every 32 symbols. Of version 1,
/// whose series refer to symbols by where they lie, 4 bytes for each.
///
/// A symbol is read behind the lengths of 31 others at most; one is found by a binary search in what is kept,
/// and by a look at 32 at most. Both are checked, as the file may have changed since.
#[derive(Clone, Debug)]
pub struct SampledSymbols {
    /// Byte of the file at which the table's content starts.
    offset: u64,
    count: u32,
    /// Of so many symbols `starts` has one.
    stride: u32,
    /// Bytes from the start of the content to symbols' entries.
    starts: Vec<u32>,
}

impl SampledSymbols {
    /// Reads and checks the table in `content`, the content of a section that starts at byte `offset` of its file.
    pub fn decode(content: &[u8], offset: u64, version: Version) -> Result<Self, Corrupt> {
        let stride = match version {
            Version::V1 => 1,
            Version::V2 => STRIDE,
        };
        let mut entries = Entries::decode(content, offset)?;
        let mut symbols = Self { offset, count: entries.left() as u32, stride, starts: Vec::new() };
        symbols.starts.reserve_exact(symbols.count.div_ceil(stride) as usize);
        let mut place = 0u32;
        while let Some((start, _)) = entries.next()? {
            if place.is_multiple_of(stride) {
                symbols.starts.push((start - offset) as u32);
            }
            place += 1;
        }
        Ok(symbols)
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The symbol at `place` of the table in `content`.
    pub fn get<'c>(&self, content: &'c [u8], place: SymbolRef) -> Result<&'c str, Corrupt> {
        if place.0 >= self.count {
            return Err(Corrupt::new(WHAT, self.offset, format!("there is no symbol {}", place.0)));
        }
        let mut cursor = self.cursor(content, place.0 / self.stride);
        for _ in 0..place.0 % self.stride {
            text(&mut cursor)?;
        }
        cursor.string()
    }

    /// The place of `symbol`; `None` when it is not in the table in `content`.
    pub fn find(&self, content: &[u8], symbol: &str) -> Result<Option<SymbolRef>, Corrupt> {
        let (mut low, mut high) = (0, self.starts.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            let sample = text(&mut self.cursor(content, middle))?;
            if sample <= symbol.as_bytes() { low = middle + 1 } else { high = middle }
        }
        let Some(sample) = low.checked_sub(1) else { return Ok(None) };
        let (mut cursor, first) = (self.cursor(content, sample), sample * self.stride);
        for place in first..self.count.min(first.saturating_add(self.stride)) {
            match text(&mut cursor)?.cmp(symbol.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(SymbolRef(place))),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// What the series entries of an index of `version` that has these symbols can refer to; in the index the
    /// table's content starts at byte `base`.
    pub fn references(&self, base: u64, version: Version) -> References<'_> {
        match version {
            Version::V1 => References::Bytes { base, starts: &self.starts },
            Version::V2 => References::Places(self.count),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u32>()
    }

    /// What reads on from the position number `sample` of those that are kept.
    fn cursor<'c>(&self, content: &'c [u8], sample: u32) -> Cursor<'c> {
        let start = self.starts.get(sample as usize).copied().unwrap_or(u32::MAX);
        let rest = content.get(start as usize..).unwrap_or_default();
        Cursor::new(WHAT, rest, self.offset.saturating_add(u64::from(start)))
    }
}

/// The bytes of the next symbol.
fn text<'c>(cursor: &mut Cursor<'c>) -> Result<&'c [u8], Corrupt> {
    let len = cursor.count()?;
    cursor.bytes(len)
}

#[cfg(test)]
mod tests {
    use super::super::Symbols;
    use super::*;
    use crate::codec::varint;

    /// The content of a table of so many symbols, some of them long, with bytes behind it.
    fn table(count: usize) -> (Vec<String>, Vec<u8>) {
        let symbol = |at: usize| if at == 0 { String::new() } else { format!("{at:05}{}", "é".repeat(at * 7 % 90)) };
        let symbols: Vec<String> = (0..count).map(symbol).collect();
        let mut content = (count as u32).to_be_bytes().to_vec();
        for symbol in &symbols {
            varint::encode_u64(symbol.len() as u64, &mut content);
            content.extend_from_slice(symbol.as_bytes());
        }
        content.extend_from_slice(b"\x01z");
        (symbols, content)
    }

    #[test]
    fn symbols_are_read_and_found_where_they_lie() {
        for (version, count) in [(Version::V1, 200), (Version::V2, 200), (Version::V2, 64), (Version::V2, 1)] {
            let (symbols, content) = table(count);
            let sampled = SampledSymbols::decode(&content, 9, version).unwrap();
            assert_eq!(sampled.len(), count);
            let (whole, references) = (Symbols::decode(&content, 9, version).unwrap(), sampled.references(9, version));
            for (at, symbol) in symbols.iter().enumerate() {
                let place = SymbolRef(at as u32);
                assert_eq!(sampled.get(&content, place).unwrap(), symbol);
                assert_eq!(sampled.find(&content, symbol).unwrap(), Some(place));
                assert_eq!(sampled.find(&content, &format!("{symbol}\0")).unwrap(), None);
            }
            assert!(sampled.get(&content, SymbolRef(count as u32)).is_err());
            for stored in 0..content.len() as u64 + 20 {
                assert_eq!(references.resolve(stored), whole.references(version).resolve(stored), "{stored}");
            }
        }
        let (_, none) = table(0);
        assert_eq!(SampledSymbols::decode(&none, 0, Version::V2).unwrap().find(&none, "a").unwrap(), None);
    }

    #[test]
    fn few_bytes_stay_in_memory_for_many_symbols() {
        let (_, content) = table(10_000);
        let sampled = SampledSymbols::decode(&content, 0, Version::V2).unwrap();
        assert_eq!(sampled.heap_bytes(), 10_000usize.div_ceil(32) * 4);
    }

    #[test]
    fn a_table_that_is_another_by_now_never_panics() {
        let (symbols, content) = table(200);
        let sampled = SampledSymbols::decode(&content, 0, Version::V2).unwrap();
        let mut others = vec![Vec::new(), content[..content.len() / 2].to_vec(), vec![0xff; content.len()]];
        others.push(content.iter().map(|byte| byte ^ 0x81).collect());
        for other in others {
            for (at, symbol) in symbols.iter().enumerate() {
                let _ = sampled.get(&other, SymbolRef(at as u32));
                let _ = sampled.find(&other, symbol);
            }
        }
        assert!(sampled.get(&[], SymbolRef(0)).is_err() && sampled.find(&[], "a").is_err());
    }

    #[test]
    fn a_table_out_of_order_or_with_too_many_symbols_is_refused() {
        for content in [&b"\0\0\0\x02\x01b\x01a"[..], &[0xff; 8], &[0, 0, 0, 1, 2, 0xff, 0xfe], &[0, 0]] {
            assert!(SampledSymbols::decode(content, 0, Version::V2).is_err(), "{content:?}");
        }
    }
}
