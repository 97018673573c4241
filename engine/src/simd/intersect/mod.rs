//! Intersection and difference of strictly ascending lists of ordinals.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// A list this many times longer than the other is searched instead of walked.
const GALLOP_RATIO: usize = 32;

/// Appends to `out` what is in `a` and in `b`; both ascend strictly, and so does what is appended.
pub fn intersect(isa: Isa, a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.len() * GALLOP_RATIO <= long.len() {
        return scalar::intersect_gallop(short, long, out);
    }
    dispatch!(isa, intersect(short, long, out));
}

/// Appends to `out` what is in `a` and not in `b`; both ascend strictly, and so does what is
/// appended.
pub fn subtract(isa: Isa, a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    if a.len() * GALLOP_RATIO <= b.len() || b.len() * GALLOP_RATIO <= a.len() {
        return scalar::subtract_gallop(a, b, out);
    }
    dispatch!(isa, subtract(a, b, out));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    fn set() -> impl Strategy<Value = BTreeSet<u32>> {
        prop_oneof![
            prop::collection::btree_set(0..64u32, 0..64),
            prop::collection::btree_set(0..1500u32, 0..700),
            prop::collection::btree_set(any::<u32>(), 0..50),
        ]
    }

    proptest! {
        #[test]
        fn every_isa_agrees_with_the_naive_sets(a in set(), b in set()) {
            let (left, right): (Vec<u32>, Vec<u32>) = (a.iter().copied().collect(), b.iter().copied().collect());
            let both: Vec<u32> = a.intersection(&b).copied().collect();
            let only: Vec<u32> = a.difference(&b).copied().collect();
            for isa in isas() {
                let mut out = vec![7];
                intersect(isa, &left, &right, &mut out);
                prop_assert_eq!(&out[1..], &both[..], "{:?}", isa);
                out.truncate(1);
                subtract(isa, &left, &right, &mut out);
                prop_assert_eq!(&out[1..], &only[..], "{:?}", isa);
            }
        }
    }
}
