//! The limits of one query: samples in memory, bytes, time, and the caller's patience.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::model::Patience;
use crate::model::{Error, ErrorKind, budget};

/// Where Prometheus says a limit was hit.
const PLACE: &str = "query execution";

/// What a query may use, and what it uses. Shared by all cores that work on the query.
#[derive(Debug)]
pub struct Budget {
    samples_max: u64,
    memory: Arc<Memory>,
    patience: Patience,
    samples: AtomicU64,
    peak: AtomicU64,
    read: AtomicU64,
    queried: AtomicU64,
}

/// The bytes of one query, and their share of the process' memory; given back when it is dropped.
#[derive(Debug)]
pub struct Memory {
    bytes_max: u64,
    held: AtomicU64,
    process: Option<Share>,
}

/// What a query has taken of the process' memory, ahead of what it holds.
#[derive(Debug)]
struct Share {
    /// The reservation's bytes, so that most changes need no lock.
    bytes: AtomicU64,
    reservation: Mutex<budget::Reservation>,
}

/// Bytes of the process' memory that a query takes at a time.
const SHARE_STEP: u64 = 1 << 20;

/// Rows, or steps of a group, each of which may hold a value of every series, between two looks at the caller.
const ROWS_UNWATCHED: usize = 64;

impl Memory {
    /// At most `bytes_max` bytes at a time, which count in `process` where there is one.
    pub fn new(bytes_max: u64, process: Option<&Arc<budget::Budget>>) -> Result<Self, Error> {
        let process = process.map(|process| process.reserve(0)).transpose()?;
        let share = |reservation| Share { bytes: AtomicU64::new(0), reservation: Mutex::new(reservation) };
        Ok(Self { bytes_max, held: AtomicU64::new(0), process: process.map(share) })
    }

    /// Holds `count` bytes more. Limit, named, when the query or the process has no room for them.
    pub fn hold(&self, count: usize) -> Result<(), Error> {
        let now = self.held.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if now > self.bytes_max {
            let message = format!("this query needs more than {} bytes of memory", self.bytes_max);
            return Err(Error::limit("query.memory-limit", message));
        }
        self.process.as_ref().map_or(Ok(()), |share| share.grow_to(now))
    }

    /// Lets go of `count` bytes.
    pub fn release(&self, count: usize) {
        let less = |held: u64| Some(held.saturating_sub(count as u64));
        let before = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        self.shrink_to(before.saturating_sub(count as u64));
    }

    /// From now on `bytes` are held, and no others.
    pub fn settle(&self, bytes: u64) {
        self.held.store(bytes, Ordering::Relaxed);
        self.shrink_to(bytes);
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn shrink_to(&self, bytes: u64) {
        if let Some(share) = &self.process {
            share.shrink_to(bytes);
        }
    }
}

impl Share {
    fn grow_to(&self, wanted: u64) -> Result<(), Error> {
        if wanted <= self.bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = wanted.saturating_sub(reservation.bytes());
        // Near the limit what is needed is taken and nothing ahead of it.
        reservation.grow(missing.next_multiple_of(SHARE_STEP)).or_else(|_| reservation.grow(missing))?;
        self.bytes.store(reservation.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn shrink_to(&self, wanted: u64) {
        if wanted.saturating_add(2 * SHARE_STEP) > self.bytes.load(Ordering::Relaxed) {
            return;
        }
        let mut reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = reservation.bytes().saturating_sub(wanted.next_multiple_of(SHARE_STEP));
        reservation.shrink(spare);
        self.bytes.store(reservation.bytes(), Ordering::Relaxed);
    }
}

impl Budget {
    /// At most `samples_max` samples at a time, in `memory`.
    pub fn new(samples_max: u64, memory: Arc<Memory>, patience: &Patience) -> Self {
        Self {
            samples_max,
            memory,
            patience: patience.clone(),
            samples: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            read: AtomicU64::new(0),
            queried: AtomicU64::new(0),
        }
    }

    /// Fails when the query was canceled or its time is over.
    pub fn check(&self) -> Result<(), Error> {
        self.patience.check()
    }

    /// [`Budget::check`] before row or step `row` of many, at some of them: the clock takes as long as a short one.
    #[inline]
    pub fn check_at(&self, row: usize) -> Result<(), Error> {
        if row.is_multiple_of(ROWS_UNWATCHED) { self.check() } else { Ok(()) }
    }

    /// Counts `count` samples that stay in memory.
    pub fn hold_samples(&self, count: usize) -> Result<(), Error> {
        let now = self.samples.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        self.peak.fetch_max(now, Ordering::Relaxed);
        if now > self.samples_max {
            let message = format!("query processing would load too many samples into memory in {PLACE}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }

    /// Fails when `count` samples beside those that are held are too many.
    pub fn pass_samples(&self, count: usize) -> Result<(), Error> {
        self.hold_samples(count)?;
        self.release_samples(count);
        Ok(())
    }

    /// Lets go of `count` samples.
    pub fn release_samples(&self, count: usize) {
        let _ = self
            .samples
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(count as u64)));
    }

    /// The bytes of the query.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Counts `count` samples that were read from the source.
    pub fn count_read(&self, count: usize) {
        self.read.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts `count` samples that selectors gave to steps, as Prometheus does: one that lies in several
    /// windows counts in each.
    pub fn count_queried(&self, count: usize) {
        self.queried.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Samples that selectors gave to steps.
    pub fn samples_queried(&self) -> u64 {
        self.queried.load(Ordering::Relaxed)
    }

    /// Most samples that were in memory at a time.
    pub fn peak_samples(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Samples that were read from the source.
    pub fn samples_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_counts_in_the_memory_of_the_process_until_it_is_dropped() {
        let process = budget::Budget::new("--store.memory-limit", 10 * SHARE_STEP);
        let memory = Memory::new(u64::MAX, Some(&process)).unwrap();
        memory.hold(1).unwrap();
        assert_eq!(process.usage().used, SHARE_STEP);
        memory.hold(8 * SHARE_STEP as usize).unwrap();
        assert_eq!(process.usage().used, 9 * SHARE_STEP);
        let other = process.reserve(SHARE_STEP / 2).unwrap();
        memory.hold(SHARE_STEP as usize).expect("what is left is less than a step and enough");
        let error = memory.hold(SHARE_STEP as usize).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().contains("--store.memory-limit"), "{error}");
        memory.settle(3);
        assert_eq!(process.usage().used, SHARE_STEP + SHARE_STEP / 2);
        drop((memory, other));
        assert_eq!(process.usage().used, 0);
    }

    #[test]
    fn a_query_is_held_to_its_own_limit_first() {
        let process = budget::Budget::new("--store.memory-limit", u64::MAX);
        let memory = Memory::new(100, Some(&process)).unwrap();
        memory.hold(100).unwrap();
        memory.release(50);
        memory.hold(50).unwrap();
        let error = memory.hold(1).unwrap_err();
        assert!(error.message().contains("query.memory-limit"), "{error}");
    }
}
