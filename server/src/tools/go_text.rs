//! Values as Go prints them: durations, grouped numbers, times.

/// Milliseconds as Go's `time.Duration` prints them, such as `1h59m0.003s`.
pub fn duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let fraction = format!("{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", ms / 1000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds of the Unix epoch as RFC 3339 without fractions, in UTC.
pub fn time(seconds: i64) -> String {
    engine::bucket::GoTime::from_unix_nanos(i128::from(seconds) * 1_000_000_000).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_numbers_are_printed_as_go_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (7_180_000, "1h59m40s"),
            (-806_340_003, "-223h59m0.003s"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!([0, 100, 1000, 1_584_000].map(grouped), ["0", "100", "1,000", "1,584,000"]);
        assert_eq!(time(1_788_480_021), "2026-09-04T00:00:21Z");
    }
}
