//! Bytes of blocks that are not local: ranges of objects, several at once.

use std::sync::Arc;

use engine::block::{BlockSet, ChunkSource};
use engine::bucket::{BlockObject, ObjectName};
use engine::select::{Fetched, RemoteRange};
use engine::shard::{Fetcher, Fetching};
use futures_util::{StreamExt, stream};

use crate::objstore::cache::{RangeRead, Ranges};

/// Ranges of one request that are fetched at once.
const CONCURRENCY: usize = 32;

/// Fetches ranges of segments from a bucket.
#[derive(Clone)]
pub struct BucketFetcher {
    /// Where the segments are.
    pub ranges: Ranges,
    /// The blocks that requests are about.
    pub blocks: Arc<BlockSet>,
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
    async fn fetch_one(&self, range: RemoteRange) -> Fetched {
        let name = ObjectName { block: range.block, object: BlockObject::Segment(range.segment) };
        let segment_len = self.segment_len(&range);
        // A range that was guessed may reach past the end of its object.
        let end = range.offset.saturating_add(range.len).min(segment_len);
        match self.ranges.read(name, segment_len, range.offset..end).await {
            Ok(RangeRead { bytes, downloaded_bytes, downloads }) => {
                Fetched { bytes: Ok(bytes), downloaded_bytes, downloads }
            }
            Err(error) => Fetched { bytes: Err(error), downloaded_bytes: 0, downloads: 1 },
        }
    }

    fn segment_len(&self, range: &RemoteRange) -> u64 {
        match self.blocks.get(range.block).map(|block| block.chunks()) {
            Some(ChunkSource::Remote(lengths)) => lengths.get(range.segment as usize).copied().unwrap_or(0),
            _ => u64::MAX,
        }
    }
}
