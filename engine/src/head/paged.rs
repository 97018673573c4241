//! A list that grows by pages: what is in it never moves, so that growing takes no longer the longer it is.

use std::ops::{Index, IndexMut};

/// Items of a page; the first grows up to that.
const PAGE: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Paged<T> {
    /// All full but the last one, which is never empty.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    pub(super) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    pub(super) fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(item),
            last => {
                let mut page = Vec::with_capacity(if last.is_some() { PAGE } else { 1 });
                page.push(item);
                self.pages.push(page);
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.pages.get(at / PAGE)?.get(at % PAGE)
    }

    /// The `len` items from number `at` on; `None` when they are not all on one page.
    #[inline]
    pub(super) fn run(&self, at: usize, len: usize) -> Option<&[T]> {
        self.pages.get(at / PAGE)?.get(at % PAGE..)?.get(..len)
    }

    /// All items from number `at` on.
    #[inline]
    pub(super) fn iter_from(&self, at: usize) -> impl Iterator<Item = &T> {
        let pages = self.pages.get(at / PAGE..).unwrap_or_default();
        pages.iter().flatten().skip(at % PAGE)
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
        let before = self.pages.len().saturating_sub(1) * PAGE;
        if let Some(last) = self.pages.last_mut() {
            last.truncate(len - before);
        }
    }

    pub(super) fn swap(&mut self, left: usize, right: usize) {
        let (low, high) = (left.min(right), left.max(right));
        let (before, from) = self.pages.split_at_mut(high / PAGE);
        match before.get_mut(low / PAGE) {
            Some(page) => std::mem::swap(&mut page[low % PAGE], &mut from[0][high % PAGE]),
            None => from[0].swap(low % PAGE, high % PAGE),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let items: usize = self.pages.iter().map(Vec::capacity).sum();
        items * size_of::<T>() + self.pages.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.pages[at / PAGE][at % PAGE]
    }
}

impl<T> IndexMut<usize> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.pages[at / PAGE][at % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_one_list() {
        let (mut paged, mut naive) = (Paged::default(), Vec::new());
        for at in 0..3 * PAGE + 5 {
            assert_eq!(paged.len(), at);
            paged.push(at);
            naive.push(at);
        }
        for (left, right) in [(0, 0), (1, 2), (5, 3 * PAGE), (2 * PAGE, PAGE), (3 * PAGE + 4, 3 * PAGE)] {
            paged.swap(left, right);
            naive.swap(left, right);
        }
        paged[PAGE] = 7;
        naive[PAGE] = 7;
        assert!(paged.iter().eq(&naive));
        assert_eq!((paged.get(PAGE), paged.get(3 * PAGE + 5), paged.get(9 * PAGE)), (Some(&7), None, None));
        for at in [0, 1, PAGE - 1, PAGE, 3 * PAGE, 3 * PAGE + 4, 3 * PAGE + 5, 4 * PAGE, 9 * PAGE] {
            assert!(paged.iter_from(at).eq(naive.get(at..).unwrap_or_default()), "from {at}");
            for len in [1, 4, 5] {
                let is_whole = at % PAGE + len <= PAGE;
                assert_eq!(paged.run(at, len), naive.get(at..at + len).filter(|_| is_whole), "{len} from {at}");
            }
        }
        for len in [3 * PAGE + 1, 3 * PAGE, 3 * PAGE - 1, PAGE, 1, 0] {
            paged.truncate(len);
            naive.truncate(len);
            assert_eq!(paged.len(), len);
            assert!(paged.iter_mut().eq(&mut naive));
        }
        paged.push(1);
        assert_eq!((paged.len(), paged[0]), (1, 1));
    }
}
