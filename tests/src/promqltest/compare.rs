//! Whether an answer is what a case expects.

use std::sync::Arc;

use engine::model::value::almost_equal;
use engine::model::{FloatHistogram, Labels};

use super::script::{Case, Expected, Pattern, is_sample};
use super::series::{Point, Sequence};
use super::{Answer, Sample, Series, Value, When};

/// Relative error that is allowed.
const TOLERANCE: f64 = 0.000_001;

/// Checks the warnings and infos of an answer.
pub fn annotations(case: &Case, answer: &Answer) -> Result<(), String> {
    let expected = &case.expectations;
    all_match("warning", &expected.warn, &answer.warnings)?;
    all_match("info", &expected.info, &answer.infos)?;
    if expected.no_warn.is_some() && !answer.warnings.is_empty() {
        return Err(format!("unexpected warnings {:?}", answer.warnings));
    }
    if expected.no_info.is_some() && !answer.infos.is_empty() {
        return Err(format!("unexpected infos {:?}", answer.infos));
    }
    Ok(())
}

fn all_match(kind: &str, patterns: &[Pattern], texts: &[String]) -> Result<(), String> {
    if patterns.is_empty() {
        return Ok(());
    }
    if let Some(pattern) = patterns.iter().find(|pattern| !texts.iter().any(|text| pattern.matches(text))) {
        return Err(format!("no {kind} is {pattern:?}; there are {texts:?}"));
    }
    match texts.iter().find(|text| !patterns.iter().any(|pattern| pattern.matches(text))) {
        Some(text) => Err(format!("unexpected {kind} {text:?}")),
        None => Ok(()),
    }
}

/// Checks the value of an answer.
pub fn value(case: &Case, value: &Value) -> Result<(), String> {
    match (&case.values, value) {
        (Expected::Scalar(expected), Value::Scalar(actual)) => same_float(*expected, *actual, "the scalar"),
        (Expected::Text(expected), Value::Text(actual)) if expected == actual => Ok(()),
        (Expected::Series(expected), Value::Vector(actual)) => vector(case, expected, actual),
        (Expected::Series(expected), Value::Matrix(actual)) => matrix(case, expected, actual),
        (expected, actual) => Err(format!("expected {expected:?}, got {actual:?}")),
    }
}

fn vector(case: &Case, expected: &[Sequence], actual: &[(Arc<Labels>, Sample)]) -> Result<(), String> {
    for (position, (labels, sample)) in actual.iter().enumerate() {
        let found = expected.iter().position(|sequence| sequence.labels == **labels);
        let Some(at) = found else { return Err(format!("unexpected series {labels} with {}", show(sample))) };
        if case.expectations.ordered.is_some() && at != position {
            return Err(format!("expected {labels} at place {}, not {}", at + 1, position + 1));
        }
        let point = expected[at].points.first().unwrap_or(&Point::Omitted);
        same_sample(point, sample, &labels.to_string())?;
    }
    match expected.iter().find(|sequence| !actual.iter().any(|(labels, _)| sequence.labels == **labels)) {
        Some(missing) => Err(format!("expected series {} not found", missing.labels)),
        None => Ok(()),
    }
}

fn matrix(case: &Case, expected: &[Sequence], actual: &[Series]) -> Result<(), String> {
    if case.expectations.ordered.is_some() {
        return Err("expected an ordered result, got a matrix".to_owned());
    }
    sorted(actual)?;
    for series in actual {
        let Some(sequence) = expected.iter().find(|sequence| sequence.labels == *series.labels) else {
            return Err(format!("unexpected series {} with {}", series.labels, show_series(series)));
        };
        same_series(case, sequence, series)
            .map_err(|error| format!("{}: {error} (result has {})", series.labels, show_series(series)))?;
    }
    match expected.iter().find(|sequence| !actual.iter().any(|series| sequence.labels == *series.labels)) {
        Some(missing) => Err(format!("expected series {} not found", missing.labels)),
        None => Ok(()),
    }
}

