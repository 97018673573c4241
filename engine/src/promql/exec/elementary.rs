//! Exponential, logarithms and powers to the last bit as Prometheus computes them, which are Go's on amd64: a
//! remainder, a rounding or a comparison behind them shows a difference of one unit of the last place at large.
//!
//! The exponential is Shibata's ("Efficient evaluation methods of elementary functions suitable for SIMD computation",
//! 2010), with fused operations; the logarithm is FreeBSD's `e_log.c`; powers are products of squares.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E, LOG10_E};

use crate::simd::{Kernel, isa, run_on};

/// ln 2 in two parts, of which the first times any exponent is exact.
const LN_2_PARTS: (f64, f64) = (0.693_147_180_559_663, 2.823_529_056_303_157_7e-13);

/// Above this the exponential is infinite.
const EXP_MAX: f64 = 709.782_712_893_384;

/// 1/8!, 1/7! and so on down to 1/1!.
const EXP_TERMS: [f64; 8] =
    [1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0, 1.0];

/// The exponential function, of each of `values`.
pub fn exp_all(values: &mut [f64]) {
    run_on(isa(), Exponentials(values));
}

/// Values that are to be replaced by their exponentials.
struct Exponentials<'a>(&'a mut [f64]);

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.iter_mut().for_each(|value| *value = exp(*value));
    }
}

/// The exponential function.
#[inline(always)]
fn exp(value: f64) -> f64 {
    if !value.is_finite() {
        return if value == f64::NEG_INFINITY { 0.0 } else { value };
    }
    if value > EXP_MAX {
        return f64::INFINITY;
    }
    let exponent = (value * LOG2_E).round_ties_even();
    let reduced = (-exponent).mul_add(LN_2_PARTS.1, (-exponent).mul_add(LN_2_PARTS.0, value)) * 0.0625;
    let series = EXP_TERMS[1..].iter().fold(EXP_TERMS[0], |sum, term| sum.mul_add(reduced, *term));
    // e^r - 1, of a sixteenth of the exponent; squared four times.
    let mut less_one = reduced * series;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let fraction = less_one.mul_add(less_one + 2.0, 1.0);
    // A value that is no exponent becomes the least there is.
    scale(fraction, exponent as i32)
}

/// `fraction` times two to `exponent`, as the exponential ends.
#[inline(always)]
fn scale(fraction: f64, exponent: i32) -> f64 {
    let power = |biased: i64| f64::from_bits((biased as u64) << 52);
    match i64::from(exponent) + 0x3ff {
        0x7ff.. => f64::INFINITY,
        biased @ 1.. => fraction * power(biased),
        ..-52 => 0.0,
        biased => fraction * power(biased + 0x3fe) * power(1),
    }
}

/// Coefficients of the logarithm's series, those of odd and of even powers.
const LN_ODD: [f64; 4] =
    [0.147_981_986_051_165_86, 0.181_835_721_616_180_5, 0.285_714_287_436_623_9, 0.666_666_666_666_673_5];
const LN_EVEN: [f64; 3] = [0.153_138_376_992_093_73, 0.222_221_984_321_497_84, 0.399_999_999_994_094_2];

/// ln 2 in two parts as the logarithm has it.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// The natural logarithm.
pub fn ln(value: f64) -> f64 {
    if value == 0.0 {
        return f64::NEG_INFINITY;
    }
    if value < 0.0 {
        return f64::NAN;
    }
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    let mut fraction = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000);
    let mut exponent = f64::from((bits >> 52) as i32 - 0x3fe);
    if fraction <= FRAC_1_SQRT_2 {
        exponent -= 1.0;
        fraction *= 2.0;
    }
    let less_one = fraction - 1.0;
    let s = less_one / (2.0 + less_one);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * LN_ODD[1..].iter().fold(LN_ODD[0], |sum, term| sum * s4 + term);
    let even = s4 * LN_EVEN[1..].iter().fold(LN_EVEN[0], |sum, term| sum * s4 + term);
    let half = 0.5 * less_one * less_one;
    exponent * LN_2_HIGH - ((half - (s * (half + (odd + even)) + exponent * LN_2_LOW)) - less_one)
}

