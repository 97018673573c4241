//! Protobuf fields read from borrowed bytes: nothing is copied, nothing is indexed unchecked.

use std::fmt;

/// Bytes that are no message of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The message that was being read.
    pub message: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {}: {}", self.message, self.reason)
    }
}

impl std::error::Error for Malformed {}

/// The value of one field as its wire type gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, little-endian.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5, little-endian.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The integer of a varint field; 0 for another wire type, as an absent field would be.
    pub fn varint(self) -> u64 {
        match self {
            Self::Varint(value) => value,
            _ => 0,
        }
    }

    /// The double of a fixed field; 0 for another wire type.
    pub fn double(self) -> f64 {
        match self {
            Self::Fixed64(bits) => f64::from_bits(bits),
            _ => 0.0,
        }
    }

    /// The bytes of a length-delimited field; empty for another wire type.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// Reads the fields of one message in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `bytes`, a message called `message`.
    pub fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    /// An error in this message.
    pub fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { message: self.message, reason }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.malformed("field number above 2^32"))?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| self.malformed("length above the address space"))?;
                Value::Bytes(self.split(len)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(self.malformed("unknown wire type")),
        };
        Ok(Some((number, value)))
    }

    /// The text of a string field.
    #[inline]
    pub fn text(&self, value: Value<'a>) -> Result<&'a str, Malformed> {
        std::str::from_utf8(value.bytes()).map_err(|_| self.malformed("string is not UTF-8"))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        take_varint(&mut self.rest).ok_or_else(|| self.malformed("varint is cut off or too long"))
    }

    #[inline]
    fn split(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.malformed("field is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.malformed("field is cut off"))?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// The varint at the start of `bytes` and what follows it; `None` when it is cut off or longer than
/// ten bytes. Bits above the 64th are dropped, as upstream's decoders do.
pub fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * at as u32);
        if *byte < 0x80 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Takes the varint at the start of `bytes`; `None`, with nothing taken, as [`split_varint`].
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let whole = *bytes;
    let (value, rest) = match whole {
        [byte, rest @ ..] if *byte < 0x80 => (u64::from(*byte), rest),
        // Of two bytes, as the length of a series is.
        [low, high @ 0..0x80, rest @ ..] => (u64::from(*low & 0x7f) | u64::from(*high) << 7, rest),
        _ => split_varint(whole)?,
    };
    *bytes = rest;
    Some(value)
}

/// Appends `value` as a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of the longest varint.
pub(crate) const VARINT_LEN_MAX: usize = 10;

/// The varint of `value` and its length, without a loop.
#[inline]
pub(crate) fn varint(value: u64) -> ([u8; VARINT_LEN_MAX], usize) {
    let len = varint_len(value);
    // Groups of seven bits, a byte each; those beyond eight bytes follow.
    let bits = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let bits = bits & 0x0000_3fff_0000_3fff | (bits & 0x0fff_c000_0fff_c000) << 2;
    let bits = bits & 0x007f_007f_007f_007f | (bits & 0x3f80_3f80_3f80_3f80) << 1;
    let more = |at: usize| u64::from(len > at) << 7;
    let continued = 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (len - 1).min(7)));
    let mut bytes = [0; VARINT_LEN_MAX];
    bytes[..8].copy_from_slice(&(bits | continued | more(8) << 56).to_le_bytes());
    bytes[8] = (value >> 56 & 0x7f | more(9)) as u8;
    bytes[9] = (value >> 63) as u8;
    (bytes, len)
}

/// Bytes that [`put_varint`] appends.
#[inline]
pub fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// The keys of a label's name and value.
pub(crate) const NAME: u8 = 0x0a;
pub(crate) const VALUE: u8 = 0x12;

/// Bytes of a message or text with its length before it.
#[inline]
pub(crate) fn field_len(content: &[u8]) -> usize {
    varint_len(content.len() as u64) + content.len()
}

/// A `Label` as every sender writes it: name, value, and lengths that take no byte too many.
#[inline]
pub(crate) fn plain_label(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = plain_text(NAME, message)?;
    let (value, []) = plain_text(VALUE, rest)? else { return None };
    Some((name, value))
}

/// The text of the field with this key at the start of `bytes`, and what comes after it.
#[inline]
fn plain_text(key: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [found, len @ 0..0x80, rest @ ..] if *found == key => rest.split_at_checked(usize::from(*len)),
        [found, rest @ ..] if *found == key => {
            let (len, behind) = split_varint(rest)?;
            let (text, behind) = behind.split_at_checked(usize::try_from(len).ok()?)?;
            (rest.len() - behind.len() == field_len(text)).then_some((text, behind))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [0, 1u64 << shift, u64::MAX >> shift, 0xb5a5_93c3_e7d1_8f2b >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_len(value));
                let (at_once, len) = varint(value);
                assert_eq!(at_once[..len], bytes, "{value:#x}");
                assert_eq!(split_varint(&bytes), Some((value, &[][..])));
            }
        }
    }

    #[test]
    fn a_varint_is_taken_as_it_is_split_off() {
        let longest = [&[0xff; 9][..], &[0x01, 7]].concat();
        let short = [&[0x05, 7][..], &[0x80, 0x00], &[0xac, 0x02, 7], &[0xff, 0x7f], &[0x80, 0x80, 0x01]];
        for bytes in short.into_iter().chain([&longest[..], &[0xff; 12]]) {
            for cut in 0..=bytes.len() {
                let mut rest = &bytes[..cut];
                let split = split_varint(rest);
                let behind = split.map_or(rest, |(_, behind)| behind);
                assert_eq!(take_varint(&mut rest), split.map(|(value, _)| value), "{:?}", &bytes[..cut]);
                assert_eq!(rest, behind, "{:?}", &bytes[..cut]);
            }
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error_or_ends_at_a_field() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x03, b'a', b'b', b'c', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        let field_ends = [0, 3, 8, 17, 22];
        for cut in 0..=bytes.len() {
            let mut fields = Fields::new("test", &bytes[..cut]);
            let outcome = loop {
                match fields.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            assert_eq!(outcome, field_ends.contains(&cut), "{cut}");
        }
    }
}
