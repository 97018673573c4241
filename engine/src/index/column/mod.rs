//! The column index: a block's index turned into columns, made to be scanned.
//!
//! It is built once from the TSDB's index file, kept beside it, and built anew when it is damaged.
//! Series are numbered 0..n in label order; postings, value ids and chunk metas are columns over
//! these numbers. [`layout`] draws the file; each kind of section is drawn where it is encoded:
//!
//! | section | drawn in |
//! | --- | --- |
//! | dictionary of a label's values | [`dictionary`] |
//! | filter over a label's values | [`filter`] |
//! | postings | [`crate::postings::packed`], with their counts and places in [`build`] |
//! | value ids | [`frames`] |
//! | chunk starts, times, places, lengths | [`chunks`], each a column of [`frames`] |
//!
//! ```text
//! labels: number <uvarint>, then for each, ascending by name:
//!         name (length <uvarint>, bytes)  values <uvarint>
//!         first frame in which a series has it <uvarint>  frames <uvarint>
//!         then the number of the label with the least name by which a series goes on where the
//!         one before it ends, plus 1 <uvarint>; 0 where none does
//! ```

mod answers;
/// Building one from a TSDB index.
pub mod build;
/// Chunk metas as columns.
pub mod chunks;
/// A label's values.
pub mod dictionary;
/// A filter over a label's values.
pub mod filter;
/// Columns of integers in frames.
pub mod frames;
/// Labels of series.
pub mod gather;
/// Sections and their checksums.
pub mod layout;
/// An opened file.
pub mod reader;

pub use build::{Built, build, build_in_memory};
pub use reader::{Check, Reader};

#[cfg(test)]
mod tests;