/// The logarithm to base 2, exact for powers of two.
pub fn log2(value: f64) -> f64 {
    let (fraction, exponent) = split(value);
    if fraction == 0.5 { f64::from(exponent - 1) } else { ln(fraction) * LOG2_E + f64::from(exponent) }
}

/// Above and below this the exponential to base 2 is infinite and zero.
const EXP_2_RANGE: (f64, f64) = (-1074.0, 1_023.999_999_999_999_9);

/// Coefficients of the exponential's series to base 2, the highest power first.
const EXP_2_TERMS: [f64; 5] = [
    4.138_136_797_057_238_5e-8,
    -1.653_390_220_546_525_2e-6,
    6.613_756_321_437_934e-5,
    -0.002_777_777_777_701_559_3,
    0.166_666_666_666_666_66,
];

/// Two to the power of `value`.
pub fn exp2(value: f64) -> f64 {
    if value.is_nan() {
        return value;
    }
    if value > EXP_2_RANGE.1 {
        return f64::INFINITY;
    }
    if value < EXP_2_RANGE.0 {
        return 0.0;
    }
    let exponent = if value > 0.0 { (value + 0.5).trunc() } else { (value - 0.5).trunc() };
    let rest = value - exponent;
    let (high, low) = (rest * LN_2_HIGH, -rest * LN_2_LOW);
    let reduced = high - low;
    let square = reduced * reduced;
    let series = EXP_2_TERMS[1..].iter().fold(EXP_2_TERMS[0], |sum, term| term + square * sum);
    let part = reduced - square * series;
    let fraction = 1.0 - ((low - (reduced * part) / (2.0 - part)) - high);
    join(fraction, exponent as i64)
}

/// The logarithm to base 10.
pub fn log10(value: f64) -> f64 {
    ln(value) * LOG10_E
}

/// A fraction from a half to one, with the sign of `value`, and the exponent of the power of two that is `value` with
/// it; zero, infinities and NaN as they are.
fn split(value: f64) -> (f64, i32) {
    if value == 0.0 || !value.is_finite() {
        return (value, 0);
    }
    let (normal, shift) = if value.abs() < f64::MIN_POSITIVE { (value * (1u64 << 52) as f64, -52) } else { (value, 0) };
    let bits = normal.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 0x3fe;
    (f64::from_bits(bits & !(0x7ff << 52) | 0x3fe << 52), exponent + shift)
}

/// `fraction` times two to `exponent`, rounded once.
fn join(fraction: f64, exponent: i64) -> f64 {
    let (fraction, own) = split(fraction);
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    // As of a fraction from one to two.
    let exponent = exponent + i64::from(own) - 1;
    let of = |biased: i64| f64::from_bits(fraction.to_bits() & !(0x7ff << 52) | (biased as u64) << 52);
    match exponent {
        1024.. => f64::INFINITY.copysign(fraction),
        -1022.. => of(exponent + 0x3ff),
        -1075.. => of(exponent + 53 + 0x3ff) * (1.0 / (1u64 << 53) as f64),
        _ => 0f64.copysign(fraction),
    }
}

/// Exponents of squares beyond which the power is zero or infinite.
const SQUARE_EXPONENT_MAX: i64 = 1 << 12;

/// `base` to the power of `exponent`.
pub fn pow(base: f64, exponent: f64) -> f64 {
    // Whatever the other is: of signalling NaNs the library makes others.
    if base == 1.0 || exponent == 0.0 {
        return 1.0;
    }
    let is_plain = base.is_finite() && exponent.is_finite() && base != 0.0;
    // Of these the library's answers are exact, and the same.
    if !is_plain || exponent == 1.0 {
        return base.powf(exponent);
    }
    if exponent.abs() == 0.5 {
        let root = base.sqrt();
        return if exponent > 0.0 { root } else { 1.0 / root };
    }
    let (mut whole, mut rest) = (exponent.abs().trunc(), exponent.abs().fract());
    if rest != 0.0 && base < 0.0 {
        return f64::NAN;
    }
    if whole >= (1u64 << 63) as f64 {
        return match base.abs() {
            1.0 => 1.0,
            size if (size < 1.0) == (exponent > 0.0) => 0.0,
            _ => f64::INFINITY,
        };
    }
    let (mut product, mut power) = (1.0, 0i64);
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        product = exp(rest * ln(base));
    }
    let (mut square, own) = split(base);
    let (mut square_power, mut left) = (i64::from(own), whole as i64);
    while left != 0 {
        if square_power.abs() > SQUARE_EXPONENT_MAX {
            power += square_power;
            break;
        }
        if left & 1 == 1 {
            product *= square;
            power += square_power;
        }
        square *= square;
        square_power <<= 1;
        if square < 0.5 {
            square += square;
            square_power -= 1;
        }
        left >>= 1;
    }
    if exponent < 0.0 { join(1.0 / product, -power) } else { join(product, power) }
}

