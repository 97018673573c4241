//! Writing a block: series in the order of their labels, each with its chunks; the folder appears
//! under its name when everything in it is durable.
//!
//! ```text
//! <parent>/<ULID>.tmp-for-creation/   while it is written
//! <parent>/<ULID>/chunks/000001 …     segment files
//! <parent>/<ULID>/index               version 2
//! <parent>/<ULID>/tombstones          only without the section `thanos`: buckets have none
//! <parent>/<ULID>/meta.json           last
//! ```
//!
//! Memory grows with the symbols alone; postings go to a file without name in the folder when they are
//! many.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::tombstones::Tombstones;
use crate::bucket::Meta;
use crate::bucket::meta::{File as MetaFile, Stats};
use crate::bucket::name::{self, BlockObject, segment_name};
use crate::chunk::{Encoding, native, segment};
use crate::codec::{Corrupt, Cursor};
use crate::index::ChunkMeta;
use crate::index::tsdb::{IndexWritten, POSTINGS_BYTES, Spill, SymbolRef, Symbols, Writer};
use crate::io::folder;
use crate::model::{BlockId, ChunkRef, Error, Labels, SeriesRef, TimeRange};

/// What the folder of a block in the making ends in, as Prometheus and Thanos expect it.
pub const TMP_SUFFIX: &str = ".tmp-for-creation";

/// What the folder of a block that is being removed ends in, as Prometheus has it.
pub const REMOVED_SUFFIX: &str = ".tmp-for-deletion";

/// What Prometheus' folders of blocks in the making once ended in.
const LEGACY_SUFFIX: &str = ".tmp";

/// Removes the block in the folder `dir`, if there is one: first it loses its name, so that what is left of it by a
/// crash is no block, and is told from one that lost a file.
pub fn remove(dir: &Path) -> io::Result<()> {
    remove_by(dir, |from, to| fs::rename(from, to))
}

fn remove_by(dir: &Path, mut rename: impl FnMut(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let if_there = |removed: io::Result<()>| {
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    };
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(REMOVED_SUFFIX);
    let renamed = dir.with_file_name(name);
    if_there(fs::remove_dir_all(&renamed))?;
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut moved = rename(dir, &renamed);
    if moved.as_ref().is_err_and(|error| !is_gone(error)) {
        // A full disk may have no room for the other name before something large has gone.
        drop(remove_last_segment(dir));
        moved = rename(dir, &renamed);
    }
    match moved {
        Ok(()) => return if_there(fs::remove_dir_all(&renamed)),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(_) => {}
    }
    if_there(fs::remove_file(dir.join(name::META)))?;
    if_there(fs::remove_dir_all(dir))
}

fn remove_last_segment(dir: &Path) -> io::Result<()> {
    let segments = fs::read_dir(dir.join(name::CHUNKS))?;
    let last = segments.filter_map(Result::ok).map(|segment| segment.path()).max();
    last.map_or(Ok(()), fs::remove_file)
}

/// Whether a folder of this name is of a block that was never whole or is being removed.
pub fn is_unfinished(name: &str) -> bool {
    let is_of_block = |suffix: &str| name.strip_suffix(suffix).is_some_and(|stem| stem.parse::<BlockId>().is_ok());
    [TMP_SUFFIX, REMOVED_SUFFIX, LEGACY_SUFFIX].into_iter().any(is_of_block)
}

/// A chunk to be written.
#[derive(Clone, Copy, Debug)]
pub struct ChunkData<'a> {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// What lies between encoding byte and checksum.
    pub data: &'a [u8],
}

/// A chunk whose record is written already.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRecord {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Its samples, see [`sample_count`].
    pub samples: u16,
    /// Bytes of its record: length, encoding, data and checksum.
    pub len: u32,
}

/// A block in the making; its folder is removed when it is dropped unfinished.
#[derive(Debug)]
pub struct BlockWriter {
    folder: Folder,
    segments: segment::Writer,
    index: Writer<File>,
    stats: Stats,
    time_range: Option<TimeRange>,
    chunk_len_max: u64,
    metas: Vec<ChunkMeta>,
}

