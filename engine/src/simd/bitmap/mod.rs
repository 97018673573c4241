//! Words of bitmaps, least significant bit first: and, or, and-not, counts, and the numbers of the
//! set bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// Keeps in `a` the bits that are also in `b`; words that `b` lacks are zero.
pub fn and(isa: Isa, a: &mut [u64], b: &[u64]) {
    dispatch!(isa, and(a, b));
}

/// Adds to `a` the bits of `b`; words beyond the end of `a` are left out.
pub fn or(isa: Isa, a: &mut [u64], b: &[u64]) {
    dispatch!(isa, or(a, b));
}

/// Removes from `a` the bits of `b`; words that `b` lacks are zero.
pub fn and_not(isa: Isa, a: &mut [u64], b: &[u64]) {
    dispatch!(isa, and_not(a, b));
}

/// Number of set bits.
pub fn count(isa: Isa, words: &[u64]) -> u64 {
    dispatch!(isa, count(words))
}

/// Appends the numbers of the set bits, ascending; the first bit of `words` has number `base`.
pub fn ordinals(isa: Isa, words: &[u64], base: u32, out: &mut Vec<u32>) {
    dispatch!(isa, ordinals(words, base, out));
}

/// Appends those of `list` (ascending or not) whose bit is set in `words`; bits beyond the end are
/// zero.
pub fn probe(isa: Isa, list: &[u32], words: &[u64], out: &mut Vec<u32>) {
    dispatch!(isa, probe(list, words, out));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    fn words() -> impl Strategy<Value = Vec<u64>> {
        let word = prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>(), (0..64u32).prop_map(|bit| 1 << bit)];
        prop::collection::vec(word, 0..40)
    }

    proptest! {
        #[test]
        fn every_isa_agrees_with_the_scalar_twin(
            a in words(),
            b in words(),
            list in prop::collection::vec(0..3000u32, 0..100),
        ) {
            let expected = answers(Isa::Scalar, &a, &b, &list);
            let bits = |words: &[u64]| (0..words.len() as u32 * 64)
                .filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 == 1).collect::<Vec<_>>();
            prop_assert_eq!(&expected.4[1..], bits(&a).iter().map(|bit| bit + 5).collect::<Vec<_>>());
            prop_assert_eq!(expected.3, bits(&a).len() as u64);
            for isa in isas() {
                prop_assert_eq!(answers(isa, &a, &b, &list), expected.clone(), "{:?}", isa);
            }
        }
    }

    type Answers = (Vec<u64>, Vec<u64>, Vec<u64>, u64, Vec<u32>, Vec<u32>);

    fn answers(isa: Isa, a: &[u64], b: &[u64], list: &[u32]) -> Answers {
        let (mut both, mut any, mut only) = (a.to_vec(), a.to_vec(), a.to_vec());
        and(isa, &mut both, b);
        or(isa, &mut any, b);
        and_not(isa, &mut only, b);
        let (mut numbers, mut probed) = (vec![9], vec![9]);
        ordinals(isa, a, 5, &mut numbers);
        probe(isa, list, a, &mut probed);
        (both, any, only, count(isa, a), numbers, probed)
    }
}