/// Where hyperbolic functions are half of an exponential: the other one is less than half of a last place.
const HYPERBOLIC_LARGE: f64 = 21.0;

/// The hyperbolic sine, infinite where the exponential is.
pub fn sinh(value: f64) -> f64 {
    let size = value.abs();
    if size > HYPERBOLIC_LARGE { (exp(size) * 0.5).copysign(value) } else { value.sinh() }
}

/// The hyperbolic cosine, infinite where the exponential is.
pub fn cosh(value: f64) -> f64 {
    let size = value.abs();
    if size > HYPERBOLIC_LARGE { exp(size) * 0.5 } else { value.cosh() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_signalling_nans_powers_are_one_where_the_other_side_says_so() {
        let signalling = f64::from_bits(0x7ff0_0000_0000_0001);
        assert_eq!((pow(1.0, signalling), pow(signalling, 0.0), pow(signalling, -0.0)), (1.0, 1.0, 1.0));
        assert!(pow(signalling, 1.0).is_nan() && pow(2.0, signalling).is_nan());
    }

    #[test]
    fn hyperbolic_functions_are_infinite_where_the_exponential_is() {
        assert_eq!((cosh(709.9), cosh(-709.9), sinh(709.9)), (f64::INFINITY, f64::INFINITY, f64::INFINITY));
        assert_eq!((sinh(-709.9), cosh(0.0), sinh(-0.0).to_bits()), (f64::NEG_INFINITY, 1.0, (-0.0f64).to_bits()));
        assert_eq!((cosh(-100.0), sinh(-100.0)), (exp(100.0) / 2.0, -exp(100.0) / 2.0));
        assert!(sinh(f64::NAN).is_nan() && cosh(f64::NAN).is_nan());
    }

    /// As Go 1.26 gives them on a processor with fused operations.
    #[test]
    fn every_bit_is_gos() {
        for (value, expected) in [
            (1.0, 0x4005_bf0a_8b14_5769),
            (-1.0, 0x3fd7_8b56_362c_ef38),
            (2.25, 0x4022_f9b8_82f4_7e80),
            (-10.1, 0x3f05_899a_c512_9ae3),
            (88.2, 0x47e2_f881_2c0f_1266),
            (-300.123, 0x24e0_280b_937a_5318),
            (709.7, 0x7ff0_0000_0000_0000),
            (709.79, 0x7ff0_0000_0000_0000),
            (-708.5, 0x000e_6cf6_d088_97ac),
            (-745.0, 0x0000_0000_0000_0001),
            (-746.0, 0x0000_0000_0000_0000),
            (1e-09, 0x3ff0_0000_0044_b830),
            (0.1, 0x3ff1_aec7_b35a_00d4),
        ] {
            assert_eq!(exp(value).to_bits(), expected, "exp({value})");
        }
        for (value, expected) in [
            (0.5, [0xbfe6_2e42_fefa_39ef, 0xbff0_0000_0000_0000, 0xbfd3_4413_509f_79ff]),
            (3.0, [0x3ff1_93ea_7aad_030a, 0x3ff9_5c01_a39f_bd69, 0x3fde_8927_964f_d5fc]),
            (0.1, [0xc002_6bb1_bbb5_5515, 0xc00a_934f_0979_a371, 0xbfef_ffff_ffff_ffff]),
            (1000.0, [0x401b_a18a_998f_ffa0, 0x4023_ee7b_471b_3a95, 0x4008_0000_0000_0000]),
            (1e-300, [0xc085_9634_47f8_7fb5, 0xc08f_24a0_9f1a_8b89, 0xc072_c000_0000_0000]),
            (5e-324, [0xc086_28b7_6e3a_7b61, 0xc090_c800_0000_0000, 0xc073_3f42_4bcb_5221]),
            (123456.789, [0x4027_7281_cad8_a844, 0x4030_e9e4_bf2a_1cb2, 0x4014_5db6_1a28_2513]),
            (FRAC_1_SQRT_2, [0xbfd6_2e42_fefa_39ee, 0xbfdf_ffff_ffff_fffe, 0xbfc3_4413_509f_79fe]),
            (7.0, [0x3fff_2272_ae32_5a57, 0x4006_7576_7f54_042d, 0x3feb_0b0b_0b78_cc3f]),
            (8.0, [0x4000_a2b2_3f3b_ab73, 0x4008_0000_0000_0000, 0x3fec_e61c_f8ef_36fe]),
        ] {
            assert_eq!([ln(value), log2(value), log10(value)].map(f64::to_bits), expected, "logarithms of {value}");
        }
        for (value, expected) in [
            (0.5, 0x3ff6_a09e_667f_3bcc),
            (-0.5, 0x3fe6_a09e_667f_3bcc),
            (1.0 / 3.0, 0x3ff4_28a2_f98d_728b),
            (2.25, 0x4013_06fe_0a31_b715),
            (-10.1, 0x3f4d_db68_0117_ab14),
            (88.2, 0x4572_6111_86ba_e67f),
            (1023.9, 0x7fed_db68_0117_aa8e),
            (1024.0, 0x7ff0_0000_0000_0000),
            (-1074.0, 0x0000_0000_0000_0001),
            (-1075.0, 0x0000_0000_0000_0000),
            (-1022.5, 0x000b_504f_333f_9de6),
            (3.0, 0x4020_0000_0000_0000),
        ] {
            assert_eq!(exp2(value).to_bits(), expected, "2^{value}");
        }
        for (base, exponent, expected) in [
            (2.0, 0.5, 0x3ff6_a09e_667f_3bcd),
            (1.1, 10.0, 0x4004_bffc_0c03_023d),
            (1.1, -10.3, 0x3fd7_faaf_1e9e_cb81),
            (10.0, -15.0, 0x3cd2_03af_9ee7_5616),
            (3.0, 0.7, 0x4001_42e8_1c88_9914),
            (-2.0, 3.0, 0xc020_0000_0000_0000),
            (1e10, 31.5, 0x7ff0_0000_0000_0000),
            (1.0000001, 1e09, 0x48f3_4944_5a54_3ab1),
            (9.0, -0.5, 0x3fd5_5555_5555_5555),
            (0.9, 1e06, 0x0000_0000_0000_0000),
            (5.0, -325.0, 0x10c4_b9da_876f_c7ce),
            (123.456, 2.0, 0x40cd_c4b1_24d0_99e1),
            (-8.0, 1.5, 0x7ff8_0000_0000_0001),
        ] {
            let found = pow(base, exponent);
            assert!(
                found.to_bits() == expected || found.is_nan() && f64::from_bits(expected).is_nan(),
                "{base}^{exponent}"
            );
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values: Vec<f64> = (-40_000..40_000).map(|at| f64::from(at) * 0.0187).collect();
        let expected: Vec<u64> = values.iter().map(|value| exp(*value).to_bits()).collect();
        for isa in crate::simd::isas() {
            let mut found = values.clone();
            run_on(isa, Exponentials(&mut found));
            assert!(found.iter().map(|value| value.to_bits()).eq(expected.iter().copied()), "{isa:?}");
        }
    }

    #[test]
    fn ends_of_the_range_are_those_of_the_library() {
        let ends = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            3.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX,
            f64::MIN_POSITIVE,
        ];
        let same = |left: f64, right: f64| left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan();
        for value in ends {
            assert!(same(exp(value), value.exp()), "exp({value})");
            for exponent in ends {
                assert!(same(pow(value, exponent), value.powf(exponent)), "{value}^{exponent}");
            }
        }
        for value in [0.0, -0.0, -1.0, 1.0, 2.0, f64::INFINITY, f64::NAN] {
            assert!(same(ln(value), value.ln()) && same(log2(value), value.log2()), "logarithms of {value}");
        }
    }
}
