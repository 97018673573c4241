//! Bits, most significant first, as chunks hold them.
//!
//! ```text
//! byte   0               1
//! bit    7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 …
//!        a a a b b b b b b c …               a of 3 bits, b of 6
//! ```

use super::corrupt::Corrupt;
use super::varint;
use crate::simd::bits::BitPlace;

/// Reads bits forward. Past the end it reads zeros and remembers that it did: ask
/// [`BitReader::check`] after every run of reads whose length was not asked for before.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    /// Bits read so far; may lie past the end.
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader of `bytes`, a part called `what`, from its byte `start`.
    pub fn new(what: &'static str, bytes: &'a [u8], start: usize) -> Self {
        Self { what, bytes, at: start * 8 }
    }

    /// Bits not read yet.
    pub fn remaining(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// Bits read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// An error when more was read than there is.
    pub fn check(&self) -> Result<(), Corrupt> {
        if self.at > self.bytes.len() * 8 {
            return Err(Corrupt::new(self.what, self.bytes.len() as u64, "ends in the middle of a sample"));
        }
        Ok(())
    }

    /// An error at the byte that is read next.
    pub fn corrupt(&self, reason: impl Into<String>) -> Corrupt {
        Corrupt::new(self.what, (self.at / 8) as u64, reason)
    }

    /// The next bit.
    #[inline]
    pub fn bit(&mut self) -> bool {
        let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        bit
    }

    /// The next `len` bits, 1 to 64, as the low bits of an integer.
    #[inline]
    pub fn bits(&mut self, len: u32) -> u64 {
        let value = self.peek() >> (64 - len);
        self.at += len as usize;
        value
    }

    /// The next 64 bits, not consumed; zeros follow the end.
    #[inline]
    pub fn peek(&self) -> u64 {
        let (byte, shift) = (self.at / 8, self.at % 8);
        let window = match self.bytes.get(byte..).and_then(<[u8]>::first_chunk::<16>) {
            Some(window) => u128::from_be_bytes(*window),
            None => self.last_window(byte),
        };
        (window << shift >> 64) as u64
    }

    /// Consumes `len` bits.
    #[inline]
    pub fn skip(&mut self, len: u32) {
        self.at += len as usize;
    }

    /// The next variable-length integer, which need not start at a byte.
    pub fn uvarint(&mut self) -> Result<u64, Corrupt> {
        let mut bytes = [0u8; varint::LEN_MAX];
        bytes[..8].copy_from_slice(&self.peek().to_be_bytes());
        let mut rest = self.clone();
        rest.skip(64);
        bytes[8..].copy_from_slice(&rest.peek().to_be_bytes()[..2]);
        let decoded = varint::decode_u64(&bytes);
        let (value, len) = decoded.ok_or_else(|| self.corrupt("variable-length integer is too long"))?;
        self.at += len * 8;
        self.check()?;
        Ok(value)
    }

    /// The next zigzag variable-length integer, which need not start at a byte.
    pub fn varint(&mut self) -> Result<i64, Corrupt> {
        let raw = self.uvarint()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    #[cold]
    fn last_window(&self, byte: usize) -> u128 {
        let mut window = [0u8; 16];
        let rest = self.bytes.get(byte..).unwrap_or(&[]);
        window[..rest.len()].copy_from_slice(rest);
        u128::from_be_bytes(window)
    }
}

/// Where a run of bits ends within its last byte, so that writing can go on there later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitEnd {
    /// Bits of the last byte that are taken; 0 when the last byte is whole.
    pub used: u8,
}

/// Bytes that a vector is filled up with when it is too short for a write.
const SPARE: usize = 64;

/// Appends bits to a vector. Until [`BitWriter::finish`] the vector holds more bytes than were
/// written.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    place: BitPlace,
}

