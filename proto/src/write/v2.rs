//! Version 2: strings lie once in a table of symbols, of which the first is empty, and series refer
//! to them.

use super::cursor::{BYTES, Cursor, FIXED64, VARINT};
use super::histogram::Histogram;
use super::{Exemplar, Malformed, Metadata, Sink, v1};

/// References of one series or exemplar, at most: names and values of 10^6 labels.
pub const REFS_MAX: usize = 2_000_000;

/// Reads an `io.prometheus.write.v2.Request` into `sink`.
pub fn scan<'a>(request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let symbols = symbols(request)?;
    let mut room = Room { symbols: &symbols, refs: Vec::new(), labels: Vec::new() };
    let mut fields = Cursor::new(request);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (5, BYTES) => series(fields.message()?, &mut room, sink)?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

/// The symbols, and room that series share.
struct Room<'a, 's> {
    symbols: &'s [&'a [u8]],
    refs: Vec<u32>,
    labels: Vec<(&'a [u8], &'a [u8])>,
}

/// All symbols: they may follow the series that refer to them.
fn symbols(request: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut symbols = Vec::new();
    let mut fields = Cursor::new(request);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (4, BYTES) => symbols.push(fields.bytes()?),
            _ => fields.skip(tag)?,
        }
    }
    match symbols.first() {
        Some(first) if !first.is_empty() => Err(Cursor::new(request).malformed("the first symbol is not empty")),
        _ => Ok(symbols),
    }
}

fn series<'a>(mut fields: Cursor<'a>, room: &mut Room<'a, '_>, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let start = fields;
    room.refs.clear();
    while let Some(0x08 | 0x0a) = fields.rest().first() {
        let tag = fields.varint()?;
        read_refs(&mut fields, tag, &mut room.refs)?;
    }
    room.resolve(&start)?;
    sink.series(&room.labels);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, _) => return Err(fields.malformed("labels follow other fields of their series")),
            (2, BYTES) => sink.sample(v1::sample(fields.message()?)?),
            (3, BYTES) => sink.histogram(Histogram::read(fields.message()?)?),
            (4, BYTES) => exemplar(fields.message()?, room, sink)?,
            (5, BYTES) => sink.metadata(metadata(fields.message()?, room.symbols)?),
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

fn read_refs(fields: &mut Cursor<'_>, tag: u64, refs: &mut Vec<u32>) -> Result<(), Malformed> {
    let mut read = |cursor: &Cursor<'_>, value: u64| {
        let value = u32::try_from(value).map_err(|_| cursor.malformed("a reference is no symbol"))?;
        if refs.len() == REFS_MAX {
            return Err(cursor.malformed("a series has more labels than 10^6"));
        }
        refs.push(value);
        Ok(())
    };
    if tag & 7 == VARINT {
        let value = fields.varint()?;
        return read(fields, value);
    }
    let mut packed = fields.message()?;
    while let Some(value) = packed.next_key()? {
        read(&packed, value)?;
    }
    Ok(())
}

impl<'a> Room<'a, '_> {
    /// The labels that the references name.
    fn resolve(&mut self, place: &Cursor<'a>) -> Result<(), Malformed> {
        self.labels.clear();
        let (pairs, rest) = self.refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(place.malformed("a label has a name and no value"));
        }
        for [name, value] in pairs {
            let (name, value) = (self.symbols.get(*name as usize), self.symbols.get(*value as usize));
            let (Some(name), Some(value)) = (name, value) else {
                return Err(place.malformed("a reference is no symbol"));
            };
            self.labels.push((name, value));
        }
        Ok(())
    }
}

fn exemplar<'a>(mut fields: Cursor<'a>, room: &mut Room<'a, '_>, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let (start, mut found) = (fields, Exemplar::default());
    room.refs.clear();
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES | VARINT) => read_refs(&mut fields, tag, &mut room.refs)?,
            (2, FIXED64) => found.value = fields.double()?,
            (3, VARINT) => found.time = fields.varint()? as i64,
            _ => fields.skip(tag)?,
        }
    }
    room.resolve(&start)?;
    sink.exemplar(&room.labels, found);
    Ok(())
}

fn metadata<'a>(mut fields: Cursor<'a>, symbols: &[&'a [u8]]) -> Result<Metadata<'a>, Malformed> {
    let (start, mut found) = (fields, Metadata::default());
    let symbol = |at: u64| {
        let found = usize::try_from(at).ok().and_then(|at| symbols.get(at)).copied();
        found.or(if at == 0 { Some(&[][..]) } else { None }).ok_or_else(|| start.malformed("a reference is no symbol"))
    };
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, VARINT) => found.kind = fields.varint()?.min(8) as u8 % 8,
            (3, VARINT) => found.help = symbol(fields.varint()?)?,
            (4, VARINT) => found.unit = symbol(fields.varint()?)?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(found)
}
