//! An opened column index: sections are checked when they are used first, or all at once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::chunks::Chunks;
use super::dictionary::Dictionary;
use super::filter::Filter;
use super::frames::{FRAME, IdFrame, Ids, Times};
use super::layout::{Kind, Toc};
use crate::codec::{Corrupt, Cursor, section};
use crate::io::mmap::{self, Mmap};
use crate::model::Error;
use crate::postings::{Ordinals, packed};

/// When the sections of a file are compared with their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// All of them at once, when the file is opened.
    Everything,
    /// Each when it is used first: opening reads a few pages.
    OnFirstUse,
}

/// A section that a label may have, in the order of [`Label::sections`].
const LABEL_KINDS: [Kind; 4] = [Kind::Dictionary, Kind::Filter, Kind::Postings, Kind::Ids];

/// A section that every file has.
const CHUNK_KINDS: [Kind; 5] = [Kind::ChunkStarts, Kind::FirstTimes, Kind::Gaps, Kind::Durations, Kind::Places];

#[derive(Debug)]
struct Label {
    name: Box<str>,
    values: u32,
    first_frame: usize,
    frames: usize,
    sections: [Option<u32>; LABEL_KINDS.len()],
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Held(Vec<u8>),
}

/// The column index of one block.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    toc: Toc,
    labels: Vec<Label>,
    least_extension: Option<u32>,
    checked: Vec<AtomicBool>,
    number: u64,
}

impl Reader {
    /// Maps the file at `path`, or reads it where that is better. An error of kind Corrupt names the section: build the
    /// file anew.
    pub fn open(path: &Path, check: Check) -> Result<Self, Error> {
        let failed = |error| Error::file(path, error);
        let bytes = if mmap::suits(std::fs::metadata(path).map_err(failed)?.len()) {
            Bytes::Mapped(Mmap::open(path).map_err(failed)?)
        } else {
            Bytes::Held(std::fs::read(path).map_err(failed)?)
        };
        Self::new(bytes, check).map_err(|error| error.within(path.display()))
    }

    /// Opens the file whose content is `bytes`.
    pub fn from_bytes(bytes: Vec<u8>, check: Check) -> Result<Self, Error> {
        Self::new(Bytes::Held(bytes), check)
    }

    fn new(bytes: Bytes, check: Check) -> Result<Self, Error> {
        /// Tells buffers of labels which index they were used with.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let toc = Toc::decode(bytes.slice())?;
        let checked = toc.sections.iter().map(|_| AtomicBool::new(false)).collect();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut reader = Self { bytes, toc, labels: Vec::new(), least_extension: None, checked, number };
        let labels = reader.section(reader.required(Kind::Labels, 0)?)?;
        let decoded = decode_labels(labels, &reader.toc)?;
        (reader.labels, reader.least_extension) = decoded;
        for kind in CHUNK_KINDS {
            reader.required(kind, 0)?;
        }
        if check == Check::Everything {
            (0..reader.toc.sections.len()).try_for_each(|at| reader.section(at as u32).map(drop))?;
        }
        Ok(reader)
    }

    /// Number of series.
    pub fn series_count(&self) -> u32 {
        self.toc.series
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> u64 {
        self.toc.chunks
    }

    /// Bytes of the file, by what they hold.
    pub fn sizes(&self) -> impl Iterator<Item = (Kind, usize)> {
        self.toc.sections.iter().map(|section| (section.kind, section.range.len()))
    }

    /// The number of the label with the least name by which a series goes on where the one before it
    /// ends.
    pub(super) fn extension(&self) -> Option<u32> {
        self.least_extension
    }

    /// A number that no other index of the process has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The file.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.slice()
    }

    /// Number of labels.
    pub(super) fn label_count(&self) -> usize {
        self.labels.len()
    }

    /// The name of label number `label`.
    pub(super) fn label_name(&self, label: u32) -> &str {
        &self.labels[label as usize].name
    }

    /// The number of the label called `name`.
    pub(super) fn label(&self, name: &str) -> Option<u32> {
        self.labels.binary_search_by(|label| (*label.name).cmp(name)).ok().map(|at| at as u32)
    }

    /// Number of values of label number `label`.
    pub(super) fn value_count(&self, label: u32) -> u32 {
        self.labels[label as usize].values
    }

