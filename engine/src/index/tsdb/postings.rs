//! One postings list: the references of the series that have a label.
//!
//! ```text
//! section content: count <4b be>, then count times: series ref <4b be>, ascending
//! ```

use super::source::{Source, Window};
use crate::codec::{Corrupt, Cursor, section};
use crate::model::Error;

/// The part's name in errors.
pub(super) const WHAT: &str = "postings list";

/// Bytes of a list's content in front of its references.
const COUNT_LEN: usize = 4;

/// Bytes of references that are visited at once.
const VISIT_BYTES: usize = 64 << 10;

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

/// Appends references, as they follow the count.
pub fn encode_refs(refs: &[u32], out: &mut Vec<u8>) {
    out.extend(refs.iter().flat_map(|series_ref| series_ref.to_be_bytes()));
}

/// Appends the references of the list whose section is at byte `offset` of `source`, an index file.
pub(in crate::index) fn read<S: Source + ?Sized>(source: &S, offset: u64, refs: &mut Vec<u32>) -> Result<(), Error> {
    let mut window = Window::new(source, WHAT);
    Ok(decode(window.section(offset)?, offset + 4, refs)?)
}

/// Number of references of a list whose section takes `section_len` bytes; at most that many where some of these are
/// padding.
pub(in crate::index) fn count_max(section_len: u64) -> u64 {
    section_len.saturating_sub((section::FRAME_LEN + COUNT_LEN) as u64) / size_of::<u32>() as u64
}

/// Number of references that the list whose section is at byte `offset` of `source`, an index file, announces.
pub(in crate::index) fn read_count<S: Source + ?Sized>(source: &S, offset: u64) -> Result<u32, Error> {
    announced(&mut Window::glance(source, WHAT), offset)
}

/// Number of references of the list whose section is at byte `offset`, as far as its length agrees.
fn announced<S: Source + ?Sized>(window: &mut Window<'_, S>, offset: u64) -> Result<u32, Error> {
    let mut cursor = Cursor::new(WHAT, window.bytes(offset, 4 + COUNT_LEN)?, offset);
    let (len, count) = (u64::from(cursor.u32_be()?), cursor.u32_be()?);
    if len != list_len(count) {
        let reason = format!("{count} references announced in {} bytes", len.saturating_sub(4));
        return Err(Corrupt::new(WHAT, offset + 4, reason).into());
    }
    Ok(count)
}

/// Bytes of the content of a section of `count` references.
fn list_len(count: u32) -> u64 {
    COUNT_LEN as u64 + 4 * u64::from(count)
}

/// Calls `visit` with the references of the list whose section is at byte `offset` of `source`, an index
/// file, piece by piece. That they are sound is known in the end: an error says that they are not.
pub(super) fn visit<S: Source + ?Sized>(source: &S, offset: u64, mut visit: impl FnMut(&[u32])) -> Result<(), Error> {
    let mut window = Window::sized(source, WHAT, VISIT_BYTES);
    let count = announced(&mut window, offset)?;
    let (start, end) = (offset.saturating_add(8), offset.saturating_add(4).saturating_add(list_len(count)));
    let mut checksum = section::checksum(&count.to_be_bytes());
    let (mut at, mut refs, mut last, mut disorder) = (start, Vec::new(), None, None);
    while at < end {
        let piece = window.bytes(at, (end - at).min(VISIT_BYTES as u64) as usize)?;
        checksum = section::checksum_append(checksum, piece);
        refs.clear();
        refs.extend(piece.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)));
        for (place, series_ref) in refs.iter().enumerate() {
            if last.is_some_and(|last| last >= *series_ref) {
                disorder.get_or_insert((at + 4 * place as u64, last, *series_ref));
            }
            last = Some(*series_ref);
        }
        visit(&refs);
        at += piece.len() as u64;
    }
    section::compare(WHAT, offset, checksum, Cursor::new(WHAT, window.bytes(end, 4)?, end).u32_be()?)?;
    match disorder {
        None => Ok(()),
        Some((at, last, next)) => {
            let reason = format!("reference {} is followed by {next}", last.unwrap_or_default());
            Err(Corrupt::new(WHAT, at, reason).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of the section of a list.
    fn encode(refs: &[u32], out: &mut Vec<u8>) {
        out.extend_from_slice(&(refs.len() as u32).to_be_bytes());
        encode_refs(refs, out);
    }

    #[test]
    fn a_list_comes_back() {
        let many: Vec<u32> = (0..70_000).map(|at| at * 5).collect();
        for refs in [&[][..], &[7], &[0, 1, u32::MAX], &many] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            encode(refs, &mut bytes);
            decode(&bytes, 0, &mut back).unwrap();
            assert_eq!(back, refs);
            let mut file = vec![0; 7];
            section::encode(&bytes, &mut file);
            back.clear();
            visit(&file, 7, |piece| back.extend_from_slice(piece)).unwrap();
            assert_eq!(back, refs);
            assert_eq!(read_count(&file, 7).unwrap() as usize, refs.len());
            assert_eq!(count_max(file.len() as u64 - 7), refs.len() as u64);
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

    #[test]
    fn what_is_wrong_with_a_list_is_told_when_all_of_it_was_visited() {
        let list = |refs: &[u32]| {
            let (mut content, mut file) = (Vec::new(), Vec::new());
            encode(refs, &mut content);
            section::encode(&content, &mut file);
            file
        };
        let told = |file: &[u8]| visit(file, 0, |_| {}).unwrap_err().message().to_owned();
        assert_eq!(told(&list(&[1, 7, 7])), "postings list at byte 16: reference 7 is followed by 7");
        let sound = list(&[1, 7, 9]);
        assert!(told(&sound[..sound.len() - 1]).contains("the file ends"));
        for at in 0..sound.len() {
            let mut file = sound.clone();
            file[at] ^= 1;
            assert!(visit(&file, 0, |_| {}).is_err(), "byte {at}");
        }
    }
}
