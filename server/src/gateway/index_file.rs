//! The index of a block in a bucket that is a folder: it stays open while the process has not too many files
//! open, and is opened for each read otherwise.

use std::path::PathBuf;

use engine::index::tsdb::{FileSource, Source};
use engine::io::KeptOpen;
use engine::model::Error;

/// An index file.
#[derive(Debug)]
pub(super) struct IndexFile {
    path: PathBuf,
    len: u64,
    kept: Option<(FileSource, KeptOpen)>,
}

impl IndexFile {
    /// Opens the file at `path`, which stays open where there is a right to that.
    pub(super) fn open(path: PathBuf, right: Option<KeptOpen>) -> Result<Self, Error> {
        let file = FileSource::open(&path)?;
        Ok(Self { path, len: file.len(), kept: right.map(|right| (file, right)) })
    }

    /// Bytes of the file when it was opened first.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` with the bytes from `offset` on; the caller has checked that there are so many.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        match &self.kept {
            Some((file, _)) => file.read_at(offset, out),
            None => FileSource::open(&self.path)?.read_at(offset, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that this process has open below `folder`.
    fn open_below(folder: &std::path::Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|file| std::fs::read_link(file.path()).ok()).filter(|path| path.starts_with(folder)).count()
    }

    #[test]
    fn a_file_without_the_right_to_stay_open_is_opened_for_each_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("index");
        std::fs::write(&path, b"some bytes").unwrap();
        for (right, open) in [(None, 0), (Some(KeptOpen::take_beyond()), 1)] {
            let file = IndexFile::open(path.clone(), right).unwrap();
            let mut bytes = [0; 5];
            file.read_at(5, &mut bytes).unwrap();
            assert_eq!((&bytes, file.len()), (b"bytes", 10));
            assert_eq!(open_below(path.parent().unwrap()), open);
        }
        let gone = IndexFile::open(path.clone(), None).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(gone.read_at(0, &mut [0; 5]).unwrap_err().message().contains("index"));
    }
}
