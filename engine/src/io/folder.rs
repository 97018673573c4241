//! Folders that are there after a crash of the machine: a synced file is lost with a folder whose name was not synced.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the folder at `path` where it isn't there, and those above it that are missing; the names of all that were
/// made are on disk.
pub fn create(path: &Path) -> io::Result<()> {
    create_by(path, &mut sync)
}

/// Makes the names in the folder at `path` durable.
pub fn sync(path: &Path) -> io::Result<()> {
    // The folder that the process works in may have no name here.
    File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
}

fn create_by(path: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_by(parent, sync)?;
    match fs::create_dir(path) {
        // Somebody else has made it meanwhile.
        Err(_) if path.is_dir() => {}
        made => made?,
    }
    sync(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_folder_is_synced_when_it_was_made_and_so_are_those_above_it() {
        let top = std::env::temp_dir().join(format!("uru-folder-{}", std::process::id()));
        drop(fs::remove_dir_all(&top));
        fs::create_dir(&top).unwrap();
        let mut synced = Vec::new();
        let mut create_noting = |path: &str| {
            let mut note = |folder: &Path| {
                synced.push(folder.to_owned());
                Ok(())
            };
            create_by(&top.join(path), &mut note)
        };
        for path in ["a/b", "a/b", "a/c", ""] {
            create_noting(path).unwrap();
        }
        fs::write(top.join("file"), b"").unwrap();
        assert!(["file", "file/d"].into_iter().all(|path| create_noting(path).is_err()));
        assert_eq!(synced, [top.clone(), top.join("a"), top.join("a")]);
        create(&top.join("d/e")).unwrap();
        assert!(["a/b", "a/c", "d/e"].iter().all(|path| top.join(path).is_dir()));
        fs::remove_dir_all(&top).unwrap();
    }
}
