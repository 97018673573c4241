//! Threads that wait for bytes from afar, so that shards need not.
//!
//! An index that is read from an object store piece by piece keeps whoever asks it waiting. On a shard everything
//! behind that would wait as well: requests that need nothing of that index, and writes.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::model::{Error, ErrorKind};

/// Threads for each shard: most of the time they wait.
const THREADS_PER_SHARD: usize = 8;

/// Threads, however many shards there are.
const THREADS: RangeInclusive<usize> = 16..=256;

/// Jobs that wait for a thread.
const QUEUE_MAX: usize = 4096;

/// A job: runs to its end on one of the threads.
pub(super) type WaitingJob = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped and all jobs are done.
pub(super) struct Waiting {
    queue: Sender<WaitingJob>,
    panics: Arc<AtomicU64>,
}

impl Waiting {
    /// Starts the threads beside so many shards.
    pub(super) fn start(shards: usize) -> Self {
        let count = (THREADS_PER_SHARD * shards).clamp(*THREADS.start(), *THREADS.end());
        let (queue, jobs) = bounded(QUEUE_MAX);
        let panics = Arc::<AtomicU64>::default();
        for number in 0..count {
            let (jobs, panics) = (jobs.clone(), Arc::clone(&panics));
            let thread = thread::Builder::new().name(format!("waiting-{number}"));
            // Fewer will do. Where there is none the queue is closed, which those who send are told.
            drop(thread.spawn(move || run(&jobs, &panics)));
        }
        Self { queue, panics }
    }

    /// Sends `job` to a thread. A full queue refuses it at once (`Unavailable`).
    pub(super) fn send(&self, job: WaitingJob) -> Result<(), Error> {
        let refusal = match self.queue.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => "too much waits for bytes of indexes in the bucket: try again later",
            Err(TrySendError::Disconnected(_)) => {
                "no thread that waits for bytes of indexes could be started: raise the limit of threads"
            }
        };
        Err(Error::new(ErrorKind::Unavailable, refusal))
    }

    /// Jobs that panicked.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

/// Runs jobs until there are none and nobody can send more.
fn run(jobs: &Receiver<WaitingJob>, panics: &AtomicU64) {
    for job in jobs {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}
