//! The process's memory budget: what requests hold is counted before it is allocated, and on top of what the process
//! has at rest, so that it never grows past its limit. What is counted is less than what it takes: the allocator rounds
//! up, and keeps pages that are half empty. So the process is measured as well when it may be near its limit, and near
//! what the machine has, which heads, cuts and whatever else is not counted may fill.
//!
//! A request is admitted by an estimate ([`Budget::admit`] waits its turn, first come first
//! served), grows its reservation as it learns more ([`Reservation::grow`] never waits, as waiting
//! while holding memory would deadlock), and gives everything back when the reservation is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::error::{Error, ErrorKind};

/// Bytes that a process may grow by for each byte that was given out since it was measured.
const GROWTH: u64 = 2;

/// The share of the limit that is given out before a process which may be near it is measured anew.
const STEP: u64 = 4096;

/// The shares of the limit, at least and at most, and otherwise the bytes that a process which is measured stays below
/// it, for what it grows by unseen.
const UNSEEN: (u64, u64, u64) = (32, 8, 8 << 20);

/// How long a process is taken for as large as it was when it was measured, by who wants much of what the machine has.
const MEASURED_FOR: Duration = Duration::from_millis(100);

/// The share of the limit that lies aside.
const ASIDE_SHARE: u64 = 32;

/// Bytes that lie aside wherever the limit is small.
const ASIDE_BYTES_MIN: u64 = 1 << 20;

/// The memory of a process as the system counts it.
pub trait Footprint: fmt::Debug + Send + Sync {
    /// Bytes that the process has in memory now; `None` where the system doesn't say.
    fn bytes(&self) -> Option<u64>;

    /// Gives back what was freed, and keeps no more of it from then on: they are too many for what is asked for.
    fn give_back(&self);
}

/// A number of bytes that a process and all its requests share.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: u64,
    /// Bytes that the process has without any request, and what is kept free.
    own: u64,
    process: Option<Process>,
    state: Mutex<State>,
    freed: Condvar,
    aside: OnceLock<Arc<Self>>,
}

/// A process that is measured, and the bytes that it never passes, whoever asks.
#[derive(Debug)]
struct Process {
    footprint: Box<dyn Footprint>,
    ceiling: u64,
}

/// Bytes held by one request; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

/// A request's turn in the queue for memory; dropping it leaves the queue.
#[derive(Debug)]
pub struct Admission {
    budget: Arc<Budget>,
    bytes: u64,
    ticket: Option<u64>,
}

/// What a budget has given out and refused, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Most bytes that are given out at a time.
    pub limit: u64,
    /// Bytes held now.
    pub used: u64,
    /// Most bytes ever held at once.
    pub peak: u64,
    /// Requests that are waiting now.
    pub waiting: usize,
    /// Requests that had to wait.
    pub waited: u64,
    /// Requests refused, among them those that gave up waiting.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Of what is used, bytes that are held for good.
    kept: u64,
    peak: u64,
    waited: u64,
    refused: u64,
    next_ticket: u64,
    queue: VecDeque<Waiter>,
    measured: Measured,
}

/// What is known of the size of a process.
#[derive(Debug, Default)]
struct Measured {
    /// Its bytes when it was measured last.
    bytes: u64,
    /// Bytes that were given out since.
    given: u64,
    /// When that was, if ever.
    at: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Option<Waker>,
}

impl Budget {
    /// A budget of `limit` bytes for requests, named after the flag that sets it.
    pub fn new(name: &'static str, limit: u64) -> Arc<Self> {
        Self::of_process(name, limit, 0)
    }

    /// A budget of `limit` bytes for a process of which `own` bytes are not for requests, no more than half of
    /// the limit: requests get the rest.
    pub fn of_process(name: &'static str, limit: u64, own: u64) -> Arc<Self> {
        Arc::new(Self::sized(name, limit, own, None))
    }

    /// The same for the process that is `measured` where it may be near the limit: nothing is given out at once that
    /// would have it pass that, but the first bytes of a request that is alone, and as long as requests have less than
    /// half of what is for them, whatever else the process has. Who waits for an estimate does so for what is counted
    /// alone: to tell when a process has become smaller it would have to be measured again and again. Nothing at all is
    /// given out that would have the process pass `ceiling` bytes, where the system would end it.
    pub fn of_measured(
        name: &'static str,
        limit: u64,
        own: u64,
        (footprint, ceiling): (Box<dyn Footprint>, u64),
    ) -> Arc<Self> {
        Arc::new(Self::sized(name, limit, own, Some(Process { footprint, ceiling })))
    }

