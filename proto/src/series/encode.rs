//! The writer of frames: sizes first, then one pass of appends into one buffer.

use xxhash_rust::xxh64::xxh64;

use super::GRPC_PREFIX_LEN;
use crate::wire::{VARINT_LEN_MAX, put_varint, varint, varint_len};
use crate::write::put_label;

/// Bytes of a batch's key and of its length, which is written with leading zero groups so that it
/// can be filled in when the batch is closed.
const BATCH_HEAD_LEN: usize = 6;

/// A batch is closed once it is this long, whatever number of series was asked for.
const BATCH_BYTES_MAX: usize = 1 << 20;

const SERIES_KEY: u8 = 0x0a;
const WARNING_KEY: u8 = 0x12;
const HINTS_KEY: u8 = 0x1a;
const BATCH_KEY: u8 = 0x22;
const HASH_KEY: u8 = 0x18;

/// Encoding of a chunk's data as the wire numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// Gorilla-compressed floats.
    Xor = 0,
    /// Native histograms of integer counts.
    Histogram = 1,
    /// Native histograms of float counts.
    FloatHistogram = 2,
}

/// One chunk's data, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRef<'a> {
    /// How `data` is encoded.
    pub kind: ChunkKind,
    /// What follows the encoding byte in the block, without its checksum.
    pub data: &'a [u8],
}

/// Which part of an `AggrChunk` a chunk is; the value is the field number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AggrPart {
    /// Samples as they were scraped.
    Raw = 3,
    /// Number of samples in each window.
    Count = 4,
    /// Sum of the samples in each window.
    Sum = 5,
    /// Least sample of each window.
    Min = 6,
    /// Greatest sample of each window.
    Max = 7,
    /// The counter with its resets removed.
    Counter = 8,
}

impl AggrPart {
    const ALL: [Self; 6] = [Self::Raw, Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];
}

/// The chunks of one range of time, borrowed: raw, or aggregates.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSet<'a> {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    parts: [Option<ChunkRef<'a>>; 6],
}

impl<'a> ChunkSet<'a> {
    /// No chunk yet, from `min_time` to `max_time` in Unix milliseconds.
    pub fn new(min_time: i64, max_time: i64) -> Self {
        Self { min_time, max_time, parts: [None; 6] }
    }

    /// The same set with `chunk` as its `part`.
    pub fn with(mut self, part: AggrPart, chunk: ChunkRef<'a>) -> Self {
        self.parts[part as usize - AggrPart::Raw as usize] = Some(chunk);
        self
    }

