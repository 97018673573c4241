//! Spools: bytes that are written once from front to back and read again in pieces. The first of them
//! stay in memory; when they are many they go to a file that has no name any more, so that none is left
//! behind, whatever happens.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::model::Error;

/// Bytes that are gathered before they go to the file.
const MEMORY_BYTES: usize = 256 << 10;

/// Bytes in waiting.
#[derive(Debug)]
pub(super) struct Spool {
    /// Where the file is made; without it all bytes stay in memory.
    path: Option<PathBuf>,
    file: Option<File>,
    /// Bytes in the file.
    filed: u64,
    /// The bytes behind them.
    tail: Vec<u8>,
}

impl Spool {
    /// An empty spool whose file, if it comes to one, is made at `path`, where nothing else lies.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, file: None, filed: 0, tail: Vec::new() }
    }

    /// Where bytes are appended; [`Spool::settle`] is to follow now and then.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Moves what was appended out of memory when it is much.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let Some(path) = self.path.as_deref().filter(|_| self.tail.len() >= MEMORY_BYTES) else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(path).map_err(|error| Error::file(path, error))?),
        };
        file.write_all(&self.tail).map_err(|error| Error::file(path, error))?;
        self.filed += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }
}

impl Source for Spool {
    fn len(&self) -> u64 {
        self.filed + self.tail.len() as u64
    }

    fn in_memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.tail)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let from_file = (self.filed.saturating_sub(offset)).min(<[u8]>::len(out) as u64) as usize;
        let (front, back) = out.split_at_mut(from_file);
        if let Some((file, path)) = self.file.as_ref().zip(self.path.as_deref()) {
            file.read_exact_at(front, offset).map_err(|error| Error::file(path, error))?;
        }
        let start = offset.saturating_sub(self.filed) as usize;
        back.copy_from_slice(&self.tail[start..][..<[u8]>::len(back)]);
        Ok(())
    }
}

/// A new file that is gone when it is closed.
fn nameless(path: &Path) -> std::io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::source::Window;
    use super::*;

    #[test]
    fn bytes_come_back_from_memory_and_from_a_file_that_has_no_name() {
        let folder = std::env::temp_dir().join(format!("uru-spool-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for path in [None, Some(folder.join("waiting"))] {
            let mut spool = Spool::new(path);
            let bytes: Vec<u8> = (0..3 * MEMORY_BYTES + 77).map(|at| (at * 31 % 251) as u8).collect();
            for part in bytes.chunks(1000) {
                spool.end().extend_from_slice(part);
                spool.settle().unwrap();
            }
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            assert_eq!(spool.len(), bytes.len() as u64);
            let mut window = Window::new(&spool, "part");
            for (offset, len) in [(0, 10), (2 * MEMORY_BYTES - 3, MEMORY_BYTES), (bytes.len() - 9, 9)] {
                assert_eq!(window.bytes(offset as u64, len).unwrap(), &bytes[offset..offset + len]);
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
