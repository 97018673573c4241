//! What a long job tells while it runs, and how it is told to stop.

use crate::model::{Error, ErrorKind};

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series written.
    pub series: u64,
    /// Series to write at most: those of all sources together.
    pub series_total: u64,
    /// Bytes of chunks read.
    pub bytes_read: u64,
    /// Bytes of chunks written.
    pub bytes_written: u64,
}

/// Looks at a job from outside.
pub trait Watch: Sync {
    /// Told after each batch of series, on the thread that called.
    fn progress(&self, _now: Progress) {}

    /// Asked before each batch: whether the job is to stop.
    fn is_canceled(&self) -> bool {
        false
    }
}

/// Nobody looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Fails when the job is to stop.
pub(super) fn check(watch: &dyn Watch) -> Result<(), Error> {
    if watch.is_canceled() {
        return Err(Error::new(ErrorKind::Canceled, "the compaction was canceled; nothing of it was made visible"));
    }
    Ok(())
}
