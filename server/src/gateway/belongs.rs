//! Whether an index belongs to the block that it lies in: what is cheap to see when it is opened. That of
//! another block would give series the samples of others where chunks happen to lie at the same places.

use engine::bucket::BlockObject;
use engine::bucket::name::segment_name;
use engine::index::column::Reader;
use engine::index::column::layout::Kind;
use engine::index::{BlockIndex, ChunkColumns};
use engine::model::{Error, ErrorKind, TimeRange};

use crate::sync::SyncedBlock;

/// Columns of chunks.
const CHUNK_KINDS: [Kind; 6] =
    [Kind::ChunkStarts, Kind::FirstTimes, Kind::Gaps, Kind::Durations, Kind::Places, Kind::Lens];

/// Bytes of these that are read, to tell whose they are, of an index that is checked when it is used.
const READ_BYTES_MAX: usize = 1 << 20;

/// Holds the numbers of series and chunks against those of meta.json, and the chunks of the first series
/// against the block's times and segments. An error says that the index is of another block.
pub(super) fn check(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    check_counts(block, index)?;
    check_chunks(block, index)
}

/// The same without reading much: where there are many chunks and meta.json counts them, their number tells enough.
pub(super) fn check_briefly(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    check_counts(block, index)?;
    let of_chunks = index.sizes().filter(|(kind, _)| CHUNK_KINDS.contains(kind));
    let bytes: usize = of_chunks.map(|(_, bytes)| bytes).sum();
    let stats = &block.meta.stats;
    if bytes > READ_BYTES_MAX && stats.num_series != 0 && stats.num_chunks != 0 {
        return Ok(());
    }
    check_chunks(block, index)
}

/// What errors say of an index that is of another block.
const FOREIGN: &str = "it is of another block";

/// Whether an error says that an index is of another block, so that no form of it is to be used.
pub(super) fn is_foreign(error: &Error) -> bool {
    error.message().contains(FOREIGN)
}

fn foreign(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("index: {FOREIGN}: {why}"))
}

fn check_counts(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    let stats = &block.meta.stats;
    let counts = [
        ("series", u64::from(index.series_count()), stats.num_series),
        ("chunks", index.chunk_count(), stats.num_chunks),
    ];
    // A meta.json that counts nothing tells nothing.
    if let Some((what, has, says)) = counts.into_iter().find(|(_, has, says)| has != says && *says != 0) {
        return Err(foreign(&format!("it has {has} {what}, and meta.json says {says}")));
    }
    Ok(())
}

fn check_chunks(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    let meta = &block.meta;
    let mut chunks = ChunkColumns::default();
    if index.series_count() > 0 {
        index.chunks(&[0], TimeRange::ALL, &mut chunks)?;
    }
    let within = |min: i64, max: i64| min < meta.max_time && max >= meta.min_time;
    if let (Some(first), Some(last)) = (chunks.metas.first(), chunks.metas.last())
        && !within(first.min_time, last.max_time)
    {
        let times = format!(
            "{} to {}, and meta.json says {} to {}",
            first.min_time, last.max_time, meta.min_time, meta.max_time
        );
        return Err(foreign(&format!("its first series has chunks of {times}")));
    }
    for chunk in &chunks.metas {
        let (segment, offset) = (chunk.chunk_ref.segment(), chunk.chunk_ref.offset());
        let name = segment_name(segment);
        let missing = || Error::new(ErrorKind::Corrupt, format!("chunks/{name} is not there"));
        let len = block.files.len_of(BlockObject::Segment(segment)).ok_or_else(missing)?;
        if u64::from(offset) >= len {
            let place = format!("byte {offset} of chunks/{name}, which has {len}");
            return Err(foreign(&format!("its first series has a chunk at {place}")));
        }
    }
    Ok(())
}
