//! Warnings and infos that come with an answer, in Prometheus' words.

use std::collections::HashMap;
use std::fmt;

use crate::model::float_text::{Notation, format_float_as};

use super::words::{self, fill};

/// What every warning begins with.
pub const WARNING: &str = "PromQL warning: ";

/// What every info begins with.
pub const INFO: &str = "PromQL info: ";

/// How loud an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The answer may be wrong.
    Warning,
    /// Something to know.
    Info,
}

/// One warning or info, with the place in the query that caused it.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    severity: Severity,
    text: String,
    position: usize,
    detail: Detail,
}

/// What some annotations count while they are merged.
#[derive(Clone, Debug, PartialEq)]
enum Detail {
    None,
    Monotonicity(Monotonicity),
    Overlaps(u64),
}

/// Samples of two kinds that have met in an aggregation: they have no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Floats and native histograms.
    Kinds,
    /// Histograms with exponential and with custom buckets.
    Buckets,
}

/// Where counts of a classic histogram had to be made monotonic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Monotonicity {
    /// First step (Unix milliseconds).
    pub min_time: i64,
    /// Last step (Unix milliseconds).
    pub max_time: i64,
    /// Lowest upper bound that was raised.
    pub min_bucket: f64,
    /// Highest upper bound that was raised.
    pub max_bucket: f64,
    /// Largest difference that was removed.
    pub max_diff: f64,
    /// Number of fixed samples.
    pub samples: u64,
}

/// The operation that two histograms took part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramOperation {
    /// `+`
    Addition,
    /// `-`
    Subtraction,
    /// An aggregation, over series or time.
    Aggregation,
}

/// All annotations of an answer, each text once.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    entries: Vec<Annotation>,
    known: HashMap<String, usize>,
}

impl Annotation {
    fn warning(text: &str, position: usize) -> Self {
        Self { severity: Severity::Warning, text: format!("{WARNING}{text}"), position, detail: Detail::None }
    }

    fn info(text: &str, position: usize) -> Self {
        Self { severity: Severity::Info, text: format!("{INFO}{text}"), position, detail: Detail::None }
    }

    /// How loud it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// A quantile outside of [0, 1].
    pub fn invalid_quantile(quantile: f64, position: usize) -> Self {
        Self::warning(&fill(words::QUANTILE, &[&Short(quantile)]), position)
    }

    /// A ratio outside of [-1, 1].
    pub fn invalid_ratio(ratio: f64, capped: f64, position: usize) -> Self {
        Self::warning(&fill(words::RATIO, &[&Short(ratio), &Short(capped)]), position)
    }

    /// A classic bucket whose bound is no number.
    pub fn bad_bucket_label(metric: &str, label: &str, position: usize) -> Self {
        let text = fill(words::BUCKET_LABEL, &[&Quoted(label)]);
        Self::warning(&of_any(&text, metric), position)
    }

    /// A window with floats and histograms.
    pub fn mixed_floats_histograms(metric: &str, position: usize) -> Self {
        Self::warning(&of_metric(words::MIXED_KINDS, metric), position)
    }

    /// An aggregation over floats and histograms.
    pub fn mixed_floats_histograms_aggregation(position: usize) -> Self {
        Self::warning(words::MIXED_AGGREGATION, position)
    }

    /// Classic and native histogram of the same series.
    pub fn mixed_classic_native(metric: &str, position: usize) -> Self {
        Self::warning(&of_any(words::MIXED_HISTOGRAMS, metric), position)
    }

    /// A gauge histogram under a counter's function.
    pub fn native_histogram_not_counter(metric: &str, position: usize) -> Self {
        Self::warning(&fill(words::NOT_COUNTER, &[&Quoted(metric)]), position)
    }

    /// A counter histogram under a gauge's function.
    pub fn native_histogram_not_gauge(metric: &str, position: usize) -> Self {
        Self::warning(&fill(words::NOT_GAUGE, &[&Quoted(metric)]), position)
    }

    /// Exponential and custom buckets that meet.
    pub fn mixed_exponential_custom(metric: &str, position: usize) -> Self {
        Self::warning(&of_metric(words::MIXED_BUCKETS, metric), position)
    }

    /// Histograms whose buckets do not fit under a binary operator.
    pub fn incompatible_bucket_layout(operator: &str, position: usize) -> Self {
        Self::warning(&fill(words::BUCKET_LAYOUT, &[&operator]), position)
    }

    /// `sort` in a range query.
    pub fn sort_in_range_query(position: usize) -> Self {
        Self::warning(words::SORT, position)
    }

