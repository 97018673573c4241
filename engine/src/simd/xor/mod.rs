//! Samples of XOR chunks into columns, many chunks at once.
//!
//! Each chunk is given as its data, with the count in front; see `chunk::xor` for the layout. With
//! AVX-512 or AVX2 sixteen chunks of about one length are decoded side by side, a lane each.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
#[cfg(target_arch = "x86_64")]
mod lanes;
/// The specification.
pub mod scalar;

pub use batch::Batch;

use super::Isa;

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
    const HEADER: &'static str = "too short for a count";
    const COUNT: &'static str = "announces more samples than its bytes can hold";
}

/// Bytes of the count in front of the samples.
pub const HEADER_LEN: usize = 2;
/// The shortest first sample ends here: a count, a timestamp and a value.
const FIRST_SAMPLE_END_MIN: usize = HEADER_LEN + 1 + 8;
/// The shortest sample takes two bits.
const SAMPLES_PER_BYTE_MAX: usize = 4;

/// Number of samples that the header of `data` announces, checked against what can be there.
pub fn count(data: &[u8]) -> Result<usize, Fault> {
    let Some(header) = data.first_chunk::<HEADER_LEN>() else {
        return Err(Fault { offset: 0, reason: Fault::HEADER });
    };
    let count = usize::from(u16::from_be_bytes(*header));
    let most = match data.len().checked_sub(FIRST_SAMPLE_END_MIN) {
        Some(rest) => 1 + rest * SAMPLES_PER_BYTE_MAX,
        None => 0,
    };
    if count > most { Err(Fault { offset: 0, reason: Fault::COUNT }) } else { Ok(count) }
}

/// Decodes `chunks` into `batch`, whose samples are replaced. An error names the chunk by its place;
/// what the batch holds then is of no use.
pub fn decode_batch(isa: Isa, chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Fault)> {
    batch.prepare(chunks)?;
    match isa {
        // SAFETY: `Isa::Avx512` is only made by `detect`, which found these features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::decode(chunks, batch) },
        // SAFETY: as above, for `Isa::Avx2`.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::decode(chunks, batch) },
        _ => scalar::decode_batch(chunks, batch),
    }
}