    fn parts(&self) -> impl Iterator<Item = (AggrPart, ChunkRef<'a>)> + '_ {
        AggrPart::ALL.into_iter().zip(&self.parts).filter_map(|(part, chunk)| Some((part, (*chunk)?)))
    }
}

/// Writes frames one after the other into one buffer, each series alone or several in a batch.
#[derive(Debug)]
pub struct FrameWriter {
    out: Vec<u8>,
    batch_series_max: usize,
    batch_start: Option<usize>,
    batch_series: usize,
    /// Labels that come one by one, and what was measured of the chunks of the series at hand; kept
    /// for their room.
    labels: Vec<u8>,
    sets: Vec<usize>,
    parts: Vec<PartSize>,
}

/// A chunk of a set: its hash, and the bytes of its message.
#[derive(Clone, Copy, Debug)]
struct PartSize {
    hash: u64,
    message: usize,
}

impl FrameWriter {
    /// A writer of frames with up to `batch_series_max` series; of 0 or 1, each series is a frame of
    /// its own, as a client expects that didn't ask for batches.
    pub fn new(batch_series_max: usize) -> Self {
        Self {
            out: Vec::new(),
            batch_series_max,
            batch_start: None,
            batch_series: 0,
            labels: Vec::new(),
            sets: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Bytes written and not taken yet, those of an open batch included.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written that was not taken.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Makes room for `bytes` more.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Appends one series. `labels` ascend by name, `chunks` by time.
    pub fn series<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)>, chunks: &[ChunkSet<'_>]) {
        let mut encoded = std::mem::take(&mut self.labels);
        encoded.clear();
        for (name, value) in labels {
            put_label(&mut encoded, name.as_bytes(), value.as_bytes());
        }
        self.encoded_series(&encoded, chunks);
        self.labels = encoded;
    }

    /// Appends one series. `labels` are its fields of that name, which ascend; `chunks` ascend by time.
    pub fn encoded_series(&mut self, labels: &[u8], chunks: &[ChunkSet<'_>]) {
        let body = labels.len() + self.measure(chunks);
        if self.batch_series_max > 1 {
            self.open_batch();
            self.out.reserve(body + FIELDS_LEN);
        } else {
            let message = 1 + varint_len(body as u64) + body;
            self.out.reserve(message + FIELDS_LEN);
            self.grpc_prefix(message);
        }
        self.out.push(SERIES_KEY);
        put_varint(&mut self.out, body as u64);
        self.out.extend_from_slice(labels);
        self.chunks(chunks);
        if let Some(start) = self.batch_start {
            self.batch_series += 1;
            if self.batch_series >= self.batch_series_max || self.out.len() - start >= BATCH_BYTES_MAX {
                self.close_batch();
            }
        }
    }

    /// Appends a warning, after the series before it.
    pub fn warning(&mut self, text: &str) {
        self.close_batch();
        self.grpc_prefix(field_len(text.len()));
        put_bytes(&mut self.out, WARNING_KEY, text.as_bytes());
    }

    /// Appends hints, `value` being an encoded message whose type `type_url` names.
    pub fn hints(&mut self, type_url: &str, value: &[u8]) {
        self.close_batch();
        let any = field_len(type_url.len()) + field_len(value.len());
        self.grpc_prefix(field_len(any));
        self.out.push(HINTS_KEY);
        put_varint(&mut self.out, any as u64);
        put_bytes(&mut self.out, 0x0a, type_url.as_bytes());
        put_bytes(&mut self.out, 0x12, value);
    }

    /// Ends the frame that is being filled, if there is one.
    pub fn close_batch(&mut self) {
        let Some(start) = self.batch_start.take() else { return };
        self.batch_series = 0;
        let body = self.out.len() - start - GRPC_PREFIX_LEN - BATCH_HEAD_LEN;
        let prefix = grpc_prefix(body + BATCH_HEAD_LEN);
        self.out[start..start + GRPC_PREFIX_LEN].copy_from_slice(&prefix);
        let head = batch_head(body);
        self.out[start + GRPC_PREFIX_LEN..start + GRPC_PREFIX_LEN + BATCH_HEAD_LEN].copy_from_slice(&head);
    }

    /// Ends the frame that is being filled and gives all frames away.
    pub fn take(&mut self) -> Vec<u8> {
        self.close_batch();
        std::mem::take(&mut self.out)
    }

    fn open_batch(&mut self) {
        if self.batch_start.is_none() {
            self.batch_start = Some(self.out.len());
            self.out.extend_from_slice(&[0; GRPC_PREFIX_LEN + BATCH_HEAD_LEN]);
        }
    }

    fn grpc_prefix(&mut self, message: usize) {
        self.out.extend_from_slice(&grpc_prefix(message));
    }

    /// Fills `sets` and `parts`; returns the bytes that the chunks take within the series.
    fn measure(&mut self, chunks: &[ChunkSet<'_>]) -> usize {
        self.sets.clear();
        self.parts.clear();
        let mut total = 0;
        for set in chunks {
            let mut message = int64_len(set.min_time) + int64_len(set.max_time);
            for (_, chunk) in set.parts() {
                let hash = xxh64(chunk.data, 0);
                let kind = if chunk.kind == ChunkKind::Xor { 0 } else { 2 };
                let hash_len = if hash == 0 { 0 } else { 1 + varint_len(hash) };
                let data = if chunk.data.is_empty() { 0 } else { field_len(chunk.data.len()) };
                let part = PartSize { hash, message: kind + data + hash_len };
                message += field_len(part.message);
                self.parts.push(part);
            }
            total += field_len(message);
            self.sets.push(message);
        }
        total
    }

    fn chunks(&mut self, chunks: &[ChunkSet<'_>]) {
        let mut parts = self.parts.iter();
        // Of the chunk before, as it comes behind the data and is written with what follows.
        let mut hash = 0;
        for (set, message) in chunks.iter().zip(&self.sets) {
            let mut fields = Fields::after(&mut self.out);
            fields.number(HASH_KEY, std::mem::take(&mut hash));
            fields.put(0x12, *message as u64);
            fields.number(0x08, set.min_time as u64);
            fields.number(0x10, set.max_time as u64);
            for ((part, chunk), size) in set.parts().zip(&mut parts) {
                fields.number(HASH_KEY, std::mem::replace(&mut hash, size.hash));
                fields.put(((part as u8) << 3) | 2, size.message as u64);
                fields.number(0x08, chunk.kind as u64);
                if !chunk.data.is_empty() {
                    fields.put(0x12, chunk.data.len() as u64);
                }
                fields = fields.then(chunk.data);
            }
            fields.end();
        }
        let mut fields = Fields::after(&mut self.out);
        fields.number(HASH_KEY, hash);
        fields.end();
    }
}

/// Fields at the end of a buffer, written into room that was made for all of them at once, not byte by byte.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
}

/// Room for what stands between the data of two chunks: a hash, the lengths of a set, a part and its data, two
/// times, each with its key, and the kind; rounded up to whole vectors.
const FIELDS_LEN: usize = 80;
const _: () = assert!(6 * (1 + VARINT_LEN_MAX) + 2 + VARINT_LEN_MAX <= FIELDS_LEN);

impl<'a> Fields<'a> {
    #[inline(always)]
    fn after(out: &'a mut Vec<u8>) -> Self {
        let at = out.len();
        out.extend_from_slice(&[0; FIELDS_LEN]);
        Self { out, at }
    }

    /// Appends a key and a varint.
    #[inline(always)]
    fn put(&mut self, key: u8, value: u64) {
        let (bytes, len) = varint(value);
        let room = &mut self.out[self.at..][..1 + VARINT_LEN_MAX];
        room[0] = key;
        room[1..].copy_from_slice(&bytes);
        self.at += 1 + len;
    }

    /// The same of a number that is left out when it is 0.
    #[inline(always)]
    fn number(&mut self, key: u8, value: u64) {
        if value != 0 {
            self.put(key, value);
        }
    }

    /// Appends `data`, and makes room for more fields.
    #[inline(always)]
    fn then(self, data: &[u8]) -> Self {
        self.out.truncate(self.at);
        self.out.extend_from_slice(data);
        Self::after(self.out)
    }

    /// Gives back the room that is left.
    #[inline(always)]
    fn end(self) {
        self.out.truncate(self.at);
    }
}

/// The five bytes before a message of `message` bytes. A frame is at most a batch of 1 MiB and one
/// series, far below the prefix' four gigabytes.
fn grpc_prefix(message: usize) -> [u8; GRPC_PREFIX_LEN] {
    let len = u32::try_from(message).unwrap_or(u32::MAX).to_be_bytes();
    [0, len[0], len[1], len[2], len[3]]
}

/// A batch's key and its length in five groups of seven bits.
fn batch_head(body: usize) -> [u8; BATCH_HEAD_LEN] {
    let group = |at: usize| ((body >> (7 * at)) & 0x7f) as u8;
    [BATCH_KEY, group(0) | 0x80, group(1) | 0x80, group(2) | 0x80, group(3) | 0x80, group(4)]
}

/// Bytes of a length-delimited field of `len` bytes and a one-byte key.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn int64_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

fn put_bytes(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::thanos;
    use crate::thanos::series_response::Result as Frame;

    const LABELS: [(&str, &str); 3] = [("__name__", "up"), ("job", "a"), ("pod", "p-\u{1F600}")];

    fn frames(mut bytes: &[u8]) -> Vec<thanos::SeriesResponse> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[0], 0);
            let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            found.push(thanos::SeriesResponse::decode(&bytes[5..5 + len]).unwrap());
            bytes = &bytes[5 + len..];
        }
        found
    }

