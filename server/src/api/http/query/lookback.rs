//! How far back an instant selector looks for a sample: samples of downsampled data are further apart
//! than `--query.lookback-delta` mostly is, so that it would see none between them.

/// Resolutions of downsampled data, each with the next finer one, in milliseconds, coarsest first.
const RESOLUTIONS: [(i64, i64); 2] = [(60 * 60 * 1000, 5 * 60 * 1000), (5 * 60 * 1000, 0)];

/// How far back instant selectors look when a request does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookback {
    /// As far as the flag says.
    Fixed,
    /// At least as far as samples are apart in the coarsest data that may be read.
    Dynamic,
}

impl Lookback {
    /// Milliseconds to look back where the flag says `delta_ms` and data as coarse as
    /// `max_resolution_ms` may be read. Which resolution that allows is decided as Thanos does it.
    pub fn ms(self, delta_ms: i64, max_resolution_ms: i64) -> i64 {
        if self == Self::Fixed {
            return delta_ms;
        }
        let read = RESOLUTIONS.into_iter().find(|(_, finer)| delta_ms.max(*finer) < max_resolution_ms);
        read.map_or(delta_ms, |(resolution, _)| delta_ms.max(resolution))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn downsampled_data_is_looked_back_for_as_far_as_its_samples_are_apart() {
        let dynamic = |delta, resolution| Lookback::Dynamic.ms(delta * MINUTE, resolution * MINUTE) / MINUTE;
        assert_eq!([0, 1, 5].map(|resolution| dynamic(5, resolution)), [5, 5, 5]);
        assert_eq!([6, 60, 600].map(|resolution| dynamic(5, resolution)), [60, 60, 60]);
        assert_eq!([0, 1, 2, 5, 6].map(|resolution| dynamic(1, resolution)), [1, 1, 5, 5, 60]);
        assert_eq!([5, 60, 119, 121].map(|resolution| dynamic(120, resolution)), [120, 120, 120, 120]);
        assert_eq!(Lookback::Fixed.ms(5 * MINUTE, 60 * MINUTE), 5 * MINUTE);
    }
}
