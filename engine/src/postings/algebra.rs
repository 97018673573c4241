//! Intersection, difference, union and complement of sets of any shape.

use std::ops::Range;

use super::Ordinals;
use super::bitmap::{Bitmap, clear_range, set_range};
use crate::simd::{self, isa};

/// A bitmap with fewer ordinals than this for each word becomes a list.
const LIST_BELOW_PER_WORD: usize = 2;

impl Ordinals {
    /// What is in both sets.
    pub fn intersect(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Range(range), other) => within(other, range),
            (mine, Self::Range(range)) => within_owned(mine, range.clone()),
            (Self::List(a), Self::List(b)) => {
                let mut out = Vec::with_capacity(a.len().min(b.len()));
                simd::intersect::intersect(isa(), &a, b, &mut out);
                Self::List(out)
            }
            (Self::List(list), Self::Bitmap(bitmap)) => probe(&list, bitmap),
            (Self::Bitmap(bitmap), Self::List(list)) => probe(list, &bitmap),
            (Self::Bitmap(a), Self::Bitmap(b)) => {
                let mut words = a.into_words();
                simd::bitmap::and(isa(), &mut words, b.words());
                shaped(words)
            }
        }
    }

    /// What is in this set and not in `other`.
    pub fn subtract(self, other: &Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return self;
        }
        match (self, other) {
            (Self::List(a), Self::List(b)) => {
                let mut out = Vec::with_capacity(a.len());
                simd::intersect::subtract(isa(), &a, b, &mut out);
                Self::List(out)
            }
            (Self::List(mut list), other) => {
                list.retain(|ordinal| !other.contains(*ordinal));
                Self::List(list)
            }
            (Self::Range(a), Self::Range(b)) if b.start <= a.start => Self::Range(b.end.clamp(a.start, a.end)..a.end),
            (Self::Range(a), Self::Range(b)) if b.end >= a.end => Self::Range(a.start..b.start.clamp(a.start, a.end)),
            (Self::Range(range), other) => shaped(without(Bitmap::from_range(range).into_words(), other)),
            (Self::Bitmap(bitmap), other) => shaped(without(bitmap.into_words(), other)),
        }
    }

    /// What is in either set.
    pub fn union(self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        match (self, other) {
            (mine, other) if other.is_empty() => mine,
            (Self::Range(a), Self::Range(b)) if a.start <= b.end && b.start <= a.end => {
                Self::Range(a.start.min(b.start)..a.end.max(b.end))
            }
            (Self::List(a), Self::List(b)) => Self::from(merged(&a, b)),
            (mine, other) => {
                let mut union = Union::new(end(&mine).max(end(other)));
                union.add(&mine);
                union.add(other);
                union.finish()
            }
        }
    }

    /// Which of the ordinals `0..count` are not in this set.
    pub fn complement(self, count: u32) -> Self {
        Self::all(count).subtract(&self)
    }
}

/// A union of many sets in the making: one bit for each ordinal.
#[derive(Clone, Debug)]
pub struct Union {
    words: Vec<u64>,
}

impl Union {
    /// Nothing yet, of a block with `count` series.
    pub fn new(count: u32) -> Self {
        Self { words: vec![0; (count as usize).div_ceil(64)] }
    }

    /// Adds `set`, all of whose ordinals are below the count.
    pub fn add(&mut self, set: &Ordinals) {
        match set {
            Ordinals::Range(range) => set_range(&mut self.words, range.clone()),
            Ordinals::List(list) => self.add_list(list),
            Ordinals::Bitmap(bitmap) => simd::bitmap::or(isa(), &mut self.words, bitmap.words()),
        }
    }

    /// Adds `list`, all of whose ordinals are below the count.
    pub fn add_list(&mut self, list: &[u32]) {
        for ordinal in list {
            self.words[*ordinal as usize / 64] |= 1 << (ordinal % 64);
        }
    }

    /// The union, as a list when it is small.
    pub fn finish(self) -> Ordinals {
        shaped(self.words)
    }
}

/// The set of the bits of `words` in the shape that fits their number.
fn shaped(words: Vec<u64>) -> Ordinals {
    let bitmap = Bitmap::from_words(words);
    if bitmap.len() >= bitmap.words().len() * LIST_BELOW_PER_WORD {
        return Ordinals::Bitmap(bitmap);
    }
    Ordinals::from(Ordinals::Bitmap(bitmap).into_list())
}

