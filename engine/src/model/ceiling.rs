//! How large a process may become by what it keeps of what it was sent, such as heads: no request gives that back, so
//! that it is in no budget. It is measured, as it takes more than could be counted.
//!
//! ```text
//! 0 ─ all is taken ─ limit ─ nothing new is taken ─ most ─ nothing is taken
//! ```
//! A measure holds for a while, or until so much was made since that it can't: who asks mostly reads two numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::budget::{Budget, Footprint};
use super::error::{Error, ErrorKind};

/// Milliseconds for which a measure holds.
const HOLDS_MS: u64 = 100;

/// Least milliseconds between two times at which memory that was freed is given back.
const GIVE_BACK_MS: u64 = 1000;

/// The share of the limit that is made before the process is measured anew.
const STEP: u64 = 64;

/// The limit of a process, and its size.
#[derive(Debug)]
pub struct Ceiling {
    name: &'static str,
    limit: u64,
    most: u64,
    process: Box<dyn Footprint>,
    begin: Instant,
    /// Its bytes when it was measured last; 0 where the system doesn't say.
    measured: AtomicU64,
    /// Bytes that were made since then, as far as they are known.
    made: AtomicU64,
    /// Milliseconds after the beginning from which on it is to be measured anew.
    measure_due: AtomicU64,
    /// The same for giving memory back.
    give_back_due: AtomicU64,
    limited: AtomicU64,
    /// What requests hold, who give it back by themselves.
    requests: OnceLock<Arc<Budget>>,
}

impl Ceiling {
    /// That of `process`, of which `limit` and `most` are told by the flag `name`: the bytes beyond which nothing new
    /// is kept, and those beyond which nothing is.
    pub fn new(name: &'static str, (limit, most): (u64, u64), process: Box<dyn Footprint>) -> Arc<Self> {
        let (measured, made, measure_due, give_back_due, limited) = Default::default();
        let (begin, requests) = (Instant::now(), OnceLock::new());
        Arc::new(Self {
            name,
            limit,
            most,
            process,
            begin,
            measured,
            made,
            measure_due,
            give_back_due,
            limited,
            requests,
        })
    }

    /// What `requests` hold doesn't count from now on: what was sent is not refused for what is asked.
    pub fn leave_out(&self, requests: Arc<Budget>) {
        self.requests.get_or_init(|| requests);
    }

    /// Whether nothing new is kept now.
    pub fn is_passed(&self) -> bool {
        self.bytes(self.now_ms()) > self.limit
    }

    /// Whether something new may be kept that takes `bytes`, rather fewer than that.
    pub fn has_room(&self, bytes: u64) -> bool {
        let now = self.now_ms();
        if self.bytes(now) > self.limit {
            return false;
        }
        let made = self.made.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        made < self.limit / STEP || self.measure(now) <= self.limit
    }

    /// Refuses whatever would be kept, and counts that, where the process has so much memory that nothing more may be.
    pub fn check(&self) -> Result<(), Error> {
        let bytes = self.bytes(self.now_ms());
        if bytes <= self.most {
            return Ok(());
        }
        self.limited.fetch_add(1, Ordering::Relaxed);
        let (limit, most) = (self.limit, self.most);
        let what = format!("from {most} on no samples are taken");
        Err(self.refusal(format_args!("{bytes} bytes, the limit is {limit}, and {what}")))
    }

    /// Counts a batch whose new series were refused; the error says why.
    pub fn refuse_new(&self) -> Error {
        self.limited.fetch_add(1, Ordering::Relaxed);
        let (bytes, limit) = (self.measured.load(Ordering::Relaxed), self.limit);
        self.refusal(format_args!("{bytes} bytes, the limit is {limit}, beyond which no new series are taken"))
    }

    /// How many batches were refused, or what was new in them.
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn refusal(&self, what: std::fmt::Arguments<'_>) -> Error {
        let message = format!("{}: the process has {what} until heads have been cut", self.name);
        Error::new(ErrorKind::Unavailable, message)
    }