    /// A rate of something that does not look like a counter.
    pub fn possible_non_counter(metric: &str, position: usize) -> Self {
        Self::info(&fill(words::NO_COUNTER, &[&Quoted(metric)]), position)
    }

    /// A rate of something whose type label is not a counter's.
    pub fn possible_non_counter_label(metric: &str, kind: &str, position: usize) -> Self {
        Self::info(&fill(words::NO_COUNTER_TYPE, &[&Quoted(kind), &Quoted(metric)]), position)
    }

    /// A classic histogram whose counts were not monotonic.
    pub fn forced_monotonicity(metric: &str, detail: Monotonicity, position: usize) -> Self {
        let plain = Self::info(&of_any(words::MONOTONICITY, metric), position);
        Self { detail: Detail::Monotonicity(detail), ..plain }
    }

    /// Operands that a binary operator does not take.
    pub fn incompatible_types(left: &str, operator: &str, right: &str, position: usize) -> Self {
        Self::info(&fill(words::OPERANDS, &[&Quoted(operator), &left, &operator, &right]), position)
    }

    /// A histogram in an aggregation that takes floats only.
    pub fn histogram_ignored_in_aggregation(aggregation: &str, position: usize) -> Self {
        Self::info(&fill(words::IGNORED_IN_AGGREGATION, &[&aggregation]), position)
    }

    /// Histograms in a window of a function that takes floats only.
    pub fn histogram_ignored_in_mixed_range(metric: &str, position: usize) -> Self {
        Self::info(&of_metric(words::IGNORED_IN_RANGE, metric), position)
    }

    /// A quantile that NaN observations made NaN.
    pub fn native_histogram_quantile_nan_result(metric: &str, position: usize) -> Self {
        Self::info(&of_any(words::NAN_QUANTILE, metric), position)
    }

    /// A quantile that NaN observations moved.
    pub fn native_histogram_quantile_nan_skew(metric: &str, position: usize) -> Self {
        Self::info(&of_any(words::SKEWED_QUANTILE, metric), position)
    }

    /// A fraction that leaves NaN observations out.
    pub fn native_histogram_fraction_nans(metric: &str, position: usize) -> Self {
        Self::info(&of_any(words::NAN_FRACTION, metric), position)
    }

    /// Histograms of which one had a reset and the other none.
    pub fn counter_reset_collision(operation: HistogramOperation, position: usize) -> Self {
        Self::warning(&fill(words::RESETS, &[&operation]), position)
    }

    /// Custom buckets that were made to fit.
    pub fn mismatched_custom_buckets(operation: HistogramOperation, position: usize) -> Self {
        Self::info(&fill(words::RECONCILED, &[&operation]), position)
    }

    /// A sample that starts before the one before it.
    pub fn start_time_overlap(metric: &str, position: usize) -> Self {
        let plain = Self::warning(&fill(words::OVERLAP, &[&Quoted(metric)]), position);
        Self { detail: Detail::Overlaps(1), ..plain }
    }

    /// The text that Prometheus prints beside an answer to `query`, with line and column.
    pub fn render(&self, query: &str) -> String {
        let detail = match &self.detail {
            Detail::Overlaps(count) if *count > 1 => fill(words::OF_TIMES, &[count]),
            Detail::None | Detail::Overlaps(_) => String::new(),
            Detail::Monotonicity(detail) => fill(
                words::OF_COUNTS,
                &[
                    &Short(detail.min_bucket),
                    &Short(detail.max_bucket),
                    &TwoDigits(detail.max_diff),
                    &detail.samples,
                    &Rfc3339(detail.min_time),
                    &Rfc3339(detail.max_time),
                ],
            ),
        };
        format!("{}{detail}{}", self.text, fill(words::OF_PLACE, &[&place(query, self.position)]))
    }

    fn merge(&mut self, newer: Self) {
        self.position = newer.position;
        match (&mut self.detail, newer.detail) {
            (Detail::Overlaps(count), Detail::Overlaps(more)) => *count += more,
            (Detail::Monotonicity(old), Detail::Monotonicity(new)) => {
                old.min_time = old.min_time.min(new.min_time);
                old.max_time = old.max_time.max(new.max_time);
                old.min_bucket = old.min_bucket.min(new.min_bucket);
                old.max_bucket = old.max_bucket.max(new.max_bucket);
                old.max_diff = old.max_diff.max(new.max_diff);
                old.samples += new.samples;
            }
            _ => {}
        }
    }
}

