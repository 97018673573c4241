//! Floats as text, as Go's `strconv` writes them: the shortest digits that read back as the same
//! float, laid out in one of its notations.

use std::ops::Range;

/// How the digits of a float are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Never an exponent (Go's `f`): values of instant vectors in text.
    Fixed,
    /// An exponent from 1e+21 on and below 1e-06, else none: Prometheus' JSON.
    Json,
    /// An exponent from 1e+06 on and below 1e-04 (Go's `g`): annotations and histograms in text.
    General,
}

/// `value` as Prometheus' JSON has it, without the quotes.
pub fn format_float(value: f64) -> String {
    format_float_as(value, Notation::Json)
}

/// `value` in `notation`.
pub fn format_float_as(value: f64, notation: Notation) -> String {
    let mut out = Vec::with_capacity(24);
    push_float(&mut out, value, notation);
    out.into_iter().map(char::from).collect()
}

/// `value` as the value of a label: as OpenMetrics has it, always with a point or an exponent. A zero has no sign.
pub fn format_label_float(value: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let mut text = format_float_as(value, Notation::General);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// Appends `value` in `notation` as ASCII.
pub fn push_float(out: &mut Vec<u8>, value: f64, notation: Notation) {
    if !value.is_finite() {
        let text: &[u8] = match value {
            f64::INFINITY => b"+Inf",
            f64::NEG_INFINITY => b"-Inf",
            _ => b"NaN",
        };
        return out.extend_from_slice(text);
    }
    let mut plain = PlainText::default();
    if notation != Notation::General
        && let Some(text) = plain.of(value)
    {
        return out.extend_from_slice(text);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    let decimal = Decimal::parse(text);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let (least, most) = match notation {
        Notation::Fixed => (i32::MIN, i32::MAX),
        Notation::Json => (-6, 21),
        Notation::General => (-4, 6),
    };
    // The exponent of scientific notation is one less than the place of the point.
    let exponent = decimal.point - 1;
    if decimal.is_zero() || (least..most).contains(&exponent) {
        decimal.push_fixed(out);
    } else {
        decimal.push_scientific(out, exponent);
    }
}

/// Room for the text of a float that has no exponent in any notation but Go's `g`.
pub struct PlainText {
    /// A sign and sixteen digits.
    digits: [u8; 17],
    shortest: zmij::Buffer,
}

impl Default for PlainText {
    fn default() -> Self {
        Self { digits: [0; 17], shortest: zmij::Buffer::new() }
    }
}

impl PlainText {
    /// The text of `value`, at most 24 bytes; `None` when it is not finite or may need an exponent.
    #[inline]
    pub fn of(&mut self, value: f64) -> Option<&[u8]> {
        if is_short_whole(value) {
            let sign = if value < 0.0 { Sign::Minus } else { Sign::Plus };
            return Some(self.whole(value.abs() as u64, sign));
        }
        if !value.is_finite() {
            return None;
        }
        let text = self.shortest.format_finite(value).as_bytes();
        // Without one it is neither so small nor so large that any of these notations had an exponent.
        let is_plain = NO_EXPONENT.contains(&value.abs()) || !text.contains(&b'e');
        is_plain.then(|| text.strip_suffix(b".0").unwrap_or(text))
    }

    /// The text of a whole number below 10^16.
    #[inline]
    pub fn whole(&mut self, magnitude: u64, sign: Sign) -> &[u8] {
        let mut start = self.digits.len() - 1;
        if magnitude < 10 {
            self.digits[start] = b'0' + magnitude as u8;
        } else {
            let low = eight_digits(magnitude % EIGHT_DIGITS);
            self.digits[9..].copy_from_slice(&(low | ASCII_ZEROS).to_le_bytes());
            start = 9 + (low.trailing_zeros() / 8) as usize;
        }
        if magnitude >= EIGHT_DIGITS {
            let high = eight_digits(magnitude / EIGHT_DIGITS);
            self.digits[1..9].copy_from_slice(&(high | ASCII_ZEROS).to_le_bytes());
            start = 1 + (high.trailing_zeros() / 8) as usize;
        }
        if sign == Sign::Minus {
            start -= 1;
            self.digits[start] = b'-';
        }
        &self.digits[start..]
    }
}

/// Whether a number is below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It isn't.
    Plus,
    /// It is.
    Minus,
}

const EIGHT_DIGITS: u64 = 100_000_000;

/// Eight times `0` in ASCII.
const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, a byte for each, the first of them lowest: it is halved three times, all halves at
/// once.
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    // Multiplying by the inverse and shifting divides exactly what has so few bits.
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// Floats that what finds the shortest digits gives no exponent; of others it may be looked for.
const NO_EXPONENT: Range<f64> = 1e-5..1e15;

/// Whether `value` is a whole number of at most fifteen digits: all of them are its shortest text.
fn is_short_whole(value: f64) -> bool {
    value.abs() < 1e15 && value as i64 as f64 == value && !(value == 0.0 && value.is_sign_negative())
}

/// `0.d1d2d3… * 10^point` with digits that neither start nor end in zero.
struct Decimal {
    digits: [u8; 32],
    len: usize,
    point: i32,
}

impl Decimal {
    /// Reads digits with an optional point and exponent, of which the sign is skipped.
    fn parse(text: &[u8]) -> Self {
        let mut decimal = Self { digits: [0; 32], len: 0, point: 0 };
        let mut point_seen = false;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'-' => {}
                b'.' => point_seen = true,
                b'e' => {
                    decimal.point += exponent_of(&text[at + 1..]);
                    break;
                }
                digit => {
                    if !point_seen {
                        decimal.point += 1;
                    }
                    if decimal.len == 0 && *digit == b'0' {
                        decimal.point -= 1;
                    } else if decimal.len < decimal.digits.len() {
                        decimal.digits[decimal.len] = *digit;
                        decimal.len += 1;
                    }
                }
            }
        }
        while decimal.len > 0 && decimal.digits[decimal.len - 1] == b'0' {
            decimal.len -= 1;
        }
        decimal
    }

    fn is_zero(&self) -> bool {
        self.len == 0
    }

    fn push_fixed(&self, out: &mut Vec<u8>) {
        if self.is_zero() {
            return out.push(b'0');
        }
        let digits = &self.digits[..self.len];
        if self.point <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + self.point.unsigned_abs() as usize, b'0');
            return out.extend_from_slice(digits);
        }
        let point = self.point as usize;
        if point >= digits.len() {
            out.extend_from_slice(digits);
            return out.resize(out.len() + point - digits.len(), b'0');
        }
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }

    fn push_scientific(&self, out: &mut Vec<u8>, exponent: i32) {
        out.push(self.digits[0]);
        if self.len > 1 {
            out.push(b'.');
            out.extend_from_slice(&self.digits[1..self.len]);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let magnitude = exponent.unsigned_abs();
        if magnitude >= 100 {
            out.push(b'0' + (magnitude / 100) as u8);
        }
        out.push(b'0' + (magnitude / 10 % 10) as u8);
        out.push(b'0' + (magnitude % 10) as u8);
    }
}

