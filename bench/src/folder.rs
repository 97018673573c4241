//! Folders for the files of a bench.

use std::path::{Path, PathBuf};

/// A folder among temporary files, gone with this.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one for the bench `name` of this process.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uru-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files can be made");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of the file `name` in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the folder of temporary files does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
