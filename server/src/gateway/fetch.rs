//! Bytes of blocks that are not local: ranges of objects, several at once.
//!
//! ```text
//! ranges    ▪▪   ▪     ▪ ▪  │ ▪                 ▪      ▪
//! pages     ├────┼────┼────┼────┤             ├────┼────┤
//! reads     └──────── one ──────┘             └── one ──┘
//! ```
//! A page comes whole, whatever is wanted of it: ranges in pages next to each other are read at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use engine::block::{BlockSet, ChunkSource};
use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error};
use engine::select::{Fetched, Freshness, RemoteRange};
use engine::shard::{Fetcher, Fetching};
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use crate::objstore::cache::ranges::alone;
use crate::objstore::cache::{RangeRead, Ranges, Wanted};

/// Ranges of one request that are fetched at once.
const CONCURRENCY: usize = 32;

/// Bytes of ranges that are read together, with what lies between them, at most.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// As many ranges as those that are read together count for, at most, when they are [`TOGETHER_BYTES_MAX`] long: until
/// each has its part, all between them is held.
const TOGETHER_WEIGHT: u64 = 8;

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
            let (room, page_bytes) = (Semaphore::new(CONCURRENCY), fetcher.ranges.page_bytes());
            let each = groups(&ranges, page_bytes).into_iter().map(|group| fetcher.fetch_group(&ranges[group], &room));
            let groups: Vec<Vec<Fetched>> = stream::iter(each).buffered(CONCURRENCY).collect().await;
            groups.into_iter().flatten().collect()
        })
    }
}

impl BucketFetcher {
    /// Fetches from `ranges` for a request about `blocks`.
    pub fn new(ranges: Ranges, blocks: Arc<BlockSet>) -> Self {
        Self { ranges, blocks, failed: Arc::default() }
    }

    /// The same for a part of the request that is about `blocks`: what has failed for another part is not tried again.
    pub fn about(&self, blocks: Arc<BlockSet>) -> Self {
        Self { blocks, ..self.clone() }
    }

