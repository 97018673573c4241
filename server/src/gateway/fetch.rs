//! Bytes of blocks that are not local: ranges of objects, several at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::block::{BlockSet, ChunkSource};
use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error};
use engine::select::{Fetched, Freshness, RemoteRange};
use engine::shard::{Fetcher, Fetching};
use futures_util::{StreamExt, stream};

use crate::objstore::cache::{RangeRead, Ranges, Wanted};

/// Ranges of one request that are fetched at once.
const CONCURRENCY: usize = 32;

/// Fetches ranges of segments from a bucket for one request.
#[derive(Clone)]
pub struct BucketFetcher {
    ranges: Ranges,
    blocks: Arc<BlockSet>,
    /// Blocks of which a read has failed, and how: each has been tried often enough, and a request that
    /// tried again for every range would wait as often.
    failed: Arc<Mutex<BTreeMap<BlockId, Error>>>,
}

impl Fetcher for BucketFetcher {
    fn fetch(&self, ranges: Vec<RemoteRange>) -> Fetching {
        let fetcher = self.clone();
        Box::pin(async move {
            let each = ranges.into_iter().map(|range| fetcher.fetch_one(range));
            stream::iter(each).buffered(CONCURRENCY).collect().await
        })
    }
}

impl BucketFetcher {
    /// Fetches from `ranges` for a request about `blocks`.
    pub fn new(ranges: Ranges, blocks: Arc<BlockSet>) -> Self {
        Self { ranges, blocks, failed: Arc::default() }
    }

    async fn fetch_one(&self, range: RemoteRange) -> Fetched {
        let name = ObjectName { block: range.block, object: BlockObject::Segment(range.segment) };
        if let Some(error) = self.failed().get(&range.block) {
            return Fetched { bytes: Err(error.clone()), downloaded_bytes: 0, downloads: 0, moment: 0 };
        }
        let segment_len = self.segment_len(&range);
        // A range that was guessed may reach past the end of its object.
        let end = range.offset.saturating_add(range.len).min(segment_len);
        let wanted = match range.freshness {
            Freshness::Kept => Wanted::Last,
            Freshness::After(moment) => Wanted::After(moment),
        };
        match self.ranges.read(name, segment_len, (range.offset..end, wanted)).await {
            Ok(RangeRead { bytes, downloaded_bytes, downloads, moment }) => {
                Fetched { bytes: Ok(bytes), downloaded_bytes, downloads, moment }
            }
            Err(error) => {
                self.failed().entry(range.block).or_insert_with(|| error.clone());
                Fetched { bytes: Err(error), downloaded_bytes: 0, downloads: 1, moment: 0 }
            }
        }
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, BTreeMap<BlockId, Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment_len(&self, range: &RemoteRange) -> u64 {
        match self.blocks.get(range.block).map(|block| block.chunks()) {
            Some(ChunkSource::Remote(lengths)) => lengths.get(range.segment as usize).copied().unwrap_or(0),
            _ => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::objstore::Bucket;

    #[test]
    fn a_block_that_could_not_be_read_is_not_asked_for_again_by_the_same_request() {
        let bucket = Bucket::over(Arc::new(InMemory::new()), "empty", &mut Registry::default());
        let fetcher = BucketFetcher::new(Ranges::direct(bucket), Arc::new(BlockSet::new(Vec::new())));
        let block = |number| BlockId::from_parts(1, number);
        let range = |block| RemoteRange { block, segment: 0, offset: 0, len: 10, freshness: Freshness::Kept };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let asked: Vec<u64> = [block(1), block(1), block(2)]
            .map(|block| runtime.block_on(fetcher.fetch(vec![range(block)])).remove(0))
            .map(|fetched| (fetched.bytes.unwrap_err(), fetched.downloads).1)
            .to_vec();
        assert_eq!(asked, [1, 0, 1]);
    }
}
