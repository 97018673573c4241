//! Ranges of objects, made of pages that are cached and of requests for those that are not.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::bucket::ObjectName;
use engine::model::{Error, ErrorKind};
use futures_util::future::try_join_all;

use super::flights::{Flight, Flights};
use super::metrics::RangeTally;
use super::pages::{PageCache, PageKey, Wanted};
use crate::objstore::Bucket;

/// Reads ranges of a bucket's objects, through a cache where there is one; clones share it.
#[derive(Clone, Debug)]
pub struct Ranges {
    bucket: Bucket,
    cache: Option<Arc<PageCache>>,
    requests_max: usize,
    flights: Arc<Flights>,
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
    /// When its pages were looked for, for [`Wanted::After`] should they be damaged.
    pub moment: u64,
}

impl Ranges {
    /// Ranges of `bucket`'s objects, of which nothing is kept.
    pub fn direct(bucket: Bucket) -> Self {
        Self { bucket, cache: None, requests_max: 0, flights: Arc::default() }
    }

    /// The same through `cache`, with at most `requests_max` requests for one range; 0: any number.
    pub fn through(self, cache: Option<Arc<PageCache>>, requests_max: usize) -> Self {
        Self { cache, requests_max, ..self }
    }

    /// Length in bytes of what is read at least, where there is a cache.
    pub fn page_bytes(&self) -> Option<u64> {
        self.cache.as_ref().map(|cache| u64::from(cache.page_bytes()))
    }

    /// Now, for [`Wanted::After`].
    pub fn moment(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.moment())
    }

    /// Waits until what is kept is on disk. Not to be called where futures are run.
    pub fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.close();
        }
    }

    /// The bytes `range` of an object that has `object_len` bytes, of pages as they are wanted.
    pub async fn read(
        &self,
        name: ObjectName,
        object_len: u64,
        (range, wanted): (Range<u64>, Wanted),
    ) -> Result<RangeRead, Error> {
        if range.start >= range.end {
            return Ok(RangeRead::default());
        }
        let Some(cache) = self.cache.as_ref().filter(|_| range.end <= object_len) else {
            let downloaded_bytes = range.end - range.start;
            let bytes = self.bucket.get_range(&name.to_string(), range).await?;
            return Ok(RangeRead { bytes, downloaded_bytes, downloads: 1, moment: 0 });
        };
        let page_bytes = u64::from(cache.page_bytes());
        let first = range.start / page_bytes;
        let moment = cache.moment();
        let keys = page_keys(cache, (name, object_len), first..=(range.end - 1) / page_bytes, wanted);
        let mut pages = cache.get(&keys).await;
        let claim = self.claim(cache, name, (&keys, &mut pages));
        let mut tally = RangeTally {
            pages: keys.len() as u64,
            hits: (pages.iter().flatten().count() + claim.joined.len()) as u64,
            requested_bytes: range.end - range.start,
            cached_bytes: pages.iter().flatten().map(|page| page.len() as u64).sum(),
            downloaded_bytes: 0,
            refetched_bytes: 0,
        };
        let own = claim.own;
        let mut downloads = own.len() as u64;
        let fetched = try_join_all(own.iter().map(|(_, flight)| flight.arrived())).await?;
        for ((run, flight), bytes) in own.iter().zip(&fetched) {
            tally.downloaded_bytes += bytes.len() as u64;
            for at in run.clone() {
                tally.refetched_bytes += pages[at].as_ref().map_or(0, |kept| kept.len() as u64);
                pages[at] = flight.page(bytes, &keys[at]);
            }
        }
        for (at, flight) in &claim.joined {
            let arrived = flight.arrived().await.ok();
            let page = arrived.and_then(|bytes| Some(alone(flight.page(&bytes, &keys[*at])?, bytes.len())));
            tally.cached_bytes += page.as_ref().map_or(0, |page| page.len() as u64);
            pages[*at] = page;
        }
        // Those whose first reader has failed.
        for run in missing_runs(&pages, 0) {
            let bytes = fetch(self.bucket.clone(), Arc::clone(cache), name, keys[run.clone()].to_vec()).await?;
            (downloads, tally.downloaded_bytes) = (downloads + 1, tally.downloaded_bytes + bytes.len() as u64);
            for at in run.clone() {
                let start = (at - run.start) * page_bytes as usize;
                pages[at] = Some(bytes.slice(start..start + keys[at].page_len() as usize));
            }
        }
        cache.metrics.range_read(name.object, &tally);
        let offset = (range.start - first * page_bytes) as usize;
        let bytes = match (&own[..], &fetched[..]) {
            ([(run, _)], [whole]) if run.len() == keys.len() => whole.clone(),
            _ => join(&pages)?,
        };
        let part = bytes.slice(offset..offset + (range.end - range.start) as usize);
        let bytes = alone(part, bytes.len());
        Ok(RangeRead { bytes, downloaded_bytes: tally.downloaded_bytes, downloads, moment })
    }

    /// Begins to fetch what of `pages` is missing and not on its way yet.
    fn claim(
        &self,
        cache: &Arc<PageCache>,
        name: ObjectName,
        (keys, pages): (&[PageKey], &mut [Option<Bytes>]),
    ) -> Claim {
        let mut claim = Claim::default();
        if pages.iter().all(Option::is_some) {
            return claim;
        }
        let mut board = self.flights.board();
        let mut wanted: Vec<Option<()>> = vec![Some(()); pages.len()];
        for (at, key) in keys.iter().enumerate().filter(|(at, _)| pages[*at].is_none()) {
            if let Some(flight) = board.find(key) {
                claim.joined.push((at, flight));
            } else if let Some(page) = cache.in_memory(key) {
                // It has arrived since it was looked for.
                claim.landed.push((at, page));
            } else {
                wanted[at] = None;
            }
        }
        for run in missing_runs(&wanted, self.requests_max) {
            let fetching = fetch(self.bucket.clone(), Arc::clone(cache), name, keys[run.clone()].to_vec());
            claim.own.push((run.clone(), board.begin(&keys[run], fetching)));
        }
        drop(board);
        claim.joined.retain(|(at, _)| claim.own.iter().all(|(run, _)| !run.contains(at)));
        for (at, page) in claim.landed.drain(..) {
            pages[at] = Some(page);
        }
        claim
    }
}

