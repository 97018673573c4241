//! A copy of some series of a head, in the order of their labels: what readers and cuts work on while
//! the head grows.
//!
//! ```text
//! symbols  ascending, so that series are compared by the numbers of their symbols
//! series   ──> pairs of symbols
//!          └─> chunks, closed ones shared with the head
//! ```

use std::sync::Arc;

use super::Head;
use super::out_of_order;
use super::series::Closed;
use crate::block::Detail;
use crate::model::{Budget, Error, IsWanted, Matcher, Reservation, TimeRange};

/// Bytes that a series of some ten labels and two chunks takes while an excerpt is made, without the data of
/// chunks.
const SERIES_BYTES: u64 = 320;

/// Bytes of a chunk in a block of memory besides its data: its record's frame, and its place.
const RECORD_BYTES: u64 = 32;

/// Some series with some of their chunks.
#[derive(Clone, Debug, Default)]
pub struct Excerpt {
    text: String,
    ends: Vec<u32>,
    pairs: Vec<(u32, u32)>,
    series: Vec<Ends>,
    chunks: Vec<Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    labels: u32,
    chunks: u32,
}

impl Excerpt {
    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Symbols, ascending.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len() as u32).map(|symbol| self.symbol(symbol))
    }

    /// The text of a symbol.
    pub fn symbol(&self, symbol: u32) -> &str {
        let start = if symbol == 0 { 0 } else { self.ends[symbol as usize - 1] };
        &self.text[start as usize..self.ends[symbol as usize] as usize]
    }

    /// Symbols of the names and values of series `at`.
    pub fn labels(&self, at: usize) -> &[(u32, u32)] {
        let start = if at == 0 { 0 } else { self.series[at - 1].labels };
        &self.pairs[start as usize..self.series[at].labels as usize]
    }

    /// Chunks of series `at` in the order of their start; frozen late ones may overlap each other.
    pub fn chunks(&self, at: usize) -> &[Closed] {
        &self.chunks[self.chunk_start(at)..self.series[at].chunks as usize]
    }

    /// Chunks of all series before series `at`.
    pub(super) fn chunk_start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.series[at - 1].chunks as usize }
    }

    /// Times of the first and the last sample; `None` without chunks.
    pub fn time_range(&self) -> Option<TimeRange> {
        let min_time = self.chunks.iter().map(|chunk| chunk.min_time).min()?;
        let max_time = self.chunks.iter().map(|chunk| chunk.max_time).max()?;
        Some(TimeRange::new(min_time, max_time))
    }

    /// Gives the texts of symbols away, when only their order counts any more.
    pub(super) fn forget_texts(&mut self) {
        (self.text, self.ends) = (String::new(), Vec::new());
    }

    /// Bytes on the heap, chunks that the head shares among them.
    pub fn heap_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.data.len() + size_of::<Closed>()).sum();
        self.text.len() + self.ends.len() * 4 + self.pairs.len() * 8 + self.series.len() * 8 + chunks
    }
}

impl Head {
    /// The series that all `matchers` match and that have a chunk in `range`, with these chunks.
    pub fn excerpt(&self, matchers: &[Matcher], range: TimeRange) -> Result<Excerpt, Error> {
        Ok(self.copied(self.gather_in(&self.select(matchers, &|| Ok(()))?, range)))
    }

    /// The same within `memory`, with what it takes as a block, which has a copy of what its chunks share with
    /// the head; for labels alone the chunks have no data.
    pub fn excerpt_within(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        (detail, memory): (Detail, &Arc<Budget>),
        wanted: IsWanted<'_>,
    ) -> Result<(Excerpt, Reservation), Error> {
        let found = self.select(matchers, wanted)?;
        let mut held = memory.reserve(SERIES_BYTES * found.len() as u64)?;
        let gathered = self.gather_in(&found, range);
        held.resize(held.bytes().max(gathered.excerpt_bytes()))?;
        let mut excerpt = self.copied(gathered);
        if detail == Detail::Labels {
            let nothing: Arc<[u8]> = Arc::default();
            excerpt.chunks.iter_mut().for_each(|chunk| chunk.data = Arc::clone(&nothing));
        }
        held.resize(excerpt.heap_bytes() as u64 + RECORD_BYTES * excerpt.chunks.len() as u64)?;
        Ok((excerpt, held))
    }

    fn gather_in(&self, found: &[u32], range: TimeRange) -> Gathered {
        self.gather(found, |id, chunks| {
            let overlaps = |chunk: &Closed| range.overlaps(TimeRange::new(chunk.min_time, chunk.max_time));
            let meta = &self.metas[id as usize];
            chunks.extend(meta.closed.iter().filter(|chunk| overlaps(chunk)).cloned());
            let native = meta.native.as_ref().filter(|open| open.last_time() >= range.min_time);
            chunks.extend(native.map(|open| open.to_chunk()).filter(overlaps));
            let line = &self.lines[id as usize];
            if line.tail.last_time() >= range.min_time {
                chunks.extend(line.open_chunk().filter(overlaps));
            }
            if let Some(late) = &meta.out_of_order {
                chunks.extend(late.chunks().into_iter().filter(overlaps));
                chunks.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
                *chunks = apart(std::mem::take(chunks));
            }
        })
    }

