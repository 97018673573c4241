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
use crate::codec::bits::BitReader;

use super::native::varbit::read_int;

const FIRST_KNOWN: u8 = 0x80;

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
