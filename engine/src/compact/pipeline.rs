//! Jobs filled in order by one thread, worked on by all, and taken in order by the first again.
//!
//! ```text
//! caller    fill 1 │ fill 2 │ fill 3 │ work 3      │ take 1 │ fill 4 │ take 2 …
//! worker             │ work 1      │ work 2           │ work 4 …
//! ```
//!
//! With threads of its own the caller works too when it has nothing to fill and nothing to take, so that
//! as many threads as there are cores keep all of them busy. In a process that answers queries the cores
//! of the queries work instead, in their background lane, and the caller only reads and writes:
//!
//! ```text
//! caller    fill, fetch 1 │ fill, fetch 2 │ take 1 │ fill, fetch 3 │ take 2 …
//! core 1    query        │ work 1 │ query │ work 2 │ query
//! ```
//!
//! A core does not interrupt a job, so that the caller also works on jobs that would take a core too long.
//!
//! No more jobs exist at once than that takes, which bounds the memory.
//!
//! The caller parks until a result is there. It does not wait on the channel: a thread of the lowest
//! priority can be pushed off its core while it holds the channel's lock, which a core that sends takes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::workers::{LANE_UNITS_MAX, Lane, LaneWork, Workers};
use crate::model::{Error, ErrorKind};

/// What is done with each job, by any thread.
pub(super) trait Work: Send + Sync + 'static {
    /// What is worked on; one job's room serves the next.
    type Job: Default + Send + 'static;
    /// What one thread keeps from job to job.
    type Worker: Default + Send + 'static;

    /// Reads what a job needs, which may wait for a disk.
    fn fetch(&self, _job: &mut Self::Job) -> Result<(), Error> {
        Ok(())
    }

    /// What working on a job costs once it is fetched, see [`LANE_UNITS_MAX`].
    fn units(&self, _job: &Self::Job) -> usize {
        0
    }

    /// Works on a job.
    fn work(&self, worker: &mut Self::Worker, job: &mut Self::Job) -> Result<(), Error>;
}

/// Both ends of the pipeline, on the caller's thread.
pub(super) trait Ends<J> {
    /// Fills a job; false when there is none left.
    fn fill(&mut self, job: &mut J) -> Result<bool, Error>;

    /// Takes a finished job; jobs come in the order in which they were filled.
    fn take(&mut self, job: &mut J) -> Result<(), Error>;
}

/// Runs all jobs on the caller's thread and by `workers`.
pub(super) fn run<W: Work>(workers: &Workers, work: &Arc<W>, ends: &mut impl Ends<W::Job>) -> Result<(), Error> {
    let Some(lane) = workers.cores() else {
        let (mut worker, mut job) = (W::Worker::default(), W::Job::default());
        while ends.fill(&mut job)? {
            caught(|| {
                work.fetch(&mut job)?;
                work.work(&mut worker, &mut job)
            })?;
            ends.take(&mut job)?;
        }
        return Ok(());
    };
    let (jobs, waiting) = bounded(jobs_max(lane.count()));
    let (results, done) = bounded(jobs_max(lane.count()));
    let (work, may_wait) = (Arc::clone(work), workers.may_wait());
    let shared = Shared { work, waiting, results, caller: thread::current(), idle: unbounded(), may_wait };
    let asleep = (0..lane.count()).map(|_| AtomicBool::new(true)).collect();
    let mut line = Line { jobs, done, cores: Cores { lane, asleep, shared }, early: BTreeMap::new(), free: Vec::new() };
    line.feed(workers.patience(), ends)
}

/// Jobs that exist at once: one that each of `cores` and the caller works on, and one that each goes on
/// with.
fn jobs_max(cores: usize) -> usize {
    2 * (cores + 1)
}

type Numbered<J> = (u64, Box<J>);
type Finished<J> = (u64, Box<J>, Result<(), Error>);

/// Does `work`; a panic is an error of that job.
fn caught(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::new(ErrorKind::Bug, format!("a thread of the compaction panicked: {text}"))
}

/// What the caller and the cores share.
struct Shared<W: Work> {
    work: Arc<W>,
    /// Jobs that nobody works on yet.
    waiting: Receiver<Numbered<W::Job>>,
    results: Sender<Finished<W::Job>>,
    /// Who is told that there is a result.
    caller: Thread,
    /// What threads keep, while they don't work.
    idle: (Sender<W::Worker>, Receiver<W::Worker>),
    /// Whether who works also reads what it needs; if not the caller has done it.
    may_wait: bool,
}

