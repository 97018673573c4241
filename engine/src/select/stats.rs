//! What a request has touched, in plain fields; the server publishes them as hints and metrics.

/// Counters of one request, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks asked.
    pub blocks_queried: u64,
    /// Series that blocks' indexes found.
    pub postings_touched: u64,
    /// Bytes of these postings, four each.
    pub postings_touched_bytes: u64,
    /// Series whose labels and chunk places were looked up.
    pub series_touched: u64,
    /// Bytes of these labels and chunk places.
    pub series_touched_bytes: u64,
    /// Chunks of the answer, before equal ones were dropped.
    pub chunks_touched: u64,
    /// Bytes of these chunks.
    pub chunks_touched_bytes: u64,
    /// Chunks read.
    pub chunks_fetched: u64,
    /// Bytes read, gaps between chunks included.
    pub chunks_fetched_bytes: u64,
    /// Ranges read.
    pub chunks_fetches: u64,
    /// Series of the answer.
    pub merged_series: u64,
    /// Chunks of the answer.
    pub merged_chunks: u64,
    /// Bytes of the answer's frames.
    pub frame_bytes: u64,
    /// Nanoseconds that the index took.
    pub index_ns: u64,
    /// Nanoseconds spent waiting for local reads.
    pub read_ns: u64,
    /// Nanoseconds spent merging, checking and framing.
    pub merge_ns: u64,
}

impl Stats {
    /// Adds what another part of the request has touched.
    pub fn add(&mut self, other: &Self) {
        self.blocks_queried += other.blocks_queried;
        self.postings_touched += other.postings_touched;
        self.postings_touched_bytes += other.postings_touched_bytes;
        self.series_touched += other.series_touched;
        self.series_touched_bytes += other.series_touched_bytes;
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
