//! Thanos' binary index-header: the parts of an index file that find postings lists, cut out of it.
//!
//! ```text
//! ┌───────────────────────────────────────────────────────────────────────────┐
//! │ magic baaad792 <4b>  version 1 <1b>  version of the index <1b>            │   0
//! │ byte of the index at which its postings offset table starts <8b>          │   6
//! ├───────────────────────────────────────────────────────────────────────────┤
//! │ bytes of the index from its symbol table to its first series              │  14
//! │ bytes of the index from its postings offset table to its end              │
//! ├───────────────────────────────────────────────────────────────────────────┤
//! │ byte of the header at which the symbol table starts <8b>                  │  -20
//! │ byte of the header at which the postings offset table starts <8b>         │  -12
//! │ crc32c of these two <4b>                                                  │  -4
//! └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It is a local cache of what lies in the bucket; the series and the postings themselves are read
//! from there. An opened header stays where it is, mapped as a rule: see [`Reader`] for what of it is in memory.

use std::io::Write;
use std::ops::{ControlFlow, Range};

use super::tsdb::offsets::PostingsRange;
use super::tsdb::series::read_series;
use super::tsdb::source::{Source, Window};
use super::tsdb::toc::TOC_LEN;
use super::tsdb::{
    self, OffsetTable, References, SampledSymbols, Series, SymbolRef, Toc, Version, offsets, postings, symbols,
};
use crate::codec::{Corrupt, Cursor, section};
use crate::model::{Error, ErrorKind, SeriesRef};

/// The first four bytes of an index-header.
pub const MAGIC: u32 = 0xbaaa_d792;

/// The only version of index-headers.
const VERSION: u8 = 1;

/// Bytes before the symbol table.
const HEADER_LEN: usize = 4 + 1 + 1 + 8;

/// Bytes after the copied parts.
const FOOTER_LEN: usize = 8 + 8 + 4;

/// Bytes at the end of an index file that tell it from others: the checksum of its postings offset table,
/// which is one of all labels and of the lengths of all lists, and its table of contents.
const TAIL_LEN: usize = 4 + TOC_LEN;

const WHAT: &str = "index-header";

/// Which bytes of an index file go into its index-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The index file's version.
    pub version: Version,
    /// From the symbol table to the first series.
    pub symbols: Range<u64>,
    /// From the postings offset table to the end of the file.
    pub tail: Range<u64>,
}

impl Plan {
    /// What to take of an index file of `index_len` bytes: `first` are its first
    /// [`tsdb::HEADER_LEN`] bytes, `last` its last [`TOC_LEN`].
    pub fn decode(first: &[u8], last: &[u8], index_len: u64) -> Result<Self, Error> {
        let version = tsdb::reader::decode_header(first)?;
        let toc_offset = index_len.saturating_sub(TOC_LEN as u64);
        let toc = Toc::decode(last, toc_offset)?;
        let (symbols, tail) = (toc.symbols..toc.series, toc.postings_offset_table..index_len);
        if symbols.start > symbols.end || symbols.end > toc_offset || tail.start > toc_offset {
            let reason = format!("symbols at {symbols:?} and postings offset table at {tail:?} of {index_len} bytes");
            return Err(Corrupt::new("table of contents", toc_offset, reason).into());
        }
        Ok(Self { version, symbols, tail })
    }

    /// What comes before the copied bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[VERSION, self.version.number()]);
        bytes.extend_from_slice(&self.tail.start.to_be_bytes());
        bytes
    }

    /// What comes after the copied bytes.
    pub fn footer(&self) -> Vec<u8> {
        let symbols = HEADER_LEN as u64;
        let mut bytes = symbols.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(symbols + self.symbols.end - self.symbols.start).to_be_bytes());
        let stored = section::checksum(&bytes);
        bytes.extend_from_slice(&stored.to_be_bytes());
        bytes
    }
}

