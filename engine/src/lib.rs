//! The engine of uru: bytes to answers.
//!
//! Modules are declared in the order in which data flows and import only from those above them.
//! The engine knows no socket, no HTTP, no gRPC and no object store: bytes that are not local it
//! asks for with a read plan.

/// Labels, times, ids, values, histograms, columns and errors: the nouns of everything below.
pub mod model;
/// Kernels chosen at run time by what the machine can do, each with a scalar twin.
pub mod simd;
/// Checked reading and writing of bytes and bits; one error for what is corrupt.
pub mod codec;
/// Local files, read and written in batches through io_uring or pread.
pub mod io;
/// What lies in a bucket: object names, meta.json, markers, which blocks there are.
pub mod bucket;
/// Postings: sets of the series of a block as dense ordinals, and their algebra.
pub mod postings;
/// What a block's index says: the TSDB's index file, Thanos' index-header, the column index.
pub mod index;
/// Chunks of samples and the segment files that hold them: decoded into columns, encoded from columns.
pub mod chunk;
/// Sample batches and step batches: columns of many series.
pub mod batch;
/// Blocks: opened ones and the set of all, tombstones, writing, verification.
pub mod block;
/// The write-ahead log: what was acknowledged, on disk before it was.
pub mod wal;
/// The writable block of one tenant: series, samples as they come, reads while it grows.
pub mod head;
/// One series of several replicas: penalty, chain, and overlapping chunks set apart.
pub mod dedup;
/// One request over many blocks to one sorted answer.
pub mod select;
/// Prometheus' query language over columns.
pub mod promql;
/// Better blocks: planning, merging, downsampling, retention, cleaning.
pub mod compact;
/// Cores: their threads, mailboxes and lanes.
pub mod shard;
