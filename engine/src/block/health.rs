//! What an index says of its own soundness: order of series, labels and chunks, and chunks outside
//! the block's times. Compaction decides by it what to repair, what to leave out and where to halt.

use crate::index::ChunkMeta;
use crate::index::tsdb::{Reader, Series, Source, SymbolRef};
use crate::model::{Error, TimeRange};

/// Counts of what is and of what is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexHealth {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Series that do not come after the one before them.
    pub series_out_of_order: u64,
    /// Series without labels.
    pub series_without_labels: u64,
    /// Series without chunks.
    pub series_without_chunks: u64,
    /// Series whose labels do not ascend, as Prometheus up to 2.8 wrote them.
    pub series_with_labels_out_of_order: u64,
    /// Series of which chunks are out of order or overlap.
    pub series_with_chunks_out_of_order: u64,
    /// Chunks that start before the end of the one before them, duplicates not counted.
    pub chunks_out_of_order: u64,
    /// Chunks that cover the same times as the one before them.
    pub chunks_duplicated: u64,
    /// Chunks of which a part lies outside the block's times.
    pub chunks_outside: u64,
    /// Of these, those that lie outside wholly.
    pub chunks_wholly_outside: u64,
    /// Of those outside, those that start where the block ends: also in the next block, and safe to
    /// drop.
    pub chunks_at_end: u64,
    /// Bytes of the largest series entry.
    pub series_len_max: u64,
}

impl IndexHealth {
    /// Reads all series of `index`, the block's times being from `min_time` to `max_time`, both as
    /// meta.json says them.
    pub fn gather<S: Source>(index: &Reader<S>, min_time: i64, max_time: i64) -> Result<Self, Error> {
        let mut health = Self::default();
        let (mut scan, mut series) = (index.series(), Series::default());
        let mut before = Vec::new();
        while scan.next(&mut series)? {
            health.add(&series, &before, TimeRange::new(min_time, max_time));
            before.clone_from(&series.labels);
        }
        Ok(health)
    }

    /// Whether nothing is wrong that compaction could not carry over.
    pub fn is_sound(&self) -> bool {
        self.series_out_of_order == 0
            && self.series_without_labels == 0
            && self.series_without_chunks == 0
            && self.series_with_labels_out_of_order == 0
            && self.chunks_out_of_order == 0
            && self.chunks_duplicated == 0
            && self.chunks_outside == 0
    }

    /// Takes `series` into account, the one before it having the labels `before`.
    pub fn add(&mut self, series: &Series, before: &[(SymbolRef, SymbolRef)], range: TimeRange) {
        self.series_out_of_order += u64::from(self.series > 0 && series.labels.as_slice() <= before);
        self.series_without_labels += u64::from(series.labels.is_empty());
        self.series_without_chunks += u64::from(series.chunks.is_empty());
        let ascends = series.labels.is_sorted_by(|a, b| a.0 < b.0);
        self.series_with_labels_out_of_order += u64::from(!ascends);
        self.series_len_max = self.series_len_max.max(series.entry_len as u64);
        self.series += 1;
        self.chunks += series.chunks.len() as u64;
        let out_of_order_before = self.chunks_out_of_order;
        for pair in series.chunks.windows(2) {
            self.add_pair(&pair[0], &pair[1]);
        }
        self.series_with_chunks_out_of_order += u64::from(self.chunks_out_of_order > out_of_order_before);
        for chunk in &series.chunks {
            self.add_place(chunk, range);
        }
    }

    fn add_pair(&mut self, before: &ChunkMeta, chunk: &ChunkMeta) {
        if chunk.min_time > before.max_time {
            return;
        }
        if (chunk.min_time, chunk.max_time) == (before.min_time, before.max_time) {
            self.chunks_duplicated += 1;
        } else {
            self.chunks_out_of_order += 1;
        }
    }

    fn add_place(&mut self, chunk: &ChunkMeta, range: TimeRange) {
        if chunk.min_time >= range.min_time && chunk.max_time <= range.max_time {
            return;
        }
        self.chunks_outside += 1;
        if chunk.min_time > range.max_time || chunk.max_time < range.min_time {
            self.chunks_wholly_outside += 1;
        } else if chunk.min_time == range.max_time {
            self.chunks_at_end += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChunkRef;

    fn chunk(min_time: i64, max_time: i64) -> ChunkMeta {
        ChunkMeta { min_time, max_time, chunk_ref: ChunkRef(0) }
    }

    #[test]
    fn chunks_are_told_apart_by_what_is_wrong_with_them() {
        let series = Series {
            labels: vec![(SymbolRef(0), SymbolRef(1))],
            chunks: vec![chunk(-9, -1), chunk(0, 10), chunk(0, 10), chunk(5, 20), chunk(100, 101), chunk(102, 103)],
            ..Series::default()
        };
        let mut health = IndexHealth::default();
        health.add(&series, &[], TimeRange::new(0, 100));
        assert!(!health.is_sound());
        assert_eq!((health.chunks_duplicated, health.chunks_out_of_order), (1, 1));
        assert_eq!(health.series_with_chunks_out_of_order, 1);
        assert_eq!((health.chunks_outside, health.chunks_wholly_outside, health.chunks_at_end), (3, 2, 1));
        health.add(&series, &series.labels, TimeRange::ALL);
        assert_eq!(health.series_out_of_order, 1);
    }
}
