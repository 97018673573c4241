//! Names of metrics and labels as Prometheus writes them.

use proto::otlp::Metric;
use proto::otlp::metric::Data;

/// What follows the name for a unit.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// What follows the name for a unit after a slash.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// The name of a metric: its words joined by underscores, then its unit, then `total` for counters
/// and `ratio` for gauges of unit 1.
pub(super) fn metric_name(metric: &Metric) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<String> =
        metric.name.split(|c| !is_token(c)).filter(|token| !token.is_empty()).map(str::to_owned).collect();
    let (unit, per) = metric.unit.split_once('/').map_or((&*metric.unit, ""), |(unit, per)| (unit, per));
    let mut unit = unit_word(unit, &UNITS);
    if tokens.contains(&unit) {
        unit.clear();
    }
    let mut per = unit_word(per, &PER_UNITS);
    if !per.is_empty() {
        per = format!("per_{per}");
        if tokens.contains(&per) {
            per.clear();
        } else {
            unit = unit.strip_suffix('_').unwrap_or(&unit).to_owned();
        }
    }
    tokens.extend([unit, per].into_iter().filter(|word| !word.is_empty()));
    let is_counter = matches!(&metric.data, Some(Data::Sum(sum)) if sum.is_monotonic);
    let is_ratio = metric.unit == "1" && matches!(&metric.data, Some(Data::Gauge(_)));
    for word in [is_counter.then_some("total"), is_ratio.then_some("ratio")].into_iter().flatten() {
        tokens.retain(|token| token != word);
        tokens.push(word.to_owned());
    }
    let name = tokens.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The unit of a metric as Prometheus writes it: as in names, whether or not a name has it already.
pub(super) fn unit_name(unit: &str) -> String {
    let (unit, per) = unit.split_once('/').unwrap_or((unit, ""));
    let (unit, per) = (unit_word(unit, &UNITS), unit_word(per, &PER_UNITS));
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    let words: Vec<String> = [unit, per].into_iter().filter(|word| !word.is_empty()).collect();
    let name = words.join("_");
    name.strip_suffix('_').unwrap_or(&name).to_owned()
}

/// The word for a unit; empty for none, and for units in braces, which are remarks.
fn unit_word(unit: &str, words: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    if unit.is_empty() || unit.contains(['{', '}']) {
        return String::new();
    }
    let word = words.iter().find(|(known, _)| *known == unit).map_or(unit, |(_, word)| word);
    let clean = collapse(word, |c| c.is_ascii_alphanumeric());
    clean.strip_prefix('_').unwrap_or(&clean).to_owned()
}

/// The name of a label: other characters become underscores, one for a run; a digit in front gets
/// `key_` before it. The error is a sentence.
pub(super) fn label_name(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("label name is empty".into());
    }
    let reserved = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__")).filter(|inner| !inner.is_empty());
    let clean = collapse(reserved.unwrap_or(name), |c| c.is_ascii_alphanumeric());
    let clean = match reserved {
        Some(_) => format!("__{clean}__"),
        None if clean.starts_with(|c: char| c.is_ascii_digit()) => format!("key_{clean}"),
        None => clean,
    };
    if clean.chars().all(|c| c == '_') {
        return Err(format!("normalization for label name {name:?} resulted in invalid name {clean:?}"));
    }
    Ok(clean)
}

/// `text` with each run of characters that are not `kept` as one underscore.
fn collapse(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if kept(c) {
            clean.push(c);
        } else if !clean.ends_with('_') {
            clean.push('_');
        }
    }
    clean
}
