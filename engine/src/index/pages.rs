//! A source that is far away, read in pages of which the last few are kept.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::tsdb;
use crate::model::{Error, ErrorKind};

/// Bytes of a page.
const PAGE: usize = 128 * 1024;

/// Pages that are kept: 2 MiB for a source.
const KEPT: usize = 16;

/// Numbers and bytes of pages, the one used last at the end.
type Kept = Mutex<Vec<(u64, Arc<[u8]>)>>;

/// What bounds the pages that many sources keep together: of too many those go that came first, whoever's they are.
#[derive(Debug)]
pub struct PagePool {
    pages_max: usize,
    /// Whose the pages are that came last, and their numbers.
    came: Mutex<VecDeque<(Weak<Kept>, u64)>>,
}

impl PagePool {
    /// Pages of `bytes` together, or of as many as one source keeps where that is more.
    pub fn new(bytes: u64) -> Self {
        let pages = usize::try_from(bytes).unwrap_or(usize::MAX) / PAGE;
        Self { pages_max: pages.max(KEPT), came: Mutex::default() }
    }

    /// Notes that page number `number` of a source came in the place of `left`, if of any, and lets go of the one that
    /// came first of too many.
    fn add(&self, kept: &Arc<Kept>, number: u64, left: Option<u64>) {
        let first = {
            let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
            let is_left = |(source, known): &(Weak<Kept>, u64)| {
                Some(*known) == left && std::ptr::eq(source.as_ptr(), Arc::as_ptr(kept))
            };
            if let Some(at) = came.iter().position(is_left) {
                came.remove(at);
            }
            came.push_back((Arc::downgrade(kept), number));
            if came.len() > self.pages_max { came.pop_front() } else { None }
        };
        let Some((source, number)) = first else { return };
        if let Some(kept) = source.upgrade() {
            kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != number);
        }
    }
}

/// What the calling thread has read of sources that are far away, since it was started. Indexes are
/// read by the thread that asks them, so that the difference of two is what lies between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagesRead {
    /// Bytes.
    pub bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Nanoseconds that they took.
    pub ns: u64,
}

thread_local! {
    static READ: Cell<PagesRead> = const { Cell::new(PagesRead { bytes: 0, reads: 0, ns: 0 }) };
}

impl PagesRead {
    /// Up to now.
    pub fn here() -> Self {
        READ.get()
    }

    /// Without what was read up to `before`.
    pub fn since(self, before: Self) -> Self {
        Self { bytes: self.bytes - before.bytes, reads: self.reads - before.reads, ns: self.ns - before.ns }
    }

    /// Counts bytes that came from afar in so many reads, which took `time`; called by sources.
    pub fn add(bytes: u64, reads: u64, time: Duration) {
        let before = Self::here();
        let ns = before.ns + time.as_nanos() as u64;
        READ.set(Self { bytes: before.bytes + bytes, reads: before.reads + reads, ns });
    }
}

/// The bytes of `source`, through a small cache. What is larger than a page is read around it.
#[derive(Debug)]
pub struct Pages<S> {
    source: S,
    kept: Arc<Kept>,
    pool: Option<Arc<PagePool>>,
}

impl<S: tsdb::Source> Pages<S> {
    /// Nothing kept yet.
    pub fn new(source: S) -> Self {
        Self { source, kept: Arc::default(), pool: None }
    }

    /// The same, which keep no more than `pool` has room for beside others.
    pub fn sharing(self, pool: Arc<PagePool>) -> Self {
        Self { pool: Some(pool), ..self }
    }

