//! CRC-32C (Castagnoli), the checksum of chunks, index sections and WAL records.
//!
//! The kernel is crc-fast's, which folds with carry-less multiplication as wide as the machine has
//! and looks up what that is once per process.

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
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
        fn the_fast_kernel_gives_what_the_specification_gives(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            skip in 0..16usize,
        ) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(crc32c(bytes), crc32c_scalar(bytes));
        }
    }
}
