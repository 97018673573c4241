//! The answer to remote read as samples, packed piece by piece as series come: what waits is packed, and
//! accounted for.
//!
//! ```text
//! ReadResponse   results(1) len QueryResult | results(1) len QueryResult | …
//! QueryResult    timeseries(1) len TimeSeries | timeseries(1) len TimeSeries | …
//! packed         length of all (uvarint) | elements of piece 0 | elements of piece 1 | …
//! pieces         head of result 0 | its series, cut | head of result 1 | its series, cut | …
//! ```
//! The elements of a piece are what snappy makes of it alone, without its own length: copies reach back
//! within their piece only, as snappy itself cuts its input. So a head, which says how long its result is,
//! can be packed when that is known.

use std::sync::Arc;

use engine::model::{Budget, Error, ErrorKind, Reservation};
use prost::encoding::{self, WireType};
use proto::prometheus_copy::TimeSeries;

/// Most bytes that snappy packs by themselves.
const PIECE_BYTES: usize = 64 << 10;

/// Most bytes of the length before all pieces.
const LENGTH_BYTES: usize = 10;

/// `ReadResponse.results` and `QueryResult.timeseries` alike.
const FIELD: u32 = 1;

/// What queries are answered with, as it goes over the wire.
#[derive(Debug)]
pub struct Results {
    /// Elements of each piece.
    pieces: Vec<Vec<u8>>,
    /// Bytes of all results that are finished, before they were packed.
    plain_bytes: usize,
    /// Where the pieces of the one that is not begin, and its bytes before they were packed.
    open: (usize, usize),
    /// Its last series, less than a piece.
    rest: Vec<u8>,
    encoder: snap::raw::Encoder,
    room: Vec<u8>,
    /// What the pieces and the rest take.
    held: Reservation,
}

impl Results {
    /// No answer yet; what is gathered is held of `memory`.
    pub fn new(memory: &Arc<Budget>) -> Result<Self, Error> {
        Ok(Self {
            pieces: Vec::new(),
            plain_bytes: 0,
            open: (0, 0),
            rest: Vec::new(),
            encoder: snap::raw::Encoder::new(),
            room: vec![0; snap::raw::max_compress_len(PIECE_BYTES)],
            held: memory.reserve(0)?,
        })
    }

    /// Appends a series to the answer of the current query. Limit, named, when there is no memory for it.
    pub fn push(&mut self, series: &TimeSeries) -> Result<(), Error> {
        let bytes = encoding::message::encoded_len(FIELD, series);
        self.held.grow(bytes as u64)?;
        self.open.1 += bytes;
        self.rest.reserve(bytes);
        encoding::message::encode(FIELD, series, &mut self.rest);
        if self.rest.len() < PIECE_BYTES {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.rest);
        let (whole, rest) = plain.split_at(plain.len() - plain.len() % PIECE_BYTES);
        for piece in whole.chunks(PIECE_BYTES) {
            let elements = self.elements(piece)?;
            self.pieces.push(elements);
        }
        self.rest = rest.to_vec();
        self.held.shrink(whole.len() as u64);
        Ok(())
    }

    /// Ends the answer of the current query.
    pub fn finish(&mut self) -> Result<(), Error> {
        let (begin, bytes) = self.open;
        let rest = std::mem::take(&mut self.rest);
        let elements = self.elements(&rest)?;
        self.pieces.push(elements);
        self.held.shrink(rest.len() as u64);
        let mut head = Vec::new();
        encoding::encode_key(FIELD, WireType::LengthDelimited, &mut head);
        encoding::encode_varint(bytes as u64, &mut head);
        let elements = self.elements(&head)?;
        self.pieces.insert(begin, elements);
        self.plain_bytes += head.len() + bytes;
        self.open = (self.pieces.len(), 0);
        Ok(())
    }

    /// All answers as one block of snappy.
    pub fn into_block(mut self) -> Result<Vec<u8>, Error> {
        let bytes = LENGTH_BYTES + self.pieces.iter().map(Vec::len).sum::<usize>();
        self.held.grow(bytes as u64)?;
        let mut block = Vec::with_capacity(bytes);
        encoding::encode_varint(self.plain_bytes as u64, &mut block);
        self.pieces.into_iter().for_each(|piece| block.extend_from_slice(&piece));
        Ok(block)
    }

    /// What snappy makes of `piece`, accounted for.
    fn elements(&mut self, piece: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |error: snap::Error| Error::new(ErrorKind::Bug, format!("packing samples: {error}"));
        let len = self.encoder.compress(piece, &mut self.room).map_err(failed)?;
        let elements = &self.room[encoding::encoded_len_varint(piece.len() as u64)..len];
        self.held.grow((elements.len() + size_of::<Vec<u8>>()) as u64)?;
        Ok(elements.to_vec())
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
    fn what_is_packed_in_pieces_is_the_same_message_in_hardly_more_bytes() {
        for counts in [&[&[][..]][..], &[&[0]], &[&[1, 2], &[], &[20_000, 3]], &[&[9_000]], &[&[2_000; 40], &[5]]] {
            let mut results = Results::new(&Budget::new("query.memory-limit", 64 << 20)).unwrap();
            for counts in counts {
                counts.iter().for_each(|count| results.push(&series(*count)).unwrap());
                results.finish().unwrap();
            }
            let result = |counts: &&[i64]| QueryResult { timeseries: counts.iter().copied().map(series).collect() };
            let expected = ReadResponse { results: counts.iter().map(result).collect() };
            let packed = results.into_block().unwrap();
            let plain = snap::raw::Decoder::new().decompress_vec(&packed).unwrap();
            assert_eq!(ReadResponse::decode(plain.as_slice()).unwrap(), expected);
            let at_once = snap::raw::Encoder::new().compress_vec(&plain).unwrap().len();
            assert!(packed.len() <= at_once + at_once / 20 + 64, "{} {at_once}", packed.len());
        }
    }

    #[test]
    fn what_is_gathered_is_held_and_ends_with_the_name_of_the_limit() {
        let memory = Budget::new("query.memory-limit", 256 << 10);
        let mut results = Results::new(&memory).unwrap();
        results.push(&series(1000)).unwrap();
        let open = memory.usage().used;
        assert!(open > 9_000, "{open} bytes of a series that is not packed yet");
        results.finish().unwrap();
        let packed = memory.usage().used;
        assert!(packed > 0 && packed < open, "{packed} of {open}");
        let refused = (0..1000).find_map(|_| results.push(&series(5000)).err()).expect("no memory for all of them");
        assert_eq!(refused.kind(), ErrorKind::Limit);
        assert!(refused.message().starts_with("query.memory-limit: "), "{refused}");
        drop(results);
        assert_eq!(memory.usage().used, 0);
    }
}