fn exponent_of(text: &[u8]) -> i32 {
    let value = text.iter().filter(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + i32::from(byte - b'0'));
    if text.first() == Some(&b'-') { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        let cases: [(f64, &str, &str, &str); 20] = [
            (0.0, "0", "0", "0"),
            (-0.0, "-0", "-0", "-0"),
            (1.0, "1", "1", "1"),
            (-1.5, "-1.5", "-1.5", "-1.5"),
            (100.0, "100", "100", "100"),
            (-42.0, "-42", "-42", "-42"),
            (999_999_999_999_999.0, "999999999999999", "999999999999999", "9.99999999999999e+14"),
            (-1e15, "-1000000000000000", "-1000000000000000", "-1e+15"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", "0.30000000000000004"),
            (1e20, "100000000000000000000", "100000000000000000000", "1e+20"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (1.5e300, &format!("15{}", "0".repeat(299)), "1.5e+300", "1.5e+300"),
            (1e-6, "0.000001", "0.000001", "1e-06"),
            (1.25e-7, "0.000000125", "1.25e-07", "1.25e-07"),
            (0.0001, "0.0001", "0.0001", "0.0001"),
            (0.00001, "0.00001", "0.00001", "1e-05"),
            (123456.0, "123456", "123456", "123456"),
            (1e6, "1000000", "1000000", "1e+06"),
            (1234567.0, "1234567", "1234567", "1.234567e+06"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
        ];
        for (value, fixed, json, general) in cases {
            assert_eq!(format_float_as(value, Notation::Fixed), fixed);
            assert_eq!(format_float(value), json);
            assert_eq!(format_float_as(value, Notation::General), general);
        }
        assert_eq!(format_float(f64::NAN), "NaN");
    }

    #[test]
    fn values_of_labels_have_a_point_or_an_exponent_and_zero_no_sign() {
        let shown = [-0.0, 0.0, 1.0, -1.0, 0.25, 1e6, f64::NEG_INFINITY].map(format_label_float);
        assert_eq!(shown, ["0.0", "0.0", "1.0", "-1.0", "0.25", "1e+06", "-Inf"]);
    }

    /// Numbers of a xorshift generator.
    fn noise() -> impl Iterator<Item = u64> {
        std::iter::successors(Some(0x9e37_79b9_7f4a_7c15u64), |bits| {
            let bits = bits ^ (bits << 13);
            let bits = bits ^ (bits >> 7);
            Some(bits ^ (bits << 17))
        })
    }

    #[test]
    fn whole_numbers_of_all_lengths_have_their_digits() {
        for (round, bits) in (0..5000).zip(noise()) {
            let whole = (bits % 10u64.pow(round % 16)) as i64;
            for whole in [whole, -whole, 10i64.pow(round % 16) - 1] {
                assert_eq!(format_float(whole as f64), whole.to_string());
            }
        }
    }

    #[test]
    fn floats_that_are_taken_for_plain_have_no_exponent() {
        for bits in noise().take(20_000) {
            // Any digits, and an exponent of either side of the bounds.
            let value = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 - 18 + bits % 70) << 52);
            let mut shortest = zmij::Buffer::new();
            let has_exponent = shortest.format_finite(value).contains('e');
            assert!(!has_exponent || !NO_EXPONENT.contains(&value), "{value}");
        }
        for value in [NO_EXPONENT.start, NO_EXPONENT.end.next_down()] {
            assert!(!zmij::Buffer::new().format_finite(value).contains('e'), "{value}");
        }
    }

    #[test]
    fn what_was_written_reads_back_as_the_same_float() {
        for bits in noise().take(20_000) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                for notation in [Notation::Fixed, Notation::Json, Notation::General] {
                    assert_eq!(format_float_as(value, notation).parse::<f64>().unwrap().to_bits(), bits);
                }
            }
        }
    }
}
