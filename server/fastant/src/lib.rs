//! The clock of the disk cache, with the interface that `foyer-storage` uses of the crate of this name. That
//! one measures the processor's clock before `main`, which takes 20 ms of one core at least, whatever the
//! command; this one asks the system when somebody wants to know.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// This moment.
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since `earlier`; none when that is later.
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// A moment that threads share.
#[derive(Debug)]
pub struct Atomic(AtomicU64);

impl Atomic {
    /// Holds `moment`.
    pub fn new(moment: Instant) -> Self {
        Self(AtomicU64::new(nanos(moment)))
    }

    /// What it holds.
    pub fn load(&self, ordering: Ordering) -> Instant {
        Instant(origin() + Duration::from_nanos(self.0.load(ordering)))
    }

    /// Holds `moment` from now on.
    pub fn store(&self, moment: Instant, ordering: Ordering) {
        self.0.store(nanos(moment), ordering);
    }
}

/// From where shared moments are counted.
fn origin() -> std::time::Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(std::time::Instant::now)
}

/// Nanoseconds since the origin; moments before it are the origin.
fn nanos(moment: Instant) -> u64 {
    moment.0.saturating_duration_since(origin()).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_moment_is_the_one_that_was_stored() {
        let shared = Atomic::new(Instant::now());
        let before = shared.load(Ordering::Relaxed);
        let now = Instant(origin() + Duration::from_secs(3));
        shared.store(now, Ordering::Relaxed);
        assert_eq!(shared.load(Ordering::Relaxed), now);
        assert!(now.duration_since(before) > Duration::from_secs(2));
        assert_eq!(before.duration_since(now), Duration::ZERO);
    }
}
