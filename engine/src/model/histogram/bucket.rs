//! Buckets with their bounds, and walks over them from either end.

use std::fmt;

use super::bounds::bound;
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};
use crate::model::float_text::{Notation, format_float_as};

/// One bucket with its bounds and its own (not cumulative) count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to the bucket.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
    /// Index within the schema; of no meaning for the zero bucket.
    pub index: i32,
}

/// How observations are taken to be spread over a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Evenly: custom buckets and the zero bucket.
    Linear,
    /// Evenly on a logarithmic scale: exponential buckets.
    Exponential,
}

impl Bucket {
    /// The part of the bucket's width, in 0..=1, that lies at or below `value`, which lies strictly
    /// between the finite bounds.
    pub fn fraction_below(&self, value: f64, spread: Spread) -> f64 {
        if spread == Spread::Linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let lower = self.lower.abs().log2();
        let upper = self.upper.abs().log2();
        let at = value.abs().log2();
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - ((at - upper) / (lower - upper)) }
    }

    /// What JSON calls the boundaries: 0 open on the left, 1 open on the right, 2 open on both
    /// sides, 3 closed on both.
    pub fn boundaries(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }
}

/// As Prometheus prints a bucket: `(0.5,1]:3`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value| format_float_as(value, Notation::General);
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        write!(f, "{open}{},{}{close}:{}", number(self.lower), number(self.upper), number(self.count))
    }
}

/// Buckets of one sign as (index, position of the count), from either end.
#[derive(Clone, Debug)]
pub(super) struct Indexes<'a> {
    spans: &'a [Span],
    left: usize,
    front: Cursor,
    back: Cursor,
}

#[derive(Clone, Debug, Default)]
struct Cursor {
    span: usize,
    left_in_span: u32,
    index: i32,
    position: usize,
}

impl<'a> Indexes<'a> {
    /// The buckets of `spans`, of which the first `limit` have counts.
    pub(super) fn new(spans: &'a [Span], limit: usize) -> Self {
        let mut back = Cursor::default();
        let mut end = 0i32;
        for (at, span) in spans.iter().enumerate() {
            let taken = (span.length as usize).min(limit - back.position) as u32;
            end = end.wrapping_add(span.offset).wrapping_add(taken as i32);
            back = Cursor { span: at, left_in_span: taken, index: end, position: back.position + taken as usize };
            if taken < span.length {
                break;
            }
        }
        let front = Cursor {
            span: 0,
            left_in_span: spans.first().map_or(0, |span| span.length),
            index: spans.first().map_or(0, |span| span.offset),
            position: 0,
        };
        Self { spans, left: back.position, front, back }
    }
}

impl Iterator for Indexes<'_> {
    type Item = (i32, usize);

    fn next(&mut self) -> Option<(i32, usize)> {
        if self.left == 0 {
            return None;
        }
        while self.front.left_in_span == 0 {
            self.front.span += 1;
            let span = self.spans.get(self.front.span)?;
            self.front.index = self.front.index.wrapping_add(span.offset);
            self.front.left_in_span = span.length;
        }
        let found = (self.front.index, self.front.position);
        self.front.index = self.front.index.wrapping_add(1);
        self.front.position += 1;
        self.front.left_in_span -= 1;
        self.left -= 1;
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Indexes<'_> {
    fn next_back(&mut self) -> Option<(i32, usize)> {
        if self.left == 0 {
            return None;
        }
        while self.back.left_in_span == 0 {
            self.back.index = self.back.index.wrapping_sub(self.spans[self.back.span].offset);
            self.back.span = self.back.span.checked_sub(1)?;
            self.back.left_in_span = self.spans[self.back.span].length;
        }
        self.back.index = self.back.index.wrapping_sub(1);
        self.back.position -= 1;
        self.back.left_in_span -= 1;
        self.left -= 1;
        Some((self.back.index, self.back.position))
    }
}

impl FloatHistogram {
    /// Positive buckets from zero upwards.
    pub fn positive(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone {
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        Indexes::new(&self.positive_spans, self.positive_buckets.len()).map(move |(index, position)| {
            let upper = bound(index, self.schema, &self.custom_values);
            let lower = bound(index.wrapping_sub(1), self.schema, &self.custom_values);
            let (lower_inclusive, upper_inclusive) =
                if custom { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
            let count = self.positive_buckets[position];
            Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
        })
    }

    /// Negative buckets from zero downwards.
    pub fn negative(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone {
        Indexes::new(&self.negative_spans, self.negative_buckets.len()).map(|(index, position)| {
            let lower = -bound(index, self.schema, &[]);
            let upper = -bound(index.wrapping_sub(1), self.schema, &[]);
            let count = self.negative_buckets[position];
            Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count, index }
        })
    }

    /// The zero bucket, of whatever count; custom buckets have none.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets in ascending order (reversed: descending), the zero bucket only when something
    /// is in it. Buckets that reach into the zero bucket are shown cut at the zero threshold.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone {
        let threshold = self.zero_threshold;
        let cut = move |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -threshold {
                bucket.upper = -threshold;
            } else if bucket.lower > 0.0 && bucket.lower < threshold {
                bucket.lower = threshold;
            }
            bucket
        };
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.negative().rev().map(cut).chain(zero).chain(self.positive().map(cut))
    }
}
