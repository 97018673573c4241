//! Shards: threads that run jobs sent to them, urgent ones first, background ones in slices.
//!
//! A shard that has nothing to do parks, and who sends it something unparks it, which takes no lock. Waiting
//! on the channels themselves would: the one who wakes a shard holds a lock that the shard takes next, and
//! when that is a thread of the lowest priority, which the woken shard has pushed off its core, queries wait
//! until nothing else wants to run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::ingest::Partition;
use super::waiting::Waiting;
use crate::compact::{Lane, LaneWork};
use crate::io::{self, BlockIo, freed};
use crate::model::{Error, ErrorKind};
use crate::promql::source::{CoreJob, Cores, OwnFiles};
use crate::select::LabelBuffers;

/// Stack of a shard's thread, for parts of queries as high as queries may be; only what is touched is memory.
const STACK_BYTES: usize = 64 << 20;

/// Longest time that background work keeps a shard from urgent work.
pub const SLICE: Duration = Duration::from_millis(1);

/// How often a full mailbox is tried again by those who wait for a place: asking is no wait on the channel, see above.
const FULL_INTERVAL: Duration = Duration::from_millis(1);

/// A job: runs to its end on one shard.
pub type Job = Box<dyn FnOnce(&mut ShardContext) + Send>;

/// Background work: called again and again, for a slice at a time, until it is done.
pub type Background = Box<dyn FnMut(&mut ShardContext) -> Progress + Send>;

/// Whether background work has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// Finished.
    Done,
}

/// How shards are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of shards; by default the cores that this process may use.
    pub shards: Option<NonZeroUsize>,
    /// How shards read files.
    pub io: io::Mode,
    /// Messages that a lane of a mailbox holds.
    pub mailbox_max: usize,
}

/// What a job may use of the shard it runs on.
pub struct ShardContext {
    shard: usize,
    io: OwnFiles,
    slice_end: Option<Instant>,
    partitions: HashMap<PartitionKey, Partition>,
    labels: LabelBuffers,
}

/// A partition: the number of its [`Ingest`](super::Ingest) and its own.
pub(super) type PartitionKey = (u64, usize);

/// All shards of the process.
pub struct Pool {
    shards: Vec<Shard>,
    /// Started when something waits for the first time.
    waiting: OnceLock<Waiting>,
    next: AtomicUsize,
    io_name: &'static str,
}

/// What the shards have done since they were started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Messages sent to shards.
    pub hops: u64,
    /// Messages that found a mailbox full.
    pub mailbox_full: u64,
    /// Jobs that panicked; each failed its own request alone.
    pub panics: u64,
    /// Background slices run.
    pub slices: u64,
    /// Messages waiting now, over all shards.
    pub queued: u64,
    /// Microseconds spent in jobs, over all shards.
    pub busy_us: u64,
}

struct Shard {
    urgent: Option<Sender<Job>>,
    background: Option<Sender<Background>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    hops: AtomicU64,
    mailbox_full: AtomicU64,
    panics: AtomicU64,
    slices: AtomicU64,
    busy_us: AtomicU64,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: None, io: io::Mode::Auto, mailbox_max: 4096 }
    }
}

impl ShardContext {
    /// Number of this shard, from 0.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The shard's own way to local files.
    pub fn io(&mut self) -> &mut dyn BlockIo {
        &mut **self.io.get_mut()
    }

    /// What the shard remembers of labels that it has decoded.
    pub fn labels(&mut self) -> &mut LabelBuffers {
        &mut self.labels
    }

    /// The partition `key` of those that this shard owns.
    pub(super) fn partition(&mut self, key: PartitionKey) -> Result<&mut Partition, Error> {
        let closed = || Error::new(ErrorKind::Unavailable, "ingestion is closed: send again after the restart");
        self.partitions.get_mut(&key).ok_or_else(closed)
    }

