//! Validity bitmaps: bit `i` of a row says whether step `i` has a value. 64 steps per word, the
//! bits behind the last step are zero.

use std::ops::Range;

/// Words that `bits` bits need.
pub fn words(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Whether bit `at` is set.
#[inline]
pub fn get(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

/// Sets bit `at`.
#[inline]
pub fn set(bits: &mut [u64], at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

/// Clears bit `at`.
#[inline]
pub fn clear(bits: &mut [u64], at: usize) {
    bits[at / 64] &= !(1 << (at % 64));
}

/// Sets the first `count` bits.
pub fn fill(bits: &mut [u64], count: usize) {
    for (word, bits) in bits.iter_mut().enumerate() {
        *bits = full_word(count, word);
    }
}

/// The word at index `word` of a bitmap whose first `count` bits are set.
#[inline]
pub fn full_word(count: usize, word: usize) -> u64 {
    match count.saturating_sub(word * 64) {
        0 => 0,
        left if left >= 64 => u64::MAX,
        left => (1 << left) - 1,
    }
}

/// Whether any bit is set.
pub fn any(bits: &[u64]) -> bool {
    bits.iter().any(|word| *word != 0)
}

/// Number of set bits.
pub fn count(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// Whether the first `count` bits are all set.
pub fn all(bits: &[u64], count: usize) -> bool {
    bits.iter().enumerate().all(|(word, bits)| *bits == full_word(count, word))
}

/// Whether both have a bit in common, and which comes first.
pub fn first_common(left: &[u64], right: &[u64]) -> Option<usize> {
    left.iter().zip(right).enumerate().find_map(|(word, (left, right))| {
        let both = left & right;
        (both != 0).then(|| word * 64 + both.trailing_zeros() as usize)
    })
}

/// Takes out what stands at `end` or behind it.
pub fn keep_before(target: &mut [u64], end: usize) {
    for (word, bits) in target.iter_mut().enumerate() {
        *bits &= full_word(end, word);
    }
}

/// `target |= other`.
pub fn union(target: &mut [u64], other: &[u64]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target |= other;
    }
}

/// `target &= other`.
pub fn intersect(target: &mut [u64], other: &[u64]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target &= other;
    }
}

/// `target &= !other`.
pub fn subtract(target: &mut [u64], other: &[u64]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target &= !other;
    }
}

/// The places of the set bits, ascending.
pub fn ones(bits: &[u64]) -> impl Iterator<Item = usize> + '_ {
    bits.iter().enumerate().flat_map(|(word, bits)| {
        let mut left = *bits;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            Some(word * 64 + at)
        })
    })
}

/// The runs of set bits, ascending.
pub fn runs(bits: &[u64]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = first_from(bits, at, 0)?;
        at = first_from(bits, start, u64::MAX).unwrap_or(64 * bits.len());
        Some(start..at)
    })
}

/// The first place from `from` on whose bit is not the one that all bits of `unlike` are.
fn first_from(bits: &[u64], from: usize, unlike: u64) -> Option<usize> {
    let mut word = from / 64;
    let mut left = (bits.get(word)? ^ unlike) & (u64::MAX << (from % 64));
    while left == 0 {
        word += 1;
        left = bits.get(word)? ^ unlike;
    }
    Some(word * 64 + left.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_all_set_bits_and_no_other() {
        let rows: [&[u64]; 7] =
            [&[], &[0], &[u64::MAX], &[u64::MAX, u64::MAX], &[1 << 63, 1], &[0, 0b1101], &[!0 << 60, !0, 0b11, 0]];
        for bits in rows {
            let found: Vec<Range<usize>> = runs(bits).collect();
            assert!(found.iter().cloned().flatten().eq(ones(bits)), "{bits:x?}: {found:?}");
            assert!(found.is_sorted_by(|left, right| left.end < right.start), "{bits:x?}: {found:?}");
        }
    }

    #[test]
    fn fill_leaves_the_bits_behind_the_last_step_zero() {
        for count in [0, 1, 63, 64, 65, 128, 130] {
            let mut bits = vec![u64::MAX; 3];
            fill(&mut bits, count);
            assert_eq!(super::count(&bits), count);
            assert!(all(&bits, count));
            assert_eq!(ones(&bits).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }
}
