//! What lies in a bucket: names of objects, what meta.json and the markers say, which blocks there
//! are.
//!
//! ```text
//! <ULID>/meta.json                the block's description, uploaded last, deleted first
//! <ULID>/index                    the TSDB's index
//! <ULID>/chunks/000001 …          segment files
//! <ULID>/deletion-mark.json       to be deleted after a delay
//! <ULID>/no-compact-mark.json     left out of compaction
//! <ULID>/no-downsample-mark.json  left out of downsampling
//! ```

/// Writing JSON byte for byte as Go's encoder does.
pub mod go_json;
/// Times as Go's encoder writes them.
pub mod go_time;
/// Which blocks a listing shows: complete, partial, marked.
pub mod listing;
/// deletion-mark.json, no-compact-mark.json, no-downsample-mark.json.
pub mod marker;
/// meta.json.
pub mod meta;
/// Names of a block's objects.
pub mod name;
/// Read plans: which byte ranges to read so that all wanted pieces are there.
pub mod plan;

pub use go_time::GoTime;
pub use listing::{BlockListing, BlockObjects};
pub use marker::{DeletionMark, NoCompactMark, NoDownsampleMark};
pub use meta::Meta;
pub use name::{BlockObject, ObjectName};