    /// Makes the shard the owner of a partition.
    pub(super) fn place_partition(&mut self, key: PartitionKey, partition: Partition) {
        self.partitions.insert(key, partition);
    }

    /// Takes a partition from the shard.
    pub(super) fn take_partition(&mut self, key: PartitionKey) -> Option<Partition> {
        self.partitions.remove(&key)
    }

    /// Whether background work has used its slice up and should return [`Progress::More`].
    pub fn is_slice_over(&self) -> bool {
        self.slice_end.is_some_and(|end| Instant::now() >= end)
    }
}

impl Pool {
    /// Starts the shards, each pinned to a core of its own as long as there are enough, and raises
    /// the process' limit of open files for them. Where a quota gives the process less time than its cores have, there
    /// are as many as it has the time for, and none is pinned: all processes of a machine would meet on its first cores.
    pub fn start(options: &Options) -> Result<Arc<Self>, Error> {
        io::raise_open_files_max();
        let cores = allowed_cores();
        let quota = thread::available_parallelism().map_or(cores.len(), NonZeroUsize::get);
        let count = options.shards.map_or(cores.len().min(quota).max(1), NonZeroUsize::get);
        let are_pinned = count <= cores.len() && quota >= cores.len();
        let mut shards = Vec::with_capacity(count);
        let mut io_name = "";
        for shard in 0..count {
            let core = cores.get(shard).copied().filter(|_| are_pinned);
            let (started, name) = Shard::start(shard, core, options)?;
            shards.push(started);
            io_name = name;
        }
        Ok(Arc::new(Self { shards, waiting: OnceLock::new(), next: AtomicUsize::new(0), io_name }))
    }

    /// Number of shards.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether there is no shard; never.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// How shards read files: "io_uring" or "pread".
    pub fn io_name(&self) -> &'static str {
        self.io_name
    }

    /// A shard for the next job that may run on any: each in turn.
    pub fn any(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len()
    }

    /// Sends `job` to a shard's urgent lane. A full mailbox refuses it at once (`Unavailable`).
    pub fn send(&self, shard: usize, job: impl FnOnce(&mut ShardContext) + Send + 'static) -> Result<(), Error> {
        let target = &self.shards[shard % self.shards.len()];
        target.deliver(target.urgent.as_ref(), Box::new(job), "urgent")
    }

    /// As [`Pool::send`], but where the mailbox is full it waits for a place. Blocks the calling thread, which must not
    /// be a shard.
    pub fn send_waiting(
        &self,
        shard: usize,
        job: impl FnOnce(&mut ShardContext) + Send + 'static,
    ) -> Result<(), Error> {
        let target = &self.shards[shard % self.shards.len()];
        target.deliver_waiting(target.urgent.as_ref(), Box::new(job))
    }

    /// Sends `job` to a thread that is no shard, as it may wait for bytes that are not local. Where too many wait
    /// it is refused at once (`Unavailable`).
    pub fn wait(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.waiting.get_or_init(|| Waiting::start(self.shards.len())).send(Box::new(job))
    }

    /// Sends work to a shard's background lane, to be run in slices of [`SLICE`].
    pub fn send_background(
        &self,
        shard: usize,
        work: impl FnMut(&mut ShardContext) -> Progress + Send + 'static,
    ) -> Result<(), Error> {
        let target = &self.shards[shard % self.shards.len()];
        target.deliver(target.background.as_ref(), Box::new(work), "background")
    }

    /// What the shards have done.
    pub fn counters(&self) -> PoolCounters {
        let panics = self.waiting.get().map_or(0, Waiting::panics);
        let mut sum = PoolCounters { panics, ..PoolCounters::default() };
        for shard in &self.shards {
            let counters = &shard.counters;
            sum.hops += counters.hops.load(Ordering::Relaxed);
            sum.mailbox_full += counters.mailbox_full.load(Ordering::Relaxed);
            sum.panics += counters.panics.load(Ordering::Relaxed);
            sum.slices += counters.slices.load(Ordering::Relaxed);
            sum.busy_us += counters.busy_us.load(Ordering::Relaxed);
            sum.queued += shard.urgent.as_ref().map_or(0, |lane| lane.len() as u64);
            sum.queued += shard.background.as_ref().map_or(0, |lane| lane.len() as u64);
        }
        sum
    }
}