/// Keys of the pages of an object of `object_len` bytes, in the editions that are wanted.
fn page_keys(
    cache: &PageCache,
    (name, object_len): (ObjectName, u64),
    pages: RangeInclusive<u64>,
    wanted: Wanted,
) -> Vec<PageKey> {
    let (block, object, page_bytes) = (name.block, name.object, cache.page_bytes());
    let key = |page| PageKey { block, object, object_len, edition: 0, page_bytes, page: page as u32 };
    let edition = |first| match wanted {
        Wanted::Last => cache.edition(first),
        Wanted::After(moment) => cache.edition_after(moment, first),
    };
    pages.map(key).map(edition).collect()
}

/// Who brings the pages of a range that are not cached.
#[derive(Default)]
struct Claim {
    /// Runs of pages that are fetched for this range.
    own: Vec<(Range<usize>, Arc<Flight>)>,
    /// Pages that are fetched for another one.
    joined: Vec<(usize, Arc<Flight>)>,
    /// Pages that have just arrived.
    landed: Vec<(usize, Bytes)>,
}

/// Pages that follow each other, out of the bucket; they are kept.
async fn fetch(bucket: Bucket, cache: Arc<PageCache>, name: ObjectName, keys: Vec<PageKey>) -> Result<Bytes, Error> {
    let place = |key: &PageKey| u64::from(key.page) * u64::from(key.page_bytes);
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(Bytes::new()) };
    let start = place(first);
    let bytes = bucket.get_range(&name.to_string(), start..place(last) + last.page_len()).await?;
    for key in &keys {
        let at = (place(key) - start) as usize;
        if cache.in_memory(key).is_none() {
            cache.insert(*key, &bytes[at..at + key.page_len() as usize]);
        }
    }
    Ok(bytes)
}

/// `part` of `whole` bytes; in memory of its own where it would keep alive more than twice what it is: nobody
/// accounts for the rest.
pub fn alone(part: Bytes, whole: usize) -> Bytes {
    if 2 * part.len() < whole { Bytes::copy_from_slice(&part) } else { part }
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

    #[test]
    fn a_small_part_of_what_was_read_does_not_keep_the_rest() {
        let whole = Bytes::from((0..200).collect::<Vec<u8>>());
        let small = alone(whole.slice(10..100), whole.len());
        assert!(whole.is_unique() && small == whole[10..100]);
        let large = alone(whole.slice(10..110), whole.len());
        assert!(!whole.is_unique() && large == whole[10..110]);
    }
}
