//! Segment files: the files `000001`, `000002`, … of a block's `chunks` folder.
//!
//! ```text
//! byte 0      magic 85 bd 40 dd
//!      4      version 1
//!      5      three zeros
//!      8      chunk │ chunk │ …
//!
//! chunk       length of data uvarint │ encoding u8 │ data │ CRC-32C of encoding and data u32 BE
//! ```
//!
//! A chunk is referred to by the place of its segment among the segments, from 0, and its first
//! byte within the file: `segment << 32 | offset`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use crate::codec::{Corrupt, Cursor, varint};
use crate::io::{folder, start_writeback};
use crate::simd::crc32c::crc32c;

use super::Encoding;

/// The first four bytes.
pub const MAGIC: [u8; 4] = [0x85, 0xbd, 0x40, 0xdd];
/// The one version.
pub const VERSION: u8 = 1;
/// Bytes in front of the first chunk.
pub const HEADER_LEN: usize = 8;
/// Bytes that a segment is cut at by default.
pub const SEGMENT_BYTES_MAX: u64 = 512 << 20;

const HEADER: [u8; HEADER_LEN] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
const LENGTH_LEN_MAX: u64 = 5;
const ENCODING_LEN: usize = 1;
/// Bytes of the checksum behind a chunk's data.
pub const CHECKSUM_LEN: usize = 4;
const WHAT: &str = "chunk segment";

/// Where a chunk lies within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef {
    /// Place of the segment among the block's segments, from 0: file `000001` is 0.
    pub segment: u32,
    /// First byte of the chunk within the segment.
    pub offset: u32,
}

impl ChunkRef {
    /// The reference as an index holds it.
    pub fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// The reference that an index holds as `packed`.
    pub fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// A chunk within a segment, its checksum found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The chunk's data.
    pub data: &'a [u8],
    /// Bytes of the whole record, so that the next one follows that far behind.
    pub len: usize,
}

/// Bytes of the record of a chunk of `data_len` bytes of data.
pub fn record_len(data_len: usize) -> usize {
    varint::len_u64(data_len as u64) + ENCODING_LEN + data_len + CHECKSUM_LEN
}

/// Checks the header of the segment that starts with `bytes`.
pub fn check_header(bytes: &[u8]) -> Result<(), Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes, 0);
    let magic = cursor.u32_be()?;
    if magic.to_be_bytes() != MAGIC {
        return Err(Corrupt::new(WHAT, 0, format!("starts with {magic:08x} instead of 85bd40dd")));
    }
    match cursor.u8()? {
        VERSION => cursor.bytes(HEADER_LEN - 5).map(|_| ()),
        version => Err(Corrupt::new(WHAT, 4, format!("format version {version} is not known"))),
    }
}

/// The chunk at byte `offset` of a segment, of which `bytes` is the part that starts at byte `base`.
/// Length, encoding and checksum are checked.
pub fn read_at(bytes: &[u8], base: u64, offset: u64) -> Result<Chunk<'_>, Corrupt> {
    let start = offset.checked_sub(base).and_then(|start| usize::try_from(start).ok());
    let Some(record) = start.and_then(|start| bytes.get(start..)).filter(|_| offset >= HEADER_LEN as u64) else {
        let end = base + bytes.len() as u64;
        return Err(Corrupt::new(WHAT, offset, format!("no chunk can start here, only from {base} to {end}")));
    };
    let mut cursor = Cursor::new(WHAT, record, offset);
    let len = cursor.uvarint()?;
    let checked_start = cursor.offset();
    let room = cursor.remaining().saturating_sub(ENCODING_LEN + CHECKSUM_LEN);
    if cursor.remaining() < ENCODING_LEN + CHECKSUM_LEN || len > room as u64 {
        return Err(Corrupt::new(WHAT, offset, format!("chunk of {len} bytes announced, room for {room}")));
    }
    let checked = cursor.bytes(ENCODING_LEN + len as usize)?;
    let stored = cursor.u32_be()?;
    let computed = crc32c(checked);
    if stored != computed {
        let reason = format!("chunk's stored checksum {stored:08x}, computed {computed:08x}");
        return Err(Corrupt::new(WHAT, offset, reason));
    }
    let (encoding, data) = checked.split_at(ENCODING_LEN);
    let encoding = Encoding::parse(encoding.first().copied().unwrap_or(0), checked_start)?;
    Ok(Chunk { encoding, data, len: record.len() - cursor.remaining() })
}

