//! Many endpoints as one: who they are, what they answer, merged.
//!
//! ```text
//! addresses ─ resolve ─> endpoints ─ Info every 5 s ─> what each holds
//! request ─ prune by time and labels ─> streams ─ k-way merge ─> series in order ─> samples
//! ```

mod ahead;
/// What endpoints know beside series, as JSON.
pub mod answers;
mod asking;
/// The backend of the HTTP API over endpoints.
pub mod backend;
/// Connections to endpoints.
pub mod dial;
/// Addresses: given, from files, by DNS.
pub mod discovery;
mod distributed;
mod dns;
/// Endpoints and what they say of themselves.
pub mod endpoints;
mod federated;
/// Several sorted streams of series as one.
pub mod merge;
/// Requests to endpoints.
pub mod proxy;
/// What is counted.
pub mod metrics;
mod push;
/// Queries over gRPC.
pub mod queries;
/// What endpoints know beside series, over gRPC.
pub mod relay;
mod rules;
/// Which data of endpoints is answered from.
pub mod selector;
/// The querier as an endpoint itself.
pub mod serve;
/// Where queries read.
pub mod source;
/// Frames of one endpoint.
pub mod stream;
mod texts;
mod weighed;

pub use backend::{Fanout, Mode};
pub use endpoints::{EndpointSet, Peer};
pub use proxy::Proxy;
