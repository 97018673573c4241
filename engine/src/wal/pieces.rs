//! A file as it is read, mostly from front to back: of it one piece at a time is in memory, however long it is.

use std::io::{self, Read, Seek, SeekFrom};

use crate::model::{Error, ErrorKind};

/// Bytes that are read at once, unless more are wanted.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// How many times as long as what is wanted the memory for it may be and stay.
const ROOM_FACTOR: usize = 8;

/// A file of which a piece is in memory.
pub(super) struct Pieces<R> {
    source: R,
    /// Bytes of the file.
    len: u64,
    piece_bytes: usize,
    /// Where the piece starts, a byte of the file.
    start: u64,
    /// Bytes of the piece; behind it the source goes on.
    held: usize,
    /// The piece and room for more.
    room: Vec<u8>,
}

impl<R: Read + Seek> Pieces<R> {
    /// The whole of `source`.
    pub(super) fn new(source: R) -> Result<Self, Error> {
        Self::of(source, PIECE_BYTES)
    }

    /// As [`Pieces::new`], of which `piece_bytes` are read at once.
    pub(super) fn of(mut source: R, piece_bytes: usize) -> Result<Self, Error> {
        let len = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
        Ok(Self { source, len, piece_bytes, start: len, held: 0, room: Vec::new() })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are read at once.
    pub(super) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// The `len` bytes from byte `at` on; fewer where the file ends before.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if at < self.start || at + len as u64 > self.start + self.held as u64 {
            self.read(at, (len, left)).map_err(unreadable)?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.room[from..from + len])
    }

    /// What is in memory from byte `at` on: at least `len` bytes, unless the file ends before.
    pub(super) fn held(&mut self, at: u64, len: usize) -> Result<&[u8], Error> {
        self.bytes(at, len)?;
        Ok(&self.room[(at - self.start) as usize..self.held])
    }

    /// Where the last byte from byte `from` on that is not zero ends; `from` when there is none.
    pub(super) fn written_end(&mut self, from: u64) -> Result<u64, Error> {
        let mut end = self.len;
        while end > from {
            let start = end.saturating_sub(self.piece_bytes as u64).max(from);
            let piece = self.bytes(start, (end - start) as usize)?;
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(from)
    }

    /// Makes the piece start at byte `at` and hold at least `len` of the `left` bytes from there on.
    fn read(&mut self, at: u64, (len, left): (usize, usize)) -> io::Result<()> {
        match at.checked_sub(self.start).filter(|passed| *passed <= self.held as u64) {
            Some(passed) => {
                self.room.copy_within(passed as usize..self.held, 0);
                self.held -= passed as usize;
            }
            None => {
                self.held = 0;
                self.source.seek(SeekFrom::Start(at))?;
            }
        }
        self.start = at;
        let end = len.max(1).next_multiple_of(self.piece_bytes);
        if self.room.len() / ROOM_FACTOR > end {
            self.room.truncate(end);
            self.room.shrink_to_fit();
        }
        let end = end.min(left);
        if self.room.len() < end {
            self.room.resize(end, 0);
        }
        while self.held < len {
            match self.source.read(&mut self.room[self.held..end]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.held += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is told of a file that can't be read, by whoever knows its name.
fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file that notes how much was read of it at once.
    pub(in crate::wal) struct Noting<'a> {
        pub(in crate::wal) file: io::Cursor<&'a [u8]>,
        pub(in crate::wal) read_max: usize,
    }

    impl Pieces<Noting<'_>> {
        /// Most bytes that were read at once, and those of the memory for them now.
        pub(in crate::wal) fn memory(&self) -> (usize, usize) {
            (self.source.read_max, self.room.capacity())
        }
    }

    impl Read for Noting<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.read_max = self.read_max.max(room.len());
            self.file.read(room)
        }
    }

    impl Seek for Noting<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    #[test]
    fn any_bytes_in_any_order_are_those_of_the_file() {
        let file: Vec<u8> = (0..1000u32).map(|at| ((at * at) >> 3) as u8).collect();
        let mut pieces = Pieces::of(io::Cursor::new(&file), 16).unwrap();
        for at in 0..3000u32 {
            let (from, len) = ((at.wrapping_mul(0x9e37_79b1) >> 8) as usize % 1010, (at * at % 97) as usize);
            let expected = &file[from.min(1000)..(from + len).min(1000).max(from.min(1000))];
            assert_eq!(pieces.bytes(from as u64, len).unwrap(), expected, "{from} {len}");
        }
    }

    #[test]
    fn memory_for_a_long_stretch_is_given_back() {
        let file = vec![7; 4096];
        let mut pieces = Pieces::of(io::Cursor::new(&file), 16).unwrap();
        assert_eq!(pieces.bytes(0, 2048).unwrap().len(), 2048);
        assert_eq!(pieces.bytes(2048, 16).unwrap().len(), 16);
        assert!(pieces.room.capacity() < 200, "{}", pieces.room.capacity());
    }

    #[test]
    fn what_was_written_ends_behind_the_last_byte_that_is_not_zero() {
        for last in 0..100 {
            let mut file = vec![0; 100];
            file[last] = 1;
            for from in 0..=100 {
                let end = if from > last { from } else { last + 1 };
                let mut pieces = Pieces::of(io::Cursor::new(&file), 16).unwrap();
                assert_eq!(pieces.written_end(from as u64).unwrap(), end as u64, "{last} {from}");
            }
        }
    }

    #[test]
    fn a_file_that_gets_shorter_while_it_is_read_is_an_error() {
        struct Shrinking(u64);
        impl Read for Shrinking {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Ok(0)
            }
        }
        impl Seek for Shrinking {
            fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
                Ok(self.0)
            }
        }
        let error = Pieces::new(Shrinking(100)).unwrap().bytes(0, 8).map(<[u8]>::len).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
