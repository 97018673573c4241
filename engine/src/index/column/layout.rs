//! Where the sections of a column index lie, each with its checksum.
//!
//! ```text
//! ┌───────────────────────────────────────────────────────────────┐ 0
//! │ magic "uru.cidx"  version <u32>  0 <u32>                      │
//! ├───────────────────────────────────────────────────────────────┤ 16
//! │ sections, each at a multiple of 8                             │
//! ├───────────────────────────────────────────────────────────────┤ toc offset
//! │ for each section, ascending by kind and label:                │
//! │   kind <u32>  label <u32>  offset <u64>  len <u64>            │
//! │   crc32c <u32>  0 <u32>                             32 bytes  │
//! ├───────────────────────────────────────────────────────────────┤ len - 48
//! │ series <u64>  chunks <u64>  toc offset <u64>  sections <u32>  │
//! │ version <u32>  crc32c of the toc <u32>                        │
//! │ crc32c of the 36 bytes before <u32>  magic "uru.cidx"         │
//! └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! All integers are little-endian.

use std::io::{self, Write};
use std::ops::Range;

use crate::codec::{Corrupt, Cursor, section};

/// First and last bytes of the file.
pub const MAGIC: &[u8; 8] = b"uru.cidx";

/// Version of the format. A file of another version is built anew.
pub const VERSION: u32 = 1;

const HEADER_LEN: usize = 16;
const ENTRY_LEN: usize = 32;
const FOOTER_LEN: usize = 48;
const ALIGN: u64 = 8;

const _: () = assert!(HEADER_LEN == MAGIC.len() + 4 + 4);
const _: () = assert!(ENTRY_LEN == 4 + 4 + 8 + 8 + 4 + 4);
const _: () = assert!(FOOTER_LEN == 8 + 8 + 8 + 4 + 4 + 4 + 4 + MAGIC.len());

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Names of the labels, and how large their sections are.
    Labels = 1,
    /// Values of a label.
    Dictionary = 2,
    /// Filter over the values of a label.
    Filter = 3,
    /// Postings of a label's values.
    Postings = 4,
    /// The column of value ids of a label.
    Ids = 5,
    /// For each series, and one beyond the last: the number of its first chunk.
    ChunkStarts = 6,
    /// For each series: when its first chunk starts.
    FirstTimes = 7,
    /// For each chunk: how long after the end of the one before it starts.
    Gaps = 8,
    /// For each chunk: how long it lasts.
    Durations = 9,
    /// For each chunk: its reference.
    Places = 10,
    /// For each chunk: bytes to the next one; there only where that isn't the next one's place.
    Lens = 11,
}

/// All kinds, in the order of their numbers.
const KINDS: [Kind; 11] = [
    Kind::Labels,
    Kind::Dictionary,
    Kind::Filter,
    Kind::Postings,
    Kind::Ids,
    Kind::ChunkStarts,
    Kind::FirstTimes,
    Kind::Gaps,
    Kind::Durations,
    Kind::Places,
    Kind::Lens,
];

impl Kind {
    /// The section's name in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Labels => "column index, labels",
            Self::Dictionary => "column index, dictionary",
            Self::Filter => "column index, value filter",
            Self::Postings => "column index, postings",
            Self::Ids => "column index, value ids",
            Self::ChunkStarts => "column index, chunk starts",
            Self::FirstTimes => "column index, first times",
            Self::Gaps => "column index, gaps between chunks",
            Self::Durations => "column index, durations of chunks",
            Self::Places => "column index, places of chunks",
            Self::Lens => "column index, lengths of chunks",
        }
    }
}

/// One section's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: Kind,
    /// Number of the label it belongs to; 0 when it belongs to none.
    pub label: u32,
    /// Its bytes within the file.
    pub range: Range<usize>,
    /// The checksum of its bytes.
    pub checksum: u32,
}

/// What the end of the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    /// Number of series.
    pub series: u32,
    /// Number of chunks.
    pub chunks: u64,
    /// All sections, ascending by kind and label.
    pub sections: Vec<Section>,
}