/// Writes the index-header of the index file `index`. What is copied is checked on the way: an error names its place
/// in the index, which of a header that was written could not be told.
pub fn write<S: Source, W: Write>(index: &S, out: &mut W) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Unavailable, format!("writing the {WHAT}: {error}"));
    let mut window = Window::new(index, WHAT);
    let first = window.bytes(0, tsdb::HEADER_LEN)?.to_vec();
    let toc_offset = index.len().saturating_sub(TOC_LEN as u64);
    let plan = Plan::decode(&first, window.bytes(toc_offset, TOC_LEN)?, index.len())?;
    out.write_all(&plan.header()).map_err(failed)?;
    for (part, what) in [(&plan.symbols, symbols::WHAT), (&plan.tail, offsets::WHAT)] {
        // Each part starts with a section.
        let mut copied = section::Piecewise::new(what, part.start);
        index.stream(part.clone(), &mut |bytes| {
            copied.take(bytes);
            out.write_all(bytes).map_err(failed)
        })?;
        copied.finish()?;
    }
    out.write_all(&plan.footer()).and_then(|()| out.flush()).map_err(failed)
}

/// An opened index-header, whose bytes `S` has: a mapped file as a rule.
///
/// In memory stay, for each block, 4 bytes for every 32 symbols, 8 for every 32 values of a label, and for each
/// label name about 40 and its text: 75 KB for 200,000 values, however long they are. Of indexes of version 1, which
/// Prometheus wrote before 2.0, stay 4 bytes for each symbol and the whole postings offset table.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    version: Version,
    toc: Toc,
    symbols: SampledSymbols,
    /// Bytes of the header with the content of the symbol table.
    symbol_table: Range<usize>,
    table: OffsetTable,
    tail: [u8; TAIL_LEN],
}

impl<S: AsRef<[u8]>> Reader<S> {
    /// Reads and checks all of `source`; in memory stay samples of the symbol table and of the postings
    /// offset table.
    pub fn open(source: S) -> Result<Self, Error> {
        let len = source.len();
        if len < (HEADER_LEN + TOC_LEN + FOOTER_LEN) as u64 {
            return Err(Corrupt::new(WHAT, 0, format!("the file has {len} bytes")).into());
        }
        let mut window = Window::new(&source, WHAT);
        let (version, lists_end) = decode_header(window.bytes(0, HEADER_LEN)?)?;
        let footer_offset = len - FOOTER_LEN as u64;
        let (symbols_offset, table_offset) = decode_footer(window.bytes(footer_offset, FOOTER_LEN)?, footer_offset)?;
        let toc_offset = footer_offset - TOC_LEN as u64;
        let toc = Toc::decode(window.bytes(toc_offset, TOC_LEN)?, toc_offset)?;
        window = Window::new(&source, symbols::WHAT);
        let content = window.section(symbols_offset)?;
        let content_offset = symbols_offset as usize + 4;
        let symbol_table = content_offset..content_offset + content.len();
        let symbols = SampledSymbols::decode(content, content_offset as u64, version)?;
        let table = OffsetTable::read(&source, table_offset, lists_end, version)?;
        let mut tail = [0; TAIL_LEN];
        source.read_at(footer_offset - TAIL_LEN as u64, &mut tail)?;
        Ok(Self { source, version, toc, symbols, symbol_table, table, tail })
    }

    /// Whether this is the header of `index`: its length is right, and the last bytes are the same. Fails when
    /// they can't be read.
    pub fn is_of<I: Source>(&self, index: &I) -> Result<bool, Error> {
        let (len, index_len) = (self.source.len(), index.len());
        let symbols = self.toc.series.saturating_sub(self.toc.symbols);
        let tail = index_len.saturating_sub(self.toc.postings_offset_table);
        let (has, wanted) = (len - (HEADER_LEN + FOOTER_LEN) as u64, symbols.saturating_add(tail));
        if has != wanted || tail < TAIL_LEN as u64 {
            return Ok(false);
        }
        let mut there = [0; TAIL_LEN];
        index.read_at(index_len - TAIL_LEN as u64, &mut there)?;
        Ok(self.tail == there)
    }

    /// Number of series of the index, or what it is at most: as many as its list of all series has room for.
    pub fn series_max(&self) -> Result<u64, Error> {
        let all = self.find("", "")?;
        Ok(all.map_or(0, |list| postings::count_max(list.end.saturating_sub(list.start))))
    }

