//! Series entries: labels as symbols, chunks as times and places.
//!
//! ```text
//! ┌───────────────────────────────────────────────────────────────┐
//! │ len <uvarint>                                                 │
//! ├───────────────────────────────────────────────────────────────┤
//! │ label count <uvarint>                                         │
//! │   name <uvarint>  value <uvarint>              of each label  │
//! │ chunk count <uvarint>                                         │
//! │   min <varint>  max - min <uvarint>  ref <uvarint>    first   │
//! │   min - max before <uvarint>  max - min <uvarint>             │
//! │     ref - ref before <varint>                  of the others  │
//! ├───────────────────────────────────────────────────────────────┤
//! │ crc32c of what lies between <4b>                              │
//! └───────────────────────────────────────────────────────────────┘
//! ```

use super::source::{Source, Window};
use super::symbols::{References, SymbolRef, Symbols};
use super::{SERIES_ALIGN, Toc, Version};
use crate::codec::{Corrupt, Cursor, section, varint};
use crate::index::ChunkMeta;
use crate::model::{ChunkRef, Error, Labels, SeriesRef};

const WHAT: &str = "series entry";

/// Most bytes of one entry: some ten million chunks.
const ENTRY_LEN_MAX: u64 = 256 << 20;

/// One series: reuse it from entry to entry, its vectors keep their room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// How postings refer to it.
    pub series_ref: SeriesRef,
    /// Names and values in the order of the file, which is that of names. All are in the symbol table.
    pub labels: Vec<(SymbolRef, SymbolRef)>,
    /// Chunks in the order of the file, which is that of times where the index is sound.
    pub chunks: Vec<ChunkMeta>,
    /// Bytes of the entry, its length and checksum among them.
    pub entry_len: usize,
}

impl Series {
    /// The labels as text.
    pub fn labels(&self, symbols: &Symbols) -> Labels {
        labels(&self.labels, symbols)
    }

    /// Replaces this by the entry at the start of `bytes`, which start at byte `offset` of the index
    /// file; fails when the entry is not whole.
    pub fn decode_entry(
        &mut self,
        bytes: &[u8],
        offset: u64,
        symbols: References<'_>,
        version: Version,
    ) -> Result<(), Corrupt> {
        let mut cursor = Cursor::new(WHAT, bytes, offset);
        let len = cursor.uvarint()?;
        let content_offset = cursor.offset();
        let content = cursor.bytes(usize::try_from(len).unwrap_or(usize::MAX))?;
        section::check(WHAT, offset, content, cursor.u32_be()?)?;
        self.decode(content, content_offset, symbols)?;
        self.series_ref = SeriesRef(offset / version.series_unit());
        self.entry_len = (cursor.offset() - offset) as usize;
        Ok(())
    }

    /// Replaces this by the entry in `content`: what lies between length and checksum, `offset` the
    /// byte at which it starts.
    fn decode(&mut self, content: &[u8], offset: u64, symbols: References<'_>) -> Result<(), Corrupt> {
        self.labels.clear();
        self.chunks.clear();
        let mut cursor = Cursor::new(WHAT, content, offset);
        let label_count = announced(&mut cursor, "labels", 2)?;
        for _ in 0..label_count {
            let name = symbol(&mut cursor, symbols)?;
            let value = symbol(&mut cursor, symbols)?;
            self.labels.push((name, value));
        }
        let chunk_count = announced(&mut cursor, "chunks", 3)?;
        decode_chunks(&mut cursor, chunk_count, &mut self.chunks)
    }
}

/// Labels as text. Prometheus up to 2.8 could write the labels of a series out of order.
pub(super) fn labels(labels: &[(SymbolRef, SymbolRef)], symbols: &Symbols) -> Labels {
    let text = labels.iter().map(|&(name, value)| (symbols.get(name), symbols.get(value)));
    if labels.is_sorted_by(|a, b| a.0 < b.0) { Labels::from_sorted(text) } else { Labels::from_pairs(text) }
}

/// Appends the content of an entry of version 2; `chunks` ascend.
pub(super) fn encode(labels: &[(SymbolRef, SymbolRef)], chunks: &[ChunkMeta], out: &mut Vec<u8>) {
    varint::encode_u64(labels.len() as u64, out);
    for (name, value) in labels {
        varint::encode_u64(u64::from(name.0), out);
        varint::encode_u64(u64::from(value.0), out);
    }
    varint::encode_u64(chunks.len() as u64, out);
    let mut before: Option<&ChunkMeta> = None;
    for chunk in chunks {
        let duration = chunk.max_time.wrapping_sub(chunk.min_time) as u64;
        match before {
            None => {
                varint::encode_i64(chunk.min_time, out);
                varint::encode_u64(duration, out);
                varint::encode_u64(chunk.chunk_ref.0, out);
            }
            Some(before) => {
                varint::encode_u64(chunk.min_time.wrapping_sub(before.max_time) as u64, out);
                varint::encode_u64(duration, out);
                varint::encode_i64(chunk.chunk_ref.0.wrapping_sub(before.chunk_ref.0) as i64, out);
            }
        }
        before = Some(chunk);
    }
}

