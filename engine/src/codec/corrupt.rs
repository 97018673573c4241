//! Bytes that are not what their format says.

use std::fmt;

use crate::model::error::{Error, ErrorKind};

/// Which part of which format is wrong, where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The part of the format, for example "postings offset table".
    pub what: &'static str,
    /// Byte within the file or buffer at which it was noticed.
    pub offset: u64,
    /// What is wrong with it, for example "stored checksum 1f0a33c2, computed 9ab0e771".
    pub reason: String,
}

impl Corrupt {
    /// A part called `what` that is wrong at byte `offset` for `reason`.
    pub fn new(what: &'static str, offset: u64, reason: impl Into<String>) -> Self {
        Self { what, offset, reason: reason.into() }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.what, self.offset, self.reason)
    }
}

impl std::error::Error for Corrupt {}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Error::new(ErrorKind::Corrupt, corrupt.to_string())
    }
}
