//! Ascending numbers of series, as an inverted index grows by them: mostly a byte each.
//!
//! ```text
//! one    number
//! many   last number │ how many │ first varint │ distance from the one before varint │ …
//! ```

use std::ops::Range;

use crate::codec::varint;

/// Numbers of series, ascending.
#[derive(Clone, Debug)]
pub(super) enum List {
    /// Just one.
    One(u32),
    /// Several.
    Many(Box<Run>),
}

/// More than one number.
#[derive(Clone, Debug)]
pub(super) struct Run {
    last: u32,
    len: u32,
    bytes: Vec<u8>,
}

impl List {
    /// Appends `id`, which is greater than all before; the last one again changes nothing.
    #[inline]
    pub(super) fn push(&mut self, id: u32) {
        match self {
            Self::Many(run) => run.push(id),
            Self::One(first) if *first == id => {}
            Self::One(first) => {
                let mut run = Run { last: 0, len: 0, bytes: Vec::new() };
                run.push(*first);
                run.push(id);
                *self = Self::Many(Box::new(run));
            }
        }
    }

    /// Appends `ids`, each greater than all before, but that the first may be the last one again.
    pub(super) fn push_all(&mut self, mut ids: Range<u32>) {
        while let Some(id) = ids.next() {
            self.push(id);
            if let Self::Many(run) = self {
                return run.push_next(ids.len() as u32);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(run) => run.len as usize,
        }
    }

    /// Appends all numbers to `out`.
    pub(super) fn read(&self, out: &mut Vec<u32>) {
        match self {
            Self::One(id) => out.push(*id),
            Self::Many(run) => run.read(out),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(run) => size_of::<Run>() + run.bytes.capacity(),
        }
    }
}

impl Run {
    #[inline]
    fn push(&mut self, id: u32) {
        let distance = id - self.last;
        if self.len > 0 && distance == 0 {
            return;
        }
        varint::encode_u64(u64::from(distance), &mut self.bytes);
        self.last = id;
        self.len += 1;
    }

    /// Appends the `count` numbers behind the last one.
    fn push_next(&mut self, count: u32) {
        self.bytes.resize(self.bytes.len() + count as usize, 1);
        self.last += count;
        self.len += count;
    }

    fn read(&self, out: &mut Vec<u32>) {
        out.reserve(self.len as usize);
        let (mut rest, mut id) = (self.bytes.as_slice(), 0);
        while let [first, behind @ ..] = rest {
            if *first < 0x80 {
                id += u32::from(*first);
                rest = behind;
            } else {
                let Some((distance, used)) = varint::decode_u64(rest) else { return };
                id += distance as u32;
                rest = &rest[used..];
            }
            out.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were_pushed(
            first in 0..1000u32,
            distances in prop::collection::vec(prop_oneof![0..2u32, 1..127u32, 100..40_000u32, Just(u32::MAX >> 8)], 0..100),
        ) {
            let (mut list, mut naive) = (List::One(first), vec![first]);
            for distance in distances {
                let id = naive[naive.len() - 1] + distance;
                list.push(id);
                if distance > 0 {
                    naive.push(id);
                }
            }
            let mut read = Vec::new();
            list.read(&mut read);
            prop_assert_eq!(list.len(), naive.len());
            prop_assert_eq!(read, naive);
        }
    }

    proptest! {
        #[test]
        fn ranges_are_as_their_numbers_one_by_one(
            first in 0..300u32,
            ranges in prop::collection::vec((0..200u32, 0..5u32), 0..30),
        ) {
            let (mut list, mut naive) = (List::One(first), List::One(first));
            let mut last = first;
            for (distance, count) in ranges {
                let ids = last + distance..last + distance + count;
                list.push_all(ids.clone());
                last = if ids.is_empty() { last } else { ids.end - 1 };
                ids.for_each(|id| naive.push(id));
            }
            let read = |list: &List| {
                let mut ids = Vec::new();
                list.read(&mut ids);
                (list.len(), ids)
            };
            prop_assert_eq!(read(&list), read(&naive));
        }
    }

    #[test]
    fn the_first_number_may_be_zero_and_dense_numbers_take_a_byte() {
        let mut list = List::One(0);
        (1..1000).for_each(|id| list.push(id));
        let mut read = Vec::new();
        list.read(&mut read);
        assert!(read.into_iter().eq(0..1000));
        assert!(list.heap_bytes() <= 1024 + size_of::<Run>(), "{}", list.heap_bytes());
    }
}