    fn sized(name: &'static str, limit: u64, own: u64, process: Option<Process>) -> Self {
        let (own, state, freed) = (own.min(limit / 2), Mutex::default(), Condvar::new());
        Self { name, limit, own, process, state, freed, aside: OnceLock::new() }
    }

    /// Memory besides, for what is small and has to be heard however little of the rest is left, such as whether the
    /// process is healthy.
    pub fn aside(&self) -> &Arc<Self> {
        self.aside.get_or_init(|| Self::new(self.name, (self.limit / ASIDE_SHARE).max(ASIDE_BYTES_MIN)))
    }

    /// A turn in the queue for `bytes`: a future, or [`Admission::wait`] for a thread.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Admission {
        Admission { budget: Arc::clone(self), bytes, ticket: None }
    }

    /// `bytes` at once, or an error that names the limit.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Error> {
        let mut state = self.lock();
        if self.take(&mut state, bytes) {
            return Ok(Reservation { budget: Arc::clone(self), bytes });
        }
        state.refused += 1;
        Err(self.refusal(&state, bytes))
    }

    /// `bytes` at once, which are not given back as long as others ask: a request that wants more than what is left
    /// besides is refused at once, and keeps nobody waiting behind it.
    pub fn reserve_for_good(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Error> {
        let held = self.reserve(bytes)?;
        self.lock().kept += bytes;
        Ok(held)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Most bytes that are given out at a time.
    pub fn room(&self) -> u64 {
        self.limit - self.own
    }

    /// Most bytes that a request can have: those that are given out but the ones that are held for good.
    pub fn spare(&self) -> u64 {
        self.room() - self.lock().kept
    }

    /// Counts a refusal of what was never asked for in bytes, `message` says what; an error that names the limit.
    pub fn refuse(&self, message: impl std::fmt::Display) -> Error {
        self.lock().refused += 1;
        Error::limit(self.name, message)
    }

    /// What is held, waited for and refused.
    pub fn usage(&self) -> BudgetUsage {
        let state = self.lock();
        BudgetUsage {
            limit: self.room(),
            used: state.used,
            peak: state.peak,
            waiting: state.queue.len(),
            waited: state.waited,
            refused: state.refused,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `bytes` out where they are there and the process doesn't pass the limit with them.
    fn take(&self, state: &mut State, bytes: u64) -> bool {
        state.has(self.room(), bytes)
            && self.leaves_room(state, bytes)
            && self.stays_below_ceiling(state, bytes)
            && state.take(self.room(), bytes)
    }

    /// Whether the process stays below its ceiling with `bytes` more. It is measured when it may not, as far as is known:
    /// what is not counted grows too, so that what is known is old soon for who wants much.
    fn stays_below_ceiling(&self, state: &mut State, bytes: u64) -> bool {
        let Some(Process { footprint, ceiling }) = &self.process else { return true };
        let (measured, step) = (&state.measured, self.limit / STEP);
        let is_old = || measured.at.is_none_or(|at| at.elapsed() >= MEASURED_FOR);
        let may_pass =
            measured.may_pass(*ceiling, bytes, step) || (measured.given.saturating_add(bytes) >= step && is_old());
        if bytes == 0 || !may_pass {
            return true;
        }
        let mut fits = || state.measured.fits(footprint.as_ref(), bytes, *ceiling);
        match fits() {
            // What it has freed and kept may be in the way; one estimate that is too large has nothing given back for it.
            (false, now) if now > *ceiling - *ceiling / 8 => {
                footprint.give_back();
                fits().0
            }
            (fits, _) => fits,
        }
    }

    /// Whether the process stays below the limit with `bytes` more, which there are: measured when it may not, and
    /// requests have half of what is for them.
    fn leaves_room(&self, state: &mut State, bytes: u64) -> bool {
        let Some(Process { footprint, .. }) = &self.process else { return true };
        // Nothing more makes nothing larger: what has shrunk is never refused.
        if bytes == 0 {
            return true;
        }
        // Heads that are cut may have all the rest at once: what the process had before tells nothing.
        if state.used.saturating_sub(state.kept) + bytes <= (self.room() - state.kept) / 2 {
            return true;
        }
        let (least, most, unseen) = UNSEEN;
        let most = self.limit - unseen.clamp(self.limit / least, self.limit / most);
        if !state.measured.may_pass(most, bytes, self.limit / STEP) {
            return true;
        }
        let mut fits = || state.measured.fits(footprint.as_ref(), bytes, most).0;
        if !fits() && state.used > state.kept {
            // What was freed and kept is given back, and perhaps it fits then.
            footprint.give_back();
            return fits();
        }
        true
    }

    fn refusal(&self, state: &State, bytes: u64) -> Error {
        let used = self.own + state.used;
        let measured = match self.process {
            Some(_) if bytes <= self.room() - state.used && state.measured.at.is_some() => {
                format!(", {} with what is not counted", state.measured.bytes)
            }
            _ => String::new(),
        };
        Error::limit(self.name, format!("{bytes} bytes wanted, {used} of {} bytes are in use{measured}", self.limit))
    }

    fn release(&self, bytes: u64) {
        let mut state = self.lock();
        assert!(bytes <= state.used, "a reservation gives back no more than was taken");
        state.used -= bytes;
        self.wake_first(state);
    }

    /// Wakes whoever is first in the queue; they take what they need themselves.
    fn wake_first(&self, mut state: MutexGuard<'_, State>) {
        let Some(first) = state.queue.front_mut() else { return };
        let waker = first.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.freed.notify_all();
    }
}

impl State {
    fn has(&self, room: u64, bytes: u64) -> bool {
        self.used.checked_add(bytes).is_some_and(|used| used <= room)
    }

    fn take(&mut self, room: u64, bytes: u64) -> bool {
        let has = self.has(room, bytes);
        if has {
            self.used += bytes;
            self.measured.given = self.measured.given.saturating_add(bytes);
            self.peak = self.peak.max(self.used);
        }
        has
    }
}

impl Measured {
    /// Whether `most` may be passed with `bytes` more, and enough was given out to measure anew where it was not.
    fn may_pass(&self, most: u64, bytes: u64, step: u64) -> bool {
        let passes = |grown: u64| self.bytes.saturating_add(grown).saturating_add(bytes) > most;
        passes(0) || self.at.is_none() || (self.given >= step && passes(GROWTH.saturating_mul(self.given)))
    }

    /// Measures the process: whether it stays below `most` with `bytes` more, as it does where the system doesn't say,
    /// and what it has.
    fn fits(&mut self, footprint: &dyn Footprint, bytes: u64, most: u64) -> (bool, u64) {
        let Some(now) = footprint.bytes() else { return (true, 0) };
        *self = Self { bytes: now, given: 0, at: Some(Instant::now()) };
        (now.saturating_add(bytes) <= most, now)
    }
}

impl Admission {
    /// Blocks the thread until the bytes are there or `deadline` has passed.
    pub fn wait(mut self, deadline: Instant) -> Result<Reservation, Error> {
        let budget = Arc::clone(&self.budget);
        let mut state = budget.lock();
        loop {
            if let Some(outcome) = self.try_take(&mut state, None) {
                budget.wake_first(state);
                return outcome;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let refusal = budget.refusal(&state, self.bytes);
                drop(state);
                return Err(Error::new(ErrorKind::Limit, format!("{refusal} until the deadline")));
            }
            state = budget.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the bytes when it is this request's turn and they are there; queues up otherwise.
    fn try_take(&mut self, state: &mut State, waker: Option<&Waker>) -> Option<Result<Reservation, Error>> {
        if self.bytes > self.budget.room() - state.kept {
            state.refused += 1;
            let rest = match self.budget.own + state.kept {
                0 => String::new(),
                kept => format!(", of which the process itself, its caches and what is kept free have {kept}"),
            };
            let message = format!("{} bytes wanted, the limit is {} bytes{rest}", self.bytes, self.budget.limit);
            return Some(Err(Error::limit(self.budget.name, message)));
        }
        let first = state.queue.front().map(|waiter| waiter.ticket);
        let my_turn = first.is_none() || first == self.ticket;
        let is_there = my_turn && state.has(self.budget.room(), self.bytes);
        if is_there && !self.budget.stays_below_ceiling(state, self.bytes) {
            // Nobody would say when the process has become smaller, and this request may hold what others wait for.
            if self.ticket.take().is_some() {
                state.queue.pop_front();
            }
            state.refused += 1;
            return Some(Err(self.budget.refusal(state, self.bytes)));
        }
        if is_there && state.take(self.budget.room(), self.bytes) {
            if self.ticket.take().is_some() {
                state.queue.pop_front();
            }
            return Some(Ok(Reservation { budget: Arc::clone(&self.budget), bytes: self.bytes }));
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waited += 1;
            state.queue.push_back(Waiter { ticket, waker: None });
            ticket
        });
        if let Some(waiter) = state.queue.iter_mut().find(|waiter| waiter.ticket == ticket) {
            waiter.waker = waker.cloned();
        }
        None
    }
}

impl Future for Admission {
    type Output = Result<Reservation, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let budget = Arc::clone(&self.budget);
        let mut state = budget.lock();
        match self.try_take(&mut state, Some(context.waker())) {
            Some(outcome) => {
                budget.wake_first(state);
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.budget.lock();
        state.queue.retain(|waiter| waiter.ticket != ticket);
        state.refused += 1;
        self.budget.wake_first(state);
    }
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they are held of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Takes `bytes` more at once, or fails with an error that names the limit.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let mut state = self.budget.lock();
        if !self.budget.take(&mut state, bytes) {
            state.refused += 1;
            return Err(self.budget.refusal(&state, bytes));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Takes `bytes` more where they are there; that they are not counts for no refusal, as whoever asks can wait.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let is_taken = self.budget.take(&mut self.budget.lock(), bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }

    /// Makes it `bytes` large: takes what is missing at once, or fails with an error that names the limit.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Error> {
        self.shrink(self.bytes.saturating_sub(bytes));
        self.grow(bytes - self.bytes)
    }

    /// Parts `bytes` of it off, or all there is when that is less.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Joins `other`, of the same budget, to it.
    ///
    /// # Panics
    /// When it is of another budget.
    pub fn join(&mut self, mut other: Self) {
        assert!(Arc::ptr_eq(&self.budget, &other.budget), "reservations are joined within a budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives `bytes` back, or all there is when that is less.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.release(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.release(self.bytes);
        }
    }
}

/// A process of the size that a test says.
#[cfg(test)]
pub(crate) mod process {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    pub(crate) struct Process {
        pub(crate) bytes: AtomicU64,
        /// Of these, what it has freed and kept.
        pub(crate) freed: AtomicU64,
        /// Bytes that it grows by whenever it is measured.
        pub(crate) growth: AtomicU64,
        /// How often it was measured, and gave back what it had freed.
        pub(crate) measured: AtomicU64,
        pub(crate) given_back: AtomicU64,
    }

    impl Footprint for Arc<Process> {
        fn bytes(&self) -> Option<u64> {
            self.measured.fetch_add(1, Ordering::Relaxed);
            Some(self.bytes.fetch_add(self.growth.load(Ordering::Relaxed), Ordering::Relaxed))
        }

        fn give_back(&self) {
            self.given_back.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_sub(self.freed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::process::Process;
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new("--store.memory-limit", 100);
        let mut held = budget.reserve(60).unwrap();
        held.grow(40).unwrap();
        let refused = budget.reserve(1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Limit);
        assert!(refused.message().starts_with("--store.memory-limit: 1 bytes wanted, 100 of 100"), "{refused}");
        assert!(held.grow(1).is_err());
        held.resize(50).unwrap();
        assert!(held.resize(101).is_err());
        drop(budget.reserve(50).unwrap());
        let part = held.split(30);
        assert_eq!((part.bytes(), held.bytes(), budget.usage().used), (30, 20, 50));
        held.join(part);
        assert_eq!((held.bytes(), budget.usage().used), (50, 50));
        drop(held.split(60));
        assert_eq!((held.bytes(), budget.usage().used), (0, 0));
        drop(held);
        let usage = budget.usage();
        assert_eq!((usage.used, usage.peak, usage.refused), (0, 100, 3));
    }

    #[test]
    fn what_lies_aside_is_there_when_nothing_else_is() {
        let budget = Budget::new("--store.memory-limit", 64 << 20);
        let all = budget.reserve(64 << 20).unwrap();
        assert!(budget.reserve(1).is_err() && Arc::ptr_eq(all.budget(), &budget));
        let held = budget.aside().reserve(2 << 20).unwrap();
        assert!(budget.aside().reserve(1).is_err(), "it has a limit, too");
        assert_eq!((held.bytes(), budget.usage().used), (2 << 20, 64 << 20));
        assert_eq!(Budget::new("--store.memory-limit", 100).aside().limit(), 1 << 20);
    }

    #[test]
    fn a_request_waits_until_another_ends_and_gives_up_at_its_deadline() {
        let budget = Budget::new("--store.memory-limit", 100);
        let held = budget.reserve(80).unwrap();
        let error = budget.admit(50).wait(soon()).unwrap_err();
        assert!(error.message().contains("until the deadline"), "{error}");
        assert_eq!(budget.usage().waiting, 0);
        let waiting = budget.admit(50);
        let thread = std::thread::spawn(move || waiting.wait(Instant::now() + Duration::from_secs(30)));
        while budget.usage().waiting == 0 {
            std::thread::yield_now();
        }
        drop(held);
        assert_eq!(thread.join().unwrap().unwrap().bytes(), 50);
    }

    #[test]
    fn a_large_request_is_not_overtaken_for_ever_and_one_over_the_limit_is_refused_at_once() {
        let budget = Budget::new("--store.memory-limit", 100);
        assert!(budget.admit(101).wait(Instant::now() + Duration::from_secs(30)).is_err());
        let held = budget.reserve(50).unwrap();
        let mut large = budget.admit(90);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut large).poll(&mut context).is_pending());
        let mut small = budget.admit(10);
        assert!(Pin::new(&mut small).poll(&mut context).is_pending(), "the queue is first come first served");
        drop(held);
        assert!(Pin::new(&mut small).poll(&mut context).is_pending());
        assert!(Pin::new(&mut large).poll(&mut context).is_ready());
        assert!(Pin::new(&mut small).poll(&mut context).is_ready());
    }

    #[test]
    fn a_request_that_never_fits_beside_what_is_held_for_good_keeps_nobody_waiting() {
        let budget = Budget::new("--store.memory-limit", 100);
        let _cache = budget.reserve_for_good(30).unwrap();
        let error = budget.admit(71).wait(Instant::now() + Duration::from_secs(30)).unwrap_err();
        assert!(
            error.message().ends_with(
                "the limit is 100 bytes, of which the process itself, its caches and what is kept free have 30"
            ),
            "{error}"
        );
        assert_eq!((budget.spare(), budget.admit(70).wait(soon()).unwrap().bytes()), (70, 70));
    }

    #[test]
    fn what_the_process_has_without_requests_counts_up_to_half_of_the_limit() {
        let budget = Budget::of_process("--store.memory-limit", 100, 40);
        let error = budget.admit(61).wait(Instant::now() + Duration::from_secs(30)).unwrap_err();
        assert!(
            error.message().ends_with("of which the process itself, its caches and what is kept free have 40"),
            "{error}"
        );
        let mut held = budget.reserve(60).unwrap();
        assert!(!held.try_grow(1) && budget.usage().refused == 1);
        let error = held.grow(1).unwrap_err();
        assert!(error.message().ends_with("1 bytes wanted, 100 of 100 bytes are in use"), "{error}");
        assert_eq!((budget.usage().used, budget.usage().limit), (60, 60));
        drop(Budget::of_process("--store.memory-limit", 100, 70).reserve(50).unwrap());
    }

    /// A budget of 64,000 bytes, 8,000 of them not for requests, for a process of 8,000 bytes.
    fn measured() -> (Arc<Budget>, Arc<Process>) {
        let process = Arc::new(Process { bytes: AtomicU64::new(8000), ..Process::default() });
        let footprint = Box::new(Arc::clone(&process));
        (Budget::of_measured("--query.memory-limit", 64_000, 8000, (footprint, 300_000)), process)
    }

    #[test]
    fn a_process_that_takes_more_than_is_counted_gives_out_less() {
        let (budget, process) = measured();
        let mut held = budget.reserve(20_000).unwrap();
        process.bytes.store(55_900, Ordering::Relaxed);
        held.grow(1000).unwrap();
        let error = held.grow(16_000).unwrap_err();
        assert!(
            error.message().ends_with("29000 of 64000 bytes are in use, 55900 with what is not counted"),
            "{error}"
        );
        assert_eq!(process.given_back.load(Ordering::Relaxed), 1);
        drop(budget.admit(200).wait(soon()).expect("what is counted is there"));
        held.grow(50).unwrap();
        process.bytes.store(60_000, Ordering::Relaxed);
        assert!(held.grow(8000).is_err());
        held.resize(21_000).expect("it has become smaller");
        drop(budget.reserve(0).expect("nothing is asked for"));
        drop(held);
        budget.reserve(56_000).expect("a request that is alone");
        process.bytes.store(10_000, Ordering::Relaxed);
        let _others = budget.reserve(30_000).unwrap();
        budget.reserve(10_000).unwrap();
    }

    #[test]
    fn a_process_is_measured_only_when_it_may_be_near_its_limit() {
        let (budget, process) = measured();
        let _half = budget.reserve(28_000).unwrap();
        assert_eq!(process.measured.load(Ordering::Relaxed), 1, "its size was not known");
        let begin = Instant::now();
        for _ in 0..2000 {
            drop(budget.reserve(20).unwrap());
        }
        let known_anew = begin.elapsed().as_millis() / MEASURED_FOR.as_millis();
        let measured = u128::from(process.measured.load(Ordering::Relaxed));
        assert!((2..=3 + known_anew).contains(&measured), "{measured} times");
    }

    #[test]
    fn requests_have_half_of_their_room_whatever_else_a_process_has() {
        let (budget, process) = measured();
        process.bytes.store(100_000, Ordering::Relaxed);
        let mut held = budget.reserve(10_000).unwrap();
        process.bytes.store(110_000, Ordering::Relaxed);
        held.grow(18_000).unwrap();
        process.bytes.store(128_000, Ordering::Relaxed);
        assert!(held.grow(20).is_err());
        drop(held);
        budget.reserve(56_000).unwrap();
    }

    /// While a head of 4 KB labels was cut, queries of 25 bytes were refused.
    #[test]
    fn requests_have_half_of_their_room_also_while_a_process_grows_in_no_time() {
        let (budget, process) = measured();
        let mut held = budget.reserve(27_000).unwrap();
        process.bytes.store(200_000, Ordering::Relaxed);
        held.grow(25).unwrap();
        drop(budget.reserve(975).unwrap());
        assert!(held.grow(976).is_err());
    }

    /// Heads beside which requests had half of their room were too many for the machine.
    #[test]
    fn a_process_never_passes_what_the_machine_has_whoever_asks() {
        let (budget, process) = measured();
        process.bytes.store(290_000, Ordering::Relaxed);
        let mut held = budget.reserve(10_000).unwrap();
        assert_eq!(process.given_back.load(Ordering::Relaxed), 0);
        process.bytes.store(299_500, Ordering::Relaxed);
        let error = held.grow(1_000).unwrap_err();
        assert!(error.message().ends_with("299500 with what is not counted"), "{error}");
        assert_eq!(process.given_back.load(Ordering::Relaxed), 1);
        // It is not waited for either: who asks may hold what is in the way.
        let error = budget.admit(10_000).wait(Instant::now() + Duration::from_secs(30)).unwrap_err();
        assert!(error.message().ends_with("299500 with what is not counted"), "{error}");
        process.bytes.store(280_000, Ordering::Relaxed);
        drop(budget.admit(10_000).wait(soon()).expect("it is smaller"));
        let usage = budget.usage();
        assert_eq!((usage.refused, usage.waiting, usage.used), (2, 0, 10_000));
    }

    #[test]
    fn leaving_the_queue_lets_the_next_in() {
        let budget = Budget::new("--store.memory-limit", 100);
        let _held = budget.reserve(50).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut large = budget.admit(90);
        let mut small = budget.admit(10);
        assert!(Pin::new(&mut large).poll(&mut context).is_pending());
        assert!(Pin::new(&mut small).poll(&mut context).is_pending());
        drop(large);
        assert!(Pin::new(&mut small).poll(&mut context).is_ready());
    }
}
