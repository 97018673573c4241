//! Values of queries as Prometheus' JSON, written straight from columns.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::OnceLock;

use crate::batch::StepGrid;
use crate::model::float_text::{Notation, PlainText, Sign, push_float};
use crate::model::{Error, FloatHistogram, Labels};

use super::budget::Patience;
use super::pieces::Pieces;
use super::value::{Matrix, QueryValue};

/// Appends `{"resultType":…,"result":…` without the closing brace; at most `limit` series when it is
/// not 0. Whether series were left out.
pub fn push_value(out: &mut Vec<u8>, value: &QueryValue, limit: usize) -> Completeness {
    let mut text = Pieces::from(std::mem::take(out));
    let completeness = push_value_while(&mut text, value, limit, &Patience::default()).expect("nobody loses patience");
    *out = text.into_whole();
    completeness
}

/// [`push_value`], ended when `patience` is lost: large answers take as long as large queries.
pub fn push_value_while(
    text: &mut Pieces,
    value: &QueryValue,
    limit: usize,
    patience: &Patience,
) -> Result<Completeness, Error> {
    let out = text.last();
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
            let value = values.first().copied().unwrap_or(f64::NAN);
            push_single(out, steps.time(0), |out| push_quoted_as(out, value, Notation::Fixed));
            Ok(Completeness::Whole)
        }
        QueryValue::Text(time, text) => {
            push_single(out, *time, |out| push_string(out, text));
            Ok(Completeness::Whole)
        }
        QueryValue::Vector(steps, rows) => push_rows(out, limited(rows.len(), limit), patience, |out, row| {
            push_vector_row(out, rows, (row, steps.time(0)));
        }),
        QueryValue::Matrix(steps, rows) => push_matrix(text, (steps, rows), limited(rows.len(), limit), patience),
        QueryValue::Samples(batch) => push_rows(out, limited(batch.len(), limit), patience, |out, at| {
            let series = batch.series(at);
            push_metric(out, series.labels);
            push_floats(out, series.timestamps.iter().copied().zip(series.values.iter().copied()));
            let histograms = series.histograms.iter().map(AsRef::as_ref);
            push_histograms(out, series.histogram_timestamps.iter().copied().zip(histograms));
        }),
    }
}

/// Bytes of a sample's text, and of the room that a buffer has beside it while it grows.
const SAMPLE_TEXT_BYTES: usize = 80;

/// Bytes that writing `value` takes, so that they can be accounted for before they are taken.
pub fn text_bytes(value: &QueryValue) -> usize {
    let (samples, labels) = match value {
        QueryValue::Scalar(_, values) => (values.len(), 0),
        QueryValue::Text(_, text) => (0, text.len()),
        QueryValue::Vector(_, rows) | QueryValue::Matrix(_, rows) => {
            (rows.cells.samples(), rows.rows.iter().map(|row| row.labels.heap_bytes()).sum())
        }
        QueryValue::Samples(batch) => (batch.samples(), batch.labels.iter().map(|labels| labels.heap_bytes()).sum()),
    };
    samples * SAMPLE_TEXT_BYTES + 2 * labels
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

/// Rows that are written between two looks at the clock.
const ROWS_UNWATCHED: usize = 32;

fn push_rows(
    out: &mut Vec<u8>,
    (rows, completeness): (usize, Completeness),
    patience: &Patience,
    push: impl Fn(&mut Vec<u8>, usize),
) -> Result<Completeness, Error> {
    out.push(b'[');
    for row in 0..rows {
        if row.is_multiple_of(ROWS_UNWATCHED) {
            patience.check()?;
        }
        if row > 0 {
            out.push(b',');
        }
        out.push(b'{');
        push(out, row);
        out.push(b'}');
    }
    out.push(b']');
    Ok(completeness)
}

/// Samples from which on the rows of a matrix are written by several threads.
const PARALLEL_SAMPLES: usize = 1 << 14;

/// Cores of the process. Asking the system reads files of the cgroup, which takes longer than a small
/// query.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Appends the rows of a matrix, shares of them side by side when they are many.
fn push_matrix(
    text: &mut Pieces,
    (steps, rows): (&StepGrid, &Matrix),
    (count, completeness): (usize, Completeness),
    patience: &Patience,
) -> Result<Completeness, Error> {
    let times = StepTexts::new(steps);
    let cores = if count * steps.count < PARALLEL_SAMPLES { 1 } else { cores().min(count) };
    text.last().push(b'[');
    if cores < 2 {
        push_matrix_rows(text.last(), (steps, &times, rows), 0..count, patience)?;
    } else {
        let share = |core: usize| count * core / cores..count * (core + 1) / cores;
        let write = |core| {
            let mut piece = Vec::with_capacity(share(core).len() * row_bytes(steps) + 1);
            piece.push(b',');
            push_matrix_rows(&mut piece, (steps, &times, rows), share(core), patience).map(|()| piece)
        };
        let write = &write;
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..cores).map(|core| scope.spawn(move || write(core))).collect();
            let mut written = push_matrix_rows(text.last(), (steps, &times, rows), share(0), patience);
            for other in others {
                let piece = other.join().expect("writing text does not panic");
                written = written.and(piece).map(|piece| text.push(piece));
            }
            written
        })?;
    }
    text.last().push(b']');
    Ok(completeness)
}

