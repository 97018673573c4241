//! The notation of series and their samples: `metric{a="b"} 1 2+1x3 _x2 stale {{count:1}}`.

use std::sync::Arc;

use engine::model::duration::parse_duration;
use engine::model::labels::METRIC_NAME;
use engine::model::value::stale_nan;
use engine::model::{CounterReset, FloatHistogram, Labels, Span};

/// One place of a sequence.
#[derive(Clone, Debug)]
pub enum Point {
    /// No sample.
    Omitted,
    /// A float; the stale marker among them.
    Float(f64),
    /// A histogram.
    Histogram {
        /// The histogram.
        histogram: Arc<FloatHistogram>,
        /// Whether its counter reset hint was written out, so that it is compared.
        hint_is_set: bool,
    },
}

/// Labels and what stands behind them.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The labels.
    pub labels: Labels,
    /// A point for each step.
    pub points: Vec<Point>,
}

/// A series and the start timestamps of its points, as offsets in milliseconds to their times.
pub type Starts = (Labels, Vec<Option<i64>>);

/// Points that one item may stand for.
const POINTS_MAX: usize = 1_000_000;

/// Parses a series with its points.
pub fn parse(line: &str) -> Result<Sequence, String> {
    let mut text = Text { rest: line };
    let labels = text.labels()?;
    let mut points = Vec::new();
    while !text.skip_spaces().is_empty() {
        text.item(&mut points)?;
    }
    Ok(Sequence { labels, points })
}

/// Parses the line of start timestamps `metric@st 0s -1m_x2 …`; each is an offset in milliseconds
/// to its sample's time. `None` when it is no such line.
pub fn parse_starts(line: &str) -> Option<Result<Starts, String>> {
    let (metric, offsets) = line.split_once([' ', '\t'])?;
    let metric = metric.strip_suffix("@st")?;
    Some((|| {
        let labels = Text { rest: metric }.labels()?;
        let mut starts = Vec::new();
        for item in offsets.split_whitespace() {
            start_item(item, &mut starts).ok_or_else(|| format!("invalid start timestamp {item:?}"))?;
        }
        Ok((labels, starts))
    })())
}

fn start_item(item: &str, starts: &mut Vec<Option<i64>>) -> Option<()> {
    if let Some(rest) = item.strip_prefix('_') {
        let count = if rest.is_empty() { 1 } else { repeats(rest)? };
        starts.extend(std::iter::repeat_n(None, count));
        return Some(());
    }
    let (mut offset, rest) = duration_prefix(item)?;
    let (delta, rest) = if rest.starts_with(['+', '-']) { duration_prefix(rest)? } else { (0, rest) };
    let count = if rest.is_empty() { 1 } else { repeats(rest)? + 1 };
    for _ in 0..count {
        starts.push(Some(offset));
        offset += delta;
    }
    Some(())
}

/// `x12`
fn repeats(text: &str) -> Option<usize> {
    text.strip_prefix('x')?.parse().ok().filter(|count| *count <= POINTS_MAX)
}

/// A signed duration in milliseconds and what follows it.
fn duration_prefix(text: &str) -> Option<(i64, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let numbers = digits.find(|char: char| !char.is_ascii_digit()).unwrap_or(digits.len());
    let unit = digits[numbers..].find(|char: char| !char.is_ascii_alphabetic() || char == 'x');
    let (duration, rest) = digits.split_at(unit.map_or(digits.len(), |at| numbers + at));
    Some((sign * parse_duration(duration).ok()?.as_millis(), rest))
}

/// A number as Go reads it: with base prefixes, `Inf` and `NaN`.
pub fn parse_number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|number| sign * number as f64);
    }
    let starts_well = digits.starts_with(|char: char| char.is_ascii_digit() || char == '.');
    let is_word = ["inf", "nan", "+inf"].contains(&digits.to_ascii_lowercase().as_str());
    if starts_well || is_word { digits.parse::<f64>().ok().map(|number| sign * number) } else { None }
}

