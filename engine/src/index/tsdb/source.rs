//! Where the bytes of an index come from: memory, or a file that is read piece by piece so that
//! indexes of any size are scanned in little memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::codec::{Corrupt, Cursor, section};
use crate::model::{Error, ErrorKind};

/// Bytes that a window over a file reads at once.
const WINDOW_LEN: usize = 256 * 1024;

/// Bytes that a glance at one place reads at once.
const GLANCE_LEN: usize = 1024;

/// What takes bytes, piece by piece.
pub type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// Bytes that can be read at any place.
pub trait Source {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes, when they lie in memory.
    fn in_memory(&self) -> Option<&[u8]>;

    /// Fills `out` with the bytes from `offset` on; the caller has checked that there are so many.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error>;

    /// Gives the bytes of `range`, which may be many, to `take` from front to back.
    fn stream(&self, range: Range<u64>, take: Take<'_>) -> Result<(), Error> {
        stream(self, range, take)
    }

    /// Lets go of bytes that are kept, as some are damaged; whether what is read next may differ. What is read up to
    /// [`Source::renewed`] is read anew.
    fn renew(&self) -> bool {
        false
    }

    /// Says that what was damaged has been read once more: from now on what is kept will do again.
    fn renewed(&self) {}

    /// What `read` gives; once more where it finds damage, which kept bytes may have come with.
    fn renewing<T>(&self, mut read: impl FnMut() -> Result<T, Error>) -> Result<T, Error>
    where
        Self: Sized,
    {
        match read() {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.renew() => {
                let outcome = read();
                self.renewed();
                outcome
            }
            outcome => outcome,
        }
    }
}

impl<T: AsRef<[u8]> + ?Sized> Source for T {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn in_memory(&self) -> Option<&[u8]> {
        Some(self.as_ref())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let bytes: &[u8] = self.as_ref();
        out.copy_from_slice(slice("bytes", bytes, offset, <[u8]>::len(out))?);
        Ok(())
    }
}

/// A file, read where it is asked for.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
    name: String,
}

impl FileSource {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| Error::new(ErrorKind::Unavailable, format!("{name}: {error}"));
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self { file, len, name })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(out, offset).map_err(|error| {
            let message = format!("{}: {} bytes from byte {offset}: {error}", self.name, out.len());
            Error::new(ErrorKind::Unavailable, message)
        })
    }
}

/// Gives the bytes of `range` of `source` to `take`, a window full at once.
pub fn stream<S: Source + ?Sized>(source: &S, range: Range<u64>, take: Take<'_>) -> Result<(), Error> {
    let (mut window, mut at) = (Window::new(source, "bytes"), range.start);
    while at < range.end {
        let bytes = window.bytes(at, (range.end - at).min(WINDOW_LEN as u64) as usize)?;
        take(bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// The `len` bytes of `bytes` from `offset` on, a part called `what`.
fn slice<'a>(what: &'static str, bytes: &'a [u8], offset: u64, len: usize) -> Result<&'a [u8], Corrupt> {
    let start = usize::try_from(offset).ok();
    start
        .and_then(|start| bytes.get(start..)?.get(..len))
        .ok_or_else(|| past_end(what, offset, len, bytes.len() as u64))
}

fn past_end(what: &'static str, offset: u64, len: usize, file_len: u64) -> Corrupt {
    Corrupt::new(what, offset, format!("{len} bytes wanted, the file ends at byte {file_len}"))
}

/// Reads forward through a source: views of memory, or of a buffer that is refilled from a file.
#[derive(Debug)]
pub struct Window<'s, S: ?Sized> {
    source: &'s S,
    what: &'static str,
    buffer: Vec<u8>,
    start: u64,
    /// Bytes that are read at least, where there are as many.
    read_len: usize,
}

impl<'s, S: Source + ?Sized> Window<'s, S> {
    /// A window over `source`, looking at a part called `what`.
    pub fn new(source: &'s S, what: &'static str) -> Self {
        Self { source, what, buffer: Vec::new(), start: 0, read_len: WINDOW_LEN }
    }

    /// A window that reads `read_len` bytes at once.
    pub(super) fn sized(source: &'s S, what: &'static str, read_len: usize) -> Self {
        Self { read_len, ..Self::new(source, what) }
    }

    /// A window that looks at one place and no further.
    pub fn glance(source: &'s S, what: &'static str) -> Self {
        Self { read_len: GLANCE_LEN, ..Self::new(source, what) }
    }

    /// The part that is looked at.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The `len` bytes from `offset` on.
    pub fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        if let Some(bytes) = self.source.in_memory() {
            return Ok(slice(self.what, bytes, offset, len)?);
        }
        let file_len = self.source.len();
        if offset.checked_add(len as u64).is_none_or(|end| end > file_len) {
            return Err(past_end(self.what, offset, len, file_len).into());
        }
        let buffered_end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + len as u64 > buffered_end {
            let left = usize::try_from(file_len - offset).unwrap_or(usize::MAX);
            self.buffer.resize(len.max(self.read_len).min(left), 0);
            self.start = offset;
            if let Err(error) = self.source.read_at(offset, &mut self.buffer) {
                self.buffer.clear();
                return Err(error);
            }
        }
        Ok(slice(self.what, &self.buffer, offset - self.start, len)?)
    }

    /// At most `len` bytes from `offset` on, fewer only where the file ends or `end` is reached.
    pub fn up_to(&mut self, offset: u64, len: usize, end: u64) -> Result<&[u8], Error> {
        let left = end.min(self.source.len()).saturating_sub(offset);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes(offset, len)
    }

    /// What was read last, from the first byte on that was asked for; nothing of a source in memory.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The checked content of the section at `offset`.
    pub fn section(&mut self, offset: u64) -> Result<&[u8], Error> {
        let what = self.what;
        let len = Cursor::new(what, self.bytes(offset, 4)?, offset).u32_be()? as usize;
        let bytes = self.bytes(offset, len + section::FRAME_LEN)?;
        Ok(section::decode(what, bytes, offset)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_over_a_file_gives_the_bytes_that_memory_gives() {
        let bytes: Vec<u8> = (0..3 * WINDOW_LEN).map(|at| (at * 31 % 251) as u8).collect();
        let path = std::env::temp_dir().join(format!("uru-window-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let file = FileSource::open(&path).unwrap();
        let mut window = Window::new(&file, "part");
        for (offset, len) in [(0, 10), (WINDOW_LEN - 3, 10), (5, WINDOW_LEN * 2), (3 * WINDOW_LEN - 1, 1)] {
            assert_eq!(window.bytes(offset as u64, len).unwrap(), &bytes[offset..offset + len]);
        }
        assert!(window.bytes(3 * WINDOW_LEN as u64, 1).is_err());
        assert!(window.bytes(u64::MAX, 1).is_err());
        assert!(Window::new(&bytes, "part").bytes(u64::MAX, 1).is_err());
        let (mut streamed, end) = (Vec::new(), 3 * WINDOW_LEN as u64);
        let mut take = |bytes: &[u8]| {
            streamed.extend_from_slice(bytes);
            Ok(())
        };
        file.stream(7..end, &mut take).unwrap();
        assert!(file.stream(end - 1..end + 1, &mut take).is_err());
        assert!(streamed == bytes[7..]);
        std::fs::remove_file(&path).unwrap();
    }
}
