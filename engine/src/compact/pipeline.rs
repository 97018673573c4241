//! Jobs filled in order by one thread, worked on by several, and taken in order by the first again.
//!
//! ```text
//! caller    fill 1 │ fill 2 │ fill 3 │       take 1 │ fill 4 │ take 2 …
//! worker 1          │ work 1        │ work 3 …
//! worker 2                  │ work 2        │ work 4 …
//! ```
//!
//! No more jobs exist at once than keep the workers busy, which bounds the memory.

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

/// Gives the calling thread the priority of background jobs.
pub fn run_in_background() {
    // A kernel that refuses leaves the priority as it is, and the job runs all the same.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Runs all jobs on `threads` threads besides the caller's, on that alone when there are none.
pub(super) fn run<W: Work>(threads: usize, work: &W, ends: &mut impl Ends<W::Job>) -> Result<(), Error> {
    if threads == 0 {
        let (mut worker, mut job) = (work.worker(), W::Job::default());
        while ends.fill(&mut job)? {
            work_caught(work, &mut worker, &mut job)?;
            ends.take(&mut job)?;
        }
        return Ok(());
    }
    let jobs_max = 2 * threads + 1;
    std::thread::scope(|scope| {
        let (jobs, waiting) = bounded(jobs_max);
        let (results, done) = bounded(jobs_max);
        for _ in 0..threads {
            let (waiting, results) = (waiting.clone(), results.clone());
            scope.spawn(move || run_worker(work, &waiting, &results));
        }
        drop((waiting, results));
        feed(jobs_max, ends, &jobs, &done)
    })
}

type Numbered<J> = (u64, Box<J>);
type Finished<J> = (u64, Box<J>, Result<(), Error>);

fn run_worker<W: Work>(work: &W, waiting: &Receiver<Numbered<W::Job>>, results: &Sender<Finished<W::Job>>) {
    run_in_background();
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

fn feed<J: Default>(
    jobs_max: usize,
    ends: &mut impl Ends<J>,
    jobs: &Sender<Numbered<J>>,
    done: &Receiver<Finished<J>>,
) -> Result<(), Error> {
    let gone = || Error::new(ErrorKind::Bug, "the threads of the compaction are gone");
    let (mut free, mut early) = (Vec::new(), BTreeMap::new());
    let (mut filled, mut taken, mut exhausted) = (0u64, 0u64, false);
    loop {
        while !exhausted && filled - taken < jobs_max as u64 {
            let mut job: Box<J> = free.pop().unwrap_or_default();
            exhausted = !ends.fill(&mut job)?;
            if !exhausted {
                jobs.send((filled, job)).map_err(|_| gone())?;
                filled += 1;
            }
        }
        if taken == filled {
            return Ok(());
        }
        let (number, job, worked) = done.recv().map_err(|_| gone())?;
        worked?;
        early.insert(number, job);
        while let Some(mut job) = early.remove(&taken) {
            ends.take(&mut job)?;
            taken += 1;
            free.push(job);
        }
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
