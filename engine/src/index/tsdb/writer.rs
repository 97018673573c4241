//! Writing an index file, version 2, from front to back: symbols, series in the order of their
//! labels, then what follows from them. The bytes are those that Prometheus writes.
//!
//! In memory stay the symbols and the postings of the last series; those before them go to a file when a
//! folder is named for it, see [`super::lists`].

use std::io::Write;

use super::lists::{Merge, PostingsLists, Spill};
use super::series;
use super::source::{Source, Window};
use super::spool::Spool;
use super::symbols::{SymbolRef, Symbols};
use super::toc::Toc;
use super::{HEADER_LEN, MAGIC, SERIES_ALIGN, Version, offsets, postings};
use crate::codec::{section, varint};
use crate::index::ChunkMeta;
use crate::model::{Error, ErrorKind, Labels, SeriesRef};

/// Bytes that are gathered before they are written.
const BUFFER_LEN: usize = 256 << 10;

/// Largest index file: what 4-byte references reach in units of 16 bytes.
const INDEX_LEN_MAX: u64 = 16 * u32::MAX as u64;

/// Bytes of the offset table that are copied at once.
const COPY_BYTES: usize = 64 << 10;

/// An index in the making.
#[derive(Debug)]
pub struct Writer<W> {
    out: Output<W>,
    symbols: Symbols,
    toc: Toc,
    postings: PostingsLists,
    /// The offset table's entries as they come to be.
    table: Table,
    before: Vec<(SymbolRef, SymbolRef)>,
    chunk_ref_before: u64,
    /// Where the last series entry lies.
    entry_before: u64,
    stats: IndexWritten,
    entry: Vec<u8>,
}

/// Entries of the postings offset table.
#[derive(Debug)]
struct Table {
    entries: Spool,
    count: u32,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexWritten {
    /// Bytes of the file.
    pub len: u64,
    /// Number of series.
    pub series: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes from a series entry to the next one, at most: the last entry does not count.
    pub series_len_max: u64,
}

impl<W: Write> Writer<W> {
    /// An index into `out` of series whose names and values all are among `symbols`. All postings stay
    /// in memory until it is finished.
    pub fn create(out: W, symbols: Symbols) -> Result<Self, Error> {
        Self::start(out, symbols, None)
    }

    /// As [`Writer::create`]; postings go to `spill` as soon as they are many.
    pub fn create_spilling(out: W, symbols: Symbols, spill: &Spill) -> Result<Self, Error> {
        Self::start(out, symbols, Some(spill))
    }

    fn start(out: W, symbols: Symbols, spill: Option<&Spill>) -> Result<Self, Error> {
        let mut out = Output { out, buffer: Vec::with_capacity(BUFFER_LEN + (64 << 10)), flushed: 0 };
        out.buffer.extend_from_slice(&MAGIC.to_be_bytes());
        out.buffer.push(Version::V2.number());
        write_symbols(&mut out, &symbols)?;
        let toc = Toc { symbols: HEADER_LEN as u64, series: out.offset(), ..Toc::default() };
        let entries = Spool::new(spill.map(|spill| spill.folder.join("offsets.tmp")));
        Ok(Self {
            out,
            postings: PostingsLists::new(symbols.len(), spill),
            table: Table { entries, count: 0 },
            symbols,
            toc,
            before: Vec::new(),
            chunk_ref_before: 0,
            entry_before: 0,
            stats: IndexWritten::default(),
            entry: Vec::new(),
        })
    }