impl<'a> BitWriter<'a> {
    /// A writer that starts at the byte after the last of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let place = BitPlace::resume(out, out.len() * 8);
        Self { out, place }
    }

    /// A writer that goes on where another has ended.
    pub fn resume(out: &'a mut Vec<u8>, end: BitEnd) -> Self {
        let unused = if end.used == 0 { 0 } else { 8 - usize::from(end.used) };
        let place = BitPlace::resume(out, (out.len() * 8).saturating_sub(unused));
        Self { out, place }
    }

    /// Appends the low `len` bits of `value`, whose other bits are zero; `len` is 1 to 56.
    #[inline]
    pub fn put(&mut self, value: u64, len: u32) {
        let end = self.place.byte() + BitPlace::ROOM;
        if end > self.out.len() {
            self.grow(end + SPARE);
        }
        self.place = self.place.put(self.out, value, len);
    }

    /// Where the next bit goes and the bytes it goes to, at least `room` of them from there on.
    pub fn reserve(&mut self, room: usize) -> (&mut BitPlace, &mut [u8]) {
        let end = self.place.byte() + room;
        if end > self.out.len() {
            self.grow(end);
        }
        (&mut self.place, self.out)
    }

    /// As [`BitWriter::reserve`], of bytes whose number is known when this is compiled, so that a few stores fill them
    /// where others take a call.
    #[inline(always)]
    pub fn reserve_few<const ROOM: usize>(&mut self) -> (&mut BitPlace, &mut [u8]) {
        self.out.extend_from_slice(&[0; ROOM]);
        (&mut self.place, self.out)
    }

    /// Appends the low `len` bits of `value`, whose other bits are zero; `len` is 1 to 64.
    #[inline]
    pub fn put_wide(&mut self, value: u64, len: u32) {
        if len > 56 {
            self.put(value >> 32, len - 32);
            self.put(value & 0xffff_ffff, 32);
        } else {
            self.put(value, len);
        }
    }

    /// Appends a variable-length integer, at any bit.
    pub fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// Appends a zigzag variable-length integer, at any bit.
    pub fn put_varint(&mut self, value: i64) {
        self.put_uvarint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Cuts the vector to what was written, the last byte filled with zeros.
    pub fn finish(self) -> BitEnd {
        let bit = self.place.bit();
        self.out.truncate(bit.div_ceil(8));
        BitEnd { used: (bit % 8) as u8 }
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.out.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_of_any_lengths_come_back(
            fields in prop::collection::vec((any::<u64>(), 1..=64u32), 0..50),
            stop in 0..50usize,
        ) {
            let fields: Vec<_> = fields.into_iter().map(|(value, len)| (value >> (64 - len), len)).collect();
            let (first, second) = fields.split_at(stop.min(fields.len()));
            let mut bytes = vec![7];
            let mut writer = BitWriter::new(&mut bytes);
            first.iter().for_each(|(value, len)| writer.put_wide(*value, *len));
            let end = writer.finish();
            let mut writer = if bytes.len() == 1 { BitWriter::new(&mut bytes) } else { BitWriter::resume(&mut bytes, end) };
            second.iter().for_each(|(value, len)| writer.put_wide(*value, *len));
            writer.finish();
            let mut reader = BitReader::new("test", &bytes, 1);
            for (value, len) in &fields {
                prop_assert_eq!(reader.bits(*len), *value);
            }
            prop_assert!(reader.check().is_ok());
            prop_assert!(reader.remaining() < 8);
        }

        #[test]
        fn room_of_either_kind_is_written_alike(
            fields in prop::collection::vec((any::<u64>(), 1..=56u32), 0..50),
            capacity in 0..100usize,
        ) {
            let (mut few, mut all) = (Vec::with_capacity(capacity), Vec::new());
            let (mut few_end, mut all_end) = (BitEnd::default(), BitEnd::default());
            for (value, len) in fields {
                let value = value >> (64 - len);
                let mut writer = BitWriter::resume(&mut few, few_end);
                let (place, bytes) = writer.reserve_few::<{ BitPlace::ROOM }>();
                *place = place.put(bytes, value, len);
                few_end = writer.finish();
                let mut writer = BitWriter::resume(&mut all, all_end);
                let (place, bytes) = writer.reserve(BitPlace::ROOM);
                *place = place.put(bytes, value, len);
                all_end = writer.finish();
                prop_assert_eq!((few_end, &few), (all_end, &all));
            }
        }

        #[test]
        fn integers_come_back_from_any_bit(skip in 1..8u32, value in any::<i64>()) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            writer.put(1, skip);
            writer.put_varint(value);
            writer.finish();
            let mut reader = BitReader::new("test", &bytes, 0);
            prop_assert_eq!(reader.bits(skip), 1);
            prop_assert_eq!(reader.varint().unwrap(), value);
        }
    }

    #[test]
    fn reading_past_the_end_gives_zeros_and_is_noticed() {
        let mut reader = BitReader::new("xor chunk", &[0xff], 0);
        assert_eq!(reader.bits(12), 0xff0);
        assert_eq!(reader.check().unwrap_err().to_string(), "xor chunk at byte 1: ends in the middle of a sample");
        assert!(reader.uvarint().is_err());
    }
}