    /// Bytes that are kept.
    pub fn heap_bytes(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, page)| page.len()).sum()
    }

    /// Page number `number`. Fetched without the lock: two may fetch the same page.
    fn page(&self, number: u64) -> Result<Arc<[u8]>, Error> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if let Some(at) = kept.iter().rposition(|(known, _)| *known == number) {
                let found = kept.remove(at);
                kept.push(found);
                return Ok(kept[kept.len() - 1].1.clone());
            }
        }
        let start = number * PAGE as u64;
        let mut bytes = vec![0; (self.source.len() - start).min(PAGE as u64) as usize];
        self.source.read_at(start, &mut bytes)?;
        let page: Arc<[u8]> = bytes.into();
        let mut kept = lock();
        let left = (kept.len() == KEPT).then(|| kept.remove(0).0);
        kept.push((number, page.clone()));
        drop(kept);
        if let Some(pool) = &self.pool {
            pool.add(&self.kept, number, left);
        }
        Ok(page)
    }
}

impl<S: tsdb::Source> tsdb::Source for Pages<S> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn in_memory(&self) -> Option<&[u8]> {
        self.source.in_memory()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let wanted = <[u8]>::len(out);
        if wanted > PAGE {
            return self.source.read_at(offset, out);
        }
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let page = self.page(at / PAGE as u64)?;
            let rest = page.get((at % PAGE as u64) as usize..).unwrap_or_default();
            let len = <[u8]>::len(rest).min(wanted - done);
            if len == 0 {
                let message = format!("bytes from {offset} on are asked for, the source has {}", self.source.len());
                return Err(Error::new(ErrorKind::Bug, message));
            }
            out[done..done + len].copy_from_slice(&rest[..len]);
            done += len;
        }
        Ok(())
    }

    fn renew(&self) -> bool {
        let renewed = self.source.renew();
        if renewed {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        renewed
    }

    fn renewed(&self) {
        self.source.renewed();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::index::tsdb::Source;

    struct Counted(Vec<u8>, AtomicUsize);

    impl Source for Counted {
        fn len(&self) -> u64 {
            self.0.as_slice().len() as u64
        }

        fn in_memory(&self) -> Option<&[u8]> {
            None
        }

        fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            self.1.fetch_add(1, Ordering::Relaxed);
            out.copy_from_slice(&self.0[offset as usize..][..<[u8]>::len(out)]);
            Ok(())
        }
    }

    #[test]
    fn pages_give_the_bytes_of_the_source_and_are_read_once() {
        let bytes: Vec<u8> = (0..3 * PAGE + 100).map(|at| (at % 251) as u8).collect();
        let pages = Pages::new(Counted(bytes.clone(), AtomicUsize::new(0)));
        for (offset, len) in [(0, 10), (5, 10), (PAGE - 5, 10), (PAGE + 1, PAGE), (3 * PAGE + 90, 10)] {
            let mut out = vec![0; len];
            pages.read_at(offset as u64, &mut out).unwrap();
            assert_eq!(out, &bytes[offset..offset + len]);
        }
        assert_eq!(pages.source.1.load(Ordering::Relaxed), 4);
        let mut out = vec![0; 2 * PAGE];
        pages.read_at(1, &mut out).unwrap();
        assert_eq!(out, &bytes[1..1 + 2 * PAGE]);
        assert!(pages.read_at(3 * PAGE as u64 + 99, &mut [0; 2]).is_err());
    }

    #[test]
    fn many_sources_together_keep_what_their_pool_has_room_for() {
        let pool = Arc::new(PagePool::new(20 * PAGE as u64));
        let source = |_| Pages::new(Counted(vec![7; 10 * PAGE], AtomicUsize::new(0))).sharing(Arc::clone(&pool));
        let sources: Vec<_> = (0..5).map(source).collect();
        for source in &sources {
            for page in 0..10 {
                source.read_at(page * PAGE as u64, &mut [0; 5]).unwrap();
            }
        }
        let kept: Vec<usize> = sources.iter().map(|source| source.heap_bytes() / PAGE).collect();
        assert_eq!(kept, [0, 0, 0, 10, 10]);
        sources[0].read_at(0, &mut [0; 5]).unwrap();
        sources[4].read_at(9 * PAGE as u64, &mut [0; 5]).unwrap();
        let reads = |at: usize| sources[at].source.1.load(Ordering::Relaxed);
        assert_eq!((reads(0), reads(4), sources[3].heap_bytes() / PAGE), (11, 10, 9));
    }
}
