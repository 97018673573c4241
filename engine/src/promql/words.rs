//! The words of warnings and infos, which are written and found again by the same patterns: `%q` is a quoted text and
//! `%w` a word.

use std::fmt::{Display, Write};

/// A quantile outside of [0, 1].
pub const QUANTILE: &str = "quantile value should be between 0 and 1, got %w";
/// A ratio outside of [-1, 1].
pub const RATIO: &str = "ratio value should be between -1 and 1, got %w, capping to %w";
/// A classic bucket whose bound is no number.
pub const BUCKET_LABEL: &str = "bucket label \"le\" is missing or has a malformed value of %q";
/// A window with floats and histograms.
pub const MIXED_KINDS: &str = "encountered a mix of histograms and floats";
/// An aggregation over floats and histograms.
pub const MIXED_AGGREGATION: &str = "encountered a mix of histograms and floats for aggregation";
/// Classic and native histogram of the same series.
pub const MIXED_HISTOGRAMS: &str = "vector contains a mix of classic and native histograms";
/// A gauge histogram under a counter's function.
pub const NOT_COUNTER: &str = "this native histogram metric is not a counter: %q";
/// A counter histogram under a gauge's function.
pub const NOT_GAUGE: &str = "this native histogram metric is not a gauge: %q";
/// Exponential and custom buckets that meet.
pub const MIXED_BUCKETS: &str = "vector contains a mix of histograms with exponential and custom buckets schemas";
/// Histograms whose buckets do not fit under a binary operator.
pub const BUCKET_LAYOUT: &str = "incompatible bucket layout encountered for binary operator %w";
/// `sort` in a range query.
pub const SORT: &str = "sort is ineffective for range queries since results are always ordered by labels";
/// A rate of something that does not look like a counter.
pub const NO_COUNTER: &str = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: %q";
/// A rate of something whose type label is not a counter's.
pub const NO_COUNTER_TYPE: &str =
    "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got %q: %q";
/// A classic histogram whose counts were not monotonic.
pub const MONOTONICITY: &str = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
/// Operands that a binary operator does not take.
pub const OPERANDS: &str = "incompatible sample types encountered for binary operator %q: %w %w %w";
/// A histogram in an aggregation that takes floats only.
pub const IGNORED_IN_AGGREGATION: &str = "ignored histogram in %w aggregation";
/// Histograms in a window of a function that takes floats only.
pub const IGNORED_IN_RANGE: &str = "ignored histograms in a range containing both floats and histograms";
/// A quantile that NaN observations made NaN.
pub const NAN_QUANTILE: &str = "input to histogram_quantile has NaN observations, result is NaN";
/// A quantile that NaN observations moved.
pub const SKEWED_QUANTILE: &str = "input to histogram_quantile has NaN observations, result is skewed higher";
/// A fraction that leaves NaN observations out.
pub const NAN_FRACTION: &str =
    "input to histogram_fraction has NaN observations, which are excluded from all fractions";
/// Histograms of which one had a reset and the other none.
pub const RESETS: &str = "conflicting counter resets during histogram %w";
/// Custom buckets that were made to fit.
pub const RECONCILED: &str = "mismatched custom buckets were reconciled during %w";
/// A sample that starts before the one before it.
pub const OVERLAP: &str = "sample has start time that overlaps with previous sample timestamp for metric %q";

/// All of them.
pub const ALL: [&str; 23] = [
    QUANTILE,
    RATIO,
    BUCKET_LABEL,
    MIXED_KINDS,
    MIXED_AGGREGATION,
    MIXED_HISTOGRAMS,
    NOT_COUNTER,
    NOT_GAUGE,
    MIXED_BUCKETS,
    BUCKET_LAYOUT,
    SORT,
    NO_COUNTER,
    NO_COUNTER_TYPE,
    MONOTONICITY,
    OPERANDS,
    IGNORED_IN_AGGREGATION,
    IGNORED_IN_RANGE,
    NAN_QUANTILE,
    SKEWED_QUANTILE,
    NAN_FRACTION,
    RESETS,
    RECONCILED,
    OVERLAP,
];

/// Which metric they are about.
pub const OF_METRIC: &str = " for metric name %q";
/// Where counts had to be made monotonic.
pub const OF_COUNTS: &str = ", from buckets %w to %w, with a max diff of %w, over %w samples from %w to %w";
/// How often it was so.
pub const OF_TIMES: &str = " (%w occurrences)";
/// Where in the query it was said.
pub const OF_PLACE: &str = " (%w)";

/// What may come behind the words, in this order.
pub const TAILS: [&str; 4] = [OF_METRIC, OF_COUNTS, OF_TIMES, OF_PLACE];

/// `pattern` with `parts` in their places; quoted texts come with their quotes.
pub fn fill(pattern: &str, parts: &[&dyn Display]) -> String {
    let mut fixed = pattern.split('%');
    let mut text = fixed.next().unwrap_or_default().to_owned();
    for (fixed, part) in fixed.zip(parts) {
        // Writing to a string does not fail.
        let _ = write!(text, "{part}{}", fixed.get(1..).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_in_where_the_pattern_has_a_place() {
        assert_eq!(fill(SORT, &[]), SORT);
        assert_eq!(fill(RATIO, &[&2, &1]), "ratio value should be between -1 and 1, got 2, capping to 1");
        assert_eq!(fill(OF_PLACE, &[&"100%"]), " (100%)");
    }
}
