//! Frames: what was written with one write and made durable with one sync; and the files of them.
//!
//! ```text
//! file    magic 75 72 75 77 │ version u8 │ three zeros │ frame │ frame │ … │ zeros while it is written
//! frame   stored u32 LE │ raw u32 LE │ CRC-32C of the eight bytes before and what is stored, u32 LE │ stored
//! ```
//! What is stored is `raw` bytes of records in `stored` bytes of snappy's block format.

use std::path::Path;

use crate::codec::{Corrupt, Cursor, varint};
use crate::model::{Error, ErrorKind};
use crate::simd::crc32c::{crc32c, crc32c_append};

/// The first bytes of a file.
pub const HEADER: [u8; 8] = [0x75, 0x72, 0x75, 0x77, 1, 0, 0, 0];
/// Bytes of a frame before what is stored.
pub const FRAME_HEADER_LEN: usize = 12;
/// Most bytes of records in a frame.
pub const RAW_BYTES_MAX: usize = 256 << 20;

const WHAT: &str = "WAL frame";

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a whole frame.
    Whole,
    /// With something else that starts here: zeros, which are room for more, or a part of a frame or of the
    /// header.
    Open {
        /// Where it starts, a byte of the file.
        at: u64,
        /// Bytes of a write that was cut off, up to the last one that is not zero.
        torn: u64,
    },
    /// With damage that starts here, which no cut-off write explains.
    Damaged {
        /// Where it starts, a byte of the file.
        at: u64,
        /// What is wrong there.
        why: String,
    },
}

/// Whether a file may end in the middle of a frame, or may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// It is the last of its log, so that a write into it may have been cut off.
    MayBeTorn,
    /// It was finished.
    MustBeWhole,
    /// It was not made durable write by write: after the machine has failed any part of it may be missing.
    MayBeDamaged,
}

/// Bytes of room for frames that are kept when the next one needs far fewer.
const ROOM_KEPT: usize = 1 << 18;

/// Bytes that a disk writes at once or not at all, at least.
const SECTOR_BYTES: usize = 512;

/// Most bytes of a snappy block before its elements: the length of what it holds.
const LEAD_MAX: usize = 5;

/// Makes frames one after the other, in the same memory.
pub struct Encoder {
    room: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { room: Vec::new(), snappy: snap::raw::Encoder::new() }
    }
}

