//! `queries.active`: the queries that run, in a file, so that the next start tells which of them ended
//! the process (`--query.active-query-path`).
//!
//! The file is Prometheus': a list in JSON whose end is missing, with a place for every query that may
//! run at once, all of which is allocated at the start. A query keeps its place until it ends; a free place
//! is zeros.
//!
//! ```text
//! 0 1                                                        1000 1001
//! ┌─┬────────────────────────────────────────┬─────────────────┬─┬──────────────┬─┬─
//! │[│{"query":"up","timestamp_sec":1789990000}│ zeros …         │,│ zeros …      │0│ …
//! └─┴────────────────────────────────────────┴─────────────────┴─┴──────────────┴─┴─
//!    1,000 bytes: a query that runs                             1,000 bytes: free
//! ```

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Name of the file in its folder.
const FILE: &str = "queries.active";

/// Bytes of a query's place.
const PLACE_BYTES: usize = 1000;

/// Bytes of a file that are read at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Queries that may run at once where they are in a file, which is read as a whole at the next start.
const PLACES_MAX: usize = (FILE_BYTES_MAX as usize - 1) / PLACE_BYTES;

/// Bytes that one byte of a text becomes in JSON, at most.
const ESCAPED_BYTES_MAX: usize = 6;

/// The queries that run; clones share them.
#[derive(Clone, Debug)]
pub struct ActiveQueries(Arc<Places>);

/// A query in the file, until it is dropped.
#[derive(Debug)]
pub struct Running {
    places: Arc<Places>,
    place: usize,
}

#[derive(Debug)]
struct Places {
    file: File,
    free: Mutex<Vec<usize>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    query: &'a str,
    timestamp_sec: u64,
}

impl ActiveQueries {
    /// A file in `folder` for `max` queries at once; those that another process left there are logged. A disk
    /// that has no room for all of them is an error.
    pub fn open(folder: &Path, max: usize) -> Result<Self, Error> {
        if max > PLACES_MAX {
            let text = format!("--query.max-concurrent is {max}: the file has places for {PLACES_MAX} queries at most");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        std::fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        if let Some(queries) = unfinished(&path) {
            tracing::info!(queries, "these queries did not finish in the last run");
        }
        let mut file = File::create(path)?;
        file.write_all(b"[")?;
        std::io::copy(&mut std::io::repeat(0).take((max * PLACE_BYTES) as u64), &mut file)?;
        file.sync_all()?;
        Ok(Self(Arc::new(Places { file, free: Mutex::new((0..max).rev().collect()) })))
    }

    /// `query` runs from now on; `None` where it can't be written or there is no place. It may wait for the
    /// disk, as the end of the query may.
    pub fn begin(&self, query: &str) -> Option<Running> {
        let place = self.0.free().pop()?;
        // Dropped after a failed write it gives the place back.
        let running = Running { places: Arc::clone(&self.0), place };
        self.0.write(place, &entry(query)).then_some(running)
    }
}

impl Places {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, place: usize, bytes: &[u8; PLACE_BYTES]) -> bool {
        let written = self.file.write_all_at(bytes, (1 + place * PLACE_BYTES) as u64);
        written.inspect_err(|error| tracing::warn!(%error, "the file of active queries can't be written")).is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.places.write(self.place, &[0; PLACE_BYTES]);
        self.places.free().push(self.place);
    }
}

/// The place of `query`, which is cut to fit.
fn entry(query: &str) -> [u8; PLACE_BYTES] {
    let timestamp_sec = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut query = &query[..query.floor_char_boundary(PLACE_BYTES)];
    loop {
        let json = serde_json::to_vec(&Entry { query, timestamp_sec }).expect("texts and numbers are JSON");
        let over = (json.len() + 1).saturating_sub(PLACE_BYTES);
        if over == 0 {
            let mut place = [0; PLACE_BYTES];
            place[..json.len()].copy_from_slice(&json);
            place[PLACE_BYTES - 1] = b',';
            return place;
        }
        query = &query[..query.floor_char_boundary(query.len() - over.div_ceil(ESCAPED_BYTES_MAX))];
    }
}

/// The queries in the file at `path`, as a list in JSON; `None` where there are none.
fn unfinished(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    bytes.retain(|byte| *byte != 0);
    let text = String::from_utf8_lossy(&bytes);
    let queries = text.strip_prefix('[')?.trim_end_matches(',');
    (!queries.is_empty()).then(|| format!("[{queries}]"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn listed(folder: &Path) -> Vec<String> {
        let list = unfinished(&folder.join(FILE)).unwrap_or_else(|| "[]".to_owned());
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list.as_array().unwrap().iter().map(|entry| entry["query"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_file_holds_the_queries_that_run_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let active = ActiveQueries::open(folder.path(), 2).unwrap();
        let path = folder.path().join(FILE);
        let file = std::fs::metadata(&path).unwrap();
        assert!(file.len() == 2001 && file.blocks() * 512 >= 2001, "{} blocks", file.blocks());
        let first = active.begin("up").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"[{\"query\":\"up\",\"timestamp_sec\":") && bytes[1000] == b',');
        let second = active.begin("rate(a[5m])").unwrap();
        assert!(active.begin("no place").is_none());
        assert_eq!(listed(folder.path()), ["up", "rate(a[5m])"]);
        drop(first);
        assert_eq!(listed(folder.path()), ["rate(a[5m])"]);
        let third = active.begin("b").unwrap();
        assert_eq!(listed(folder.path()), ["b", "rate(a[5m])"]);
        drop((second, third));
        assert_eq!(unfinished(&path), None);
    }

    #[test]
    fn a_start_forgets_what_another_process_left() {
        let folder = tempfile::tempdir().unwrap();
        std::mem::forget(ActiveQueries::open(folder.path(), 20).unwrap().begin("killer"));
        assert_eq!(listed(folder.path()), ["killer"]);
        ActiveQueries::open(folder.path(), 1).unwrap();
        assert_eq!(listed(folder.path()), [""; 0]);
        std::fs::write(folder.path().join(FILE), b"\xff no list").unwrap();
        assert!(ActiveQueries::open(folder.path(), 1).is_ok());
    }

    #[test]
    fn more_queries_at_once_than_the_file_has_places_for_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = ActiveQueries::open(folder.path(), usize::MAX).unwrap_err().to_string();
        assert!(error.contains("--query.max-concurrent") && error.contains("67108"), "{error}");
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn long_queries_are_cut_where_a_character_ends() {
        let folder = tempfile::tempdir().unwrap();
        let active = ActiveQueries::open(folder.path(), 1).unwrap();
        for piece in ["a", "ä", "\u{1}", "\"", "😀", "a\u{1}ä"] {
            let query = piece.repeat(2000);
            let running = active.begin(&query).unwrap();
            let found = listed(folder.path()).remove(0);
            assert!(query.starts_with(&found) && found.len() >= 100, "{piece:?}: {found}");
            drop(running);
        }
    }
}
