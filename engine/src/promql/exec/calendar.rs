//! Dates in UTC from Unix seconds, with the wrapping of Go's `time` for seconds far out of range.

/// A point in time as people write it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year of the proleptic Gregorian calendar.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Days since Sunday, 0 to 6.
    pub weekday: u8,
    /// 1 to 366.
    pub day_of_year: u16,
}

const DAY: u64 = 86_400;
/// Go counts days from 1 March of this year, a multiple of 400, so that all times are positive.
const ABSOLUTE_YEAR: i64 = -292_277_022_400;
/// Seconds from Go's absolute zero to 1970.
const UNIX_TO_ABSOLUTE: u64 = 9_223_372_028_741_760_000;

impl Date {
    /// The date of `seconds` since 1970.
    pub fn from_unix(seconds: i64) -> Self {
        let absolute = (seconds as u64).wrapping_add(UNIX_TO_ABSOLUTE);
        let days = absolute / DAY;
        let rest = (absolute % DAY) as u32;
        let (year, month, day) = civil(days);
        let leap = is_leap(year);
        let before = DAYS_BEFORE[month as usize - 1] + u16::from(leap && month > 2);
        Self {
            year,
            month,
            day,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: ((days + 3) % 7) as u8,
            day_of_year: before + u16::from(day),
        }
    }

    /// Days of the month that the date lies in.
    pub fn days_in_month(&self) -> u8 {
        match self.month {
            2 if is_leap(self.year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

const DAYS_BEFORE: [u16; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Year, month and day of a number of days since 1 March of [`ABSOLUTE_YEAR`].
fn civil(days: u64) -> (i64, u8, u8) {
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u8;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u8;
    let year = ABSOLUTE_YEAR + (era * 400 + year_of_era) as i64 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_come_out() {
        let date = Date::from_unix(1_136_239_445);
        assert_eq!((date.year, date.month, date.day), (2006, 1, 2));
        assert_eq!((date.hour, date.minute, date.second, date.weekday), (22, 4, 5, 1));
        let date = Date::from_unix(0);
        assert_eq!((date.year, date.month, date.day, date.weekday, date.day_of_year), (1970, 1, 1, 4, 1));
        let date = Date::from_unix(1_456_790_399);
        assert_eq!((date.month, date.day, date.day_of_year, date.days_in_month()), (2, 29, 60, 29));
        assert_eq!(Date::from_unix(-1).year, 1969);
    }
}