/// Series of a matrix come sorted by their labels.
pub fn sorted(series: &[Series]) -> Result<(), String> {
    match series.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        Some(pair) => Err(format!("series {} comes before {}", pair[0].labels, pair[1].labels)),
        None => Ok(()),
    }
}

fn same_series(case: &Case, sequence: &Sequence, series: &Series) -> Result<(), String> {
    let (start, step) = match (case.samples_at, case.when) {
        (Some(times), _) => times,
        (None, When::Range { start, step, .. }) => (start, step),
        (None, When::Instant(time)) => (time, 0),
    };
    let (mut floats, mut histograms) = (series.floats.iter(), series.histograms.iter());
    for (at, point) in sequence.points.iter().enumerate().filter(|(_, point)| is_sample(point)) {
        let time = start + step * at as i64;
        let next = match point {
            Point::Histogram { .. } => {
                histograms.next().map(|(time, histogram)| (*time, Sample::Histogram(Arc::clone(histogram))))
            }
            _ => floats.next().map(|(time, value)| (*time, Sample::Float(*value))),
        };
        let Some((actual_time, sample)) = next else { return Err(format!("expected a point at {time}")) };
        if actual_time != time {
            return Err(format!("expected a point at {time}, got one at {actual_time}"));
        }
        same_sample(point, &sample, &format!("point {at}"))?;
    }
    if floats.next().is_some() || histograms.next().is_some() {
        return Err("there are more points than expected".to_owned());
    }
    Ok(())
}

fn same_sample(expected: &Point, actual: &Sample, what: &str) -> Result<(), String> {
    match (expected, actual) {
        (Point::Float(expected), Sample::Float(actual)) => same_float(*expected, *actual, what),
        (Point::Histogram { histogram, hint_is_set }, Sample::Histogram(actual)) => {
            let hint_differs = *hint_is_set && histogram.counter_reset != actual.counter_reset;
            if same_histogram(histogram, actual) && !hint_differs {
                return Ok(());
            }
            let (expected, actual) = (histogram.test_notation(), actual.test_notation());
            Err(format!("expected {what} to be {expected}, got {actual}"))
        }
        (expected, actual) => Err(format!("expected {what} to be {expected:?}, got {}", show(actual))),
    }
}

fn same_float(expected: f64, actual: f64, what: &str) -> Result<(), String> {
    if almost_equal(actual, expected, TOLERANCE) {
        return Ok(());
    }
    Err(format!("expected {what} to be {expected}, got {actual}"))
}

fn same_histogram(expected: &FloatHistogram, actual: &FloatHistogram) -> bool {
    let (mut expected, mut actual) = (expected.clone(), actual.clone());
    expected.compact(0);
    actual.compact(0);
    let close = |left: &[f64], right: &[f64]| {
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| almost_equal(*left, *right, TOLERANCE))
    };
    expected.schema == actual.schema
        && close(&[expected.count, expected.sum, expected.zero_count], &[actual.count, actual.sum, actual.zero_count])
        && expected.custom_values == actual.custom_values
        && expected.zero_threshold == actual.zero_threshold
        && expected.positive_spans == actual.positive_spans
        && expected.negative_spans == actual.negative_spans
        && close(&expected.positive_buckets, &actual.positive_buckets)
        && close(&expected.negative_buckets, &actual.negative_buckets)
}

fn show(sample: &Sample) -> String {
    match sample {
        Sample::Float(value) => value.to_string(),
        Sample::Histogram(histogram) => histogram.test_notation(),
    }
}

fn show_series(series: &Series) -> String {
    let floats = series.floats.iter().map(|(time, value)| format!("{value} @{time}"));
    let histograms = series.histograms.iter().map(|(time, histogram)| format!("{} @{time}", histogram.test_notation()));
    floats.chain(histograms).collect::<Vec<_>>().join(", ")
}
