//! Who works on the parts of a job: threads of its own, or cores that have something else to do in the
//! first place.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::chunk::Encoding;
use crate::model::{Error, ErrorKind};

/// Niceness of the threads of background jobs: queries come first.
const NICENESS: i32 = 19;

/// Chunks that are cut off for a core of a lane.
const LANE_CHUNKS: usize = 192;

/// What decoding and encoding a chunk of floats again costs, in units; see [`LANE_UNITS_MAX`].
const FLOAT_UNITS: usize = 8;

/// Samples of a chunk of floats, most often.
const FLOAT_SAMPLES: usize = 120;

/// What that costs of a downsampled chunk: five aggregates, each value by itself.
const AGGR_UNITS: usize = 8 * FLOAT_UNITS;

/// What that costs of a chunk of native histograms, each of which has memory of its own.
const HISTOGRAM_UNITS: usize = 32 * FLOAT_UNITS;

/// What it costs to copy a chunk.
pub(super) const COPY_UNITS: usize = 1;

/// Units after which a core of a lane gives a job back, for less than a millisecond's work. What is longer,
/// such as a series of a year or one of native histograms, it goes on with when no query waits.
pub const LANE_UNITS_MAX: usize = LANE_CHUNKS * FLOAT_UNITS;

/// What it costs to decode a chunk and encode its samples again.
pub(super) fn units(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => FLOAT_UNITS,
        Encoding::Aggr => AGGR_UNITS,
        _ => HISTOGRAM_UNITS,
    }
}

/// What it costs to look at `samples` floats once.
pub(super) fn sample_units(samples: usize) -> usize {
    (samples * FLOAT_UNITS).div_ceil(FLOAT_SAMPLES)
}

/// What may be spent on a job before it is given back, so that its core can do something else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    max: usize,
    left: usize,
}

impl Budget {
    /// A budget of `units`.
    pub(super) fn new(units: usize) -> Self {
        Self { max: units, left: units }
    }

    /// Takes what something costs, which may be more than is left.
    pub(super) fn spend(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Whether something that costs `units` may be done at once.
    pub(super) fn fits(&self, units: usize) -> bool {
        units <= self.max
    }

    /// How many floats may be looked at.
    pub(super) fn samples(&self) -> usize {
        self.left.saturating_mul(FLOAT_SAMPLES / FLOAT_UNITS)
    }

    /// How many of those that cost `units` each are within what is left; one at least.
    pub(super) fn count_of(&self, units: usize) -> usize {
        (self.left / units).max(1)
    }
}

/// Time without a result after which the caller works itself, for the cores may have no time for it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who works on the parts of a job besides the caller.
#[derive(Clone)]
pub struct Workers(Kind);

#[derive(Clone)]
enum Kind {
    Nobody,
    Threads(Arc<Crew>),
    Lane(Arc<dyn Lane>),
}

/// Cores with a lane for work that waits until they have nothing else to do.
pub trait Lane: Send + Sync {
    /// Number of cores.
    fn count(&self) -> usize;

    /// Has `work` called on core number `core`, about a millisecond at a time, until it says that there is
    /// no more to do. Fails when the lane is full or closed.
    fn send(&self, core: usize, work: LaneWork) -> Result<(), Error>;

    /// What one call of the work costs at most, about: a chunk of floats costs 8, and a core of ours takes
    /// a millisecond for some 2,000.
    fn units_max(&self) -> usize {
        LANE_UNITS_MAX
    }
}

/// Work in a lane: says whether there is more to do.
pub type LaneWork = Box<dyn FnMut() -> bool + Send>;

impl Workers {
    /// `threads` threads, which stay from job to job: what a thread leaves in memory serves the next job.
    /// They have the priority of the caller, and do nothing else.
    pub fn threads(threads: usize) -> Self {
        Self(if threads == 0 { Kind::Nobody } else { Kind::Threads(Arc::new(Crew::new(threads))) })
    }

    /// Cores of a process that answers queries.
    pub fn lane(lane: Arc<dyn Lane>) -> Self {
        Self(Kind::Lane(lane))
    }

    /// Cores to be woken for work; `None` when the caller works alone.
    pub(super) fn cores(&self) -> Option<&dyn Lane> {
        match &self.0 {
            Kind::Nobody => None,
            Kind::Threads(crew) => Some(&**crew),
            Kind::Lane(lane) => Some(&**lane),
        }
    }

    /// Whether workers may wait for a disk; if not the caller does.
    pub(super) fn may_wait(&self) -> bool {
        !matches!(self.0, Kind::Lane(_))
    }

    /// Time that the caller waits for a result before it works on what nobody works on yet.
    pub(super) fn patience(&self) -> Duration {
        if self.may_wait() { Duration::ZERO } else { PATIENCE }
    }

    /// What is spent on a job before it is given back.
    pub(super) fn units_max(&self) -> usize {
        match &self.0 {
            Kind::Lane(lane) => lane.units_max(),
            Kind::Nobody | Kind::Threads(_) => usize::MAX,
        }
    }

    /// Of `chunks` that one works on so many as these workers should take at once.
    pub(super) fn slice_chunks(&self, chunks: usize) -> usize {
        if self.may_wait() { chunks } else { chunks.min(LANE_CHUNKS) }
    }

    /// How many threads may wait for a disk at once, the caller's among them.
    pub fn readers(&self) -> usize {
        match &self.0 {
            Kind::Threads(crew) => crew.count() + 1,
            Kind::Nobody | Kind::Lane(_) => 1,
        }
    }
}

/// Threads that do nothing else. They end with the last owner.
struct Crew(Vec<Sender<LaneWork>>);

impl Crew {
    fn new(threads: usize) -> Self {
        let start = |thread| {
            let (sender, inbox) = unbounded::<LaneWork>();
            let body = move || take_turns(&inbox);
            // A thread that can't be started refuses its work, and the caller does it.
            drop(std::thread::Builder::new().name(format!("compact-{thread}")).spawn(body));
            sender
        };
        Self((0..threads).map(start).collect())
    }
}

/// Does all work that comes, each a part at a time, until nobody sends any more.
fn take_turns(inbox: &Receiver<LaneWork>) {
    let mut turns = VecDeque::new();
    loop {
        match turns.is_empty() {
            true => match inbox.recv() {
                Ok(work) => turns.push_back(work),
                Err(_) => return,
            },
            false => turns.extend(inbox.try_iter()),
        }
        let Some(mut work) = turns.pop_front() else { continue };
        // Work that panics ends; who sent it sees to it that nobody waits for it.
        if let Ok(true) = catch_unwind(AssertUnwindSafe(&mut work)) {
            turns.push_back(work);
        }
    }
}

impl Lane for Crew {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn send(&self, core: usize, work: LaneWork) -> Result<(), Error> {
        self.0[core].send(work).map_err(|_| Error::new(ErrorKind::Unavailable, "a thread of compaction is gone"))
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Nobody => write!(f, "nobody"),
            Kind::Threads(crew) => write!(f, "{} threads", crew.count()),
            Kind::Lane(lane) => write!(f, "the lane of {} cores", lane.count()),
        }
    }
}

/// Gives the calling thread, and all that it starts from now on, the priority of background jobs.
pub fn run_in_background() {
    // A kernel that refuses leaves the priority as it is, and the job runs all the same.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}
