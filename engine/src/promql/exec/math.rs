//! Arithmetic with the corner cases of Go's `math` package and of Prometheus' engine.

/// Adds `value` to the compensated sum `(sum, c)`: Kahan's summation with Neumaier's improvement.
#[inline(always)]
pub fn kahan_add(value: f64, sum: f64, c: f64) -> (f64, f64) {
    let total = sum + value;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
    (total, c + lost)
}

/// The larger of both; NaN when one is NaN.
pub fn max(left: f64, right: f64) -> f64 {
    if left == f64::INFINITY || right == f64::INFINITY {
        f64::INFINITY
    } else if left.is_nan() || right.is_nan() {
        f64::NAN
    } else if left == 0.0 && right == 0.0 {
        if left.is_sign_negative() { right } else { left }
    } else if left > right {
        left
    } else {
        right
    }
}

/// The smaller of both; NaN when one is NaN.
pub fn min(left: f64, right: f64) -> f64 {
    -max(-left, -right)
}

/// Where the area functions are logarithms: the next term is less than half of a last place.
const AREA_LARGE: f64 = (1u64 << 28) as f64;

/// The inverse hyperbolic sine, also of what can't be doubled.
pub fn asinh(value: f64) -> f64 {
    if value.abs() > AREA_LARGE {
        return (value.abs().ln() + std::f64::consts::LN_2).copysign(value);
    }
    value.asinh()
}

/// The inverse hyperbolic cosine, also of what can't be doubled.
pub fn acosh(value: f64) -> f64 {
    if value > AREA_LARGE { value.ln() + std::f64::consts::LN_2 } else { value.acosh() }
}

/// A float as the integer that Go's conversion on amd64 gives.
pub fn to_i64(value: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) { value as i64 } else { i64::MIN }
}

/// Orders floats ascending, NaN first.
pub fn nan_first(left: &f64, right: &f64) -> std::cmp::Ordering {
    left.partial_cmp(right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

/// The quantile of `values`, which are put in order.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if let Some(answer) = degenerate_quantile(q, values.len()) {
        return answer;
    }
    values.sort_unstable_by(nan_first);
    sorted_quantile(q, values)
}

/// The quantile when it does not depend on the values.
pub fn degenerate_quantile(q: f64, count: usize) -> Option<f64> {
    if count == 0 || q.is_nan() {
        Some(f64::NAN)
    } else if q < 0.0 {
        Some(f64::NEG_INFINITY)
    } else if q > 1.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

/// The quantile of `values`, which ascend (NaN first) and are not empty; `q` is in [0, 1].
pub fn sorted_quantile(q: f64, values: &[f64]) -> f64 {
    ranked_quantile(q, values.len(), |lower| (values[lower], values[(lower + 1).min(values.len() - 1)]))
}

/// The quantile of `count` values, at least one, of which `ranked` gives the one of a rank and the next,
/// or the last twice; `q` is in [0, 1].
pub fn ranked_quantile(q: f64, count: usize, ranked: impl FnOnce(usize) -> (f64, f64)) -> f64 {
    let rank = q * (count as f64 - 1.0);
    let weight = rank - rank.floor();
    let (lower, upper) = ranked(rank.floor().max(0.0) as usize);
    lower * (1.0 - weight) + upper * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_ranks() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.75, &mut [0.0, 1.0]), 0.75);
        assert_eq!(quantile(1.5, &mut [0.0]), f64::INFINITY);
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn compensation_saves_what_a_plain_sum_loses() {
        let (sum, c) = [1e100, 1.0, -1e100].iter().fold((0.0, 0.0), |(sum, c), value| kahan_add(*value, sum, c));
        assert_eq!(sum + c, 1.0);
    }

    #[test]
    fn extremes_pass_nan_on() {
        assert!(max(f64::NAN, 1.0).is_nan());
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(min(1.0, 2.0), 1.0);
    }
}
