//! An opened index file.

use std::ops::ControlFlow;

use super::offsets::{OffsetTable, OffsetTableScan};
use super::series::{Series, SeriesScan, read_series};
use super::source::{Source, Window};
use super::symbols::Symbols;
use super::toc::{TOC_LEN, Toc};
use super::{HEADER_LEN, MAGIC, Version, postings};
use crate::codec::{Corrupt, Cursor};
use crate::model::{Error, SeriesRef};

/// An index file, opened: its symbols are in memory, the rest is read from `S` when it is asked for.
///
/// `S` is the file's bytes (a slice, a vector, a mapping) or a [`super::FileSource`]. Every part is
/// checked against its checksum when it is read, and all references are checked against what they
/// refer to; bytes that are wrong give an error of kind Corrupt that names the part and the byte.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    version: Version,
    toc: Toc,
    symbols: Symbols,
}

/// The version in the first bytes of an index file.
pub fn decode_header(bytes: &[u8]) -> Result<Version, Corrupt> {
    let mut cursor = Cursor::new("index header", bytes, 0);
    let magic = cursor.u32_be()?;
    if magic != MAGIC {
        return Err(Corrupt::new("index header", 0, format!("magic is {magic:08x}, not {MAGIC:08x}")));
    }
    match cursor.u8()? {
        1 => Ok(Version::V1),
        2 => Ok(Version::V2),
        other => Err(Corrupt::new("index header", 4, format!("version is {other}, known are 1 and 2"))),
    }
}

impl<S: Source> Reader<S> {
    /// Reads header, table of contents and symbols of `source`.
    pub fn open(source: S) -> Result<Self, Error> {
        let version = decode_header(Window::new(&source, "index header").bytes(0, HEADER_LEN)?)?;
        let len = source.len();
        let Some(toc_offset) = len.checked_sub(TOC_LEN as u64) else {
            return Err(Corrupt::new("table of contents", 0, format!("the file has {len} bytes")).into());
        };
        let toc = Toc::decode(Window::new(&source, "table of contents").bytes(toc_offset, TOC_LEN)?, toc_offset)?;
        let symbols = match toc.symbols {
            0 => Symbols::default(),
            offset => Symbols::read(&source, offset, version)?,
        };
        Ok(Self { source, version, toc, symbols })
    }

    /// The file's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its parts lie.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The bytes it was opened on.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// All label names and values.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Gives the texts of the symbols away, whose places alone count for who reads series.
    pub fn forget_texts(&mut self) {
        self.symbols.forget_texts();
    }

