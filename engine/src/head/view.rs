//! An excerpt as a block: what readers get of a head goes through the same plans as what they get of
//! blocks on disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::excerpt::Excerpt;
use crate::block::{BlockInfo, ChunkSource, OpenedBlock};
use crate::chunk::segment;
use crate::codec::StringList;
use crate::index::tsdb::SymbolRef;
use crate::index::{BlockIndex, ChunkColumns, ChunkMeta, SeriesLabels};
use crate::model::{BlockId, ChunkRef, Error, IsWanted, Labels, Matcher, Reservation, Resolution, TimeRange};
use crate::postings::Ordinals;

/// Bytes after which a segment in memory is ended.
const SEGMENT_BYTES: usize = 256 << 20;

/// Tells buffers of labels which view they were used with, and gives views their ids. Column indexes
/// count from 1, index-headers from 2^63.
static NEXT: AtomicU64 = AtomicU64::new(1 << 62);

/// The index of an excerpt. It was made for one set of matchers, so that whatever is asked of it, all
/// of its series match.
#[derive(Debug)]
struct ViewIndex {
    excerpt: Excerpt,
    places: Vec<(ChunkRef, u32)>,
    number: u64,
    /// What all of it takes.
    _held: Reservation,
}

/// `excerpt`, made for one set of matchers, as a block of a TSDB whose series have `external_labels` besides
/// their own. It answers with all of its series, so it must be asked with no other matchers. `held` is given
/// back with it.
pub fn open((excerpt, held): (Excerpt, Reservation), external_labels: Labels) -> Arc<OpenedBlock> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (mut segments, mut segment) = (Vec::new(), vec![0; segment::HEADER_LEN]);
    let mut places = Vec::new();
    for chunk in (0..excerpt.len()).flat_map(|at| excerpt.chunks(at)) {
        if segment.len() > SEGMENT_BYTES {
            segments.push(Bytes::from(std::mem::replace(&mut segment, vec![0; segment::HEADER_LEN])));
        }
        let start = segment.len();
        segment::encode(chunk.encoding, &chunk.data, &mut segment);
        places.push((ChunkRef::new(segments.len() as u32, start as u32), (segment.len() - start) as u32));
    }
    segments.push(Bytes::from(segment));
    let range = excerpt.time_range().unwrap_or(TimeRange::new(0, 0));
    let info = BlockInfo {
        id: BlockId::from_parts(0, u128::from(number)),
        min_time: range.min_time,
        max_time: range.max_time.saturating_add(1),
        resolution: Resolution::RAW,
        series: excerpt.len() as u64,
        external_labels,
    };
    let index = ViewIndex { excerpt, places, number, _held: held };
    Arc::new(OpenedBlock::new(info, Arc::new(index), ChunkSource::Memory(segments)).in_tsdb())
}

impl BlockIndex for ViewIndex {
    fn all(&self) -> Result<Ordinals, Error> {
        Ok(Ordinals::all(self.excerpt.len() as u32))
    }

    fn series_max(&self) -> u64 {
        self.excerpt.len() as u64
    }

    fn may_match(&self, _matchers: &[Matcher]) -> bool {
        !self.excerpt.is_empty()
    }

    fn select(&self, _matchers: &[Matcher], _wanted: IsWanted<'_>) -> Result<Ordinals, Error> {
        self.all()
    }

    fn label_names(&self, series: Option<&Ordinals>) -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        for at in (0..self.excerpt.len()).filter(|at| series.is_none_or(|series| series.contains(*at as u32))) {
            names.extend(self.excerpt.labels(at).iter().map(|(name, _)| *name));
        }
        Ok(names.into_iter().map(|name| self.excerpt.symbol(name).to_owned()).collect())
    }

    fn label_values(&self, name: &str, series: Option<&Ordinals>, limit: usize) -> Result<StringList, Error> {
        let ordinals: Vec<u32> = (0..self.excerpt.len() as u32)
            .filter(|ordinal| series.is_none_or(|series| series.contains(*ordinal)))
            .collect();
        let mut ids = Vec::new();
        self.value_ids(name, &ordinals, &mut ids)?;
        let ids: BTreeSet<u32> = ids.into_iter().filter(|id| *id != 0).collect();
        Ok(ids.into_iter().take(limit).map(|id| self.excerpt.symbol(id - 1)).collect())
    }

    fn labels(&self, ordinal: u32, labels: &mut SeriesLabels) -> Result<(), Error> {
        labels.begin(self.number);
        for (name, value) in self.excerpt.labels(ordinal as usize) {
            labels.push_symbols((SymbolRef(*name), SymbolRef(*value)), |symbol| Ok(self.excerpt.symbol(symbol.0)))?;
        }
        Ok(())
    }

    fn chunks(&self, ordinals: &[u32], range: TimeRange, chunks: &mut ChunkColumns) -> Result<(), Error> {
        for ordinal in ordinals {
            let start = self.excerpt.chunk_start(*ordinal as usize);
            let own = self.excerpt.chunks(*ordinal as usize);
            for (chunk, (chunk_ref, len)) in own.iter().zip(&self.places[start..]) {
                if range.overlaps(TimeRange::new(chunk.min_time, chunk.max_time)) {
                    let (min_time, max_time, chunk_ref) = (chunk.min_time, chunk.max_time, *chunk_ref);
                    chunks.metas.push(ChunkMeta { min_time, max_time, chunk_ref });
                    chunks.lens.push(*len);
                }
            }
            chunks.ends.push(chunks.metas.len() as u32);
        }
        Ok(())
    }

    fn value_ids(&self, name: &str, ordinals: &[u32], ids: &mut Vec<u32>) -> Result<(), Error> {
        for ordinal in ordinals {
            let labels = self.excerpt.labels(*ordinal as usize);
            let value = labels.iter().find(|(known, _)| self.excerpt.symbol(*known) == name);
            ids.push(value.map_or(0, |(_, value)| value + 1));
        }
        Ok(())
    }

    fn append_value(&self, _name: &str, id: u32, value: &mut String) -> Result<(), Error> {
        if id > 0 {
            value.push_str(self.excerpt.symbol(id - 1));
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.excerpt.heap_bytes() + self.places.len() * size_of::<(ChunkRef, u32)>()
    }
}
