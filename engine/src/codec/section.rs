//! Sections: a length, so many bytes, and their CRC-32C (Castagnoli), as Prometheus' files hold them.
//!
//! ```text
//! ┌─────────────┬──────────────────┬──────────────────────┐
//! │ len <4b be> │ content <len b>  │ crc32c(content) <4b> │
//! └─────────────┴──────────────────┴──────────────────────┘
//! ```

use super::corrupt::Corrupt;
use super::cursor::Cursor;
use crate::simd::crc32c::{crc32c, crc32c_append};

/// Bytes of a section that are not content: its length and its checksum.
pub const FRAME_LEN: usize = 8;

/// The CRC-32C of `bytes`.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c(bytes)
}

/// The CRC-32C of what has the checksum `before`, followed by `bytes`.
pub fn checksum_append(before: u32, bytes: &[u8]) -> u32 {
    crc32c_append(before, bytes)
}

/// Compares a stored checksum with the one of `content`, a part called `what` whose content starts
/// at byte `offset` of its file.
pub fn check(what: &'static str, offset: u64, content: &[u8], stored: u32) -> Result<(), Corrupt> {
    compare(what, offset, checksum(content), stored)
}

/// Compares a stored checksum with a computed one.
pub fn compare(what: &'static str, offset: u64, computed: u32, stored: u32) -> Result<(), Corrupt> {
    if computed == stored {
        return Ok(());
    }
    Err(Corrupt::new(what, offset, format!("stored checksum {stored:08x}, computed {computed:08x}")))
}

/// The checked content of the section at the start of `bytes`, a part called `what` that starts at
/// byte `offset` of its file.
pub fn decode<'a>(what: &'static str, bytes: &'a [u8], offset: u64) -> Result<&'a [u8], Corrupt> {
    let mut cursor = Cursor::new(what, bytes, offset);
    let len = cursor.u32_be()? as usize;
    let content = cursor.bytes(len)?;
    check(what, offset, content, cursor.u32_be()?)?;
    Ok(content)
}

/// Checks a section of which one piece comes after the other, whatever comes behind it.
#[derive(Debug)]
pub struct Piecewise {
    what: &'static str,
    offset: u64,
    /// Bytes of it that have come.
    taken: u64,
    len: [u8; 4],
    checksum: u32,
    stored: [u8; 4],
}

impl Piecewise {
    /// A section that is a part called `what` and starts at byte `offset` of its file.
    pub fn new(what: &'static str, offset: u64) -> Self {
        Self { what, offset, taken: 0, len: [0; 4], checksum: checksum(&[]), stored: [0; 4] }
    }

    /// Takes the bytes that come next.
    pub fn take(&mut self, bytes: &[u8]) {
        let (own, bytes) = split(bytes, 4u64.saturating_sub(self.taken));
        fill(&mut self.len, self.taken, own);
        self.taken += own.len() as u64;
        // Behind a length that is not whole there are no bytes.
        let content_end = self.content_end();
        let (own, bytes) = split(bytes, content_end.saturating_sub(self.taken));
        self.checksum = checksum_append(self.checksum, own);
        self.taken += own.len() as u64;
        let (own, _) = split(bytes, (content_end + 4).saturating_sub(self.taken));
        fill(&mut self.stored, self.taken.saturating_sub(content_end), own);
        self.taken += own.len() as u64;
    }

    /// Fails when it has not come whole or its checksum is another one than it says.
    pub fn finish(&self) -> Result<(), Corrupt> {
        let content_end = self.content_end();
        if self.taken < content_end + 4 {
            let (len, left) = (content_end - 4, self.taken.saturating_sub(4));
            return Err(Corrupt::new(self.what, self.offset, format!("{len} bytes announced, {left} bytes left")));
        }
        compare(self.what, self.offset, self.checksum, u32::from_be_bytes(self.stored))
    }

    fn content_end(&self) -> u64 {
        4 + u64::from(u32::from_be_bytes(self.len))
    }
}

/// The first `len` of `bytes`, or all of them, and what is behind.
fn split(bytes: &[u8], len: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len()))
}

/// Puts `own`, if there is anything, into `part` from byte `at` on.
fn fill(part: &mut [u8; 4], at: u64, own: &[u8]) {
    for (to, from) in part.iter_mut().skip(at as usize).zip(own) {
        *to = *from;
    }
}

/// Appends `content` as a section.
pub fn encode(content: &[u8], out: &mut Vec<u8>) {
    assert!(content.len() <= u32::MAX as usize, "a section holds at most 4 GiB");
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&checksum(content).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_comes_back_and_a_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode(b"series", &mut bytes);
        assert_eq!(bytes.len(), 6 + FRAME_LEN);
        assert_eq!(decode("part", &bytes, 0).unwrap(), b"series");
        bytes[5] ^= 1;
        let error = decode("part", &bytes, 9).unwrap_err().to_string();
        assert!(error.starts_with("part at byte 9: stored checksum"), "{error}");
        assert!(decode("part", &bytes[..9], 0).is_err());
    }

    #[test]
    fn a_section_that_comes_in_pieces_is_checked_as_a_whole_one() {
        let mut sound = Vec::new();
        encode(b"a table of some bytes", &mut sound);
        let checked = |bytes: &[u8], piece: usize| {
            let mut section = Piecewise::new("part", 9);
            bytes.chunks(piece).for_each(|bytes| section.take(bytes));
            section.finish()
        };
        for piece in 1..=sound.len() + 1 {
            assert_eq!(checked(&[&sound[..], b"and more"].concat(), piece), Ok(()), "{piece}");
            for at in 0..sound.len() {
                assert!(checked(&sound[..at], piece).is_err(), "{at} bytes, {piece} at once");
                let mut damaged = sound.clone();
                damaged[at] ^= 1;
                let corrupt = checked(&damaged, piece).unwrap_err();
                assert_eq!((corrupt.what, corrupt.offset), ("part", 9), "byte {at}, {piece} at once");
            }
        }
    }
}
