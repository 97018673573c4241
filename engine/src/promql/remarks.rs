//! Remarks of PromQL as texts, as they come from whoever has evaluated a share of a query.
//!
//! ```text
//! PromQL info: ignored histogram in max aggregation, receive series from a: no
//! └──────────────────── remark ───────────────────┘  └──────── rest ────────┘
//! ```

use std::collections::HashSet;

use super::annotations::{INFO, Mix, WARNING};
use super::words;

/// What stands between texts that were joined.
pub const JOINT: &str = ", ";

/// What remarks begin with.
const KINDS: [&str; 2] = [WARNING, INFO];

/// Takes the remarks of PromQL out of `text`, which may be several texts that were joined, in any order. Gives them
/// and the rest, joined; it is empty when there is none.
pub fn take_out(text: &str) -> (Vec<&str>, String) {
    // Nothing is joined here, so that words which are not known hide nothing.
    if !text.contains(JOINT) && KINDS.iter().any(|kind| text.starts_with(*kind)) {
        return (vec![text], String::new());
    }
    let (mut remarks, mut rest) = (Vec::new(), Vec::new());
    let mut left = Some(text);
    while let Some(text) = left {
        let (end, found) = match remark(text) {
            Some(end) => (end, &mut remarks),
            None => (text.find(JOINT).unwrap_or(text.len()), &mut rest),
        };
        found.push(&text[..end]);
        left = text[end..].strip_prefix(JOINT);
    }
    (remarks, rest.join(JOINT))
}

/// A remark without its place in the query.
pub fn without_place(remark: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_place = |text: &str| text.split_once(':').is_some_and(|(line, column)| is_number(line) && is_number(column));
    let parts = remark.strip_suffix(')').and_then(|remark| remark.rsplit_once(" ("));
    let parts = parts.filter(|(words, place)| words.starts_with("PromQL ") && is_place(place));
    parts.map_or(remark, |(words, _)| words)
}

/// Takes out of `remarks` what is said twice of a query that was evaluated in part elsewhere: what has no place, as it
/// was said there, and has one here; and what is said here of what stands for that part, which has no metric's name.
pub fn take_out_repeats(remarks: &mut Vec<String>) {
    let placed = remarks.iter().filter(|remark| without_place(remark).len() < remark.len());
    let placed: HashSet<String> = placed.map(|remark| without_place(remark).to_owned()).collect();
    remarks.retain(|remark| !placed.contains(remark));
    let is_mix = |remark: &String| Mix::of_warning(remark) == Some(Mix::Buckets);
    let is_nameless = |remark: &String| is_mix(remark) && without_place(remark).ends_with(" for metric name \"\"");
    if remarks.iter().any(|remark| is_mix(remark) && !is_nameless(remark)) {
        remarks.retain(|remark| !is_nameless(remark) || !placed.contains(without_place(remark)));
    }
}

/// Bytes of the remark that `text` begins with; `None` when it doesn't, or when the next joint is elsewhere.
fn remark(text: &str) -> Option<usize> {
    let said = KINDS.iter().find_map(|kind| text.strip_prefix(*kind))?;
    let ends = words::ALL.iter().filter_map(|pattern| {
        let mut end = matched(said, pattern)?;
        for tail in words::TAILS {
            end += matched(&said[end..], tail).unwrap_or(0);
        }
        (end == said.len() || said[end..].starts_with(JOINT)).then_some(end)
    });
    ends.max().map(|end| text.len() - said.len() + end)
}

/// How many bytes of `text` from its start are as `pattern` says.
fn matched(text: &str, pattern: &str) -> Option<usize> {
    let mut parts = pattern.split('%');
    let mut rest = text.strip_prefix(parts.next()?)?;
    for part in parts {
        let (length, fixed) = match part.strip_prefix('q') {
            Some(fixed) => (quoted(rest)?, fixed),
            None => (word(rest)?, part.strip_prefix('w').unwrap_or(part)),
        };
        rest = rest[length..].strip_prefix(fixed)?;
    }
    Some(text.len() - rest.len())
}

/// Bytes of the quoted text that `text` begins with.
fn quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.strip_prefix('"')?.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map(|end| end + 2)
}