    /// Fetches ranges of one object in one read, and cuts that.
    async fn fetch_group(&self, ranges: &[RemoteRange], room: &Semaphore) -> Vec<Fetched> {
        let [first, rest @ ..] = ranges else { return Vec::new() };
        let Some(last) = rest.last() else {
            // It is never closed.
            let _held = room.acquire().await;
            return vec![self.fetch_one(first.clone()).await];
        };
        let len = last.offset.saturating_add(last.len) - first.offset;
        let weight = (len * TOGETHER_WEIGHT / TOGETHER_BYTES_MAX).clamp(1, TOGETHER_WEIGHT);
        let _held = room.acquire_many(weight as u32).await;
        let whole = self.fetch_one(RemoteRange { len, ..first.clone() }).await;
        let share = whole.downloaded_bytes / ranges.len() as u64;
        let mut parts: Vec<Fetched> = ranges
            .iter()
            .map(|range| Fetched {
                bytes: whole.bytes.clone().map(|bytes| {
                    let start = bytes.len().min((range.offset - first.offset) as usize);
                    let end = bytes.len().min(start.saturating_add(range.len as usize));
                    alone(bytes.slice(start..end), bytes.len())
                }),
                downloaded_bytes: share,
                downloads: 0,
                moment: whole.moment,
            })
            .collect();
        // The requests are the first one's, and what can't be shared.
        parts[0].downloads = whole.downloads;
        parts[0].downloaded_bytes += whole.downloaded_bytes % ranges.len() as u64;
        parts
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

/// Which of `ranges`, that follow each other, are read together; each by itself where pages are not known.
fn groups(ranges: &[RemoteRange], page_bytes: Option<u64>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for at in 0..ranges.len() {
        let joins = |group: &Range<usize>, page_bytes: u64| {
            let (first, last, next) = (&ranges[group.start], &ranges[at - 1], &ranges[at]);
            let end = last.offset.saturating_add(last.len);
            (last.block, last.segment) == (next.block, next.segment)
                // What came damaged is asked for by itself.
                && [first, next].iter().all(|range| range.freshness == Freshness::Kept)
                && end <= next.offset
                && next.offset / page_bytes <= end.saturating_sub(1) / page_bytes + 1
                && next.offset.saturating_add(next.len) - first.offset <= TOGETHER_BYTES_MAX
        };
        match (groups.last_mut(), page_bytes) {
            (Some(group), Some(page_bytes)) if joins(group, page_bytes) => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use engine::model::Budget;
    use object_store::memory::InMemory;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::objstore::Bucket;
    use crate::objstore::cache::{CacheConfig, PageCache};
    use crate::telemetry::metrics::render;

    const PAGE: u64 = 1024;

    fn range((block, segment): (u128, u32), offset: u64, len: u64) -> RemoteRange {
        RemoteRange { block: BlockId::from_parts(1, block), segment, offset, len, freshness: Freshness::Kept }
    }

    #[test]
    fn ranges_of_one_object_in_pages_next_to_each_other_are_read_together_up_to_a_bound() {
        let object = (1, 0);
        let damaged = RemoteRange { freshness: Freshness::After(1), ..range(object, 2 * PAGE, 10) };
        for (ranges, expected) in [
            (vec![], 0),
            (vec![range(object, 0, 10), range(object, 900, 10), range(object, 2 * PAGE - 1, 10)], 1),
            (vec![range(object, 0, 10), range(object, 2 * PAGE, 10)], 2),
            (vec![range(object, 0, PAGE), range(object, PAGE, 10)], 1),
            (vec![range(object, 0, 10), range((1, 1), 20, 10), range((2, 1), 30, 10)], 3),
            (vec![range(object, 2 * PAGE, 10), range(object, 0, 10)], 2),
            (vec![range(object, PAGE, 10), damaged, range(object, 3 * PAGE, 10)], 3),
            ((0..2048).map(|page| range(object, page * PAGE, PAGE / 2)).collect(), 2),
        ] {
            let found = groups(&ranges, Some(PAGE));
            assert_eq!(found.len(), expected, "{ranges:?}");
            assert!(found.into_iter().flatten().eq(0..ranges.len()));
            assert_eq!(groups(&ranges, None).len(), ranges.len());
        }
    }

    #[test]
    fn many_small_ranges_in_adjacent_pages_are_few_requests_and_their_own_bytes() {
        let (memory, registry) = (Arc::new(InMemory::new()), &mut Registry::default());
        let bucket = Bucket::over(memory, "memory", registry);
        let bytes: Vec<u8> = (0..100 * PAGE).map(|at| (at / 7) as u8).collect();
        let config = CacheConfig { memory_bytes: 1 << 20, page_bytes: PAGE, item_bytes_max: PAGE, ..CacheConfig::NONE };
        let budget = Budget::new("--store.memory-limit", 64 << 20);
        let cache = PageCache::open(&config, Path::new("none"), &budget, registry).unwrap();
        let fetcher = BucketFetcher::new(Ranges::direct(bucket.clone()).through(cache, 3), Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let name = ObjectName { block: BlockId::from_parts(1, 1), object: BlockObject::Segment(0) };
        runtime.block_on(bucket.upload(&name.to_string(), bytes.clone().into())).unwrap();
        // All but one page.
        let pages = (0..100).filter(|page| *page != 50);
        let ranges: Vec<RemoteRange> = pages.map(|page| range((1, 0), page * PAGE + 100, 20)).collect();
        for expected in [(2, 99 * PAGE), (0, 0)] {
            let fetched = runtime.block_on(fetcher.fetch(ranges.clone()));
            let sum = |count: fn(&Fetched) -> u64| fetched.iter().map(count).sum::<u64>();
            assert_eq!((sum(|part| part.downloads), sum(|part| part.downloaded_bytes)), expected);
            for (range, part) in ranges.iter().zip(&fetched) {
                let start = range.offset as usize;
                assert_eq!(part.bytes.as_ref().unwrap(), &bytes[start..start + 20]);
            }
        }
        let text = render(registry, "").1;
        assert!(
            text.contains("thanos_objstore_bucket_operations_total{bucket=\"memory\",operation=\"get_range\"} 2"),
            "{text}"
        );
    }

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