fn push_matrix_rows(
    out: &mut Vec<u8>,
    (steps, times, rows): (&StepGrid, &StepTexts, &Matrix),
    share: Range<usize>,
    patience: &Patience,
) -> Result<(), Error> {
    out.reserve(share.len() * row_bytes(steps));
    for row in share.clone() {
        if (row - share.start).is_multiple_of(ROWS_UNWATCHED) {
            patience.check()?;
        }
        out.extend_from_slice(if row > share.start { b",{" } else { b"{" });
        push_metric(out, &rows.rows[row].labels);
        push_steps(out, times, rows.floats(row));
        let histograms = rows.histograms(row).iter();
        push_histograms(out, histograms.map(|(step, found)| (steps.time(*step as usize), found.as_ref())));
        out.push(b'}');
    }
    Ok(())
}

/// About how much text a row is.
fn row_bytes(steps: &StepGrid) -> usize {
    const POINT_BYTES: usize = 36;
    const LABELS_BYTES: usize = 256;
    steps.count * POINT_BYTES + LABELS_BYTES
}

/// Appends the list of the values at steps, or nothing when there is none.
fn push_steps(out: &mut Vec<u8>, times: &StepTexts, values: impl Iterator<Item = (usize, f64)>) {
    let (mut line, mut plain) = (Line::default(), PlainText::default());
    let mut is_first = true;
    values.for_each(|(step, value)| {
        line.make_room(out);
        let (time, len) = times.of(step);
        if is_first {
            // It has no end of another value before it.
            out.extend_from_slice(b",\"values\":[");
            out.extend_from_slice(&time[END_OF_VALUE.len()..len]);
            is_first = false;
        } else {
            line.push_padded(time, len);
        }
        if let Some(text) = plain.of(value) {
            line.push_text(text);
        } else {
            line.flush(out);
            push_float(out, value, Notation::Json);
        }
    });
    line.flush(out);
    if !is_first {
        out.extend_from_slice(b"\"]]");
    }
}

/// Text on its way to an answer: small pieces are gathered here by copies of fixed sizes, which cost no
/// call each.
struct Line {
    bytes: [u8; Self::LEN + Self::POINT_BYTES],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; Self::LEN + Self::POINT_BYTES], len: 0 }
    }
}

impl Line {
    /// Bytes after which it is full.
    const LEN: usize = 1024;
    /// Room for a point, and for what copies of fixed sizes write behind it.
    const POINT_BYTES: usize = 2 * STEP_TEXT_BYTES;

    /// Makes room for a point.
    #[inline]
    fn make_room(&mut self, out: &mut Vec<u8>) {
        if self.len > Self::LEN {
            self.flush(out);
        }
    }

    /// Appends the first `len` bytes of `piece`, all of which is copied.
    #[inline]
    fn push_padded(&mut self, piece: &[u8; STEP_TEXT_BYTES], len: usize) {
        self.bytes[self.len..self.len + STEP_TEXT_BYTES].copy_from_slice(piece);
        self.len += len;
    }

