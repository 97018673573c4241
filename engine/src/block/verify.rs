//! Checking all of a block on local disk: every checksum, every reference from the index into the
//! segment files, and the order of everything.

use std::fmt;
use std::path::Path;

use super::health::IndexHealth;
use super::writer::sample_count;
use crate::bucket::Meta;
use crate::bucket::name::{self, BlockObject};
use crate::chunk::segment;
use crate::codec::{Cursor, varint};
use crate::index::ChunkMeta;
use crate::index::tsdb::source::Window;
use crate::index::tsdb::{FileSource, Reader, Series, SeriesScan, Source, SymbolRef};
use crate::model::{Error, ErrorKind, SeriesRef, TimeRange};

/// Most faults that are told one by one; all are counted.
pub const FAULTS_MAX: usize = 100;

/// Chunks, or series, of a part that one thread checks.
const PART_CHUNKS: usize = 1024;

/// What was found in a block.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the index says.
    pub health: IndexHealth,
    /// Samples, as chunks count them.
    pub samples: u64,
    /// Bytes of the largest chunk, its length and checksum among them.
    pub chunk_len_max: u64,
    /// The first faults, each saying what, where and why.
    pub faults: Vec<String>,
    /// Number of all faults.
    pub fault_count: u64,
}

impl Report {
    /// Whether the block is sound.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0 && self.health.is_sound()
    }

    fn fault(&mut self, fault: impl fmt::Display) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault.to_string());
        }
    }
}

/// Reads all of the block in the folder `dir`. Fails when meta.json or index cannot be opened or the
/// disk fails; whatever else is wrong stands in the report.
pub fn verify(dir: &Path) -> Result<Report, Error> {
    let block = Verified::open(dir)?;
    let (mut scan, mut part) = (block.scan(), Part::default());
    while scan.fill(&mut part) {
        block.check(&mut part);
        scan.take(&part);
    }
    Ok(scan.finish())
}

/// A block that is verified, in parts that several threads may check.
pub struct Verified {
    meta: Meta,
    index: Reader<FileSource>,
    segments: Vec<FileSource>,
    /// What is wrong with the segments' headers.
    opened: Report,
}

/// Chunks that are checked together: those of a run of series.
#[derive(Debug, Default)]
pub struct Part {
    labels: Vec<(SymbolRef, SymbolRef)>,
    chunks: Vec<ChunkMeta>,
    /// For each series, where its labels and chunks end.
    ends: Vec<(usize, usize)>,
    samples: u64,
    chunk_len_max: u64,
    faults: Vec<String>,
    fault_count: u64,
}

impl Part {
    fn clear(&mut self) {
        let Self { labels, chunks, ends, samples, chunk_len_max, faults, fault_count } = self;
        labels.clear();
        chunks.clear();
        ends.clear();
        faults.clear();
        (*samples, *chunk_len_max, *fault_count) = (0, 0, 0);
    }
}

impl Verified {
    /// The block in the folder `dir`. Fails when meta.json or index cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let within = |file: &'static str| move |error: Error| error.within(file);
        let meta_path = dir.join(name::META);
        let meta = std::fs::read(&meta_path).map_err(|error| Error::file(&meta_path, error))?;
        let meta = Meta::parse(&meta)?;
        let index = Reader::open(FileSource::open(&dir.join(name::INDEX))?).map_err(within(name::INDEX))?;
        let mut opened = Report::default();
        let segments = open_segments(dir, &mut opened)?;
        Ok(Self { meta, index, segments, opened })
    }

    /// Its series from the first on.
    pub fn scan(&self) -> Scan<'_> {
        Scan {
            block: self,
            series: self.index.series(),
            next: Series::default(),
            before: Vec::new(),
            refs: RefSet::default(),
            report: self.opened.clone(),
            broken: None,
        }
    }

    /// Reads all chunks of `part`.
    pub fn check(&self, part: &mut Part) {
        // Chunks lie in the order of series, so that one segment follows the other.
        let mut window: Option<(u32, Window<'_, FileSource>)> = None;
        let (mut label_start, mut chunk_start) = (0, 0);
        for (label_end, chunk_end) in part.ends.iter().copied() {
            for chunk in &part.chunks[chunk_start..chunk_end] {
                let segment = chunk.chunk_ref.segment();
                match self.check_chunk(&mut window, chunk) {
                    Ok((samples, len)) => {
                        part.samples += u64::from(samples);
                        part.chunk_len_max = part.chunk_len_max.max(len);
                    }
                    Err(error) => {
                        part.fault_count += 1;
                        if part.faults.len() < FAULTS_MAX {
                            let labels = part.labels[label_start..label_end].to_vec();
                            let labels = Series { labels, ..Series::default() }.labels(self.index.symbols());
                            part.faults.push(format!("{} of {labels}: {error}", BlockObject::Segment(segment)));
                        }
                    }
                }
            }
            (label_start, chunk_start) = (label_end, chunk_end);
        }
    }

    /// Samples and length of the chunk that `meta` refers to; `window` is over the segment read last.
    fn check_chunk<'a>(
        &'a self,
        window: &mut Option<(u32, Window<'a, FileSource>)>,
        meta: &ChunkMeta,
    ) -> Result<(u16, u64), Error> {
        let segment = meta.chunk_ref.segment();
        let Some(file) = self.segments.get(segment as usize) else {
            return Err(Error::new(ErrorKind::Corrupt, format!("there is no segment {segment}")));
        };
        let window = match window {
            Some((open, window)) if *open == segment => window,
            other => &mut other.insert((segment, Window::new(file, "chunk segment"))).1,
        };
        check_chunk(window, meta, file.len())
    }
}

