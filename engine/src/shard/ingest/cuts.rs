//! What cutting the heads of a tenant comes to, counted.

use std::time::Duration;

use crate::head::shapes::{ChunkShapes, Distribution};

/// Counts of a tenant's cuts since the start.
#[derive(Clone, Copy, Debug)]
pub struct CutCounters {
    /// How often it was looked whether anything is due.
    pub looks: u64,
    /// Blocks that were written.
    pub blocks: u64,
    /// Looks that ended with an error.
    pub failed: u64,
    /// Milliseconds that writing each block took.
    pub took_ms: Distribution,
    /// What the blocks' chunks are like.
    pub chunks: ChunkShapes,
    /// Whether blocks are being written now.
    pub is_writing: bool,
    /// How often samples that are in blocks were to leave the heads.
    pub truncations: u64,
    /// How often they could not.
    pub truncations_failed: u64,
    /// How often series that nothing is left of were removed.
    pub sweeps: u64,
    /// Nanoseconds that this took, with other work in between.
    pub sweep_ns: u64,
    /// Parts of heads that were looked at for that.
    pub sweep_parts: u64,
}

impl Default for CutCounters {
    fn default() -> Self {
        let (took_ms, chunks) = (Distribution::of_durations_ms(), ChunkShapes::default());
        let (looks, blocks, failed, is_writing) = Default::default();
        let (truncations, truncations_failed, sweeps, sweep_ns, sweep_parts) = Default::default();
        Self {
            looks,
            blocks,
            failed,
            took_ms,
            chunks,
            is_writing,
            truncations,
            truncations_failed,
            sweeps,
            sweep_ns,
            sweep_parts,
        }
    }
}

impl CutCounters {
    /// A block with such chunks was written in `took`.
    pub(super) fn written(&mut self, chunks: &ChunkShapes, took: Duration) {
        self.blocks += 1;
        self.took_ms.count(took.as_millis() as u64);
        self.chunks.add(chunks);
    }
}