    /// Number of series of the index, which `index` is asked for.
    pub fn series_count<I: Source>(&self, index: &I) -> Result<u64, Error> {
        let Some(all) = self.find("", "")? else { return Ok(0) };
        index.renewing(|| postings::read_count(index, all.start)).map(u64::from)
    }

    /// Replaces `series` by the first of the index, read from `index`; false when there is no room for any.
    pub fn first_series<I: Source>(&self, index: &I, series: &mut Series) -> Result<bool, Error> {
        if self.series_max()? == 0 {
            return Ok(false);
        }
        let first = SeriesRef(self.toc.series.div_ceil(self.version.series_unit()));
        let parts = (&self.toc, self.references(), self.version);
        index.renewing(|| read_series(index, parts, first, series)).map(|()| true)
    }

    /// The index file's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the parts of the index file lie.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The bytes it was opened on.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Number of symbols: label names and values.
    pub fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// The symbol at `place`, which is less than [`Reader::symbol_count`]; read behind the lengths of 31 others at
    /// most.
    pub fn symbol(&self, place: SymbolRef) -> Result<&str, Error> {
        self.symbols.get(self.symbol_table(), place).map_err(damaged)
    }

    /// The place of `symbol`; `None` when there is no such symbol. A binary search, and a look at 32 at most.
    pub fn find_symbol(&self, symbol: &str) -> Result<Option<SymbolRef>, Error> {
        self.symbols.find(self.symbol_table(), symbol).map_err(damaged)
    }

    /// What the series entries of the index can refer to.
    pub fn references(&self) -> References<'_> {
        self.symbols.references(self.toc.symbols.saturating_add(4), self.version)
    }

    /// The content of the symbol table.
    fn symbol_table(&self) -> &[u8] {
        self.source.as_ref().get(self.symbol_table.clone()).unwrap_or_default()
    }

    /// Label names, ascending.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.table.label_names()
    }

    /// How many values the label called `name` has.
    pub fn value_count(&self, name: &str) -> u32 {
        self.table.value_count(name)
    }

    /// Where in the index file the postings list of `name` and `value` lies; `None` when no series has
    /// that label. Name and value both empty give all series.
    pub fn find(&self, name: &str, value: &str) -> Result<Option<PostingsRange>, Error> {
        self.table.find(&self.source, name, value)
    }

    /// Calls `visit` with the values of `name`, ascending, from the first that is not less than `from`
    /// on, and where their postings lists lie, until it breaks.
    pub fn visit_values(
        &self,
        name: &str,
        from: &str,
        visit: impl FnMut(&str, PostingsRange) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.table.visit_values(&self.source, name, from, visit)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.symbols.heap_bytes() + self.table.heap_bytes()
    }
}

/// An error of a header that was sound when it was opened.
fn damaged(corrupt: Corrupt) -> Error {
    Error::from(corrupt).within(WHAT)
}

/// The version of the index and where its postings lists end at the latest.
fn decode_header(bytes: &[u8]) -> Result<(Version, u64), Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes, 0);
    let magic = cursor.u32_be()?;
    if magic != MAGIC {
        return Err(Corrupt::new(WHAT, 0, format!("magic is {magic:08x}, not {MAGIC:08x}")));
    }
    let (version, index_version) = (cursor.u8()?, cursor.u8()?);
    if version != VERSION {
        return Err(Corrupt::new(WHAT, 4, format!("version is {version}, known is {VERSION}")));
    }
    let index_version = match index_version {
        1 => Version::V1,
        2 => Version::V2,
        other => return Err(Corrupt::new(WHAT, 5, format!("version of the index is {other}, known are 1 and 2"))),
    };
    Ok((index_version, cursor.u64_be()?))
}