impl Encoder {
    /// A frame of all `parts`, each of which is whole records.
    ///
    /// A snappy block is its length and elements that point back within what they make, so that the
    /// elements of the parts one after the other are one block of them together.
    ///
    /// # Panics
    /// When there are more than [`RAW_BYTES_MAX`] bytes of records.
    pub fn frame<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> &[u8] {
        let raw: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        assert!(raw <= RAW_BYTES_MAX, "a frame holds at most {RAW_BYTES_MAX} bytes of records");
        let most: usize = parts.iter().map(|part| snap::raw::max_compress_len(part.as_ref().len())).sum();
        if self.room.len() > ROOM_KEPT.max(8 * most) {
            self.room = Vec::new();
        }
        let room = &mut self.room;
        // Room for what compresses worst is made part by part: for all of them at once it would be ten
        // times what they need, and be touched.
        let make_room = |room: &mut Vec<u8>, len: usize| room.resize(room.len().max(len), 0);
        make_room(room, FRAME_HEADER_LEN + LEAD_MAX);
        let mut lead = Vec::with_capacity(LEAD_MAX);
        varint::encode_u64(raw as u64, &mut lead);
        let mut end = FRAME_HEADER_LEN + lead.len();
        room[FRAME_HEADER_LEN..end].copy_from_slice(&lead);
        for part in parts.iter().map(AsRef::as_ref).filter(|part| !part.is_empty()) {
            // Its own length comes to lie on what is there already, which is put back.
            let at = end - varint::len_u64(part.len() as u64);
            let mut before = [0; LEAD_MAX];
            before[..end - at].copy_from_slice(&room[at..end]);
            make_room(room, end + snap::raw::max_compress_len(part.len()));
            let len = self.snappy.compress(part, &mut room[at..]).expect("there is room for what compresses worst");
            room[at..end].copy_from_slice(&before[..end - at]);
            end = at + len;
        }
        let stored = (end - FRAME_HEADER_LEN) as u32;
        room[..4].copy_from_slice(&stored.to_le_bytes());
        room[4..8].copy_from_slice(&(raw as u32).to_le_bytes());
        let checksum = crc32c_append(crc32c(&room[..8]), &room[FRAME_HEADER_LEN..end]);
        room[8..FRAME_HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
        &room[..end]
    }
}

/// Calls `visit` with the byte at which each frame of the file `bytes` starts and with its records.
/// Damage that no cut-off write explains is an error, unless any damage may be.
pub fn scan(bytes: &[u8], tail: Tail, mut visit: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<End, Error> {
    if tail != Tail::MustBeWhole && is_torn_header(bytes) {
        return Ok(open_end(bytes, 0));
    }
    match check_header(bytes) {
        Err(corrupt) if tail == Tail::MayBeDamaged => return Ok(End::Damaged { at: 0, why: corrupt.to_string() }),
        checked => checked?,
    }
    let mut at = HEADER.len();
    let mut raw = Vec::new();
    while at < bytes.len() {
        let (stored, end) = match checked(bytes, at) {
            Ok(found) => found,
            Err(corrupt) if tail == Tail::MustBeWhole => return Err(corrupt.into()),
            Err(corrupt) => {
                let torn = torn(bytes, at, corrupt);
                let damaged = |error: Error| End::Damaged { at: at as u64, why: error.message().to_owned() };
                return if tail == Tail::MayBeDamaged { Ok(torn.unwrap_or_else(damaged)) } else { torn };
            }
        };
        decompress(stored, at, &mut raw)?;
        visit(at as u64, &raw)?;
        at = end;
    }
    Ok(End::Whole)
}

fn check_header(bytes: &[u8]) -> Result<(), Corrupt> {
    if bytes.len() < HEADER.len() {
        return Err(Corrupt::new("WAL file", 0, format!("{} bytes, too few for a header", bytes.len())));
    }
    if !bytes.starts_with(&HEADER) {
        let reason = format!("starts with {:02x?} instead of {HEADER:02x?}", &bytes[..HEADER.len()]);
        return Err(Corrupt::new("WAL file", 0, reason));
    }
    Ok(())
}

/// Whether nothing was written to a file but its header, and that only in part. Its end may be there as
/// zeros: a file can get its length before its bytes.
fn is_torn_header(bytes: &[u8]) -> bool {
    let arrived = bytes.iter().zip(&HEADER).take_while(|(byte, expected)| byte == expected).count();
    !bytes.starts_with(&HEADER) && bytes.iter().skip(arrived).all(|byte| *byte == 0)
}

/// What is wrong at byte `at` is the end of a cut-off write, unless a whole frame comes behind it or all of what was
/// written came: then it was acknowledged, or may have been, and is damaged.
fn torn(bytes: &[u8], at: usize, corrupt: Corrupt) -> Result<End, Error> {
    // Zeros are no frame, so that one starts before the last byte that is not zero.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match (at + 1..written).find(|behind| is_whole(bytes, *behind)) {
        None if is_written(bytes, at) => {
            let message = format!("{corrupt}; all of the frame was written, so this is no cut-off write");
            Err(Error::new(ErrorKind::Corrupt, message))
        }
        None => Ok(open_end(bytes, at)),
        Some(behind) => {
            let message = format!("{corrupt}; a whole frame follows at byte {behind}, so this is no cut-off write");
            Err(Error::new(ErrorKind::Corrupt, message))
        }
    }
}

/// Whether a whole frame starts at byte `at`: one whose length stands twice in it, or it would be the checksum of
/// megabytes that tells of most bytes that none does.
fn is_whole(bytes: &[u8], at: usize) -> bool {
    let Some((header, stored)) = bytes.get(at..).and_then(|rest| rest.split_at_checked(FRAME_HEADER_LEN)) else {
        return false;
    };
    snap::raw::decompress_len(stored).is_ok_and(|len| len == lens(header).1) && checked(bytes, at).is_ok()
}

/// Whether all sectors of the frame that starts at byte `at` came to the disk. It is written where there were zeros,
/// so that what is left out of a write that is cut off between sectors is whole sectors of zeros, and of one that is
/// cut off anywhere else the last byte is zero. Of damage this tells all but what makes the frame longer than the file
/// or than what was written, and what ends in a zero.
fn is_written(bytes: &[u8], at: usize) -> bool {
    let Some(header) = bytes.get(at..at + FRAME_HEADER_LEN) else { return false };
    let end = at + FRAME_HEADER_LEN + lens(header).0;
    let Some(frame) = bytes.get(at..end) else { return false };
    let (first, others) = frame.split_at(frame.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
    let has_come = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
    has_come(first) && others.chunks(SECTOR_BYTES).all(has_come) && frame.last() != Some(&0)
}

/// The end of a file whose frames end at byte `at`.
fn open_end(bytes: &[u8], at: usize) -> End {
    let torn = bytes.iter().skip(at).rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    End::Open { at: at as u64, torn }
}

/// What the frame at byte `at` stores, its checksum found right, and where the frame ends.
fn checked(bytes: &[u8], at: usize) -> Result<(&[u8], usize), Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes.get(at..).unwrap_or(&[]), at as u64);
    let header = cursor.bytes(8)?;
    let (stored_len, raw_len) = lens(header);
    let stored_checksum = cursor.u32_le()?;
    if stored_len == 0 || raw_len > RAW_BYTES_MAX {
        return Err(Corrupt::new(WHAT, at as u64, format!("{stored_len} bytes stored for {raw_len}")));
    }
    let stored = cursor.bytes(stored_len)?;
    let computed = crc32c_append(crc32c(header), stored);
    if computed != stored_checksum {
        let reason = format!("stored checksum {stored_checksum:08x}, computed {computed:08x}");
        return Err(Corrupt::new(WHAT, at as u64, reason));
    }
    Ok((stored, at + FRAME_HEADER_LEN + stored_len))
}

