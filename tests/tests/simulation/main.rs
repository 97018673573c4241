//! The storage side as a whole, simulated from seeds: samples are received, logged, cut into blocks,
//! shipped, compacted, downsampled and read, while disk and bucket fail and the process dies at any call.
//! Every sample that was acknowledged is read, and none twice.
//!
//! ```text
//! URU_SIMULATION_SEED=<seed> cargo test -p tests --test simulation    one seed again
//! URU_SIMULATION_SEEDS=<n>   cargo test -p tests --test simulation    the first n, and n that are new
//! ```

mod disk;
#[allow(dead_code, reason = "the server's own tests use the rest")]
#[path = "../../../server/tests/support/faulty.rs"]
mod faulty;
mod model;
mod reader;
mod world;

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seeds that are always run, and as many that are drawn anew.
const SEEDS: u64 = 6;

/// Worlds that are run at once; they mostly wait for the disk.
const AT_ONCE: usize = 4;

#[test]
fn what_was_acknowledged_is_read_and_nothing_twice_whatever_fails() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a seed is a number"));
    let seeds: Vec<u64> = match number("URU_SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => {
            let count = number("URU_SIMULATION_SEEDS").unwrap_or(SEEDS);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
            (0..count).chain((0..count).map(|at| now + at)).collect()
        }
    };
    let (seeds, failed) = (Mutex::new(seeds.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { break };
                    told(&format!("URU_SIMULATION_SEED={seed}"));
                    if catch_unwind(|| world::World::run(seed)).is_err() {
                        told(&format!("URU_SIMULATION_SEED={seed} failed"));
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "run each again with URU_SIMULATION_SEED: {failed:?}");
}

/// Writes a line past what the test harness keeps until a test has ended: a panic in a head or a log ends the
/// process, and what was kept with it.
fn told(line: &str) {
    // Whoever closed the other end needs no line.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn seeds_are_told_though_the_process_ends_before_its_test_does() {
    const LINE: &str = "URU_SIMULATION_SEED=told";
    if std::env::var_os("URU_SIMULATION_TOLD").is_some() {
        told(LINE);
        std::process::abort();
    }
    let own = std::env::current_exe().unwrap();
    let mut again = std::process::Command::new(own);
    again.args(["seeds_are_told_though", "--test-threads=1"]).env("URU_SIMULATION_TOLD", "1");
    let output = again.stdin(std::process::Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.lines().any(|line| line == LINE), "{:?}: {told}", output.status);
}
