//! Fetching the chunks of a batch of series: neighbours are read together.
//!
//! ```text
//! wanted     ▐chunk▌▐chunk▌▐chunk▌              ▐chunk▌
//! read       ├─────────────────── tail ┤        ├────── tail ┤
//! ```
//!
//! An index doesn't say how long a chunk is, so that a read goes on for a tail behind the start of its
//! last chunk; a chunk that is longer is read again, alone.

use super::source::{SourceBlock, record_len};
use crate::bucket::name::BlockObject;
use crate::chunk::Encoding;
use crate::chunk::segment::{self, Chunk};
use crate::codec::{Corrupt, varint};
use crate::index::tsdb::Source;
use crate::model::{ChunkRef, Error};

/// Bytes that are read behind the start of the last chunk of a read.
const TAIL_BYTES: u64 = 4 << 10;

/// Bytes between the starts of two chunks up to which they are read together.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Room grows by multiples of this, so that most slices fit into that of the one before.
const ROOM_BYTES: usize = 128 << 10;

/// Makes room for `len` bytes in all, where there is less in `bytes`, whose content is of no use any more:
/// it is not copied, nor held beside the new one.
pub(super) fn make_room(bytes: &mut Vec<u8>, len: usize) {
    if bytes.capacity() < len {
        *bytes = Vec::new();
        bytes.reserve_exact(len.next_multiple_of(ROOM_BYTES));
    }
}

/// The chunks of one batch of series, wherever they lie. Its room is used again from batch to batch.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What was read, one read behind the other.
    bytes: Vec<u8>,
    reads: Vec<ReadRange>,
    order: Vec<u32>,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct ReadRange {
    source: u32,
    segment: u32,
    start: u64,
    end: u64,
    /// Where its bytes start in `bytes`.
    at: usize,
}

/// Where a chunk lies in what was read, found sound.
#[derive(Clone, Copy, Debug)]
struct Record {
    at: usize,
    len: usize,
    data_len: usize,
    encoding: Encoding,
}

/// A chunk that is wanted: the place of its block among the sources, and where it lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Place of the block among the sources.
    pub source: u32,
    /// Where the chunk lies.
    pub chunk_ref: ChunkRef,
}

impl Fetched {
    /// Reads the chunks `wanted` of `sources`, replacing those fetched before, and checks their
    /// checksums.
    pub fn fetch(&mut self, sources: &[SourceBlock], wanted: &[Wanted]) -> Result<(), Error> {
        self.plan(sources, wanted)?;
        let len = self.reads.last().map_or(0, |read| read.at + (read.end - read.start) as usize);
        make_room(&mut self.bytes, len);
        // What is there from the last fetch is overwritten, which need not be zeros.
        self.bytes.resize(len, 0);
        for read in &self.reads {
            let bytes = &mut self.bytes[read.at..][..(read.end - read.start) as usize];
            let block = &sources[read.source as usize];
            let done = block.segment(read.segment)?.read_at(read.start, bytes);
            done.map_err(|error| block.place(error, BlockObject::Segment(read.segment)))?;
        }
        self.records.clear();
        let empty = Record { at: 0, len: segment::record_len(0), data_len: 0, encoding: Encoding::Xor };
        self.records.resize(wanted.len(), empty);
        let mut read = 0;
        for at in 0..self.order.len() {
            let place = self.order[at] as usize;
            let chunk = wanted[place];
            while !self.reads[read].holds(chunk) {
                read += 1;
            }
            let block = &sources[chunk.source as usize];
            let located = self.locate(block, read, chunk.chunk_ref);
            self.records[place] =
                located.map_err(|error| block.place(error, BlockObject::Segment(chunk.chunk_ref.segment())))?;
        }
        Ok(())
    }

    /// Bytes read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The record of chunk number `at` of those wanted.
    pub fn record(&self, at: usize) -> &[u8] {
        let Record { at, len, .. } = self.records[at];
        &self.bytes[at..at + len]
    }

    /// Chunk number `at` of those wanted.
    pub fn chunk(&self, at: usize) -> Chunk<'_> {
        let Record { len, data_len, encoding, .. } = self.records[at];
        let end = len - segment::CHECKSUM_LEN;
        Chunk { encoding, data: &self.record(at)[end - data_len..end], len }
    }

    /// Which ranges to read.
    fn plan(&mut self, sources: &[SourceBlock], wanted: &[Wanted]) -> Result<(), Error> {
        self.order.clear();
        self.order.extend(0..wanted.len() as u32);
        let key = |at: u32| (wanted[at as usize].source, wanted[at as usize].chunk_ref);
        if !self.order.is_sorted_by_key(|at| key(*at)) {
            self.order.sort_unstable_by_key(|at| key(*at));
        }
        self.reads.clear();
        for at in &self.order {
            let Wanted { source, chunk_ref } = wanted[*at as usize];
            let (segment, start) = (chunk_ref.segment(), u64::from(chunk_ref.offset()));
            let block = &sources[source as usize];
            let file_len = block.segment(segment)?.len();
            if start < segment::HEADER_LEN as u64 || start >= file_len {
                let reason = format!("no chunk can start here, only from {} to {file_len}", segment::HEADER_LEN);
                let corrupt = Corrupt::new("chunk segment", start, reason);
                return Err(block.place(corrupt.into(), BlockObject::Segment(segment)));
            }
            let end = (start + TAIL_BYTES).min(file_len);
            match self.reads.last_mut() {
                Some(read)
                    if (read.source, read.segment) == (source, segment)
                        && start - read.last_start() <= GAP_BYTES_MAX =>
                {
                    read.end = end;
                }
                last => {
                    let at = last.map_or(0, |read| read.at + (read.end - read.start) as usize);
                    self.reads.push(ReadRange { source, segment, start, end, at });
                }
            }
        }
        Ok(())
    }

    /// Where the chunk `chunk_ref` lies in read number `read`, its checksum found right; reads it alone
    /// when it is longer than what was read.
    fn locate(&mut self, block: &SourceBlock, read: usize, chunk_ref: ChunkRef) -> Result<Record, Error> {
        let range = self.reads[read];
        let start = u64::from(chunk_ref.offset());
        let file = block.segment(chunk_ref.segment())?;
        let mut at = range.at + (start - range.start) as usize;
        let have = (range.end - start) as usize;
        let head = &self.bytes[at..at + have.min(varint::LEN_MAX)];
        let len = record_len(head, start, file.len() - start)?;
        if len > have {
            at = self.bytes.len();
            self.bytes.resize(at + len, 0);
            file.read_at(start, &mut self.bytes[at..])?;
        }
        let chunk = segment::read_at(&self.bytes[at..at + len], start, start)?;
        Ok(Record { at, len, data_len: chunk.data.len(), encoding: chunk.encoding })
    }
}

impl ReadRange {
    fn holds(&self, wanted: Wanted) -> bool {
        let start = u64::from(wanted.chunk_ref.offset());
        (self.source, self.segment) == (wanted.source, wanted.chunk_ref.segment())
            && (self.start..self.end).contains(&start)
    }

    /// Where its last chunk starts at the latest.
    fn last_start(&self) -> u64 {
        self.end.saturating_sub(TAIL_BYTES).max(self.start)
    }
}
