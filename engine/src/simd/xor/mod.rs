//! Samples of XOR chunks into columns.
//!
//! Each chunk is given as its data (with the count in front) and room for as many samples as the
//! count says; see `chunk::xor` for the layout.

/// The specification.
pub mod scalar;

/// Why a chunk cannot be decoded, and the byte of its data at which that was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte of the chunk's data.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl Fault {
    const SHORT: &'static str = "ends before its last sample";
    const VARINT: &'static str = "variable-length integer is too long";
}