    /// The series numbered `ids` for which `chunks_of` gives chunks.
    pub(super) fn excerpt_of(&self, ids: &[u32], chunks_of: impl FnMut(u32, &mut Vec<Closed>)) -> Excerpt {
        self.copied(self.gather(ids, chunks_of))
    }

    /// What an excerpt of the series numbered `ids` is to be made of, those for which `chunks_of` gives chunks.
    fn gather(&self, ids: &[u32], mut chunks_of: impl FnMut(u32, &mut Vec<Closed>)) -> Gathered {
        let mut chunks = Vec::new();
        let mut found: Vec<(u32, u32, u32)> = Vec::new();
        for id in ids {
            let start = chunks.len() as u32;
            let mut own = Vec::new();
            chunks_of(*id, &mut own);
            chunks.append(&mut own);
            if chunks.len() as u32 > start {
                found.push((*id, start, chunks.len() as u32));
            }
        }
        let ranks = self.rank_symbols(found.iter().map(|(id, ..)| *id));
        let text_bytes = ranks.order.iter().map(|symbol| self.symbols.get(*symbol).len()).sum();
        let pairs = found.iter().map(|(id, ..)| usize::from(self.metas[*id as usize].labels)).sum();
        Gathered { found, chunks, ranks, text_bytes, pairs }
    }

    fn copied(&self, gathered: Gathered) -> Excerpt {
        let Gathered { found, chunks, ranks, text_bytes, pairs: pair_count } = gathered;
        let mut excerpt = Excerpt {
            text: String::with_capacity(text_bytes),
            ends: Vec::with_capacity(ranks.order.len()),
            pairs: Vec::with_capacity(pair_count),
            series: Vec::with_capacity(found.len()),
            chunks: Vec::with_capacity(chunks.len()),
        };
        for symbol in &ranks.order {
            excerpt.text.push_str(self.symbols.text(*symbol));
            excerpt.ends.push(excerpt.text.len() as u32);
        }
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(pair_count);
        let mut places: Vec<(u32, u32, u32, u32)> = Vec::with_capacity(found.len());
        for (id, start, end) in found {
            let first = pairs.len() as u32;
            let ranked = |symbol: u32| ranks.of_symbol[symbol as usize] - 1;
            pairs.extend(self.pairs_of(id).map(|(name, value)| (ranked(name), ranked(value))));
            places.push((first, pairs.len() as u32, start, end));
        }
        let labels = |place: &(u32, u32, u32, u32)| &pairs[place.0 as usize..place.1 as usize];
        places.sort_unstable_by(|left, right| labels(left).cmp(labels(right)));
        for place in &places {
            excerpt.pairs.extend_from_slice(labels(place));
            excerpt.chunks.extend_from_slice(&chunks[place.2 as usize..place.3 as usize]);
            let (labels, chunks) = (excerpt.pairs.len() as u32, excerpt.chunks.len() as u32);
            excerpt.series.push(Ends { labels, chunks });
        }
        excerpt
    }

    /// The symbols of the series numbered `ids` in the order of their texts.
    fn rank_symbols(&self, ids: impl Iterator<Item = u32>) -> Ranks {
        let mut of_symbol = vec![0u32; self.symbols.len()];
        let mut order = Vec::new();
        for id in ids {
            for symbol in self.pairs_of(id).flat_map(|(name, value)| [name, value]) {
                let seen = &mut of_symbol[symbol as usize];
                if *seen == 0 {
                    *seen = 1;
                    order.push(symbol);
                }
            }
        }
        order.sort_unstable_by(|left, right| self.symbols.get(*left).cmp(self.symbols.get(*right)));
        for (rank, symbol) in order.iter().enumerate() {
            of_symbol[*symbol as usize] = rank as u32 + 1;
        }
        Ranks { of_symbol, order }
    }
}

/// `chunks`, ascending by their start, with those that share times made into ones that don't.
pub(super) fn apart(chunks: Vec<Closed>) -> Vec<Closed> {
    let (mut made, mut group): (Vec<Closed>, Vec<Closed>) = (Vec::new(), Vec::new());
    let mut end = i64::MIN;
    let mut settle = |group: &mut Vec<Closed>| match group.len() {
        0 | 1 => made.append(group),
        _ => made.extend(out_of_order::merge(&std::mem::take(group), (i64::MIN, i64::MAX))),
    };
    for chunk in chunks {
        if chunk.min_time > end {
            settle(&mut group);
        }
        end = end.max(chunk.max_time);
        group.push(chunk);
    }
    settle(&mut group);
    made
}

/// What an excerpt is made of.
struct Gathered {
    /// Numbers of series, each with where its chunks begin and end.
    found: Vec<(u32, u32, u32)>,
    chunks: Vec<Closed>,
    ranks: Ranks,
    text_bytes: usize,
    /// Labels of all series together.
    pairs: usize,
}

impl Gathered {
    /// Bytes that the excerpt and what it is made of take: texts may be of any length.
    fn excerpt_bytes(&self) -> u64 {
        let symbols = self.text_bytes + 12 * self.ranks.order.len();
        (symbols + 16 * self.pairs + 36 * self.found.len() + 2 * size_of::<Closed>() * self.chunks.len()) as u64
    }
}

/// Symbols in the order of their texts.
struct Ranks {
    /// Of each symbol its place in `order` plus 1; 0 for those that aren't there.
    of_symbol: Vec<u32>,
    order: Vec<u32>,
}
