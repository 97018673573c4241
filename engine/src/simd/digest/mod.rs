//! A digest of bytes under a key, made of rounds of AES, for what must be told apart and lives no longer than the
//! process.
//!
//! ```text
//! lanes   four of sixteen bytes, each from a word of the key on
//! length  to the first lane, with two rounds, so that no byte makes up for it
//! bytes   sixteen after sixteen to one lane after the other, each with two rounds; of the last 64 all that
//!         there are, zeros behind fewer than 64
//! end     lanes 0 and 1, 2 and 3, then both: two rounds each; the lower half of what comes out
//! ```
//! Two rounds of AES spread the difference of a bit over all bytes of a lane, in a way that only the key tells.

#[cfg(target_arch = "x86_64")]
mod avx2;
/// The specification.
pub mod scalar;
/// A hash that is the same in every process.
pub mod xxh3;

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Isa;

/// Bytes of a lane, and of a word of the key.
const LANE: usize = 16;

/// Bytes that go to all lanes at once.
const STRIPE: usize = 4 * LANE;

/// What a digest is made under, to be shown to nobody, and neither are digests.
#[derive(Clone, Debug)]
pub struct Key([[u8; LANE]; 8]);

impl Key {
    /// A key of its own.
    pub fn draw() -> Self {
        let random = RandomState::new();
        let number = |at: usize| {
            let mut hasher = random.build_hasher();
            hasher.write_usize(at);
            u128::from(hasher.finish())
        };
        Self(std::array::from_fn(|at| (number(2 * at) << 64 | number(2 * at + 1)).to_le_bytes()))
    }
}

/// Whether digests are faster than other hashes on `isa`.
pub fn is_fast(isa: Isa) -> bool {
    isa >= Isa::Avx2 && has_aes()
}

/// Whether the machine has the instructions for rounds of AES, which no [`Isa`] asks for.
#[inline]
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The digest of `bytes` under `key`.
#[inline]
pub fn digest(isa: Isa, key: &Key, bytes: &[u8]) -> u64 {
    match isa {
        // SAFETY: these are only made by `detect`, which found AVX2, and AES was found just now.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 if has_aes() => unsafe { avx2::digest(key, bytes) },
        _ => scalar::digest(key, bytes),
    }
}

/// The [`xxh3::hash`] of `bytes` and their digest under `key`, for both of which they are gone through once: the one
/// waits for multiplications, the other for rounds of AES.
#[inline]
pub fn with_hash(isa: Isa, key: &Key, bytes: &[u8]) -> (u64, u64) {
    match isa {
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 if has_aes() && xxh3::MIDDLE.contains(&bytes.len()) => unsafe {
            avx2::with_hash(key, bytes)
        },
        _ => (xxh3::hash(bytes), digest(isa, key, bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::simd::isas;

    proptest! {
        #[test]
        fn every_isa_gives_the_digest_of_the_specification(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            key in prop::array::uniform8(any::<[u8; LANE]>()),
        ) {
            let key = Key(key);
            for isa in isas() {
                let expected = scalar::digest(&key, &bytes);
                prop_assert_eq!(digest(isa, &key, &bytes), expected, "{:?}", isa);
                prop_assert_eq!(with_hash(isa, &key, &bytes), (xxh3_64(&bytes), expected), "{:?}", isa);
            }
        }
    }

    #[test]
    fn each_bit_each_length_and_each_key_counts() {
        let (key, isa) = (Key::draw(), crate::simd::isa());
        let mut seen = HashSet::new();
        for len in [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 225] {
            let mut bytes = vec![0; len];
            assert!(seen.insert(digest(isa, &key, &bytes)), "{len} zeros");
            assert!(seen.insert(digest(isa, &Key::draw(), &bytes)), "{len} zeros under another key");
            for bit in 0..8 * len {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(digest(isa, &key, &bytes)), "bit {bit} of {len} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
