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
//! Such a core works on a job for about a millisecond and gives it back, and whoever has time goes on with
//! it: a job that is long, such as a series of a year, is many steps between which queries are answered.
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

use super::workers::{Lane, LaneWork, Workers};
use crate::model::{Error, ErrorKind, panic_message};

/// What is done with each job, by any thread.
pub(super) trait Work: Send + Sync + 'static {
    /// What is worked on; one job's room serves the next.
    type Job: Default + Send + 'static;
    /// What one job needs in between, and the next job has the room of.
    type Worker: Default + Send + 'static;

    /// Reads what a job needs, which may wait for a disk.
    fn fetch(&self, _job: &mut Self::Job) -> Result<(), Error> {
        Ok(())
    }

    /// Goes on with a job until about `units` are spent, see [`Lane::units_max`]; whether there is more to
    /// do. The same worker comes with it again.
    fn step(&self, worker: &mut Self::Worker, job: &mut Self::Job, units: usize) -> Result<bool, Error>;
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
                while work.step(&mut worker, &mut job, usize::MAX)? {}
                Ok(())
            })?;
            ends.take(&mut job)?;
        }
        return Ok(());
    };
    let (jobs, waiting) = bounded(jobs_max(lane.count()));
    let (results, done) = bounded(jobs_max(lane.count()));
    let shared = Shared(Arc::new(Common {
        work: Arc::clone(work),
        waiting,
        begun: unbounded(),
        results,
        caller: thread::current(),
        idle: unbounded(),
        may_wait: workers.may_wait(),
        units: workers.units_max(),
        ended: AtomicBool::new(false),
    }));
    let asleep = (0..lane.count()).map(|_| AtomicBool::new(true)).collect();
    let mut line = Line { jobs, done, cores: Cores { lane, asleep, shared }, early: BTreeMap::new(), free: Vec::new() };
    line.feed(workers.patience(), ends)
}

/// Jobs that exist at once: one that each of `cores` and the caller works on, and one that each goes on
/// with.
fn jobs_max(cores: usize) -> usize {
    2 * (cores + 1)
}

type Finished<J> = (u64, Box<J>, Result<(), Error>);

/// A job and its number.
struct Task<W: Work> {
    number: u64,
    job: Box<W::Job>,
    /// What it needs in between; none before it was begun.
    worker: Option<W::Worker>,
}

/// Does `work`; a panic is an error of that job.
fn caught(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic_message(panic).unwrap_or("no message");
    Error::new(ErrorKind::Bug, format!("a thread of the compaction panicked: {text}"))
}

/// What the caller and the cores share.
struct Common<W: Work> {
    work: Arc<W>,
    /// Jobs that nobody has begun.
    waiting: Receiver<Task<W>>,
    /// Jobs that nobody works on, and that there is more to do of.
    begun: (Sender<Task<W>>, Receiver<Task<W>>),
    results: Sender<Finished<W::Job>>,
    /// Who is told that there is a result.
    caller: Thread,
    /// What jobs needed that are finished.
    idle: (Sender<W::Worker>, Receiver<W::Worker>),
    /// Whether who works also reads what it needs; if not the caller has done it.
    may_wait: bool,
    /// What is spent on a job before it is given back.
    units: usize,
    /// Whether nobody asks for results any more.
    ended: AtomicBool,
}

struct Shared<W: Work>(Arc<Common<W>>);

impl<W: Work> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Work> Shared<W> {
    /// Whether there is a job that nobody works on.
    fn has_work(&self) -> bool {
        let Common { ended, begun, waiting, .. } = &*self.0;
        let is_left = !begun.1.is_empty() || !waiting.is_empty();
        is_left && !ended.load(Ordering::Relaxed)
    }

    /// Works for a while on a job that nobody works on, if there is one; gives it when it is finished.
    fn work(&self) -> Option<Finished<W::Job>> {
        if self.0.ended.load(Ordering::Relaxed) {
            return None;
        }
        let begun = self.0.begun.1.try_recv();
        let Task { number, mut job, worker } = begun.or_else(|_| self.0.waiting.try_recv()).ok()?;
        let is_new = worker.is_none();
        let mut worker = worker.or_else(|| self.0.idle.1.try_recv().ok()).unwrap_or_default();
        let mut has_more = false;
        let worked = caught(|| {
            if is_new && self.0.may_wait {
                self.0.work.fetch(&mut job)?;
            }
            has_more = self.0.work.step(&mut worker, &mut job, self.0.units)?;
            Ok(())
        });
        // The channels live as long as this does.
        if has_more {
            let _ = self.0.begun.0.send(Task { number, job, worker: Some(worker) });
            return None;
        }
        if worked.is_ok() {
            let _ = self.0.idle.0.send(worker);
        }
        Some((number, job, worked))
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

    /// What core number `core` does when it is woken: one step at a time, while there are jobs.
    fn turn(&self, core: usize) -> LaneWork {
        let (shared, asleep) = (self.shared.clone(), Arc::clone(&self.asleep));
        Box::new(move || {
            if let Some(finished) = shared.work() {
                // The caller may have given up: then nobody asks for the result.
                let _ = shared.0.results.send(finished);
                shared.0.caller.unpark();
            }
            if shared.has_work() {
                return true;
            }
            asleep[core].store(true, Ordering::SeqCst);
            // A job that came in between may have been meant for this core.
            shared.has_work() && asleep[core].swap(false, Ordering::SeqCst)
        })
    }
}

/// What the caller's thread knows of the jobs.
struct Line<'a, W: Work> {
    jobs: Sender<Task<W>>,
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
        let common = &self.cores.shared.0;
        common.ended.store(true, Ordering::Relaxed);
        while common.waiting.try_recv().is_ok() || common.begun.1.try_recv().is_ok() {}
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
                    self.hand_out(filled, job)?;
                    filled += 1;
                }
            } else if taken == filled {
                return Ok(());
            } else {
                let has_work = self.cores.shared.has_work();
                let wait = match has_work {
                    // Waits for ever, hour by hour, when there is nothing that the caller could work on.
                    false if patience.is_zero() => Duration::from_secs(3600),
                    true if in_vain => Duration::ZERO,
                    _ => patience,
                };
                let received = self.next_finished(wait);
                in_vain = has_work && received.is_none();
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

    /// Gives a job to the cores.
    fn hand_out(&mut self, number: u64, mut job: Box<W::Job>) -> Result<(), Error> {
        let common = &self.cores.shared.0;
        if !common.may_wait {
            common.work.fetch(&mut job)?;
        }
        let gone = |_| Error::new(ErrorKind::Bug, "the line of a compaction is closed");
        self.jobs.send(Task { number, job, worker: None }).map_err(gone)?;
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

    /// Adds one to the number as often as it is large; each costs a unit.
    impl Work for Double {
        type Job = u64;
        /// What is still to be added.
        type Worker = Option<u64>;

        fn step(&self, left: &mut Option<u64>, job: &mut u64, units: usize) -> Result<bool, Error> {
            assert!(*job != 77 || left.is_some(), "job 77");
            if *job == 88 && left.is_none() {
                return Err(Error::invalid("job 88"));
            }
            assert!(!IS_CORE.get() || units == UNITS, "a core got {units} units");
            let some = left.unwrap_or(*job).min(units as u64);
            let rest = left.unwrap_or(*job) - some;
            *left = (rest > 0).then_some(rest);
            *job += some;
            Ok(rest > 0)
        }
    }

    /// Units of a step of a core.
    const UNITS: usize = 7;

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

        fn units_max(&self) -> usize {
            UNITS
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
