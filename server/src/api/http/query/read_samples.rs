//! The answer to remote read as samples, written as series come and packed piece by piece.
//!
//! ```text
//! ReadResponse   results(1) len QueryResult | results(1) len QueryResult | …
//! QueryResult    timeseries(1) len TimeSeries | timeseries(1) len TimeSeries | …
//! packed         length of all (uvarint) | elements of piece 0 | elements of piece 1 | …
//! ```
//! The elements of a piece are what snappy makes of it alone, without its own length: copies reach back
//! within their piece only, as snappy itself cuts its input.

use engine::model::{Error, ErrorKind};
use engine::promql::budget::Patience;
use prost::encoding::{self, WireType};
use proto::prometheus_copy::TimeSeries;

/// Bytes that snappy packs by themselves.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that are packed between two looks at the caller.
const PIECES_UNWATCHED: usize = 64;

/// `ReadResponse.results` and `QueryResult.timeseries` alike.
const FIELD: u32 = 1;

/// What queries are answered with, as it goes over the wire.
#[derive(Debug, Default)]
pub struct Results {
    /// All results that are finished.
    plain: Vec<u8>,
    /// Series of the one that is not.
    open: Vec<u8>,
}

impl Results {
    /// Appends a series to the answer of the current query.
    pub fn push(&mut self, series: &TimeSeries) {
        encoding::message::encode(FIELD, series, &mut self.open);
    }

    /// Ends the answer of the current query.
    pub fn finish(&mut self) {
        encoding::encode_key(FIELD, WireType::LengthDelimited, &mut self.plain);
        encoding::encode_varint(self.open.len() as u64, &mut self.plain);
        self.plain.append(&mut self.open);
    }

    /// All answers as one block of snappy. Canceled when the caller has gone meanwhile.
    pub fn pack(&self, patience: &Patience) -> Result<Vec<u8>, Error> {
        let failed = |error: snap::Error| Error::new(ErrorKind::Bug, format!("packing samples: {error}"));
        let mut packed = Vec::with_capacity(self.plain.len() / 2);
        encoding::encode_varint(self.plain.len() as u64, &mut packed);
        let mut encoder = snap::raw::Encoder::new();
        let mut room = vec![0; snap::raw::max_compress_len(PIECE_BYTES)];
        for (at, piece) in self.plain.chunks(PIECE_BYTES).enumerate() {
            if at.is_multiple_of(PIECES_UNWATCHED) {
                patience.check()?;
            }
            let len = encoder.compress(piece, &mut room).map_err(failed)?;
            packed.extend_from_slice(&room[encoding::encoded_len_varint(piece.len() as u64)..len]);
        }
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::prometheus_copy::{QueryResult, ReadResponse, Sample};

    use super::*;

    fn series(samples: i64) -> TimeSeries {
        let samples = (0..samples).map(|at| Sample { value: (at % 7) as f64, timestamp: at * 1000 }).collect();
        TimeSeries { samples, ..TimeSeries::default() }
    }

    #[test]
    fn what_is_packed_in_pieces_is_the_same_message_in_as_many_bytes() {
        for counts in [&[&[][..]][..], &[&[0]], &[&[1, 2], &[], &[20_000, 3]], &[&[9_000]]] {
            let mut results = Results::default();
            for counts in counts {
                counts.iter().for_each(|count| results.push(&series(*count)));
                results.finish();
            }
            let result = |counts: &&[i64]| QueryResult { timeseries: counts.iter().copied().map(series).collect() };
            let expected = ReadResponse { results: counts.iter().map(result).collect() };
            let packed = results.pack(&Patience::default()).unwrap();
            let plain = snap::raw::Decoder::new().decompress_vec(&packed).unwrap();
            assert_eq!(ReadResponse::decode(plain.as_slice()).unwrap(), expected);
            assert_eq!(packed.len(), snap::raw::Encoder::new().compress_vec(&plain).unwrap().len());
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_packed() {
        let mut results = Results::default();
        results.push(&series(10));
        results.finish();
        let patience = Patience::default();
        patience.canceled.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(results.pack(&patience).unwrap_err().kind(), ErrorKind::Canceled);
    }
}
