//! Ranges of objects, made of pages that are cached and of requests for those that are not.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::bucket::ObjectName;
use engine::model::{Error, ErrorKind};
use futures_util::future::try_join_all;

use super::metrics::RangeTally;
use super::pages::{PageCache, PageKey};
use crate::objstore::Bucket;

/// Reads ranges of a bucket's objects, through a cache where there is one; clones share it.
#[derive(Clone, Debug)]
pub struct Ranges {
    bucket: Bucket,
    cache: Option<Arc<PageCache>>,
    requests_max: usize,
}

/// A range that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRead {
    /// Its bytes.
    pub bytes: Bytes,
    /// Bytes that the bucket was asked for.
    pub downloaded_bytes: u64,
    /// Requests to the bucket.
    pub downloads: u64,
}

impl Ranges {
    /// Ranges of `bucket`'s objects, of which nothing is kept.
    pub fn direct(bucket: Bucket) -> Self {
        Self { bucket, cache: None, requests_max: 0 }
    }

    /// The same through `cache`, with at most `requests_max` requests for one range; 0: any number.
    pub fn through(self, cache: Option<Arc<PageCache>>, requests_max: usize) -> Self {
        Self { cache, requests_max, ..self }
    }

    /// Waits until what is kept is on disk. Not to be called where futures are run.
    pub fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.close();
        }
    }

    /// The bytes `range` of an object that has `object_len` bytes.
    pub async fn read(&self, name: ObjectName, object_len: u64, range: Range<u64>) -> Result<RangeRead, Error> {
        if range.start >= range.end {
            return Ok(RangeRead::default());
        }
        let Some(cache) = self.cache.as_ref().filter(|_| range.end <= object_len) else {
            let downloaded_bytes = range.end - range.start;
            let bytes = self.bucket.get_range(&name.to_string(), range).await?;
            return Ok(RangeRead { bytes, downloaded_bytes, downloads: 1 });
        };
        let page_bytes = u64::from(cache.page_bytes());
        let first = range.start / page_bytes;
        let keys: Vec<PageKey> = (first..=(range.end - 1) / page_bytes)
            .map(|page| PageKey {
                block: name.block,
                object: name.object,
                object_len,
                page_bytes: cache.page_bytes(),
                page: page as u32,
            })
            .collect();
        let mut pages = cache.get(&keys).await;
        let runs = missing_runs(&pages, self.requests_max);
        let place = |at: usize| (first + at as u64) * page_bytes;
        let requests = runs.iter().map(|run| {
            let wanted = place(run.start)..place(run.end).min(object_len);
            async move { self.bucket.get_range(&name.to_string(), wanted).await }
        });
        let fetched = try_join_all(requests).await?;
        let mut tally = RangeTally {
            pages: keys.len() as u64,
            hits: pages.iter().flatten().count() as u64,
            requested_bytes: range.end - range.start,
            cached_bytes: pages.iter().flatten().map(|page| page.len() as u64).sum(),
            downloaded_bytes: fetched.iter().map(|bytes| bytes.len() as u64).sum(),
            refetched_bytes: 0,
        };
        for (run, bytes) in runs.iter().zip(&fetched) {
            for at in run.clone() {
                let start = (place(at) - place(run.start)) as usize;
                let page = bytes.slice(start..start + keys[at].page_len() as usize);
                match &pages[at] {
                    Some(kept) => tally.refetched_bytes += kept.len() as u64,
                    None => cache.insert(keys[at], &page),
                }
                pages[at] = Some(page);
            }
        }
        cache.metrics.range_read(name.object, &tally);
        let offset = (range.start - first * page_bytes) as usize;
        let bytes = match (&runs[..], &fetched[..]) {
            ([run], [whole]) if run.len() == keys.len() => whole.clone(),
            _ => join(&pages)?,
        };
        let bytes = bytes.slice(offset..offset + (range.end - range.start) as usize);
        Ok(RangeRead { bytes, downloaded_bytes: tally.downloaded_bytes, downloads: runs.len() as u64 })
    }
}

/// The pages one after the other.
fn join(pages: &[Option<Bytes>]) -> Result<Bytes, Error> {
    if let [Some(only)] = pages {
        return Ok(only.clone());
    }
    let mut joined = BytesMut::with_capacity(pages.iter().flatten().map(Bytes::len).sum());
    for page in pages {
        let missing = || Error::new(ErrorKind::Bug, "a page is neither cached nor was it read");
        joined.extend_from_slice(page.as_ref().ok_or_else(missing)?);
    }
    Ok(joined.freeze())
}

/// Runs of pages that are to be read: those that are missing, and what lies between them where there
/// would be more than `max` runs (0: any number), the shortest gaps first.
fn missing_runs<T>(pages: &[Option<T>], max: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in (0..pages.len()).filter(|at| pages[*at].is_none()) {
        match runs.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    while max > 0 && runs.len() > max {
        let gap = |at: &usize| runs[at + 1].start - runs[*at].end;
        let Some(at) = (0..runs.len() - 1).min_by_key(gap) else { break };
        runs[at].end = runs[at + 1].end;
        runs.remove(at + 1);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_read_in_as_few_requests_as_are_allowed() {
        let pages = |text: &str| -> Vec<Option<()>> { text.chars().map(|c| (c == 'x').then_some(())).collect() };
        assert!(missing_runs(&pages("xxx"), 0).is_empty());
        assert_eq!(missing_runs(&pages(".x..xxx."), 0), [0..1, 2..4, 7..8]);
        assert_eq!(missing_runs(&pages(".x..xxx."), 2), [0..4, 7..8]);
        let whole = missing_runs(&pages(".x..xxx."), 1);
        assert!(whole.len() == 1 && whole[0] == (0..8), "{whole:?}");
    }
}
