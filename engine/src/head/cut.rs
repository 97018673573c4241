//! Samples leave a head for blocks: they are frozen, written as one block for all heads of a tenant,
//! verified, and dropped from the heads.
//!
//! ```text
//! freeze ─ excerpts of all shards ─> write, verify, rename ─> truncate
//!    └─ nothing from before is taken in order any more     └─ sweep
//! ```
//! Freezing, truncating and sweeping go over the series part by part, so that samples are taken in
//! between.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Head;
use super::excerpt::{Excerpt, apart};
use super::out_of_order;
use super::series::Closed;
use super::shapes::ChunkShapes;
use crate::block::verify::verify;
use crate::block::writer::{self, BlockWriter, ChunkData};
use crate::bucket::Meta;
use crate::index::tsdb::{self, SymbolRef};
use crate::model::{Error, ErrorKind};
use crate::wal::CutKind;

/// Series of one part of a freeze or truncation: what is appended waits for a part at most.
const PART_SERIES: u32 = 1024;

/// What a block of late samples says in its meta.json, as Prometheus does.
pub const OUT_OF_ORDER_HINT: &str = "from-out-of-order";

impl Head {
    /// Ends the chunks that start before `until` (Unix milliseconds) of the series from `from` on, a part
    /// of them, and gives these chunks and where to go on; nowhere at the end. From the first part on no
    /// sample from before `until` is taken in order any more.
    pub fn freeze(&mut self, until: i64, from: u32) -> (Excerpt, Option<u32>) {
        self.min_valid_time = self.min_valid_time.max(until);
        let (ids, next) = self.part(from);
        for id in ids.clone() {
            let line = &self.lines[id as usize];
            if line.tail.count() > 0 && crate::chunk::xor::Tail::first_time(&line.data) < until {
                self.close_float(id);
                self.lines[id as usize].data = Vec::new();
            }
            if self.metas[id as usize].native.as_ref().is_some_and(|open| open.min_time < until) {
                self.close_native(id);
            }
            self.divide(id, until);
        }
        let ids: Vec<u32> = ids.collect();
        let frozen = self.excerpt_of(&ids, |id, chunks| {
            let closed = self.metas[id as usize].closed.iter();
            chunks.extend(closed.filter(|chunk| chunk.min_time < until).cloned());
        });
        (frozen, next)
    }

    /// Divides the ended chunk of series `id` that goes on from before `until` to behind it, if there is one. A head
    /// that took its samples with blocks of another length may have made it, and so does a replay, which does not
    /// know where the head that wrote the log ended chunks.
    fn divide(&mut self, id: u32, until: i64) {
        let closed = &mut self.metas[id as usize].closed;
        let Some(at) = closed.iter().position(|chunk| chunk.min_time < until && chunk.max_time >= until) else {
            return;
        };
        let (before, behind) = out_of_order::split(&closed[at], until);
        let stats = &mut self.stats;
        stats.chunks += (before.len() + behind.len()) as u64 - 1;
        stats.chunk_bytes -= closed[at].data.len() as u64;
        stats.chunk_bytes += before.iter().chain(&behind).map(|chunk| chunk.data.len() as u64).sum::<u64>();
        closed.splice(at..=at, before.into_iter().chain(behind));
    }

    /// The series of the part that begins at `from`, and where the next part begins.
    fn part(&self, from: u32) -> (std::ops::Range<u32>, Option<u32>) {
        let len = self.metas.len() as u32;
        let end = len.min(from.saturating_add(PART_SERIES));
        (from.min(end)..end, (end < len).then_some(end))
    }

    /// Drops the chunks that start before `until`, which were frozen and are in a block, of the series
    /// from `from` on, a part of them; gives where to go on. [`Head::sweep`] removes the series that
    /// nothing is left of.
    pub fn truncate(&mut self, until: i64, from: u32) -> Option<u32> {
        self.min_valid_time = self.min_valid_time.max(until);
        let (ids, next) = self.part(from);
        for id in ids {
            let meta = &mut self.metas[id as usize];
            let (before, bytes) = (meta.closed.len(), &mut self.stats.chunk_bytes);
            meta.closed.retain(|chunk| {
                let stays = chunk.min_time >= until;
                *bytes -= if stays { 0 } else { chunk.data.len() as u64 };
                stays
            });
            let removed = (before - meta.closed.len()) as u64;
            self.stats.chunks -= removed;
            self.stats.chunks_removed += removed;
            meta.closed.shrink_to_fit();
        }
        next
    }

    /// Drops all samples in order from before `until`, which are in a block, in one go. All series stay.
    pub(super) fn cut_off(&mut self, until: i64) {
        let mut from = Some(0);
        while let Some(start) = from {
            from = self.freeze(until, start).1;
        }
        from = Some(0);
        while let Some(start) = from {
            from = self.truncate(until, start);
        }
    }

