//! Source blocks: what is merged or downsampled, read piece by piece from wherever it lies.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::block::health::IndexHealth;
use crate::block::tombstones::Tombstones;
use crate::bucket::Meta;
use crate::bucket::name::{self, BlockObject};
use crate::chunk::segment;
use crate::codec::{Corrupt, Cursor};
use crate::index::tsdb::{FileSource, Reader, Source};
use crate::model::{Error, ErrorKind};

/// Bytes of one file of a block. Several threads read it at once.
#[derive(Clone)]
pub struct Bytes(Arc<dyn Source + Send + Sync>);

impl Bytes {
    /// The bytes of `source`.
    pub fn new(source: impl Source + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn in_memory(&self) -> Option<&[u8]> {
        self.0.in_memory()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.0.read_at(offset, out)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A block that is read from.
#[derive(Debug)]
pub struct SourceBlock {
    meta: Arc<Meta>,
    index: Reader<Bytes>,
    segments: Vec<Bytes>,
    tombstones: Tombstones,
}

/// Whether an index with labels out of order is read, as Prometheus up to 2.8 wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not.
    Refuse,
    /// It is.
    Accept,
}

/// Why a source must not be merged as it is, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFault {
    /// Nothing can be done: the group halts.
    Critical(Error),
    /// Chunks are out of order: the block is marked and left alone, where that is asked for.
    OutOfOrderChunks(Error),
    /// Chunks start where the block ends (issue 347 of Prometheus' TSDB): they can be dropped.
    OutsideChunks(Error),
    /// Labels are out of order.
    MalformedLabels(Error),
}

impl SourceFault {
    /// What is wrong, with the block before it.
    pub fn error(&self) -> &Error {
        match self {
            Self::Critical(error)
            | Self::OutOfOrderChunks(error)
            | Self::OutsideChunks(error)
            | Self::MalformedLabels(error) => error,
        }
    }
}

impl SourceBlock {
    /// The block in the folder `dir`: meta.json, index, segment files, and tombstones if there are any.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |path: &Path, error: &std::io::Error| Error::file(path, error);
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|error| failed(&path, &error))
        };
        let meta = Meta::parse(&read(name::META)?).map_err(|error| error.within(dir.display()))?;
        let index = Bytes::new(FileSource::open(&dir.join(name::INDEX))?);
        let mut segments = Vec::new();
        loop {
            let path = dir.join(BlockObject::Segment(segments.len() as u32).to_string());
            if !path.try_exists().map_err(|error| failed(&path, &error))? {
                break;
            }
            segments.push(Bytes::new(FileSource::open(&path)?));
        }
        let tombstones = match std::fs::read(dir.join(name::TOMBSTONES)) {
            Ok(bytes) => Tombstones::parse(&bytes)
                .map_err(|corrupt| Error::from(corrupt).within(format_args!("block {}", meta.ulid)))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Tombstones::default(),
            Err(error) => return Err(failed(&dir.join(name::TOMBSTONES), &error)),
        };
        Self::new(Arc::new(meta), index, segments, tombstones)
    }

    /// The block that `meta` describes, of these files. Reads the symbols of its index and the headers
    /// of its segments.
    pub fn new(meta: Arc<Meta>, index: Bytes, segments: Vec<Bytes>, tombstones: Tombstones) -> Result<Self, Error> {
        let place = |error: Error, file: &dyn fmt::Display| error.within(format_args!("block {}: {file}", meta.ulid));
        for (at, bytes) in segments.iter().enumerate() {
            let mut header = [0; segment::HEADER_LEN];
            let read = if bytes.len() < segment::HEADER_LEN as u64 {
                Err(Corrupt::new("chunk segment", 0, format!("the file has {} bytes", bytes.len())).into())
            } else {
                bytes.read_at(0, &mut header)
            };
            let checked = read.and_then(|()| Ok(segment::check_header(&header)?));
            checked.map_err(|error| place(error, &BlockObject::Segment(at as u32)))?;
        }
        let index = Reader::open(index).map_err(|error| place(error, &name::INDEX))?;
        Ok(Self { meta, index, segments, tombstones })
    }

    /// What meta.json says.
    pub fn meta(&self) -> &Arc<Meta> {
        &self.meta
    }

    /// Its index.
    pub fn index(&self) -> &Reader<Bytes> {
        &self.index
    }

    /// Its symbols count by their places alone from then on.
    pub(super) fn forget_texts(&mut self) {
        self.index.forget_texts();
    }

    /// What was deleted from it.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The bytes of segment number `at`, counted from 0.
    pub fn segment(&self, at: u32) -> Result<&Bytes, Error> {
        self.segments.get(at as usize).ok_or_else(|| {
            let message = format!("the index points into a segment that is not there, {} are", self.segments.len());
            self.place(Error::new(ErrorKind::Corrupt, message), BlockObject::Segment(at))
        })
    }

    /// Bytes of all its segments.
    pub fn chunk_bytes(&self) -> u64 {
        self.segments.iter().map(Source::len).sum()
    }

    /// Reads the whole index and counts what is wrong with it.
    pub fn health(&self) -> Result<IndexHealth, Error> {
        let health = IndexHealth::gather(&self.index, self.meta.min_time, self.meta.max_time);
        health.map_err(|error| self.place(error, name::INDEX))
    }

    /// Whether a block whose index is as `health` says may be merged.
    pub fn judge(&self, health: &IndexHealth, malformed: Malformed) -> Result<(), SourceFault> {
        let error = |message: String| self.place(Error::new(ErrorKind::Corrupt, message), name::INDEX);
        let broken = [
            (health.series_out_of_order, "series are out of order"),
            (health.series_without_labels, "series have no labels"),
            (health.series_without_chunks, "series have no chunks"),
            (health.chunks_wholly_outside, "chunks are completely outside the block time range"),
            (
                health.chunks_outside.saturating_sub(health.chunks_wholly_outside + health.chunks_at_end),
                "chunks are partly outside the block time range",
            ),
        ];
        if let Some((count, what)) = broken.into_iter().find(|(count, _)| *count > 0) {
            return Err(SourceFault::Critical(error(format!("{count} {what}"))));
        }
        if health.chunks_out_of_order > 0 {
            return Err(SourceFault::OutOfOrderChunks(error(format!(
                "{} chunks of {} series are out of order, {} more are duplicates",
                health.chunks_out_of_order, health.series_with_chunks_out_of_order, health.chunks_duplicated
            ))));
        }
        if health.chunks_at_end > 0 {
            return Err(SourceFault::OutsideChunks(error(format!(
                "{} chunks start where the block ends, as of https://github.com/prometheus/tsdb/issues/347",
                health.chunks_at_end
            ))));
        }
        if health.series_with_labels_out_of_order > 0 && malformed == Malformed::Refuse {
            return Err(SourceFault::MalformedLabels(error(format!(
                "the labels of {} series are out of order; debug.accept-malformed-index accepts them",
                health.series_with_labels_out_of_order
            ))));
        }
        Ok(())
    }

    /// An error in the block's `file`, with block and file before it.
    pub fn place(&self, error: Error, file: impl fmt::Display) -> Error {
        error.within(format_args!("block {}: {file}", self.meta.ulid))
    }
}

/// The length of the record of the chunk that starts with `bytes` at byte `offset` of its segment, of
/// which `left` bytes are left from there on.
pub(super) fn record_len(bytes: &[u8], offset: u64, left: u64) -> Result<usize, Corrupt> {
    let data_len = Cursor::new("chunk segment", bytes, offset).uvarint()?;
    let len = usize::try_from(data_len).ok().map(segment::record_len).filter(|len| *len as u64 <= left);
    len.ok_or_else(|| {
        let reason = format!("chunk of {data_len} bytes announced, {left} bytes are left of the file");
        Corrupt::new("chunk segment", offset, reason)
    })
}
