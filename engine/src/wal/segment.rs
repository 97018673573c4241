//! The segment that is being written: whole blocks, so that a write goes past the page cache and is
//! durable when it is done.
//!
//! ```text
//! file     header │ frame │ frame │ fra… zeros ………………… │
//!          ├ block ┼ block ┼ block ┼ block ┼ block ┼ … ┤
//! a write                  ├ …me │ frame │ zeros ┤
//! ```
//! The last block is written again with what comes behind its frames; the bytes of these are the same, so
//! that a write which is cut off between two sectors leaves them as they were. A write that needs more
//! room makes the file longer by as much as it is long, up to [`GROWTH_BYTES_MAX`], so that most writes
//! change no metadata of the file system. What is left of the room is cut off when the segment is closed.

use std::io;
use std::path::PathBuf;

use super::folder::segment_path;
use super::frame::HEADER;
use super::relaxed;
use crate::io::blocks::{BLOCK_BYTES, Blocks};
use crate::io::uring::PIECE_BYTES;
use crate::io::{BlockIo, Failure, File, Write, folder, is_full};
use crate::model::Error;

/// Most bytes of room that a write adds.
const GROWTH_BYTES_MAX: u64 = 1 << 20;

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is on disk.
    #[default]
    Fsync,
    /// It was given to the operating system, and is on disk a second later: a crash of the machine, not
    /// of the process, loses up to a second of acknowledged samples.
    Relaxed,
}

/// Where a log goes on.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder, which exists.
    pub folder: PathBuf,
    /// The number of the segment to begin.
    pub segment: u64,
    /// What an acknowledgement means.
    pub durability: Durability,
}

/// A segment that is being written.
pub(super) struct Segment {
    file: File,
    durability: Durability,
    /// Where the next frame goes.
    end: u64,
    /// Up to where there is room without making the file longer: a multiple of [`BLOCK_BYTES`].
    room_end: u64,
    /// What the last block holds before `end`.
    tail: Vec<u8>,
    blocks: Blocks,
}

/// Why a segment could not be begun.
pub(super) enum Unbegun {
    /// The disk has no room for it.
    Full(Error),
    /// Anything else.
    Failed(Error),
    /// What there is of it could not be removed.
    Left(Error),
}

impl Segment {
    /// Creates the segment of `place`, durably. Where that fails nothing is left of it: a segment without its
    /// header is none.
    pub(super) fn begin(place: &Place, io: &mut dyn BlockIo) -> Result<Self, Unbegun> {
        Self::create(place, io).map_err(|error| {
            let is_full = is_full(&error);
            let removed = if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { remove(place) };
            let error = Error::file(&segment_path(&place.folder, place.segment), error);
            match removed {
                Err(error) => Unbegun::Left(error),
                Ok(()) if is_full => Unbegun::Full(error),
                Ok(()) => Unbegun::Failed(error),
            }
        })
    }

    fn create(place: &Place, io: &mut dyn BlockIo) -> io::Result<Self> {
        let path = segment_path(&place.folder, place.segment);
        let file = match place.durability {
            Durability::Fsync => io.create_durable(path)?,
            Durability::Relaxed => {
                // Before anything is acknowledged that may be lost.
                relaxed::mark(&place.folder, place.segment)?;
                File::create(path)?
            }
        };
        let (durability, blocks) = (Durability::Fsync, Blocks::default());
        let mut segment = Self { file, durability, end: 0, room_end: 0, tail: Vec::new(), blocks };
        segment.append(&HEADER, io).map_err(|failure| failure.source)?;
        segment.durability = place.durability;
        folder::sync(&place.folder)?;
        Ok(segment)
    }

    /// Bytes of it that are frames or the header.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The file that is written.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes `bytes` behind what there is, durably unless the log is relaxed. After a failure what the
    /// file holds from [`Segment::end`] on is not known; the next call writes there again.
    pub(super) fn append(&mut self, bytes: &[u8], io: &mut dyn BlockIo) -> Result<(), Failure> {
        let start = self.end - self.tail.len() as u64;
        let used = self.tail.len() + bytes.len();
        let mut end = start + used.next_multiple_of(BLOCK_BYTES) as u64;
        if end > self.room_end {
            end = end.max(self.room_end + self.room_end.min(GROWTH_BYTES_MAX));
        }
        let len = (end - start) as usize;
        // Room within the one operation that a short write is; more of it is zeros that nobody holds in memory.
        self.blocks.fill(&[&self.tail, bytes], if len > PIECE_BYTES { used } else { len });
        let blocks = self.blocks.bytes();
        let zeros = len - blocks.len();
        let write = Write { file: &self.file, offset: start, bytes: blocks, zeros };
        match self.durability {
            Durability::Fsync => io.write_and_sync(&[write])?,
            Durability::Relaxed => io.write(&[write])?,
        }
        self.end += bytes.len() as u64;
        self.room_end = self.room_end.max(end);
        self.tail.clear();
        self.tail.extend_from_slice(&self.blocks.bytes()[used / BLOCK_BYTES * BLOCK_BYTES..used]);
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self, io: &mut dyn BlockIo) -> Result<(), Error> {
        let nothing = Write { file: &self.file, offset: self.end, bytes: &[], zeros: 0 };
        io.write_and_sync(&[nothing]).map_err(|failure| failure.to_error(&self.file))
    }

