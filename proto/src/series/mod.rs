//! gRPC frames of `thanos.SeriesResponse`, the message that carries nearly every byte of a query.
//!
//! ```text
//! frame   0 | u32 BE length | SeriesResponse          0: not compressed
//! series  0x0a length { 0x0a length Label … 0x12 length AggrChunk … }
//! batch   0x22 length { 0x0a length Series … }
//! ```

/// Frames written straight from borrowed labels and chunks.
mod encode;
/// Frames read as borrowed labels and chunks.
mod scan;

pub use encode::{AggrPart, ChunkKind, ChunkRef, ChunkSet, FrameWriter};
pub use scan::{AggrChunkView, BatchView, ChunkView, ResponseView, SeriesView, scan};

/// Bytes before each gRPC message: one for compression, four of length.
pub const GRPC_PREFIX_LEN: usize = 5;