    fn now_ms(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    /// Bytes of the process at `now`, or shortly before.
    fn bytes(&self, now: u64) -> u64 {
        if is_turn(&self.measure_due, now, HOLDS_MS) {
            return self.measure(now);
        }
        self.measured.load(Ordering::Relaxed)
    }

    /// Measures the process. Before it is found too large, what it has freed and kept is given back.
    fn measure(&self, now: u64) -> u64 {
        self.made.store(0, Ordering::Relaxed);
        self.measure_due.store(now + HOLDS_MS, Ordering::Relaxed);
        let mut bytes = self.own_bytes();
        if bytes > self.limit && is_turn(&self.give_back_due, now, GIVE_BACK_MS) {
            self.process.give_back();
            bytes = self.own_bytes();
        }
        self.measured.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// Bytes of the process but those of requests; 0 where the system doesn't say.
    fn own_bytes(&self) -> u64 {
        let held = self.requests.get().map_or(0, |requests| requests.usage().used);
        self.process.bytes().unwrap_or(0).saturating_sub(held)
    }
}

/// Whether what is `due` may be done at `now`: by one of those who ask, and then by nobody for `pause` milliseconds.
fn is_turn(due: &AtomicU64, now: u64, pause: u64) -> bool {
    let next = |due: u64| (due <= now).then_some(now + pause);
    due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::budget::process::Process;
    use super::*;

    fn ceiling() -> (Arc<Ceiling>, Arc<Process>) {
        let process = Arc::new(Process::default());
        (Ceiling::new("--tsdb.memory-limit", (6400, 8000), Box::new(Arc::clone(&process))), process)
    }

    /// What is refused at once where the process has `bytes`: what is new, and everything.
    fn refused(bytes: u64) -> [bool; 2] {
        let (ceiling, process) = ceiling();
        process.bytes.store(bytes, Ordering::Relaxed);
        [!ceiling.has_room(1), ceiling.check().is_err()]
    }

    #[test]
    fn beyond_the_limit_nothing_new_is_kept_and_beyond_the_most_nothing() {
        assert_eq!([6400, 6401, 8000, 8001].map(refused), [[false; 2], [true, false], [true, false], [true; 2]]);
    }

    #[test]
    fn refusals_are_counted_and_tell_the_flag_and_both_sizes() {
        let (ceiling, process) = ceiling();
        process.bytes.store(9000, Ordering::Relaxed);
        for (refusal, what) in [(ceiling.check().unwrap_err(), "no samples"), (ceiling.refuse_new(), "no new series")] {
            assert_eq!(refusal.kind(), ErrorKind::Unavailable);
            for told in ["--tsdb.memory-limit: ", "9000 bytes", "6400", what] {
                assert!(refusal.message().contains(told), "{told}: {refusal}");
            }
        }
        assert_eq!((ceiling.limited(), ceiling.limit()), (2, 6400));
    }

    /// Heads of half a limit and a large query once were too much for any sample.
    #[test]
    fn what_requests_hold_does_not_count() {
        let (ceiling, process) = ceiling();
        let requests = Budget::new("--store.memory-limit", 10_000);
        ceiling.leave_out(Arc::clone(&requests));
        let _held = requests.reserve(3000).unwrap();
        process.bytes.store(9000, Ordering::Relaxed);
        assert!(!ceiling.is_passed() && ceiling.has_room(1) && ceiling.check().is_ok());
    }

    #[test]
    fn a_measure_holds_for_a_while_and_one_of_those_who_ask_renews_it() {
        let (ceiling, process) = ceiling();
        for (now, bytes, found, measured) in [(0, 10, 10, 1), (99, 20, 10, 1), (100, 30, 30, 2), (101, 40, 30, 2)] {
            process.bytes.store(bytes, Ordering::Relaxed);
            assert_eq!((0..50).map(|_| ceiling.bytes(now)).collect::<Vec<_>>(), [found; 50], "{now}");
            assert_eq!(process.measured.load(Ordering::Relaxed), measured, "{now}");
        }
    }

    #[test]
    fn what_is_made_in_the_meantime_has_the_process_measured_before_its_time() {
        let (ceiling, process) = ceiling();
        // A hundred bytes are a 64th.
        assert!((0..200).all(|_| ceiling.has_room(2)));
        let measured = process.measured.load(Ordering::Relaxed);
        assert!(measured >= 5, "{measured}");
        process.bytes.store(7000, Ordering::Relaxed);
        assert!(!ceiling.has_room(100));
    }

    #[test]
    fn what_was_freed_is_given_back_before_anything_is_refused_and_once_a_second_at_most() {
        let (ceiling, process) = ceiling();
        process.bytes.store(7000, Ordering::Relaxed);
        process.freed.store(1000, Ordering::Relaxed);
        assert_eq!(ceiling.bytes(0), 6000);
        process.bytes.store(7000, Ordering::Relaxed);
        process.freed.store(1000, Ordering::Relaxed);
        assert_eq!([500, 900, 1000].map(|now| ceiling.bytes(now)), [7000, 7000, 6000]);
        assert_eq!(process.given_back.load(Ordering::Relaxed), 2);
    }
}