/// Bytes of the word that `text` begins with.
fn word(text: &str) -> Option<usize> {
    let end = text.find([' ', ',', '(', ')']).unwrap_or(text.len());
    (end > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::annotations::{Annotation, HistogramOperation, Monotonicity};
    use super::*;

    /// One of each kind.
    fn all() -> Vec<Annotation> {
        let forced = Monotonicity {
            min_time: 0,
            max_time: 60_000,
            min_bucket: 0.5,
            max_bucket: f64::INFINITY,
            max_diff: 123.0,
            samples: 3,
        };
        let operations =
            [HistogramOperation::Addition, HistogramOperation::Subtraction, HistogramOperation::Aggregation];
        let mut all = vec![
            Annotation::invalid_quantile(1.5, 0),
            Annotation::invalid_quantile(f64::NAN, 0),
            Annotation::invalid_ratio(-2e21, -1.0, 0),
            Annotation::mixed_floats_histograms_aggregation(0),
            Annotation::incompatible_bucket_layout("+", 0),
            Annotation::sort_in_range_query(0),
            Annotation::incompatible_types("histogram", ">/", "float", 0),
            Annotation::histogram_ignored_in_aggregation("max", 0),
        ];
        for metric in ["", "a", "a, \"b\"\\, PromQL info: c"] {
            all.extend([
                Annotation::bad_bucket_label(metric, "one, two", 0),
                Annotation::mixed_floats_histograms(metric, 0),
                Annotation::mixed_classic_native(metric, 0),
                Annotation::native_histogram_not_counter(metric, 0),
                Annotation::native_histogram_not_gauge(metric, 0),
                Annotation::mixed_exponential_custom(metric, 0),
                Annotation::possible_non_counter(metric, 0),
                Annotation::possible_non_counter_label(metric, "gauge", 0),
                Annotation::forced_monotonicity(metric, forced, 0),
                Annotation::histogram_ignored_in_mixed_range(metric, 0),
                Annotation::native_histogram_quantile_nan_result(metric, 0),
                Annotation::native_histogram_quantile_nan_skew(metric, 0),
                Annotation::native_histogram_fraction_nans(metric, 0),
                Annotation::start_time_overlap(metric, 0),
            ]);
        }
        all.extend(operations.map(|operation| Annotation::counter_reset_collision(operation, 0)));
        all.extend(operations.map(|operation| Annotation::mismatched_custom_buckets(operation, 0)));
        all
    }

    #[test]
    fn every_annotation_is_taken_out_of_joined_texts() {
        for annotation in all() {
            let placed = annotation.render("a");
            for remark in [placed.as_str(), without_place(&placed)] {
                assert_eq!(take_out(remark), (vec![remark], String::new()));
                let other = "PromQL info: ignored histogram in min aggregation";
                for (joined, remarks) in [
                    (format!("{remark}, receive series from a: no, really"), vec![remark]),
                    (format!("receive series from a: no, {remark}, really"), vec![remark]),
                    (format!("{other}, receive series from a: no, really, {remark}"), vec![other, remark]),
                ] {
                    assert_eq!(take_out(&joined), (remarks, "receive series from a: no, really".to_owned()));
                }
            }
        }
    }

    #[test]
    fn words_that_are_not_known_are_no_remark_where_they_may_hide_something() {
        let alone = "PromQL info: something of a later version";
        assert_eq!(take_out(alone), (vec![alone], String::new()));
        for joined in [
            "PromQL info: something of a later version, receive series from a: no",
            "PromQL info: ignored histogram in max aggregation receive series from a: no, b",
            "PromQL warning: this native histogram metric is not a gauge: \"a, receive series from a: no",
            "receive series from a: PromQL info: ignored histogram in max aggregation",
        ] {
            assert_eq!(take_out(joined), (Vec::new(), joined.to_owned()));
        }
        assert_eq!(take_out(""), (Vec::new(), String::new()));
    }

    #[test]
    fn what_is_said_there_and_here_is_said_once() {
        let kept = |remarks: &[&str]| {
            let mut remarks: Vec<String> = remarks.iter().map(|remark| (*remark).to_owned()).collect();
            take_out_repeats(&mut remarks);
            remarks
        };
        let kinds = "PromQL warning: encountered a mix of histograms and floats for aggregation";
        let placed = format!("{kinds} (1:5)");
        assert_eq!(kept(&[kinds, &placed]), [placed.as_str()]);
        assert_eq!(kept(&[kinds, "receive series from a: no"]), [kinds, "receive series from a: no"]);
        let mix = |name: &str| Annotation::mixed_exponential_custom(name, 0).render("a");
        let (nameless, named) = (mix(""), mix("h"));
        let there = without_place(&named);
        assert_eq!(kept(&[there, &nameless]), [there]);
        // All that is told of a mix of what different endpoints have.
        assert_eq!(kept(&[&nameless]), [nameless.as_str()]);
        assert_eq!(kept(&[without_place(&nameless), &nameless]), [nameless.as_str()]);
    }
}