    /// The values of label number `label`.
    pub(super) fn dictionary(&self, label: u32) -> Result<Dictionary<'_>, Error> {
        let bytes = self.label_section(label, Kind::Dictionary)?;
        Ok(Dictionary::of_checked(bytes, self.labels[label as usize].values))
    }

    /// The filter over the values of label number `label`; `None` when it has none.
    pub(super) fn filter(&self, label: u32) -> Result<Option<Filter<'_>>, Error> {
        let Some(at) = self.labels[label as usize].sections[1] else { return Ok(None) };
        Ok(Some(Filter::decode(self.section(at)?)?))
    }

    /// The column of value ids of label number `label`.
    pub(super) fn ids(&self, label: u32) -> Result<LabelIds<'_>, Error> {
        let bytes = self.label_section(label, Kind::Ids)?;
        let Label { first_frame, frames, .. } = self.labels[label as usize];
        Ok(LabelIds { ids: Ids::of_checked(bytes, frames), first_frame })
    }

    /// The postings of label number `label`.
    pub(super) fn postings(&self, label: u32) -> Result<LabelPostings<'_>, Error> {
        let bytes = self.label_section(label, Kind::Postings)?;
        let lists = self.labels[label as usize].values as usize + 1;
        Ok(LabelPostings { parts: PostingsParts::decode(bytes, lists)?, series: self.toc.series })
    }

    /// The columns of chunk metas.
    pub(super) fn chunk_columns(&self) -> Result<Chunks<'_>, Error> {
        let column = |kind, len: u64| -> Result<Times<'_>, Error> {
            let bytes = self.section(self.required(kind, 0)?)?;
            Ok(Times::of_checked(bytes, frames_of(len)))
        };
        let (series, len) = (u64::from(self.toc.series), self.toc.chunks);
        let lens = self.toc.find(Kind::Lens, 0).is_some();
        Ok(Chunks {
            len,
            starts: column(Kind::ChunkStarts, series + 1)?,
            first_times: column(Kind::FirstTimes, series)?,
            gaps: column(Kind::Gaps, len)?,
            durations: column(Kind::Durations, len)?,
            places: column(Kind::Places, len)?,
            lens: if lens { Some(column(Kind::Lens, len)?) } else { None },
        })
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let held = if let Bytes::Held(bytes) = &self.bytes { bytes.capacity() } else { 0 };
        let names: usize = self.labels.iter().map(|label| label.name.len()).sum();
        let sections = self.toc.sections.len() * (size_of::<super::layout::Section>() + 1);
        held + names + sections + self.labels.len() * size_of::<Label>()
    }

    fn required(&self, kind: Kind, label: u32) -> Result<u32, Corrupt> {
        let found = self.toc.find(kind, label).map(|at| at as u32);
        found.ok_or_else(|| Corrupt::new(kind.name(), 0, "the section is missing"))
    }

    fn label_section(&self, label: u32, kind: Kind) -> Result<&[u8], Error> {
        let at = LABEL_KINDS.iter().position(|known| *known == kind);
        let at = at.and_then(|at| self.labels[label as usize].sections[at]);
        let name = self.label_name(label);
        let at = at.ok_or_else(|| Corrupt::new(kind.name(), 0, format!("label {name:?} has no such section")))?;
        self.section(at)
    }

    /// The bytes of section number `at`, checked when it is used first.
    fn section(&self, at: u32) -> Result<&[u8], Error> {
        let section = &self.toc.sections[at as usize];
        let bytes = &self.bytes.slice()[section.range.clone()];
        if !self.checked[at as usize].load(Ordering::Relaxed) {
            let offset = section.range.start as u64;
            let place = |corrupt: Corrupt| match self.labels.get(section.label as usize) {
                Some(label) if section.kind != Kind::Labels => {
                    Error::from(corrupt).within(format!("label {:?}", label.name))
                }
                _ => Error::from(corrupt),
            };
            section::check(section.kind.name(), offset, bytes, section.checksum).map_err(place)?;
            self.check_shape(section.kind, section.label, bytes).map_err(place)?;
            self.checked[at as usize].store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    /// Whether the places within a section lie within it.
    fn check_shape(&self, kind: Kind, label: u32, bytes: &[u8]) -> Result<(), Corrupt> {
        let what = kind.name();
        let times = |len: u64| Times::decode(what, bytes, frames_of(len)).map(drop);
        let chunk_kind = CHUNK_KINDS.contains(&kind) || kind == Kind::Lens;
        let Some(entry) = self.labels.get(label as usize).filter(|_| !chunk_kind) else {
            return match kind {
                Kind::Labels => Ok(()),
                Kind::ChunkStarts => times(u64::from(self.toc.series) + 1),
                Kind::FirstTimes => times(u64::from(self.toc.series)),
                Kind::Gaps | Kind::Durations | Kind::Places | Kind::Lens => times(self.toc.chunks),
                _ => Err(Corrupt::new(what, 0, format!("there is no label number {label}"))),
            };
        };
        match kind {
            Kind::Dictionary => Dictionary::decode(bytes, entry.values).map(drop),
            Kind::Filter => Filter::decode(bytes).map(drop),
            Kind::Ids => Ids::decode(what, bytes, entry.frames).map(drop),
            Kind::Postings => PostingsParts::decode_checked(bytes, entry.values as usize + 1).map(drop),
            _ => Ok(()),
        }
    }
}

impl Bytes {
    fn slice(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Held(bytes) => bytes,
        }
    }
}

fn frames_of(len: u64) -> usize {
    usize::try_from(len.div_ceil(FRAME as u64)).unwrap_or(usize::MAX)
}

