//! Times in Unix milliseconds, ranges of them, and the resolutions of downsampling.

use std::fmt;

/// Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimestampMs(pub i64);

/// A closed range of Unix milliseconds, `min_time` and `max_time` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond of the range.
    pub min_time: i64,
    /// Last millisecond of the range.
    pub max_time: i64,
}

impl TimeRange {
    /// Every time there is.
    pub const ALL: Self = Self { min_time: i64::MIN, max_time: i64::MAX };

    /// The times that Prometheus' API can be asked for.
    pub const ASKED: Self = Self { min_time: -9_223_309_901_257_974_000, max_time: 9_223_309_901_257_974_999 };

    /// The closed range from `min_time` to `max_time`; empty when they are reversed.
    pub fn new(min_time: i64, max_time: i64) -> Self {
        Self { min_time, max_time }
    }

    /// Whether `time` lies within.
    pub fn contains(self, time: i64) -> bool {
        self.min_time <= time && time <= self.max_time
    }

    /// The least range with both.
    pub fn hull(self, other: Self) -> Self {
        Self { min_time: self.min_time.min(other.min_time), max_time: self.max_time.max(other.max_time) }
    }

    /// Whether the two closed ranges share a millisecond.
    pub fn overlaps(self, other: Self) -> bool {
        self.min_time <= other.max_time && other.min_time <= self.max_time
    }
}

/// Milliseconds between the samples of a block: 0 for raw data, 300,000 and 3,600,000 for
/// downsampled data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resolution(pub i64);

impl Resolution {
    /// Data as it was scraped.
    pub const RAW: Self = Self(0);
    /// Five minutes.
    pub const FIVE_MINUTES: Self = Self(5 * 60 * 1000);
    /// One hour.
    pub const ONE_HOUR: Self = Self(60 * 60 * 1000);
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAW => f.write_str("raw"),
            Self::FIVE_MINUTES => f.write_str("5m"),
            Self::ONE_HOUR => f.write_str("1h"),
            Self(ms) => write!(f, "{ms}ms"),
        }
    }
}
