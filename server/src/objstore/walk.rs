//! The files of a bucket that is a folder, as objects. Links are followed, but for those to a folder that they lie
//! in; what can't be read is passed over where it is no block's.

use std::fs::Metadata;
use std::io::{Error as IoError, ErrorKind as IoErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::bucket::name::block_folder;
use engine::model::Error;

use super::bucket::{ObjectInfo, is_staged};

/// Objects that a thread finds before it gives them on.
const BATCH: usize = 1024;

/// A walk through the folders of a bucket.
pub(super) struct Walk {
    bucket: PathBuf,
    /// Folders that are yet to be read.
    folders: Vec<PathBuf>,
}

impl Walk {
    /// A walk through all that lies in the folder `within` of the folder `bucket`; through all of it where that is
    /// empty.
    pub(super) fn new(bucket: &Path, within: &str) -> Self {
        Self { bucket: bucket.to_owned(), folders: vec![bucket.join(within)] }
    }

    /// The next objects; none at the end. Waits for the disk.
    pub(super) fn next_batch(&mut self) -> Result<Vec<ObjectInfo>, Error> {
        let mut found = Vec::new();
        while found.len() < BATCH
            && let Some(folder) = self.folders.pop()
        {
            match self.read(&folder, &mut found) {
                Ok(()) => {}
                // A folder that doesn't exist holds no objects.
                Err((_, error)) if error.kind() == IoErrorKind::NotFound => {}
                Err((path, error)) if self.is_needed(&path) => return Err(Error::file(&path, error)),
                Err((path, error)) => pass_over(&path, &error),
            }
        }
        Ok(found)
    }

    /// Finds the objects in `folder`, and the folders in it; an error comes with what can't be read.
    fn read(&mut self, folder: &Path, found: &mut Vec<ObjectInfo>) -> Result<(), (PathBuf, IoError)> {
        let of_folder = |error| (folder.to_owned(), error);
        for entry in std::fs::read_dir(folder).map_err(of_folder)? {
            let entry = entry.map_err(of_folder)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(of_folder)?;
            if kind.is_dir() {
                self.folders.push(path);
                continue;
            }
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                // A link that leads nowhere, or a file that was deleted meanwhile.
                Err(error) if kind.is_symlink() || error.kind() == IoErrorKind::NotFound => continue,
                Err(error) if self.is_needed(&path) => return Err((path, error)),
                Err(error) => {
                    pass_over(&path, &error);
                    continue;
                }
            };
            if metadata.is_dir() && !self.is_within(folder, &metadata) {
                self.folders.push(path);
            } else if metadata.is_file() {
                found.extend(self.object(&path, &metadata));
            }
        }
        Ok(())
    }

    /// The object that a file is; `None` where it is one in the making, or has a name that no object has.
    fn object(&self, path: &Path, metadata: &Metadata) -> Option<ObjectInfo> {
        if is_staged(path) {
            return None;
        }
        let name = path.strip_prefix(&self.bucket).ok()?.to_str()?.to_owned();
        let modified = metadata.modified().map_or(0, unix_millis);
        Some(ObjectInfo { name, len: metadata.len(), modified })
    }

    /// Whether `folder` is the one that `target` describes, or lies in that.
    fn is_within(&self, folder: &Path, target: &Metadata) -> bool {
        let is_target = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (target.dev(), target.ino()))
        };
        folder.ancestors().take_while(|path| path.starts_with(&self.bucket)).any(is_target)
    }

    /// Whether a listing without what lies at `path` is not whole: the bucket itself, and what is of a block.
    fn is_needed(&self, path: &Path) -> bool {
        let first = path.strip_prefix(&self.bucket).ok().and_then(|inner| inner.components().next());
        first.is_none_or(|first| first.as_os_str().to_str().is_some_and(|name| block_folder(name).is_some()))
    }
}

fn pass_over(path: &Path, error: &IoError) {
    tracing::debug!(path = %path.display(), %error, "passing over what can't be read and is no block's");
}

fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