/// All chunks of a whole segment with their offsets, in order; ends after the first error.
pub fn chunks(segment: &[u8]) -> impl Iterator<Item = Result<(u64, Chunk<'_>), Corrupt>> {
    let mut at = HEADER_LEN as u64;
    let mut checked = false;
    std::iter::from_fn(move || {
        if !checked {
            checked = true;
            if let Err(error) = check_header(segment) {
                at = u64::MAX;
                return Some(Err(error));
            }
        }
        if at >= segment.len() as u64 {
            return None;
        }
        let offset = at;
        let chunk = read_at(segment, 0, offset);
        at = chunk.as_ref().map_or(u64::MAX, |chunk| offset + chunk.len as u64);
        Some(chunk.map(|chunk| (offset, chunk)))
    })
}

/// Appends the record of a chunk to `out`.
pub fn encode(encoding: Encoding, data: &[u8], out: &mut Vec<u8>) {
    varint::encode_u64(data.len() as u64, out);
    let checked = out.len();
    out.push(encoding.byte());
    out.extend_from_slice(data);
    let checksum = crc32c(&out[checked..]);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// Writes chunks to the segment files of one folder, cutting a new file when one is full.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    segment_bytes_max: u64,
    file: Option<BufWriter<File>>,
    /// Lengths of the segments so far, that of the open one last.
    lens: Vec<u64>,
    /// Bytes of the open segment that are on their way to the disk.
    sent: u64,
    record: Vec<u8>,
}

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes that are written before they are sent to the disk, which works on them while others are made.
const SENT_BYTES: u64 = 8 << 20;

impl Writer {
    /// A writer of the files of `folder`, which exists and is empty; no file is longer than
    /// `segment_bytes_max` unless one chunk is.
    pub fn new(folder: PathBuf, segment_bytes_max: u64) -> Self {
        Self { folder, segment_bytes_max, file: None, lens: Vec::new(), sent: 0, record: Vec::new() }
    }

    /// Writes a chunk and gives where it lies.
    pub fn append(&mut self, encoding: Encoding, data: &[u8]) -> io::Result<ChunkRef> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        encode(encoding, data, &mut record);
        let appended = self.append_record(&record);
        self.record = record;
        appended
    }

    /// Writes the whole record of a chunk, as [`encode`] gives it, and gives where it lies.
    pub fn append_record(&mut self, record: &[u8]) -> io::Result<ChunkRef> {
        // As Prometheus does, a length is taken for as long as it can get.
        let most = LENGTH_LEN_MAX - 1 + record.len() as u64;
        let full = self.lens.last().is_some_and(|len| *len > HEADER_LEN as u64 && len + most > self.segment_bytes_max);
        if full || self.file.is_none() {
            self.cut()?;
        }
        let (Some(file), Some(len)) = (&mut self.file, self.lens.last_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        let offset = u32::try_from(*len).map_err(|_| io::Error::other("a segment ends before byte 2^32"))?;
        file.write_all(record)?;
        *len += record.len() as u64;
        if *len - self.sent >= SENT_BYTES {
            let written = *len - file.buffer().len() as u64;
            start_writeback(file.get_ref(), self.sent..written);
            self.sent = written;
        }
        Ok(ChunkRef { segment: (self.lens.len() - 1) as u32, offset })
    }

    /// Makes all that was written durable; gives the length of each segment in bytes.
    pub fn finish(mut self) -> io::Result<Vec<u64>> {
        self.close()?;
        folder::sync(&self.folder)?;
        Ok(self.lens)
    }

    /// As [`Writer::finish`], but the last segment and the folder may not be durable yet.
    pub fn finish_unsynced(mut self) -> io::Result<Vec<u64>> {
        if let Some(mut file) = self.file.take() {
            file.flush()?;
        }
        Ok(self.lens)
    }

    fn cut(&mut self) -> io::Result<()> {
        self.close()?;
        let path = self.folder.join(file_name(self.lens.len() as u32));
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(path)?);
        file.write_all(&HEADER)?;
        self.file = Some(file);
        self.lens.push(HEADER_LEN as u64);
        self.sent = 0;
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// The name of the file of segment `segment`, counted from 0.
pub fn file_name(segment: u32) -> String {
    format!("{:06}", u64::from(segment) + 1)
}