    fn chunk(kind: ChunkKind, data: &[u8]) -> ChunkRef<'_> {
        ChunkRef { kind, data }
    }

    fn sets(data: &[u8]) -> [ChunkSet<'_>; 4] {
        [
            ChunkSet::new(-5, 0).with(AggrPart::Raw, chunk(ChunkKind::Xor, data)),
            ChunkSet::new(1, i64::MAX)
                .with(AggrPart::Count, chunk(ChunkKind::Xor, &data[..1]))
                .with(AggrPart::Counter, chunk(ChunkKind::FloatHistogram, data)),
            ChunkSet::new(i64::MIN, -1),
            ChunkSet::new(3, 4).with(AggrPart::Min, chunk(ChunkKind::Histogram, &[])),
        ]
    }

    #[test]
    fn a_series_alone_is_byte_for_byte_what_the_generated_encoder_writes() {
        let data = vec![7; 300];
        let mut writer = FrameWriter::new(0);
        writer.series(LABELS.into_iter(), &sets(&data));
        let bytes = writer.take();
        let decoded = frames(&bytes);
        assert_eq!(decoded.len(), 1);
        assert_eq!(&bytes[5..], decoded[0].encode_to_vec());
        let Some(Frame::Series(series)) = &decoded[0].result else { panic!("a series was written") };
        assert_eq!(series.labels.len(), 3);
        let counter = series.chunks[1].counter.as_ref().unwrap();
        assert_eq!((counter.r#type, counter.hash), (2, xxh64(&data, 0)));
        assert_eq!(series.chunks[0].min_time, -5);
    }

    #[test]
    fn batches_close_at_their_size_and_before_a_warning() {
        let data = vec![9; 40];
        let mut writer = FrameWriter::new(2);
        for _ in 0..3 {
            writer.series(LABELS.into_iter(), &sets(&data));
        }
        writer.warning("block is away");
        writer.hints("type.googleapis.com/x", &[1, 2]);
        writer.series(LABELS.into_iter(), &[]);
        let decoded = frames(&writer.take());
        let shapes: Vec<usize> = decoded
            .iter()
            .map(|frame| match frame.result.as_ref().unwrap() {
                Frame::Batch(batch) => batch.series.len(),
                Frame::Warning(text) => text.len() * 100,
                Frame::Hints(any) => any.value.len() * 1000,
                Frame::Series(_) => 0,
            })
            .collect();
        assert_eq!(shapes, [2, 1, 1300, 2000, 1]);
    }
}