    /// Cuts off the room that is left and makes all of it durable. What is appended afterwards makes room again.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.room_end = self.end - self.tail.len() as u64;
        self.file.truncate(self.end)
    }
}

/// Removes what there is of a segment whose beginning failed, durably.
fn remove(place: &Place) -> Result<(), Error> {
    let path = segment_path(&place.folder, place.segment);
    match std::fs::remove_file(&path) {
        Ok(()) => folder::sync(&place.folder).map_err(|error| Error::file(&place.folder, error)),
        // It was never made, so that there is nothing to make durable: there may be no descriptor for the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::metadata(&place.folder).map(drop).map_err(|error| Error::file(&place.folder, error))
        }
        Err(error) => Err(Error::file(&path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Encoder, End, Tail, scan};
    use super::*;
    use crate::io::faulty::{Fault, Faulty};
    use crate::io::{Mode, open};

    fn begun(place: &Place, io: &mut dyn BlockIo) -> Segment {
        Segment::begin(place, io).unwrap_or_else(|_| panic!("{place:?}"))
    }

    /// Commits of all sizes, of which each is read back from what the file then holds.
    fn holds_what_was_appended(durability: Durability) {
        let folder = std::env::temp_dir().join(format!("uru-segment-{durability:?}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let mut io = open(Mode::Auto).unwrap();
        let place = Place { folder: folder.clone(), segment: 3, durability };
        let mut segment = begun(&place, &mut *io);
        let path = segment_path(&folder, 3);
        let (mut expected, mut encoder) = (Vec::new(), Encoder::default());
        for at in 0..60u32 {
            let records: Vec<u8> = (0..at * at * 97 % 40_000 + 1).map(|byte| ((byte * (at + 7)) >> 3) as u8).collect();
            segment.append(encoder.frame(&[&records]), &mut *io).unwrap();
            expected.push(records);
            let (bytes, mut found) = (std::fs::read(&path).unwrap(), Vec::new());
            let mut visit = |_, records: &[u8]| {
                found.push(records.to_vec());
                Ok(())
            };
            let end = scan(&bytes, Tail::MayBeTorn, &mut visit).unwrap();
            let room = End::Open { at: segment.end(), torn: 0 };
            assert!(end == room || end == End::Whole && segment.end() == bytes.len() as u64, "{end:?}");
            assert_eq!(bytes.len() % BLOCK_BYTES, 0);
            assert!(found == expected, "{durability:?}: commit {at}");
        }
        segment.sync(&mut *io).unwrap();
        segment.close().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(scan(&bytes, Tail::MustBeWhole, |_, _| Ok(())).unwrap(), End::Whole);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nothing_is_left_of_a_segment_that_has_no_room_and_one_that_is_there_stays() {
        let folder = std::env::temp_dir().join(format!("uru-segment-full-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let mut begun = 0;
        for seed in 0..40u64 {
            let drawn = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut io = Faulty::new(open(Mode::Pread).unwrap(), Fault::Full, 2, drawn);
            let durability = if seed % 4 < 2 { Durability::Fsync } else { Durability::Relaxed };
            let place = Place { folder: folder.clone(), segment: seed, durability };
            let path = segment_path(&folder, seed);
            match Segment::begin(&place, &mut io) {
                Err(unbegun) => assert!(matches!(unbegun, Unbegun::Full(_)) && !path.exists(), "{seed}"),
                Ok(_) => {
                    begun += 1;
                    let again = Segment::begin(&place, &mut *open(Mode::Pread).unwrap());
                    assert!(matches!(again, Err(Unbegun::Failed(_))) && path.exists(), "{seed}");
                }
            }
        }
        assert!((5..35).contains(&begun), "{begun}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_segment_holds_what_was_appended_and_room_until_it_is_closed() {
        holds_what_was_appended(Durability::Fsync);
        holds_what_was_appended(Durability::Relaxed);
    }
}
