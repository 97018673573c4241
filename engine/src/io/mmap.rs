//! Files mapped into memory, read-only.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::UncheckedAdvice;

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
