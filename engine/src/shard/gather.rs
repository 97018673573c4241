//! A request split over the shards, and its answer gathered in order.
//!
//! ```text
//! edge    admit ─ find ──────────── cut ─ range 0, 1, 2 … ──▶ frames in order
//! shards          find │ find │ …   cut   one range each, a few ahead of the reader
//! ```
//!
//! Finding, cutting and looking up the series of a range ask indexes. Where an index lies in a bucket and is
//! read from there, threads that may wait do it instead of shards.
//!
//! The reader's pace is the work's: a range is sent to a shard when an earlier one is taken, so what
//! is in work is bounded and accounted for before it starts. Dropping the stream ends the work.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::block::{BlockSet, Chosen};
use crate::model::{BlockId, Budget, Error, ErrorKind, Reservation};
use crate::select::{
    Failure, Fetched, Found, LabelAnswer, LabelBuffers, LabelRequest, Limits, Meter, Outcome, Output, Plan, Position,
    Prepared, RemoteRange, Request, Said, SinkFactory, Source, Stats,
};

use crate::select::plan::FIND_BYTES_PER_SERIES;

use super::pool::{Pool, ShardContext};

/// Bytes that a range in work is admitted with: chunks as they were read, and their frames.
pub const RANGE_BYTES: u64 = 3 << 20;

/// Ranges in work for each shard: one being worked on, one waiting.
const RANGES_PER_SHARD: usize = 2;

/// Parts of an answer that were taken and wait to be sent, such as in an HTTP/2 connection.
const PARTS_SENT: usize = 1;

/// Gets bytes that are not local. What it does may wait; it runs where the stream is read.
pub trait Fetcher: Send + Sync {
    /// The bytes of each of `ranges`, in their order; a range may be shorter where its object ends.
    fn fetch(&self, ranges: Vec<RemoteRange>) -> Fetching;
}

/// Bytes on their way.
pub type Fetching = Pin<Box<dyn Future<Output = Vec<Fetched>> + Send>>;

/// Runs requests on the shards within the process' memory.
#[derive(Clone)]
pub struct Selector {
    /// The shards.
    pub pool: Arc<Pool>,
    /// The process' memory.
    pub budget: Arc<Budget>,
}

/// What a request is answered with, besides the blocks.
pub struct Setting {
    /// What ends the request.
    pub limits: Limits,
    /// What makes frames of series.
    pub sinks: Arc<dyn SinkFactory>,
    /// Where bytes come from that are not local.
    pub fetcher: Option<Arc<dyn Fetcher>>,
}

/// A part of an answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Whole frames, in order after those of the part before.
    pub frames: Vec<u8>,
    /// Series in them.
    pub series: u64,
    /// Blocks that failed while these frames were made.
    pub failures: Vec<Failure>,
}

/// An answer that is being made, a few ranges ahead of its reader.
pub struct SeriesStream {
    /// First, so that what is in work ends when the stream is dropped.
    _asked: Asked,
    shared: Arc<Shared>,
    /// In the order of the answer: parts of a range that ended early, then ranges.
    slots: VecDeque<Slot>,
    next_range: usize,
    /// Where parts of a range that ended early start and end, which come behind those of its parts that are at work.
    left: VecDeque<(Position, Position)>,
    /// How many of its parts are at work.
    left_at_work: usize,
    slots_max: usize,
    /// Whole ranges in work at once, at most: others than the first keep what is left of it from its turn.
    ranges_max: usize,
    series_left: u64,
    stats: Stats,
    is_over: bool,
    reservation: Reservation,
    /// What the part that was taken last holds beyond what every part is admitted with.
    taken: Option<Reservation>,
}

