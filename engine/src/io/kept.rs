//! Files that stay open from one read to the next: only so many of them that there is room for connections.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::raise_open_files_max;

/// Files that stay open, over all blocks.
static KEPT_OPEN: AtomicUsize = AtomicUsize::new(0);

/// Most files that stay open: half of what the process may open.
static KEPT_OPEN_MAX: LazyLock<usize> = LazyLock::new(|| {
    raise_open_files_max().map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX))
});

/// The right to keep a file open, which lies beside the file and ends with it.
#[derive(Debug)]
pub struct KeptOpen(());

impl KeptOpen {
    /// The right to keep one file open; `None` where as many are kept open as may be.
    pub fn take() -> Option<Self> {
        let before = KEPT_OPEN.fetch_add(1, Ordering::Relaxed);
        let taken = Self(());
        (before < *KEPT_OPEN_MAX).then_some(taken)
    }

    /// Files that one read should open beside those, at most: many reads are under way side by side, one for each shard
    /// at least.
    pub fn opened_max() -> usize {
        (*KEPT_OPEN_MAX / 16).max(16)
    }

    /// The right to keep a file open, however many are: for a file that nobody can open later.
    pub fn take_beyond() -> Self {
        KEPT_OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        KEPT_OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
