//! Files that appear whole or not at all: written beside their place, synced unless they can be made
//! anew, then renamed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::folder;

/// Writes the file at `path` by `write`. On failure it is what it was before, and nothing is left behind.
/// What is on disk after a crash of the machine is open: for files that are checked when they are read, and
/// made anew when they are damaged.
pub fn write_unsynced(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    write_beside(path, write)
}

/// What the name of a file ends in that is not whole.
pub const TMP_SUFFIX: &str = ".tmp";

/// Writes the file at `path` by `write`. Until all is on disk, `path` is what it was before; on
/// failure nothing is left behind.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    write_beside(path, |file| {
        write(file)?;
        file.sync_all()
    })?;
    folder::sync(path.parent().unwrap_or(Path::new("")))
}

/// Writes a file beside `path` and moves it there.
fn write_beside(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TMP_SUFFIX);
    let beside = path.with_file_name(name);
    let written = File::create(&beside).and_then(|mut file| {
        write(&mut file)?;
        fs::rename(&beside, path)
    });
    // The write's own error says more than that of a failed removal.
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("uru-replace-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        write_unsynced(&path, |file| file.write_all(b"older")).unwrap();
        write_whole(&path, |file| file.write_all(b"old")).unwrap();
        let half = |file: &mut File| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk is gone"))
        };
        for failed in [write_whole(&path, half), write_unsynced(&path, half)] {
            assert_eq!(failed.unwrap_err().to_string(), "disk is gone");
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