/// Text that is consumed from its start.
struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn skip_spaces(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, prefix: &str) -> Result<(), String> {
        if self.eat(prefix) { Ok(()) } else { Err(format!("expected {prefix:?} before {:?}", self.rest)) }
    }

    /// Takes characters while `belongs` holds.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !belongs(char)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A metric with its labels.
    fn labels(&mut self) -> Result<Labels, String> {
        self.skip_spaces();
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
        let name = self.take(is_name);
        let mut pairs = vec![(METRIC_NAME.to_owned(), name.to_owned())];
        self.skip_spaces();
        if self.rest.starts_with("{{") || !self.eat("{") {
            return Ok(Labels::from_pairs(pairs));
        }
        while !self.skip_spaces().starts_with('}') {
            let quoted = self.rest.starts_with(['"', '\'', '`']);
            let name = if quoted { self.string()? } else { self.take(is_name).to_owned() };
            self.skip_spaces();
            if self.eat("=") {
                self.skip_spaces();
                pairs.push((name, self.string()?));
            } else if quoted {
                pairs[0].1 = name;
            } else {
                return Err(format!("expected \"=\" before {:?}", self.rest));
            }
            self.skip_spaces();
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Labels::from_pairs(pairs))
    }

    fn string(&mut self) -> Result<String, String> {
        let (value, rest) = unquote_prefix(self.rest).ok_or_else(|| format!("no string at {:?}", self.rest))?;
        self.rest = rest;
        Ok(value)
    }

    /// A decimal number: `0x5` is the number 0, repeated.
    fn number(&mut self) -> Result<f64, String> {
        let before = self.rest;
        let mut end = if before.starts_with(['+', '-']) { 1 } else { 0 };
        for (at, char) in before.char_indices().skip(end) {
            let exponent = (char == '+' || char == '-') && before[..at].ends_with(['e', 'E']);
            let belongs = char.is_ascii_alphanumeric() && char != 'x' || char == '.';
            if !belongs && !exponent {
                break;
            }
            end = at + char.len_utf8();
        }
        let (text, rest) = before.split_at(end);
        self.rest = rest;
        parse_number(text).ok_or_else(|| format!("no number at {before:?}"))
    }

    fn count(&mut self) -> Result<usize, String> {
        let digits = self.take(|char| char.is_ascii_digit());
        digits.parse().ok().filter(|count| *count <= POINTS_MAX).ok_or_else(|| format!("no count at {:?}", self.rest))
    }

    /// One item of a sequence, which may stand for many points.
    fn item(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        if self.eat("_") {
            let count = if self.eat("x") { self.count()? } else { 1 };
            points.extend(std::iter::repeat_n(Point::Omitted, count));
            return Ok(());
        }
        if self.rest.starts_with("{{") {
            return self.histograms(points);
        }
        let mut value = if self.eat("stale") { stale_nan() } else { self.number()? };
        let delta = if self.rest.starts_with(['+', '-']) { self.number()? } else { 0.0 };
        let more = if self.eat("x") { self.count()? } else { 0 };
        for at in 0..=more {
            // A value that is repeated as it is keeps its bits.
            if at > 0 && delta != 0.0 {
                value += delta;
            }
            points.push(Point::Float(value));
        }
        Ok(())
    }

    fn histograms(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        let (mut histogram, mut hint_is_set) = self.histogram()?;
        let mut step = None;
        if self.rest.starts_with("+{{") || self.rest.starts_with("-{{") {
            let sign = self.take(|char| char == '+' || char == '-');
            let (delta, hint) = self.histogram()?;
            // As upstream has it, the hint of the step decides.
            hint_is_set = hint;
            step = Some((sign, delta));
        }
        let more = if self.eat("x") { self.count()? } else { 0 };
        for at in 0..=more {
            if at > 0
                && let Some((sign, delta)) = &step
            {
                let combined = if *sign == "+" { histogram.add(delta) } else { histogram.sub(delta) };
                combined.map_err(|error| error.to_string())?;
            }
            points.push(Point::Histogram { histogram: Arc::new(histogram.clone()), hint_is_set });
        }
        Ok(())
    }

    /// `{{schema:1 count:3 …}}`, and whether it has a counter reset hint.
    fn histogram(&mut self) -> Result<(FloatHistogram, bool), String> {
        self.expect("{{")?;
        let mut histogram = FloatHistogram::default();
        let mut hint_is_set = false;
        let (mut offset, mut negative_offset) = (0, 0);
        while !self.skip_spaces().starts_with("}}") {
            let field = self.take(|char| char.is_ascii_alphabetic() || char == '_');
            self.expect(":")?;
            match field {
                "schema" => histogram.schema = self.number()? as i32,
                "sum" => histogram.sum = self.number()?,
                "count" => histogram.count = self.number()?,
                "z_bucket" => histogram.zero_count = self.number()?,
                "z_bucket_w" => histogram.zero_threshold = self.number()?,
                "custom_values" => histogram.custom_values = self.numbers()?.into(),
                "buckets" => histogram.positive_buckets = self.numbers()?,
                "n_buckets" => histogram.negative_buckets = self.numbers()?,
                "offset" => offset = self.number()? as i32,
                "n_offset" => negative_offset = self.number()? as i32,
                "counter_reset_hint" => {
                    hint_is_set = true;
                    histogram.counter_reset = self.counter_reset()?;
                }
                unknown => return Err(format!("unknown field {unknown:?} of a histogram")),
            }
        }
        self.expect("}}")?;
        histogram.positive_spans = spans(offset, &histogram.positive_buckets);
        histogram.negative_spans = spans(negative_offset, &histogram.negative_buckets);
        Ok((histogram, hint_is_set))
    }

    fn counter_reset(&mut self) -> Result<CounterReset, String> {
        match self.take(|char| char.is_ascii_alphabetic() || char == '_') {
            "unknown" => Ok(CounterReset::Unknown),
            "reset" => Ok(CounterReset::Yes),
            "not_reset" => Ok(CounterReset::No),
            "gauge" => Ok(CounterReset::Gauge),
            unknown => Err(format!("unknown counter reset hint {unknown:?}")),
        }
    }

    fn numbers(&mut self) -> Result<Vec<f64>, String> {
        self.expect("[")?;
        let mut numbers = Vec::new();
        while !self.skip_spaces().starts_with(']') {
            numbers.push(self.number()?);
        }
        self.expect("]")?;
        Ok(numbers)
    }
}