impl Mix {
    /// What a warning, as it is printed, says to have met. That of buckets is a function's too.
    pub fn of_warning(text: &str) -> Option<Self> {
        if text.contains(words::MIXED_AGGREGATION) {
            return Some(Self::Kinds);
        }
        text.contains(words::MIXED_BUCKETS).then_some(Self::Buckets)
    }
}

impl Annotations {
    /// Adds one; a text that is known already is merged with it.
    pub fn add(&mut self, annotation: Annotation) {
        match self.known.get(&annotation.text) {
            Some(at) => self.entries[*at].merge(annotation),
            None => {
                self.known.insert(annotation.text.clone(), self.entries.len());
                self.entries.push(annotation);
            }
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for annotation in other.entries {
            self.add(annotation);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of one severity as printed beside an answer to `query`.
    pub fn render(&self, severity: Severity, query: &str) -> Vec<String> {
        let wanted = self.entries.iter().filter(|annotation| annotation.severity == severity);
        wanted.map(|annotation| annotation.render(query)).collect()
    }
}

impl fmt::Display for HistogramOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        })
    }
}

/// `text` about `metric`.
fn of_metric(text: &str, metric: &str) -> String {
    format!("{text}{}", fill(words::OF_METRIC, &[&Quoted(metric)]))
}

/// `text`, about `metric` if that has a name.
fn of_any(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { of_metric(text, metric) }
}

/// Line and column of byte `position` of `query`, both from 1.
pub fn place(query: &str, position: usize) -> String {
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    let Some(before) = query.as_bytes().get(..position) else {
        return "invalid position".to_owned();
    };
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    format!("{line}:{}", position - line_start + 1)
}

/// A string as Go's `%q` prints it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for char in self.0.chars() {
            match char {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                char if (char as u32) < 0x20 || char as u32 == 0x7f => write!(f, "\\x{:02x}", char as u32)?,
                char => write!(f, "{char}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A float as Go's `%g` prints it.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_float_as(self.0, Notation::General))
    }
}

/// A float as Go's `%.2g` prints it.
struct TwoDigits(f64);

impl fmt::Display for TwoDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return Short(self.0).fmt(f);
        }
        let scientific = format!("{:.1e}", self.0);
        let rounded: f64 = scientific.parse().unwrap_or(self.0);
        let exponent: i32 = scientific.rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if (-4..2).contains(&exponent) {
            return write!(f, "{rounded}");
        }
        let mantissa = scientific.split('e').next().unwrap_or("").trim_end_matches('0').trim_end_matches('.');
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{mantissa}e{sign}{:02}", exponent.abs())
    }
}

/// Unix milliseconds as RFC 3339 in UTC, to the second.
struct Rfc3339(i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = super::exec::calendar::Date::from_unix(self.0.div_euclid(1000));
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.year, date.month, date.day, date.hour, date.minute, date.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_with_its_last_position() {
        let mut all = Annotations::default();
        all.add(Annotation::invalid_quantile(1.5, 0));
        all.add(Annotation::invalid_quantile(1.5, 3));
        all.add(Annotation::possible_non_counter("x", 0));
        assert_eq!(
            all.render(Severity::Warning, "a\nbcd"),
            ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:2)"]
        );
        assert_eq!(all.render(Severity::Info, "a").len(), 1);
    }

    #[test]
    fn warnings_tell_what_has_met_in_an_aggregation() {
        let mix = |annotation: Annotation| Mix::of_warning(&annotation.render("a"));
        assert_eq!(mix(Annotation::mixed_floats_histograms_aggregation(0)), Some(Mix::Kinds));
        assert_eq!(mix(Annotation::mixed_exponential_custom("a", 0)), Some(Mix::Buckets));
        assert_eq!(mix(Annotation::mixed_floats_histograms("a", 0)), None);
    }

    #[test]
    fn floats_are_printed_as_go_does() {
        let shown: Vec<String> =
            [1e21, 123456.0, 0.0001, 0.00001, -2.5, 1e-7].map(|value| Short(value).to_string()).into();
        assert_eq!(shown, ["1e+21", "123456", "0.0001", "1e-05", "-2.5", "1e-07"]);
        // Of two shortest texts that are as near the one whose last digit is even.
        assert_eq!(Short(6e14 + 0.25).to_string(), "6.000000000000002e+14");
        assert_eq!(TwoDigits(123.0).to_string(), "1.2e+02");
        assert_eq!(TwoDigits(0.5).to_string(), "0.5");
        assert_eq!(TwoDigits(1.96).to_string(), "2");
    }
}