    /// The symbols that labels refer to.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Appends a series, which comes after all series before it, as do its chunks. Returns how
    /// postings refer to it.
    pub fn add_series(&mut self, labels: &[(SymbolRef, SymbolRef)], chunks: &[ChunkMeta]) -> Result<SeriesRef, Error> {
        if labels <= self.before.as_slice() && self.stats.series > 0 {
            let text = |labels: &[(SymbolRef, SymbolRef)]| series::labels(labels, &self.symbols);
            return Err(unordered(format!("{} does not come after {}", text(labels), text(&self.before))));
        }
        self.check_chunks(labels, chunks)?;
        self.out.pad(SERIES_ALIGN);
        let offset = self.out.offset();
        if offset > INDEX_LEN_MAX {
            return Err(Error::limit("index size", format!("the index would exceed {INDEX_LEN_MAX} bytes")));
        }
        let series_ref = (offset / SERIES_ALIGN) as u32;
        self.entry.clear();
        series::encode(labels, chunks, &mut self.entry);
        varint::encode_u64(self.entry.len() as u64, &mut self.out.buffer);
        self.out.buffer.extend_from_slice(&self.entry);
        self.out.buffer.extend_from_slice(&section::checksum(&self.entry).to_be_bytes());
        if self.stats.series > 0 {
            self.stats.series_len_max = self.stats.series_len_max.max(offset - self.entry_before);
        }
        self.entry_before = offset;
        self.stats.series += 1;
        self.stats.chunks += chunks.len() as u64;
        self.postings.add(labels, series_ref)?;
        self.before.clear();
        self.before.extend_from_slice(labels);
        self.out.flush_full()?;
        Ok(SeriesRef(u64::from(series_ref)))
    }

    /// Appends a series as [`Writer::add_series`] does, its labels given as text.
    pub fn add_labels(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<SeriesRef, Error> {
        let mut resolved = Vec::with_capacity(labels.len());
        for (at, (name, value)) in labels.iter().enumerate() {
            let likely = self.before.get(at).copied();
            let find = |text: &str, likely: Option<SymbolRef>| match likely {
                Some(symbol) if self.symbols.get(symbol) == text => Ok(symbol),
                _ => self.symbols.find(text).ok_or_else(|| {
                    Error::new(ErrorKind::Bug, format!("{text:?} of series {labels} is not among the symbols"))
                }),
            };
            resolved.push((find(name, likely.map(|pair| pair.0))?, find(value, likely.map(|pair| pair.1))?));
        }
        self.add_series(&resolved, chunks)
    }

    /// Writes postings, postings offset table and table of contents, and flushes.
    pub fn finish(self) -> Result<(IndexWritten, W), Error> {
        let Self { mut out, symbols, mut toc, postings, mut table, mut stats, .. } = self;
        toc.label_indices = out.offset();
        toc.postings = out.offset();
        out.pad(4);
        let runs = postings.finish()?;
        write_postings(&mut out, &mut runs.merge()?, (&symbols, &mut table))?;
        drop(runs);
        toc.label_offset_table = out.offset();
        toc.postings_offset_table = out.offset();
        write_offset_table(&mut out, &table)?;
        toc.encode(&mut out.buffer);
        stats.len = out.offset();
        out.flush()?;
        Ok((stats, out.out))
    }

    fn check_chunks(&mut self, labels: &[(SymbolRef, SymbolRef)], chunks: &[ChunkMeta]) -> Result<(), Error> {
        let mut chunk_ref_before = self.chunk_ref_before;
        let mut max_time_before = None;
        for chunk in chunks {
            let fault = if chunk.chunk_ref.0 < chunk_ref_before {
                Some(format!("chunk reference {} comes after {chunk_ref_before}", chunk.chunk_ref.0))
            } else if chunk.max_time < chunk.min_time {
                Some(format!("a chunk ends at {} before it starts at {}", chunk.max_time, chunk.min_time))
            } else {
                let overlapped = max_time_before.filter(|before| chunk.min_time <= *before);
                overlapped
                    .map(|before| format!("a chunk starts at {}, the one before ends at {before}", chunk.min_time))
            };
            if let Some(fault) = fault {
                return Err(unordered(format!("{}: {fault}", series::labels(labels, &self.symbols))));
            }
            chunk_ref_before = chunk.chunk_ref.0;
            max_time_before = Some(chunk.max_time);
        }
        self.chunk_ref_before = chunk_ref_before;
        Ok(())
    }
}

fn unordered(message: String) -> Error {
    Error::new(ErrorKind::Corrupt, format!("index writer: {message}"))
}

fn section_len(what: &str, len: u64) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::limit("index size", format!("the {what} would hold {len} bytes")))
}

