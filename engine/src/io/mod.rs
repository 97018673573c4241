//! Local files, read and written in batches: through an io_uring ring owned by one thread, or with
//! `pread` where io_uring is forbidden.
//!
//! A [`BlockIo`] belongs to one shard. A batch of reads lands side by side in its window:
//!
//! ```text
//! reads    [file 1, 4096..8192] [file 1, 20000..21000] [file 2, 8..500]
//! window   |      4096 bytes    |      1000 bytes      |   492 bytes  |  unused  |
//! ```
//!
//! The window is one registered buffer of [`WINDOW_BYTES`], small enough to stay in a core's cache
//! until its bytes are framed; a batch that doesn't fit gets room of its own on the heap for that
//! batch.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::model::{Error, ErrorKind};

/// Memory for writes past the page cache.
pub mod blocks;
/// Injected faults, for tests of what reads do when disks fail.
pub mod faulty;
/// An open file, shared by all shards.
pub mod file;
/// Folders that are there after a crash.
pub mod folder;
/// Freed memory.
pub mod freed;
/// How many files stay open.
pub mod kept;
/// Files mapped into memory.
pub mod mmap;
/// `pread` and `pwrite`: the fallback.
pub mod pread;
/// Files that appear whole or not at all.
pub mod replace;
/// io_uring.
pub mod uring;

pub use file::{File, raise_open_files_max, start_writeback};
pub use kept::KeptOpen;

/// Bytes of a window.
pub const WINDOW_BYTES: usize = 1 << 20;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Through io_uring where the probe finds it, with `pread` elsewhere.
    #[default]
    Auto,
    /// Through io_uring, or not at all.
    Uring,
    /// With `pread`.
    Pread,
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// io_uring works.
    Uring,
    /// io_uring doesn't work, for this reason.
    Denied(String),
}

/// A range of a file that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// The file.
    pub file: &'a File,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: usize,
}

/// Bytes to be written at a place of a file.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The file.
    pub file: &'a File,
    /// Where the first byte goes.
    pub offset: u64,
    /// What is written.
    pub bytes: &'a [u8],
    /// How many zeros are written behind that.
    pub zeros: usize,
}

/// A read or write that failed.
#[derive(Debug)]
pub struct Failure {
    /// Its place in the batch.
    pub index: usize,
    /// Byte of the file that could not be read or written.
    pub offset: u64,
    /// Why; a file that ends early is `UnexpectedEof`.
    pub source: std::io::Error,
}

/// A finished batch: the bytes of all reads, one after the other, and the reads that failed (their
/// bytes mean nothing).
#[derive(Debug)]
pub struct Batch<'a> {
    /// As many bytes as the reads wanted together.
    pub bytes: &'a [u8],
    /// In the order of the batch; usually none.
    pub failures: &'a [Failure],
}

/// What an implementation has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// Batches of reads.
    pub batches: u64,
    /// Reads, as the caller counts them.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Reads taken up again after a short one or an interruption.
    pub retries: u64,
    /// Batches that did not fit into the window.
    pub oversize: u64,
    /// Reads that failed.
    pub failures: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Files made durable.
    pub syncs: u64,
}