/// Reads an index and gathers what is found.
pub struct Scan<'a> {
    block: &'a Verified,
    series: SeriesScan<'a, FileSource>,
    next: Series,
    before: Vec<(SymbolRef, SymbolRef)>,
    refs: RefSet,
    report: Report,
    /// Why the index could not be read to its end.
    broken: Option<Error>,
}

impl Scan<'_> {
    /// Replaces `part` by the next one; false when there is none left.
    pub fn fill(&mut self, part: &mut Part) -> bool {
        part.clear();
        let range = TimeRange::new(self.block.meta.min_time, self.block.meta.max_time);
        while part.chunks.len() < PART_CHUNKS && part.ends.len() < PART_CHUNKS && self.broken.is_none() {
            match self.series.next(&mut self.next) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
            self.report.health.add(&self.next, &self.before, range);
            self.before.clone_from(&self.next.labels);
            self.refs.insert(self.next.series_ref);
            part.labels.extend_from_slice(&self.next.labels);
            part.chunks.extend_from_slice(&self.next.chunks);
            part.ends.push((part.labels.len(), part.chunks.len()));
        }
        !part.ends.is_empty()
    }

    /// Takes what was found in the part that comes next in order.
    pub fn take(&mut self, part: &Part) {
        self.report.samples += part.samples;
        self.report.chunk_len_max = self.report.chunk_len_max.max(part.chunk_len_max);
        self.report.fault_count += part.fault_count;
        let room = FAULTS_MAX.saturating_sub(self.report.faults.len());
        self.report.faults.extend(part.faults.iter().take(room).cloned());
    }

    /// Looks at the postings and the counts, once all parts are taken.
    pub fn finish(mut self) -> Report {
        if let Some(error) = self.broken {
            self.report.fault(error.within(name::INDEX));
        }
        check_postings(&self.block.index, &self.refs, &mut self.report);
        check_counts(&self.block.meta, &mut self.report);
        self.report
    }
}

/// Which references series have: a bit for each that is possible.
#[derive(Debug, Default)]
struct RefSet {
    words: Vec<u64>,
    len: usize,
}

impl RefSet {
    fn insert(&mut self, series: SeriesRef) {
        let at = series.0 as usize;
        if at / 64 >= self.words.len() {
            self.words.resize(at / 64 + 1, 0);
        }
        self.words[at / 64] |= 1 << (at % 64);
        self.len += 1;
    }

