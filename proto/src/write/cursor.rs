//! Protobuf fields read from borrowed bytes by a cursor that knows where in the request it is, so
//! that an error names the offset.

use super::Malformed;
use crate::wire::take_varint;

/// Wire types, the lowest three bits of a field's key.
pub(super) const VARINT: u64 = 0;
pub(super) const FIXED64: u64 = 1;
pub(super) const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// The key of field `number` with wire type `wire`.
pub(super) const fn key(number: u64, wire: u64) -> u64 {
    number << 3 | wire
}

/// What is left of one message within a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Offset in the request of the end of `rest`.
    end: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over a whole request.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: bytes.len() }
    }

    /// Offset in the request of the next byte.
    pub fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Leaves out `len` bytes, which have been looked at; none when fewer are left.
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or(self.rest);
    }

    /// An error at the next byte.
    #[cold]
    pub fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { offset: self.offset(), reason }
    }

    /// The key of the next field; `None` at the end of the message.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    /// A varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        take_varint(&mut self.rest).ok_or_else(|| self.malformed("varint is cut off or too long"))
    }

    /// A varint in zigzag form.
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    /// Eight bytes, little-endian.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.malformed("a number of eight bytes is cut off"));
        };
        self.rest = rest;
        Ok(u64::from_le_bytes(*taken))
    }

    /// A double.
    #[inline]
    pub fn double(&mut self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }

    /// The content of a field with a length before it.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let before = *self;
        let len = self.varint()?;
        let taken = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let Some((taken, rest)) = taken else { return Err(before.malformed("a length goes beyond its message")) };
        self.rest = rest;
        Ok(taken)
    }

    /// A cursor over the message in a field with a length before it.
    #[inline]
    pub fn message(&mut self) -> Result<Self, Malformed> {
        let rest = self.bytes()?;
        Ok(Self { rest, end: self.offset() })
    }

    /// Leaves out the value of a field with this key.
    pub fn skip(&mut self, key: u64) -> Result<(), Malformed> {
        if key >> 3 == 0 {
            return Err(self.malformed("no field has the number 0"));
        }
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => match self.rest.split_at_checked(4) {
                Some((_, rest)) => {
                    self.rest = rest;
                    Ok(())
                }
                None => Err(self.malformed("a number of four bytes is cut off")),
            },
            _ => Err(self.malformed("unknown wire type")),
        }
    }
}

/// The number behind zigzag's alternation of signs.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
