//! CRC-32C (Castagnoli), the checksum of chunks, index sections and WAL records.
//!
//! The kernel is crc-fast's, which folds with carry-less multiplication as wide as the machine has
//! and looks up what that is once per process.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
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
            prop_assert_eq!(crc32c(bytes), crc32c_scalar(bytes));
        }
    }
}
