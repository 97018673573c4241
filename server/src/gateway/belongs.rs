//! Whether an index belongs to the block that it lies in: what is cheap to see when it is opened. That of
//! another block would give series the samples of others where chunks happen to lie at the same places.

use engine::bucket::BlockObject;
use engine::bucket::name::segment_name;
use engine::index::column::Reader;
use engine::index::column::layout::Kind;
use engine::index::tsdb::{Series, Source};
use engine::index::{BlockIndex, ChunkColumns, ChunkMeta, header};
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
    check_chunks(block, &first_chunks(index)?)
}

/// The same without reading much: where there are many chunks and meta.json counts them, their number tells enough.
pub(super) fn check_briefly(block: &SyncedBlock, index: &Reader) -> Result<(), Error> {
    check_counts(block, index)?;
    let of_chunks = index.sizes().filter(|(kind, _)| CHUNK_KINDS.contains(kind));
    let bytes: usize = of_chunks.map(|(_, bytes)| bytes).sum();
    if bytes > READ_BYTES_MAX && is_counted(block) {
        return Ok(());
    }
    check_chunks(block, &first_chunks(index)?)
}

/// Holds the number of series that an index-header knows of against that of meta.json; where they differ, `index` is
/// asked, as a header may seem to have more.
pub(super) fn check_header<H: AsRef<[u8]>, I: Source>(
    block: &SyncedBlock,
    header: &header::Reader<H>,
    index: &I,
) -> Result<(), Error> {
    let says = block.meta.stats.num_series;
    if says == 0 || header.series_max()? == says {
        return Ok(());
    }
    match header.series_count(index) {
        Ok(has) => check_count("series", has, says),
        Err(error) => passed_over(error),
    }
}

/// The same of a header that nobody has checked yet, and the chunks of the first series as [`check`] does, for which a
/// little of `index` is read.
pub(super) fn check_new_header<H: AsRef<[u8]>, I: Source>(
    block: &SyncedBlock,
    header: &header::Reader<H>,
    index: &I,
) -> Result<(), Error> {
    check_header(block, header, index)?;
    check_first_series(block, header, index).or_else(passed_over)
}

/// The same of a header that lay there, as earlier versions did not hold one against chunks before they named it so. An
/// index that can't be read now tells nothing.
pub(super) fn check_old_header<H: AsRef<[u8]>, I: Source>(
    block: &SyncedBlock,
    header: &header::Reader<H>,
    index: &I,
) -> Result<(), Error> {
    check_header(block, header, index)?;
    let checked = check_first_series(block, header, index);
    checked.or_else(|error| if is_foreign(&error) { Err(error) } else { Ok(()) })
}

fn check_first_series<H: AsRef<[u8]>, I: Source>(
    block: &SyncedBlock,
    header: &header::Reader<H>,
    index: &I,
) -> Result<(), Error> {
    let mut first = Series::default();
    let has_first = header.first_series(index, &mut first)?;
    if has_first { check_chunks(block, &first.chunks) } else { Ok(()) }
}

/// What is damaged or missing is told to those who ask for it; an index of another block, and one that can't be read,
/// is not to be used.
fn passed_over(error: Error) -> Result<(), Error> {
    if error.kind() == ErrorKind::Corrupt && !is_foreign(&error) { Ok(()) } else { Err(error) }
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
    counts.into_iter().try_for_each(|(what, has, says)| check_count(what, has, says))
}

fn check_count(what: &str, has: u64, says: u64) -> Result<(), Error> {
    // A meta.json that counts nothing tells nothing.
    if has == says || says == 0 {
        return Ok(());
    }
    Err(foreign(&format!("it has {has} {what}, and meta.json says {says}")))
}

/// Whether meta.json tells how many series and chunks there are.
fn is_counted(block: &SyncedBlock) -> bool {
    let stats = &block.meta.stats;
    stats.num_series != 0 && stats.num_chunks != 0
}