/// The number of things that follow, of at least `bytes_min` bytes each.
fn announced(cursor: &mut Cursor<'_>, things: &str, bytes_min: u64) -> Result<usize, Corrupt> {
    let count = cursor.uvarint()?;
    if count > cursor.remaining() as u64 / bytes_min {
        return Err(cursor.corrupt(format!("{count} {things} announced, {} bytes left", cursor.remaining())));
    }
    Ok(count as usize)
}

fn symbol(cursor: &mut Cursor<'_>, symbols: References<'_>) -> Result<SymbolRef, Corrupt> {
    let stored = cursor.uvarint()?;
    symbols.resolve(stored).ok_or_else(|| cursor.corrupt(format!("there is no symbol {stored}")))
}

/// Times wrap as in Prometheus: an index with absurd ones is read, and verification tells.
fn decode_chunks(cursor: &mut Cursor<'_>, count: usize, chunks: &mut Vec<ChunkMeta>) -> Result<(), Corrupt> {
    let (mut max_time, mut chunk_ref) = (0i64, 0u64);
    for at in 0..count {
        let step = if at == 0 { cursor.varint()? } else { cursor.uvarint()? as i64 };
        let min_time = max_time.wrapping_add(step);
        max_time = min_time.wrapping_add(cursor.uvarint()? as i64);
        let step = if at == 0 { cursor.uvarint()? } else { cursor.varint()? as u64 };
        chunk_ref = chunk_ref.wrapping_add(step);
        chunks.push(ChunkMeta { min_time, max_time, chunk_ref: ChunkRef(chunk_ref) });
    }
    Ok(())
}

/// Replaces `series` by the one that postings refer to as `series_ref`, read from the index file
/// `source` that has these parts.
pub(in crate::index) fn read_series<S: Source + ?Sized>(
    source: &S,
    (toc, symbols, version): (&Toc, References<'_>, Version),
    series_ref: SeriesRef,
    series: &mut Series,
) -> Result<(), Error> {
    let offset = series_ref.0.saturating_mul(version.series_unit());
    if offset < toc.series {
        let reason = format!("the series start at byte {}", toc.series);
        return Err(Corrupt::new(WHAT, offset, reason).into());
    }
    let window = Window::glance(source, WHAT);
    let end = toc.series_end(source.len());
    SeriesScan { window, symbols, version, at: offset, end }.read_at(offset, series).map(drop)
}

/// All series of an index in the order of the file, which is that of their labels.
#[derive(Debug)]
pub struct SeriesScan<'s, S: ?Sized> {
    window: Window<'s, S>,
    symbols: References<'s>,
    version: Version,
    at: u64,
    end: u64,
}

impl<'s, S: Source + ?Sized> SeriesScan<'s, S> {
    /// The entries between bytes `start` and `end` of `source`.
    pub(super) fn new(source: &'s S, symbols: References<'s>, version: Version, range: (u64, u64)) -> Self {
        Self { window: Window::new(source, WHAT), symbols, version, at: range.0, end: range.1 }
    }

    /// Replaces `series` by the next one; false when there is none left.
    pub fn next(&mut self, series: &mut Series) -> Result<bool, Error> {
        self.skip_padding()?;
        if self.at >= self.end {
            return Ok(false);
        }
        if !self.at.is_multiple_of(self.version.series_unit()) {
            let reason = format!("series are aligned to {SERIES_ALIGN} bytes");
            return Err(Corrupt::new(WHAT, self.at, reason).into());
        }
        self.at = self.read_at(self.at, series)?;
        Ok(true)
    }

    /// The byte of the file at which the next entry is looked for.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Replaces `series` by the entry at byte `offset` and returns the byte after it.
    fn read_at(&mut self, offset: u64, series: &mut Series) -> Result<u64, Error> {
        if offset >= self.end {
            return Err(Corrupt::new(WHAT, offset, format!("the series end at byte {}", self.end)).into());
        }
        let start = self.window.up_to(offset, varint::LEN_MAX, self.end)?;
        let mut cursor = Cursor::new(WHAT, start, offset);
        let len = cursor.uvarint()?;
        let content_offset = cursor.offset();
        let entry_end = content_offset.checked_add(len).and_then(|end| end.checked_add(4));
        let within = |end: &u64| *end <= self.end && *end - offset <= ENTRY_LEN_MAX;
        let Some(entry_end) = entry_end.filter(within) else {
            let reason = format!("{len} bytes announced, the series end at byte {}", self.end);
            return Err(Corrupt::new(WHAT, offset, reason).into());
        };
        let bytes = self.window.bytes(offset, (entry_end - offset) as usize)?;
        series.decode_entry(bytes, offset, self.symbols, self.version)?;
        Ok(entry_end)
    }

    fn skip_padding(&mut self) -> Result<(), Error> {
        while self.at < self.end {
            let bytes = self.window.up_to(self.at, SERIES_ALIGN as usize, self.end)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let done = zeros < bytes.len();
            self.at += zeros as u64;
            if done {
                break;
            }
        }
        Ok(())
    }
}