    /// All series in the order of the file.
    pub fn series(&self) -> SeriesScan<'_, S> {
        let range = match self.toc.series {
            0 => (0, 0),
            start => (start, self.toc.series_end(self.source.len())),
        };
        SeriesScan::new(&self.source, self.symbols.references(self.version), self.version, range)
    }

    /// Replaces `series` by the one that postings refer to as `series_ref`.
    pub fn series_at(&self, series_ref: SeriesRef, series: &mut Series) -> Result<(), Error> {
        let parts = (&self.toc, self.symbols.references(self.version), self.version);
        read_series(&self.source, parts, series_ref, series)
    }

    /// The entries of the postings offset table in the order of the file.
    pub fn postings_offsets(&self) -> Result<OffsetTableScan<'_, S>, Error> {
        OffsetTableScan::new(&self.source, self.toc.postings_offset_table)
    }

    /// What finds postings lists by label; reads the whole postings offset table once.
    pub fn offset_table(&self) -> Result<OffsetTable, Error> {
        let offset = self.toc.postings_offset_table;
        OffsetTable::read(&self.source, offset, offset, self.version)
    }

    /// Appends the postings list of `name` and `value`; false when no series has that label. Name and
    /// value both empty give all series.
    pub fn postings(&self, table: &OffsetTable, label: (&str, &str), refs: &mut Vec<u32>) -> Result<bool, Error> {
        let Some(range) = table.find(&self.source, label.0, label.1)? else { return Ok(false) };
        self.postings_at(range.start, refs)?;
        Ok(true)
    }

    /// Appends the postings list whose section starts at byte `offset`.
    pub fn postings_at(&self, offset: u64, refs: &mut Vec<u32>) -> Result<(), Error> {
        postings::read(&self.source, offset, refs)
    }

    /// Calls `visit` with the references of the postings list whose section starts at byte `offset`,
    /// piece by piece. An error says that they were not sound.
    pub fn visit_postings_at(&self, offset: u64, visit: impl FnMut(&[u32])) -> Result<(), Error> {
        postings::visit(&self.source, offset, visit)
    }

    /// The values of the label called `name`, ascending.
    pub fn label_values(&self, table: &OffsetTable, name: &str) -> Result<Vec<String>, Error> {
        let mut values = Vec::with_capacity(table.value_count(name) as usize);
        table.visit_values(&self.source, name, "", |value, _| {
            values.push(value.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::FileSource;
    use super::*;
    use crate::model::ErrorKind;

    fn golden(path: &str) -> Option<PathBuf> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/")).join(path);
        if path.exists() {
            return Some(path);
        }
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is not there", path.display());
        eprintln!("SKIPPED: {} is not there", path.display());
        None
    }

    /// Everything an index says, as (labels, chunk count) by series; postings are followed as well.
    fn read_whole<S: Source>(source: S) -> Result<Vec<(String, usize)>, Error> {
        let reader = Reader::open(source)?;
        let (mut scan, mut series, mut all) = (reader.series(), Series::default(), Vec::new());
        let mut refs = Vec::new();
        while scan.next(&mut series)? {
            refs.push(series.series_ref.0 as u32);
            all.push((series.labels(reader.symbols()).to_string(), series.chunks.len()));
        }
        let table = reader.offset_table()?;
        let mut listed = Vec::new();
        if reader.postings(&table, ("", ""), &mut listed)? && listed != refs {
            return Err(Corrupt::new("postings list", 0, "the list of all series is another").into());
        }
        for name in table.label_names() {
            for value in reader.label_values(&table, name)? {
                listed.clear();
                assert!(reader.postings(&table, (name, &value), &mut listed)?, "{name}={value} has no list");
                for series_ref in &listed {
                    reader.series_at(SeriesRef(u64::from(*series_ref)), &mut series)?;
                    let labels = series.labels(reader.symbols());
                    if labels.get(name) != Some(&value) {
                        return Err(Corrupt::new("postings list", 0, format!("{labels} is in {name}={value}")).into());
                    }
                }
            }
        }
        Ok(all)
    }

    #[test]
    fn an_index_by_prometheus_is_read_the_same_from_memory_and_from_the_file() {
        let Some(path) = golden("blocks/k8s/01M7YFY7H37F9ZH8ZQ1CX44W25/index") else { return };
        let all = read_whole(std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(all.len(), 2000);
        assert_eq!(all.iter().map(|(_, chunks)| chunks).sum::<usize>(), 8360);
        assert_eq!(read_whole(FileSource::open(&path).unwrap()).unwrap(), all);
    }

    #[test]
    fn version_1_is_read() {
        let Some(path) = golden("upstream/index_format_v1/index") else { return };
        let all = read_whole(std::fs::read(path).unwrap()).unwrap();
        assert_eq!(all.len(), 102);
        assert_eq!(all[0].0, r#"{bar="0"}"#);
    }

    #[test]
    fn chunks_out_of_order_are_read_as_they_are() {
        let Some(path) = golden("upstream/out_of_order_chunks/index") else { return };
        let reader = Reader::open(std::fs::read(path).unwrap()).unwrap();
        let (mut scan, mut series) = (reader.series(), Series::default());
        assert!(scan.next(&mut series).unwrap());
        assert_eq!(series.chunks.len(), 2);
        assert!(series.chunks[1].min_time < series.chunks[0].max_time);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_and_named() {
        let Some(path) = golden("upstream/index_format_v1/index") else { return };
        let sound = std::fs::read(path).unwrap();
        let whole = read_whole(sound.as_slice()).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            match read_whole(bytes) {
                Ok(all) => assert_eq!(all, whole, "byte {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.message().contains(" at byte "), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_cut_index_is_refused_at_every_length() {
        let Some(path) = golden("upstream/out_of_order_chunks/index") else { return };
        let sound = std::fs::read(path).unwrap();
        for len in 0..sound.len() {
            assert_eq!(read_whole(&sound[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len} bytes");
        }
    }
}
