//! Durations as Prometheus writes them: `1h30m`, whole units from years to milliseconds.

use std::fmt;

use super::error::Error;
use super::text::Quoted;

/// Units from the largest, with their nanoseconds; a year has 365 days.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000_000_000),
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// A duration in nanoseconds; negative for offsets into the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationNs(pub i64);

impl DurationNs {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// The duration of `seconds`, rounded to nanoseconds; what does not fit is the nearest that does.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1e9).round() as i64)
    }

    /// The duration of `ms` milliseconds; what does not fit is the nearest that does.
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Whole milliseconds, rounded towards zero.
    pub fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// Seconds.
    pub fn as_seconds(self) -> f64 {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        whole as f64 + rest as f64 / 1e9
    }
}

/// Parses what Prometheus' flags, rules and PromQL call a duration: `0`, or whole numbers with units
/// `y w d h m s ms`, the larger before the smaller, each once. Fails in Prometheus' words.
pub fn parse_duration(text: &str) -> Result<DurationNs, Error> {
    let invalid = || Error::invalid(format!("not a valid duration string: {}", Quoted(text.as_bytes())));
    let out_of_range = || Error::invalid("duration out of range");
    match text {
        "0" => return Ok(DurationNs::ZERO),
        "" => return Err(Error::invalid("empty duration string")),
        _ => {}
    }
    let is_digit = |char: char| char.is_ascii_digit();
    let (mut rest, mut total, mut units_used) = (text, 0u64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|char| !is_digit(char)).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let (unit, tail) = tail.split_at(tail.find(is_digit).unwrap_or(tail.len()));
        if unit.is_empty() {
            return Err(invalid());
        }
        let at = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| {
            let (unit, text) = (Quoted(unit.as_bytes()), Quoted(text.as_bytes()));
            Error::invalid(format!("unknown unit {unit} in duration {text}"))
        })?;
        if at < units_used {
            return Err(invalid());
        }
        units_used = at + 1;
        let nanos = number.checked_mul(UNITS[at].1).ok_or_else(out_of_range)?;
        total = total.checked_add(nanos).filter(|total| *total <= i64::MAX as u64).ok_or_else(out_of_range)?;
        rest = tail;
    }
    Ok(DurationNs(total as i64))
}

/// As [`parse_duration`], with an optional minus before it.
pub fn parse_signed_duration(text: &str) -> Result<DurationNs, Error> {
    match text.strip_prefix('-') {
        Some(text) => parse_duration(text).map(|duration| DurationNs(-duration.0)),
        None => parse_duration(text),
    }
}

/// As Prometheus prints a duration: years and weeks only where nothing remains, and nothing below
/// milliseconds.
impl fmt::Display for DurationNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.as_millis().unsigned_abs();
        if ms == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (unit, nanos) in UNITS {
            let unit_ms = nanos / 1_000_000;
            let count = ms / unit_ms;
            if count == 0 || (matches!(unit, "y" | "w") && !ms.is_multiple_of(unit_ms)) {
                continue;
            }
            write!(f, "{count}{unit}")?;
            ms -= count * unit_ms;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_prometheus_prints_them() {
        for (text, printed) in [
            ("0", "0s"),
            ("0w", "0s"),
            ("1s", "1s"),
            ("324ms", "324ms"),
            ("3h", "3h"),
            ("5d", "5d"),
            ("7d", "1w"),
            ("90d", "90d"),
            ("365d", "1y"),
            ("730d", "2y"),
            ("4w2d", "30d"),
            ("1y2w3d4h5m6s7ms", "382d4h5m6s7ms"),
            ("1500ms", "1s500ms"),
        ] {
            assert_eq!(parse_duration(text).unwrap().to_string(), printed, "{text}");
            assert_eq!(parse_duration(printed).unwrap(), parse_duration(text).unwrap());
        }
        assert_eq!(parse_signed_duration("-90m").unwrap().to_string(), "-1h30m");
    }

    #[test]
    fn what_is_not_a_duration_is_refused_in_prometheus_words() {
        for (text, words) in [
            ("", "empty duration string"),
            ("1", r#"not a valid duration string: "1""#),
            ("1y1m1d", r#"not a valid duration string: "1y1m1d""#),
            ("1s1s", r#"not a valid duration string: "1s1s""#),
            ("-1w", r#"not a valid duration string: "-1w""#),
            ("1.5d", r#"unknown unit "." in duration "1.5d""#),
            ("d", r#"not a valid duration string: "d""#),
            ("294y", "duration out of range"),
            ("200y10400w", "duration out of range"),
            ("99999999999999999999s", r#"not a valid duration string: "99999999999999999999s""#),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().message(), words, "{text}");
        }
    }
}