/// A request that somebody waits for: dropping this ends its work.
struct Asked(Arc<Meter>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct Shared {
    pool: Arc<Pool>,
    plan: Plan,
    sinks: Arc<dyn SinkFactory>,
    fetcher: Option<Arc<dyn Fetcher>>,
    budget: Arc<Budget>,
}

/// A range that is done: its part of the answer, what became of it, and the memory that the part holds
/// beyond [`RANGE_BYTES`].
type Finished = Result<Box<(Answer, Output, Reservation)>, Error>;

/// A range in work.
struct Slot {
    work: Pin<Box<dyn Future<Output = Finished> + Send>>,
    done: Option<Finished>,
    end: Position,
}

/// A step of a range on its shard.
enum Step {
    Done(Box<(Answer, Output, Reservation)>),
    Fetch(Box<Prepared>),
    /// There is nothing to be fetched, and it was not prepared on a shard.
    Encode(Box<Prepared>),
}

/// What a shard is to do for a range.
enum Work {
    Start(Position, Position, u64),
    Resume(Box<Prepared>),
}

impl Selector {
    /// Finds the series of `blocks` that answer `request`: waits for memory, then for the shards.
    pub async fn select(&self, blocks: &BlockSet, request: Request, setting: Setting) -> Result<SeriesStream, Error> {
        let chosen = blocks.choose(&request.matchers, request.range, request.max_resolution, &request.block_matchers);
        let room = self.admit(self.answer_bytes(&request, self.looking_bytes(&chosen)), &chosen).await?;
        self.answer(chosen, request, (setting, room)).await
    }

    /// Waits for the memory of an answer to `request`, before whoever asks holds any.
    pub async fn room(&self, request: &Request) -> Result<Reservation, Error> {
        self.budget.admit(self.answer_bytes(request, 0)).await
    }

    /// As [`Self::select`], with `room` that was waited for: more is taken at once or not at all, as `blocks` hold
    /// memory that others wait for.
    pub async fn select_within(
        &self,
        mut room: Reservation,
        blocks: &BlockSet,
        (request, setting): (Request, Setting),
    ) -> Result<SeriesStream, Error> {
        let chosen = blocks.choose(&request.matchers, request.range, request.max_resolution, &request.block_matchers);
        let looking = self.looking_bytes(&chosen);
        if room.grow(looking).is_err() {
            // With fewer ranges in work there may be room to look for them.
            room.shrink(room.bytes().saturating_sub(RANGE_BYTES * (1 + PARTS_SENT) as u64));
            room.grow(looking)?;
        }
        room.shrink(looking);
        self.answer(chosen, request, (setting, room)).await
    }

    /// Ranges that an answer to `request` has in work, with room to look for series of `looking` bytes besides: as many
    /// as the shards can work on, or as half of the memory has room for, as what is looked up and fetched comes on top.
    fn slots_max(&self, request: &Request, looking: u64) -> usize {
        let (wanted, spare) = (RANGES_PER_SHARD * self.pool.len(), self.budget.spare().saturating_sub(looking));
        match request.limit {
            0 => slots_within(spare / 2).min(wanted),
            _ => 1,
        }
    }

    fn answer_bytes(&self, request: &Request, looking: u64) -> u64 {
        RANGE_BYTES * (self.slots_max(request, looking) + PARTS_SENT) as u64
    }

    async fn answer(
        &self,
        chosen: Vec<Chosen>,
        request: Request,
        (setting, room): (Setting, Reservation),
    ) -> Result<SeriesStream, Error> {
        let slots_max = slots_within(room.bytes());
        let meter = Arc::new(Meter::new(setting.limits, &self.budget));
        let asked = Asked(Arc::clone(&meter));
        let plan_runs = runs(&chosen);
        let parallel = self.pool.len();
        let parts = parallel.min(chosen.len()).max(1);
        let mut waiting = Vec::with_capacity(parts);
        let mut chosen = chosen.into_iter();
        // A single part is found where the plan is made: one hop, not two.
        for part in 0..if parts > 1 { parts } else { 0 } {
            let count = chosen.len().div_ceil(parts - part);
            let share: Vec<_> = chosen.by_ref().take(count).collect();
            let (request, meter) = (request.clone(), Arc::clone(&meter));
            let share_runs = runs(&share);
            waiting.push(ask(&self.pool, share_runs, move || find_all(share, &request, &meter))?);
        }
        let mut found = Vec::new();
        for part in waiting {
            found.extend(answer(part.recv_async().await)??);
        }
        let last: Vec<_> = chosen.collect();
        let plan = ask(&self.pool, plan_runs, move || -> Result<Plan, Error> {
            found.extend(find_all(last, &request, &meter)?);
            Plan::new(request, meter, found, parallel)
        })?;
        let plan = answer(plan.recv_async().await)??;
        Ok(SeriesStream::new(self, (asked, plan), setting.sinks, (setting.fetcher, room, slots_max)))
    }

    /// Waits for `bytes`, and until there is room to look for series in `chosen` on all shards; that
    /// is given back at once, as each look takes what it needs.
    async fn admit(&self, bytes: u64, chosen: &[Chosen]) -> Result<Reservation, Error> {
        let looking = self.looking_bytes(chosen);
        let mut reservation = self.budget.admit(bytes.saturating_add(looking)).await?;
        reservation.shrink(looking);
        Ok(reservation)
    }

    /// Bytes that looking for series in `chosen` takes on all shards.
    fn looking_bytes(&self, chosen: &[Chosen]) -> u64 {
        let series = chosen.iter().map(|chosen| chosen.block.series_max()).max().unwrap_or(0);
        let sides = self.pool.len().min(chosen.len()) as u64;
        series.saturating_mul(sides * FIND_BYTES_PER_SERIES)
    }

    /// Label names or values over `blocks`. The error of a limit ends the request; others are their
    /// block's own.
    pub async fn labels(&self, blocks: &BlockSet, request: LabelRequest, limits: Limits) -> Result<LabelAnswer, Error> {
        let chosen = blocks.overlapping(&request.matchers, request.range, &request.block_matchers);
        drop(self.admit(0, if request.matchers.is_empty() { &[] } else { &chosen }).await?);
        let (request, meter) = (Arc::new(request), Arc::new(Meter::new(limits, &self.budget)));
        let _asked = Asked(Arc::clone(&meter));
        let parts = self.pool.len().min(chosen.len()).max(1);
        let mut waiting = Vec::with_capacity(parts);
        let mut chosen = chosen.into_iter();
        for part in 0..parts {
            let count = chosen.len().div_ceil(parts - part);
            let share: Vec<_> = chosen.by_ref().take(count).collect();
            let (request, meter) = (Arc::clone(&request), Arc::clone(&meter));
            let share_runs = runs(&share);
            waiting.push(ask(&self.pool, share_runs, move || request.ask_all(share, &meter))?);
        }
        let (mut said, mut left) = (Said::default(), Vec::new());
        for part in waiting {
            let (own, rest) = answer(part.recv_async().await)??;
            said.join(own);
            left.extend(rest);
        }
        if !left.is_empty() {
            let (request, left_runs) = (Arc::clone(&request), runs(&left));
            let all = ask(&self.pool, left_runs, move || request.ask_one_by_one(said, &left, &meter))?;
            said = answer(all.recv_async().await)??;
        }
        Ok(request.answer(said))
    }
}

/// Ranges in work, at least one, of an answer that is admitted with `bytes`.
fn slots_within(bytes: u64) -> usize {
    ((bytes / RANGE_BYTES) as usize).saturating_sub(PARTS_SENT).max(1)
}

/// Whole ranges in work of `slots_max` parts, at most, where as much is left of the next ones as of the last, which
/// ended early: with room for what is left beside them all shards work on it.
fn ranges_within(slots_max: usize, left: usize) -> usize {
    (slots_max - left.min(slots_max / 2)).max(RANGES_PER_SHARD)
}

/// The series of each of `chosen`.
fn find_all(chosen: Vec<Chosen>, request: &Request, meter: &Meter) -> Result<Vec<Found>, Error> {
    let find = |chosen| -> Result<Found, Error> {
        meter.check_wanted()?;
        Source::find(chosen, request, meter)
    };
    chosen.into_iter().map(find).collect()
}

/// Where a job that asks indexes runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// On a shard.
    OnShard,
    /// Where it may wait for bytes that are not local.
    Waiting,
}

