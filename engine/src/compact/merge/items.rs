//! Items: the chunks of one series of one source, as they take part in a merge.

use super::Repair;
use crate::bucket::name::BlockObject;
use crate::chunk::samples::{ChunkSink, Encoder, Samples};
use crate::chunk::segment::Chunk;
use crate::chunk::xor::SAMPLES_MAX;
use crate::chunk::{Encoding, segment};
use crate::compact::aggregates;
use crate::compact::fetch::{Fetched, Wanted};
use crate::compact::output::JobStats;
use crate::compact::slice::{Part, Slice};
use crate::compact::source::SourceBlock;
use crate::compact::workers::{self, Budget};
use crate::dedup::overlap;
use crate::model::{Error, TimeRange};

/// A chunk in a merge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Unix milliseconds of its first and last sample.
    pub(super) times: (i64, i64),
    /// How it is encoded.
    pub(super) encoding: Encoding,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// As it was fetched: its place among the chunks of the slice.
    Fetched(u32),
    /// Without what was deleted: its record among those that were made anew.
    Cut { start: u32, end: u32, data_len: u32 },
}

/// What the items of a slice are made from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The blocks.
    pub(super) sources: &'a [SourceBlock],
    /// The series.
    pub(super) slice: &'a Slice,
    /// Their chunks.
    pub(super) fetched: &'a Fetched,
    /// Times that the result has.
    pub(super) range: TimeRange,
    /// What is mended.
    pub(super) repair: Repair,
}

impl<'a> Origin<'a> {
    fn wanted(&self, chunk: u32) -> Wanted {
        let chunk = self.slice.chunks[chunk as usize];
        Wanted { source: chunk.source, chunk_ref: chunk.meta.chunk_ref }
    }

    /// Chunk number `chunk` of the slice.
    fn chunk(&self, chunk: u32) -> Chunk<'a> {
        self.fetched.chunk(chunk as usize)
    }

    /// An error in what chunk number `chunk` of the slice holds.
    pub(super) fn place(&self, chunk: u32, error: impl Into<Error>) -> Error {
        let wanted = self.wanted(chunk);
        let error = error.into().within(format_args!("chunk at byte {}", wanted.chunk_ref.offset()));
        self.sources[wanted.source as usize].place(error, BlockObject::Segment(wanted.chunk_ref.segment()))
    }
}

/// The items of the series of one slice, one part's behind the other's.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<Item>,
    /// For each iterator of the merge, its items.
    runs: Vec<(u32, u32)>,
    cut: Vec<u8>,
    /// Of a part that was added in part, the next chunk and its first item.
    open: Option<(u32, usize)>,
}

