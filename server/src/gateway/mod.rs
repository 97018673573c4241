//! The store gateway: the blocks of a bucket, answered for over the StoreAPI.

mod belongs;
/// Which blocks are open; syncing them with the bucket.
pub mod blocks;
/// Bytes of blocks that are not local.
pub mod fetch;
/// Frames that shards write.
pub mod frames;
mod index_file;
/// Indexes that are answered through Thanos' index-header.
pub mod header;
/// Label names and label values.
pub mod labels;
/// Opening blocks of which all lies on the local disk.
pub mod local;
/// Opening a block: its column index, its chunks.
pub mod load;
/// `thanos_bucket_store_*`.
pub mod metrics;
/// Queries over the blocks.
pub mod query;
/// What is kept beside the bucket's blocks.
mod held;
/// From wire messages to the engine's requests.
pub mod request;
/// Memory for building column indexes.
mod room;
/// How large the chunks are that are sent.
pub mod sent;
/// Series.
pub mod series;
/// thanos.Store and thanos.info.Info over a gateway.
pub mod service;

use std::sync::Arc;

use engine::shard::Selector;
use tokio::sync::Semaphore;

pub use blocks::Blocks;
pub use metrics::StoreMetrics;
pub use service::{GatewayInfo, StoreService};

use crate::api::parsing::Parsing;
use crate::cli::TimeOrDuration;
use crate::ingest::Held;
use crate::objstore::Bucket;
use crate::objstore::cache::Ranges;

/// What ends a request; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// `--store.limits.request-series`.
    pub series: u64,
    /// `--store.limits.request-samples`.
    pub samples: u64,
    /// `--store.grpc.touched-series-limit`.
    pub touched_series: u64,
    /// `--store.grpc.series-sample-limit`.
    pub chunk_samples: u64,
    /// `--store.grpc.downloaded-bytes-limit`.
    pub downloaded_bytes: u64,
}

/// A gateway; shared by all connections.
pub struct Gateway {
    /// The blocks that are open.
    pub blocks: Blocks,
    /// What the process itself ingests, where it does.
    pub ingest: Option<Held>,
    /// Runs requests on the shards.
    pub selector: Selector,
    /// Parses requests.
    pub parsing: Parsing,
    /// Where the blocks are.
    pub bucket: Bucket,
    /// Reads ranges of the bucket's objects, through a cache where there is one.
    pub ranges: Ranges,
    /// What ends a request.
    pub limits: RequestLimits,
    /// Series requests that run at once; none: any number.
    pub gate: Option<Arc<Semaphore>>,
    /// Nothing before this is answered.
    pub min_time: TimeOrDuration,
    /// Nothing after this is answered.
    pub max_time: TimeOrDuration,
    /// What requests have done.
    pub metrics: StoreMetrics,
}
