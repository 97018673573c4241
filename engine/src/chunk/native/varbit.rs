//! Integers in buckets of widths, as native histograms hold them.
//!
//! ```text
//! 0                    0
//! 10        3 bits     signed -3 to 4,     unsigned to 7
//! 110       6 bits
//! 1110      9 bits                         signed: two's complement, except that the smallest
//! 11110     12 bits                        number stands for the one above the largest
//! 111110    18 bits
//! 1111110   25 bits
//! 11111110  56 bits
//! 11111111  64 bits
//! ```

use crate::codec::bits::{BitReader, BitWriter};

/// Width behind as many ones.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
const ONES_MAX: u32 = 8;

/// The next signed integer.
#[inline]
pub fn read_int(reader: &mut BitReader<'_>) -> i64 {
    let (raw, width) = read(reader);
    if width == 0 || width == 64 || raw <= 1 << (width - 1) { raw as i64 } else { (raw as i64) - (1 << width) }
}

/// The next unsigned integer.
#[inline]
pub fn read_uint(reader: &mut BitReader<'_>) -> u64 {
    read(reader).0
}

/// Appends a signed integer.
pub fn put_int(value: i64, writer: &mut BitWriter<'_>) {
    let fits = |width: &u32| {
        let half = 1i64 << (width - 1);
        -half < value && value <= half
    };
    let ones = if value == 0 { 0 } else { 1 + WIDTHS[1..8].iter().take_while(|width| !fits(width)).count() };
    put(ones, value as u64, writer);
}

/// Appends an unsigned integer.
pub fn put_uint(value: u64, writer: &mut BitWriter<'_>) {
    let ones = if value == 0 { 0 } else { 1 + WIDTHS[1..8].iter().take_while(|width| value >> **width != 0).count() };
    put(ones, value, writer);
}

#[inline]
fn read(reader: &mut BitReader<'_>) -> (u64, u32) {
    let window = reader.peek();
    let ones = (!window).leading_zeros().min(ONES_MAX);
    let width = WIDTHS[ones as usize];
    let prefix = (ones + 1).min(ONES_MAX);
    reader.skip(prefix);
    match width {
        0 => (0, 0),
        64 => (reader.bits(64), 64),
        _ => {
            reader.skip(width);
            (window << prefix >> (64 - width), width)
        }
    }
}

fn put(ones: usize, value: u64, writer: &mut BitWriter<'_>) {
    let prefix = (ones as u32 + 1).min(ONES_MAX);
    let zero = u32::from(ones < 8);
    writer.put(((1u64 << (prefix - zero)) - 1) << zero, prefix);
    match WIDTHS[ones] {
        0 => {}
        64 => writer.put_wide(value, 64),
        width => writer.put(value & ((1 << width) - 1), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_around_every_width_come_back_in_as_many_bits() {
        let mut values = vec![0i64, i64::MAX, i64::MIN];
        for shift in 0..63 {
            let power = 1i64 << shift;
            values.extend([power - 1, power, power + 1, -power, -power - 1, 1 - power]);
        }
        for value in values {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            put_int(value, &mut writer);
            put_uint(value as u64, &mut writer);
            writer.finish();
            let mut reader = BitReader::new("test", &bytes, 0);
            assert_eq!(read_int(&mut reader), value);
            assert_eq!(read_uint(&mut reader), value as u64);
            assert!(reader.check().is_ok() && reader.remaining() < 8);
        }
        for (value, bits) in
            [(0, 1), (-3, 5), (4, 5), (5, 9), (-31, 9), (131_072, 24), (-16_777_215, 32), (1 << 55, 64)]
        {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            put_int(value, &mut writer);
            writer.finish();
            let mut reader = BitReader::new("test", &bytes, 0);
            read_int(&mut reader);
            assert_eq!(reader.position(), bits, "{value}");
        }
    }
}