fn write_symbols<W: Write>(out: &mut Output<W>, symbols: &Symbols) -> Result<(), Error> {
    let len =
        4 + symbols.iter().map(|symbol| (varint::len_u64(symbol.len() as u64) + symbol.len()) as u64).sum::<u64>();
    let len = section_len("symbol table", len)?;
    out.buffer.extend_from_slice(&len.to_be_bytes());
    let count = (symbols.len() as u32).to_be_bytes();
    out.buffer.extend_from_slice(&count);
    let mut checksum = section::checksum(&count);
    for symbol in symbols.iter() {
        let start = out.buffer.len();
        varint::encode_u64(symbol.len() as u64, &mut out.buffer);
        out.buffer.extend_from_slice(symbol.as_bytes());
        checksum = section::checksum_append(checksum, &out.buffer[start..]);
        out.flush_full()?;
    }
    out.buffer.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// Writes all lists in the order of the offset table, and the entries of that to `table`.
fn write_postings<W: Write>(
    out: &mut Output<W>,
    lists: &mut Merge<'_>,
    (symbols, table): (&Symbols, &mut Table),
) -> Result<(), Error> {
    let mut refs = Vec::new();
    while let Some(list) = lists.next() {
        let label = list.label.map_or(("", ""), |(name, value)| (symbols.get(name), symbols.get(value)));
        offsets::encode_entry(label, out.offset(), table.entries.end());
        table.entries.settle()?;
        table.count += 1;
        let len = section_len("postings list", 4 + 4 * list.count)?;
        out.buffer.extend_from_slice(&len.to_be_bytes());
        let count = (list.count as u32).to_be_bytes();
        out.buffer.extend_from_slice(&count);
        let mut checksum = section::checksum(&count);
        loop {
            lists.take(&mut refs)?;
            if refs.is_empty() {
                break;
            }
            let start = out.buffer.len();
            postings::encode_refs(&refs, &mut out.buffer);
            checksum = section::checksum_append(checksum, &out.buffer[start..]);
            out.flush_full()?;
        }
        out.buffer.extend_from_slice(&checksum.to_be_bytes());
    }
    Ok(())
}

fn write_offset_table<W: Write>(out: &mut Output<W>, table: &Table) -> Result<(), Error> {
    let entries = &table.entries;
    let len = section_len("postings offset table", 4 + entries.len())?;
    out.buffer.extend_from_slice(&len.to_be_bytes());
    let count = table.count.to_be_bytes();
    out.buffer.extend_from_slice(&count);
    let mut checksum = section::checksum(&count);
    let (mut window, mut at) = (Window::new(entries, offsets::WHAT), 0);
    while at < entries.len() {
        let piece = window.up_to(at, COPY_BYTES, entries.len())?;
        checksum = section::checksum_append(checksum, piece);
        out.buffer.extend_from_slice(piece);
        at += piece.len() as u64;
        out.flush_full()?;
    }
    out.buffer.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// Bytes on their way out.
#[derive(Debug)]
struct Output<W> {
    out: W,
    buffer: Vec<u8>,
    flushed: u64,
}

impl<W: Write> Output<W> {
    fn offset(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn pad(&mut self, align: u64) {
        let zeros = self.offset().next_multiple_of(align) - self.offset();
        self.buffer.resize(self.buffer.len() + zeros as usize, 0);
    }

    fn flush_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        written.map_err(|error| Error::new(ErrorKind::Unavailable, format!("writing the index: {error}")))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileSource, Reader, Series};
    use super::*;
    use crate::model::ChunkRef;

    fn rewrite(bytes: &[u8], spill: Option<&Spill>) -> (IndexWritten, Vec<u8>) {
        let reader = Reader::open(bytes).unwrap();
        let symbols = Symbols::from_sorted(reader.symbols().iter());
        let mut writer = Writer::start(Vec::new(), symbols, spill).unwrap();
        let (mut scan, mut series) = (reader.series(), Series::default());
        while scan.next(&mut series).unwrap() {
            let series_ref = if series.series_ref.0 % 2 == 0 {
                writer.add_series(&series.labels, &series.chunks).unwrap()
            } else {
                writer.add_labels(&series.labels(reader.symbols()), &series.chunks).unwrap()
            };
            assert_eq!(series_ref, series.series_ref);
        }
        writer.finish().unwrap()
    }

    #[test]
    fn an_index_is_written_byte_for_byte_as_prometheus_and_thanos_write_it() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden"));
        if !root.exists() {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is not there", root.display());
            return eprintln!("SKIPPED: {} is not there", root.display());
        }
        let folder = std::env::temp_dir().join(format!("uru-index-spill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let spill = Spill { folder: folder.clone(), bytes_max: 5_000 };
        for set in
            ["blocks/k8s", "blocks/native", "blocks/churn", "blocks/long", "thanos/long", "thanos/ha", "thanos/churn"]
        {
            for block in std::fs::read_dir(root.join(set)).unwrap() {
                let bytes = std::fs::read(block.unwrap().path().join("index")).unwrap();
                for spill in [None, Some(&spill)] {
                    let (written, again) = rewrite(&bytes, spill);
                    assert!(again == bytes, "{set}");
                    assert_eq!(written.len, bytes.len() as u64);
                }
            }
        }
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn an_index_larger_than_the_buffer_comes_back_from_a_file() {
        let values: Vec<String> = (0..40_000).map(|at| format!("value-{at:06}-{}", "x".repeat(at % 90))).collect();
        let symbols =
            Symbols::from_sorted(["instance", "job", "uru"].iter().copied().chain(values.iter().map(String::as_str)));
        let path = std::env::temp_dir().join(format!("uru-index-writer-{}", std::process::id()));
        let mut writer = Writer::create(std::fs::File::create(&path).unwrap(), symbols).unwrap();
        for (at, value) in values.iter().enumerate() {
            let chunk = ChunkMeta { min_time: -5, max_time: at as i64, chunk_ref: ChunkRef(at as u64) };
            writer.add_labels(&Labels::from_pairs([("instance", value.as_str()), ("job", "uru")]), &[chunk]).unwrap();
        }
        let (written, _) = writer.finish().unwrap();
        assert!(written.len > 3 * BUFFER_LEN as u64, "{written:?}");
        let reader = Reader::open(FileSource::open(&path).unwrap()).unwrap();
        let (mut scan, mut series, mut count) = (reader.series(), Series::default(), 0);
        while scan.next(&mut series).unwrap() {
            assert_eq!(series.labels(reader.symbols()).get("instance"), Some(values[count].as_str()));
            assert_eq!(
                series.chunks,
                [ChunkMeta { min_time: -5, max_time: count as i64, chunk_ref: ChunkRef(count as u64) }]
            );
            count += 1;
        }
        let table = reader.offset_table().unwrap();
        let mut refs = Vec::new();
        assert!(reader.postings(&table, ("job", "uru"), &mut refs).unwrap());
        assert_eq!((count, refs.len()), (values.len(), values.len()));
        assert_eq!(reader.label_values(&table, "instance").unwrap(), values);
        for at in [0, 1, 31, 32, 33, 39_999] {
            refs.clear();
            assert!(reader.postings(&table, ("instance", &values[at]), &mut refs).unwrap());
            assert_eq!(refs.len(), 1);
        }
        assert!(!reader.postings(&table, ("instance", "value-"), &mut refs).unwrap());
        assert!(!reader.postings(&table, ("instance", "zzz"), &mut refs).unwrap());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn series_and_chunks_out_of_order_are_refused() {
        let mut writer = Writer::create(Vec::new(), Symbols::from_sorted(["a", "b"])).unwrap();
        let chunk = |min_time, max_time, at| ChunkMeta { min_time, max_time, chunk_ref: ChunkRef(at) };
        let (a, b) = (Labels::from_pairs([("a", "a")]), Labels::from_pairs([("b", "b")]));
        writer.add_labels(&b, &[chunk(1, 2, 8), chunk(3, 3, 9)]).unwrap();
        let error = writer.add_labels(&a, &[]).unwrap_err();
        assert_eq!(error.message(), r#"index writer: {a="a"} does not come after {b="b"}"#);
        let c = Labels::from_pairs([("b", "b"), ("c", "c")]);
        assert_eq!(writer.add_labels(&c, &[]).unwrap_err().kind(), ErrorKind::Bug);
        let d = [(SymbolRef(1), SymbolRef(1)), (SymbolRef(1), SymbolRef(1))];
        for chunks in [vec![chunk(1, 2, 3)], vec![chunk(2, 1, 10)], vec![chunk(1, 2, 10), chunk(2, 3, 11)]] {
            assert!(writer.add_series(&d, &chunks).unwrap_err().message().contains("chunk"), "{chunks:?}");
        }
    }
}
