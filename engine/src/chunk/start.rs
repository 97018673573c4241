//! Start timestamps: since when a counter counts, behind each sample of the encodings that have them.
//!
//! ```text
//! header u8    bit 7: the first sample has one │ bits 0 to 6: the first later sample that has one, 0 for none
//!
//! sample 0     its timestamp less the start, varint
//! sample n     the timestamp before less the start, int
//! after n      difference to the field before, int
//! ```
//! `int` is that of `chunk::native::varbit`. Samples in between start when the one before them does.

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};

use super::native::varbit::{put_int, read_int};

const FIRST_KNOWN: u8 = 0x80;
/// The last sample that the header can name.
const CHANGES_AT_MAX: usize = 0x7f;

/// Reads start timestamps sample by sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartReader {
    first_known: bool,
    changes_at: usize,
    start: i64,
    difference: i64,
}

impl StartReader {
    /// A reader for a chunk whose header says `header`.
    pub fn new(header: u8) -> Self {
        Self {
            first_known: header & FIRST_KNOWN != 0,
            changes_at: usize::from(header & !FIRST_KNOWN),
            start: 0,
            difference: 0,
        }
    }

    /// The start timestamp of sample `at`, in Unix milliseconds, 0 when it is not known; `time` is
    /// the sample's timestamp and `before` that of the sample before.
    pub fn read(&mut self, reader: &mut BitReader<'_>, at: usize, times: (i64, i64)) -> Result<i64, Corrupt> {
        let (before, time) = times;
        if at == 0 {
            if self.first_known {
                self.start = time.wrapping_sub(reader.varint()?);
            }
        } else if self.changes_at > 0 && at >= self.changes_at {
            let field = read_int(reader);
            self.difference = if at == self.changes_at { field } else { self.difference.wrapping_add(field) };
            self.start = before.wrapping_sub(self.difference);
        }
        Ok(self.start)
    }
}

/// Writes start timestamps sample by sample, and then the header that belongs to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartWriter {
    header: u8,
    start: i64,
    difference: i64,
}

impl StartWriter {
    /// Appends the start timestamp of sample number `at`, as [`StartReader::read`] gives it.
    pub fn put(&mut self, writer: &mut BitWriter<'_>, at: usize, times: (i64, i64), start: i64) {
        let (before, time) = times;
        if at == 0 {
            if start != 0 {
                writer.put_varint(time.wrapping_sub(start));
                self.header = FIRST_KNOWN;
            }
        } else if self.header & !FIRST_KNOWN > 0 {
            let difference = before.wrapping_sub(start);
            put_int(difference.wrapping_sub(self.difference), writer);
            self.difference = difference;
        } else if start != self.start || at == CHANGES_AT_MAX {
            self.difference = before.wrapping_sub(start);
            put_int(self.difference, writer);
            self.header |= at as u8;
        }
        self.start = start;
    }

    /// The header, once all are written.
    pub fn header(self) -> u8 {
        self.header
    }
}