/// Where a job runs that asks the indexes of `chosen`.
fn runs(chosen: &[Chosen]) -> Runs {
    if chosen.iter().any(|chosen| chosen.block.index_waits()) { Runs::Waiting } else { Runs::OnShard }
}

/// Runs `job`, which asks indexes, where it `runs`; its result comes through the channel.
fn ask<T: Send + 'static>(
    pool: &Pool,
    runs: Runs,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<flume::Receiver<T>, Error> {
    if runs == Runs::OnShard {
        return call(pool, move |_| job());
    }
    let (sender, receiver) = flume::bounded(1);
    // Whoever asked may have gone away; then nobody takes the result.
    pool.wait(move || drop(sender.send(job())))?;
    Ok(receiver)
}

impl SeriesStream {
    fn new(
        selector: &Selector,
        (asked, plan): (Asked, Plan),
        sinks: Arc<dyn SinkFactory>,
        (fetcher, mut reservation, slots_max): (Option<Arc<dyn Fetcher>>, Reservation, usize),
    ) -> Self {
        let slots_max = slots_max.min(plan.range_count().max(1));
        let needed = RANGE_BYTES * (slots_max + PARTS_SENT) as u64;
        reservation.shrink(reservation.bytes().saturating_sub(needed));
        let limit = plan.request().limit;
        Self {
            _asked: asked,
            slots: VecDeque::with_capacity(slots_max),
            next_range: 0,
            left: VecDeque::new(),
            left_at_work: 0,
            slots_max,
            ranges_max: slots_max,
            series_left: if limit == 0 { u64::MAX } else { limit },
            stats: *plan.stats(),
            is_over: false,
            reservation,
            taken: None,
            shared: Arc::new(Shared {
                pool: Arc::clone(&selector.pool),
                plan,
                sinks,
                fetcher,
                budget: Arc::clone(&selector.budget),
            }),
        }
    }