impl Toc {
    /// The table of contents of the file `bytes`; header, footer and table are checked, sections are
    /// not, but for lying within the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let what = "column index, header";
        let mut header = Cursor::new(what, bytes, 0);
        check_magic(&mut header)?;
        check_version(&mut header)?;
        let what = "column index, footer";
        let footer_at = bytes.len().checked_sub(FOOTER_LEN + HEADER_LEN).map(|rest| rest + HEADER_LEN);
        let footer_at =
            footer_at.ok_or_else(|| Corrupt::new(what, 0, format!("the file has {} bytes", bytes.len())))?;
        let footer = &bytes[footer_at..];
        let mut cursor = Cursor::new(what, footer, footer_at as u64);
        let (series, chunks, toc_at) = (cursor.u64_le()?, cursor.u64_le()?, cursor.u64_le()?);
        let count = cursor.u32_le()? as usize;
        check_version(&mut cursor)?;
        let toc_checksum = cursor.u32_le()?;
        section::check(what, footer_at as u64, &footer[..36], cursor.u32_le()?)?;
        check_magic(&mut cursor)?;
        let series = u32::try_from(series).map_err(|_| cursor.corrupt(format!("{series} series")))?;
        let what = "column index, table of contents";
        let toc_bytes = usize::try_from(toc_at).ok().and_then(|at| bytes.get(at..footer_at));
        let toc_bytes = toc_bytes.filter(|toc| toc.len() == count.saturating_mul(ENTRY_LEN));
        let toc_bytes = toc_bytes.ok_or_else(|| Corrupt::new(what, toc_at, format!("{count} sections don't fit")))?;
        section::check(what, toc_at, toc_bytes, toc_checksum)?;
        let mut cursor = Cursor::new(what, toc_bytes, toc_at);
        let sections = (0..count).map(|_| decode_section(&mut cursor, toc_at)).collect::<Result<Vec<_>, _>>()?;
        if !sections.is_sorted_by(|a, b| (a.kind, a.label) < (b.kind, b.label)) {
            return Err(cursor.corrupt("sections don't ascend"));
        }
        Ok(Self { series, chunks, sections })
    }

    /// The place among the sections of the one of `kind` and `label`.
    pub fn find(&self, kind: Kind, label: u32) -> Option<usize> {
        self.sections.binary_search_by_key(&(kind, label), |section| (section.kind, section.label)).ok()
    }
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<(), Corrupt> {
    let at = cursor.clone();
    match cursor.bytes(MAGIC.len())? {
        found if found == MAGIC => Ok(()),
        found => Err(at.corrupt(format!("magic is {}", found.escape_ascii()))),
    }
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Corrupt> {
    let at = cursor.clone();
    match cursor.u32_le()? {
        VERSION => Ok(()),
        other => Err(at.corrupt(format!("version is {other}, known is {VERSION}"))),
    }
}

fn decode_section(cursor: &mut Cursor<'_>, end: u64) -> Result<Section, Corrupt> {
    let number = cursor.u32_le()?;
    let kind = KINDS.into_iter().find(|kind| *kind as u32 == number);
    let kind = kind.ok_or_else(|| cursor.corrupt(format!("section of unknown kind {number}")))?;
    let label = cursor.u32_le()?;
    let (offset, len) = (cursor.u64_le()?, cursor.u64_le()?);
    let checksum = cursor.u32_le()?;
    cursor.u32_le()?;
    let section_end = offset.checked_add(len).filter(|section_end| *section_end <= end);
    let section_end = section_end.ok_or_else(|| cursor.corrupt(format!("{} ends after the sections", kind.name())))?;
    Ok(Section { kind, label, range: offset as usize..section_end as usize, checksum })
}

/// Writes a file section by section.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    at: u64,
    sections: Vec<Section>,
}

impl<W: Write> Writer<W> {
    /// Starts a file.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        Ok(Self { out, at: HEADER_LEN as u64, sections: Vec::new() })
    }

    /// Appends a section.
    pub fn section(&mut self, kind: Kind, label: u32, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let range = self.at as usize..self.at as usize + bytes.len();
        self.sections.push(Section { kind, label, range, checksum: section::checksum(bytes) });
        let padding = (bytes.len() as u64).wrapping_neg() % ALIGN;
        self.out.write_all(&[0; ALIGN as usize][..padding as usize])?;
        self.at += bytes.len() as u64 + padding;
        Ok(())
    }

    /// Ends the file and returns what it was written to, and its length in bytes.
    pub fn finish(mut self, series: u32, chunks: u64) -> io::Result<(W, u64)> {
        self.sections.sort_by_key(|section| (section.kind, section.label));
        let mut toc = Vec::with_capacity(self.sections.len() * ENTRY_LEN);
        for section in &self.sections {
            toc.extend((section.kind as u32).to_le_bytes());
            toc.extend(section.label.to_le_bytes());
            toc.extend((section.range.start as u64).to_le_bytes());
            toc.extend((section.range.len() as u64).to_le_bytes());
            toc.extend(section.checksum.to_le_bytes());
            toc.extend([0; 4]);
        }
        let mut footer = Vec::with_capacity(FOOTER_LEN);
        footer.extend(u64::from(series).to_le_bytes());
        footer.extend(chunks.to_le_bytes());
        footer.extend(self.at.to_le_bytes());
        footer.extend((self.sections.len() as u32).to_le_bytes());
        footer.extend(VERSION.to_le_bytes());
        footer.extend(section::checksum(&toc).to_le_bytes());
        footer.extend(section::checksum(&footer).to_le_bytes());
        footer.extend_from_slice(MAGIC);
        self.out.write_all(&toc)?;
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok((self.out, self.at + (toc.len() + footer.len()) as u64))
    }
}
