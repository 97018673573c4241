//! Chunks that clients of StoreAPI cannot read become chunks that they can.

use crate::codec::Corrupt;
use crate::model::{FloatColumns, FloatHistogramColumns, HistogramColumns};

use super::{Encoding, float_histogram, histogram, xor, xor2};

/// The chunk `data` in an encoding that every client of StoreAPI reads: `data` itself, or, without
/// its start timestamps, what is put into `out` in place of its content.
pub fn reencode_for_storeapi<'a>(
    encoding: Encoding,
    data: &'a [u8],
    out: &'a mut Vec<u8>,
) -> Result<(Encoding, &'a [u8]), Corrupt> {
    let mut starts = Vec::new();
    out.clear();
    let plain = match encoding {
        Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram | Encoding::Aggr => {
            return Ok((encoding, data));
        }
        Encoding::Xor2 => {
            let mut columns = FloatColumns::default();
            xor2::decode(data, &mut columns, &mut starts)?;
            xor::encode(&columns.timestamps, &columns.values, out);
            Encoding::Xor
        }
        Encoding::HistogramSt => {
            let mut columns = HistogramColumns::default();
            let counter_reset = histogram::decode_with_starts(data, &mut columns, &mut starts)?;
            histogram::encode(&columns, counter_reset, out);
            Encoding::Histogram
        }
        Encoding::FloatHistogramSt => {
            let mut columns = FloatHistogramColumns::default();
            let counter_reset = float_histogram::decode_with_starts(data, &mut columns, &mut starts)?;
            float_histogram::encode(&columns, counter_reset, out);
            Encoding::FloatHistogram
        }
    };
    Ok((plain, out))
}
