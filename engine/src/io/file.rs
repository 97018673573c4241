//! An open file with its name, so that an error can say where it happened.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::blocks::{BLOCK_BYTES, Blocks};
use crate::model::{Error, ErrorKind};

/// An open file; shared by `Arc`, read at offsets, without a position.
#[derive(Debug)]
pub struct File {
    inner: std::fs::File,
    path: PathBuf,
    len: u64,
    is_durable: bool,
}

/// Lets the process hold as many files open as its hard limit allows, and says how many these are.
///
/// A store of 10,000 blocks has more segments than the 1,024 files that a shell's soft limit grants.
pub fn raise_open_files_max() -> Option<u64> {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current != limits.maximum {
        limits.current = limits.maximum;
        // Where it may not be raised, the limit stays as it is.
        let _ = setrlimit(Resource::Nofile, limits);
    }
    getrlimit(Resource::Nofile).current
}

/// Has the disk begin with what was written to the bytes `range` of `file`, so that a later sync finds less to do.
/// It waits for the disk only where that has too much to do already. Whether bytes are durable, or the disk took
/// them at all, the sync says.
pub fn start_writeback(file: &std::fs::File, range: Range<u64>) {
    let (start, len) = (range.start as libc::off64_t, (range.end - range.start) as libc::off64_t);
    // SAFETY: the call takes numbers alone, and the file is open as long as it is borrowed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), start, len, libc::SYNC_FILE_RANGE_WRITE) };
}

impl File {
    /// Opens `path` for reading.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let opened = Self::with(path.clone(), std::fs::OpenOptions::new().read(true));
        opened.map_err(|error| {
            let is_limit = error.raw_os_error() == Some(libc::EMFILE);
            let remedy = if is_limit { "; the process has too many of them: raise its limit (ulimit -n)" } else { "" };
            Error::new(ErrorKind::Unavailable, format!("{}: cannot open: {error}{remedy}", path.display()))
        })
    }

    /// Creates `path`, which must not exist, for reading and writing.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with(path.into(), std::fs::OpenOptions::new().read(true).write(true).create_new(true))
    }

    /// Creates `path`, which must not exist, for writes of whole blocks that go past the page cache and are
    /// durable when they are done (`O_DIRECT`, `O_DSYNC`): a quarter of the CPU of a write and a sync, and a
    /// third of their time. Where the file system has no such writes, an ordinary file.
    pub fn create_durable(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        let mut blocks = Blocks::default();
        blocks.fill(&[], BLOCK_BYTES);
        // Some file systems open such a file and refuse to write it.
        let opened = options.open(&path).and_then(|file| {
            file.write_all_at(blocks.bytes(), 0)?;
            Ok(file)
        });
        match opened {
            Ok(inner) => Ok(Self { inner, path, len: 0, is_durable: true }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // What a refused opening leaves behind depends on the file system.
                let _ = std::fs::remove_file(&path);
                Self::create(path)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what is written to it is durable without a sync.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Cuts it to `len` bytes, durably.
    pub fn truncate(&self, len: u64) -> Result<(), Error> {
        let cut = self.inner.set_len(len).and_then(|()| self.inner.sync_all());
        cut.map_err(|error| Error::file(&self.path, error))
    }

    /// Bytes of the file when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there was no byte when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn inner(&self) -> &std::fs::File {
        &self.inner
    }

    pub(super) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    fn with(path: PathBuf, options: &std::fs::OpenOptions) -> io::Result<Self> {
        let inner = options.open(&path)?;
        let len = inner.metadata()?.len();
        Ok(Self { inner, path, len, is_durable: false })
    }
}
