//! One float that changes from sample to sample, xored with what it was before: the value field of
//! `chunk::xor`.

use crate::codec::bits::{BitReader, BitWriter};

/// A float and the place of its last payload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Xored {
    /// The value.
    pub value: f64,
    /// Zeros above the payload; over 63 before the first one when encoding.
    above: u8,
    /// Zeros below the payload; over 63 in a chunk that lies, whose payload is dropped.
    below: u8,
}

impl Xored {
    /// The first value of a chunk that is being encoded.
    pub fn start(value: f64) -> Self {
        Self { value, above: 0xff, below: 0 }
    }

    /// The first value of a chunk that is being decoded.
    pub fn decoded(value: f64) -> Self {
        Self { value, above: 0, below: 0 }
    }

    /// Decodes the next value.
    #[inline]
    pub fn read(&mut self, reader: &mut BitReader<'_>) {
        let window = reader.peek();
        if window >> 63 == 0 {
            return reader.skip(1);
        }
        self.read_changed(window << 1, 1, reader);
    }

    /// Decodes the next value, known to be another one; `window` holds the next bits, in front of
    /// which `skip` bits lie that are not consumed yet.
    #[inline]
    pub fn read_changed(&mut self, window: u64, skip: u32, reader: &mut BitReader<'_>) {
        if window >> 63 == 0 {
            reader.skip(skip + 1);
        } else {
            let width = (window >> 52) as u8 & 63;
            self.above = (window >> 58) as u8 & 31;
            self.below = 64u8.wrapping_sub(self.above).wrapping_sub(if width == 0 { 64 } else { width });
            reader.skip(skip + 12);
        }
        let width = u32::from(64u8.wrapping_sub(self.above).wrapping_sub(self.below));
        let payload = reader.bits(width);
        let change = payload.checked_shl(u32::from(self.below)).unwrap_or(0);
        self.value = f64::from_bits(self.value.to_bits() ^ change);
    }

    /// Appends the next value.
    pub fn put(&mut self, value: f64, writer: &mut BitWriter<'_>) {
        if value.to_bits() == self.value.to_bits() {
            return writer.put(0, 1);
        }
        self.put_changed(value, [(0b10, 2), (0b11, 2)], writer);
    }

    /// Appends the next value, known to be another one; bits and their number are what says that its
    /// payload lies where the last one did, and that it does not.
    #[inline]
    pub fn put_changed(&mut self, value: f64, [same, other]: [(u64, u32); 2], writer: &mut BitWriter<'_>) {
        let xor = value.to_bits() ^ self.value.to_bits();
        self.value = value;
        let above = (xor.leading_zeros() as u8).min(31);
        let below = xor.trailing_zeros() as u8;
        if above >= self.above && below >= self.below {
            writer.put(same.0, same.1);
        } else {
            (self.above, self.below) = (above, below);
            writer.put(other.0 << 11 | u64::from(above) << 6 | u64::from(64 - above - below) & 63, other.1 + 11);
        }
        writer.put_wide(xor >> self.below, 64 - u32::from(self.above) - u32::from(self.below));
    }
}
