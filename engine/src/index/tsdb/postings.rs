//! One postings list: the references of the series that have a label.
//!
//! ```text
//! section content: count <4b be>, then count times: series ref <4b be>, ascending
//! ```

use crate::codec::{Corrupt, Cursor, section};

/// The part's name in errors.
pub(super) const WHAT: &str = "postings list";

/// Appends the references of the list whose section is at the start of `bytes`, which start at byte
/// `offset` of the index file.
pub fn decode_section(bytes: &[u8], offset: u64, refs: &mut Vec<u32>) -> Result<(), Corrupt> {
    decode(section::decode(WHAT, bytes, offset)?, offset + 4, refs)
}

/// Appends the references in `content`, a section's content that starts at byte `offset`.
pub fn decode(content: &[u8], offset: u64, refs: &mut Vec<u32>) -> Result<(), Corrupt> {
    let mut cursor = Cursor::new(WHAT, content, offset);
    let count = cursor.u32_be()? as usize;
    let bytes = cursor.bytes(cursor.remaining())?;
    if bytes.len() as u64 != count as u64 * 4 {
        return Err(Corrupt::new(WHAT, offset, format!("{count} references announced in {} bytes", bytes.len())));
    }
    let start = refs.len();
    refs.extend(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)));
    let appended = &refs[start..];
    if let Some(at) = appended.windows(2).position(|pair| pair[0] >= pair[1]) {
        let reason = format!("reference {} is followed by {}", appended[at], appended[at + 1]);
        return Err(Corrupt::new(WHAT, offset + 4 + 4 * at as u64, reason));
    }
    Ok(())
}

/// Appends the content of the list of `refs`, which ascend.
pub fn encode(refs: &[u32], out: &mut Vec<u8>) {
    out.reserve(4 + 4 * refs.len());
    out.extend_from_slice(&(refs.len() as u32).to_be_bytes());
    for series_ref in refs {
        out.extend_from_slice(&series_ref.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back() {
        for refs in [&[][..], &[7], &[0, 1, u32::MAX]] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            encode(refs, &mut bytes);
            decode(&bytes, 0, &mut back).unwrap();
            assert_eq!(back, refs);
        }
    }

    #[test]
    fn a_list_that_does_not_ascend_or_is_cut_is_refused() {
        let mut bytes = Vec::new();
        encode(&[3, 3], &mut bytes);
        assert!(decode(&bytes, 0, &mut Vec::new()).unwrap_err().reason.contains("followed by"));
        assert!(decode(&bytes[..7], 0, &mut Vec::new()).is_err());
        assert!(decode(&[0xff, 0xff, 0xff, 0xff], 0, &mut Vec::new()).is_err());
    }
}
