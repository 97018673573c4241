//! Builds a column index from the series of a TSDB index, in one pass and in memory that is a few
//! bytes for each series.
//!
//! While series stream by, a label's values get provisional ids in the order of their appearance,
//! and columns are packed frame by frame. When all have passed, the values of each label are
//! sorted, its column is unpacked once more to give it the final ids, and the same pass counts and
//! scatters the postings.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::io::{self, Write};
use std::path::Path;

use super::chunks::ChunkWriter;
use super::frames::{FRAME, IdWriter, TimeWriter};
use super::layout::{Kind, Writer};
use super::{dictionary, filter};
use crate::codec::{Corrupt, varint};
use crate::index::tsdb::{self, Source, SymbolRef, Symbols};
use crate::io::replace;
use crate::model::{Error, ErrorKind, Mixed};
use crate::postings::packed;

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Built {
    /// Number of series.
    pub series: u32,
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// Builds the column index of `index` in the file at `path`, which appears whole or not at all; only a
/// crash of the machine may leave it damaged, which its checksums tell.
pub fn build<S: Source>(index: &tsdb::Reader<S>, path: &Path) -> Result<Built, Error> {
    let builder = scan(index)?;
    let mut built = Built::default();
    let written = replace::write_unsynced(path, |file| {
        let mut out = io::BufWriter::with_capacity(1 << 20, file);
        built = builder.finish(index.symbols(), &mut out)?;
        out.flush()
    });
    written.map_err(|error| Error::file(path, error))?;
    Ok(built)
}

/// Builds the column index of `index` in memory.
pub fn build_in_memory<S: Source>(index: &tsdb::Reader<S>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let written = scan(index)?.finish(index.symbols(), &mut bytes);
    written.map_err(|error| Error::new(ErrorKind::Bug, format!("writing to memory failed: {error}")))?;
    Ok(bytes)
}

fn scan<S: Source>(index: &tsdb::Reader<S>) -> Result<Builder, Error> {
    let mut builder = Builder::default();
    let (mut scan, mut series) = (index.series(), tsdb::Series::default());
    while scan.next(&mut series)? {
        builder.push(&series)?;
    }
    Ok(builder)
}

type SymbolMap = HashMap<SymbolRef, u32, BuildHasherDefault<Mixed>>;

/// One label's column with provisional ids.
struct LabelColumn {
    name: SymbolRef,
    /// The first frame in which a series has the label: the column starts there.
    first_frame: usize,
    ids: IdWriter,
    values: Vec<SymbolRef>,
    known: SymbolMap,
    last: (SymbolRef, u32),
}

impl LabelColumn {
    fn new(name: SymbolRef, ordinal: usize) -> Self {
        Self {
            name,
            first_frame: ordinal / FRAME,
            ids: IdWriter::default(),
            values: Vec::new(),
            known: SymbolMap::default(),
            last: (SymbolRef(u32::MAX), 0),
        }
    }

    fn push(&mut self, ordinal: usize, value: SymbolRef) {
        self.ids.pad(ordinal - self.first_frame * FRAME);
        if self.last.0 != value {
            let values = &mut self.values;
            let id = *self.known.entry(value).or_insert_with(|| {
                values.push(value);
                values.len() as u32
            });
            self.last = (value, id);
        }
        self.ids.push(self.last.1);
    }
}

/// The columns of a block in the making.
#[derive(Default)]
pub(super) struct Builder {
    labels: Vec<LabelColumn>,
    by_name: SymbolMap,
    /// Name and label of each place in the last series: neighbours mostly have the same names.
    places: Vec<(SymbolRef, u32)>,
    before: Vec<(SymbolRef, SymbolRef)>,
    /// The least name by which a series goes on where the one before it ends.
    least_extension: Option<SymbolRef>,
    chunks: ChunkWriter,
}

impl Builder {
    pub(super) fn push(&mut self, series: &tsdb::Series) -> Result<(), Error> {
        let ordinal = self.chunks.series();
        let corrupt = |reason: &str| {
            let reason = format!("series number {ordinal} {reason}");
            Error::from(Corrupt::new("series entry", series.series_ref.0, reason))
        };
        // Symbols ascend, so their places compare as their texts do.
        if ordinal > 0 && series.labels <= self.before {
            return Err(corrupt("does not come after the one before in label order"));
        }
        if !series.labels.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(corrupt("has labels that don't ascend"));
        }
        if ordinal >= (u32::MAX - 1) as usize {
            return Err(corrupt("is more than a block may have"));
        }
        if ordinal > 0 && series.labels.starts_with(&self.before) {
            let name = series.labels.get(self.before.len()).map(|label| label.0);
            self.least_extension = self.least_extension.into_iter().chain(name).min();
        }
        self.before.clone_from(&series.labels);
        self.places.resize(series.labels.len().max(self.places.len()), (SymbolRef(u32::MAX), 0));
        for (place, (name, value)) in series.labels.iter().enumerate() {
            if self.places[place].0 != *name {
                self.places[place] = (*name, self.label(*name, ordinal));
            }
            self.labels[self.places[place].1 as usize].push(ordinal, *value);
        }
        self.chunks.push(&series.chunks);
        Ok(())
    }

    fn label(&mut self, name: SymbolRef, ordinal: usize) -> u32 {
        let labels = &mut self.labels;
        *self.by_name.entry(name).or_insert_with(|| {
            labels.push(LabelColumn::new(name, ordinal));
            labels.len() as u32 - 1
        })
    }

    pub(super) fn finish<W: Write>(mut self, symbols: &Symbols, out: W) -> io::Result<Built> {
        let series = self.chunks.series() as u32;
        let mut writer = Writer::new(out)?;
        self.labels.sort_unstable_by_key(|label| label.name);
        let mut directory = Vec::new();
        varint::encode_u64(self.labels.len() as u64, &mut directory);
        let extension = self.labels.iter().position(|label| Some(label.name) == self.least_extension);
        let extension = extension.map_or(0, |at| at + 1);
        let mut scratch = Scratch::default();
        for (number, label) in self.labels.into_iter().enumerate() {
            let name = symbols.get(label.name);
            varint::encode_u64(name.len() as u64, &mut directory);
            directory.extend_from_slice(name.as_bytes());
            varint::encode_u64(label.values.len() as u64, &mut directory);
            varint::encode_u64(label.first_frame as u64, &mut directory);
            varint::encode_u64(label.ids.len().div_ceil(FRAME) as u64, &mut directory);
            write_label(label, number as u32, symbols, &mut scratch, &mut writer)?;
        }
        varint::encode_u64(extension as u64, &mut directory);
        writer.section(Kind::Labels, 0, &directory)?;
        let chunks = self.chunks.finish(&mut writer)?;
        let (_, file_bytes) = writer.finish(series, chunks)?;
        Ok(Built { series, chunks, file_bytes })
    }
}

