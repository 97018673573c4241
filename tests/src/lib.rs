//! What the tests that cross crates share: where reference data lies, and the language of
//! Prometheus' PromQL tests.

/// A core that gives background jobs back soon.
pub mod impatient;
/// The language of Prometheus' PromQL tests: its scripts, and how an engine is held to them.
pub mod promqltest;
/// Random numbers from a seed.
pub mod random;
/// Folders that tests write to.
pub mod scratch;
/// Series written to a block and opened again.
pub mod written;

use std::path::PathBuf;

/// The path of `name` among the reference data that lies beside the repository; `None`, with a line
/// that says so, where it is absent. Panics instead when `URU_REQUIRE_ALL=1`.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("URU_REQUIRE_ALL").is_none_or(|value| value != "1"), "{} is absent", path.display());
    eprintln!("SKIPPED: {} is absent", path.display());
    None
}
