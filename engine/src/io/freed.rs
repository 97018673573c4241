//! Memory that was freed: how long the allocator keeps it before the system has it back.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// mimalloc's `mi_option_purge_delay`, after version 3's `mimalloc.h`.
const PURGE_DELAY: mi_option_t = 15;

/// Milliseconds for which freed memory is kept. What a query frees is needed again within this time where the
/// same is asked again and again; kept for a tenth of it, the larger answers take a tenth more CPU, for all of
/// new pages, and kept ten times as long, as is mimalloc's default, a sixth more memory is held by what was
/// asked before.
const KEPT_MS: c_long = 100;

/// Has the allocator give freed memory back soon, unless `MIMALLOC_PURGE_DELAY` says when.
pub fn give_back_freed_memory() {
    // SAFETY: the call takes two numbers, checks the first one, and may be made at any time.
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
    }
}