/// The labels, and the number of the one with the least name by which a series goes on where the one
/// before it ends.
fn decode_labels(bytes: &[u8], toc: &Toc) -> Result<(Vec<Label>, Option<u32>), Corrupt> {
    let mut cursor = Cursor::new(Kind::Labels.name(), bytes, 0);
    let count = cursor.count()?;
    let mut labels: Vec<Label> = Vec::with_capacity(count);
    for number in 0..count as u32 {
        let name = cursor.string()?;
        if labels.last().is_some_and(|before| *before.name >= *name) {
            return Err(cursor.corrupt(format!("label {name:?} doesn't ascend")));
        }
        let values = cursor.uvarint()?;
        let (first_frame, frames) = (cursor.uvarint()?, cursor.uvarint()?);
        let end = first_frame.checked_add(frames);
        if values > u64::from(toc.series) || end.is_none_or(|end| end > frames_of(u64::from(toc.series)) as u64) {
            return Err(cursor.corrupt(format!("label {name:?} has more values or frames than there are series")));
        }
        let sections = LABEL_KINDS.map(|kind| toc.find(kind, number).map(|at| at as u32));
        let (first_frame, frames) = (first_frame as usize, frames as usize);
        labels.push(Label { name: name.into(), values: values as u32, first_frame, frames, sections });
    }
    match cursor.uvarint()? {
        number if number > count as u64 => Err(cursor.corrupt(format!("there is no label number {number}"))),
        number => Ok((labels, (number as u32).checked_sub(1))),
    }
}

/// The column of value ids of a label: it covers the frames in which a series has the label.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelIds<'a> {
    ids: Ids<'a>,
    first_frame: usize,
}

impl<'a> LabelIds<'a> {
    /// The frame number `at` of the block; `None` when no series in it has the label.
    pub(super) fn frame(self, at: usize) -> Option<IdFrame> {
        let at = at.checked_sub(self.first_frame).filter(|at| *at < self.ids.frames())?;
        Some(self.ids.frame(at))
    }

    /// Where in `file` the packed integers start.
    pub(super) fn packed_offset(self, file: &[u8]) -> usize {
        self.ids.packed().as_ptr().addr() - file.as_ptr().addr()
    }

    /// All ids of frame number `at` of the block.
    pub(super) fn unpack(self, at: usize, out: &mut [u32; FRAME]) {
        match at.checked_sub(self.first_frame).filter(|at| *at < self.ids.frames()) {
            Some(at) => self.ids.unpack(at, out),
            None => out.fill(0),
        }
    }

    /// The id of `ordinal`.
    pub(super) fn get(self, ordinal: u32) -> u32 {
        let position = ordinal as usize % FRAME;
        self.frame(ordinal as usize / FRAME).map_or(0, |frame| frame.value(self.ids.packed(), position))
    }
}

/// The parts of a label's postings.
#[derive(Clone, Copy, Debug)]
struct PostingsParts<'a> {
    counts: Ids<'a>,
    places: Times<'a>,
    lists: &'a [u8],
}

impl<'a> PostingsParts<'a> {
    fn decode(bytes: &'a [u8], lists: usize) -> Result<Self, Corrupt> {
        let [counts, places, rest] = Self::split(bytes)?;
        let (count_frames, place_frames) = (lists.div_ceil(FRAME), (lists + 1).div_ceil(FRAME));
        let counts = Ids::of_checked(counts, count_frames);
        Ok(Self { counts, places: Times::of_checked(places, place_frames), lists: rest })
    }

    fn decode_checked(bytes: &'a [u8], lists: usize) -> Result<Self, Corrupt> {
        let [counts, places, _] = Self::split(bytes)?;
        Ids::decode(Kind::Postings.name(), counts, lists.div_ceil(FRAME))?;
        Times::decode(Kind::Postings.name(), places, (lists + 1).div_ceil(FRAME))?;
        Self::decode(bytes, lists)
    }

    fn split(bytes: &'a [u8]) -> Result<[&'a [u8]; 3], Corrupt> {
        let mut cursor = Cursor::new(Kind::Postings.name(), bytes, 0);
        let (counts, places) = (cursor.u32_le()? as usize, cursor.u32_le()? as usize);
        Ok([cursor.bytes(counts)?, cursor.bytes(places)?, cursor.bytes(cursor.remaining())?])
    }
}

/// The postings of a label, by value id; id 0 is the list of all series that have the label.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelPostings<'a> {
    parts: PostingsParts<'a>,
    series: u32,
}

impl LabelPostings<'_> {
    /// Number of series with `id`, which is at most the number of values.
    pub(super) fn count(self, id: u32) -> usize {
        self.parts.counts.get(id as usize) as usize
    }

    /// The series with `id`, which is at most the number of values.
    pub(super) fn list(self, id: u32) -> Result<Ordinals, Error> {
        let range = self.parts.places.get(id as usize)..self.parts.places.get(id as usize + 1);
        let start_end = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = start_end.and_then(|(start, end)| self.parts.lists.get(start..end));
        let outside = || Corrupt::new(Kind::Postings.name(), range.start, format!("list {id} lies outside"));
        Ok(packed::decode(bytes.ok_or_else(outside)?, self.count(id), self.series)?)
    }
}
