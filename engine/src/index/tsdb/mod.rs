//! The TSDB's index file, versions 1 and 2.
//!
//! ```text
//! ┌──────────────────────┬────────────┐
//! │ magic baaad700 <4b>  │ version <1>│
//! ├──────────────────────┴────────────┤
//! │ symbols            section        │  count <4b>, then len <uvarint> and bytes, ascending
//! │ series             entries        │  see `series`
//! │ label indices      sections       │  of old writers; nothing reads them
//! │ postings           sections       │  count <4b>, then refs <4b each>, ascending
//! │ label offset table section        │  of old writers; nothing reads it
//! │ postings offset table section     │  see `offsets`
//! │ toc                <52b>          │  see `toc`
//! └───────────────────────────────────┘
//! ```
//!
//! A section is a length, content and CRC-32C ([`crate::codec::section`]). Between the parts there
//! may be zero bytes. The versions differ in what refers to what:
//!
//! | | a symbol is referred to by | a series by |
//! | --- | --- | --- |
//! | 1 | its byte in the file | its byte in the file |
//! | 2 | its place in the table | its byte in the file divided by 16, to which series are aligned |
//!
//! Readers here give symbols as places in the table ([`SymbolRef`]) for both versions, and series as
//! the file refers to them ([`crate::model::SeriesRef`]).

/// Postings lists in the making.
mod lists;
/// The postings offset table: from label name and value to the postings list.
pub mod offsets;
/// One postings list.
pub mod postings;
/// An opened index.
pub mod reader;
/// The symbol table where it lies.
pub mod sampled;
/// Series entries, and all of them in order.
pub mod series;
/// Where the bytes of an index come from: memory, or a file read piece by piece.
pub mod source;
/// Bytes that wait, in memory or in a file.
mod spool;
/// The symbol table.
pub mod symbols;
/// The table of contents.
pub mod toc;
/// Writing an index.
pub mod writer;

pub use lists::{POSTINGS_BYTES, Spill};
pub use offsets::{OffsetTable, OffsetTableScan, PostingsOffset};
pub use reader::Reader;
pub use sampled::SampledSymbols;
pub use series::{Series, SeriesScan};
pub use source::{FileSource, Source};
pub use symbols::{References, SymbolRef, Symbols};
pub use toc::Toc;
pub use writer::{IndexWritten, Writer};

#[cfg(test)]
mod tests;

/// The first four bytes of an index file.
pub const MAGIC: u32 = 0xbaaa_d700;

/// Bytes before the first section: magic and version.
pub const HEADER_LEN: usize = 5;

/// In version 2 series start at multiples of this many bytes.
pub const SERIES_ALIGN: u64 = 16;

/// Which of the two layouts a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Symbols and series are referred to by byte.
    V1,
    /// Symbols are referred to by place, series by byte divided by 16.
    V2,
}

impl Version {
    /// The version's number in the file.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Bytes of the file for one step of a series reference.
    pub fn series_unit(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => SERIES_ALIGN,
        }
    }
}
