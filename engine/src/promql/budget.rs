//! The limits of one query: samples in memory, bytes, time, and the caller's patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::batch::StepBatch;
use crate::model::{Error, ErrorKind};

/// Where Prometheus says a limit was hit.
const PLACE: &str = "query execution";

/// What a query may use, and what it uses. Shared by all cores that work on the query.
#[derive(Debug)]
pub struct Budget {
    samples_max: u64,
    bytes_max: u64,
    deadline: Option<Instant>,
    canceled: Arc<AtomicBool>,
    samples: AtomicU64,
    peak: AtomicU64,
    bytes: AtomicU64,
    read: AtomicU64,
    queried: AtomicU64,
}

/// Samples and bytes in memory at one point of a query.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    samples: u64,
    bytes: u64,
}

/// When and by whom a query is ended.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// When the query must be done.
    pub deadline: Option<Instant>,
    /// Set when the caller went away.
    pub canceled: Arc<AtomicBool>,
}

impl Patience {
    /// Fails when the caller has gone or the time is over.
    pub fn check(&self) -> Result<(), Error> {
        check(&self.canceled, self.deadline)
    }
}

fn check(canceled: &AtomicBool, deadline: Option<Instant>) -> Result<(), Error> {
    if canceled.load(Ordering::Relaxed) {
        let message = format!("query was canceled in {PLACE}");
        return Err(Error::new(ErrorKind::Canceled, message));
    }
    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        let message = format!("query timed out in {PLACE}");
        return Err(Error::new(ErrorKind::Deadline, message));
    }
    Ok(())
}

impl Budget {
    /// At most `samples_max` samples and `bytes_max` bytes at a time.
    pub fn new(samples_max: u64, bytes_max: u64, patience: &Patience) -> Self {
        Self {
            samples_max,
            bytes_max,
            deadline: patience.deadline,
            canceled: Arc::clone(&patience.canceled),
            samples: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            read: AtomicU64::new(0),
            queried: AtomicU64::new(0),
        }
    }

    /// Fails when the query was canceled or its time is over.
    pub fn check(&self) -> Result<(), Error> {
        check(&self.canceled, self.deadline)
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

    /// What is in memory now.
    pub fn held(&self) -> Held {
        Held { samples: self.samples.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Goes back to what [`Budget::held`] said, then holds `result`: the inputs of an operator are
    /// gone, its result stays.
    pub fn settle(&self, before: Held, result: &StepBatch) -> Result<(), Error> {
        self.samples.store(before.samples, Ordering::Relaxed);
        self.bytes.store(before.bytes, Ordering::Relaxed);
        self.hold_bytes(result.heap_bytes())?;
        self.hold_samples(result.samples())
    }

    /// Counts `count` bytes that stay in memory.
    pub fn hold_bytes(&self, count: usize) -> Result<(), Error> {
        let now = self.bytes.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if now > self.bytes_max {
            let message = format!("this query needs more than {} bytes of memory", self.bytes_max);
            return Err(Error::limit("query.memory-limit", message));
        }
        Ok(())
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
