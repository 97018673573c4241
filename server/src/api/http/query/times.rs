//! Times and durations in parameters, in all the ways in which Go's parsers take them.

use engine::model::TimeRange;
use engine::model::duration::parse_duration;
use time::{Date, Month, PrimitiveDateTime, Time};

/// The first and last time of Prometheus' API as Go writes them, which no parser takes for their years.
const BOUNDARIES: [(&str, i64); 2] = [
    ("-292273086-05-16T16:47:06Z", TimeRange::ASKED.min_time),
    ("292277025-08-18T07:12:54.999999999Z", TimeRange::ASKED.max_time),
];

const NANOSECONDS_PER_MILLISECOND: i64 = 1_000_000;

/// Unix milliseconds of a number of seconds or an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Some(seconds) = parse_float(text) {
        let whole = seconds.trunc();
        let fraction = ((seconds - whole) * 1000.0).round();
        let ms = whole * 1000.0 + fraction;
        return (ms.abs() < i64::MAX as f64).then_some(ms as i64);
    }
    let boundary = BOUNDARIES.iter().find(|(boundary, _)| *boundary == text);
    boundary.map(|(_, time)| *time).or_else(|| parse_rfc3339(text))
}

/// Milliseconds of a number of seconds or a Prometheus duration; otherwise what else is to be said of it. One that is
/// shorter than a millisecond is a millisecond: none would be no time at all.
pub fn parse_duration_ms(text: &str) -> Result<i64, &'static str> {
    let Some(seconds) = parse_float(text) else {
        return parse_duration(text).map(|duration| duration.as_millis()).map_err(|_| "");
    };
    // Upstream counts nanoseconds, and cuts off what is less than one and then less than a millisecond.
    let nanoseconds = seconds * 1e9;
    if nanoseconds.abs() >= i64::MAX as f64 {
        return Err(". It overflows int64");
    }
    // What is no number is as far below zero as can be.
    let nanoseconds = if nanoseconds.is_nan() { i64::MIN } else { nanoseconds as i64 };
    let is_short = (1..NANOSECONDS_PER_MILLISECOND).contains(&nanoseconds);
    Ok(if is_short { 1 } else { nanoseconds / NANOSECONDS_PER_MILLISECOND })
}

/// A number as Go's strconv.ParseFloat takes it: with underscores between digits, and in hexadecimal digits too.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case("nan") {
        return (unsigned.len() == text.len()).then_some(f64::NAN);
    }
    let hexadecimal = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let is_digit = |byte: &u8| if hexadecimal.is_some() { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let ends = |part: &str| part.eq_ignore_ascii_case("0x") || part.as_bytes().last().is_some_and(is_digit);
    let begins = |part: &str| part.as_bytes().first().is_some_and(is_digit);
    let parts = unsigned.split('_');
    if !parts.clone().zip(parts.skip(1)).all(|(left, right)| ends(left) && begins(right)) {
        return None;
    }
    let number: f64 = match hexadecimal.map(|digits| parse_hexadecimal(&digits.replace('_', ""))) {
        Some(number) => number? * if text.starts_with('-') { -1.0 } else { 1.0 },
        None => text.replace('_', "").parse().ok()?,
    };
    // What is too large for a float is refused, and infinity has to be said.
    (number.is_finite() || unsigned.starts_with(['i', 'I'])).then_some(number)
}

/// The number that is written after `0x`: digits, perhaps with a point, and always an exponent of two.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let lacks_digits = (whole.is_empty() && fraction.is_empty()) || digits.is_empty();
    if lacks_digits || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let farthest = if exponent.starts_with('-') { i64::from(i32::MIN) } else { i64::from(i32::MAX) };
    let mut scale = exponent.parse::<i64>().unwrap_or(farthest).clamp(i32::MIN.into(), i32::MAX.into());
    let mut bits = 0u64;
    for (at, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_kept = bits >> 60 == 0;
        // Of digits that no float has only whether there are some matters, for how it is rounded.
        bits = if is_kept { (bits << 4) | digit } else { bits | u64::from(digit != 0) };
        scale += match (is_kept, at < whole.len()) {
            (true, false) => -4,
            (false, true) => 4,
            _ => 0,
        };
    }
    // Beyond these powers every float is zero or too large; no step of the three is.
    let scale = scale.clamp(-2400, 2400) as i32;
    let steps = [scale / 3, scale / 3, scale - scale / 3 * 2];
    Some(steps.into_iter().fold(bits as f64, |number, step| number * 2f64.powi(step)))
}

/// Unix milliseconds of a time as Go's time.Parse takes it for RFC 3339: an hour may have one digit, a fraction may
/// follow a comma, and an offset may be of 24 hours or 60 minutes.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    let month: u8 = after('-', &mut rest).and_then(|()| number(&mut rest, 2))?;
    let day = after('-', &mut rest).and_then(|()| number(&mut rest, 2))?;
    after('T', &mut rest)?;
    let digits = if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) { 2 } else { 1 };
    let hour = number(&mut rest, digits)?;
    let minute = after(':', &mut rest).and_then(|()| number(&mut rest, 2))?;
    let second = after(':', &mut rest).and_then(|()| number(&mut rest, 2))?;
    let nanosecond = fraction(&mut rest);
    let offset = offset_seconds(rest)?;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let time = Time::from_hms_nano(hour, minute, second, nanosecond).ok()?;
    let time = PrimitiveDateTime::new(date, time).assume_utc();
    Some((time.unix_timestamp() - offset) * 1000 + i64::from(time.millisecond()))
}

/// The number of so many digits that `rest` begins with, which are taken off it.
fn number<N: std::str::FromStr>(rest: &mut &str, digits: usize) -> Option<N> {
    let (taken, left) = rest.split_at_checked(digits)?;
    *rest = left;
    taken.bytes().all(|byte| byte.is_ascii_digit()).then(|| taken.parse().ok())?
}

