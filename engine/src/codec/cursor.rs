//! A cursor over bytes that never reads past their end.

use super::corrupt::Corrupt;
use super::varint;

/// Reads forward through `bytes`; every failure says which part it was reading and at which byte of
/// the file.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
    base: u64,
}

impl<'a> Cursor<'a> {
    /// A cursor over `bytes`, a part called `what` that starts at byte `base` of its file.
    pub fn new(what: &'static str, bytes: &'a [u8], base: u64) -> Self {
        Self { what, bytes, at: 0, base }
    }

    /// The byte of the file that is read next.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the byte that is read next.
    pub fn corrupt(&self, reason: impl Into<String>) -> Corrupt {
        Corrupt::new(self.what, self.offset(), reason)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let Some(found) = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)) else {
            return Err(self.corrupt(format!("{len} bytes wanted, {} left", self.remaining())));
        };
        self.at += len;
        Ok(found)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Corrupt> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes, big-endian.
    pub fn u16_be(&mut self) -> Result<u16, Corrupt> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// The next four bytes, big-endian.
    pub fn u32_be(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The next eight bytes, big-endian.
    pub fn u64_be(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// The next four bytes, little-endian.
    pub fn u32_le(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes, little-endian.
    pub fn u64_le(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next variable-length integer.
    #[inline(always)]
    pub fn uvarint(&mut self) -> Result<u64, Corrupt> {
        let (value, len) = varint::decode_u64(&self.bytes[self.at..]).ok_or_else(|| self.no_varint())?;
        self.at += len;
        Ok(value)
    }

    /// The next zigzag variable-length integer.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<i64, Corrupt> {
        let (value, len) = varint::decode_i64(&self.bytes[self.at..]).ok_or_else(|| self.no_varint())?;
        self.at += len;
        Ok(value)
    }

    #[cold]
    fn no_varint(&self) -> Corrupt {
        self.corrupt("variable-length integer is cut off or too long")
    }

    /// The next variable-length integer as a number of things of at least one byte each, so that no
    /// more can follow than bytes are left.
    pub fn count(&mut self) -> Result<usize, Corrupt> {
        let value = self.uvarint()?;
        if value > self.remaining() as u64 {
            return Err(self.corrupt(format!("{value} entries announced, {} bytes left", self.remaining())));
        }
        Ok(value as usize)
    }

    /// The next string: a variable-length integer and as many bytes of UTF-8.
    pub fn string(&mut self) -> Result<&'a str, Corrupt> {
        let len = self.count()?;
        let bytes = self.bytes(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.corrupt("string is not UTF-8"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let bytes = self.bytes(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_names_the_part_and_the_byte() {
        let mut cursor = Cursor::new("toc", &[0, 0, 0, 1, 9], 100);
        assert_eq!(cursor.u32_be().unwrap(), 1);
        let error = cursor.u32_be().unwrap_err();
        assert_eq!(error.to_string(), "toc at byte 104: 4 bytes wanted, 1 left");
    }
}
