//! One request over many blocks to one sorted answer.
//!
//! ```text
//! plan     matchers → ordinals of each block, in the order of the answer; cut into ranges
//! prepare  a range: labels, k-way merge, chunk places → read plan
//! fetch    the read plan's bytes: local files by the shard, others by the caller
//! encode   chunks checked, re-encoded where the wire knows them not, deduplicated → frames
//! ```
//!
//! Plan, prepare and encode are pure but for the block's index; each runs on a shard to its end.
//! Nothing is held but the ordinals of the matching series and the ranges in work, so an answer of
//! any size takes the memory of a few ranges.

/// Chunks: from bytes that were read to what the wire carries.
pub mod chunks;
/// Series by a few of their labels.
pub mod classes;
/// Chunks of one series in several blocks of a TSDB as chunks that don't overlap.
mod join;
/// Label names and label values over many blocks.
pub mod label;
/// Several sorted runs of series as one.
pub mod merge;
/// Which series of which blocks, in which order, in which ranges.
pub mod plan;
/// One range of an answer: prepared, then encoded.
pub mod range;
/// What is asked, and what limits it.
pub mod request;
/// The series of a range, with their chunks.
pub mod series;
/// Labels of an answer, made of a series' own and its block's.
pub mod shape;
/// Where an answer's series go.
pub mod sink;
/// What a request has touched.
pub mod stats;

pub use classes::Classes;
pub use label::{LabelAnswer, LabelRequest, Said, held_bytes};
pub use plan::{Failure, Found, Plan, Position, Source};
pub use range::{Fetched, Freshness, LabelBuffers, Outcome, Output, Prepared, RemoteRange};
pub use request::{Aggregate, Aggregates, Hashed, Limits, Meter, Projection, Request, ShardInfo};
pub use series::{RangeSeries, SeriesName};
pub use sink::{ChunkData, ChunkSet, FrameSink, SeriesSink, SinkFactory};
pub use stats::Stats;
