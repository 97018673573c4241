//! Slices: runs of series in the order of their labels, each with the series of the sources that it is
//! made of. A slice is what one thread works on.

use super::source::{Bytes, SourceBlock};
use crate::block::health::IndexHealth;
use crate::bucket::name;
use crate::dedup::heap::Heap;
use crate::index::ChunkMeta;
use crate::index::tsdb::{Series, SeriesScan, SymbolRef, Symbols};
use crate::model::{Error, SeriesRef, TimeRange};

/// Series of one slice at most.
const SERIES_MAX: usize = 1024;

/// A label of the result: name and value.
pub(super) type Label = (SymbolRef, SymbolRef);

/// A run of series.
#[derive(Debug, Default)]
pub(super) struct Slice {
    labels: Vec<Label>,
    parts: Vec<Part>,
    /// Chunks of all parts, one part's behind the other's.
    pub(super) chunks: Vec<SourceChunk>,
    /// For each series, where its labels and parts end.
    ends: Vec<(u32, u32)>,
}

/// The series of one source that goes into a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Place of the block among the sources.
    pub(super) source: u32,
    /// The series in it.
    pub(super) series_ref: SeriesRef,
    /// Its chunks, as places among those of the slice.
    pub(super) start: u32,
    /// Behind the last of them.
    pub(super) end: u32,
}

/// A chunk and the place of its block among the sources.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceChunk {
    /// Place of the block.
    pub(super) source: u32,
    /// Where the chunk lies and which times it covers.
    pub(super) meta: ChunkMeta,
}

impl Slice {
    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Labels of series number `at`.
    pub(super) fn labels(&self, at: usize) -> &[Label] {
        let start = if at == 0 { 0 } else { self.ends[at - 1].0 };
        &self.labels[start as usize..self.ends[at].0 as usize]
    }

    /// What series number `at` is made of.
    pub(super) fn parts(&self, at: usize) -> &[Part] {
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 };
        &self.parts[start as usize..self.ends[at].1 as usize]
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.parts.clear();
        self.chunks.clear();
        self.ends.clear();
    }
}

/// One source's series in order.
struct Cursor<'a> {
    scan: SeriesScan<'a, Bytes>,
    series: Series,
    /// Labels of the series, as symbols of the result.
    labels: Vec<Label>,
    symbols: Vec<SymbolRef>,
    health: Option<Health>,
}

/// What the series so far say of the soundness of an index.
#[derive(Default)]
struct Health {
    counts: IndexHealth,
    /// Labels of the last series.
    before: Vec<Label>,
}

/// Cuts the series of all sources into slices.
pub(super) struct Slicer<'a> {
    sources: &'a [SourceBlock],
    range: TimeRange,
    chunks_max: usize,
    cursors: Vec<Cursor<'a>>,
    heap: Heap<usize>,
    current: Vec<usize>,
}

/// The symbols of the result, all of all `sources`, and of each source where its own are among them. Their texts are in
/// memory once from then on.
pub(super) fn merge_symbols(sources: &mut [SourceBlock]) -> Result<(Symbols, Vec<Vec<SymbolRef>>), Error> {
    let tables: Vec<&Symbols> = sources.iter().map(|source| source.index().symbols()).collect();
    let merged = Symbols::merge(&tables)?;
    sources.iter_mut().for_each(SourceBlock::forget_texts);
    Ok(merged)
}

impl<'a> Slicer<'a> {
    /// The slices of `sources`, each of about `chunks_max` chunks, chunks outside `range` and what
    /// tombstones delete wholly left out. `places` say where the symbols of each are among those of the result.
    pub(super) fn new(
        (sources, places): (&'a [SourceBlock], Vec<Vec<SymbolRef>>),
        range: TimeRange,
        chunks_max: usize,
    ) -> Self {
        let cursors = sources.iter().zip(places).map(|(source, symbols)| Cursor {
            scan: source.index().series(),
            series: Series::default(),
            labels: Vec::new(),
            symbols,
            health: None,
        });
        let (heap, current) = (Heap::default(), (0..sources.len()).collect());
        Self { sources, range, chunks_max, cursors: cursors.collect(), heap, current }
    }

    /// From now on counts what is wrong with the indexes that are read.
    pub(super) fn examine(&mut self) {
        for cursor in &mut self.cursors {
            cursor.health = Some(Health::default());
        }
    }

    /// What is wrong with the index of source number `at`, as far as it was read and [`Slicer::examine`]d.
    pub(super) fn health(&self, at: usize) -> IndexHealth {
        self.cursors[at].health.as_ref().map(|health| health.counts).unwrap_or_default()
    }

    /// Replaces `slice` by the next one; false when there is none left.
    pub(super) fn next(&mut self, slice: &mut Slice) -> Result<bool, Error> {
        slice.clear();
        while slice.len() < SERIES_MAX && slice.chunks.len() < self.chunks_max {
            for at in 0..self.current.len() {
                let source = self.current[at];
                if self.advance(source)? {
                    let cursors = &self.cursors;
                    self.heap.push(source, |a, b| cursors[*a].labels < cursors[*b].labels);
                }
            }
            self.current.clear();
            while let Some(source) = self.pop_equal() {
                self.current.push(source);
            }
            let Some(first) = self.current.first() else { break };
            slice.labels.extend_from_slice(&self.cursors[*first].labels);
            for source in &self.current {
                let series = &self.cursors[*source].series;
                let (source, start) = (*source as u32, slice.chunks.len() as u32);
                slice.chunks.extend(series.chunks.iter().map(|meta| SourceChunk { source, meta: *meta }));
                let end = slice.chunks.len() as u32;
                slice.parts.push(Part { source, series_ref: series.series_ref, start, end });
            }
            slice.ends.push((slice.labels.len() as u32, slice.parts.len() as u32));
        }
        Ok(slice.len() > 0)
    }

    /// The next source whose series has the labels of those that are current; any when none is.
    fn pop_equal(&mut self) -> Option<usize> {
        let (next, cursors) = (*self.heap.peek()?, &self.cursors);
        if self.current.first().is_some_and(|first| cursors[*first].labels != cursors[next].labels) {
            return None;
        }
        self.heap.pop(|a, b| cursors[*a].labels < cursors[*b].labels)
    }

    /// Moves a source to its next series that has a chunk left; false when there is none.
    fn advance(&mut self, at: usize) -> Result<bool, Error> {
        let (source, range) = (&self.sources[at], self.range);
        let Cursor { scan, series, labels, symbols, health } = &mut self.cursors[at];
        loop {
            if !scan.next(series).map_err(|error| source.place(error, name::INDEX))? {
                return Ok(false);
            }
            if let Some(Health { counts, before }) = health {
                counts.add(series, before, TimeRange::new(source.meta().min_time, source.meta().max_time));
                before.clone_from(&series.labels);
            }
            let deleted = source.tombstones().of(series.series_ref);
            series.chunks.retain(|chunk| {
                let within =
                    |deleted: &TimeRange| deleted.min_time <= chunk.min_time && chunk.max_time <= deleted.max_time;
                chunk.max_time >= range.min_time && chunk.min_time <= range.max_time && !deleted.iter().any(within)
            });
            if !series.chunks.is_empty() {
                break;
            }
        }
        labels.clear();
        let place = |symbol: SymbolRef| symbols[symbol.0 as usize];
        labels.extend(series.labels.iter().map(|(name, value)| (place(*name), place(*value))));
        // Prometheus up to 2.8 could write the labels of a series out of order.
        if !labels.is_sorted() {
            labels.sort_unstable();
        }
        Ok(true)
    }
}
