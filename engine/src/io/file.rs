//! An open file with its name, so that an error can say where it happened.

use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use crate::model::{Error, ErrorKind};

/// An open file; shared by `Arc`, read at offsets, without a position.
#[derive(Debug)]
pub struct File {
    inner: std::fs::File,
    path: PathBuf,
    len: u64,
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