/// Bytes of the records in `frame`, which is whole.
pub(super) fn raw_len(frame: &[u8]) -> usize {
    lens(frame).1
}

fn lens(header: &[u8]) -> (usize, usize) {
    let word =
        |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word));
    (word(0) as usize, word(4) as usize)
}

fn decompress(stored: &[u8], at: usize, raw: &mut Vec<u8>) -> Result<(), Corrupt> {
    let failed = |error: snap::Error| Corrupt::new(WHAT, at as u64, error.to_string());
    let len = snap::raw::decompress_len(stored).map_err(failed)?;
    if len > RAW_BYTES_MAX {
        return Err(Corrupt::new(WHAT, at as u64, format!("{len} bytes announced")));
    }
    raw.clear();
    raw.resize(len, 0);
    snap::raw::Decoder::new().decompress(stored, raw).map_err(failed)?;
    Ok(())
}

/// As [`scan`], of the file at `path`, which errors name.
pub fn scan_file(path: &Path, tail: Tail, visit: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<End, Error> {
    let failed = |error| Error::file(path, error);
    let bytes = std::fs::read(path).map_err(failed)?;
    scan(&bytes, tail, visit).map_err(|error| error.within(path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        let mut encoder = Encoder::default();
        frames.iter().for_each(|records| bytes.extend_from_slice(encoder.frame(&[records])));
        bytes
    }

    fn read(bytes: &[u8], tail: Tail) -> Result<(Vec<Vec<u8>>, End), Error> {
        let mut frames = Vec::new();
        let end = scan(bytes, tail, |_, records| {
            frames.push(records.to_vec());
            Ok(())
        })?;
        Ok((frames, end))
    }

    proptest! {
        #[test]
        fn parts_are_one_frame_as_if_they_had_come_together(
            groups in prop::collection::vec(
                prop::collection::vec((0..70_000usize, 1..40u32, any::<u8>()), 0..6),
                1..4,
            ),
        ) {
            let (mut encoder, mut bytes, mut expected) = (Encoder::default(), HEADER.to_vec(), Vec::new());
            for group in groups {
                let parts: Vec<Vec<u8>> = group
                    .into_iter()
                    .map(|(len, step, salt)| (0..len as u32).map(|at| ((at * step) >> 3) as u8 ^ salt).collect())
                    .collect();
                bytes.extend_from_slice(encoder.frame(&parts));
                expected.push(parts.concat());
            }
            prop_assert_eq!(read(&bytes, Tail::MustBeWhole).unwrap(), (expected, End::Whole));
        }
    }

    #[test]
    fn room_is_given_back_after_a_long_frame() {
        let mut encoder = Encoder::default();
        encoder.frame(&[vec![7; 4 * ROOM_KEPT]]);
        encoder.frame(&[[7; 10], [8; 10]]);
        assert!(encoder.room.capacity() < ROOM_KEPT);
    }

    #[test]
    fn every_cut_is_a_torn_tail_of_the_last_file_and_an_error_of_others() {
        let frames: [&[u8]; 3] = [b"first first first", b"second", &[7; 1000]];
        let whole = file(&frames);
        let ends = [8, file(&frames[..1]).len(), file(&frames[..2]).len(), whole.len()];
        for cut in 0..=whole.len() {
            let (found, end) = read(&whole[..cut], Tail::MayBeTorn).unwrap();
            let count = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(found, frames[..count.saturating_sub(1)], "{cut}");
            assert_eq!(end == End::Whole, ends.contains(&cut), "{cut}");
            assert_eq!(read(&whole[..cut], Tail::MustBeWhole).is_ok(), ends.contains(&cut), "{cut}");
        }
    }

    #[test]
    fn a_bit_that_flips_in_the_last_frame_is_damage_and_sectors_that_never_came_are_a_torn_tail() {
        let noise = |len: u32, salt: u32| -> Vec<u8> {
            (0..len).map(|at| ((at + salt).wrapping_mul(0x9e37_79b1) >> 23) as u8 | 1).collect()
        };
        let (first, last) = (noise(700, 1), noise(3000, 9));
        let start = file(&[&first]).len();
        let mut whole = file(&[&first, &last]);
        let end = whole.len();
        // Room for more, as a segment has that is being written.
        whole.resize(end.next_multiple_of(SECTOR_BYTES) + 4 * SECTOR_BYTES, 0);
        assert_eq!(read(&whole, Tail::MayBeTorn).unwrap().1, End::Open { at: end as u64, torn: 0 });
        for at in start + FRAME_HEADER_LEN..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let why = read(&bytes, Tail::MayBeTorn).unwrap_err();
            assert!(why.message().contains("all of the frame was written"), "{at}: {why}");
        }
        let sectors: Vec<_> = (start / SECTOR_BYTES..=end / SECTOR_BYTES).collect();
        for missing in 1..1u32 << sectors.len() {
            let mut bytes = whole.clone();
            for (_, sector) in sectors.iter().enumerate().filter(|(bit, _)| missing >> bit & 1 == 1) {
                let from = (sector * SECTOR_BYTES).max(start);
                bytes[from..(sector + 1) * SECTOR_BYTES].fill(0);
            }
            let read = read(&bytes, Tail::MayBeTorn).unwrap();
            assert!(
                read.0 == std::slice::from_ref(&first) && matches!(read.1, End::Open { at, .. } if at == start as u64)
            );
        }
        for cut in start..end {
            let mut bytes = whole.clone();
            bytes[cut..].fill(0);
            assert_eq!(read(&bytes, Tail::MayBeTorn).unwrap().0, std::slice::from_ref(&first), "{cut}");
        }
    }

    #[test]
    fn damage_with_a_whole_frame_behind_it_is_an_error_that_says_where() {
        let whole = file(&[b"first first first", b"second", b"third"]);
        let second = file(&[b"first first first"]).len();
        for at in 8..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            // What makes the last frame longer than the file looks as if that had been cut off.
            let third = file(&[b"first first first", b"second"]).len();
            let is_longer = (third..third + 4).contains(&at) && bytes[at] > whole[at];
            let read = read(&bytes, Tail::MayBeTorn);
            assert_eq!(read.is_ok(), is_longer, "{at}");
            if at >= second && !is_longer {
                let message = read.unwrap_err().message().to_owned();
                assert!(
                    message.starts_with(&format!("WAL frame at byte {second}")) || message.contains("frame"),
                    "{message}"
                );
            }
        }
        for arrived in 0..5 {
            let mut header = [0; HEADER.len()];
            header[..arrived].copy_from_slice(&HEADER[..arrived]);
            let torn = arrived as u64;
            assert_eq!(read(&header, Tail::MayBeTorn).unwrap().1, End::Open { at: 0, torn }, "{arrived}");
            assert!(read(&header, Tail::MustBeWhole).is_err(), "{arrived}");
        }
        assert!(read(b"uruwuruw", Tail::MayBeTorn).is_err());
        let (mut zeros, end) = (whole.clone(), whole.len() as u64);
        zeros.extend_from_slice(&[0; 100]);
        assert_eq!(read(&zeros, Tail::MayBeTorn).unwrap().1, End::Open { at: end, torn: 0 });
        zeros[whole.len() + 20] = 1;
        assert_eq!(read(&zeros, Tail::MayBeTorn).unwrap().1, End::Open { at: end, torn: 21 });
        assert!(read(&zeros, Tail::MustBeWhole).is_err());
    }
}