impl<W: Work> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self {
            work: Arc::clone(&self.work),
            waiting: self.waiting.clone(),
            results: self.results.clone(),
            caller: self.caller.clone(),
            idle: self.idle.clone(),
            may_wait: self.may_wait,
        }
    }
}

impl<W: Work> Shared<W> {
    /// Works on a job that nobody works on yet, if there is one.
    fn work(&self) -> Option<Finished<W::Job>> {
        let (number, mut job) = self.waiting.try_recv().ok()?;
        let worked = self.work_on(&mut job);
        Some((number, job, worked))
    }

    /// Works on `job`, which the caller has fetched unless workers may wait.
    fn work_on(&self, job: &mut W::Job) -> Result<(), Error> {
        let mut worker = self.idle.1.try_recv().unwrap_or_default();
        let worked = caught(|| {
            if self.may_wait {
                self.work.fetch(job)?;
            }
            self.work.work(&mut worker, job)
        });
        // The channel lives as long as this does.
        let _ = self.idle.0.send(worker);
        worked
    }
}

/// Cores that are woken when there are jobs.
struct Cores<'a, W: Work> {
    lane: &'a dyn Lane,
    /// For each core, whether it will look for jobs only when it is woken.
    asleep: Arc<[AtomicBool]>,
    shared: Shared<W>,
}

impl<W: Work> Cores<'_, W> {
    /// Wakes cores that sleep.
    fn wake(&self) {
        for core in 0..self.asleep.len() {
            if self.asleep[core].swap(false, Ordering::SeqCst) && self.lane.send(core, self.turn(core)).is_err() {
                // A core that can't be woken is tried again with the next job, and the caller works.
                self.asleep[core].store(true, Ordering::SeqCst);
            }
        }
    }

    /// What core number `core` does when it is woken: one job at a time, while there are some.
    fn turn(&self, core: usize) -> LaneWork {
        let (shared, asleep) = (self.shared.clone(), Arc::clone(&self.asleep));
        Box::new(move || {
            if let Some(finished) = shared.work() {
                // The caller may have given up: then nobody asks for the result.
                let _ = shared.results.send(finished);
                shared.caller.unpark();
            }
            if !shared.waiting.is_empty() {
                return true;
            }
            asleep[core].store(true, Ordering::SeqCst);
            // A job that came in between may have been meant for this core.
            !shared.waiting.is_empty() && asleep[core].swap(false, Ordering::SeqCst)
        })
    }
}

/// What the caller's thread knows of the jobs.
struct Line<'a, W: Work> {
    jobs: Sender<Numbered<W::Job>>,
    done: Receiver<Finished<W::Job>>,
    cores: Cores<'a, W>,
    /// Finished jobs by their numbers, before those ahead of them are taken.
    early: BTreeMap<u64, Box<W::Job>>,
    /// Jobs whose room is used again.
    free: Vec<Box<W::Job>>,
}

impl<W: Work> Drop for Line<'_, W> {
    /// What is left of a run that failed is not worked on.
    fn drop(&mut self) {
        while self.cores.shared.waiting.try_recv().is_ok() {}
    }
}

