//! CRC-32C (Castagnoli), the checksum of chunks, index sections and WAL records.
//!
//! The kernel is crc-fast's, which folds with carry-less multiplication as wide as the machine has
//! and looks up what that is once per process. Without AVX-512 it takes long to begin with more than 256 bytes,
//! as most chunks have, so that those have a kernel of their own.

#[cfg(target_arch = "x86_64")]
mod avx2;

use crc_fast::{CrcAlgorithm, Digest};

use super::Isa;

/// Bytes for which crc-fast is slower than [`avx2`] by a third or more where there is no AVX-512.
#[cfg(target_arch = "x86_64")]
const CHUNK_LIKE: std::ops::RangeInclusive<usize> = 257..=4096;

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_on(super::isa(), bytes)
}

/// The same on `isa`, which [`super::isa`] or [`super::isas`] gave.
pub fn crc32c_on(isa: Isa, bytes: &[u8]) -> u32 {
    match isa {
        // SAFETY: `Isa::Avx2` is only made by `detect`, which found the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if CHUNK_LIKE.contains(&bytes.len()) => unsafe { avx2::crc32c(bytes) },
        _ => crc_fast::crc32_iscsi(bytes),
    }
}

/// The CRC-32C of what has the checksum `before`, followed by `bytes`.
pub fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

/// As [`crc32c`], bit by bit: the specification.
pub fn crc32c_scalar(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let fold = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), fold))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    #[test]
    fn blocks_of_any_length_have_the_checksum_of_the_specification_on_every_isa() {
        let bytes: Vec<u8> = (0..5000u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        for len in (0..300).chain((300..5000).step_by(37)) {
            let expected = crc32c_scalar(&bytes[..len]);
            for isa in isas() {
                assert_eq!(crc32c_on(isa, &bytes[..len]), expected, "{isa:?}, {len} bytes");
            }
        }
    }

    #[test]
    fn the_check_value_of_the_catalogue_is_met() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_scalar(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn a_checksum_goes_on_where_the_one_before_ended(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc32c_append(crc32c(head), tail), crc32c(&bytes));
        }
    }

    proptest! {
        #[test]
        fn the_fast_kernel_gives_what_the_specification_gives(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            skip in 0..16usize,
        ) {
            let bytes = &bytes[skip.min(bytes.len())..];
            for isa in isas() {
                prop_assert_eq!(crc32c_on(isa, bytes), crc32c_scalar(bytes));
            }
        }
    }
}
