//! Ids: a block's ULID, and the places of series and chunks within their block.

use std::fmt;
use std::str::FromStr;

use super::error::Error;

/// Crockford's base 32, the alphabet of ULIDs.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A block's ULID: 48 bits of Unix milliseconds, 80 random bits; written as 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u128);

impl BlockId {
    /// A ULID of `time_ms` (Unix milliseconds) and the low 80 bits of `entropy`.
    pub fn from_parts(time_ms: u64, entropy: u128) -> Self {
        Self((u128::from(time_ms) << 80) | (entropy & ((1 << 80) - 1)))
    }

    /// Unix milliseconds at which the id was made.
    pub fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl FromStr for BlockId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("{text:?} is not a ULID of 26 characters"));
        if text.len() != 26 {
            return Err(bad());
        }
        let mut value = 0u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_uppercase()).ok_or_else(bad)?;
            if at == 0 && digit > 7 {
                return Err(bad());
            }
            value = (value << 5) | digit as u128;
        }
        Ok(Self(value))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in (0..26).rev() {
            let digit = ((self.0 >> (5 * at)) & 31) as usize;
            write!(f, "{}", char::from(ALPHABET[digit]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In JSON, the 26 characters.
impl serde::Serialize for BlockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BlockId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A reference to a series within one index: for TSDB index v2 the byte offset divided by 16, for
/// v1 the byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeriesRef(pub u64);

/// A reference to a chunk within one block: the number of its segment file, counted from 0, in the
/// upper 32 bits, the byte in it at which the chunk starts in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkRef(pub u64);

impl ChunkRef {
    /// The chunk that starts at byte `offset` of segment `segment` (0 is the file `000001`).
    pub fn new(segment: u32, offset: u32) -> Self {
        Self((u64::from(segment) << 32) | u64::from(offset))
    }

    /// The segment file, counted from 0.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The byte of the segment file at which the chunk starts.
    pub fn offset(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_is_printed_as_it_was_parsed() {
        let text = "01M7YFY7H37F9ZH8ZQ1CX44W25";
        let id: BlockId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(BlockId::from_parts(id.time_ms(), id.0), id);
    }

    #[test]
    fn what_is_not_a_ulid_is_refused() {
        for text in ["", "01M7YFY7H37F9ZH8ZQ1CX44W2", "81M7YFY7H37F9ZH8ZQ1CX44W25", "01M7YFY7H37F9ZH8ZQ1CX44WI5"] {
            assert!(text.parse::<BlockId>().is_err(), "{text}");
        }
    }
}