/// The chunks of the first series.
fn first_chunks(index: &Reader) -> Result<Vec<ChunkMeta>, Error> {
    let mut chunks = ChunkColumns::default();
    if index.series_count() > 0 {
        index.chunks(&[0], TimeRange::ALL, &mut chunks)?;
    }
    Ok(chunks.metas)
}

/// Holds the chunks of the first series against the block's times and segments, once the counts are found right.
fn check_chunks(block: &SyncedBlock, chunks: &[ChunkMeta]) -> Result<(), Error> {
    let meta = &block.meta;
    let within = |min: i64, max: i64| min < meta.max_time && max >= meta.min_time;
    if let (Some(first), Some(last)) = (chunks.first(), chunks.last())
        && !within(first.min_time, last.max_time)
    {
        let times = format!(
            "{} to {}, and meta.json says {} to {}",
            first.min_time, last.max_time, meta.min_time, meta.max_time
        );
        return Err(foreign(&format!("its first series has chunks of {times}")));
    }
    let last = (block.files.segments().len() as u32).checked_sub(1);
    chunks.iter().try_for_each(|chunk| check_place(block, chunk, last))
}

/// Holds the place of a chunk against the segments, `last` of which is the last one.
fn check_place(block: &SyncedBlock, chunk: &ChunkMeta, last: Option<u32>) -> Result<(), Error> {
    let (segment, offset) = (chunk.chunk_ref.segment(), chunk.chunk_ref.offset());
    let name = segment_name(segment);
    if let Some(last) = last.filter(|last| segment > *last) {
        let segments = format!("chunks/{name}, and the last segment is chunks/{}", segment_name(last));
        return Err(foreign(&format!("its first series has a chunk in {segments}")));
    }
    let len = block.files.len_of(BlockObject::Segment(segment));
    // With the right counts it is the segment that was cut off: who reads the chunk is told.
    if len.is_some_and(|len| u64::from(offset) < len) || is_counted(block) {
        return Ok(());
    }
    let len = len.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("chunks/{name} is not there")))?;
    let place = format!("byte {offset} of chunks/{name}, which has {len}");
    Err(foreign(&format!("its first series has a chunk at {place}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use engine::bucket::Meta;
    use engine::model::{BlockId, ChunkRef};

    use super::*;
    use crate::sync::BlockFiles;

    /// A block of times 0 to 100 with one segment of so many bytes; meta.json counts as many series as chunks.
    fn block(segment_len: u64, counted: u64) -> SyncedBlock {
        let mut meta = Meta::new(BlockId(7), 0, 100);
        (meta.stats.num_series, meta.stats.num_chunks) = (counted, counted);
        let objects = BTreeMap::from([(BlockObject::Segment(0), segment_len)]);
        let files = BlockFiles { objects, ..BlockFiles::default() };
        SyncedBlock { meta: Arc::new(meta), files, deletion_mark: None }
    }

    #[test]
    fn a_chunk_behind_the_end_of_its_segment_is_of_another_block_unless_the_counts_are_right() {
        let chunk = |segment: u32, min_time: i64| {
            [ChunkMeta { min_time, max_time: min_time + 10, chunk_ref: ChunkRef::new(segment, 8) }]
        };
        for (segment_len, counted, chunk, why) in [
            (50, 0, chunk(0, 5), None),
            (8, 0, chunk(0, 5), Some("a chunk at byte 8 of chunks/000001, which has 8")),
            (8, 3, chunk(0, 5), None),
            (0, 3, chunk(0, 5), None),
            (50, 3, chunk(1, 5), Some("a chunk in chunks/000002, and the last segment is chunks/000001")),
            (50, 3, chunk(0, 100), Some("chunks of 100 to 110, and meta.json says 0 to 100")),
        ] {
            let checked = check_chunks(&block(segment_len, counted), &chunk);
            assert_eq!(checked.is_err(), why.is_some(), "{segment_len} bytes: {checked:?}");
            if let (Err(error), Some(why)) = (checked, why) {
                assert!(is_foreign(&error) && error.message().ends_with(why), "{error}");
            }
        }
    }
}