impl<W: Work> Line<'_, W> {
    /// Fills, works on and takes jobs until none is left.
    fn feed(&mut self, patience: Duration, ends: &mut impl Ends<W::Job>) -> Result<(), Error> {
        let jobs_max = self.jobs.capacity().unwrap_or(1) as u64;
        let (mut filled, mut taken, mut exhausted, mut in_vain) = (0, 0, false, false);
        loop {
            while let Ok(finished) = self.done.try_recv() {
                self.finish(finished)?;
            }
            while let Some(mut job) = self.early.remove(&taken) {
                ends.take(&mut job)?;
                taken += 1;
                self.free.push(job);
            }
            if !exhausted && filled - taken < jobs_max {
                let mut job = self.free.pop().unwrap_or_default();
                exhausted = !ends.fill(&mut job)?;
                if !exhausted {
                    self.hand_out((filled, job))?;
                    filled += 1;
                }
            } else if taken == filled {
                return Ok(());
            } else {
                // Waits for ever, hour by hour, when there is nothing that the caller could work on.
                let wait = match self.cores.shared.waiting.is_empty() {
                    true => Duration::from_secs(3600),
                    false if in_vain => Duration::ZERO,
                    false => patience,
                };
                let received = self.next_finished(wait);
                in_vain = received.is_none();
                received.or_else(|| self.cores.shared.work()).map_or(Ok(()), |finished| self.finish(finished))?;
            }
        }
    }

    /// The next job that a core has finished, waited for as long as `wait`.
    fn next_finished(&self, wait: Duration) -> Option<Finished<W::Job>> {
        let end = Instant::now() + wait;
        loop {
            if let Ok(finished) = self.done.try_recv() {
                return Some(finished);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            thread::park_timeout(left);
        }
    }

    /// Gives a job to the cores; one that is too much for theirs the caller works on.
    fn hand_out(&mut self, (number, mut job): Numbered<W::Job>) -> Result<(), Error> {
        let shared = &self.cores.shared;
        if !shared.may_wait {
            shared.work.fetch(&mut job)?;
            if shared.work.units(&job) > LANE_UNITS_MAX {
                let worked = shared.work_on(&mut job);
                return self.finish((number, job, worked));
            }
        }
        let gone = |_| Error::new(ErrorKind::Bug, "the line of a compaction is closed");
        self.jobs.send((number, job)).map_err(gone)?;
        self.cores.wake();
        Ok(())
    }

    fn finish(&mut self, (number, job, worked): Finished<W::Job>) -> Result<(), Error> {
        worked?;
        self.early.insert(number, job);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Double;

    thread_local! {
        /// Whether this thread is a core of a lane.
        static IS_CORE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    impl Work for Double {
        type Job = u64;
        type Worker = ();

        fn units(&self, job: &u64) -> usize {
            *job as usize * LANE_UNITS_MAX / 50
        }

        fn work(&self, (): &mut (), job: &mut u64) -> Result<(), Error> {
            assert!(*job != 77, "job 77");
            assert!(!IS_CORE.get() || self.units(job) <= LANE_UNITS_MAX, "a core got a job of {}", self.units(job));
            if *job == 88 {
                return Err(Error::invalid("job 88"));
            }
            *job *= 2;
            Ok(())
        }
    }

    struct Numbers {
        next: u64,
        end: u64,
        taken: Vec<u64>,
    }

    impl Ends<u64> for Numbers {
        fn fill(&mut self, job: &mut u64) -> Result<bool, Error> {
            *job = self.next;
            self.next += 1;
            Ok(*job < self.end)
        }

        fn take(&mut self, job: &mut u64) -> Result<(), Error> {
            self.taken.push(*job);
            Ok(())
        }
    }

    /// Cores that are threads, of which `served` take work and the others never find the time.
    struct Busy {
        cores: Vec<Sender<LaneWork>>,
        served: usize,
    }

    impl Busy {
        fn workers(cores: usize, served: usize) -> Workers {
            let start = |_| {
                let (sender, work) = unbounded::<LaneWork>();
                thread::spawn(move || {
                    IS_CORE.set(true);
                    work.iter().for_each(|mut work| while work() {})
                });
                sender
            };
            Workers::lane(Arc::new(Self { cores: (0..cores).map(start).collect(), served }))
        }
    }

    impl Lane for Busy {
        fn count(&self) -> usize {
            self.cores.len()
        }

        fn send(&self, core: usize, work: LaneWork) -> Result<(), Error> {
            if core < self.served {
                let _ = self.cores[core].send(work);
            } else if core > self.served {
                return Err(Error::new(ErrorKind::Unavailable, "the lane is full"));
            }
            Ok(())
        }
    }

    fn all_workers() -> [Workers; 6] {
        let [alone, one, three] = [0, 1, 3].map(Workers::threads);
        [alone, one, three, Busy::workers(3, 3), Busy::workers(3, 1), Busy::workers(2, 0)]
    }

    #[test]
    fn jobs_are_taken_in_the_order_in_which_they_were_filled() {
        for workers in all_workers() {
            let mut ends = Numbers { next: 0, end: 70, taken: Vec::new() };
            run(&workers, &Arc::new(Double), &mut ends).unwrap();
            assert_eq!(ends.taken, (0..70).map(|at| 2 * at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_and_a_panic_of_one_job_end_the_run() {
        let mut ends = Numbers { next: 78, end: 200, taken: Vec::new() };
        assert_eq!(run(&Workers::threads(2), &Arc::new(Double), &mut ends).unwrap_err().message(), "job 88");
        for workers in all_workers() {
            let mut ends = Numbers { next: 0, end: 200, taken: Vec::new() };
            let error = run(&workers, &Arc::new(Double), &mut ends).unwrap_err();
            let expected = (ErrorKind::Bug, "a thread of the compaction panicked: job 77");
            assert_eq!((error.kind(), error.message()), expected);
        }
    }
}
