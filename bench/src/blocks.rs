//! Blocks of a fleet on disk: XOR chunks of 120 samples that follow each other, written and opened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::block::writer::{BlockWriter, ChunkData};
use engine::block::{BlockInfo, ChunkSource, OpenedBlock, Segments};
use engine::bucket::Meta;
use engine::bucket::meta::Thanos;
use engine::chunk::{Encoding, xor};
use engine::index::column;
use engine::index::tsdb::{self, Symbols};
use engine::model::{BlockId, FloatColumns, Labels};

use crate::scrapes::{self, Timing};

/// Samples of which series take theirs, in turn.
const COLUMNS: usize = 997;

/// Milliseconds that a chunk covers, until the next one starts.
pub const CHUNK_MS: i64 = 120 * 15_000;

/// What a block is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What its id and its samples are made from.
    pub seed: u64,
    /// Milliseconds by which all samples are later.
    pub shift: i64,
    /// Chunks of each series.
    pub chunks: usize,
}

/// Writes a block of series with these labels, which ascend, into `parent`; the folder of the block.
///
/// # Panics
/// When it can't be written.
pub fn write(parent: &Path, labels: &[Labels], shape: Shape) -> PathBuf {
    let columns = scrapes::chunks(shape.seed | 1, COLUMNS, Timing::Jittered);
    let texts: BTreeSet<&str> =
        labels.iter().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let block = BlockId::from_parts(1_700_000_000_000 + shape.seed, u128::from(shape.seed));
    let mut writer = BlockWriter::create(parent, block, Symbols::from_sorted(texts)).expect("a new block");
    for (at, labels) in labels.iter().enumerate() {
        let encoded: Vec<(i64, i64, Vec<u8>)> = (0..shape.chunks)
            .map(|chunk| {
                let FloatColumns { timestamps, values } = &columns[(at * shape.chunks + chunk) % COLUMNS];
                let late = shape.shift + chunk as i64 * CHUNK_MS;
                let timestamps: Vec<i64> = timestamps.iter().map(|time| time + late).collect();
                let mut data = Vec::new();
                xor::encode(&timestamps, values, &mut data);
                (timestamps[0], timestamps[timestamps.len() - 1], data)
            })
            .collect();
        let chunks: Vec<_> = encoded
            .iter()
            .map(|(min_time, max_time, data)| ChunkData {
                min_time: *min_time,
                max_time: *max_time,
                encoding: Encoding::Xor,
                data,
            })
            .collect();
        writer.add_labels(labels, &chunks).expect("series in order");
    }
    let range = writer.time_range().expect("a block with samples");
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(block, range.min_time, range.max_time + 1) };
    writer.finish(meta).expect("a finished block");
    parent.join(block.to_string())
}

/// Opens the block in `folder`, with a column index in memory.
///
/// # Panics
/// When it is not sound.
pub fn open(folder: &Path) -> OpenedBlock {
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file of the block");
    let meta = Meta::parse(&read("meta.json")).expect("a meta.json");
    let index = tsdb::Reader::open(read("index")).expect("an index");
    let columns = column::build_in_memory(&index).expect("a column index");
    let index = column::Reader::from_bytes(columns, column::Check::Everything).expect("a sound column index");
    let chunks = ChunkSource::Local(Segments::new([folder.join("chunks/000001")]));
    OpenedBlock::new(BlockInfo::from_meta(&meta), Arc::new(index), chunks)
}
