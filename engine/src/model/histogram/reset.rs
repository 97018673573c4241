//! Counter resets: whether a histogram can follow another without one.

use super::bounds::{exponential_bound, target_index};
use super::bucket::Indexes;
use super::{CUSTOM_BUCKETS_SCHEMA, CounterReset, FloatHistogram, Span};

impl FloatHistogram {
    /// Whether there was a counter reset between `previous` and this histogram: as the hint says
    /// or, where it says nothing, when a count went down or the layout changed in a way that only
    /// a restart explains.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset {
            CounterReset::Yes => return true,
            CounterReset::No => return false,
            CounterReset::Unknown | CounterReset::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return self.detect_reset_of_mismatched_bounds(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let zero = previous.widen_zero_bucket(self.zero_threshold, None);
        if zero.threshold != self.zero_threshold || self.zero_count < zero.count {
            return true;
        }
        let now = Counts { spans: &self.positive_spans, counts: &self.positive_buckets, schema: self.schema };
        let before =
            Counts { spans: &previous.positive_spans, counts: &previous.positive_buckets, schema: previous.schema };
        if now.lost(before, self.zero_threshold) {
            return true;
        }
        let now = Counts { spans: &self.negative_spans, counts: &self.negative_buckets, schema: self.schema };
        let before =
            Counts { spans: &previous.negative_spans, counts: &previous.negative_buckets, schema: previous.schema };
        now.lost(before, self.zero_threshold)
    }
}

/// The buckets of one sign.
#[derive(Clone, Copy)]
struct Counts<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    schema: i32,
}

impl<'a> Counts<'a> {
    /// Whether a bucket beyond `threshold` holds less than the same bucket of `before`, whose schema
    /// may be finer.
    fn lost(self, before: Counts<'a>, threshold: f64) -> bool {
        if threshold == 0.0 && self.schema == before.schema && self.spans == before.spans {
            return self.counts.iter().zip(before.counts).any(|(now, before)| now < before);
        }
        let mut ours = self.reduced(self.schema, threshold).peekable();
        for (index, count) in before.reduced(self.schema, threshold) {
            while ours.next_if(|(own, _)| *own < index).is_some() {}
            match ours.next_if(|(own, _)| *own == index) {
                Some((_, now)) if now < count => return true,
                None if count != 0.0 => return true,
                _ => {}
            }
        }
        false
    }

    /// Indexes and counts in the coarser schema `target`, from the first bucket on that ends above
    /// `threshold`.
    fn reduced(self, target: i32, threshold: f64) -> impl Iterator<Item = (i32, f64)> + 'a {
        let mut buckets = Indexes::new(self.spans, self.counts.len())
            .map(move |(index, position)| {
                let index = if self.schema == target { index } else { target_index(index, self.schema, target) };
                (index, self.counts[position])
            })
            .peekable();
        let merged = std::iter::from_fn(move || {
            let (index, mut count) = buckets.next()?;
            while let Some((_, more)) = buckets.next_if(|(next, _)| *next == index) {
                count += more;
            }
            Some((index, count))
        });
        let exponential = target != CUSTOM_BUCKETS_SCHEMA;
        merged.skip_while(move |(index, _)| {
            threshold != 0.0 && exponential && exponential_bound(*index, target) <= threshold
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, spans: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: 100.0,
            positive_spans: spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect(),
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn a_bucket_that_lost_observations_or_vanished_is_a_reset() {
        let before = histogram(0, &[(0, 2)], &[1.0, 2.0]);
        assert!(!histogram(0, &[(0, 2)], &[1.0, 2.0]).detect_reset(&before));
        assert!(histogram(0, &[(0, 2)], &[1.0, 1.0]).detect_reset(&before));
        assert!(histogram(0, &[(0, 1), (3, 1)], &[1.0, 9.0]).detect_reset(&before));
        assert!(!histogram(0, &[(-4, 6)], &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0]).detect_reset(&before));
        assert!(!histogram(0, &[(1, 1)], &[2.0]).detect_reset(&histogram(0, &[(0, 2)], &[0.0, 2.0])));
    }

    #[test]
    fn a_coarser_schema_is_compared_after_merging_and_a_finer_one_is_a_reset() {
        let fine = histogram(1, &[(1, 2)], &[1.0, 2.0]);
        assert!(!histogram(0, &[(1, 1)], &[3.0]).detect_reset(&fine));
        assert!(histogram(0, &[(1, 1)], &[2.0]).detect_reset(&fine));
        assert!(fine.detect_reset(&histogram(0, &[(1, 1)], &[3.0])));
    }

    #[test]
    fn a_hint_decides_alone() {
        let before = histogram(0, &[(0, 1)], &[5.0]);
        let with = |counter_reset, count| FloatHistogram { counter_reset, ..histogram(0, &[(0, 1)], &[count]) };
        assert!(with(CounterReset::Yes, 9.0).detect_reset(&before));
        assert!(!with(CounterReset::No, 1.0).detect_reset(&before));
        assert!(with(CounterReset::Gauge, 1.0).detect_reset(&before));
    }
}
