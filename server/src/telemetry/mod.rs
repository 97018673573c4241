//! Logs, metrics and profiles of the process.

/// What errors of libraries leave out.
pub mod causes;
/// Log lines in logfmt or JSON.
pub mod log;
/// The memory budget.
pub mod memory;
/// Calls over gRPC, counted.
pub mod rpc;
/// Which requests are logged.
pub mod requests;
/// The text of metrics, as it is read.
pub mod exposition;
/// The registry of metrics.
pub mod metrics;
/// Quantiles of what was observed lately.
pub mod summary;