    /// The next part of the answer; `None` at its end. An error ends it.
    pub async fn next(&mut self) -> Option<Result<Answer, Error>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`SeriesStream::next`] for those who poll.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Answer, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.fill();
        for slot in self.slots.iter_mut().filter(|slot| slot.done.is_none()) {
            if let Poll::Ready(outcome) = slot.work.as_mut().poll(context) {
                slot.done = Some(outcome);
            }
        }
        let Some(front) = self.slots.front_mut() else {
            (self.is_over, self.taken) = (true, None);
            return Poll::Ready(None);
        };
        let Some(outcome) = front.done.take() else { return Poll::Pending };
        let slot = self.slots.pop_front();
        match outcome {
            Ok(finished) => {
                let (answer, output, held) = *finished;
                self.taken = Some(held);
                self.take(&answer, output, slot.map(|slot| slot.end));
                // What was freed is put to work before the caller sends this part away.
                self.fill();
                Poll::Ready(Some(Ok(answer)))
            }
            Err(error) => {
                self.is_over = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Blocks that could not say which of their series match; known before the first part.
    pub fn failures(&self) -> &[Failure] {
        self.shared.plan.failures()
    }

    /// Ids of the blocks that have a part in the answer.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.shared.plan.blocks()
    }

    /// What the parts taken so far have touched.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Parts of a range that ended early and are not at work yet, and whole ranges that are.
    #[cfg(test)]
    pub(super) fn in_turn(&self) -> (usize, usize) {
        (self.left.len(), self.slots.len() - self.left_at_work)
    }

    /// Bytes that the request holds of the process' memory.
    pub fn reserved_bytes(&self) -> u64 {
        self.reservation.bytes()
    }

    fn take(&mut self, answer: &Answer, mut output: Output, end: Option<Position>) {
        output.stats.frame_bytes = answer.frames.len() as u64;
        self.stats.add(&output.stats);
        self.series_left = self.series_left.saturating_sub(answer.series);
        if self.series_left == 0 {
            self.slots.clear();
            self.left.clear();
            self.left_at_work = 0;
            self.next_range = self.shared.plan.range_count();
            return;
        }
        let was_left = self.left_at_work > 0;
        self.left_at_work = self.left_at_work.saturating_sub(1);
        let Some(end) = end else { return };
        if !was_left {
            self.ranges_max = ranges_within(self.slots_max, output.next.len());
            self.left.extend(output.left(end));
        } else if let Some(next) = output.next.into_iter().next() {
            // What is left of what was left comes before the rest of it.
            let slot = self.slot(next, end);
            self.slots.push_front(slot);
            self.left_at_work += 1;
        }
    }

    /// Puts ranges to work as long as there is room for them.
    fn fill(&mut self) {
        while self.slots.len() < self.slots_max {
            if let Some((start, end)) = self.left.pop_front() {
                let slot = self.slot(start, end);
                self.slots.insert(self.left_at_work, slot);
                self.left_at_work += 1;
                continue;
            }
            let ranges = self.slots.len() - self.left_at_work;
            if ranges >= self.ranges_max || self.next_range == self.shared.plan.range_count() {
                return;
            }
            let (start, end) = self.shared.plan.range(self.next_range);
            let slot = self.slot(start.clone(), end.clone());
            self.slots.push_back(slot);
            self.next_range += 1;
        }
    }

    /// A range in work: its first step is on its way to a shard when this returns.
    fn slot(&self, start: Position, end: Position) -> Slot {
        let shared = Arc::clone(&self.shared);
        let first = shared.step(Work::Start(start, end.clone(), self.series_left));
        let work = Box::pin(async move {
            let mut waiting = first?;
            // What is fetched is there until all of it is framed.
            let mut held = shared.plan.hold(0)?;
            loop {
                match answer(waiting.recv_async().await)?? {
                    Step::Done(finished) => return Ok(finished),
                    Step::Encode(prepared) => waiting = shared.step(Work::Resume(prepared))?,
                    Step::Fetch(mut prepared) => {
                        let ranges = prepared.remote_ranges(&shared.plan);
                        let Some(fetcher) = &shared.fetcher else {
                            return Err(Error::new(ErrorKind::Bug, "a block is not local and nothing can fetch it"));
                        };
                        held.grow(ranges.iter().map(|range| range.len).sum())?;
                        let begin = Instant::now();
                        let fetched = fetcher.fetch(ranges).await;
                        prepared.set_fetched(&shared.plan, fetched, begin.elapsed())?;
                        waiting = shared.step(Work::Resume(prepared))?;
                    }
                }
            }
        });
        Slot { work, done: None, end }
    }
}

