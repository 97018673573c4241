//! Float samples: timestamps as differences of differences, values xored with the one before.
//!
//! ```text
//! count u16 BE │ t0 varint │ v0 f64 BE │ t1-t0 uvarint │ v1 value │ dod2 time │ v2 value │ … │ 0 to 7 zeros
//!
//! time   0                      the same difference as before
//!        10    14 bits          -8191 to 8192        two's complement, except that the smallest
//!        110   17 bits          -65535 to 65536      number stands for the one above the largest
//!        1110  20 bits          -524287 to 524288
//!        1111  64 bits
//! value  0                      the same value as before
//!        10    payload          as wide and as far from the right as the last payload
//!        11    zeros:5 width:6 payload    zeros before it (at most 31), its width (0 for 64)
//! ```

mod append;
mod encode;
mod tail;

pub use append::Appender;
pub use encode::encode;
pub use kernel::{Batch, HEADER_LEN};
pub use tail::{Tail, TailState};

use crate::codec::Corrupt;
use crate::model::FloatColumns;
use crate::simd;
use crate::simd::xor::{self as kernel, Fault};

/// Samples that a chunk can hold.
pub const SAMPLES_MAX: usize = u16::MAX as usize;

/// Number of samples that the header of `data` announces, checked against what can be there.
pub fn count(data: &[u8]) -> Result<usize, Corrupt> {
    kernel::count(data).map_err(corrupt)
}

/// Decodes `chunks` into `batch`, whose samples are replaced, with the widest instructions that the
/// machine has. Batches of 64 to 256 chunks stay in the caches. An error names the chunk by its
/// place; what the batch holds then is of no use.
pub fn decode_batch(chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Corrupt)> {
    kernel::decode_batch(simd::isa(), chunks, batch).map_err(|(at, fault)| (at, corrupt(fault)))
}

/// Appends the samples of the chunk `data` to `columns`; on an error nothing is appended.
pub fn decode(data: &[u8], columns: &mut FloatColumns) -> Result<(), Corrupt> {
    let count = count(data)?;
    let start = columns.len();
    columns.timestamps.resize(start + count, 0);
    columns.values.resize(start + count, 0.0);
    kernel::scalar::decode(data, &mut columns.timestamps[start..], &mut columns.values[start..]).map_err(|fault| {
        columns.timestamps.truncate(start);
        columns.values.truncate(start);
        corrupt(fault)
    })
}

fn corrupt(fault: Fault) -> Corrupt {
    Corrupt::new("XOR chunk", fault.offset as u64, fault.reason)
}

#[cfg(test)]
mod tests;
