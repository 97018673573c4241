//! Frames: what was written with one write and made durable with one sync; and the files of them.
//!
//! ```text
//! file    magic 75 72 75 77 │ version u8 │ three zeros │ frame │ frame │ … │ zeros while it is written
//! frame   stored u32 LE │ raw u32 LE │ CRC-32C of the eight bytes before and what is stored, u32 LE │ stored
//! ```
//! What is stored is `raw` bytes of records in `stored` bytes of snappy's block format.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::Path;

use super::pieces::{PIECE_BYTES, Pieces};
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

/// Most bytes that tell that a frame may start with them.
const START_MAX: usize = FRAME_HEADER_LEN + LEAD_MAX;

/// Most bytes stored for so many of records: an element that is a literal takes a byte besides what it makes, at worst
/// for each byte.
const fn stored_bytes_max(raw: usize) -> usize {
    LEAD_MAX + 2 * raw
}

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
pub fn scan(bytes: &[u8], tail: Tail, visit: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<End, Error> {
    scan_pieces(&mut Pieces::new(io::Cursor::new(bytes))?, tail, visit)
}

/// As [`scan`], of the file at `path`, which errors name. Of it a frame is in memory, or a piece.
pub fn scan_file(path: &Path, tail: Tail, visit: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<End, Error> {
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    let scanned = Pieces::new(file).and_then(|mut file| scan_pieces(&mut file, tail, visit));
    scanned.map_err(|error| error.within(path.display()))
}

fn scan_pieces<R: Read + Seek>(
    file: &mut Pieces<R>,
    tail: Tail,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<End, Error> {
    if tail != Tail::MustBeWhole && is_torn_header(file)? {
        return open_end(file, 0);
    }
    match check_header(file.bytes(0, HEADER.len())?) {
        Err(corrupt) if tail == Tail::MayBeDamaged => return Ok(End::Damaged { at: 0, why: corrupt.to_string() }),
        checked => checked?,
    }
    let mut at = HEADER.len() as u64;
    let mut raw = Vec::new();
    while at < file.len() {
        let stored_len = match checked(file, at) {
            Ok(len) => len,
            Err(error) if tail == Tail::MustBeWhole || error.kind() != ErrorKind::Corrupt => return Err(error),
            Err(corrupt) => {
                return match torn(file, at, &corrupt)? {
                    End::Damaged { why, .. } if tail == Tail::MayBeTorn => Err(Error::new(ErrorKind::Corrupt, why)),
                    end => Ok(end),
                };
            }
        };
        let stored_at = at + FRAME_HEADER_LEN as u64;
        decompress(file.bytes(stored_at, stored_len)?, at, &mut raw)?;
        visit(at, &raw)?;
        at = stored_at + stored_len as u64;
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
fn is_torn_header<R: Read + Seek>(file: &mut Pieces<R>) -> Result<bool, Error> {
    let header = file.bytes(0, HEADER.len())?;
    if header.starts_with(&HEADER) {
        return Ok(false);
    }
    let arrived = header.iter().zip(&HEADER).take_while(|(byte, expected)| byte == expected).count() as u64;
    Ok(file.written_end(arrived)? == arrived)
}

/// What is wrong at byte `at` is the end of a cut-off write, unless a whole frame comes behind it or all of what was
/// written came: then it was acknowledged, or may have been, and is damaged.
fn torn<R: Read + Seek>(file: &mut Pieces<R>, at: u64, corrupt: &Error) -> Result<End, Error> {
    // Zeros are no frame, so that one starts before the last byte that is not zero.
    let written = file.written_end(at)?;
    let behind = find_whole(file, at + 1..written)?;
    if behind.is_none() && !is_written(file, at)? {
        return open_end(file, at);
    }
    let reason = match behind {
        Some(behind) => format!("a whole frame follows at byte {behind}"),
        None => "all of the frame was written".to_owned(),
    };
    Ok(End::Damaged { at, why: format!("{corrupt}; {reason}, so this is no cut-off write") })
}

/// Where the first whole frame that starts in `range` does: one whose length stands twice in it, or it would be the
/// checksum of megabytes that tells of most bytes that none does.
fn find_whole<R: Read + Seek>(file: &mut Pieces<R>, range: Range<u64>) -> Result<Option<u64>, Error> {
    let (file_end, mut at) = (file.len(), range.start);
    while at < range.end {
        let piece = file.held(at, START_MAX)?;
        // What starts at the end of a piece is looked at with the next one, unless the file ends there too.
        let is_last = at + piece.len() as u64 >= file_end;
        let starts = if is_last { piece.len() } else { piece.len() - START_MAX + 1 };
        let Some(start) = (0..starts).find(|start| may_be_frame(&piece[*start..])) else {
            at += starts as u64;
            continue;
        };
        at += start as u64;
        match checked(file, at) {
            Ok(_) if at < range.end => return Ok(Some(at)),
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            _ => at += 1,
        }
    }
    Ok(None)
}

/// Whether a frame may start with `bytes`: the length of its records stands twice in them.
fn may_be_frame(bytes: &[u8]) -> bool {
    let Some((header, stored)) = bytes.split_at_checked(FRAME_HEADER_LEN) else { return false };
    let (stored_len, raw_len) = lens(header);
    stored_len > 0 && snap::raw::decompress_len(stored).is_ok_and(|len| len == raw_len)
}

/// Whether all sectors of the frame that starts at byte `at` came to the disk. It is written where there were zeros,
/// so that what is left out of a write that is cut off between sectors is whole sectors of zeros, and of one that is
/// cut off anywhere else the last byte is zero. Of damage this tells all but what makes the frame longer than the file
/// or than what was written, and what ends in a zero.
fn is_written<R: Read + Seek>(file: &mut Pieces<R>, at: u64) -> Result<bool, Error> {
    let header = file.bytes(at, FRAME_HEADER_LEN)?;
    let end = at + (FRAME_HEADER_LEN + lens(header).0) as u64;
    if header.len() < FRAME_HEADER_LEN || end > file.len() || file.bytes(end - 1, 1)? == [0] {
        return Ok(false);
    }
    let piece_bytes = file.piece_bytes().next_multiple_of(SECTOR_BYTES) as u64;
    let mut from = at;
    while from < end {
        let piece_end = ((from / piece_bytes + 1) * piece_bytes).min(end);
        let piece = file.bytes(from, (piece_end - from) as usize)?;
        let (first, others) = piece.split_at(piece.len().min(SECTOR_BYTES - from as usize % SECTOR_BYTES));
        let has_come = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
        if !has_come(first) || !others.chunks(SECTOR_BYTES).all(has_come) {
            return Ok(false);
        }
        from = piece_end;
    }
    Ok(true)
}

/// The end of a file whose frames end at byte `at`.
fn open_end<R: Read + Seek>(file: &mut Pieces<R>, at: u64) -> Result<End, Error> {
    let torn = file.written_end(at)? - at;
    Ok(End::Open { at, torn })
}

/// How many bytes the frame at byte `at` stores, its checksum found right.
fn checked<R: Read + Seek>(file: &mut Pieces<R>, at: u64) -> Result<usize, Error> {
    let mut cursor = Cursor::new(WHAT, file.bytes(at, FRAME_HEADER_LEN)?, at);
    let (stored_len, raw_len) = lens(cursor.bytes(8)?);
    let stored_checksum = cursor.u32_le()?;
    if stored_len == 0 || raw_len > RAW_BYTES_MAX || stored_len > stored_bytes_max(raw_len) {
        return Err(Corrupt::new(WHAT, at, format!("{stored_len} bytes stored for {raw_len}")).into());
    }
    if at.saturating_add((FRAME_HEADER_LEN + stored_len) as u64) > file.len() {
        return Err(Corrupt::new(WHAT, at, format!("{stored_len} bytes stored, and the file ends before")).into());
    }
    let mut cursor = Cursor::new(WHAT, file.bytes(at, FRAME_HEADER_LEN + stored_len)?, at);
    let header = cursor.bytes(8)?;
    cursor.u32_le()?;
    let computed = crc32c_append(crc32c(header), cursor.bytes(stored_len)?);
    if computed != stored_checksum {
        let reason = format!("stored checksum {stored_checksum:08x}, computed {computed:08x}");
        return Err(Corrupt::new(WHAT, at, reason).into());
    }
    Ok(stored_len)
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

/// The records of a frame that stores `stored`; `raw` is their memory, whatever it held.
fn decompress(stored: &[u8], at: u64, raw: &mut Vec<u8>) -> Result<(), Corrupt> {
    let failed = |error: snap::Error| Corrupt::new(WHAT, at, error.to_string());
    let len = snap::raw::decompress_len(stored).map_err(failed)?;
    if len > RAW_BYTES_MAX {
        return Err(Corrupt::new(WHAT, at, format!("{len} bytes announced")));
    }
    if raw.capacity() > PIECE_BYTES.max(8 * len) {
        *raw = Vec::new();
    }
    raw.resize(len, 0);
    snap::raw::Decoder::new().decompress(stored, raw).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pieces::tests::Noting;
    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        let mut encoder = Encoder::default();
        frames.iter().for_each(|records| bytes.extend_from_slice(encoder.frame(&[records])));
        bytes
    }

    fn read(bytes: &[u8], tail: Tail) -> Result<(Vec<Vec<u8>>, End), Error> {
        read_in_pieces(bytes, tail, PIECE_BYTES)
    }

    fn read_in_pieces(bytes: &[u8], tail: Tail, piece_bytes: usize) -> Result<(Vec<Vec<u8>>, End), Error> {
        let mut frames = Vec::new();
        let end = scan_pieces(&mut Pieces::of(io::Cursor::new(bytes), piece_bytes)?, tail, |_, records| {
            frames.push(records.to_vec());
            Ok(())
        })?;
        Ok((frames, end))
    }

    /// Bytes that don't compress.
    fn random(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
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

    proptest! {
        #[test]
        fn a_file_that_is_read_in_pieces_is_what_it_is_as_a_whole(
            lens in prop::collection::vec(0..1500usize, 0..6),
            (cut, zeros) in (any::<prop::sample::Index>(), 0..1200usize),
            (damaged, damaged_len, flip) in (any::<prop::sample::Index>(), 0..600usize, any::<u8>()),
            piece_bytes in 1..700usize,
        ) {
            let frames: Vec<Vec<u8>> = lens.iter().zip(1..).map(|(len, seed)| random(*len, seed)).collect();
            let mut bytes = file(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (from, whole) = (damaged.index(bytes.len()), bytes.len());
            if flip % 2 == 0 {
                // As what never came.
                bytes[from..whole.min(from + damaged_len)].fill(0);
            }
            bytes[from] ^= flip / 2;
            bytes.truncate(whole - cut.index(whole) % 900);
            bytes.resize(bytes.len() + zeros, 0);
            for tail in [Tail::MayBeTorn, Tail::MustBeWhole, Tail::MayBeDamaged] {
                prop_assert_eq!(read_in_pieces(&bytes, tail, piece_bytes), read(&bytes, tail));
            }
        }
    }

    /// A start held each snapshot and segment whole, all logs at once: a process that ran within its limit was ended
    /// for want of memory at every start.
    #[test]
    fn of_a_long_file_a_piece_is_in_memory_also_where_it_is_damaged() {
        let frames: Vec<Vec<u8>> = (0..120).map(|seed| random(100_000, seed)).collect();
        let mut bytes = file(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for damaged in [false, true] {
            bytes[50_000] ^= u8::from(damaged);
            let noting = Noting { file: io::Cursor::new(bytes.as_slice()), read_max: 0 };
            let (mut pieces, mut count) = (Pieces::new(noting).unwrap(), 0);
            let end = scan_pieces(&mut pieces, Tail::MayBeDamaged, |_, _| {
                count += 1;
                Ok(())
            });
            assert_eq!((matches!(end.unwrap(), End::Damaged { .. }), count), (damaged, if damaged { 0 } else { 120 }));
            let (read_max, room) = pieces.memory();
            assert!(bytes.len() > 8 * PIECE_BYTES && read_max <= PIECE_BYTES && room <= 2 * PIECE_BYTES, "{room}");
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
