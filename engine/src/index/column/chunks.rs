//! Chunk metas as columns.
//!
//! ```text
//! for each series, and one beyond:  number of its first chunk
//! for each series:                  min time of its first chunk
//! for each chunk:                   min time - max time of the chunk before, in its series
//!                                   max time - min time
//!                                   chunk reference
//!                                   bytes to the next chunk of the segment file
//! ```
//!
//! The last column is there only when chunks don't lie in the order of the index: otherwise a chunk
//! ends where the next one starts.

use std::io::{self, Write};

use super::frames::{FRAME, TimeWriter, Times};
use super::layout::{Kind, Writer};
use crate::index::{ChunkColumns, ChunkMeta};
use crate::model::{ChunkRef, TimeRange};

/// The columns in the making.
#[derive(Default)]
pub struct ChunkWriter {
    series: usize,
    chunks: u64,
    starts: TimeWriter,
    first_times: TimeWriter,
    gaps: TimeWriter,
    durations: TimeWriter,
    places: TimeWriter,
    last_place: Option<u64>,
    last_gap: u64,
    /// All references, kept as soon as one was not greater than the one before.
    out_of_order: bool,
}

impl ChunkWriter {
    /// Number of series so far.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Appends the chunks of the next series.
    pub fn push(&mut self, chunks: &[ChunkMeta]) {
        self.starts.push(self.chunks);
        self.first_times.push(chunks.first().map_or(0, |chunk| chunk.min_time) as u64);
        let mut before = None;
        for chunk in chunks {
            // The first chunk of a series has no gap: what the neighbours have packs best.
            let gap = before.map_or(self.last_gap, |before| chunk.min_time.wrapping_sub(before) as u64);
            self.gaps.push(gap);
            self.durations.push(chunk.max_time.wrapping_sub(chunk.min_time) as u64);
            self.places.push(chunk.chunk_ref.0);
            self.out_of_order |= self.last_place.is_some_and(|last| last >= chunk.chunk_ref.0);
            self.last_place = Some(chunk.chunk_ref.0);
            self.last_gap = gap;
            before = Some(chunk.max_time);
        }
        self.series += 1;
        self.chunks += chunks.len() as u64;
    }

    /// Writes the columns and returns the number of chunks.
    pub fn finish<W: Write>(mut self, writer: &mut Writer<W>) -> io::Result<u64> {
        self.starts.push(self.chunks);
        let mut section = Vec::new();
        self.places.finish(&mut section);
        writer.section(Kind::Places, 0, &section)?;
        if self.out_of_order {
            let lens = lens_by_place(&section, self.chunks as usize);
            section.clear();
            lens.finish(&mut section);
            writer.section(Kind::Lens, 0, &section)?;
        }
        for (kind, column) in [
            (Kind::ChunkStarts, self.starts),
            (Kind::FirstTimes, self.first_times),
            (Kind::Gaps, self.gaps),
            (Kind::Durations, self.durations),
        ] {
            section.clear();
            column.finish(&mut section);
            writer.section(kind, 0, &section)?;
        }
        Ok(self.chunks)
    }
}

/// For each chunk, the bytes to the next greater place of its segment.
fn lens_by_place(places: &[u8], chunks: usize) -> TimeWriter {
    let column = Times::of_checked(places, chunks.div_ceil(FRAME));
    let mut sorted: Vec<u64> = (0..chunks).map(|at| column.get(at)).collect();
    sorted.sort_unstable();
    let mut lens = TimeWriter::default();
    for at in 0..chunks {
        let place = column.get(at);
        let next = sorted.get(sorted.partition_point(|other| *other <= place)).copied();
        lens.push(u64::from(len_between(place, next)));
    }
    lens
}

/// Bytes from a chunk to the one that starts at `next`; 0 when that is in another segment.
fn len_between(place: u64, next: Option<u64>) -> u32 {
    match next {
        Some(next) if next > place && ChunkRef(next).segment() == ChunkRef(place).segment() => (next - place) as u32,
        _ => 0,
    }
}

/// The columns of chunk metas of a block.
#[derive(Clone, Copy)]
pub struct Chunks<'a> {
    /// Number of chunks.
    pub len: u64,
    /// Number of the first chunk of each series, and one beyond.
    pub starts: Times<'a>,
    /// When each series starts.
    pub first_times: Times<'a>,
    /// Time between chunks.
    pub gaps: Times<'a>,
    /// Time from a chunk's first to its last sample.
    pub durations: Times<'a>,
    /// References.
    pub places: Times<'a>,
    /// Lengths, where references don't ascend.
    pub lens: Option<Times<'a>>,
}

impl Chunks<'_> {
    /// Appends the chunks of series `ordinal` (which there is) that share a millisecond with `range`.
    pub fn append(&self, ordinal: usize, range: TimeRange, out: &mut ChunkColumns) {
        let (start, end) = (self.starts.get(ordinal).min(self.len), self.starts.get(ordinal + 1).min(self.len));
        let mut min_time = self.first_times.get(ordinal) as i64;
        for at in start as usize..end as usize {
            let max_time = min_time.wrapping_add(self.durations.get(at) as i64);
            if range.overlaps(TimeRange { min_time, max_time }) {
                let place = self.places.get(at);
                out.metas.push(ChunkMeta { min_time, max_time, chunk_ref: ChunkRef(place) });
                out.lens.push(match self.lens {
                    Some(lens) => lens.get(at) as u32,
                    None => len_between(place, (at as u64 + 1 < self.len).then(|| self.places.get(at + 1))),
                });
            }
            if at + 1 < end as usize {
                min_time = max_time.wrapping_add(self.gaps.get(at + 1) as i64);
            }
        }
        out.ends.push(out.metas.len() as u32);
    }
}
