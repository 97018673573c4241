//! How one side of a histogram becomes as wide as that of another: which empty buckets go where.

use std::cmp::Ordering;

use crate::model::Span;

/// Empty buckets that go in front of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insert {
    /// Place of the bucket before which they go; the number of buckets for the end.
    pub at: usize,
    /// How many.
    pub count: usize,
    /// Index of the first.
    pub index: i64,
}

/// What makes two sides alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserts {
    /// Buckets that the chunk lacks.
    pub forward: Vec<Insert>,
    /// Buckets that the new histogram lacks.
    pub backward: Vec<Insert>,
}

/// The indexes of the buckets of `spans`.
pub fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> {
    let starts = spans.iter().scan(0i64, |next, span| {
        let start = *next + i64::from(span.offset);
        *next = start + i64::from(span.length);
        Some(start..*next)
    });
    starts.flatten()
}

/// Collects runs of inserted buckets.
#[derive(Default)]
struct Runs {
    done: Vec<Insert>,
    open: Insert,
}

impl Runs {
    /// One more bucket, of `index`, before the next bucket of this side.
    fn add(&mut self, index: i64) {
        if self.open.count > 0 && self.open.index + self.open.count as i64 != index {
            self.close();
        }
        if self.open.count == 0 {
            self.open.index = index;
        }
        self.open.count += 1;
    }

    /// The side goes on to its next bucket.
    fn advance(&mut self) {
        self.close();
        self.open.at += 1;
    }

    fn close(&mut self) {
        if self.open.count > 0 {
            self.done.push(self.open);
            self.open.count = 0;
        }
    }

    fn finish(mut self) -> Vec<Insert> {
        self.close();
        self.done
    }
}

/// One side of a histogram: where its buckets lie, and their counts.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a, C> {
    /// Where the buckets lie.
    pub spans: &'a [Span],
    /// Their absolute counts.
    pub counts: &'a [C],
}

/// What makes the `old` and the `new` side of a counter alike; `None` after a counter reset: a
/// bucket whose count fell, or one in use that is gone.
pub fn expand<C: Copy + PartialOrd + Default>(old: Side<'_, C>, new: Side<'_, C>) -> Option<Inserts> {
    let (mut forward, mut backward) = (Runs::default(), Runs::default());
    let mut olds = indexes(old.spans).zip(old.counts.iter().copied()).peekable();
    let mut news = indexes(new.spans).zip(new.counts.iter().copied()).peekable();
    loop {
        let order = match (olds.peek(), news.peek()) {
            (Some(old), Some(new)) => old.0.cmp(&new.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        match (old, new) {
            (Some((_, before)), Some((_, now))) if before > now => return None,
            (Some((index, before)), None) if before == C::default() => backward.add(index),
            (Some(_), None) => return None,
            (None, Some((index, _))) => forward.add(index),
            _ => {}
        }
        if old.is_some() {
            forward.advance();
        }
        if new.is_some() {
            backward.advance();
        }
    }
    Some(Inserts { forward: forward.finish(), backward: backward.finish() })
}

/// What makes the `old` and the `new` side of a gauge alike, and the spans of both together.
pub fn merge(old: &[Span], new: &[Span]) -> (Inserts, Vec<Span>) {
    let (mut forward, mut backward) = (Runs::default(), Runs::default());
    let (mut olds, mut news) = (indexes(old).peekable(), indexes(new).peekable());
    let mut merged = Vec::new();
    loop {
        let order = match (olds.peek(), news.peek()) {
            (Some(old), Some(new)) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        let Some(index) = old.or(new) else { break };
        if new.is_none() {
            backward.add(index);
        }
        if old.is_none() {
            forward.add(index);
        }
        merged.push(index);
        if old.is_some() {
            forward.advance();
        }
        if new.is_some() {
            backward.advance();
        }
    }
    (Inserts { forward: forward.finish(), backward: backward.finish() }, spans_of(merged))
}

/// `spans` with the buckets of `inserts`.
pub fn widen(spans: &[Span], inserts: &[Insert]) -> Vec<Span> {
    if inserts.is_empty() {
        return spans.to_vec();
    }
    let mut all: Vec<i64> = indexes(spans).collect();
    all.extend(inserts.iter().flat_map(|insert| insert.index..insert.index + insert.count as i64));
    all.sort_unstable();
    spans_of(all)
}

/// The spans of ascending indexes.
fn spans_of(indexes: Vec<i64>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i64;
    for index in indexes {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: (index - next) as i32, length: 1 }),
        }
        next = index + 1;
    }
    spans
}

/// `counts` with empty buckets at `inserts`.
pub fn insert<C: Copy + Default>(counts: &[C], inserts: &[Insert]) -> Vec<C> {
    let mut out = Vec::with_capacity(counts.len() + inserts.iter().map(|insert| insert.count).sum::<usize>());
    let mut taken = 0;
    for insert in inserts {
        let at = insert.at.min(counts.len());
        out.extend_from_slice(&counts[taken..at]);
        taken = at;
        out.resize(out.len() + insert.count, C::default());
    }
    out.extend_from_slice(&counts[taken..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i32, u32)]) -> Vec<Span> {
        pairs.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn a_wider_layout_is_reached_by_inserting_empty_buckets() {
        let old = spans(&[(0, 2), (2, 1), (3, 2), (3, 1), (1, 1)]);
        let new = spans(&[(0, 3), (1, 1), (1, 4), (3, 3)]);
        let (before, now) = ([6, 3, 3, 2, 4, 5, 1], [6, 3, 0, 3, 0, 0, 2, 4, 5, 0, 1]);
        let found = expand(Side { spans: &old, counts: &before }, Side { spans: &new, counts: &now }).unwrap();
        assert!(found.backward.is_empty());
        assert_eq!(insert(&before, &found.forward), now);
        assert_eq!(widen(&old, &found.forward), new);
        assert_eq!(merge(&old, &new), (found, new));
    }

    #[test]
    fn a_bucket_in_use_that_is_gone_is_a_reset_and_an_empty_one_is_filled_in() {
        let (old, new) = (spans(&[(-2, 3)]), spans(&[(-2, 1), (1, 2)]));
        let find = |before: &[i64], now: &[i64]| {
            expand(Side { spans: &old, counts: before }, Side { spans: &new, counts: now })
        };
        assert_eq!(find(&[1, 2, 3], &[1, 3, 0]), None);
        assert_eq!(find(&[1, 0, 3], &[1, 2, 0]), None);
        let found = find(&[1, 0, 3], &[1, 3, 9]).unwrap();
        assert_eq!(insert(&[1, 3, 9], &found.backward), [1, 0, 3, 9]);
        assert_eq!(insert(&[1, 0, 3], &found.forward), [1, 0, 3, 0]);
        assert_eq!(widen(&new, &found.backward), spans(&[(-2, 4)]));
    }
}
