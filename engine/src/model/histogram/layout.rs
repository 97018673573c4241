//! Bucket layouts: merging, adding and compacting the buckets of one sign.

use super::bounds::{exponential_bound, target_index};
use super::bucket::Indexes;
use super::kahan::kahan_add;
use super::{CUSTOM_BUCKETS_SCHEMA, Span};

/// The buckets of one sign, with what Kahan summation has still to add to each where that is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) spans: Vec<Span>,
    pub(super) counts: Vec<f64>,
    pub(super) compensation: Option<Vec<f64>>,
}

/// What is added to a side.
#[derive(Clone, Copy)]
pub(super) struct Addend<'a> {
    pub(super) spans: &'a [Span],
    pub(super) counts: &'a [f64],
    /// 1 adds, -1 subtracts.
    pub(super) sign: f64,
    /// Buckets of an exponential schema that end at or below this are left out.
    pub(super) threshold: f64,
    pub(super) schema: i32,
}

impl Side {
    /// An empty side that keeps compensation if `like` does.
    fn empty_like(like: &Self) -> Self {
        let room = like.counts.len();
        Self {
            spans: Vec::with_capacity(like.spans.len()),
            counts: Vec::with_capacity(room),
            compensation: like.compensation.as_ref().map(|_| Vec::with_capacity(room)),
        }
    }

    /// Appends bucket `index`, which comes after those before it; `next` is the index after the last.
    fn push(&mut self, next: &mut i32, index: i32, count: (f64, f64)) {
        match self.spans.last_mut() {
            Some(span) if *next == index => span.length += 1,
            Some(_) => self.spans.push(Span { offset: index.wrapping_sub(*next), length: 1 }),
            None => self.spans.push(Span { offset: index, length: 1 }),
        }
        *next = index.wrapping_add(1);
        self.counts.push(count.0);
        if let Some(compensation) = &mut self.compensation {
            compensation.push(count.1);
        }
    }

    /// The count at `position` and its compensation.
    fn at(&self, position: usize) -> (f64, f64) {
        (self.counts[position], self.compensation.as_ref().map_or(0.0, |kept| kept[position]))
    }

    fn indexes(&self) -> Indexes<'_> {
        Indexes::new(&self.spans, self.counts.len())
    }

    /// The same side in the coarser schema `target`.
    pub(super) fn reduce(&self, origin: i32, target: i32) -> Self {
        let mut reduced = Self::empty_like(self);
        let mut next = 0i32;
        for (index, position) in self.indexes() {
            let index = target_index(index, origin, target);
            if reduced.counts.is_empty() || index != next.wrapping_sub(1) {
                reduced.push(&mut next, index, self.at(position));
                continue;
            }
            let last = reduced.counts.len() - 1;
            let (count, kept) = self.at(position);
            match &mut reduced.compensation {
                None => reduced.counts[last] += count,
                Some(compensation) => {
                    let sum = kahan_add(count, reduced.counts[last], compensation[last]);
                    (reduced.counts[last], compensation[last]) = kahan_add(kept, sum.0, sum.1);
                }
            }
        }
        reduced
    }

    /// Adds the buckets of `other`, making those that are not there yet. `kept` is the compensation
    /// of the other's counts.
    pub(super) fn add(&mut self, other: Addend<'_>, kept: Option<&[f64]>) {
        let skipped = other.skipped();
        if skipped == 0 && self.spans == other.spans && self.counts.len() == other.counts.len() {
            return self.add_aligned(other, kept);
        }
        let mut merged = Self::empty_like(self);
        let mut next = 0;
        let mut ours = self.indexes().peekable();
        let incoming = |position: usize| {
            (other.sign * other.counts[position], other.sign * kept.map_or(0.0, |kept| kept[position]))
        };
        for (index, position) in Indexes::new(other.spans, other.counts.len()).skip(skipped) {
            while let Some((own, at)) = ours.next_if(|(own, _)| *own < index) {
                merged.push(&mut next, own, self.at(at));
            }
            match ours.next_if(|(own, _)| *own == index) {
                Some((_, at)) => merged.push(&mut next, index, self.sum(at, incoming(position))),
                None => merged.push(&mut next, index, incoming(position)),
            }
        }
        for (own, at) in ours {
            merged.push(&mut next, own, self.at(at));
        }
        *self = merged;
    }

    /// The count at `position` plus `incoming`, each with its compensation.
    fn sum(&self, position: usize, incoming: (f64, f64)) -> (f64, f64) {
        let (count, kept) = self.at(position);
        if self.compensation.is_none() {
            return (count + incoming.0, 0.0);
        }
        let sum = kahan_add(incoming.0, count, kept);
        if incoming.1 == 0.0 { sum } else { kahan_add(incoming.1, sum.0, sum.1) }
    }

    /// Adds buckets of the very same layout.
    fn add_aligned(&mut self, other: Addend<'_>, kept: Option<&[f64]>) {
        if self.compensation.is_none() {
            for (count, added) in self.counts.iter_mut().zip(other.counts) {
                *count += other.sign * added;
            }
            return;
        }
        for (position, added) in other.counts.iter().enumerate() {
            let incoming = (other.sign * added, other.sign * kept.map_or(0.0, |kept| kept[position]));
            let sum = self.sum(position, incoming);
            self.counts[position] = sum.0;
            if let Some(compensation) = &mut self.compensation {
                compensation[position] = sum.1;
            }
        }
    }

    /// Removes empty buckets, except runs of at most `gap_max` of them between others, and closes
    /// gaps of at most `gap_max` buckets with empty ones.
    pub(super) fn compact(&mut self, gap_max: usize) {
        let apart = self.spans.iter().skip(1).all(|span| i64::from(span.offset) > gap_max as i64);
        if apart && !self.counts.contains(&0.0) && self.spans.iter().all(|span| span.length > 0) {
            return;
        }
        let mut compacted = Self::empty_like(self);
        let mut next = 0i32;
        for (index, position) in self.indexes() {
            let value = self.at(position);
            if value == (0.0, 0.0) {
                continue;
            }
            if !compacted.counts.is_empty() && i64::from(index) - i64::from(next) <= gap_max as i64 {
                while next < index {
                    let empty = next;
                    compacted.push(&mut next, empty, (0.0, 0.0));
                }
            }
            compacted.push(&mut next, index, value);
        }
        *self = compacted;
    }
}

impl Addend<'_> {
    /// How many buckets from the start end at or below the threshold.
    fn skipped(&self) -> usize {
        if self.schema == CUSTOM_BUCKETS_SCHEMA || self.threshold <= 0.0 {
            return 0;
        }
        Indexes::new(self.spans, self.counts.len())
            .take_while(|(index, _)| exponential_bound(*index, self.schema) <= self.threshold)
            .count()
    }
}
