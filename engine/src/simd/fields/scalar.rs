//! One sample after the other, one field after the other.

use super::Window;
use crate::simd::bits::BitPlace;

/// Longest payload that goes out in one write with the fields before it.
const JOINED_MAX: u32 = 56 - 16 - 13;

/// As [`super::put`].
#[inline(always)]
pub fn put(times: &[i64], values: &[f64], mut window: Window, (out, bit): (&mut [u8], usize)) -> (usize, Window) {
    let mut place = BitPlace::resume(out, bit);
    for (times, values) in times.windows(3).zip(values.windows(2)) {
        let (before, last, time) = (times[0], times[1], times[2]);
        let change = time.wrapping_sub(last).wrapping_sub(last.wrapping_sub(before));
        let xor = values[0].to_bits() ^ values[1].to_bits();
        (place, window) = put_sample(change, xor, window, (place, out));
    }
    (place.bit(), window)
}

/// Bits that are to be written together with those behind them.
#[derive(Clone, Copy)]
pub struct Field {
    bits: u64,
    len: u32,
}

impl Field {
    /// No bits.
    pub const NONE: Self = Self { bits: 0, len: 0 };

    #[inline(always)]
    fn then(self, bits: u64, len: u32) -> Self {
        Self { bits: self.bits << len | bits, len: self.len + len }
    }
}

/// The fields of a sample whose time has a difference from the one before that is by `change` larger than
/// that one's, and whose value differs from the one before in the bits `xor`. Gives the place and the window
/// behind them.
#[inline(always)]
pub fn put_sample(change: i64, xor: u64, window: Window, to: (BitPlace, &mut [u8])) -> (BitPlace, Window) {
    let (place, bytes) = to;
    if change == 0 {
        put_value(Field { bits: 0, len: 1 }, xor, window, (place, bytes))
    } else if in_range(change, 14) {
        let field = Field { bits: 0b10 << 14 | (change as u64 & 0x3fff), len: 16 };
        put_value(field, xor, window, (place, bytes))
    } else {
        let place = put_wide_change(change, place, bytes);
        put_value(Field::NONE, xor, window, (place, bytes))
    }
}

/// The value field of a value that differs from the one before in the bits `xor`, behind `field`; gives the
/// place and the window behind it.
#[inline(always)]
pub fn put_value(field: Field, xor: u64, window: Window, to: (BitPlace, &mut [u8])) -> (BitPlace, Window) {
    let (place, bytes) = to;
    if xor == 0 {
        return (place.put(bytes, field.bits << 1, field.len + 1), window);
    }
    let mut window = window;
    let above = (xor.leading_zeros() as u8).min(31);
    let below = xor.trailing_zeros() as u8;
    let field = if above >= window.above && below >= window.below {
        field.then(0b10, 2)
    } else {
        window = Window { above, below };
        field.then(0b11 << 11 | u64::from(above) << 6 | u64::from(64 - above - below) & 63, 13)
    };
    let width = 64 - u32::from(window.above) - u32::from(window.below);
    let payload = xor >> window.below;
    let place = if width <= JOINED_MAX {
        let field = field.then(payload, width);
        place.put(bytes, field.bits, field.len)
    } else {
        place.put(bytes, field.bits, field.len).put_wide(bytes, payload, width)
    };
    (place, window)
}

#[cold]
#[inline(never)]
fn put_wide_change(change: i64, place: BitPlace, bytes: &mut [u8]) -> BitPlace {
    if in_range(change, 17) {
        place.put(bytes, 0b110 << 17 | (change as u64 & 0x1_ffff), 20)
    } else if in_range(change, 20) {
        place.put(bytes, 0b1110 << 20 | (change as u64 & 0xf_ffff), 24)
    } else {
        place.put(bytes, 0b1111, 4).put_wide(bytes, change as u64, 64)
    }
}

/// Whether `change` lies in the range of a field of `len` bits, whose smallest number stands for the
/// one above the largest.
#[inline(always)]
fn in_range(change: i64, len: u32) -> bool {
    let half = 1i64 << (len - 1);
    -half < change && change <= half
}
