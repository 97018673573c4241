//! The specification. The loops over whole words are inlined into the wider instruction sets too,
//! where the compiler turns them into vectors.

/// Keeps in `a` the bits that are also in `b`.
#[inline(always)]
pub fn and(a: &mut [u64], b: &[u64]) {
    let shared = a.len().min(b.len());
    let (head, tail) = a.split_at_mut(shared);
    for (x, y) in head.iter_mut().zip(b) {
        *x &= y;
    }
    tail.fill(0);
}

/// Adds to `a` the bits of `b`.
#[inline(always)]
pub fn or(a: &mut [u64], b: &[u64]) {
    for (x, y) in a.iter_mut().zip(b) {
        *x |= y;
    }
}

/// Removes from `a` the bits of `b`.
#[inline(always)]
pub fn and_not(a: &mut [u64], b: &[u64]) {
    for (x, y) in a.iter_mut().zip(b) {
        *x &= !y;
    }
}

/// Number of set bits.
#[inline(always)]
pub fn count(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Appends the numbers of the set bits.
#[inline(always)]
pub fn ordinals(words: &[u64], base: u32, out: &mut Vec<u32>) {
    for (at, &word) in words.iter().enumerate() {
        let first = base.wrapping_add(at as u32 * 64);
        let mut rest = word;
        while rest != 0 {
            out.push(first.wrapping_add(rest.trailing_zeros()));
            rest &= rest - 1;
        }
    }
}

/// Appends those of `list` whose bit is set.
#[inline(always)]
pub fn probe(list: &[u32], words: &[u64], out: &mut Vec<u32>) {
    for &ordinal in list {
        if words.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1) {
            out.push(ordinal);
        }
    }
}
