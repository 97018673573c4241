//! Retention: how long blocks of each resolution are kept.

use std::time::Duration;

use super::downsample::plan::{FIVE_MINUTES_RANGE_MS, ONE_HOUR_RANGE_MS};
use crate::bucket::Meta;
use crate::model::{Error, Resolution};

/// How long blocks of each resolution are kept after their last sample; zero keeps them for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Raw data.
    pub raw: Duration,
    /// Data at five minutes.
    pub five_minutes: Duration,
    /// Data at an hour.
    pub one_hour: Duration,
}

/// Whether blocks are downsampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downsampling {
    /// They are not.
    Disabled,
    /// They are.
    Enabled,
}

impl Retention {
    /// Fails when blocks would be deleted before they can be downsampled, with the resolution whose blocks
    /// are kept too short.
    pub fn check(&self, downsampling: Downsampling) -> Result<(), (Resolution, Error)> {
        let too_short = |kept: Duration, range_ms: i64| !kept.is_zero() && (kept.as_millis() as i64) < range_ms;
        if downsampling == Downsampling::Disabled {
            return Ok(());
        }
        if too_short(self.raw, FIVE_MINUTES_RANGE_MS) {
            let why = "raw resolution must be higher than the minimum block size after which 5m resolution \
                       downsampling will occur (40 hours)";
            return Err((Resolution::RAW, Error::invalid(why)));
        }
        if too_short(self.five_minutes, ONE_HOUR_RANGE_MS) {
            let why = "5m resolution retention must be higher than the minimum block size after which 1h resolution \
                       downsampling will occur (10 days)";
            return Err((Resolution::FIVE_MINUTES, Error::invalid(why)));
        }
        Ok(())
    }

    /// How long blocks of `resolution` are kept; `None` for ever.
    pub fn of(&self, resolution: Resolution) -> Option<Duration> {
        let kept = match resolution {
            Resolution::RAW => self.raw,
            Resolution::FIVE_MINUTES => self.five_minutes,
            Resolution::ONE_HOUR => self.one_hour,
            _ => Duration::ZERO,
        };
        Some(kept).filter(|kept| !kept.is_zero())
    }

    /// The details of a deletion mark when the block is past its retention at the Unix millisecond
    /// `now_ms`; `None` while it is kept. Its last time counts in whole seconds.
    pub fn expired(&self, meta: &Meta, now_ms: i64) -> Option<String> {
        let kept = self.of(meta.resolution())?;
        let end = (meta.max_time / 1000 * 1000).saturating_add(kept.as_millis() as i64);
        (now_ms > end).then(|| format!("block exceeding retention of {}", go_duration(kept)))
    }
}

/// A duration as Go prints it: `1h0m0s`, `90ms`.
fn go_duration(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") };
    }
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}").trim_end_matches('0').to_owned() };
    let hours = if seconds >= 3600 { format!("{}h", seconds / 3600) } else { String::new() };
    let minutes = if seconds >= 60 { format!("{}m", seconds / 60 % 60) } else { String::new() };
    format!("{hours}{minutes}{}{fraction}s", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::meta::{Downsample, Thanos};
    use crate::model::BlockId;

    const HOUR: Duration = Duration::from_secs(3600);

    fn meta(max_time: i64, resolution: i64) -> Meta {
        let thanos = Thanos { downsample: Downsample { resolution }, ..Thanos::default() };
        Meta { thanos: Some(thanos), ..Meta::new(BlockId(1), 0, max_time) }
    }

    #[test]
    fn each_resolution_has_its_own_retention_and_zero_keeps_for_ever() {
        let retention = Retention { raw: HOUR, five_minutes: 2 * HOUR, one_hour: Duration::ZERO };
        let hour = 3_600_000;
        assert_eq!(retention.expired(&meta(5999, 0), hour + 5000), None);
        let details = retention.expired(&meta(5999, 0), hour + 5001).unwrap();
        assert_eq!(details, "block exceeding retention of 1h0m0s");
        assert_eq!(retention.expired(&meta(5000, 300_000), hour + 6000), None);
        assert!(retention.expired(&meta(5000, 300_000), 2 * hour + 6000).is_some());
        assert_eq!(retention.expired(&meta(5000, 3_600_000), i64::MAX), None);
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let printed = [0, 90, 1_000, 61_500, 86_400_000].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(printed, ["0s", "90ms", "1s", "1m1.5s", "24h0m0s"]);
    }

    #[test]
    fn a_retention_that_ends_before_downsampling_is_refused() {
        let retention = Retention { raw: 39 * HOUR, ..Retention::default() };
        assert!(retention.check(Downsampling::Enabled).unwrap_err().1.message().contains("40 hours"));
        assert!(retention.check(Downsampling::Disabled).is_ok());
        let retention = Retention { raw: 40 * HOUR, five_minutes: 239 * HOUR, one_hour: HOUR };
        let (resolution, error) = retention.check(Downsampling::Enabled).unwrap_err();
        assert!(resolution == Resolution::FIVE_MINUTES && error.message().contains("10 days"));
        assert!(Retention { five_minutes: 240 * HOUR, ..retention }.check(Downsampling::Enabled).is_ok());
    }
}