    /// Late samples so far, all of which go into blocks.
    pub fn freeze_late(&mut self) -> Excerpt {
        let late: Vec<u32> = (0..self.metas.len() as u32)
            .filter(|id| self.metas[*id as usize].out_of_order.as_ref().is_some_and(|late| !late.is_empty()))
            .collect();
        let frozen: Vec<Vec<Closed>> = late
            .iter()
            .map(|id| self.metas[*id as usize].out_of_order.as_mut().map_or_else(Vec::new, |late| late.freeze()))
            .collect();
        self.excerpt_of(&late, |id, chunks| {
            if let Ok(at) = late.binary_search(&id) {
                chunks.extend_from_slice(&frozen[at]);
            }
        })
    }

    /// Drops the late samples that were frozen, when they are in blocks. [`Head::sweep`] removes the
    /// series that nothing is left of.
    pub fn truncate_late(&mut self) {
        for meta in self.metas.iter_mut() {
            if let Some(late) = &mut meta.out_of_order {
                late.drop_frozen();
                if late.is_empty() {
                    meta.out_of_order = None;
                }
            }
        }
    }

    /// Keeps the late samples that were frozen: no block came of them.
    pub fn thaw_late(&mut self) {
        for late in self.metas.iter_mut().filter_map(|meta| meta.out_of_order.as_mut()) {
            late.thaw();
        }
    }

    /// Times of the first and the last sample in order; `None` without any.
    pub fn range_in_order(&self) -> Option<(i64, i64)> {
        let start = |id: u32| {
            let (meta, line) = (&self.metas[id as usize], &self.lines[id as usize]);
            let open = (line.tail.count() > 0).then(|| crate::chunk::xor::Tail::first_time(&line.data));
            let native = meta.native.as_ref().map(|open| open.min_time);
            meta.closed.first().map(|chunk| chunk.min_time).or(native).or(open)
        };
        let first = (0..self.metas.len() as u32).filter_map(start).min()?;
        Some((first, self.max_time))
    }
}

/// Numbers of the blocks of `range_ms` milliseconds that samples of `excerpt` lie in. Not the times but the samples
/// between the first and the last of a chunk count: it may span all times there are.
pub fn block_numbers(excerpt: &Excerpt, range_ms: i64) -> BTreeSet<i64> {
    let number_of = |time: i64| time.div_euclid(range_ms);
    let mut numbers = BTreeSet::new();
    let mut chunks: Vec<Closed> = (0..excerpt.len()).flat_map(|at| excerpt.chunks(at)).cloned().collect();
    while let Some(chunk) = chunks.pop() {
        let number = number_of(chunk.min_time);
        numbers.insert(number);
        if number_of(chunk.max_time) != number {
            chunks.extend(out_of_order::split(&chunk, (number + 1).saturating_mul(range_ms)).1);
        }
    }
    numbers
}

