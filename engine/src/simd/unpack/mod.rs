//! Integers of a fixed number of bits, packed least significant bit first without gaps.
//!
//! ```text
//! byte   0               1               2
//! bit    0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7 0 …
//! w = 5  a a a a a b b b b b c c c c c d d …      then SLACK bytes that belong to no integer
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// Bytes that must follow the last integer, so that every integer can be read as part of eight
/// bytes.
pub const SLACK: usize = 8;

/// Widest integer of [`unpack`], in bits.
pub const WIDTH_MAX: u32 = 32;

/// Bytes that `len` integers of `width` bits occupy, slack not counted.
pub fn packed_len(width: u32, len: usize) -> usize {
    (width as usize * len).div_ceil(8)
}

/// Writes the integers number `first` and following of `packed` to all of `out`.
///
/// # Panics
/// When `width` is over [`WIDTH_MAX`], or `packed` ends less than [`SLACK`] bytes after the last
/// integer that is wanted.
pub fn unpack(isa: Isa, packed: &[u8], width: u32, first: usize, out: &mut [u32]) {
    assert!(width <= WIDTH_MAX, "an integer of {width} bits doesn't fit into 32");
    let needed = packed_len(width, first + out.len()) + SLACK;
    assert!(width == 0 || packed.len() >= needed, "{needed} packed bytes are needed, {} given", packed.len());
    if width == 0 {
        return out.fill(0);
    }
    // The kernels rely on the length that was checked above.
    dispatch!(isa, unpack(packed, width, first, out));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    proptest! {
        #[test]
        fn every_isa_unpacks_what_was_packed(
            raw in prop::collection::vec(any::<u32>(), 0..100),
            width in 0..=WIDTH_MAX,
            skip in 0..20usize,
        ) {
            let mask = ((1u64 << width) - 1) as u32;
            let values: Vec<u32> = raw.iter().map(|value| value & mask).collect();
            let mut packed = vec![0u8; packed_len(width, values.len()) + SLACK];
            for (at, value) in values.iter().enumerate() {
                for bit in 0..width as usize {
                    let position = at * width as usize + bit;
                    packed[position / 8] |= ((value >> bit & 1) as u8) << (position % 8);
                }
            }
            let wanted = &values[skip.min(values.len())..];
            for isa in isas() {
                let mut out = vec![u32::MAX; wanted.len()];
                unpack(isa, &packed, width, values.len() - wanted.len(), &mut out);
                prop_assert_eq!(&out[..], wanted, "{:?}", isa);
            }
        }
    }
}