/// Where symbol table and postings offset table start.
fn decode_footer(bytes: &[u8], offset: u64) -> Result<(u64, u64), Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes, offset);
    let parts = (cursor.u64_be()?, cursor.u64_be()?);
    let content = Cursor::new(WHAT, bytes, offset).bytes(FOOTER_LEN - 4)?;
    section::check(WHAT, offset, content, cursor.u32_be()?)?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::ChunkMeta;
    use crate::io::mmap::Mmap;
    use crate::model::{ChunkRef, Labels};

    fn golden(path: &str) -> Option<Vec<u8>> {
        let path = format!("{}/../../shared/golden/{path}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).ok();
        if bytes.is_none() {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{path} is not there");
            eprintln!("SKIPPED: {path} is not there");
        }
        bytes
    }

    const K8S: &str = "blocks/k8s/01M7YFY7H37F9ZH8ZQ1CX44W25/index";

    #[test]
    fn an_index_header_is_written_byte_for_byte_as_thanos_writes_it() {
        let (Some(index), Some(expected)) = (golden(K8S), golden("thanos/k8s.index-header")) else { return };
        let mut header = Vec::new();
        write(&index, &mut header).unwrap();
        assert!(header == expected);
    }

    #[test]
    fn a_header_answers_as_its_index_does() {
        for path in [K8S, "upstream/index_format_v1/index"] {
            let Some(index) = golden(path) else { return };
            let mut header = Vec::new();
            write(&index, &mut header).unwrap();
            let header = Reader::open(header).unwrap();
            let index = tsdb::Reader::open(index).unwrap();
            let table = index.offset_table().unwrap();
            assert_eq!(header.toc(), index.toc());
            assert_eq!(header.symbol_count(), index.symbols().len());
            for (at, symbol) in index.symbols().iter().enumerate() {
                let place = SymbolRef(at as u32);
                assert_eq!(header.symbol(place).unwrap(), symbol);
                assert_eq!(header.find_symbol(symbol).unwrap(), Some(place));
            }
            assert_eq!(header.find_symbol("no such symbol").unwrap(), None);
            assert!(header.label_names().eq(table.label_names()));
            for name in header.label_names() {
                let mut values = Vec::new();
                let visit = |value: &str, range| {
                    assert_eq!(table.find(index.source(), name, value).unwrap(), Some(range));
                    values.push(value.to_owned());
                    ControlFlow::Continue(())
                };
                header.visit_values(name, "", visit).unwrap();
                assert_eq!(values, index.label_values(&table, name).unwrap());
                let all = header.find("", "").unwrap();
                assert_eq!(all, table.find(index.source(), "", "").unwrap());
            }
        }
    }

    #[test]
    fn symbols_stay_in_the_file_however_long_they_are() {
        let values: Vec<String> = (0..20_000).map(|at| format!("value-{at:06}-{}", "x".repeat(at % 100))).collect();
        let symbols = ["job", "pod"].into_iter().chain(values.iter().map(String::as_str));
        let mut writer = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(symbols)).unwrap();
        for value in &values {
            writer.add_labels(&Labels::from_pairs([("pod", value.as_str())]), &[]).unwrap();
        }
        let (mut file, index) = (Vec::new(), writer.finish().unwrap().1);
        write(&index, &mut file).unwrap();
        let path = std::env::temp_dir().join(format!("uru-index-header-{}", std::process::id()));
        std::fs::write(&path, &file).unwrap();
        let header = Reader::open(Mmap::open(&path).unwrap()).unwrap();
        header.source().release();
        assert!(file.len() > 2_000_000 && header.heap_bytes() < 10_000, "{} bytes", header.heap_bytes());
        for (at, value) in values.iter().enumerate().step_by(97) {
            let place = SymbolRef(at as u32 + 2);
            assert_eq!(header.symbol(place).unwrap(), value);
            assert_eq!(header.find_symbol(value).unwrap(), Some(place));
            assert!(header.find("pod", value).unwrap().is_some());
        }
        assert!(header.symbol(SymbolRef(20_002)).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_header_knows_its_index_by_length_and_last_bytes() {
        let Some(index) = golden(K8S) else { return };
        let mut header = Vec::new();
        write(&index, &mut header).unwrap();
        let header = Reader::open(header).unwrap();
        assert!(header.is_of(&index).unwrap());
        assert!(!header.is_of(&index[1..].to_vec()).unwrap());
        assert!(!header.is_of(&Vec::new()).unwrap());
        let mut other_labels = index.clone();
        other_labels[index.len() - TAIL_LEN] ^= 1;
        assert!(!header.is_of(&other_labels).unwrap());
    }

    /// An index of so many series, each with a chunk that starts where the one before it ends.
    fn index_of(count: u64) -> Vec<u8> {
        let values: Vec<String> = (0..count).map(|at| format!("{at:03}")).collect();
        let symbols = values.iter().map(String::as_str).chain(["pod"]);
        let mut writer = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(symbols)).unwrap();
        for (at, value) in values.iter().enumerate() {
            let chunk_ref = ChunkRef::new(0, 8 + 10 * at as u32);
            let chunk = ChunkMeta { min_time: at as i64, max_time: 100, chunk_ref };
            writer.add_labels(&Labels::from_pairs([("pod", value.as_str())]), &[chunk]).unwrap();
        }
        writer.finish().unwrap().1
    }

    #[test]
    fn a_header_tells_the_number_of_series_and_finds_the_first() {
        for count in [1, 40] {
            let (index, mut header, mut series) = (index_of(count), Vec::new(), Series::default());
            write(&index, &mut header).unwrap();
            let header = Reader::open(header).unwrap();
            assert_eq!(header.series_count(&index).unwrap(), count);
            assert_eq!(header.series_max().unwrap(), count);
            assert!(header.first_series(&index, &mut series).unwrap());
            let chunk = ChunkMeta { min_time: 0, max_time: 100, chunk_ref: ChunkRef::new(0, 8) };
            assert_eq!(series.chunks, [chunk]);
        }
        for path in [K8S, "upstream/index_format_v1/index"] {
            let Some(index) = golden(path) else { return };
            let (mut header, mut series, mut expected) = (Vec::new(), Series::default(), Series::default());
            write(&index, &mut header).unwrap();
            let header = Reader::open(header).unwrap();
            let reader = tsdb::Reader::open(index.as_slice()).unwrap();
            let (mut scan, mut count) = (reader.series(), 0);
            while scan.next(&mut series).unwrap() {
                count += 1;
                if count == 1 {
                    expected = series.clone();
                }
            }
            assert!(header.first_series(&index, &mut series).unwrap() && series == expected, "{path}");
            assert_eq!(header.series_max().unwrap(), count, "{path}");
            assert_eq!(header.series_count(&index).unwrap(), count, "{path}");
        }
    }

    #[test]
    fn damage_of_what_is_copied_is_told_by_its_place_in_the_index() {
        let sound = index_of(40);
        let toc = *tsdb::Reader::open(sound.as_slice()).unwrap().toc();
        for (what, at) in [(symbols::WHAT, toc.symbols), (offsets::WHAT, toc.postings_offset_table)] {
            let mut index = sound.clone();
            index[at as usize + 10] ^= 1;
            let error = write(&index, &mut Vec::<u8>::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().starts_with(&format!("{what} at byte {at}: stored checksum")), "{error}");
        }
    }

    #[test]
    fn a_list_lies_within_its_range() {
        let Some(index) = golden(K8S) else { return };
        let mut header = Vec::new();
        write(&index, &mut header).unwrap();
        let header = Reader::open(header).unwrap();
        for name in header.label_names().chain([""]) {
            let visit = |_: &str, range: PostingsRange| {
                let bytes = &index[range.start as usize..range.end as usize];
                let mut refs = Vec::new();
                assert!(postings::decode_section(bytes, range.start, &mut refs).is_ok(), "{name}: {range:?}");
                ControlFlow::Continue(())
            };
            header.visit_values(name, "", visit).unwrap();
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_refused() {
        let Some(index) = golden("upstream/index_format_v1/index") else { return };
        let mut sound = Vec::new();
        write(&index, &mut sound).unwrap();
        for at in 0..sound.len() {
            assert!(Reader::open(&sound[..at]).is_err(), "{at} bytes");
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            if let Err(error) = Reader::open(bytes) {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }
}