impl Shared {
    fn step(self: &Arc<Self>, work: Work) -> Result<flume::Receiver<Result<Step, Error>>, Error> {
        let shared = Arc::clone(self);
        match work {
            Work::Start(start, end, series_max) if self.plan.index_waits() => {
                ask(&self.pool, Runs::Waiting, move || -> Result<Step, Error> {
                    let mut labels = LabelBuffers::default();
                    let prepared = Prepared::new(&shared.plan, (&start, &end), series_max, &mut labels)?;
                    let prepared = Box::new(prepared);
                    let is_local = prepared.remote_ranges(&shared.plan).is_empty();
                    Ok(if is_local { Step::Encode(prepared) } else { Step::Fetch(prepared) })
                })
            }
            work => call(&self.pool, move |context| shared.run(work, context)),
        }
    }

    /// One step of a range, on a shard.
    fn run(&self, work: Work, context: &mut ShardContext) -> Result<Step, Error> {
        let mut prepared = match work {
            Work::Start(start, end, series_max) => {
                let prepared = Box::new(Prepared::new(&self.plan, (&start, &end), series_max, context.labels())?);
                if !prepared.remote_ranges(&self.plan).is_empty() {
                    return Ok(Step::Fetch(prepared));
                }
                prepared
            }
            Work::Resume(prepared) => prepared,
        };
        loop {
            let estimate = prepared.bytes_estimate();
            // A few series of very many chunks, or of very long labels: more than what every range is
            // admitted with.
            let oversize = (2 * estimate as u64).saturating_sub(RANGE_BYTES) + prepared.lists_bytes();
            let mut oversize = self.budget.reserve(oversize)?;
            let mut sink = self.sinks.sink(estimate);
            match prepared.encode(&self.plan, context.io(), &mut *sink)? {
                Outcome::Done(mut output) => {
                    let failures = std::mem::take(&mut output.failures);
                    let answer = Answer { frames: sink.take(), series: output.series, failures };
                    // The frames wait for their reader longer than what they were made of.
                    let kept = (answer.frames.capacity() as u64).saturating_sub(RANGE_BYTES);
                    oversize.grow(kept.saturating_sub(oversize.bytes()))?;
                    oversize.shrink(oversize.bytes() - kept);
                    return Ok(Step::Done(Box::new((answer, *output, oversize))));
                }
                Outcome::Fetch(longer) if longer.remote_ranges(&self.plan).is_empty() => prepared = longer,
                Outcome::Fetch(longer) => return Ok(Step::Fetch(longer)),
            }
        }
    }
}

/// Runs `job` on some shard; its result comes through the channel.
pub fn call<T: Send + 'static>(
    pool: &Pool,
    job: impl FnOnce(&mut ShardContext) -> T + Send + 'static,
) -> Result<flume::Receiver<T>, Error> {
    let (sender, receiver) = flume::bounded(1);
    // Whoever asked may have gone away; then nobody takes the result.
    pool.send(pool.any(), move |context| drop(sender.send(job(context))))?;
    Ok(receiver)
}

/// What a job gave; a job that gave nothing has panicked.
pub fn answer<T>(received: Result<T, flume::RecvError>) -> Result<T, Error> {
    received.map_err(|_| panicked())
}

/// Why there is no answer of a job that panicked.
pub(super) fn panicked() -> Error {
    Error::new(ErrorKind::Bug, "a shard's job panicked; its request fails alone")
}

/// Runs `future` on the calling thread, which must not be a shard.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
