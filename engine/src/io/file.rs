//! An open file with its name, so that an error can say where it happened.

use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::model::{Error, ErrorKind};

/// An open file; shared by `Arc`, read at offsets, without a position.
#[derive(Debug)]
pub struct File {
    inner: std::fs::File,
    path: PathBuf,
    len: u64,
}

/// Lets the process hold as many files open as its hard limit allows, and says how many these are.
///
/// Segments stay open once they have been read, and a store of 10,000 blocks has more of them than
/// the 1,024 files that a shell's soft limit grants.
pub fn raise_open_files_max() -> Option<u64> {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current != limits.maximum {
        limits.current = limits.maximum;
        // Where it may not be raised, the limit stays as it is.
        let _ = setrlimit(Resource::Nofile, limits);
    }
    getrlimit(Resource::Nofile).current
}

impl File {
    /// Opens `path` for reading.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        Self::with(path, std::fs::OpenOptions::new().read(true))
    }

    /// Creates `path`, which must not exist, for reading and writing.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        Self::with(path, std::fs::OpenOptions::new().read(true).write(true).create_new(true))
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

    fn with(path: PathBuf, options: &std::fs::OpenOptions) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, format!("{}: cannot open: {error}", path.display()))
        };
        let inner = options.open(&path).map_err(failed)?;
        let len = inner.metadata().map_err(failed)?.len();
        Ok(Self { inner, path, len })
    }
}