    /// Appends the text of a float, which is at most [`STEP_TEXT_BYTES`].
    #[inline]
    fn push_text(&mut self, text: &[u8]) {
        let room = &mut self.bytes[self.len..self.len + text.len()];
        self.len += text.len();
        match (text.first_chunk::<16>(), text.last_chunk::<16>()) {
            (Some(first), Some(last)) => {
                room[..16].copy_from_slice(first);
                let behind = room.len() - 16;
                room[behind..].copy_from_slice(last);
            }
            _ => match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
                (Some(first), Some(last)) => {
                    room[..8].copy_from_slice(first);
                    let behind = room.len() - 8;
                    room[behind..].copy_from_slice(last);
                }
                _ => room.iter_mut().zip(text).for_each(|(to, from)| *to = *from),
            },
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// What ends a value and begins the next point.
const END_OF_VALUE: &[u8] = b"\"],";

/// Room for what stands before a value, with a time of 21 bytes at most; the text of a float has room there too.
const STEP_TEXT_BYTES: usize = 32;

/// What stands before the value of each step, behind that of another: `"],[1789984800,"`.
struct StepTexts(Vec<([u8; STEP_TEXT_BYTES], u8)>);

impl StepTexts {
    fn new(steps: &StepGrid) -> Self {
        const TIME_START: usize = END_OF_VALUE.len() + 1;
        let mut before = [0; STEP_TEXT_BYTES];
        before[..TIME_START].copy_from_slice(b"\"],[");
        let texts = (0..steps.count).map(|step| {
            let (mut padded, time) = (before, TimeText::of(steps.time(step)));
            padded[TIME_START..TIME_START + TimeText::BYTES].copy_from_slice(&time.bytes);
            let end = TIME_START + time.len;
            padded[end..end + 2].copy_from_slice(b",\"");
            (padded, end as u8 + 2)
        });
        Self(texts.collect())
    }

    /// The text, with zeros behind it, and its length.
    fn of(&self, step: usize) -> (&[u8; STEP_TEXT_BYTES], usize) {
        let (text, len) = &self.0[step];
        (text, usize::from(*len))
    }
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

/// The point of a scalar or a string, whose time Prometheus writes as any number: `1.5`, where the time
/// of a series' point is `1.500`.
fn push_single(out: &mut Vec<u8>, time: i64, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'[');
    push_float(out, time as f64 / 1000.0, Notation::Json);
    out.push(b',');
    push(out);
    out.push(b']');
}

/// Unix milliseconds as seconds, without decimals or with three.
struct TimeText {
    /// A sign, sixteen digits of seconds and four bytes of decimals at most; zeros behind them.
    bytes: [u8; Self::BYTES],
    len: usize,
}

impl TimeText {
    const BYTES: usize = 24;

    fn of(time: i64) -> Self {
        let sign = if time < 0 { Sign::Minus } else { Sign::Plus };
        let (seconds, ms) = (time.unsigned_abs() / 1000, time.unsigned_abs() % 1000);
        let (mut bytes, mut plain) = ([0; Self::BYTES], PlainText::default());
        let whole = plain.whole(seconds, sign);
        let mut len = whole.len();
        bytes[..len].copy_from_slice(whole);
        if ms != 0 {
            let digits = [ms / 100, ms / 10 % 10, ms % 10].map(|digit| b'0' + digit as u8);
            bytes[len..len + 4].copy_from_slice(&[b'.', digits[0], digits[1], digits[2]]);
            len += 4;
        }
        Self { bytes, len }
    }
}

fn push_time(out: &mut Vec<u8>, time: i64) {
    let text = TimeText::of(time);
    out.extend_from_slice(&text.bytes[..text.len]);
}

fn push_quoted(out: &mut Vec<u8>, value: f64) {
    push_quoted_as(out, value, Notation::Json);
}

fn push_quoted_as(out: &mut Vec<u8>, value: f64, notation: Notation) {
    out.push(b'"');
    push_float(out, value, notation);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use crate::promql::value::RowLabels;

    use super::*;

    #[test]
    fn many_rows_are_written_as_each_of_them_is_alone() {
        let steps = StepGrid::range(1_000, 1_000 + 99 * 500, 500);
        let mut rows = Matrix::new(steps.count);
        for at in 0..400 {
            let labels = Arc::new(Labels::from_pairs([("at", format!("{at:03}"))]));
            let row = rows.push_row(RowLabels::plain(labels));
            for step in (0..steps.count).filter(|step| !(step + row).is_multiple_of(3)) {
                rows.cells.push_cell(row, step, crate::batch::Cell::Float(step as f64 / (row + 1) as f64));
            }
        }
        let alone = |row: usize| {
            let mut out = Vec::new();
            push_metric(&mut out, &rows.rows[row].labels);
            push_floats(&mut out, rows.floats(row).map(|(step, value)| (steps.time(step), value)));
            String::from_utf8(out).unwrap()
        };
        let expected: Vec<String> = (0..400).map(|row| format!("{{{}}}", alone(row))).collect();
        let mut out = Vec::new();
        push_value(&mut out, &QueryValue::Matrix(steps, rows.clone()), 0);
        let whole = String::from_utf8(out).unwrap();
        assert_eq!(whole, format!("{{\"resultType\":\"matrix\",\"result\":[{}]", expected.join(",")));
    }

    proptest! {
        #[test]
        fn steps_are_written_as_each_point_is_alone(
            values in prop::collection::vec(prop_oneof![any::<f64>(), -1e6..1e6, (-1000i32..1000).prop_map(f64::from)], 0..200),
            (start, step) in (prop_oneof![any::<i64>().prop_map(|time| time / 4), 0i64..2_000_000_000_000], 1i64..100_000),
        ) {
            let steps = StepGrid::range(start, start + step * values.len() as i64, step);
            let points = || values.iter().copied().enumerate().filter(|(at, _)| at % 7 != 3);
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            push_floats(&mut expected, points().map(|(at, value)| (steps.time(at), value)));
            push_steps(&mut found, &StepTexts::new(&steps), points());
            prop_assert_eq!(String::from_utf8(found).unwrap(), String::from_utf8(expected).unwrap());
        }
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_not_written() {
        let steps = StepGrid::range(0, 99_000, 1_000);
        let mut rows = Matrix::new(steps.count);
        for at in 0..400 {
            let row = rows.push_row(RowLabels::plain(Arc::new(Labels::from_pairs([("at", format!("{at:03}"))]))));
            (0..steps.count).for_each(|step| rows.cells.push_cell(row, step, crate::batch::Cell::Float(1.0)));
        }
        let patience = Patience::default();
        patience.canceled.store(true, std::sync::atomic::Ordering::Relaxed);
        let values = [QueryValue::Matrix(steps, rows.clone()), QueryValue::Vector(StepGrid::instant(0), rows)];
        for value in values {
            let mut out = Pieces::default();
            let error = push_value_while(&mut out, &value, 0, &patience).unwrap_err();
            assert_eq!(error.kind(), crate::model::ErrorKind::Canceled);
            assert!(out.len() < 100, "{} bytes were written", out.len());
        }
    }

    #[test]
    fn scalars_have_no_exponent_and_samples_have() {
        let mut rows = Matrix::new(1);
        let row = rows.push_row(RowLabels::plain(Arc::default()));
        rows.cells.push_cell(row, 0, crate::batch::Cell::Float(1e-7));
        let cases = [
            (QueryValue::Scalar(StepGrid::instant(0), vec![1e-7]), r#""result":[0,"0.0000001"]"#),
            (QueryValue::Scalar(StepGrid::instant(0), vec![1e21]), r#""result":[0,"1000000000000000000000"]"#),
            (QueryValue::Scalar(StepGrid::instant(0), vec![f64::NEG_INFINITY]), r#""result":[0,"-Inf"]"#),
            (QueryValue::Vector(StepGrid::instant(0), rows), r#""value":[0,"1e-07"]"#),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            push_value(&mut out, &value, 0);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn times_of_scalars_and_strings_are_plain_numbers() {
        let scalar = |time| QueryValue::Scalar(StepGrid::instant(time), vec![2.0]);
        let cases = [
            (scalar(1_789_984_800_500), r#"{"resultType":"scalar","result":[1789984800.5,"2"]"#),
            (scalar(-1_250), r#"{"resultType":"scalar","result":[-1.25,"2"]"#),
            (scalar(60_000), r#"{"resultType":"scalar","result":[60,"2"]"#),
            (QueryValue::Text(1_230, "a".into()), r#"{"resultType":"string","result":[1.23,"a"]"#),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            push_value(&mut out, &value, 0);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn times_of_series_have_no_decimals_or_three() {
        for (time, text) in [
            (0, "0"),
            (1500, "1.500"),
            (-1, "-0.001"),
            (1_789_984_800_000, "1789984800"),
            (1_789_984_800_067, "1789984800.067"),
            (9_007_199_254_740_991_999, "9007199254740991.999"),
            (i64::MAX, "9223372036854775.807"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
