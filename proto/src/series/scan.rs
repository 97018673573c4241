//! The reader of frames: views that borrow the frame's bytes.

use super::encode::{AggrPart, ChunkKind};
use crate::wire::{Fields, Malformed, plain_label};

/// One frame's message, borrowed.
#[derive(Clone, Debug)]
pub enum ResponseView<'a> {
    /// One series.
    Series(SeriesView<'a>),
    /// Several series.
    Batch(BatchView<'a>),
    /// A warning: a part of the answer is missing.
    Warning(&'a str),
    /// Hints: an encoded `google.protobuf.Any`.
    Hints(&'a [u8]),
    /// A frame of a kind that is not known here.
    Unknown,
}

/// Reads the message of one frame, without its gRPC prefix.
pub fn scan(message: &[u8]) -> Result<ResponseView<'_>, Malformed> {
    let mut fields = Fields::new("SeriesResponse", message);
    let mut found = ResponseView::Unknown;
    while let Some((number, value)) = fields.next()? {
        found = match number {
            1 => ResponseView::Series(SeriesView { message: value.bytes() }),
            2 => ResponseView::Warning(fields.text(value)?),
            3 => ResponseView::Hints(value.bytes()),
            4 => ResponseView::Batch(BatchView { fields: Fields::new("SeriesBatch", value.bytes()) }),
            _ => continue,
        };
    }
    Ok(found)
}

/// The series of a batch, one after the other.
#[derive(Clone, Debug)]
pub struct BatchView<'a> {
    fields: Fields<'a>,
}

impl<'a> Iterator for BatchView<'a> {
    type Item = Result<SeriesView<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fields.next() {
                Ok(Some((1, value))) => return Some(Ok(SeriesView { message: value.bytes() })),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// One series, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'a> {
    message: &'a [u8],
}

impl<'a> SeriesView<'a> {
    /// Reads the series in one pass: the name and value of each label to `label`, each chunk set to `chunk`, in
    /// order. Whether labels are UTF-8 is left to who takes them.
    pub fn read(
        self,
        mut label: impl FnMut(&'a [u8], &'a [u8]),
        mut chunk: impl FnMut(AggrChunkView<'a>),
    ) -> Result<(), Malformed> {
        let mut fields = Fields::new("Series", self.message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => {
                    let (name, text) = read_label(value.bytes())?;
                    label(name, text);
                }
                2 => chunk(AggrChunkView::read(value.bytes())?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The name and value of an encoded `Label`.
fn read_label(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if let Some(plain) = plain_label(message) {
        return Ok(plain);
    }
    let mut fields = Fields::new("Label", message);
    let (mut name, mut text): (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.bytes(),
            2 => text = value.bytes(),
            _ => {}
        }
    }
    Ok((name, text))
}

/// The chunks of one range of time, borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AggrChunkView<'a> {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    parts: [Option<ChunkView<'a>>; 6],
}

impl<'a> AggrChunkView<'a> {
    /// The chunk of `part`; `None` when it was not sent.
    pub fn part(&self, part: AggrPart) -> Option<ChunkView<'a>> {
        self.parts[part as usize - AggrPart::Raw as usize]
    }

    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new("AggrChunk", message);
        let mut set = Self::default();
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => set.min_time = value.varint() as i64,
                2 => set.max_time = value.varint() as i64,
                3..=8 => set.parts[number as usize - 3] = Some(ChunkView::read(value.bytes())?),
                _ => {}
            }
        }
        Ok(set)
    }
}

/// One chunk, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkView<'a> {
    /// How `data` is encoded; the wire's number of an encoding that StoreAPI lacks.
    pub kind: Result<ChunkKind, u64>,
    /// The chunk's data.
    pub data: &'a [u8],
    /// xxhash64 of the data; 0 when the sender didn't compute it.
    pub hash: u64,
}

impl<'a> ChunkView<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new("Chunk", message);
        let mut chunk = Self { kind: Ok(ChunkKind::Xor), data: &[], hash: 0 };
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => {
                    chunk.kind = match value.varint() {
                        0 => Ok(ChunkKind::Xor),
                        1 => Ok(ChunkKind::Histogram),
                        2 => Ok(ChunkKind::FloatHistogram),
                        number => Err(number),
                    }
                }
                2 => chunk.data = value.bytes(),
                3 => chunk.hash = value.varint(),
                _ => {}
            }
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::{ChunkRef, ChunkSet, FrameWriter};
    use super::*;
    use crate::thanos;
    use crate::thanos::series_response::Result as Frame;

    fn batch() -> Vec<u8> {
        let mut writer = FrameWriter::new(64);
        for value in ["1", "2"] {
            let chunk = ChunkRef { kind: ChunkKind::Histogram, data: &[1, 2, 3] };
            let sets = [ChunkSet::new(10, 20).with(AggrPart::Raw, chunk)];
            writer.series([("a", value), ("b", "x")].into_iter(), &sets);
        }
        writer.take()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = batch();
        let ResponseView::Batch(series) = scan(&bytes[5..]).unwrap() else { panic!("a batch was written") };
        let (mut labels, mut chunks) = (Vec::new(), Vec::new());
        for series in series {
            series.unwrap().read(|name, value| labels.push((name, value)), |set| chunks.push(set)).unwrap();
        }
        let expected = [("a", "1"), ("b", "x"), ("a", "2"), ("b", "x")];
        assert_eq!(labels, expected.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_eq!((chunks[1].min_time, chunks[1].max_time), (10, 20));
        let chunk = chunks[1].part(AggrPart::Raw).unwrap();
        assert_eq!((chunk.kind, chunk.data), (Ok(ChunkKind::Histogram), &[1u8, 2, 3][..]));
        assert_eq!(chunks[1].part(AggrPart::Sum), None);
    }

    #[test]
    fn encodings_that_storeapi_lacks_are_told_by_their_numbers() {
        let chunk = |number| thanos::AggrChunk {
            raw: Some(thanos::Chunk { r#type: number, data: vec![7].into(), hash: 0 }),
            ..thanos::AggrChunk::default()
        };
        let series = thanos::Series { labels: Vec::new(), chunks: vec![chunk(0), chunk(3), chunk(200)] };
        let message = thanos::SeriesResponse { result: Some(Frame::Series(series)) }.encode_to_vec();
        let ResponseView::Series(series) = scan(&message).unwrap() else { panic!("a series was written") };
        let mut kinds = Vec::new();
        series.read(|_, _| {}, |set| kinds.push(set.part(AggrPart::Raw).unwrap().kind)).unwrap();
        assert_eq!(kinds, [Ok(ChunkKind::Xor), Err(3), Err(200)]);
    }

    #[test]
    fn a_frame_with_any_byte_changed_never_panics() {
        let bytes = batch();
        for at in 5..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let Ok(ResponseView::Batch(series)) = scan(&damaged[5..]) else { continue };
                for series in series.take(1000) {
                    let Ok(series) = series else { break };
                    let _ = series.read(|_, _| {}, |_| {});
                }
            }
        }
    }
}
