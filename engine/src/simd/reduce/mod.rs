//! Rows of floats folded into others, and surveyed. Lanes are steps, never samples of one sum, so that
//! every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// What a column of samples holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// A stale marker.
    pub is_stale: bool,
    /// A sample that is less than the one before it.
    pub falls: bool,
}

/// Adds `values` to the compensated sums `sums` and `lost`, lane by lane: Kahan's summation with
/// Neumaier's improvement. All have one length.
pub fn sum(isa: Isa, sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
    dispatch!(isa, sum(sums, lost, values));
}

/// Keeps the lesser of each lane; NaN gives way to everything.
pub fn least(isa: Isa, kept: &mut [f64], values: &[f64]) {
    dispatch!(isa, least(kept, values));
}

/// Keeps the greater of each lane; NaN gives way to everything.
pub fn greatest(isa: Isa, kept: &mut [f64], values: &[f64]) {
    dispatch!(isa, greatest(kept, values));
}

/// What `values` hold.
pub fn survey(isa: Isa, values: &[f64]) -> Survey {
    dispatch!(isa, survey(values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::value::STALE_NAN_BITS;
    use crate::simd::isas;

    fn float() -> impl Strategy<Value = f64> {
        let special = [0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -f64::MAX, 1e-300];
        prop_oneof![
            prop::sample::select(special.to_vec()),
            Just(f64::from_bits(STALE_NAN_BITS)),
            -1e3..1e3f64,
            any::<f64>()
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<(f64, f64, f64)>> {
        prop::collection::vec((float(), float(), float()), 0..70)
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        // Which of several NaNs an operation gives is not said.
        values.iter().map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    proptest! {
        #[test]
        fn every_isa_gives_the_bits_of_the_scalar_twin(rows in rows()) {
            let column = |pick: fn(&(f64, f64, f64)) -> f64| rows.iter().map(pick).collect::<Vec<f64>>();
            let (sums, lost, values) = (column(|row| row.0), column(|row| row.1), column(|row| row.2));
            let folded = |isa| {
                let (mut sums, mut lost) = (sums.clone(), lost.clone());
                let (mut low, mut high) = (sums.clone(), sums.clone());
                sum(isa, &mut sums, &mut lost, &values);
                least(isa, &mut low, &values);
                greatest(isa, &mut high, &values);
                (bits(&sums), bits(&lost), bits(&low), bits(&high), survey(isa, &values))
            };
            for isa in isas() {
                prop_assert_eq!(folded(isa), folded(Isa::Scalar), "{:?}", isa);
            }
        }
    }

    #[test]
    fn a_survey_sees_falls_and_stale_markers_wherever_they_are() {
        for at in 0..40 {
            let mut values: Vec<f64> = (0..40).map(f64::from).collect();
            assert_eq!(survey(Isa::Scalar, &values), Survey::default());
            values[at] = f64::from_bits(STALE_NAN_BITS);
            assert_eq!(survey(Isa::Scalar, &values), Survey { is_stale: true, falls: false });
            values[at] = -1.0;
            assert_eq!(survey(Isa::Scalar, &values), Survey { is_stale: false, falls: at > 0 });
        }
    }
}
