//! Bytes of blocks that are not local: ranges of objects, several at once.

use std::sync::Arc;

use bytes::Bytes;
use engine::block::{BlockSet, ChunkSource};
use engine::bucket::{BlockObject, ObjectName};
use engine::model::Error;
use engine::select::RemoteRange;
use engine::shard::{Fetcher, Fetching};
use futures_util::{StreamExt, stream};

use crate::objstore::Bucket;

/// Ranges of one request that are fetched at once.
const CONCURRENCY: usize = 32;

/// Fetches ranges of segments from a bucket.
#[derive(Clone)]
pub struct BucketFetcher {
    /// Where the segments are.
    pub bucket: Bucket,
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
    async fn fetch_one(&self, range: RemoteRange) -> Result<Bytes, Error> {
        let name = ObjectName { block: range.block, object: BlockObject::Segment(range.segment) }.to_string();
        // A range that was guessed may reach past the end of its object.
        let end = range.offset.saturating_add(range.len).min(self.segment_len(&range));
        if end <= range.offset {
            return Ok(Bytes::new());
        }
        self.bucket.get_range(&name, range.offset..end).await
    }

    fn segment_len(&self, range: &RemoteRange) -> u64 {
        match self.blocks.get(range.block).map(|block| block.chunks()) {
            Some(ChunkSource::Remote(lengths)) => lengths.get(range.segment as usize).copied().unwrap_or(0),
            _ => u64::MAX,
        }
    }
}
