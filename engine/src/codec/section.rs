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
}
