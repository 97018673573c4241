//! Names and values of labels, each text once: numbered from 0 in the order of their appearance.
//!
//! ```text
//! text   j o b n o d e i n s t a n c e …
//! ends         3       7               15
//! table  open addressing by hash: the symbol's number plus 1, 0 where it is free
//! ```

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of text that symbols may have together, so that 32 bits reach them.
pub(super) const TEXT_BYTES_MAX: usize = u32::MAX as usize - (1 << 20);

/// Interned texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols {
    text: Vec<u8>,
    ends: Vec<u32>,
    table: Vec<u32>,
}

impl Symbols {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether symbols of `bytes` more bytes fit.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.text.len() + bytes <= TEXT_BYTES_MAX
    }

    #[inline]
    pub(super) fn get(&self, symbol: u32) -> &[u8] {
        let start = if symbol == 0 { 0 } else { self.ends[symbol as usize - 1] };
        &self.text[start as usize..self.ends[symbol as usize] as usize]
    }

    pub(super) fn text(&self, symbol: u32) -> &str {
        // What is interned was checked when it was parsed; what was not reads as nothing.
        std::str::from_utf8(self.get(symbol)).unwrap_or("")
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.probe(text).ok()
    }

    pub(super) fn intern(&mut self, text: &[u8]) -> u32 {
        if (self.ends.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        match self.probe(text) {
            Ok(symbol) => symbol,
            Err(slot) => {
                let symbol = self.ends.len() as u32;
                self.text.extend_from_slice(text);
                self.ends.push(self.text.len() as u32);
                self.table[slot] = symbol + 1;
                symbol
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.text.capacity() + (self.ends.capacity() + self.table.capacity()) * size_of::<u32>()
    }

    /// The symbol, or the slot where it belongs.
    fn probe(&self, text: &[u8]) -> Result<u32, usize> {
        let Some(mask) = self.table.len().checked_sub(1) else { return Err(0) };
        let mut slot = xxh3_64(text) as usize & mask;
        loop {
            match self.table[slot] {
                0 => return Err(slot),
                found if self.get(found - 1) == text => return Ok(found - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let len = (self.table.len() * 2).max(64);
        self.table = vec![0; len];
        for symbol in 0..self.ends.len() as u32 {
            let mut slot = xxh3_64(self.get(symbol)) as usize & (len - 1);
            while self.table[slot] != 0 {
                slot = (slot + 1) & (len - 1);
            }
            self.table[slot] = symbol + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_however_often_it_comes() {
        let mut symbols = Symbols::default();
        for round in 0..2 {
            for at in 0..1000u32 {
                assert_eq!(symbols.intern(format!("value-{at}").as_bytes()), at, "{round}");
            }
        }
        assert_eq!((symbols.len(), symbols.text(7)), (1000, "value-7"));
        assert_eq!((symbols.find(b"value-999"), symbols.find(b"value"), symbols.find(b"")), (Some(999), None, None));
        assert_eq!(Symbols::default().find(b"a"), None);
    }
}
