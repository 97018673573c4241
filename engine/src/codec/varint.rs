//! Variable-length integers: seven bits a byte, least significant first, as Go's
//! `encoding/binary` writes them; signed ones zigzag.

use crate::simd::bits;

/// Longest encoding of a 64-bit integer, in bytes.
pub const LEN_MAX: usize = bits::VARINT_LEN_MAX;

/// Appends `value`.
pub fn encode_u64(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value`, zigzag.
pub fn encode_i64(value: i64, out: &mut Vec<u8>) {
    encode_u64(((value << 1) ^ (value >> 63)) as u64, out);
}

/// The integer at the start of `bytes` and its length; `None` when it is cut off or longer than 64
/// bits.
#[inline]
pub fn decode_u64(bytes: &[u8]) -> Option<(u64, usize)> {
    bits::varint(bytes)
}

/// The zigzag integer at the start of `bytes` and its length.
#[inline]
pub fn decode_i64(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, len) = decode_u64(bytes)?;
    Some((((raw >> 1) as i64) ^ -((raw & 1) as i64), len))
}

/// Bytes that [`encode_u64`] appends for `value`.
pub fn len_u64(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                encode_u64(value, &mut bytes);
                assert_eq!(bytes.len(), len_u64(value), "{value}");
                assert_eq!(decode_u64(&bytes), Some((value, bytes.len())));
                let len = bytes.len();
                bytes.extend([0xff; 8]);
                assert_eq!(decode_u64(&bytes), Some((value, len)));
                let mut bytes = Vec::new();
                encode_i64(value as i64, &mut bytes);
                assert_eq!(decode_i64(&bytes), Some((value as i64, bytes.len())));
            }
        }
    }

    #[test]
    fn a_cut_or_overlong_integer_is_refused() {
        assert_eq!(decode_u64(&[]), None);
        assert_eq!(decode_u64(&[0x80]), None);
        assert_eq!(decode_u64(&[0xff; 10]), None);
    }
}
