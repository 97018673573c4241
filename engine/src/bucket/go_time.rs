//! Times as Go's encoder writes them: RFC 3339 with as many digits of a second as there are.

use serde::{Deserialize, Serialize};

/// Go's zero time, which stands for none.
const ZERO: &str = "0001-01-01T00:00:00Z";

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A time of a meta.json, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoTime(String);

impl Default for GoTime {
    fn default() -> Self {
        Self(ZERO.to_owned())
    }
}

impl GoTime {
    /// The time `nanos` nanoseconds after the Unix epoch, in UTC.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let seconds = nanos.div_euclid(NANOS_PER_SECOND) as i64;
        let fraction = format!("{:09}", nanos.rem_euclid(NANOS_PER_SECOND));
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        Self(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}Z"))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Unix milliseconds; `None` for the zero time and for what is no time.
    pub fn unix_ms(&self) -> Option<i64> {
        if self.0 == ZERO { None } else { parse_ms(&self.0) }
    }
}

/// Unix milliseconds of an RFC 3339 time.
fn parse_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok().map(i64::from);
    let separators = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    if separators.iter().any(|(at, expected)| !text.get(*at..).is_some_and(|rest| rest.starts_with(*expected))) {
        return None;
    }
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
    };
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    Some((days * SECONDS_PER_DAY + seconds - zone_seconds(zone)?) * 1000 + ms)
}

/// Seconds that the zone `Z`, `+hh:mm` or `-hh:mm` is ahead of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days since 1970-01-01 of a day of the Gregorian calendar, counted in years that start in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of the day that many days after 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_with_the_digits_they_need() {
        for (nanos, text) in [
            (1_795_245_988_500_952_005, "2026-11-21T07:26:28.500952005Z"),
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_250_000_000, "2000-02-29T00:00:00.25Z"),
            (-1_000_000, "1969-12-31T23:59:59.999Z"),
        ] {
            let time = GoTime::from_unix_nanos(nanos);
            assert_eq!(time.as_str(), text);
            assert_eq!(time.unix_ms(), Some((nanos as i64).div_euclid(1_000_000)));
        }
    }

    #[test]
    fn zones_are_taken_into_account_and_nonsense_is_no_time() {
        let ms = |text: &str| GoTime(text.to_owned()).unix_ms();
        assert_eq!(ms("1970-01-01T02:00:00.5+02:00"), Some(500));
        for text in
            [ZERO, "", "yesterday", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00:00.", "é970-01-01T00:00:00Z"]
        {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
