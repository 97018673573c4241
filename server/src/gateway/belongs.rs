//! Whether an index belongs to the block that it lies in: what is cheap to see when it is opened. That of
//! another block would give series the samples of others where chunks happen to lie at the same places.

use engine::bucket::BlockObject;
use engine::bucket::name::segment_name;
use engine::index::column::Reader;
use engine::index::{BlockIndex, ChunkColumns};
use engine::model::{Error, ErrorKind, TimeRange};

use crate::sync::SyncedBlock;

/// Holds the numbers of series and chunks against those of meta.json, and the chunks of the first series
/// against the block's times and segments. An error says that the index is of another block.
pub(super) fn check(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    let meta = &block.meta;
    let foreign = |why: String| Error::new(ErrorKind::Corrupt, format!("index: it is of another block: {why}"));
    let counts = [
        ("series", u64::from(index.series_count()), meta.stats.num_series),
        ("chunks", index.chunk_count(), meta.stats.num_chunks),
    ];
    // A meta.json that counts nothing tells nothing.
    if let Some((what, has, says)) = counts.into_iter().find(|(_, has, says)| has != says && *says != 0) {
        return Err(foreign(format!("it has {has} {what}, and meta.json says {says}")));
    }
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
        return Err(foreign(format!("its first series has chunks of {times}")));
    }
    for chunk in &chunks.metas {
        let (segment, offset) = (chunk.chunk_ref.segment(), chunk.chunk_ref.offset());
        let name = segment_name(segment);
        let missing = || Error::new(ErrorKind::Corrupt, format!("chunks/{name} is not there"));
        let len = block.files.len_of(BlockObject::Segment(segment)).ok_or_else(missing)?;
        if u64::from(offset) >= len {
            let place = format!("byte {offset} of chunks/{name}, which has {len}");
            return Err(foreign(format!("its first series has a chunk at {place}")));
        }
    }
    Ok(())
}
