//! Sample values: IEEE 754 doubles, two NaNs of which have a meaning.

/// Bits of the stale marker: the series has ended here.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker, bit for bit.
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Whether two floats differ by less than `tolerance` times the sum of their magnitudes. NaNs are
/// equal, stale markers to each other only.
pub fn almost_equal(left: f64, right: f64, tolerance: f64) -> bool {
    if is_stale_nan(left) || is_stale_nan(right) {
        return is_stale_nan(left) && is_stale_nan(right);
    }
    if left.is_nan() || right.is_nan() {
        return left.is_nan() && right.is_nan();
    }
    if left == right {
        return true;
    }
    let difference = (left - right).abs();
    let sum = left.abs() + right.abs();
    if left == 0.0 || right == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_compared_relative_to_their_magnitude() {
        for (left, right) in [(1.0, 1.0 + 1e-9), (f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY), (0.0, -0.0)] {
            assert!(almost_equal(left, right, 1e-6), "{left} {right}");
        }
        for (left, right) in
            [(1.0, 1.001), (f64::NAN, 1.0), (f64::NAN, stale_nan()), (f64::INFINITY, 1.0), (0.0, 1e-300)]
        {
            assert!(!almost_equal(left, right, 1e-6), "{left} {right}");
        }
    }
}
