//! Values of flags: durations, sizes and times as Prometheus, Go and Thanos write them.

use std::time::Duration;

/// A point in time: fixed, or so long before or after now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOrDuration {
    /// Unix milliseconds.
    At(i64),
    /// Milliseconds from now; negative in the past.
    FromNow(i64),
}

impl TimeOrDuration {
    /// Unix milliseconds when it is `now`.
    pub fn resolve(self, now: i64) -> i64 {
        match self {
            Self::At(time) => time,
            Self::FromNow(offset) => now.saturating_add(offset),
        }
    }
}

const DURATION_UNITS: [(&str, f64); 11] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("y", 365.0 * 86400.0),
    ("w", 7.0 * 86400.0),
    ("d", 86400.0),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// A duration such as `5m`, `1h30m`, `1.5h`, `2w` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || format!("{text:?} is not a duration such as 30s, 5m, 1h30m or 2w");
    if text.is_empty() {
        return Err(bad());
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let unit = DURATION_UNITS.iter().find(|(name, _)| after.starts_with(name)).ok_or_else(bad)?;
        seconds += number * unit.1;
        rest = after.get(unit.0.len()..).ok_or_else(bad)?;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{text:?} is too long a duration"))
}

/// A size such as `250MB`, `2GiB` or `1048576`; units are powers of 1024, as Thanos' are.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size such as 250MB or 2GB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let power = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        "P" | "PB" | "PIB" => 5,
        "E" | "EB" | "EIB" => 6,
        _ => return Err(bad()),
    };
    let bytes = number * 1024f64.powi(power);
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(format!("{text:?} is too large a size")) }
}

/// RFC 3339 such as `2026-01-02T03:04:05.678+01:00`, or a duration from now such as `-2w` or `1h`.
pub fn parse_time(text: &str) -> Result<TimeOrDuration, String> {
    if let Some(time) = parse_rfc3339(text) {
        return Ok(TimeOrDuration::At(time));
    }
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let bad = |_| format!("{text:?} is neither a time such as 2026-01-02T03:04:05Z nor a duration such as -2w");
    let millis = parse_duration(magnitude).map_err(bad)?.as_millis();
    Ok(TimeOrDuration::FromNow(sign * i64::try_from(millis).unwrap_or(i64::MAX)))
}

/// Refuses what can be no address of an endpoint: that is `host:port`, or has a scheme of DNS.
pub fn check_address(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("Address is empty.".to_owned());
    }
    if ["http://", "https://"].iter().any(|scheme| text.contains(scheme)) {
        return Err(format!("Address {text} has a scheme of HTTP: give host:port without a scheme."));
    }
    if !text.contains([':', '+']) {
        return Err(format!("Address {text} is not of <host>:<port> format or a valid DNS query."));
    }
    Ok(())
}

/// Unix milliseconds of an RFC 3339 time; `None` when it is none.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let (clock, offset) = split_offset(time)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset * 60;
    Some(seconds * 1000 + thousandths)
}

/// RFC 3339 in UTC with milliseconds, of Unix milliseconds.
pub fn format_rfc3339(millis: i64) -> String {
    let (days, in_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, thousandths) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{thousandths:03}Z")
}

/// The clock and the offset from UTC in minutes.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, offset) = time.split_at_checked(at)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes = digits(hours, 2)? * 60 + digits(minutes, 2)?;
    Some((clock, if offset.starts_with('-') { -minutes } else { minutes }))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    if text.len() != len || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar; years start in March, so
/// that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_prometheus_and_of_go_are_understood() {
        for (text, seconds) in [("0", 0.0), ("0s", 0.0), ("15m", 900.0), ("1h30m", 5400.0), ("1.5h", 5400.0)] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        assert_eq!(parse_duration("2w").unwrap().as_secs(), 14 * 86400);
        assert_eq!(parse_duration("0ms").unwrap(), Duration::ZERO);
        for text in ["", "5", "m", "5x", "-5m", "1h-2m", "99999999999999y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_bytes("250MB").unwrap(), 250 << 20);
        assert_eq!(parse_bytes("2GiB").unwrap(), 2 << 30);
        assert_eq!(parse_bytes("17").unwrap(), 17);
        for text in ["", "MB", "2XB", "-1MB", "1e30EB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_no_scheme_of_http() {
        for text in ["a:1", ":1", "dns+a:1", "dnssrv+_grpc._tcp.a", "dnssrvnoa+a", "dns:///a:1", "passthrough:///a:1"] {
            assert_eq!(check_address(text), Ok(()), "{text}");
        }
        for text in ["http://a:1", "https://a:1", "dns+http://a:1", "", "a"] {
            assert!(check_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_fixed_or_relative() {
        assert_eq!(parse_time("0000-01-01T00:00:00Z").unwrap(), TimeOrDuration::At(-62_167_219_200_000));
        assert_eq!(parse_time("9999-12-31T23:59:59Z").unwrap(), TimeOrDuration::At(253_402_300_799_000));
        assert_eq!(parse_time("2026-01-02T03:04:05.5+01:00").unwrap(), TimeOrDuration::At(1_767_319_445_500));
        assert_eq!(parse_time("-2w").unwrap().resolve(0), -14 * 86_400_000);
        assert_eq!(parse_time("1h").unwrap().resolve(5), 3_600_005);
        for text in ["", "2026-02-30T00:00:00Z", "2026-01-01", "x", "2026-01-01T25:00:00Z"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_formatted_time_parses_to_itself() {
        for millis in [-62_167_219_200_000, -1, 0, 951_782_400_123, 1_767_319_445_500, 253_402_300_799_000] {
            assert_eq!(parse_rfc3339(&format_rfc3339(millis)), Some(millis));
        }
    }
}
