//! The specification; inlined into the wider instruction sets too, where the compiler turns its loops
//! into vectors.

use super::Survey;
use crate::model::value::STALE_NAN_BITS;

/// Adds `values` to compensated sums.
#[inline(always)]
pub fn sum(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
    for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
        let total = *sum + *value;
        let error = if sum.abs() >= value.abs() { (*sum - total) + *value } else { (*value - total) + *sum };
        *lost = if total.is_infinite() { 0.0 } else { *lost + error };
        *sum = total;
    }
}

/// Keeps the lesser.
#[inline(always)]
pub fn least(kept: &mut [f64], values: &[f64]) {
    for (kept, value) in kept.iter_mut().zip(values) {
        *kept = if (*kept > *value) | kept.is_nan() { *value } else { *kept };
    }
}

/// Keeps the greater.
#[inline(always)]
pub fn greatest(kept: &mut [f64], values: &[f64]) {
    for (kept, value) in kept.iter_mut().zip(values) {
        *kept = if (*kept < *value) | kept.is_nan() { *value } else { *kept };
    }
}

/// What `values` hold.
#[inline(always)]
pub fn survey(values: &[f64]) -> Survey {
    let (mut stale, mut falls) = (0u64, 0u64);
    for value in values {
        stale |= u64::from(value.to_bits() == STALE_NAN_BITS);
    }
    let (before, after) = (&values[..values.len().saturating_sub(1)], values.get(1..).unwrap_or(&[]));
    for (before, after) in before.iter().zip(after) {
        falls |= u64::from(*after < *before);
    }
    Survey { is_stale: stale != 0, falls: falls != 0 }
}
