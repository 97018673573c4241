//! Jobs filled in order by one thread, worked on by all, and taken in order by the first again.
//!
//! ```text
//! caller    fill 1 │ fill 2 │ fill 3 │ work 3      │ take 1 │ fill 4 │ take 2 …
//! worker             │ work 1      │ work 2           │ work 4 …
//! ```
//!
//! The caller works too when it has nothing to fill and nothing to take, so that as many threads as
//! there are cores keep all of them busy. No more jobs exist at once than that takes, which bounds the
//! memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::{Error, ErrorKind};

/// Niceness of the threads of background jobs: queries come first.
const NICENESS: i32 = 10;

/// What is done with each job, by any thread.
pub(super) trait Work: Sync {
    /// What is worked on; one job's room serves the next.
    type Job: Default + Send;
    /// What one thread keeps from job to job.
    type Worker;

    /// What a thread starts with.
    fn worker(&self) -> Self::Worker;

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

/// Gives the calling thread, and all that it starts from now on, the priority of background jobs.
pub fn run_in_background() {
    // A kernel that refuses leaves the priority as it is, and the job runs all the same.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Runs all jobs on the caller's thread and on `threads` others.
pub(super) fn run<W: Work>(threads: usize, work: &W, ends: &mut impl Ends<W::Job>) -> Result<(), Error> {
    if threads == 0 {
        let (mut worker, mut job) = (work.worker(), W::Job::default());
        while ends.fill(&mut job)? {
            work_caught(work, &mut worker, &mut job)?;
            ends.take(&mut job)?;
        }
        return Ok(());
    }
    let jobs_max = jobs_max(threads);
    std::thread::scope(|scope| {
        let (jobs, waiting) = bounded(jobs_max);
        let (results, done) = bounded(jobs_max);
        for _ in 0..threads {
            let (waiting, results) = (waiting.clone(), results.clone());
            scope.spawn(move || run_worker(work, &waiting, &results));
        }
        drop(results);
        let mut line = Line { jobs, waiting, done, early: BTreeMap::new(), free: Vec::new(), filled: 0, taken: 0 };
        line.feed(work, ends)
    })
}

/// Jobs that exist at once: one that each thread works on, and one that it goes on with.
fn jobs_max(threads: usize) -> usize {
    2 * (threads + 1)
}

type Numbered<J> = (u64, Box<J>);
type Finished<J> = (u64, Box<J>, Result<(), Error>);

fn run_worker<W: Work>(work: &W, waiting: &Receiver<Numbered<W::Job>>, results: &Sender<Finished<W::Job>>) {
    let mut worker = work.worker();
    for (number, mut job) in waiting {
        let worked = work_caught(work, &mut worker, &mut job);
        if results.send((number, job, worked)).is_err() {
            break;
        }
    }
}

/// Works on a job; a panic is an error of that job.
fn work_caught<W: Work>(work: &W, worker: &mut W::Worker, job: &mut W::Job) -> Result<(), Error> {
    let worked = catch_unwind(AssertUnwindSafe(|| work.work(worker, job)));
    worked.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::new(ErrorKind::Bug, format!("a thread of the compaction panicked: {text}"))
}

/// What the caller's thread knows of the jobs.
struct Line<J> {
    jobs: Sender<Numbered<J>>,
    /// Jobs that nobody works on yet.
    waiting: Receiver<Numbered<J>>,
    done: Receiver<Finished<J>>,
    /// Finished jobs by their numbers, before those ahead of them are taken.
    early: BTreeMap<u64, Box<J>>,
    /// Jobs whose room is used again.
    free: Vec<Box<J>>,
    filled: u64,
    taken: u64,
}

impl<J: Default> Line<J> {
    /// Fills, works on and takes jobs until none is left.
    fn feed<W: Work<Job = J>>(&mut self, work: &W, ends: &mut impl Ends<J>) -> Result<(), Error> {
        let gone = || Error::new(ErrorKind::Bug, "the threads of the compaction are gone");
        let jobs_max = self.jobs.capacity().unwrap_or(1) as u64;
        let (mut worker, mut exhausted) = (work.worker(), false);
        loop {
            while let Ok(finished) = self.done.try_recv() {
                self.finish(finished)?;
            }
            self.take(ends)?;
            if !exhausted && self.filled - self.taken < jobs_max {
                let mut job = self.free.pop().unwrap_or_default();
                exhausted = !ends.fill(&mut job)?;
                if !exhausted {
                    self.jobs.send((self.filled, job)).map_err(|_| gone())?;
                    self.filled += 1;
                }
            } else if self.taken == self.filled {
                return Ok(());
            } else if let Ok((number, mut job)) = self.waiting.try_recv() {
                let worked = work_caught(work, &mut worker, &mut job);
                self.finish((number, job, worked))?;
            } else {
                let finished = self.done.recv().map_err(|_| gone())?;
                self.finish(finished)?;
            }
        }
    }

    fn finish(&mut self, (number, job, worked): Finished<J>) -> Result<(), Error> {
        worked?;
        self.early.insert(number, job);
        Ok(())
    }

    /// Takes what is finished and next in order.
    fn take(&mut self, ends: &mut impl Ends<J>) -> Result<(), Error> {
        while let Some(mut job) = self.early.remove(&self.taken) {
            ends.take(&mut job)?;
            self.taken += 1;
            self.free.push(job);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Double;

    impl Work for Double {
        type Job = u64;
        type Worker = ();

        fn worker(&self) {}

        fn work(&self, (): &mut (), job: &mut u64) -> Result<(), Error> {
            assert!(*job != 77, "job 77");
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

    #[test]
    fn jobs_are_taken_in_the_order_in_which_they_were_filled() {
        for threads in [0, 1, 3] {
            let mut ends = Numbers { next: 0, end: 70, taken: Vec::new() };
            run(threads, &Double, &mut ends).unwrap();
            assert_eq!(ends.taken, (0..70).map(|at| 2 * at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_and_a_panic_of_one_job_end_the_run() {
        let mut ends = Numbers { next: 78, end: 200, taken: Vec::new() };
        assert_eq!(run(2, &Double, &mut ends).unwrap_err().message(), "job 88");
        for threads in [0, 2] {
            let mut ends = Numbers { next: 0, end: 200, taken: Vec::new() };
            let error = run(threads, &Double, &mut ends).unwrap_err();
            let expected = (ErrorKind::Bug, "a thread of the compaction panicked: job 77");
            assert_eq!((error.kind(), error.message()), expected);
        }
    }
}