fn spans(offset: i32, counts: &[f64]) -> Vec<Span> {
    if counts.is_empty() { Vec::new() } else { vec![Span { offset, length: counts.len() as u32 }] }
}

/// The quoted string at the start of `text` without its quotes and escapes, and what follows it.
pub fn unquote_prefix(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|char| "\"'`".contains(*char))?;
    let mut value = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, char)) = chars.next() {
        if char == quote {
            return Some((value, &text[1 + at + 1..]));
        }
        if char != '\\' || quote == '`' {
            value.push(char);
            continue;
        }
        let (_, escaped) = chars.next()?;
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let code: String = chars.by_ref().take(digits).map(|(_, char)| char).collect();
            value.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)?);
            continue;
        }
        value.push(match escaped {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' | '"' | '\'' => escaped,
            _ => return None,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(line: &str) -> Vec<Option<f64>> {
        let of = |point: &Point| match point {
            Point::Float(value) => Some(*value),
            _ => None,
        };
        parse(line).unwrap().points.iter().map(of).collect()
    }

    #[test]
    fn sequences_expand() {
        assert_eq!(
            floats("m 1 2+3x2 _ -1x1"),
            [1.0, 2.0, 5.0, 8.0].map(Some).into_iter().chain([None, Some(-1.0), Some(-1.0)]).collect::<Vec<_>>()
        );
        assert_eq!(
            floats("{} 1e3-2x1 0x1 -Inf _x2"),
            [Some(1000.0), Some(998.0), Some(0.0), Some(0.0), Some(f64::NEG_INFINITY), None, None]
        );
        assert_eq!(
            parse(r#"{"my.metric", a="b\n"} stale"#).unwrap().labels.to_string(),
            r#"{__name__="my.metric", a="b\n"}"#
        );
        assert!(parse("m 1 +").is_err() && parse("m{a=} 1").is_err() && parse("m {{bad:1}}").is_err());
    }

    #[test]
    fn histograms_grow_by_histograms() {
        let points =
            parse("m {{count:1 buckets:[1]}}+{{count:2 buckets:[2] counter_reset_hint:gauge}}x2").unwrap().points;
        let Some(Point::Histogram { histogram, hint_is_set }) = points.last() else { panic!("a histogram") };
        assert_eq!((points.len(), histogram.count, histogram.positive_buckets[0], *hint_is_set), (3, 5.0, 5.0, true));
    }

    #[test]
    fn start_timestamps_expand() {
        let (labels, starts) = parse_starts("m{a=\"b\"}@st 0s -1m-30sx2 _x2 5s").unwrap().unwrap();
        assert_eq!(labels.get("a"), Some("b"));
        assert_eq!(starts, [Some(0), Some(-60_000), Some(-90_000), Some(-120_000), None, None, Some(5000)]);
        assert!(parse_starts("m 1 2").is_none());
    }
}
