//! The TSDB's index asked through Thanos' index-header: what the header holds (symbols, label names
//! and values, where postings lie) is answered from it; postings and series are read by range from
//! the index file, wherever that is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pages::{PagePool, Pages};
use super::select::{self, Lookup, Step, Values, Visit};
use super::tsdb::offsets::PostingsRange;
use super::tsdb::postings;
use super::tsdb::series::read_series;
use super::tsdb::{Series, Source, SymbolRef};
use super::{BlockIndex, ChunkColumns, ChunkMeta, SeriesLabels, header};
use crate::codec::Corrupt;
use crate::codec::StringList;
use crate::model::{Error, ErrorKind, IsWanted, MatchKind, Matcher, SeriesRef, TimeRange};
use crate::postings::{Ordinals, Union};

/// The index of a block: its header (`H`) and its index file (`I`). Ordinals are the references of
/// the series. A [`Source`] that fetches from afar is read in pages, the last few of which are kept; in memory are
/// these, 2 MiB at most, and what [`header::Reader`] keeps.
#[derive(Debug)]
pub struct HeaderIndex<H, I> {
    header: header::Reader<H>,
    index: Pages<I>,
    number: u64,
}

impl<H: AsRef<[u8]>, I: Source> HeaderIndex<H, I> {
    /// An index with this header and this file.
    pub fn new(header: header::Reader<H>, index: I) -> Self {
        /// Tells buffers of labels which index they were used with; column indexes count from 1.
        static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { header, index: Pages::new(index), number }
    }

    /// The same, which keeps no more pages than `pool` has room for beside those of others.
    pub fn sharing(self, pool: Arc<PagePool>) -> Self {
        Self { index: self.index.sharing(pool), ..self }
    }

    fn series(&self, ordinal: u32, series: &mut Series) -> Result<(), Error> {
        let parts = (self.header.toc(), self.header.references(), self.header.version());
        self.read(|| read_series(&self.index, parts, SeriesRef(u64::from(ordinal)), series))
    }

    /// What `read` gives of the index, renewed where it is damaged, which an error says.
    fn read<T>(&self, read: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let is_damage = |error: &Error| error.kind() == ErrorKind::Corrupt;
        self.index.renewing(read).map_err(|error| if is_damage(&error) { error.within("index") } else { error })
    }

    /// Calls `visit` with each of `ordinals`.
    fn each(&self, ordinals: &[u32], mut visit: impl FnMut(&Series)) -> Result<(), Error> {
        let mut series = Series::default();
        for ordinal in ordinals {
            self.series(*ordinal, &mut series)?;
            visit(&series);
        }
        Ok(())
    }

    fn list(&self, range: PostingsRange) -> Result<Vec<u32>, Error> {
        self.read(|| {
            let mut refs = Vec::new();
            postings::read(&self.index, range.start, &mut refs)?;
            match refs.last() {
                Some(last) if *last >= self.end() => {
                    let reason = format!("reference {last} lies behind the last series");
                    Err(Corrupt::new("postings list", range.start, reason).into())
                }
                _ => Ok(refs),
            }
        })
    }

    /// One past the greatest reference that a series can have.
    fn end(&self) -> u32 {
        let bytes = self.header.toc().series_end(self.index.len());
        u32::try_from(bytes / self.header.version().series_unit()).unwrap_or(u32::MAX - 1) + 1
    }
}

/// The chunks of a series that share a millisecond with `range`.
fn append_chunks(all: &[ChunkMeta], range: TimeRange, chunks: &mut ChunkColumns) {
    for (at, chunk) in all.iter().enumerate() {
        if range.overlaps(TimeRange::new(chunk.min_time, chunk.max_time)) {
            let next = all.get(at + 1).map(|next| next.chunk_ref);
            let next = next.filter(|next| next.segment() == chunk.chunk_ref.segment() && *next > chunk.chunk_ref);
            chunks.metas.push(*chunk);
            chunks.lens.push(next.map_or(0, |next| next.offset() - chunk.chunk_ref.offset()));
        }
    }
    chunks.ends.push(chunks.metas.len() as u32);
}

impl<H: AsRef<[u8]> + Send + Sync, I: Source + Send + Sync> BlockIndex for HeaderIndex<H, I> {
    fn all(&self) -> Result<Ordinals, Error> {
        match self.header.find("", "")? {
            Some(range) => Ok(Ordinals::from(self.list(range)?)),
            None => Ok(Ordinals::empty()),
        }
    }

    /// A series takes 16 bytes of the index at least.
    fn series_max(&self) -> u64 {
        self.index.len() / 16
    }

    fn reads_index_file(&self) -> bool {
        true
    }

    fn may_match(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().filter(|matcher| matcher.kind() == MatchKind::Eq && !matcher.value().is_empty()).all(
            |matcher| {
                let Some(value) = matcher.value().as_str() else { return false };
                // A damaged header is told when the block is asked.
                self.header.find(matcher.name(), value).map_or(true, |found| found.is_some())
            },
        )
    }

