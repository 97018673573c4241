//! Samples on their way in: remote write, OTLP and what other receivers forward, from bytes to an
//! acknowledgement.
//!
//! ```text
//! HTTP ─ tenant ─ limits ─ decompress ─┬─ local: parse ─▶ batch ─▶ Ingest (WAL, fsync) ─▶ 200
//! gRPC ───────────────── decompress ───┤
//!                                      └─ ring: parse ─ relabel, split ─ place ─▶ receivers ─ quorum ─▶ 200
//! ```

/// Bodies of requests: read, decompressed, bounded.
pub mod body;
/// `thanos.Exemplars` over what is kept.
pub mod exemplars;
/// Forwarding over gRPC to other receivers, and back-off from dead ones.
pub mod forward;
/// `prometheus_tsdb_*`.
pub mod heads;
/// The HTTP handlers.
pub mod http;
/// From a request's bytes to a batch of the engine.
pub mod intake;
/// What tenants may send.
pub mod limits;
/// `thanos.Metadata` over what is kept.
pub mod metadata;
/// `thanos_receive_*`.
pub mod metrics;
/// What of refusals goes to the log.
pub mod noted;
/// OTLP metrics as Prometheus sees them.
pub mod otlp;
/// Why a request is refused, and what its sender is told.
pub mod refusal;
/// The hashrings file, read again while the process runs.
pub mod ring;
mod room;
/// The process' own metrics, scraped by itself.
pub mod own;
/// Placing series on receivers, and the quorum of replicas.
pub mod route;
/// The process' own metrics as a write request.
pub mod scrape;
/// `thanos.WriteableStore`.
pub mod service;
/// Blocks on their way to the bucket.
pub mod ship;
/// `thanos.status.Status` over what is kept.
pub mod statistics;
/// Which labels have how many series.
pub mod status;
/// Who sends.
pub mod tenant;
/// What lies in the data folder and is not read.
pub mod unread;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::model::Budget;
use engine::model::relabel::Rule;
use engine::shard::Ingest;

use forward::Peers;
use limits::Limiter;
use metrics::ReceiveMetrics;
use noted::Noted;
use otlp::Translation;
use ring::Rings;
use tenant::Tenancy;

/// What a process keeps, once its heads are open.
pub type Held = Arc<OnceLock<Arc<Ingest>>>;

/// What a receiver does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It places series on receivers and keeps none itself.
    Router,
    /// It keeps what it gets.
    Ingestor,
    /// It places series on receivers, of which it is one.
    RouterIngestor,
}

impl Mode {
    /// Its name in Thanos' logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "RouterOnly",
            Self::Ingestor => "IngestorOnly",
            Self::RouterIngestor => "RouterIngestor",
        }
    }

    /// Whether it keeps samples itself.
    pub fn ingests(self) -> bool {
        self != Self::Router
    }
}

/// How a receiver is set up.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// What it does with what it gets.
    pub mode: Mode,
    /// Who sends.
    pub tenancy: Tenancy,
    /// The label whose value is the tenant of a series (`--receive.split-tenant-label-name`).
    pub split_label: Option<String>,
    /// The header that says which replica a request is.
    pub replica_header: String,
    /// Receivers that each series goes to.
    pub replication_factor: usize,
    /// Its own address in the hashrings.
    pub local_endpoint: String,
    /// Most bytes of a request once it is decompressed (`--receive.request-bytes-max`).
    pub request_bytes_max: usize,
    /// How long receivers may take to answer.
    pub forward_timeout: Duration,
    /// How OTLP is translated.
    pub translation: Translation,
}

/// A receiver; shared by all connections.
pub struct Receiver {
    /// How it is set up.
    pub options: ReceiveOptions,
    /// Where it keeps samples; for ever empty in a router.
    pub ingest: Held,
    /// What tenants may send.
    pub limiter: Limiter,
    /// Rules that labels of series pass (`--receive.relabel-config`).
    pub relabel: Vec<Rule>,
    /// Which receivers there are.
    pub rings: Rings,
    /// Connections to them.
    pub peers: Peers,
    /// What requests have done.
    pub metrics: ReceiveMetrics,
    /// What of refusals was said in the log.
    pub noted: Noted,
    /// The memory of requests under way.
    pub memory: Arc<Budget>,
}

/// The memory of write requests under way where other requests may hold `limit` bytes: a quarter of that, of its
/// own, so that no query takes it from them.
pub fn request_memory(limit: u64) -> Arc<Budget> {
    Budget::new("--store.memory-limit", limit / 4)
}
