//! Sets as one bit for each ordinal, least significant bit of the first word first.

use std::ops::Range;

use crate::simd::{self, isa};

/// Bits of a word.
const WORD: usize = 64;

/// A set of ordinals as bits, with their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// The set of the bits of `words`.
    pub fn from_words(words: Vec<u64>) -> Self {
        let len = simd::bitmap::count(isa(), &words) as usize;
        Self { words, len }
    }

    /// The set of `range`.
    pub fn from_range(range: Range<u32>) -> Self {
        let mut words = vec![0; (range.end as usize).div_ceil(WORD)];
        set_range(&mut words, range.clone());
        Self { words, len: range.len() }
    }

    /// Number of ordinals.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no ordinal.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `ordinal` is in the set.
    pub fn contains(&self, ordinal: u32) -> bool {
        let word = self.words.get(ordinal as usize / WORD).copied().unwrap_or(0);
        word >> (ordinal as usize % WORD) & 1 == 1
    }

    /// The bits.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The bits, without their number.
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }
}

/// Sets the bits of `range`, all of which `words` must have.
pub fn set_range(words: &mut [u64], range: Range<u32>) {
    edit_range(words, range, |word, mask| *word |= mask);
}

/// Clears the bits of `range` that `words` has.
pub fn clear_range(words: &mut [u64], range: Range<u32>) {
    let end = range.end.min((words.len() * WORD) as u32);
    edit_range(words, range.start.min(end)..end, |word, mask| *word &= !mask);
}

fn edit_range(words: &mut [u64], range: Range<u32>, edit: impl Fn(&mut u64, u64)) {
    if range.is_empty() {
        return;
    }
    let (first, last) = (range.start as usize / WORD, (range.end - 1) as usize / WORD);
    let head = u64::MAX << (range.start as usize % WORD);
    let tail = u64::MAX >> (WORD - 1 - (range.end - 1) as usize % WORD);
    if first == last {
        return edit(&mut words[first], head & tail);
    }
    edit(&mut words[first], head);
    words[first + 1..last].iter_mut().for_each(|word| edit(word, u64::MAX));
    edit(&mut words[last], tail);
}