/// Takes `expected` off the beginning of `rest`.
fn after(expected: char, rest: &mut &str) -> Option<()> {
    *rest = rest.strip_prefix(expected)?;
    Some(())
}

/// The nanoseconds of the fraction of a second that `rest` may begin with, which is taken off it.
fn fraction(rest: &mut &str) -> u32 {
    let Some(digits) = rest.strip_prefix(['.', ',']) else { return 0 };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return 0;
    }
    let (digits, left) = digits.split_at(count);
    *rest = left;
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    nine.fold(0, |nanoseconds, digit| nanoseconds * 10 + u32::from(digit - b'0'))
}

/// Seconds that a zone is ahead of UTC. A plus that an address has as it is comes as a blank.
fn offset_seconds(zone: &str) -> Option<i64> {
    let (sign, mut rest) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(0),
        ("-", rest) => (-1, rest),
        ("+" | " ", rest) => (1, rest),
        _ => return None,
    };
    let hours: i64 = number(&mut rest, 2)?;
    let minutes: i64 = after(':', &mut rest).and_then(|()| number(&mut rest, 2))?;
    (hours <= 24 && minutes <= 60 && rest.is_empty()).then_some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, time) in [
            ("1789984800.5", 1_789_984_800_500),
            ("-1.001", -1001),
            ("2026-09-21T10:00:00Z", 1_789_984_800_000),
            ("2026-09-21T12:00:00.25+02:00", 1_789_984_800_250),
            ("2026-09-21T12:00:00 02:00", 1_789_984_800_000),
            ("1969-12-31T23:59:59.9995Z", -1),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999999999-23:59", 253_402_387_139_999),
            ("-292273086-05-16T16:47:06Z", TimeRange::ASKED.min_time),
            ("292277025-08-18T07:12:54.999999999Z", TimeRange::ASKED.max_time),
        ] {
            assert_eq!(parse_time(text), Some(time), "{text}");
        }
        for text in ["", "now", "1e400", "NaN", "Inf", "2026-09-21"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn times_that_go_takes_besides_are_taken() {
        for (text, time) in [
            ("2026-09-21T9:00:00Z", 1_789_981_200_000),
            ("2026-09-21T9:00:00.5+02:00", 1_789_974_000_500),
            ("2026-09-21T10:00:00,5Z", 1_789_984_800_500),
            ("2026-09-21T10:00:00.1234567899Z", 1_789_984_800_123),
            ("2026-09-21T10:00:00+24:60", 1_789_894_800_000),
            ("2026-09-21T10:00:00-00:30", 1_789_986_600_000),
        ] {
            assert_eq!(parse_time(text), Some(time), "{text}");
        }
    }

    #[test]
    fn times_that_go_does_not_take_are_refused() {
        for text in [
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01_00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01ä00:00:00Z",
            "2016-12-31T23:59:60Z",
            "2024-1-01T00:00:00Z",
            "2024-01-01T0:0:00Z",
            "2024-01-01T24:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00Z ",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00,Z",
            "2024-01-01T00:00:00+25:00",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00ä",
            "+024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_go_takes_them() {
        for (text, number) in [
            ("0x1p4", 16.0),
            ("-0X1.8P1", -3.0),
            ("0x_1p-2", 0.25),
            ("0x1.8p1_0", 1536.0),
            ("0x.8p1", 1.0),
            ("0x1.fffffffffffff7p0", 1.999_999_999_999_999_8),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x0.00000000000000000001p80", 1.0),
            ("0x10000000000000000000p-76", 1.0),
            ("0x1p-99999999999999999999", 0.0),
            ("0x1p-1074", 5e-324),
            ("0x1p1023", 2f64.powi(1023)),
            ("1_000", 1000.0),
            ("1_000.5e1_0", 1.0005e13),
            ("+1.5", 1.5),
            ("-Infinity", f64::NEG_INFINITY),
            ("inf", f64::INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_float(text), Some(number), "{text}");
        }
        assert!(parse_float("nan").is_some_and(f64::is_nan));
        let broken =
            ["", "+", "_", "--1", "+-1", "1__0", "_1", "1_", "1_.5", "1._5", "1_e5", "in_f", "1e400", "+nan", "1ä"];
        let no_hexadecimals =
            ["0b1", "0o7", "0x", "0x1", "0xp1", "0x1e5", "0x1p", "0x1p+", "0x1_p1", "0x-1p1", "0x1g", "0x1p2000"];
        for text in broken.iter().chain(&no_hexadecimals).chain(&["0x1p99999999999999999999"]) {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        assert_eq!(parse_duration_ms("1.5"), Ok(1500));
        // Of 8.402 s a float has less, by less than a nanosecond.
        assert_eq!(["8.402", "16.464", "8.403"].map(parse_duration_ms), [8401, 16_463, 8403].map(Ok));
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("0x1p1"), Ok(2000));
        for text in ["1x", "1e400"] {
            assert_eq!(parse_duration_ms(text), Err(""), "{text}");
        }
        for text in ["1e30", "1e300", "-1e30", "Inf"] {
            assert_eq!(parse_duration_ms(text), Err(". It overflows int64"), "{text}");
        }
    }

    #[test]
    fn a_duration_of_less_than_a_millisecond_is_one() {
        assert_eq!(["0.0001", "1e-6", "0.0019"].map(parse_duration_ms), [1, 1, 1].map(Ok));
        assert_eq!(["0", "1e-10", "-0.0001"].map(parse_duration_ms), [0, 0, 0].map(Ok));
        assert!(parse_duration_ms("NaN").unwrap() < 0);
    }
}
