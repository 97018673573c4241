//! What a request has touched, in plain fields; the server publishes them as hints and metrics.

use crate::index::pages::PagesRead;

/// Counters of one request, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks asked.
    pub blocks_queried: u64,
    /// Series that blocks' indexes found.
    pub postings_touched: u64,
    /// Blocks whose indexes found none.
    pub postings_empty: u64,
    /// Bytes of these postings, four each.
    pub postings_touched_bytes: u64,
    /// Of these, those for which the bucket was read.
    pub postings_fetched: u64,
    /// Bytes of indexes that were read from the bucket for them; none where the column index answers.
    pub postings_fetched_bytes: u64,
    /// Reads of the bucket for them.
    pub postings_fetches: u64,
    /// Nanoseconds of these reads.
    pub postings_fetch_ns: u64,
    /// Series whose labels and chunk places were looked up.
    pub series_touched: u64,
    /// Bytes of these labels and chunk places.
    pub series_touched_bytes: u64,
    /// Of these, those of batches for which the bucket was read.
    pub series_fetched: u64,
    /// Bytes of indexes that were read from the bucket for them.
    pub series_fetched_bytes: u64,
    /// Reads of the bucket for them.
    pub series_fetches: u64,
    /// Nanoseconds of these reads.
    pub series_fetch_ns: u64,
    /// Chunks of the answer, before equal ones were dropped.
    pub chunks_touched: u64,
    /// Bytes of these chunks.
    pub chunks_touched_bytes: u64,
    /// Chunks that were read from the bucket, or from the folder that it is; not those in its cache.
    pub chunks_fetched: u64,
    /// Bytes read from there, gaps between chunks included.
    pub chunks_fetched_bytes: u64,
    /// Reads.
    pub chunks_fetches: u64,
    /// Series of the answer.
    pub merged_series: u64,
    /// Chunks of the answer.
    pub merged_chunks: u64,
    /// Bytes of the answer's frames.
    pub frame_bytes: u64,
    /// Nanoseconds that the index took.
    pub index_ns: u64,
    /// Nanoseconds spent waiting for chunks, local or not, those of parts that wait at once added up.
    pub read_ns: u64,
    /// Nanoseconds spent merging, checking and framing.
    pub merge_ns: u64,
}

impl Stats {
    /// Counts the series that a block's index found, and what was read for that.
    pub fn add_postings(&mut self, count: u64, read: PagesRead) {
        self.postings_touched += count;
        self.postings_empty += u64::from(count == 0);
        self.postings_touched_bytes += size_of::<u32>() as u64 * count;
        self.postings_fetched += if read.reads > 0 { count } else { 0 };
        self.postings_fetched_bytes += read.bytes;
        self.postings_fetches += read.reads;
        self.postings_fetch_ns += read.ns;
    }

    /// Counts series that were looked up, the bytes that they have, and what was read for that.
    pub fn add_series(&mut self, (count, bytes): (u64, u64), read: PagesRead) {
        self.series_touched += count;
        self.series_touched_bytes += bytes;
        self.series_fetched += if read.reads > 0 { count } else { 0 };
        self.series_fetched_bytes += read.bytes;
        self.series_fetches += read.reads;
        self.series_fetch_ns += read.ns;
    }

    /// Adds what another part of the request has touched.
    pub fn add(&mut self, other: &Self) {
        self.blocks_queried += other.blocks_queried;
        self.postings_touched += other.postings_touched;
        self.postings_empty += other.postings_empty;
        self.postings_touched_bytes += other.postings_touched_bytes;
        self.postings_fetched += other.postings_fetched;
        self.postings_fetched_bytes += other.postings_fetched_bytes;
        self.postings_fetches += other.postings_fetches;
        self.postings_fetch_ns += other.postings_fetch_ns;
        self.series_touched += other.series_touched;
        self.series_touched_bytes += other.series_touched_bytes;
        self.series_fetched += other.series_fetched;
        self.series_fetched_bytes += other.series_fetched_bytes;
        self.series_fetches += other.series_fetches;
        self.series_fetch_ns += other.series_fetch_ns;
        self.chunks_touched += other.chunks_touched;
        self.chunks_touched_bytes += other.chunks_touched_bytes;
        self.chunks_fetched += other.chunks_fetched;
        self.chunks_fetched_bytes += other.chunks_fetched_bytes;
        self.chunks_fetches += other.chunks_fetches;
        self.merged_series += other.merged_series;
        self.merged_chunks += other.merged_chunks;
        self.frame_bytes += other.frame_bytes;
        self.index_ns += other.index_ns;
        self.read_ns += other.read_ns;
        self.merge_ns += other.merge_ns;
    }
}