impl Cores for Pool {
    fn count(&self) -> usize {
        self.len()
    }

    fn send(&self, job: CoreJob) -> Result<(), Error> {
        Self::send(self, self.any(), move |context| job(&context.io))
    }
}

impl Lane for Pool {
    fn count(&self) -> usize {
        self.len()
    }

    fn send(&self, core: usize, mut work: LaneWork) -> Result<(), Error> {
        self.send_background(core, move |context| {
            loop {
                match work() {
                    false => return Progress::Done,
                    true if context.is_slice_over() => return Progress::More,
                    true => {}
                }
            }
        })
    }
}

impl Drop for Pool {
    /// Lets every shard finish what it was sent, then ends the threads.
    fn drop(&mut self) {
        for shard in &mut self.shards {
            shard.urgent = None;
            shard.background = None;
        }
        let here = thread::current().id();
        for thread in self.shards.iter_mut().filter_map(|shard| shard.thread.take()) {
            // The last owner may be a job; a shard can't wait for itself.
            if thread.thread().id() != here {
                thread.thread().unpark();
                let _ = thread.join();
            }
        }
    }
}

impl Shard {
    fn start(shard: usize, core: Option<usize>, options: &Options) -> Result<(Self, &'static str), Error> {
        let (urgent, urgent_inbox) = bounded(options.mailbox_max);
        let (background, background_inbox) = bounded(options.mailbox_max);
        let (ready, is_ready) = bounded(1);
        let counters = Arc::<Counters>::default();
        let (mode, own) = (options.io, Arc::clone(&counters));
        let body = move || {
            if let Some(core) = core {
                pin_to(core);
            }
            match io::open(mode) {
                Ok(io) => {
                    let _ = ready.send(Ok(io.name()));
                    let context = ShardContext {
                        shard,
                        io: RefCell::new(io),
                        slice_end: None,
                        partitions: HashMap::new(),
                        labels: LabelBuffers::default(),
                    };
                    Loop { context, urgent: urgent_inbox, background: background_inbox, counters: own }.run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let failed = |why: String| Error::new(ErrorKind::Unavailable, format!("shard {shard} did not start: {why}"));
        let thread = thread::Builder::new()
            .name(format!("shard-{shard}"))
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(|error| failed(error.to_string()))?;
        let name = is_ready.recv().map_err(|_| failed("its thread ended".into()))??;
        Ok((Self { urgent: Some(urgent), background: Some(background), counters, thread: Some(thread) }, name))
    }

    fn deliver<T>(&self, lane: Option<&Sender<T>>, message: T, name: &str) -> Result<(), Error> {
        self.counters.hops.fetch_add(1, Ordering::Relaxed);
        if self.offer(lane, message)?.is_none() {
            return Ok(());
        }
        self.counters.mailbox_full.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Unavailable, format!("a shard's {name} mailbox is full: try again later")))
    }

    fn deliver_waiting<T>(&self, lane: Option<&Sender<T>>, message: T) -> Result<(), Error> {
        self.counters.hops.fetch_add(1, Ordering::Relaxed);
        let Some(mut message) = self.offer(lane, message)? else { return Ok(()) };
        self.counters.mailbox_full.fetch_add(1, Ordering::Relaxed);
        loop {
            thread::sleep(FULL_INTERVAL);
            match self.offer(lane, message)? {
                Some(refused) => message = refused,
                None => return Ok(()),
            }
        }
    }

    /// Puts `message` into a lane; gives it back where that is full.
    fn offer<T>(&self, lane: Option<&Sender<T>>, message: T) -> Result<Option<T>, Error> {
        let lane = lane.expect("lanes are open as long as the pool lives");
        match lane.try_send(message) {
            Ok(()) => {
                self.wake();
                Ok(None)
            }
            Err(TrySendError::Full(message)) => Ok(Some(message)),
            Err(TrySendError::Disconnected(_)) => Err(Error::new(ErrorKind::Bug, "a shard's thread has ended")),
        }
    }

    /// Has the shard look at its lanes.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// A shard's thread.
struct Loop {
    context: ShardContext,
    urgent: Receiver<Job>,
    background: Receiver<Background>,
    counters: Arc<Counters>,
}

impl Loop {
    /// Runs jobs until the pool is dropped and both lanes are empty.
    fn run(mut self) {
        let mut current: Option<Background> = None;
        loop {
            let urgent_closed = match self.urgent.try_recv() {
                Ok(job) => {
                    self.run_job(job);
                    continue;
                }
                Err(error) => error == TryRecvError::Disconnected,
            };
            let work = current.take().map_or_else(|| self.background.try_recv(), Ok);
            match work {
                Ok(work) => current = self.run_slice(work),
                Err(TryRecvError::Disconnected) if urgent_closed => return,
                Err(_) => {
                    freed::give_back_when_short();
                    // What was sent since the lanes were looked at ends this at once.
                    thread::park();
                }
            }
        }
    }

    fn run_job(&mut self, job: Job) {
        let started = Instant::now();
        let context = &mut self.context;
        if catch_unwind(AssertUnwindSafe(|| job(context))).is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
        self.note_busy(started);
    }

    /// Runs background work for one slice; gives it back when there is more to do.
    fn run_slice(&mut self, mut work: Background) -> Option<Background> {
        let started = Instant::now();
        self.context.slice_end = Some(started + SLICE);
        let context = &mut self.context;
        let outcome = catch_unwind(AssertUnwindSafe(|| work(context)));
        self.context.slice_end = None;
        self.counters.slices.fetch_add(1, Ordering::Relaxed);
        self.note_busy(started);
        match outcome {
            Ok(Progress::More) => Some(work),
            Ok(Progress::Done) => None,
            Err(_) => {
                self.counters.panics.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn note_busy(&self, started: Instant) {
        self.counters.busy_us.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// The cores that this process may use.
fn allowed_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => (0..thread::available_parallelism().map_or(1, NonZeroUsize::get)).collect(),
    }
}

/// Pins the calling thread; where that is forbidden the thread runs anywhere.
fn pin_to(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(shards: usize, mailbox_max: usize) -> Arc<Pool> {
        Pool::start(&Options { shards: NonZeroUsize::new(shards), io: io::Mode::Auto, mailbox_max }).unwrap()
    }

    #[test]
    fn a_job_runs_on_the_shard_it_was_sent_to() {
        let pool = pool(3, 16);
        let (sender, answers) = bounded(3);
        for shard in 0..3 {
            let sender = sender.clone();
            pool.send(shard, move |context| sender.send((shard, context.shard())).unwrap()).unwrap();
        }
        let mut found: Vec<_> = (0..3).map(|_| answers.recv().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pool.counters().hops, 3);
    }

    #[test]
    fn a_panic_fails_its_job_alone_and_is_counted() {
        let pool = pool(1, 16);
        let (sender, answers) = bounded::<u32>(1);
        let lost = sender.clone();
        pool.send(0, move |_| {
            let _kept = lost;
            panic!("on purpose");
        })
        .unwrap();
        pool.send(0, move |_| sender.send(7).unwrap()).unwrap();
        assert_eq!(answers.recv(), Ok(7));
        assert_eq!(pool.counters().panics, 1);
    }

    #[test]
    fn a_full_mailbox_refuses_and_counts() {
        let pool = pool(1, 1);
        let (release, gate) = bounded::<()>(0);
        let (started, has_started) = bounded(1);
        pool.send(0, move |_| {
            started.send(()).unwrap();
            let _ = gate.recv();
        })
        .unwrap();
        has_started.recv().unwrap();
        pool.send(0, |_| {}).unwrap();
        let refused = pool.send(0, |_| {}).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_eq!(pool.counters().mailbox_full, 1);
        drop(release);
    }

    #[test]
    fn urgent_work_overtakes_background_work_between_slices() {
        let pool = pool(1, 16);
        let (sender, answers) = bounded(1);
        let stop = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&stop);
        pool.send_background(0, move |context| {
            while !context.is_slice_over() {
                std::hint::spin_loop();
            }
            if seen.load(Ordering::Relaxed) == 1 { Progress::Done } else { Progress::More }
        })
        .unwrap();
        for _ in 0..5 {
            let sender = sender.clone();
            pool.send(0, move |_| sender.send(()).unwrap()).unwrap();
            answers.recv().unwrap();
        }
        stop.store(1, Ordering::Relaxed);
    }

    #[test]
    fn a_shard_that_waits_is_woken_by_whatever_is_sent() {
        let pool = pool(2, 16);
        let asking = |shard: usize| {
            let pool = &pool;
            move || {
                let (sender, answers) = bounded(1);
                for round in 0..5000 {
                    let sender = sender.clone();
                    if round % 2 == 0 {
                        pool.send(shard, move |_| sender.send(round).unwrap()).unwrap();
                    } else {
                        let work = move |_: &mut ShardContext| {
                            sender.send(round).unwrap();
                            Progress::Done
                        };
                        pool.send_background(shard, work).unwrap();
                    }
                    assert_eq!(answers.recv(), Ok(round));
                }
            }
        };
        thread::scope(|scope| {
            for shard in [0, 0, 1] {
                scope.spawn(asking(shard));
            }
        });
        assert_eq!(pool.counters().panics, 0);
    }

    #[test]
    fn work_of_a_lane_is_called_until_it_is_done() {
        let pool = pool(2, 16);
        let (sender, answers) = bounded(1);
        let mut left = 1000;
        let work: LaneWork = Box::new(move || {
            left -= 1;
            if left == 0 {
                sender.send(()).unwrap();
            }
            left > 0
        });
        assert_eq!(Lane::count(&*pool), 2);
        Lane::send(&*pool, 1, work).unwrap();
        answers.recv().unwrap();
    }

    #[test]
    fn who_waits_for_a_place_in_a_full_mailbox_gets_it_when_the_shard_goes_on() {
        let pool = pool(1, 1);
        let (begun, has_begun) = bounded::<()>(1);
        let (gate, is_open) = bounded::<()>(1);
        pool.send(0, move |_| {
            begun.send(()).unwrap();
            is_open.recv().unwrap_or_default();
        })
        .unwrap();
        has_begun.recv().unwrap();
        pool.send(0, |_| {}).unwrap();
        assert_eq!(pool.send(0, |_| {}).unwrap_err().kind(), ErrorKind::Unavailable);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let (sender, answers) = bounded(1);
                pool.send_waiting(0, move |context| sender.send(context.shard()).unwrap()).unwrap();
                answers.recv().unwrap()
            });
            thread::sleep(Duration::from_millis(30));
            assert!(!waiting.is_finished());
            drop(gate);
            assert_eq!(waiting.join().unwrap(), 0);
        });
        assert_eq!((pool.counters().hops, pool.counters().mailbox_full), (4, 2));
    }

    #[test]
    fn dropping_the_pool_finishes_what_was_sent() {
        let pool = pool(2, 64);
        let done = Arc::new(AtomicU64::new(0));
        for number in 0..64 {
            let done = Arc::clone(&done);
            pool.send(number, move |_| {
                done.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        }
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), 64);
    }
}