impl BlockWriter {
    /// Starts the block `id` in the folder `parent`; the names and values of its series all are among
    /// `symbols`.
    pub fn create(parent: &Path, id: BlockId, symbols: Symbols) -> Result<Self, Error> {
        let folder = Folder::create(parent, id)?;
        let index_path = folder.path.join(name::INDEX);
        let index = File::create_new(&index_path).map_err(|error| Error::file(&index_path, error))?;
        let segments = segment::Writer::new(folder.path.join(name::CHUNKS), segment::SEGMENT_BYTES_MAX);
        let spill = Spill { folder: folder.path.clone(), bytes_max: POSTINGS_BYTES };
        Ok(Self {
            folder,
            segments,
            index: Writer::create_spilling(index, symbols, &spill)?,
            stats: Stats::default(),
            time_range: None,
            chunk_len_max: 0,
            metas: Vec::new(),
        })
    }

    /// The symbols that labels refer to.
    pub fn symbols(&self) -> &Symbols {
        self.index.symbols()
    }

    /// The times of all chunks so far; `None` when there are none.
    pub fn time_range(&self) -> Option<TimeRange> {
        self.time_range
    }

    /// Counts of what was written so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The counts that meta.json will tell, to be corrected where another block's are told.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Appends a series, which comes after all before it; its chunks ascend and do not overlap.
    pub fn add_series(
        &mut self,
        labels: &[(SymbolRef, SymbolRef)],
        chunks: &[ChunkData<'_>],
    ) -> Result<SeriesRef, Error> {
        self.add_chunks(chunks)?;
        self.index.add_series(labels, &self.metas)
    }

    /// Appends a series as [`BlockWriter::add_series`] does, its labels given as text.
    pub fn add_labels(&mut self, labels: &Labels, chunks: &[ChunkData<'_>]) -> Result<SeriesRef, Error> {
        self.add_chunks(chunks)?;
        self.index.add_labels(labels, &self.metas)
    }

    /// Appends a series as [`BlockWriter::add_series`] does, its chunks given as `records`, which lie
    /// one behind the other and are as `chunks` says.
    pub fn add_records(
        &mut self,
        labels: &[(SymbolRef, SymbolRef)],
        records: &[u8],
        chunks: &[ChunkRecord],
    ) -> Result<SeriesRef, Error> {
        self.metas.clear();
        self.stats.num_series += 1;
        let mut rest = records;
        for chunk in chunks {
            let (record, behind) = rest.split_at(chunk.len as usize);
            let appended = self.segments.append_record(record);
            self.count_chunk(*chunk, appended)?;
            rest = behind;
        }
        self.measure_chunks();
        self.index.add_series(labels, &self.metas)
    }

    fn add_chunks(&mut self, chunks: &[ChunkData<'_>]) -> Result<(), Error> {
        self.metas.clear();
        self.stats.num_series += 1;
        for &ChunkData { min_time, max_time, encoding, data } in chunks {
            let samples = sample_count(encoding, data)?;
            let appended = self.segments.append(encoding, data);
            let len = segment::record_len(data.len()) as u32;
            self.count_chunk(ChunkRecord { min_time, max_time, encoding, samples, len }, appended)?;
        }
        self.measure_chunks();
        Ok(())
    }

    /// Takes the sizes of a series' chunks into account as upstream does: from one to the next, but for the
    /// last two.
    fn measure_chunks(&mut self) {
        for pair in self.metas.windows(2).rev().skip(1) {
            let (chunk, next) = (pair[0].chunk_ref, pair[1].chunk_ref);
            if chunk.segment() == next.segment() {
                self.chunk_len_max = self.chunk_len_max.max(u64::from(next.offset() - chunk.offset()));
            }
        }
    }

    /// Takes a chunk that was appended into account.
    fn count_chunk(&mut self, chunk: ChunkRecord, appended: io::Result<segment::ChunkRef>) -> Result<(), Error> {
        let at = appended.map_err(|error| Error::file(&self.folder.path.join(name::CHUNKS), error))?;
        let chunk_ref = ChunkRef::new(at.segment, at.offset);
        self.metas.push(ChunkMeta { min_time: chunk.min_time, max_time: chunk.max_time, chunk_ref });
        let samples = u64::from(chunk.samples);
        self.stats.num_chunks += 1;
        self.stats.num_samples += samples;
        match chunk.encoding {
            Encoding::Xor | Encoding::Xor2 => self.stats.num_float_samples += samples,
            Encoding::Aggr => {}
            _ => self.stats.num_histogram_samples += samples,
        }
        let range = TimeRange::new(chunk.min_time, chunk.max_time);
        self.time_range = Some(self.time_range.map_or(range, |known| known.hull(range)));
        Ok(())
    }

    /// Makes the block durable and gives it its name. `meta` describes it but for what is known here:
    /// counts, files and sizes are filled in. Returns the whole description.
    pub fn finish(self, meta: Meta) -> Result<Meta, Error> {
        self.finish_as(meta, Settling::Synced)
    }

    /// As [`BlockWriter::finish`], but the block is durable only after [`sync`].
    pub fn finish_unsynced(self, meta: Meta) -> Result<Meta, Error> {
        self.finish_as(meta, Settling::Unsynced)
    }

    fn finish_as(self, mut meta: Meta, settling: Settling) -> Result<Meta, Error> {
        let Self { folder, segments, index, stats, chunk_len_max, .. } = self;
        assert_eq!(meta.ulid, folder.id, "a block is described under its own id");
        let finished = match settling {
            Settling::Synced => segments.finish(),
            Settling::Unsynced => segments.finish_unsynced(),
        };
        let segment_lens = finished.map_err(|error| Error::file(&folder.path, error))?;
        let (written, index_file) = index.finish()?;
        if settling == Settling::Synced {
            index_file.sync_all().map_err(|error| Error::file(&folder.path.join(name::INDEX), error))?;
        }
        meta.stats = stats;
        if meta.thanos.is_none() {
            folder.write(name::TOMBSTONES, &Tombstones::default().to_bytes(), settling)?;
        }
        describe(&mut meta, &segment_lens, written, chunk_len_max);
        folder.write(name::META, &meta.to_json(), settling)?;
        folder.publish(settling)?;
        Ok(meta)
    }
}

/// Whether a block is durable when it gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    Synced,
    Unsynced,
}

/// Makes a finished block in the folder `dir` durable, its name among the others too.
pub fn sync(dir: &Path) -> Result<(), Error> {
    let chunks = dir.join(name::CHUNKS);
    for folder in [chunks.as_path(), dir] {
        let entries = fs::read_dir(folder).map_err(|error| Error::file(folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::file(folder, error))?.path();
            sync_file(&path)?;
        }
    }
    [Some(dir), dir.parent()].into_iter().flatten().try_for_each(sync_file)
}

fn sync_file(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::file(path, error))
}

/// Says in the section `thanos` which files there are and how large their parts get.
fn describe(meta: &mut Meta, segment_lens: &[u64], index: IndexWritten, chunk_len_max: u64) {
    let Some(thanos) = &mut meta.thanos else { return };
    let segments = 0..segment_lens.len() as u32;
    thanos.segment_files = segments.map(segment_name).collect();
    let segment = |(at, len): (usize, &u64)| MetaFile {
        rel_path: BlockObject::Segment(at as u32).to_string(),
        size_bytes: *len,
        hash: None,
    };
    thanos.files = segment_lens.iter().enumerate().map(segment).collect();
    thanos.files.push(MetaFile { rel_path: name::INDEX.to_owned(), size_bytes: index.len, hash: None });
    thanos.files.push(MetaFile { rel_path: name::META.to_owned(), ..MetaFile::default() });
    // What could not be measured stays as it was told, of a downsampled block by its source.
    for (told, found) in [
        (&mut thanos.index_stats.series_max_size, index.series_len_max),
        (&mut thanos.index_stats.chunk_max_size, chunk_len_max),
    ] {
        if found > 0 {
            *told = found;
        }
    }
}

/// Number of samples of a chunk; of aggregates the number of windows, as their counts say.
pub fn sample_count(encoding: Encoding, data: &[u8]) -> Result<u16, Corrupt> {
    let mut cursor = Cursor::new("chunk", data, 0);
    if encoding == Encoding::Aggr {
        if cursor.uvarint()? == 0 {
            return Ok(0);
        }
        cursor.u8()?;
    }
    let count = cursor.u16_be()?;
    Ok(match encoding {
        Encoding::HistogramSt | Encoding::FloatHistogramSt => count & native::COUNT_MASK_WITH_STARTS,
        _ => count,
    })
}

/// The folder of a block in the making.
#[derive(Debug)]
struct Folder {
    id: BlockId,
    parent: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Folder {
    fn create(parent: &Path, id: BlockId) -> Result<Self, Error> {
        let path = parent.join(format!("{id}{TMP_SUFFIX}"));
        let removed = match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let created = removed.and_then(|()| folder::create(parent));
        let created = created.and_then(|()| fs::create_dir_all(path.join(name::CHUNKS)));
        created.map_err(|error| Error::file(&path, error))?;
        Ok(Self { id, parent: parent.to_owned(), path, published: false })
    }

    fn write(&self, file: &str, bytes: &[u8], settling: Settling) -> Result<(), Error> {
        let path = self.path.join(file);
        fs::write(&path, bytes).map_err(|error| Error::file(&path, error))?;
        match settling {
            Settling::Synced => sync_file(&path),
            Settling::Unsynced => Ok(()),
        }
    }

    fn publish(mut self, settling: Settling) -> Result<(), Error> {
        let path = self.parent.join(self.id.to_string());
        if settling == Settling::Synced {
            sync_file(&self.path)?;
        }
        fs::rename(&self.path, &path).map_err(|error| Error::file(&path, error))?;
        self.published = true;
        match settling {
            Settling::Synced => sync_file(&self.parent),
            Settling::Unsynced => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.published {
            // What stays behind is removed when a block of this id is written again.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of two segments on a disk that has room for its other name only when one of them has gone, or
    /// never; how its folder was found at each attempt to rename it: whether it had each file.
    fn removed(name: &str, attempts_in_vain: usize) -> Vec<[bool; 3]> {
        let parent = std::env::temp_dir().join(format!("uru-block-{name}-{}", std::process::id()));
        let dir = parent.join(BlockId::from_parts(1, 1).to_string());
        let files = [name::META.to_owned(), format!("{}/000001", name::CHUNKS), format!("{}/000002", name::CHUNKS)];
        fs::create_dir_all(dir.join(name::CHUNKS)).unwrap();
        files.iter().for_each(|file| fs::write(dir.join(file), "content").unwrap());
        let mut found = Vec::new();
        let rename = |from: &Path, to: &Path| {
            found.push([0, 1, 2].map(|at: usize| from.join(&files[at]).exists()));
            if found.len() > attempts_in_vain { fs::rename(from, to) } else { Err(io::ErrorKind::StorageFull.into()) }
        };
        remove_by(&dir, rename).unwrap();
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
        fs::remove_dir(&parent).unwrap();
        found
    }

    #[test]
    fn a_block_on_a_full_disk_loses_a_segment_before_its_name_and_that_before_its_meta_json() {
        assert_eq!(removed("roomy", 0), [[true; 3]]);
        assert_eq!(removed("full", 1), [[true; 3], [true, true, false]]);
        assert_eq!(removed("stays-full", 2), [[true; 3], [true, true, false]]);
    }

    #[test]
    fn a_block_that_is_not_there_is_removed() {
        remove(&std::env::temp_dir().join(format!("uru-block-none-{}", std::process::id()))).unwrap();
    }
}
