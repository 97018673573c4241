//! Memory that was freed: how long the allocator keeps it before the system has it back.

use std::ffi::c_long;
use std::sync::atomic::{AtomicBool, Ordering};

use libmimalloc_sys::{mi_collect, mi_option_set_default, mi_option_t};

/// mimalloc's `mi_option_purge_delay`, after version 3's `mimalloc.h`.
const PURGE_DELAY: mi_option_t = 15;

/// Milliseconds for which freed memory is kept where it may be a large part of all: what a query frees is needed again
/// within this time where the same is asked again and again.
const KEPT_MS: c_long = 100;

/// The same where it is little beside the limit: mimalloc's default. Large answers that need new pages for all of
/// what they are made of take a fifth more CPU.
const KEPT_LONG_MS: c_long = 1000;

/// Limits of memory below which nothing that was freed is kept, and from which on it is kept for long.
const LIMITS: [u64; 2] = [512 << 20, 2 << 30];

/// Whether a thread that becomes idle gives back what it has freed.
static GIVES_BACK: AtomicBool = AtomicBool::new(false);

/// Has the allocator give freed memory back as soon as `limit`, the bytes that requests may hold, asks for, unless
/// `MIMALLOC_PURGE_DELAY` says when: what is kept is not in the account of requests.
pub fn keep_freed_memory(limit: u64) {
    // SAFETY: the call takes two numbers, checks the first one, and may be made at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, kept_ms(limit)) }
    GIVES_BACK.store(kept_ms(limit) == 0, Ordering::Relaxed);
}

/// Gives back what the calling thread keeps of what it has freed, where memory is short: the allocator keeps a page of
/// each size for each thread, up to 4 MiB large, until that thread allocates again. For threads that become idle.
pub fn give_back_when_short() {
    if GIVES_BACK.load(Ordering::Relaxed) {
        // SAFETY: the call is about what belongs to the calling thread, and may be made at any time.
        unsafe { mi_collect(true) }
    }
}

/// Gives back what was freed so far, which else is kept until something is freed again: behind a piece of work that
/// took much memory and comes once.
pub fn give_back_now() {
    // SAFETY: as above.
    unsafe { mi_collect(true) }
}

/// Keeps nothing that is freed any more, whatever the limit, and gives back what is kept: for a process that is about
/// to pass it.
pub fn keep_nothing_freed() {
    if GIVES_BACK.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: as above, for both calls.
    unsafe {
        mi_option_set_default(PURGE_DELAY, 0);
        mi_collect(true);
    }
}

fn kept_ms(limit: u64) -> c_long {
    match limit {
        _ if limit < LIMITS[0] => 0,
        _ if limit < LIMITS[1] => KEPT_MS,
        _ => KEPT_LONG_MS,
    }
}

/// Has it give freed memory back at once where the limit is small, and else soon: for processes that ingest and have heads
/// beside what `limit` is for.
pub fn keep_freed_memory_of_writes(limit: u64) {
    keep_freed_memory(limit.min(LIMITS[1] - 1));
}

/// Has it give freed memory back soon, in processes that compact or mend: kept for long behind merges it is a sixth more
/// memory, for nothing.
pub fn give_back_freed_memory() {
    // SAFETY: as above.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: the call takes a number and checks it.
        let now = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(now(), 1000, "the default of version 3");
        give_back_freed_memory();
        assert_eq!(now(), KEPT_MS);
        for (limit, kept) in [(100 << 20, 0), (1 << 30, KEPT_MS), (12 << 30, KEPT_LONG_MS)] {
            keep_freed_memory(limit);
            assert_eq!(now(), kept);
        }
        keep_nothing_freed();
        assert_eq!((now(), GIVES_BACK.load(Ordering::Relaxed)), (0, true));
    }
}
