//! Explores a target with libFuzzer, guided by what its inputs reach:
//!
//!     RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \\
//!       -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table" \\
//!     FUZZ_TARGET=tsdb_index cargo run -p fuzz --no-default-features --features libfuzzer \\
//!       --target x86_64-unknown-linux-gnu --bin explore -- FOLDER -max_total_time=600
//!
//! An input that panics is written to a file; it belongs into `corpus/TARGET`, where every run of the
//! tests replays it.

#![no_main]

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        TARGETS.iter().find(|(known, _)| *known == name).expect("FUZZ_TARGET is a target").1
    });
    target(data);
});