/// Writes the samples of `excerpts` that lie in the times of each of `metas` as the block that it describes, into the
/// folder `parent`, and verifies it; those without samples are left out. Of a series that is in several excerpts one
/// sample of each time is kept. When one fails none stays: samples are in the heads or in blocks. `report` is told of
/// each.
pub fn write_blocks(
    parent: &Path,
    mut excerpts: Vec<Excerpt>,
    (kind, metas): (CutKind, impl IntoIterator<Item = Meta>),
    mut report: impl FnMut(&ChunkShapes, Duration),
) -> Result<Vec<Meta>, Error> {
    let mut written: Vec<Meta> = Vec::new();
    let mut metas = metas.into_iter().peekable();
    while let Some(meta) = metas.next() {
        let (id, begin) = (meta.ulid, Instant::now());
        let dir = parent.join(id.to_string());
        let outcome = match metas.peek() {
            Some(_) => write_block(parent, &mut excerpts, Texts::Keep, (kind, meta)),
            None => write_block(parent, &mut std::mem::take(&mut excerpts), Texts::Forget, (kind, meta)),
        };
        let verified = outcome.and_then(|block| block.map(|block| verified(&dir).map(|()| block)).transpose());
        match verified {
            Ok(None) => {}
            Ok(Some((meta, shapes))) => {
                report(&shapes, begin.elapsed());
                written.push(meta);
            }
            Err(error) => {
                let begun = written.iter().map(|meta| meta.ulid).chain([id]);
                // The last one's meta.json says that all are there.
                begun.rev().for_each(|id| drop(writer::remove(&parent.join(id.to_string()))));
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// What becomes of the texts of excerpts when a block has them all: until they are forgotten they are in memory twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// Another block needs them.
    Keep,
    /// Nobody does.
    Forget,
}

/// An error that says what is wrong with the block in the folder `dir`, if anything is.
fn verified(dir: &Path) -> Result<(), Error> {
    let report = verify(dir)?;
    if report.is_sound() {
        return Ok(());
    }
    let first = report.faults.first().cloned().unwrap_or_else(|| format!("{:?}", report.health));
    Err(Error::new(ErrorKind::Bug, format!("{}: the block that was cut is not sound: {first}", dir.display())))
}

/// Writes one block. `None` when it would have no samples.
fn write_block(
    parent: &Path,
    excerpts: &mut [Excerpt],
    texts: Texts,
    (kind, meta): (CutKind, Meta),
) -> Result<Option<(Meta, ChunkShapes)>, Error> {
    let range = (meta.min_time, meta.max_time);
    let chunks_of = |excerpt: &Excerpt, at: usize| -> Vec<Closed> {
        let chunks = excerpt.chunks(at);
        match kind {
            CutKind::InOrder => {
                chunks.iter().filter(|chunk| (range.0..range.1).contains(&chunk.min_time)).cloned().collect()
            }
            CutKind::OutOfOrder => out_of_order::merge(chunks, range),
        }
    };
    let has_chunks = |excerpt: &Excerpt, at: usize| {
        excerpt.chunks(at).iter().any(|chunk| chunk.min_time < range.1 && chunk.max_time >= range.0)
    };
    let series: Vec<Vec<usize>> =
        excerpts.iter().map(|excerpt| (0..excerpt.len()).filter(|at| has_chunks(excerpt, *at)).collect()).collect();
    if series.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let (symbols, places) = SymbolPlaces::new(excerpts, &series);
    if texts == Texts::Forget {
        excerpts.iter_mut().for_each(Excerpt::forget_texts);
    }
    let mut writer = BlockWriter::create(parent, meta.ulid, symbols)?;
    let labels = |from: usize, at: usize| places.labels(from, excerpts[from].labels(*series[from].get(at)?));
    let mut heads: BinaryHeap<Reverse<(SymbolLabels, usize, usize)>> =
        (0..excerpts.len()).filter_map(|from| Some(Reverse((labels(from, 0)?, from, 0)))).collect();
    let mut shapes = ChunkShapes::default();
    while let Some(Reverse((own, from, next))) = heads.pop() {
        let mut chunks = chunks_of(&excerpts[from], series[from][next]);
        heads.extend(labels(from, next + 1).map(|labels| Reverse((labels, from, next + 1))));
        // None is in two heads, unless some logs are of another number of partitions than others.
        while heads.peek().is_some_and(|Reverse((labels, ..))| *labels == own)
            && let Some(Reverse((_, from, next))) = heads.pop()
        {
            chunks.extend(chunks_of(&excerpts[from], series[from][next]));
            chunks.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
            chunks = apart(chunks);
            heads.extend(labels(from, next + 1).map(|labels| Reverse((labels, from, next + 1))));
        }
        let data: Vec<ChunkData<'_>> = chunks.iter().map(chunk_data).collect();
        data.iter().try_for_each(|chunk| shapes.count(chunk))?;
        if !data.is_empty() {
            writer.add_series(&own, &data)?;
        }
    }
    if writer.stats().num_samples == 0 {
        return Ok(None);
    }
    Ok(Some((writer.finish(meta)?, shapes)))
}

fn chunk_data(chunk: &Closed) -> ChunkData<'_> {
    let (min_time, max_time, encoding) = (chunk.min_time, chunk.max_time, chunk.encoding);
    ChunkData { min_time, max_time, encoding, data: &chunk.data }
}

/// Labels as the symbols of a block.
type SymbolLabels = Vec<(SymbolRef, SymbolRef)>;

/// Of each of several excerpts, where its symbols are in one ascending table.
struct SymbolPlaces(Vec<Vec<SymbolRef>>);

impl SymbolPlaces {
    /// The table of the symbols of these series of each excerpt, and the places. Besides them a few bytes are taken for
    /// each symbol, as there are many where heads are large.
    fn new(excerpts: &[Excerpt], series: &[Vec<usize>]) -> (tsdb::Symbols, Self) {
        let used: Vec<Vec<bool>> = excerpts.iter().zip(series).map(|(excerpt, series)| used(excerpt, series)).collect();
        let mut places: Vec<Vec<SymbolRef>> =
            excerpts.iter().map(|excerpt| vec![SymbolRef::default(); excerpt.symbols().len()]).collect();
        let next = |from: usize, at: usize| {
            let at = (at..used[from].len()).find(|at| used[from][*at])?;
            Some(Reverse((excerpts[from].symbol(at as u32), from, at)))
        };
        let mut heap: BinaryHeap<_> = (0..excerpts.len()).filter_map(|from| next(from, 0)).collect();
        // Of each symbol of the table one excerpt that has it, and its number there.
        let mut all: Vec<(u32, u32)> = Vec::new();
        let mut last = None;
        while let Some(Reverse((symbol, from, at))) = heap.pop() {
            if last != Some(symbol) {
                all.push((from as u32, at as u32));
                last = Some(symbol);
            }
            places[from][at] = SymbolRef(all.len() as u32 - 1);
            heap.extend(next(from, at + 1));
        }
        let texts = all.iter().map(|(from, symbol)| excerpts[*from as usize].symbol(*symbol));
        (tsdb::Symbols::from_sorted_texts(texts), Self(places))
    }

    /// Labels of the excerpt number `from` by their places in the table.
    fn labels(&self, from: usize, labels: &[(u32, u32)]) -> Option<SymbolLabels> {
        let place = |symbol: u32| self.0[from][symbol as usize];
        Some(labels.iter().map(|(name, value)| (place(*name), place(*value))).collect())
    }
}

/// Which symbols of `excerpt` the labels of these of its series have.
fn used(excerpt: &Excerpt, series: &[usize]) -> Vec<bool> {
    let mut used = vec![false; excerpt.symbols().len()];
    for (name, value) in series.iter().flat_map(|at| excerpt.labels(*at)) {
        (used[*name as usize], used[*value as usize]) = (true, true);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{AppendLimits, Options, StartTimes, WriteBatch};
    use crate::model::BlockId;
    use crate::wal::Recorder;

    /// A head with a sample of one series at each of `times`.
    fn head_of(times: &[i64]) -> Head {
        let (exemplars_max, start_times) = (0, StartTimes::Dropped);
        let (block_range_ms, out_of_order_window_ms, out_of_order_cap_max) = (100, 1000, 32);
        let options =
            Options { block_range_ms, out_of_order_window_ms, out_of_order_cap_max, exemplars_max, start_times };
        let (mut head, mut batch) = (Head::new(options, i64::MIN), WriteBatch::new());
        batch.push_series([("__name__", "up")]);
        times.iter().for_each(|time| batch.push_sample(*time, 1.0));
        let limits = AppendLimits { time_max: i64::MAX, series_left: None, latest_time: i64::MIN, memory: None };
        let report = head.append((&batch, &[0]), limits, (1, &mut Recorder::default()));
        assert_eq!(report.samples as usize, times.len());
        head
    }

    /// It was the end of all cuts: each said that the series doesn't come after itself.
    #[test]
    fn a_series_that_is_in_two_heads_is_one_of_the_block_with_one_sample_of_each_time() {
        let parent = std::env::temp_dir().join(format!("uru-cut-twice-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&parent));
        let mut heads = [&[10, 20, 30], &[20, 25, 60], &[70, 80, 15]].map(|times: &[i64; 3]| head_of(times));
        let in_order = heads.each_mut().map(|head| head.freeze(100, 0).0);
        let late = heads.each_mut().map(|head| head.freeze_late());
        let write = |excerpts: [Excerpt; 3], kind: CutKind, at: u128| {
            let meta = Meta::new(BlockId::from_parts(1, at), 0, 100);
            let stats = write_blocks(&parent, excerpts.to_vec(), (kind, [meta]), |_, _| {}).unwrap().remove(0).stats;
            (stats.num_series, stats.num_samples)
        };
        assert_eq!(write(in_order, CutKind::InOrder, 1), (1, 7));
        assert_eq!(write(late, CutKind::OutOfOrder, 2), (1, 1));
        std::fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn of_blocks_that_are_cut_at_once_none_stays_when_one_fails() {
        let parent = std::env::temp_dir().join(format!("uru-cut-at-once-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&parent));
        let mut head = head_of(&[10, 110]);
        let frozen = vec![head.freeze(200, 0).0];
        let meta = |at: i64| Meta::new(BlockId::from_parts(1, at as u128), at * 100, (at + 1) * 100);
        // The second can't get its name.
        std::fs::create_dir_all(parent.join(meta(1).ulid.to_string()).join("in the way")).unwrap();
        let mut count = 0;
        let mut write =
            || write_blocks(&parent, frozen.clone(), (CutKind::InOrder, [0, 1].map(meta)), |_, _| count += 1);
        assert!(write().is_err());
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
        assert_eq!((write().unwrap().len(), count), (2, 3));
        std::fs::remove_dir_all(&parent).unwrap();
    }
}
