//! The process's memory budget: what requests hold is counted before it is allocated, and on top of what the process
//! has at rest, so that it never grows past its limit.
//!
//! A request is admitted by an estimate ([`Budget::admit`] waits its turn, first come first
//! served), grows its reservation as it learns more ([`Reservation::grow`] never waits, as waiting
//! while holding memory would deadlock), and gives everything back when the reservation is dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::error::{Error, ErrorKind};

/// A number of bytes that a process and all its requests share.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: u64,
    /// Bytes that the process has without any request, and what is kept free.
    own: u64,
    state: Mutex<State>,
    freed: Condvar,
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
        Arc::new(Self { name, limit, own: own.min(limit / 2), state: Mutex::default(), freed: Condvar::new() })
    }

    /// A turn in the queue for `bytes`: a future, or [`Admission::wait`] for a thread.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Admission {
        Admission { budget: Arc::clone(self), bytes, ticket: None }
    }

    /// `bytes` at once, or an error that names the limit.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Error> {
        let mut state = self.lock();
        if state.take(self.room(), bytes) {
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

    fn refusal(&self, state: &State, bytes: u64) -> Error {
        let used = self.own + state.used;
        let message = format!("{bytes} bytes wanted, {used} of {} bytes are in use", self.limit);
        Error::limit(self.name, message)
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
    fn take(&mut self, room: u64, bytes: u64) -> bool {
        let Some(used) = self.used.checked_add(bytes).filter(|used| *used <= room) else { return false };
        self.used = used;
        self.peak = self.peak.max(used);
        true
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
        if my_turn && state.take(self.budget.room(), self.bytes) {
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

    /// Takes `bytes` more at once, or fails with an error that names the limit.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let mut state = self.budget.lock();
        if !state.take(self.budget.room(), bytes) {
            state.refused += 1;
            return Err(self.budget.refusal(&state, bytes));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Takes `bytes` more where they are there; that they are not counts for no refusal, as whoever asks can wait.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let is_taken = self.budget.lock().take(self.budget.room(), bytes);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
