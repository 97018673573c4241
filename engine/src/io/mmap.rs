//! Files mapped into memory, read-only: only so many of them that the process has mappings left for its memory, and
//! none that are small. Whoever has many files reads the others.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::UncheckedAdvice;

/// Bytes up to which a file is small: a mapping of it would take about as much memory, and one of the few mappings that
/// a process may have.
const SMALL_BYTES: u64 = 16 << 10;

/// Mappings that a process may have where the kernel doesn't say.
const MAPPINGS: usize = 65_530;

/// Where the kernel says how many mappings a process may have.
const MAPPINGS_FILE: &str = "/proc/sys/vm/max_map_count";

/// Files that are mapped now.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Most files that are mapped where they may be read as well: half of what the process may have. Threads and the
/// allocator have the rest, and the process ends when they get none.
static MAPPED_MAX: LazyLock<usize> = LazyLock::new(|| {
    let told = std::fs::read_to_string(MAPPINGS_FILE).ok().and_then(|text| text.trim().parse().ok());
    told.unwrap_or(MAPPINGS) / 2
});

/// Whether there were ever as many.
static WAS_USED_UP: AtomicBool = AtomicBool::new(false);

/// Whether a file of `bytes` bytes is to be mapped; otherwise it is better read.
pub fn suits(bytes: u64) -> bool {
    suits_beside(bytes, (MAPPED.load(Ordering::Relaxed), *MAPPED_MAX), &WAS_USED_UP)
}

/// Most files that are mapped, once there were as many and others were read.
pub fn used_up() -> Option<usize> {
    WAS_USED_UP.load(Ordering::Relaxed).then(|| *MAPPED_MAX)
}

fn suits_beside(bytes: u64, (mapped, max): (usize, usize), was_used_up: &AtomicBool) -> bool {
    let is_large = bytes > SMALL_BYTES;
    if is_large && mapped >= max {
        was_used_up.store(true, Ordering::Relaxed);
    }
    is_large && mapped < max
}

/// A whole file as bytes. The file must not be made shorter while it is mapped: uru only maps files
/// of its own data folder, which it replaces and never edits.
#[derive(Debug)]
pub struct Mmap(memmap2::Mmap);

impl Mmap {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: files that uru maps are replaced by renaming and never edited in place, as the
        // type's documentation demands.
        let mapped = unsafe { memmap2::Mmap::map(&file)? };
        MAPPED.fetch_add(1, Ordering::Relaxed);
        Ok(Self(mapped))
    }

    /// Lets go of the pages that were read so far; those that are wanted come from the file again.
    pub fn release(&self) {
        // SAFETY: the pages are a file's, mapped shared and never written to, so that what is read of them
        // afterwards is what the file holds, as before.
        let released = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // A kernel that keeps them keeps the same bytes.
        drop(released);
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        MAPPED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Mmap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receivers of many tenants, each with blocks of a few series, mapped a file for each until the kernel gave no
    /// mapping any more and the allocator ended the process.
    #[test]
    fn small_files_and_those_beyond_half_of_the_mappings_are_read() {
        let was_used_up = AtomicBool::new(false);
        assert!(!suits_beside(SMALL_BYTES, (0, 2), &was_used_up));
        assert!(!suits_beside(SMALL_BYTES, (2, 2), &was_used_up));
        assert!(suits_beside(SMALL_BYTES + 1, (1, 2), &was_used_up));
        assert!(!was_used_up.load(Ordering::Relaxed), "nothing was read for want of mappings");
        assert!(!suits_beside(SMALL_BYTES + 1, (2, 2), &was_used_up));
        assert!(was_used_up.load(Ordering::Relaxed));
        assert!(*MAPPED_MAX > 0);
    }
}