    fn select(&self, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<Ordinals, Error> {
        select::select(self, matchers, wanted)
    }

    fn label_names(&self, series: Option<&Ordinals>) -> Result<Vec<String>, Error> {
        let Some(series) = series else { return Ok(self.header.label_names().map(str::to_owned).collect()) };
        let mut names = BTreeSet::new();
        self.each(&series.clone().into_list(), |series| names.extend(series.labels.iter().map(|label| label.0)))?;
        names.into_iter().map(|name| self.header.symbol(name).map(str::to_owned)).collect()
    }

    fn label_values(&self, name: &str, series: Option<&Ordinals>, limit: usize) -> Result<StringList, Error> {
        let Some(series) = series else {
            let mut values = StringList::default();
            self.header.visit_values(name, "", |value, _| {
                if values.len() == limit {
                    return ControlFlow::Break(());
                }
                values.push(value);
                ControlFlow::Continue(())
            })?;
            return Ok(values);
        };
        let mut ids = Vec::new();
        self.value_ids(name, &series.clone().into_list(), &mut ids)?;
        let ids: BTreeSet<u32> = ids.into_iter().filter(|id| *id != 0).collect();
        ids.into_iter().take(limit).map(|id| self.header.symbol(SymbolRef(id - 1))).collect()
    }

    fn labels(&self, ordinal: u32, labels: &mut SeriesLabels) -> Result<(), Error> {
        let mut series = Series::default();
        self.series(ordinal, &mut series)?;
        labels.begin(self.number);
        for (name, value) in &series.labels {
            labels.push_symbols((*name, *value), |symbol| self.header.symbol(symbol))?;
        }
        Ok(())
    }

    fn chunks(&self, ordinals: &[u32], range: TimeRange, chunks: &mut ChunkColumns) -> Result<(), Error> {
        self.each(ordinals, |series| append_chunks(&series.chunks, range, chunks))
    }

    fn value_ids(&self, name: &str, ordinals: &[u32], ids: &mut Vec<u32>) -> Result<(), Error> {
        let Some(name) = self.header.find_symbol(name)? else {
            ids.extend(ordinals.iter().map(|_| 0));
            return Ok(());
        };
        self.each(ordinals, |series| {
            let value = series.labels.iter().find(|label| label.0 == name);
            ids.push(value.map_or(0, |label| label.1.0 + 1));
        })
    }

    fn append_value(&self, _name: &str, id: u32, value: &mut String) -> Result<(), Error> {
        if id > 0 && id as usize <= self.header.symbol_count() {
            value.push_str(self.header.symbol(SymbolRef(id - 1))?);
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.header.heap_bytes() + self.index.heap_bytes()
    }
}

impl<H: AsRef<[u8]> + Send + Sync, I: Source + Send + Sync> Lookup for HeaderIndex<H, I> {
    type Value = PostingsRange;

    fn all(&self) -> Result<Ordinals, Error> {
        BlockIndex::all(self)
    }

    fn has_label(&self, name: &str) -> bool {
        !name.is_empty() && self.header.value_count(name) > 0
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<PostingsRange>, Error> {
        self.header.find(name, value)
    }

    fn visit(&self, name: &str, prefix: &str, visit: Visit<'_, PostingsRange>) -> Result<(), Error> {
        self.header.visit_values(name, prefix, |value, range| {
            if !value.starts_with(prefix) {
                return ControlFlow::Break(());
            }
            visit(value, range)
        })
    }

    fn estimate(&self, name: &str, values: &Values<PostingsRange>) -> Result<usize, Error> {
        let mut bytes = 0;
        match values {
            Values::All => self.visit(name, "", &mut |_, range| {
                bytes += range.end - range.start;
                ControlFlow::Continue(())
            })?,
            Values::Some(ranges) => bytes = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum(),
        }
        Ok((bytes / size_of::<u32>() as u64) as usize)
    }

    fn postings(&self, name: &str, values: &Values<PostingsRange>) -> Result<Ordinals, Error> {
        let all;
        let ranges = match values {
            Values::Some(ranges) => ranges,
            Values::All => {
                let mut found = Vec::new();
                self.visit(name, "", &mut |_, range| {
                    found.push(range);
                    ControlFlow::Continue(())
                })?;
                all = found;
                &all
            }
        };
        if let [range] = ranges[..] {
            return Ok(Ordinals::from(self.list(range)?));
        }
        let mut union = Union::new(self.end());
        for range in ranges {
            union.add_list(&self.list(*range)?);
        }
        Ok(union.finish())
    }

    fn sift(&self, _step: &Step<'_, PostingsRange>, _candidates: &Ordinals) -> Result<Option<Ordinals>, Error> {
        Ok(None)
    }
}