/// Reads and writes batches for one thread; blocks it until the batch is done.
pub trait BlockIo {
    /// Reads a batch into the window.
    fn read(&mut self, reads: &[Read<'_>]) -> Batch<'_>;

    /// Writes a batch, then makes every file in it durable (`fdatasync`), each once: a group commit. What
    /// goes to a file of [`File::create_durable`] is whole blocks, and durable without that.
    fn write_and_sync(&mut self, writes: &[Write<'_>]) -> Result<(), Failure>;

    /// Writes a batch without making it durable.
    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure>;

    /// Creates `path`, which must not exist, as a file for writes that are made durable.
    fn create_durable(&mut self, path: PathBuf) -> std::io::Result<File> {
        File::create_durable(path)
    }

    /// What it is, for one log line and a metric: "io_uring" or "pread".
    fn name(&self) -> &'static str;

    /// What it has done.
    fn counters(&self) -> IoCounters;
}

impl Write<'_> {
    /// Bytes and zeros.
    fn len(&self) -> usize {
        self.bytes.len() + self.zeros
    }
}

impl Failure {
    /// See [`is_full`].
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }

    /// The failure as an error that names the file and the byte: `Corrupt` where the file ends early,
    /// `Unavailable` where the disk fails.
    pub fn to_error(&self, file: &File) -> Error {
        let place = format!("{} at byte {}", file.path().display(), self.offset);
        if self.source.kind() == std::io::ErrorKind::UnexpectedEof {
            return Error::new(ErrorKind::Corrupt, format!("{place}: the file ends here, more bytes were expected"));
        }
        Error::new(ErrorKind::Unavailable, format!("{place}: {}", self.source))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Pread => "pread",
        })
    }
}

/// Whether there was no room on the disk, so that the same may succeed later.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Whether io_uring works here: tried once for each process by setting up a small ring.
pub fn probe() -> &'static Support {
    static FOUND: OnceLock<Support> = OnceLock::new();
    FOUND.get_or_init(|| match uring::try_ring() {
        Ok(()) => Support::Uring,
        Err(error) => Support::Denied(error.to_string()),
    })
}

/// An implementation for the calling thread, which must be the one that uses it.
pub fn open(mode: Mode) -> Result<Box<dyn BlockIo>, Error> {
    let denied = |why: &dyn fmt::Display| {
        Error::new(ErrorKind::Unavailable, format!("io_uring was asked for and does not work here: {why}"))
    };
    match (mode, probe()) {
        (Mode::Pread, _) | (Mode::Auto, Support::Denied(_)) => Ok(Box::new(pread::Pread::new())),
        (Mode::Uring, Support::Denied(why)) => Err(denied(why)),
        (Mode::Uring, Support::Uring) => Ok(Box::new(uring::Uring::open().map_err(|error| denied(&error))?)),
        // A ring for each core may be more than the limits allow although one is not.
        (Mode::Auto, Support::Uring) => Ok(match uring::Uring::open() {
            Ok(ring) => Box::new(ring),
            Err(_) => Box::new(pread::Pread::new()),
        }),
    }
}

/// Bytes that a batch of reads wants together.
fn batch_bytes(reads: &[Read<'_>]) -> usize {
    reads.iter().map(|read| read.len).sum()
}

/// Room for a batch: the window, or more of it for one batch that doesn't fit.
#[derive(Debug)]
struct Room {
    window: Box<[u8]>,
    oversize: Vec<u8>,
}

impl Room {
    /// Room whose window is made when it is needed: see [`Self::widen`].
    fn growing() -> Self {
        Self { window: Box::default(), oversize: Vec::new() }
    }

    /// Makes the whole window, if there is none.
    fn open(&mut self) {
        if self.window.is_empty() {
            self.window = vec![0; WINDOW_BYTES].into_boxed_slice();
        }
    }

    /// Makes a window that is too small hold `len` bytes, if a window may.
    fn widen(&mut self, len: usize) {
        if len > self.window.len() && len <= WINDOW_BYTES {
            self.window = vec![0; len.next_power_of_two()].into_boxed_slice();
        }
    }

    /// `len` bytes to read into; whether they lie in the window.
    fn prepare(&mut self, len: usize) -> (&mut [u8], Place) {
        self.oversize = Vec::new();
        if len <= self.window.len() {
            return (&mut self.window[..len], Place::Window);
        }
        self.oversize = vec![0; len];
        (&mut self.oversize, Place::Heap)
    }

    fn filled(&self, len: usize) -> &[u8] {
        if len <= self.window.len() { &self.window[..len] } else { &self.oversize[..len] }
    }
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Window,
    Heap,
}

#[cfg(test)]
mod tests;
