//! Memory for building column indexes. Who builds one holds all symbols of the index, and the columns in the making:
//! where these are large they are counted before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::index::tsdb::Toc;
use engine::index::tsdb::toc::TOC_LEN;
use engine::model::{Budget, Error, ErrorKind, Reservation};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

use crate::objstore::Bucket;

/// Bytes of an index from which on its build is counted: smaller ones fit into what is kept free for what is not.
const COUNTED_INDEX_BYTES_MIN: u64 = 4 << 20;

/// The share of the memory of requests that all builds together may have: requests have the other half.
const SHARE: u64 = 2;

/// Parts in which this share is given out.
const PARTS: u64 = 64;

/// Time between two tries to get what a build takes: it waits in no queue, as requests would wait behind it.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest time that a build waits for memory before it is put off to a later sync.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What builds of column indexes share.
pub(super) struct BuildRoom {
    memory: Arc<Budget>,
    bytes_max: u64,
    parts: Semaphore,
    wait_max: Duration,
}

/// What a build holds until it is done.
pub(super) type Held<'r> = (Option<SemaphorePermit<'r>>, Reservation);

impl BuildRoom {
    /// Room within `memory`, of which all that is held for good is taken by now.
    pub fn new(memory: &Arc<Budget>) -> Self {
        let bytes_max = memory.spare() / SHARE;
        let parts = Semaphore::new(PARTS as usize);
        Self { memory: Arc::clone(memory), bytes_max, parts, wait_max: WAIT_MAX }
    }

    /// Bytes that building the column index of `object`, an index of `len` bytes, takes, about; 0 where they are not
    /// counted. Limit where there is never so much.
    pub async fn needed(&self, bucket: &Bucket, (object, len): (&str, u64)) -> Result<u64, Error> {
        if len < COUNTED_INDEX_BYTES_MIN {
            return Ok(0);
        }
        let start = len - TOC_LEN as u64;
        // What can't be read or is damaged is told by the build.
        let Ok(bytes) = bucket.get_range(object, start..len).await else { return Ok(0) };
        let needed = Toc::decode(&bytes, start).map_or(0, |toc| build_bytes(&toc, len));
        if needed > self.bytes_max {
            let most = self.bytes_max;
            let message = format!("building its column index takes about {needed} bytes, {most} are for that");
            return Err(self.memory.refuse(message));
        }
        Ok(needed)
    }

    /// Waits for `bytes`, as [`BuildRoom::needed`] tells them; Unavailable when they are not there in time.
    pub async fn take(&self, bytes: u64) -> Result<Option<Held<'_>>, Error> {
        if bytes == 0 {
            return Ok(None);
        }
        let parts = (bytes * PARTS).div_ceil(self.bytes_max.max(1)).min(PARTS);
        // It is never closed.
        let permit = self.parts.acquire_many(parts as u32).await.ok();
        let (mut held, begin) = (self.memory.reserve(0)?, Instant::now());
        while !held.try_grow(bytes) {
            if begin.elapsed() >= self.wait_max {
                let message = format!("building its column index takes {bytes} bytes, which requests have");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            sleep(PAUSE).await;
        }
        Ok(Some((permit, held)))
    }
}

/// Bytes that building the column index of an index of `len` bytes takes, about: the symbols as they are read and again
/// as they are kept, or as they are kept and in the sections of their label, and columns of what the series refer to.
fn build_bytes(toc: &Toc, len: u64) -> u64 {
    let parts = [toc.series, toc.label_indices, toc.postings, toc.label_offset_table, toc.postings_offset_table];
    let symbols_end = parts.into_iter().filter(|part| *part > toc.symbols).min().unwrap_or(len).min(len);
    let symbols = symbols_end.saturating_sub(toc.symbols);
    let series = toc.series_end(len).saturating_sub(toc.series);
    symbols * 5 / 2 + series / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_takes_is_mostly_symbols() {
        let toc = Toc {
            symbols: 5,
            series: 405,
            label_indices: 505,
            label_offset_table: 0,
            postings: 505,
            postings_offset_table: 800,
        };
        assert_eq!(build_bytes(&toc, 1000), 1000 + 50);
        assert_eq!(build_bytes(&Toc::default(), 1000), 2500);
    }

    #[test]
    fn builds_wait_for_each_other_and_for_requests_and_not_for_ever() {
        let memory = Budget::new("--store.memory-limit", 1000);
        let room = BuildRoom { wait_max: Duration::from_millis(300), ..BuildRoom::new(&memory) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(room.take(0).await.unwrap().is_none());
            let first = room.take(300).await.unwrap();
            assert_eq!(memory.usage().used, 300);
            let second = room.take(300);
            assert!(tokio::time::timeout(Duration::from_millis(20), second).await.is_err());
            drop(first);
            let requests = memory.reserve(800).unwrap();
            let error = room.take(300).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            drop(requests);
            assert!(room.take(300).await.unwrap().is_some());
        });
        assert_eq!((memory.usage().used, memory.usage().refused), (0, 0));
    }
}
