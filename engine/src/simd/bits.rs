//! Bits that are written one group after the other, most significant first, and integers read in groups of seven.

/// Where the next bit of a slice goes, and the bits before it that do not fill a byte yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct BitPlace {
    /// The byte that holds the first pending bit.
    at: usize,
    /// Pending bits, left-aligned; fewer than eight.
    pending: u64,
    pending_len: u32,
}

impl BitPlace {
    /// Bytes that must follow the byte of the first pending bit.
    pub const ROOM: usize = 8;

    /// The bit number `bit` of `bytes`, which hold those before it.
    #[inline(always)]
    pub fn resume(bytes: &[u8], bit: usize) -> Self {
        let pending_len = (bit % 8) as u32;
        let last = bytes.get(bit / 8).copied().unwrap_or(0);
        Self { at: bit / 8, pending: u64::from(last & !(0xff >> pending_len)) << 56, pending_len }
    }

    /// Number of the next bit.
    pub fn bit(self) -> usize {
        self.at * 8 + self.pending_len as usize
    }

    /// The byte that holds the next bit.
    pub fn byte(self) -> usize {
        self.at
    }

    /// Writes the low `len` bits of `value`, whose other bits are zero, to `out`; `len` is 1 to 56.
    /// Gives the place behind them. Without [`BitPlace::ROOM`] bytes nothing is written.
    #[inline(always)]
    #[must_use]
    pub fn put(self, out: &mut [u8], value: u64, len: u32) -> Self {
        debug_assert!((1..=56).contains(&len) && value >> len == 0, "{value:#x} does not fit into {len} of 56 bits");
        let pending = self.pending | value << (64 - self.pending_len - len);
        if let Some(slot) = out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *slot = pending.to_be_bytes();
        }
        let total = self.pending_len + len;
        Self { at: self.at + (total / 8) as usize, pending: pending << (total & !7), pending_len: total % 8 }
    }

    /// As [`BitPlace::put`], of 1 to 64 bits.
    #[inline(always)]
    #[must_use]
    pub fn put_wide(self, out: &mut [u8], value: u64, len: u32) -> Self {
        if len > 56 {
            return self.put(out, value >> 32, len - 32).put(out, value & 0xffff_ffff, 32);
        }
        self.put(out, value, len)
    }
}

/// Longest variable-length integer of 64 bits, in bytes.
pub const VARINT_LEN_MAX: usize = 10;

/// The variable-length integer at the start of `bytes` and its length; `None` when it is cut off, or longer than
/// 64 bits, which takes [`VARINT_LEN_MAX`] bytes to tell.
#[inline(always)]
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    match short_varint(bytes) {
        None => long_varint(bytes),
        found => found,
    }
}

/// The same of more than eight bytes, or with fewer behind its start.
#[cold]
fn long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(VARINT_LEN_MAX).enumerate() {
        if at == VARINT_LEN_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// The same of at most eight bytes, of which eight are there.
#[inline(always)]
fn short_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    const ENDS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let ends = !word & ENDS;
    if ends == 0 {
        return None;
    }
    let end = ends & ends.wrapping_neg();
    // Groups of seven bits, next to each other.
    let bits = word & (end - 1) & !ENDS;
    let bits = bits & 0x007f_007f_007f_007f | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
    let bits = bits & 0x0000_3fff_0000_3fff | (bits & 0x3fff_0000_3fff_0000) >> 2;
    let bits = bits & 0x0000_0000_0fff_ffff | (bits & 0x0fff_ffff_0000_0000) >> 4;
    Some((bits, end.trailing_zeros() as usize / 8 + 1))
}