/// Room that is used again from label to label.
#[derive(Default)]
struct Scratch {
    /// Final id of each provisional one.
    finals: Vec<u32>,
    /// For each final id, where its next ordinal goes; 0 is the list of all series with the label.
    next: Vec<u32>,
    ordinals: Vec<u32>,
    present: Vec<u32>,
    present_ids: Vec<u32>,
    section: Vec<u8>,
}

fn write_label<W: Write>(
    mut label: LabelColumn,
    number: u32,
    symbols: &Symbols,
    scratch: &mut Scratch,
    writer: &mut Writer<W>,
) -> io::Result<()> {
    let mut order: Vec<u32> = (0..label.values.len() as u32).collect();
    order.sort_unstable_by_key(|at| label.values[*at as usize]);
    scratch.finals.clear();
    scratch.finals.resize(order.len() + 1, 0);
    for (rank, at) in order.iter().enumerate() {
        scratch.finals[*at as usize + 1] = rank as u32 + 1;
    }
    let values = order.iter().map(|at| symbols.get(label.values[*at as usize]));
    let section = &mut scratch.section;
    section.clear();
    dictionary::encode(values.clone(), section);
    writer.section(Kind::Dictionary, number, section)?;
    section.clear();
    if order.len() >= filter::VALUES_MIN && filter::encode(values, section) {
        writer.section(Kind::Filter, number, section)?;
    }
    drop(std::mem::take(&mut label.known));
    let len = label.ids.len();
    label.ids.seal();
    write_ids(&label, len, number, scratch, writer)?;
    write_postings(number, scratch, writer)
}

/// Writes the column with final ids, and leaves in `scratch` all series with the label and where the
/// postings of each value end among the sorted ordinals.
fn write_ids<W: Write>(
    label: &LabelColumn,
    len: usize,
    number: u32,
    scratch: &mut Scratch,
    writer: &mut Writer<W>,
) -> io::Result<()> {
    let Scratch { finals, next, ordinals, present, present_ids, section } = scratch;
    let provisional = label.ids.frames();
    let first = label.first_frame * FRAME;
    let (mut ids, mut frame) = (IdWriter::default(), [0; FRAME]);
    next.clear();
    next.resize(finals.len() + 1, 0);
    present.clear();
    present_ids.clear();
    for at in 0..provisional.frames() {
        provisional.unpack(at, &mut frame);
        for (position, id) in frame.iter().take(len - at * FRAME).enumerate() {
            let id = finals[*id as usize];
            ids.push(id);
            if id > 0 {
                next[id as usize + 1] += 1;
                present.push((first + at * FRAME + position) as u32);
                present_ids.push(id);
            }
        }
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    ordinals.clear();
    ordinals.resize(present.len(), 0);
    for (ordinal, id) in present.iter().zip(present_ids.iter()) {
        let to = &mut next[*id as usize];
        ordinals[*to as usize] = *ordinal;
        *to += 1;
    }
    section.clear();
    ids.finish(section);
    writer.section(Kind::Ids, number, section)
}

/// Writes the postings: first the list of all series with the label, then one for each value.
///
/// ```text
/// counts: bytes <u32>  places: bytes <u32>  counts (ids)  places (times)  lists
/// ```
fn write_postings<W: Write>(number: u32, scratch: &mut Scratch, writer: &mut Writer<W>) -> io::Result<()> {
    let Scratch { finals, next, ordinals, present, section, .. } = scratch;
    let (mut counts, mut places, mut lists) = (IdWriter::default(), TimeWriter::default(), Vec::new());
    let mut append = |list: &[u32]| {
        counts.push(list.len() as u32);
        places.push(lists.len() as u64);
        packed::encode(list, &mut lists);
    };
    append(present);
    // After scattering, `next` holds where each value's ordinals end.
    let mut start = 0;
    for end in &next[1..finals.len()] {
        append(&ordinals[start..*end as usize]);
        start = *end as usize;
    }
    places.push(lists.len() as u64);
    let (mut counts_bytes, mut places_bytes) = (Vec::new(), Vec::new());
    counts.finish(&mut counts_bytes);
    places.finish(&mut places_bytes);
    section.clear();
    section.extend((counts_bytes.len() as u32).to_le_bytes());
    section.extend((places_bytes.len() as u32).to_le_bytes());
    section.append(&mut counts_bytes);
    section.append(&mut places_bytes);
    section.append(&mut lists);
    writer.section(Kind::Postings, number, section)
}
