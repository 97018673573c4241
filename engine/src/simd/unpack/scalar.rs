//! The specification: each integer is cut out of the eight bytes that it starts in.

use super::SLACK;

/// Writes the integers number `first` and following of `packed` to all of `out`.
pub fn unpack(packed: &[u8], width: u32, first: usize, out: &mut [u32]) {
    let mask = (1u64 << width) - 1;
    let mut bit = first * width as usize;
    for value in out {
        let at = bit / 8;
        let mut bytes = [0; SLACK];
        bytes.copy_from_slice(&packed[at..at + SLACK]);
        *value = (u64::from_le_bytes(bytes) >> (bit % 8) & mask) as u32;
        bit += width as usize;
    }
}
