//! The table of contents: the last 52 bytes of an index file.
//!
//! ```text
//! ┌──────────────────────────────┐
//! │ symbols <8b>                 │  0
//! │ series <8b>                  │  8
//! │ label indices <8b>           │ 16
//! │ label offset table <8b>      │ 24
//! │ postings <8b>                │ 32
//! │ postings offset table <8b>   │ 40
//! │ crc32c of the above <4b>     │ 48
//! └──────────────────────────────┘
//! ```
//!
//! Each is the byte of the file at which the part starts; 0 where there is no such part.

use crate::codec::{Corrupt, Cursor, section};

/// Bytes of the table of contents, its checksum among them.
pub const TOC_LEN: usize = 6 * 8 + 4;

const WHAT: &str = "table of contents";

/// Bytes of the file at which its parts start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Toc {
    /// The symbol table.
    pub symbols: u64,
    /// The first series entry.
    pub series: u64,
    /// The first label index; of files without any, where the series end.
    pub label_indices: u64,
    /// The label offset table; of files without one, the postings offset table.
    pub label_offset_table: u64,
    /// The first postings list, before padding.
    pub postings: u64,
    /// The postings offset table.
    pub postings_offset_table: u64,
}

impl Toc {
    /// The table in `bytes`, the last [`TOC_LEN`] of a file, which start at byte `offset` of it.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(WHAT, bytes, offset);
        let toc = Self {
            symbols: cursor.u64_be()?,
            series: cursor.u64_be()?,
            label_indices: cursor.u64_be()?,
            label_offset_table: cursor.u64_be()?,
            postings: cursor.u64_be()?,
            postings_offset_table: cursor.u64_be()?,
        };
        let stored = cursor.u32_be()?;
        let content = Cursor::new(WHAT, bytes, offset).bytes(TOC_LEN - 4)?;
        section::check(WHAT, offset, content, stored)?;
        Ok(toc)
    }

    /// Appends the table and its checksum.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for part in [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_offset_table,
            self.postings,
            self.postings_offset_table,
        ] {
            out.extend_from_slice(&part.to_be_bytes());
        }
        let stored = section::checksum(&out[start..]);
        out.extend_from_slice(&stored.to_be_bytes());
    }

    /// The byte at which the series end: where the next part of a file of `file_len` bytes starts.
    pub fn series_end(&self, file_len: u64) -> u64 {
        let parts = [self.label_indices, self.postings, self.label_offset_table, self.postings_offset_table];
        parts.into_iter().filter(|part| *part >= self.series).min().unwrap_or(file_len).min(file_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_and_a_changed_one_is_refused() {
        let toc = Toc {
            symbols: 5,
            series: 6,
            label_indices: 7,
            label_offset_table: 8,
            postings: 9,
            postings_offset_table: 10,
        };
        let mut bytes = Vec::new();
        toc.encode(&mut bytes);
        assert_eq!(bytes.len(), TOC_LEN);
        assert_eq!(Toc::decode(&bytes, 0).unwrap(), toc);
        bytes[7] = 4;
        assert!(Toc::decode(&bytes, 0).unwrap_err().reason.contains("checksum"));
        assert!(Toc::decode(&bytes[..51], 0).is_err());
    }
}
