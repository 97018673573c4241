//! The nouns that every other module speaks of.

/// The process's memory budget.
pub mod budget;
/// How large a process may become by what it keeps.
pub mod ceiling;
/// Samples as columns.
pub mod columns;
/// Durations as Prometheus writes them.
pub mod duration;
/// One closed kind for every error that leaves the engine.
pub mod error;
/// Floats as text, as Go writes them.
pub mod float_text;
/// Native histograms, integer and float.
pub mod histogram;
/// Ids of blocks, series and chunks.
pub mod id;
/// Sorted label sets and their order.
pub mod labels;
/// Conditions on label values.
pub mod matcher;
/// Hashes of numbers of our own.
pub mod mixed;
/// When and by whom a request is ended.
pub mod patience;
/// Regexps in Go's RE2 syntax.
pub mod regexp;
/// Rules that rewrite label sets.
pub mod relabel;
/// Strings of bytes and Go's quoting.
pub mod text;
/// Times, ranges and resolutions.
pub mod time;
/// Sample values and the stale marker.
pub mod value;

pub use budget::{Budget, BudgetUsage, Reservation};
pub use ceiling::Ceiling;
pub use columns::{FloatColumns, FloatHistogramColumns, HistogramColumns};
pub use duration::DurationNs;
pub use error::{Error, ErrorKind, panic_message};
pub use histogram::{CounterReset, FloatHistogram, Histogram, HistogramValue, Span};
pub use id::{BlockId, ChunkRef, SeriesRef};
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchKind, Matcher};
pub use mixed::Mixed;
pub use patience::{IsWanted, Patience, Waiting};
pub use regexp::{Allowance, Regexp};
pub use text::ByteString;
pub use time::{Resolution, TimeRange, TimestampMs};
