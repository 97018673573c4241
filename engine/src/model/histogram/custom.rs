//! Custom bounds that differ: both histograms are brought to the bounds that they share.

use std::sync::Arc;

use super::bucket::Indexes;
use super::kahan::{Compensation, kahan_add};
use super::{FloatHistogram, Span};

/// Bounds that both ascending lists have.
pub(super) fn shared_bounds(left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut right = right.iter().copied().peekable();
    left.iter()
        .copied()
        .filter(|bound| {
            while right.next_if(|known| known < bound).is_some() {}
            right.next_if_eq(bound).is_some()
        })
        .collect()
}

/// Counts (and compensation) in buckets that end at `bounds`, and one after them.
struct Mapped<'a> {
    bounds: &'a [f64],
    counts: Vec<(f64, f64)>,
}

impl Mapped<'_> {
    /// Adds `sign` times each bucket to the shared bucket that holds it.
    fn add(&mut self, source: &FloatHistogram, sign: f64, kept: Option<&[f64]>) {
        let mut target = 0;
        for (index, position) in Indexes::new(&source.positive_spans, source.positive_buckets.len()) {
            let bound = usize::try_from(index).ok().and_then(|at| source.custom_values.get(at));
            let place = match bound {
                None => self.bounds.len(),
                Some(bound) => {
                    while self.bounds.get(target).is_some_and(|shared| shared < bound) {
                        target += 1;
                    }
                    target
                }
            };
            let (count, lost) = self.counts[place];
            let sum = kahan_add(sign * source.positive_buckets[position], count, lost);
            self.counts[place] = match kept.and_then(|kept| kept.get(position)) {
                Some(kept) => kahan_add(*kept, sum.0, sum.1),
                None => sum,
            };
        }
    }
}

impl FloatHistogram {
    /// Adds `sign` times the buckets of `other`, whose custom bounds differ.
    pub(super) fn combine_mismatched_bounds(&mut self, other: &Self, sign: f64, kept: Option<&mut Compensation>) {
        let bounds = shared_bounds(&self.custom_values, &other.custom_values);
        let mut mapped = Mapped { bounds: &bounds, counts: vec![(0.0, 0.0); bounds.len() + 1] };
        mapped.add(self, 1.0, kept.as_deref().map(|kept| &*kept.positive));
        mapped.add(other, sign, None);
        let populated: Vec<(usize, (f64, f64))> =
            mapped.counts.into_iter().enumerate().filter(|(_, count)| *count != (0.0, 0.0)).collect();
        self.positive_spans.clear();
        let mut next = 0;
        for (index, _) in &populated {
            match self.positive_spans.last_mut() {
                Some(span) if *index == next => span.length += 1,
                _ => self.positive_spans.push(Span { offset: (index - next) as i32, length: 1 }),
            }
            next = index + 1;
        }
        self.positive_buckets = populated.iter().map(|(_, count)| count.0).collect();
        if let Some(kept) = kept {
            kept.positive = populated.iter().map(|(_, count)| count.1).collect();
        }
        self.custom_values = Arc::from(bounds);
    }

    /// Whether a bucket between two bounds that both have lost observations since `previous`.
    pub(super) fn detect_reset_of_mismatched_bounds(&self, previous: &Self) -> bool {
        let mut shared = shared_bounds(&self.custom_values, &previous.custom_values);
        shared.push(f64::INFINITY);
        let mut ours = self.positive().peekable();
        let mut theirs = previous.positive().peekable();
        shared.into_iter().any(|bound| {
            let (mut now, mut before) = (0.0, 0.0);
            while let Some(bucket) = ours.next_if(|bucket| bucket.upper <= bound) {
                now += bucket.count;
            }
            while let Some(bucket) = theirs.next_if(|bucket| bucket.upper <= bound) {
                before += bucket.count;
            }
            now < before
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::CUSTOM_BUCKETS_SCHEMA;
    use super::*;

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: counts.iter().sum(),
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            custom_values: Arc::from(bounds),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn sums_have_the_bounds_that_both_have() {
        let mut sum = custom(&[0.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0]);
        let combined = sum.add(&custom(&[0.0, 1.0, 10.0, 20.0], &[1.0, 1.0, 1.0, 1.0, 1.0])).unwrap();
        assert!(combined.bounds_reconciled);
        assert_eq!(sum, custom(&[0.0, 10.0], &[2.0, 7.0, 6.0]));
    }

    #[test]
    fn resets_are_seen_between_shared_bounds_only() {
        let before = custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 0.0]);
        assert!(!custom(&[2.0, 3.0], &[2.0, 1.0, 0.0]).detect_reset(&before));
        assert!(custom(&[2.0, 3.0], &[1.0, 1.0, 9.0]).detect_reset(&before));
    }
}
