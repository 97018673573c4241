//! Values of queries as Prometheus' JSON, written straight from columns.

use engine::model::float_text::{Notation, push_float};
use engine::model::{FloatHistogram, Labels};
use engine::promql::explain::Explained;
use engine::promql::value::{Matrix, QueryValue};
use serde_json::{Value, json};

/// Appends `{"resultType":…,"result":…` without the closing brace; at most `limit` series when it is
/// not 0. Whether series were left out.
pub fn push_value(out: &mut Vec<u8>, value: &QueryValue, limit: usize) -> Completeness {
    let kind: &[u8] = match value {
        QueryValue::Scalar(steps, _) if steps.count > 1 => b"matrix",
        QueryValue::Scalar(..) => b"scalar",
        QueryValue::Text(..) => b"string",
        QueryValue::Vector(..) => b"vector",
        QueryValue::Matrix(..) | QueryValue::Samples(_) => b"matrix",
    };
    out.extend_from_slice(b"{\"resultType\":\"");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\",\"result\":");
    match value {
        QueryValue::Scalar(steps, values) => {
            push_point(out, steps.time(0), |out| push_quoted(out, values.first().copied().unwrap_or(f64::NAN)));
            Completeness::Whole
        }
        QueryValue::Text(time, text) => {
            push_point(out, *time, |out| push_string(out, text));
            Completeness::Whole
        }
        QueryValue::Vector(steps, rows) => push_rows(out, limited(rows.len(), limit), |out, row| {
            push_vector_row(out, rows, (row, steps.time(0)));
        }),
        QueryValue::Matrix(steps, rows) => push_rows(out, limited(rows.len(), limit), |out, row| {
            push_metric(out, &rows.rows[row].labels);
            let floats = rows.floats(row).map(|(step, value)| (steps.time(step), value));
            push_floats(out, floats);
            let histograms = rows.histograms(row).iter();
            push_histograms(out, histograms.map(|(step, found)| (steps.time(*step as usize), found.as_ref())));
        }),
        QueryValue::Samples(batch) => push_rows(out, limited(batch.len(), limit), |out, at| {
            let series = batch.series(at);
            push_metric(out, series.labels);
            push_floats(out, series.timestamps.iter().copied().zip(series.values.iter().copied()));
            let histograms = series.histograms.iter().map(AsRef::as_ref);
            push_histograms(out, series.histogram_timestamps.iter().copied().zip(histograms));
        }),
    }
}

/// Whether all series are in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// They are.
    Whole,
    /// A limit left some out.
    Truncated,
}

fn limited(rows: usize, limit: usize) -> (usize, Completeness) {
    if limit > 0 && rows > limit { (limit, Completeness::Truncated) } else { (rows, Completeness::Whole) }
}

fn push_rows(
    out: &mut Vec<u8>,
    (rows, completeness): (usize, Completeness),
    push: impl Fn(&mut Vec<u8>, usize),
) -> Completeness {
    out.push(b'[');
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        out.push(b'{');
        push(out, row);
        out.push(b'}');
    }
    out.push(b']');
    completeness
}

fn push_vector_row(out: &mut Vec<u8>, rows: &Matrix, (row, time): (usize, i64)) {
    push_metric(out, &rows.rows[row].labels);
    if let Some((_, value)) = rows.floats(row).next() {
        out.extend_from_slice(b",\"value\":");
        push_point(out, time, |out| push_quoted(out, value));
    } else if let Some((_, histogram)) = rows.histograms(row).first() {
        out.extend_from_slice(b",\"histogram\":");
        push_point(out, time, |out| histogram.push_json(out));
    }
}

fn push_floats(out: &mut Vec<u8>, points: impl Iterator<Item = (i64, f64)>) {
    push_points(out, b",\"values\":", points, push_quoted);
}

fn push_histograms<'a>(out: &mut Vec<u8>, points: impl Iterator<Item = (i64, &'a FloatHistogram)>) {
    push_points(out, b",\"histograms\":", points, |out, histogram| histogram.push_json(out));
}

/// Appends `name` and the list of `points`, or nothing when there is no point.
fn push_points<T>(
    out: &mut Vec<u8>,
    name: &[u8],
    points: impl Iterator<Item = (i64, T)>,
    push: impl Fn(&mut Vec<u8>, T),
) {
    let mut opening = name;
    for (time, value) in points {
        out.extend_from_slice(opening);
        if opening == name {
            out.push(b'[');
        }
        opening = b",";
        push_point(out, time, |out| push(out, value));
    }
    if opening != name {
        out.push(b']');
    }
}

fn push_point(out: &mut Vec<u8>, time: i64, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'[');
    push_time(out, time);
    out.push(b',');
    push(out);
    out.push(b']');
}

/// Unix milliseconds as seconds with as many decimals as needed.
fn push_time(out: &mut Vec<u8>, time: i64) {
    if time < 0 {
        out.push(b'-');
    }
    let (seconds, ms) = (time.unsigned_abs() / 1000, time.unsigned_abs() % 1000);
    out.extend_from_slice(seconds.to_string().as_bytes());
    if ms != 0 {
        out.extend_from_slice(format!(".{ms:03}").as_bytes());
    }
}

fn push_quoted(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    push_float(out, value, Notation::Json);
    out.push(b'"');
}

fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"\"metric\":{");
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a string can always be written to a vector");
}

/// Operators as Thanos' explanation has them.
pub fn plan(explained: &Explained) -> Value {
    let children: Vec<Value> = explained.children.iter().map(plan).collect();
    json!({ "name": explained.name, "children": children })
}

/// Operators with what each did, as Thanos' analysis has them.
pub fn analysis(explained: &Explained) -> Value {
    let children: Vec<Value> = explained.children.iter().map(analysis).collect();
    json!({
        "name": explained.name,
        "executionTime": go_duration(explained.seconds),
        "totalSamples": explained.samples,
        "peakSamples": explained.samples,
        "series": explained.series,
        "bytes": explained.bytes,
        "children": children,
    })
}

/// Seconds as Go prints a duration below an hour.
fn go_duration(seconds: f64) -> String {
    let micros = seconds * 1e6;
    if micros >= 1e6 {
        format!("{:.3}s", seconds)
    } else if micros >= 1e3 {
        format!("{:.3}ms", micros / 1e3)
    } else {
        format!("{micros:.3}µs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_decimals_that_they_need() {
        for (time, text) in [(0, "0"), (1500, "1.500"), (-1, "-0.001"), (1_789_984_800_000, "1789984800")] {
            let mut out = Vec::new();
            push_time(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