    fn contains(&self, series: u32) -> bool {
        let at = series as usize;
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

fn open_segments(dir: &Path, report: &mut Report) -> Result<Vec<FileSource>, Error> {
    let mut segments = Vec::new();
    loop {
        let object = BlockObject::Segment(segments.len() as u32);
        let path = dir.join(object.to_string());
        if !path.exists() {
            return Ok(segments);
        }
        let file = FileSource::open(&path)?;
        let mut window = Window::new(&file, "chunk segment");
        let header = window.bytes(0, segment::HEADER_LEN);
        if let Err(error) = header.and_then(|bytes| Ok(segment::check_header(bytes)?)) {
            report.fault(error.within(object));
        }
        segments.push(file);
    }
}

/// Samples and length of the chunk that `meta` refers to.
fn check_chunk(window: &mut Window<'_, FileSource>, meta: &ChunkMeta, file_len: u64) -> Result<(u16, u64), Error> {
    let offset = u64::from(meta.chunk_ref.offset());
    let start = window.up_to(offset, varint::LEN_MAX, file_len)?;
    let data_len = Cursor::new("chunk segment", start, offset).uvarint()?;
    let record_len = segment::record_len(usize::try_from(data_len.min(file_len)).unwrap_or(usize::MAX));
    let bytes = window.up_to(offset, record_len, file_len)?;
    let chunk = segment::read_at(bytes, offset, offset)?;
    let samples = sample_count(chunk.encoding, chunk.data)?;
    if samples == 0 {
        return Err(Error::new(ErrorKind::Corrupt, format!("chunk segment at byte {offset}: chunk without samples")));
    }
    Ok((samples, chunk.len as u64))
}

/// The list of all series is that of the series there are, and every other list is a part of it.
fn check_postings<S: Source>(index: &Reader<S>, series: &RefSet, report: &mut Report) {
    if let Err(error) = compare_postings(index, series, report) {
        report.fault(error.within(name::INDEX));
    }
}

fn compare_postings<S: Source>(index: &Reader<S>, series: &RefSet, report: &mut Report) -> Result<(), Error> {
    let mut scan = index.postings_offsets()?;
    let mut entry = Default::default();
    while scan.next(&mut entry)? {
        let (mut count, mut known) = (0, true);
        let visited = index.visit_postings_at(entry.offset, |refs| {
            count += refs.len();
            known &= refs.iter().all(|found| series.contains(*found));
        });
        if let Err(error) = visited {
            report.fault(error.within(format_args!("{}: {}={:?}", name::INDEX, entry.name, entry.value)));
            continue;
        }
        let all = entry.name.is_empty() && entry.value.is_empty();
        if all && count != series.len || !known {
            let label = format!("{}={:?}", entry.name, entry.value);
            report.fault(format_args!("{}: postings list of {label} names other series than there are", name::INDEX));
        }
    }
    Ok(())
}

fn check_counts(meta: &Meta, report: &mut Report) {
    let counts = [
        ("numSeries", meta.stats.num_series, report.health.series),
        ("numChunks", meta.stats.num_chunks, report.health.chunks),
        ("numSamples", meta.stats.num_samples, report.samples),
    ];
    for (what, told, found) in counts {
        if told != found {
            report.fault(format_args!("{}: {what} is {told}, found {found}", name::META));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::block::writer::{BlockWriter, ChunkData, TMP_SUFFIX};
    use crate::bucket::meta::Thanos;
    use crate::chunk::Encoding;
    use crate::index::tsdb::Symbols;
    use crate::model::{BlockId, Labels};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("uru-{name}-{}", std::process::id()));
            drop(std::fs::remove_dir_all(&path));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    /// A block of three series with three chunks each.
    fn write_block(parent: &Path, thanos: Option<Thanos>) -> Meta {
        let id = BlockId::from_parts(1_700_000_000_000, 5);
        let mut writer = BlockWriter::create(parent, id, Symbols::from_sorted(["0", "1", "2", "a"])).unwrap();
        for value in ["0", "1", "2"] {
            let data = [0, 3, 1, 2, 3, 4, 5];
            let chunk = |min_time| ChunkData { min_time, max_time: min_time + 9, encoding: Encoding::Xor, data: &data };
            writer.add_labels(&Labels::from_pairs([("a", value)]), &[chunk(0), chunk(10), chunk(20)]).unwrap();
        }
        assert_eq!(writer.time_range(), Some(TimeRange::new(0, 29)));
        writer.finish(Meta { thanos, ..Meta::new(id, 0, 30) }).unwrap()
    }

    #[test]
    fn a_written_block_is_sound_and_described() {
        let scratch = Scratch::new("verify-sound");
        let meta = write_block(&scratch.0, Some(Thanos::default()));
        let dir = scratch.0.join(meta.ulid.to_string());
        let report = verify(&dir).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.health.series, report.health.chunks, report.samples), (3, 9, 27));
        assert_eq!(Meta::parse(&std::fs::read(dir.join("meta.json")).unwrap()).unwrap(), meta);
        let thanos = meta.thanos.unwrap();
        assert_eq!(thanos.segment_files, ["000001"]);
        assert_eq!(thanos.index_stats.chunk_max_size, report.chunk_len_max);
        for file in &thanos.files[..2] {
            assert_eq!(std::fs::metadata(dir.join(&file.rel_path)).unwrap().len(), file.size_bytes);
        }
        assert!(!dir.join("tombstones").exists());
    }

    #[test]
    fn a_block_without_thanos_has_tombstones_as_prometheus_does() {
        let scratch = Scratch::new("verify-tombstones");
        let meta = write_block(&scratch.0, None);
        assert_eq!(std::fs::read(scratch.0.join(meta.ulid.to_string()).join("tombstones")).unwrap().len(), 9);
    }

    #[test]
    fn every_flipped_byte_is_a_fault_or_an_error() {
        let scratch = Scratch::new("verify-flipped");
        let meta = write_block(&scratch.0, None);
        let dir = scratch.0.join(meta.ulid.to_string());
        let path = dir.join("chunks/000001");
        let sound = std::fs::read(&path).unwrap();
        for at in (0..5).chain(8..sound.len()) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x11;
            std::fs::write(&path, &bytes).unwrap();
            let report = verify(&dir).unwrap();
            assert!(report.fault_count > 0, "byte {at}");
            assert!(report.faults[0].contains("chunks/000001"), "{:?}", report.faults);
        }
        std::fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert!(!verify(&dir).unwrap().is_sound());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(verify(&dir).unwrap().fault_count, 10);
    }

    #[test]
    fn an_unfinished_block_leaves_nothing_behind() {
        let scratch = Scratch::new("verify-unfinished");
        let id = BlockId::from_parts(1, 1);
        let writer = BlockWriter::create(&scratch.0, id, Symbols::default()).unwrap();
        assert!(scratch.0.join(format!("{id}{TMP_SUFFIX}")).exists());
        drop(writer);
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    }
}
