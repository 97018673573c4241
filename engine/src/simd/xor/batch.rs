//! Samples of many chunks behind each other, and the room that decoding them takes.

use std::ops::Range;

use super::{Fault, count};
use crate::simd::prefetch;

/// Chunks whose counts are fetched from memory while one is read.
const COUNTS_AHEAD: usize = 24;

/// Samples of many chunks: columns that hold one chunk's samples behind those of the chunk before.
/// Its room only grows, so one batch is filled again and again without an allocation.
#[derive(Debug, Default)]
pub struct Batch {
    /// As long as the largest filling so far.
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// For each chunk, where its samples end.
    pub(super) ends: Vec<usize>,
    /// Copies of the chunks that are being decoded, with zeros behind each.
    pub(super) copies: Vec<u8>,
    /// Chunks in the order in which they are decoded.
    pub(super) order: Vec<u32>,
}

impl Batch {
    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no chunk.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where in the columns the samples of chunk `at` lie.
    pub fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start..self.ends[at]
    }

    /// Unix milliseconds of the samples of all chunks.
    pub fn timestamps(&self) -> &[i64] {
        &self.times[..self.sample_count()]
    }

    /// Values of the samples of all chunks.
    pub fn values(&self) -> &[f64] {
        &self.values[..self.sample_count()]
    }

    /// Timestamps and values of chunk `at`.
    pub fn chunk(&self, at: usize) -> (&[i64], &[f64]) {
        let range = self.range(at);
        (&self.times[range.clone()], &self.values[range])
    }

    /// Gives the columns away for others, to be swapped back once they are read: they may be longer
    /// than [`Batch::sample_count`].
    pub fn swap_columns(&mut self, timestamps: &mut Vec<i64>, values: &mut Vec<f64>) {
        std::mem::swap(&mut self.times, timestamps);
        std::mem::swap(&mut self.values, values);
        let whole = self.times.len().min(self.values.len());
        self.times.truncate(whole);
        self.values.truncate(whole);
    }

    /// Number of samples of all chunks.
    pub fn sample_count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let columns = (self.times.capacity() + self.values.capacity() + self.ends.capacity()) * 8;
        columns + self.copies.capacity() + self.order.capacity() * 4
    }

    /// Makes room for the samples of `chunks`.
    pub(super) fn prepare(&mut self, chunks: &[&[u8]]) -> Result<(), (usize, Fault)> {
        self.ends.clear();
        let mut end = 0;
        for (at, data) in chunks.iter().enumerate() {
            if let Some(header) = chunks.get(at + COUNTS_AHEAD).and_then(|chunk| chunk.first()) {
                prefetch(header);
            }
            end += count(data).map_err(|fault| (at, fault))?;
            self.ends.push(end);
        }
        if self.times.len() < end {
            self.times.resize(end, 0);
            self.values.resize(end, 0.0);
        }
        Ok(())
    }

    /// Room for the samples of chunk `at`.
    pub(super) fn slots(&mut self, at: usize) -> (&mut [i64], &mut [f64]) {
        let range = self.range(at);
        (&mut self.times[range.clone()], &mut self.values[range])
    }
}
