//! What series are told apart by: two hashes of their labels' canonical form.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::EncodedLabels;
use crate::simd::{self, digest};

/// A hash of a series' labels, the same in every process: which partition a series belongs to
/// follows from it, and where a head looks for it first. It is XXH3 of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesHash(pub u64);

/// What tells apart series of one [`SeriesHash`]: another hash of their labels, under a key that is drawn by each
/// process and shown to nobody. That makes it hard to find labels that share both on purpose, but not impossible:
/// none of these hashes is a cryptographic one. Heads compare it in place of the labels. Of ten million series two share it and the half of the other hash that heads keep with
/// a probability below 10^-15, which is less than that of a memory error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesCheck(pub u64);

/// What checks are made under.
enum CheckKey {
    /// Digests, where they are fast.
    Digest(digest::Key),
    /// XXH3 under a seed elsewhere.
    Seed(u64),
}

impl SeriesHash {
    /// The hash and the check of a series, for which its labels are gone through once.
    #[inline]
    pub fn with_check(labels: EncodedLabels<'_>) -> (Self, SeriesCheck) {
        static KEY: OnceLock<CheckKey> = OnceLock::new();
        let (hash, check) = match KEY.get_or_init(CheckKey::draw) {
            CheckKey::Digest(key) => digest::with_hash(simd::isa(), key, labels.0),
            CheckKey::Seed(seed) => (digest::xxh3::hash(labels.0), xxh3_64_with_seed(labels.0, *seed)),
        };
        (Self(hash), SeriesCheck(check))
    }

    /// Which of `partitions` the series belongs to.
    #[inline]
    pub fn partition(self, partitions: usize) -> usize {
        (((self.0 >> 32) * partitions as u64) >> 32) as usize
    }
}

impl CheckKey {
    fn draw() -> Self {
        match digest::is_fast(simd::isa()) {
            true => Self::Digest(digest::Key::draw()),
            false => Self::Seed(RandomState::new().build_hasher().finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn hashes_of_all_lengths_are_the_crates() {
        let bytes: Vec<u8> = (0..300u32).map(|at| ((at * at) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            let (hash, _) = SeriesHash::with_check(EncodedLabels(&bytes[..len]));
            assert_eq!(hash.0, xxh3_64(&bytes[..len]), "{len}");
        }
    }

    #[test]
    fn checks_of_one_process_are_the_same() {
        let check = |labels| SeriesHash::with_check(EncodedLabels(labels)).1;
        let labels = [b"abc".as_slice(), b"abd"].map(|labels| [(); 2].map(|()| check(labels)));
        assert!(labels.iter().all(|[first, second]| first == second) && labels[0] != labels[1]);
    }
}