impl Items {
    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.open = None;
        self.runs.clear();
        self.cut.clear();
    }

    /// For each iterator that takes part in the merge of the series added last, its items.
    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = &[Item]> {
        self.runs.iter().map(|(start, end)| &self.items[*start as usize..*end as usize])
    }

    /// Item number `at` of run number `run`.
    pub(super) fn get(&self, run: usize, at: usize) -> Option<Item> {
        let (start, end) = self.runs[run];
        self.items[start as usize..end as usize].get(at).copied()
    }

    /// Forgets the runs of the series added last; its items stay.
    pub(super) fn end_series(&mut self) {
        self.runs.clear();
    }

    /// The record of an item.
    pub(super) fn record<'a>(&'a self, item: Item, origin: Origin<'a>) -> &'a [u8] {
        match item.place {
            Place::Fetched(chunk) => origin.fetched.record(chunk as usize),
            Place::Cut { start, end, .. } => &self.cut[start as usize..end as usize],
        }
    }

    /// The chunk of an item.
    pub(super) fn chunk<'a>(&'a self, item: Item, origin: Origin<'a>) -> Chunk<'a> {
        match item.place {
            Place::Fetched(chunk) => origin.chunk(chunk),
            Place::Cut { start, end, data_len } => {
                let behind = end as usize - segment::CHECKSUM_LEN;
                let data = &self.cut[behind - data_len as usize..behind];
                Chunk { encoding: item.encoding, data, len: (end - start) as usize }
            }
        }
    }

    /// An error in what an item holds.
    pub(super) fn place(&self, item: Item, error: impl Into<Error>, origin: Origin<'_>) -> Error {
        match item.place {
            Place::Fetched(chunk) => origin.place(chunk, error),
            Place::Cut { .. } => error.into(),
        }
    }

    /// Adds the chunks of one part: without what is deleted or lies outside, and mended where asked for.
    /// Whether all are added; when `budget` is spent, the same call goes on.
    pub(super) fn add(
        &mut self,
        part: &Part,
        origin: Origin<'_>,
        stats: &mut JobStats,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let (next, start) = self.open.take().unwrap_or((part.start, self.items.len()));
        let deleted = origin.sources[part.source as usize].tombstones().of(part.series_ref);
        let block = origin.sources[part.source as usize].meta();
        for chunk in next..part.end {
            if budget.is_spent() {
                self.open = Some((chunk, start));
                return Ok(false);
            }
            let meta = origin.slice.chunks[chunk as usize].meta;
            let outside = meta.min_time >= block.max_time || meta.max_time < block.min_time;
            if origin.repair != Repair::Nothing && outside {
                stats.chunks_dropped += 1;
                continue;
            }
            let range = TimeRange::new(meta.min_time, meta.max_time);
            let whole = origin.range.min_time <= range.min_time && range.max_time <= origin.range.max_time;
            let encoding = origin.chunk(chunk).encoding;
            if whole && !deleted.iter().any(|deleted| deleted.overlaps(range)) {
                let times = (meta.min_time, meta.max_time);
                self.items.push(Item { times, encoding, place: Place::Fetched(chunk) });
            } else {
                self.add_cut(chunk, deleted, origin, stats)?;
                budget.spend(workers::units(encoding));
            }
        }
        let end = self.items.len();
        if origin.repair == Repair::All {
            self.add_mended(start, origin, stats);
        } else if start < end {
            self.runs.push((start as u32, end as u32));
        }
        Ok(true)
    }

    /// Adds what is left of a chunk of which a part is deleted or lies outside.
    fn add_cut(
        &mut self,
        chunk: u32,
        deleted: &[TimeRange],
        origin: Origin<'_>,
        stats: &mut JobStats,
    ) -> Result<(), Error> {
        let read = origin.chunk(chunk);
        let stays = |time: i64| origin.range.contains(time) && !deleted.iter().any(|deleted| deleted.contains(time));
        stats.chunks_decoded += 1;
        let cut = if read.encoding == Encoding::Aggr {
            aggregates::cut(read.data, &stays, self)
        } else {
            let mut samples = Samples::default();
            samples.decode(read.encoding, read.data).map(|()| {
                stats.samples_decoded += samples.times.len() as u64;
                let mut encoder = Encoder::new(SAMPLES_MAX);
                for at in (0..samples.times.len()).filter(|at| stays(samples.times[*at])) {
                    encoder.push(samples.times_of(at), &samples.values[at], self);
                }
                encoder.finish(self);
            })
        };
        cut.map_err(|corrupt| origin.place(chunk, corrupt))
    }

    /// Puts the items from number `start` on in order, drops duplicates, and gives those that overlap
    /// iterators of their own.
    fn add_mended(&mut self, start: usize, origin: Origin<'_>, stats: &mut JobStats) {
        let mut items = self.items.split_off(start);
        items.sort_by_key(|item| item.times);
        let before = items.len();
        items.dedup_by(|later, first| {
            later.times == first.times && self.record(*later, origin) == self.record(*first, origin)
        });
        stats.chunks_dropped += (before - items.len()) as u64;
        let ranges: Vec<_> = items.iter().map(|item| TimeRange::new(item.times.0, item.times.1)).collect();
        let runs = overlap::split(&ranges);
        for run in 0..runs.iter().max().map_or(0, |last| last + 1) {
            let start = self.items.len() as u32;
            self.items.extend(items.iter().zip(&runs).filter(|(_, of)| **of == run).map(|(item, _)| *item));
            self.runs.push((start, self.items.len() as u32));
        }
    }
}

impl ChunkSink for Items {
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), _samples: u16) {
        let start = self.cut.len() as u32;
        segment::encode(chunk.0, chunk.1, &mut self.cut);
        let place = Place::Cut { start, end: self.cut.len() as u32, data_len: chunk.1.len() as u32 };
        self.items.push(Item { times, encoding: chunk.0, place });
    }
}