fn within(set: &Ordinals, range: Range<u32>) -> Ordinals {
    match set {
        Ordinals::Range(other) => {
            let start = range.start.max(other.start);
            Ordinals::Range(start..range.end.min(other.end).max(start))
        }
        Ordinals::List(list) => Ordinals::List(slice(list, range).to_vec()),
        bitmap @ Ordinals::Bitmap(_) => within_owned(bitmap.clone(), range),
    }
}

fn within_owned(set: Ordinals, range: Range<u32>) -> Ordinals {
    match set {
        Ordinals::Bitmap(bitmap) => {
            let mut words = bitmap.into_words();
            clear_range(&mut words, 0..range.start);
            clear_range(&mut words, range.end.max(range.start)..u32::MAX);
            shaped(words)
        }
        other => within(&other, range),
    }
}

fn slice(list: &[u32], range: Range<u32>) -> &[u32] {
    let start = list.partition_point(|ordinal| *ordinal < range.start);
    let end = list.partition_point(|ordinal| *ordinal < range.end);
    &list[start..end.max(start)]
}

fn probe(list: &[u32], bitmap: &Bitmap) -> Ordinals {
    let mut out = Vec::with_capacity(list.len().min(bitmap.len()));
    simd::bitmap::probe(isa(), list, bitmap.words(), &mut out);
    Ordinals::List(out)
}

fn without(mut words: Vec<u64>, other: &Ordinals) -> Vec<u64> {
    match other {
        Ordinals::Range(range) => clear_range(&mut words, range.clone()),
        Ordinals::Bitmap(bitmap) => simd::bitmap::and_not(isa(), &mut words, bitmap.words()),
        Ordinals::List(list) => {
            for ordinal in list {
                if let Some(word) = words.get_mut(*ordinal as usize / 64) {
                    *word &= !(1 << (ordinal % 64));
                }
            }
        }
    }
    words
}

fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        out.push(x.min(y));
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    out.extend_from_slice(&a[i..]);
    out.extend_from_slice(&b[j..]);
    out
}

/// One past the greatest ordinal, or more.
fn end(set: &Ordinals) -> u32 {
    match set {
        Ordinals::Range(range) => range.end,
        Ordinals::List(list) => list.last().map_or(0, |last| last + 1),
        Ordinals::Bitmap(bitmap) => (bitmap.words().len() * 64) as u32,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const COUNT: u32 = 1000;

    fn sets() -> impl Strategy<Value = (Ordinals, BTreeSet<u32>)> {
        let list = prop::collection::btree_set(0..COUNT, 0..400);
        prop_oneof![
            (0..=COUNT, 0..=COUNT)
                .prop_map(|(a, b)| (Ordinals::Range(a.min(b)..a.max(b)), (a.min(b)..a.max(b)).collect())),
            list.clone().prop_map(|set| (Ordinals::List(set.iter().copied().collect()), set)),
            list.prop_map(|set| {
                let mut words = vec![0u64; COUNT.div_ceil(64) as usize];
                set.iter().for_each(|ordinal| words[*ordinal as usize / 64] |= 1 << (ordinal % 64));
                (Ordinals::Bitmap(Bitmap::from_words(words)), set)
            }),
        ]
    }

    fn is(set: Ordinals, expected: impl IntoIterator<Item = u32>) -> Result<(), TestCaseError> {
        let expected: Vec<u32> = expected.into_iter().collect();
        prop_assert_eq!(set.len(), expected.len());
        prop_assert!(expected.iter().all(|ordinal| set.contains(*ordinal)));
        prop_assert_eq!(set.into_list(), expected);
        Ok(())
    }

    proptest! {
        #[test]
        fn shapes_do_not_change_what_a_set_operation_answers((a, left) in sets(), (b, right) in sets()) {
            is(a.clone().intersect(&b), left.intersection(&right).copied())?;
            is(a.clone().subtract(&b), left.difference(&right).copied())?;
            is(a.clone().union(&b), left.union(&right).copied())?;
            is(a.clone().complement(COUNT), (0..COUNT).filter(|ordinal| !left.contains(ordinal)))?;
            is(a.truncated(10), left.iter().copied().take(10))?;
            let mut union = Union::new(COUNT);
            union.add(&b);
            is(union.finish(), right.iter().copied())?;
        }
    }
}
