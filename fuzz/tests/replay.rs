//! Every input of every fuzz target, and mutations of it that are the same on each run.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuzz::{TARGETS, seeds};

/// Mutations of each input.
const MUTATIONS: u64 = 300;

/// Marsaglia's xorshift, so that a seed says which mutation it was.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// `input` with one to four changes: bits, bytes, cuts, insertions, repetitions.
fn mutate(input: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.below(256) as u8),
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                let again = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// The inputs of the target called `name`: the files of its corpus, and what our writers write.
fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let written = seeds::of(name).into_iter().enumerate();
    let mut inputs: Vec<_> = written.map(|(at, bytes)| (format!("seeds::of({name:?})[{at}]"), bytes)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        inputs.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    inputs
}

#[test]
fn no_decoder_panics_on_its_corpus_or_on_mutations_of_it() {
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (file, bytes) in inputs {
            if catch_unwind(|| target(&bytes)).is_err() {
                failures.push(format!("{name}: {file}, unchanged"));
            }
            for seed in 0..MUTATIONS {
                let mutated = mutate(&bytes, seed);
                if catch_unwind(|| target(&mutated)).is_err() {
                    failures.push(format!("{name}: {file}, seed {seed}: {:?}", String::from_utf8_lossy(&mutated)));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} inputs panic:\n{}", failures.len(), failures.join("\n"));
}

/// Seconds for which new mutations are drawn; more are for a longer run by hand.
const SECONDS_VARIABLE: &str = "URU_FUZZ_SECONDS";

#[test]
fn no_decoder_panics_on_mutations_drawn_anew_for_as_long_as_the_run_may_take() {
    let seconds = std::env::var(SECONDS_VARIABLE).ok().map_or(1, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let inputs: Vec<_> = TARGETS.iter().map(|(name, target)| (name, target, inputs(name))).collect();
    let mut failures = Vec::new();
    for seed in first.. {
        if Instant::now() > end {
            break;
        }
        for (name, target, inputs) in &inputs {
            let (file, bytes) = &inputs[seed as usize % inputs.len()];
            // Changes of changes go further from what our writers write.
            let mutated = mutate(&mutate(bytes, seed), seed ^ 0x5bd1_e995);
            if catch_unwind(|| target(&mutated)).is_err() {
                failures.push(format!("{name}: {file}, seed {seed}: {}", mutated.escape_ascii()));
            }
        }
    }
    assert!(failures.is_empty(), "{} inputs panic:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_folder_of_the_corpus_has_its_target() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name} is no target");
    }
}
