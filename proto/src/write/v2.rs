//! Version 2: strings lie once in a table of symbols, of which the first is empty, and series refer
//! to them.

use super::cursor::{BYTES, Cursor, FIXED64, VARINT};
use super::{EXEMPLAR_LABELS_MAX, Exemplar, LABELS_MAX, Malformed, Metadata, Sink, Unresolved, histogram, v1};

/// References of one series or exemplar, at most: names and values of 10^6 labels.
pub const REFS_MAX: usize = 2_000_000;

/// Bytes that all references of a request may stand for: a few bytes can name one long symbol many times.
pub const REFERRED_BYTES_MAX: usize = 128 << 20;

/// Symbols that the table has room for at first.
const SYMBOLS_FIRST: usize = 256;

/// Reads an `io.prometheus.write.v2.Request` into `sink`.
pub fn scan<'a>(request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let symbols = symbols(request, sink)?;
    let mut room = Room { symbols: &symbols, refs: Vec::new(), labels: Vec::new(), referred_bytes: 0 };
    let mut fields = Cursor::new(request);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (5, BYTES) => series(fields.message()?, &mut room, sink)?,
            _ => fields.skip(tag)?,
        }
    }
    sink.give_room(symbols.capacity() * size_of::<&[u8]>());
    Ok(())
}

/// The symbols, and room that series share.
struct Room<'a, 's> {
    symbols: &'s [&'a [u8]],
    refs: Vec<u32>,
    labels: Vec<(&'a [u8], &'a [u8])>,
    /// What the references so far stand for.
    referred_bytes: usize,
}

/// All symbols for which `sink` has room: they may follow the series that refer to them.
fn symbols<'a>(request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let (mut symbols, mut others) = (Vec::new(), 0);
    let mut fields = Cursor::new(request);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (4, BYTES) => {
                let symbol = fields.bytes()?;
                if others == 0 && (symbols.len() < symbols.capacity() || grow(&mut symbols, sink)) {
                    symbols.push(symbol);
                } else {
                    others += 1;
                }
            }
            _ => fields.skip(tag)?,
        }
    }
    if others > 0 {
        // How many there are tells whether there ever is room for them.
        sink.take_room(others * size_of::<&[u8]>());
    }
    match symbols.first() {
        Some(first) if !first.is_empty() => Err(Cursor::new(request).malformed("the first symbol is not empty")),
        _ => Ok(symbols),
    }
}

/// Makes the table twice as large; whether there is room for that.
#[cold]
fn grow<'a>(symbols: &mut Vec<&'a [u8]>, sink: &mut impl Sink<'a>) -> bool {
    let more = symbols.capacity().max(SYMBOLS_FIRST);
    let has_room = sink.take_room(more * size_of::<&[u8]>());
    if has_room {
        symbols.reserve_exact(more);
    }
    has_room
}

fn series<'a>(mut fields: Cursor<'a>, room: &mut Room<'a, '_>, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    room.refs.clear();
    while let Some(0x08 | 0x0a) = fields.rest().first() {
        let tag = fields.varint()?;
        read_refs(&mut fields, tag, &mut room.refs)?;
    }
    if !room.resolve(LABELS_MAX) {
        sink.unresolved(Unresolved::Series);
        return Ok(());
    }
    room.count_labels(&fields)?;
    sink.series(&room.labels);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, _) => return Err(fields.malformed("labels follow other fields of their series")),
            (2, BYTES) => sink.sample(v1::sample(fields.message()?)?),
            (3, BYTES) => histogram::tell(fields.message()?, sink)?,
            (4, BYTES) => exemplar(fields.message()?, room, sink)?,
            (5, BYTES) => {
                let Some(said) = metadata(fields.message()?, room.symbols)? else {
                    sink.unresolved(Unresolved::Metadata);
                    continue;
                };
                room.count(said.help.len() + said.unit.len(), &fields)?;
                sink.metadata(said);
            }
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

fn read_refs(fields: &mut Cursor<'_>, tag: u64, refs: &mut Vec<u32>) -> Result<(), Malformed> {
    let mut read = |cursor: &Cursor<'_>, value: u64| {
        // What is no number of a symbol is found when labels are told.
        let value = u32::try_from(value).unwrap_or(u32::MAX);
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
    /// Tells the labels that the references name, one more than `labels_max` at most; whether there are symbols for
    /// all of them.
    fn resolve(&mut self, labels_max: usize) -> bool {
        self.labels.clear();
        let (pairs, rest) = self.refs.as_chunks::<2>();
        let symbols = self.symbols;
        let symbol = |at: u32| symbols.get(at as usize).copied();
        for [name, value] in pairs {
            let (Some(name), Some(value)) = (symbol(*name), symbol(*value)) else { return false };
            if self.labels.len() <= labels_max {
                self.labels.push((name, value));
            }
        }
        rest.is_empty()
    }

    /// Counts what the labels take where they are told.
    fn count_labels(&mut self, at: &Cursor<'_>) -> Result<(), Malformed> {
        self.count(self.labels.iter().map(|(name, value)| name.len() + value.len()).sum(), at)
    }

    fn count(&mut self, bytes: usize, at: &Cursor<'_>) -> Result<(), Malformed> {
        self.referred_bytes += bytes;
        match self.referred_bytes <= REFERRED_BYTES_MAX {
            true => Ok(()),
            false => Err(at.malformed("references stand for more than 128 MiB: send fewer series at once")),
        }
    }
}

fn exemplar<'a>(mut fields: Cursor<'a>, room: &mut Room<'a, '_>, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let mut found = Exemplar::default();
    room.refs.clear();
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES | VARINT) => read_refs(&mut fields, tag, &mut room.refs)?,
            (2, FIXED64) => found.value = fields.double()?,
            (3, VARINT) => found.time = fields.varint()? as i64,
            _ => fields.skip(tag)?,
        }
    }
    if !room.resolve(EXEMPLAR_LABELS_MAX) {
        sink.unresolved(Unresolved::Exemplar);
        return Ok(());
    }
    room.count_labels(&fields)?;
    sink.exemplar(&room.labels, found);
    Ok(())
}

/// What a metric is; `None` when it refers to no symbol.
fn metadata<'a>(mut fields: Cursor<'a>, symbols: &[&'a [u8]]) -> Result<Option<Metadata<'a>>, Malformed> {
    let mut found = Metadata::default();
    // Senders that have no text may send no table either.
    let symbol = |at: u64| if at == 0 { Some(&[][..]) } else { symbols.get(usize::try_from(at).ok()?).copied() };
    let (mut help, mut unit) = (Some(found.help), Some(found.unit));
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, VARINT) => found.kind = fields.varint()?.min(8) as u8 % 8,
            (3, VARINT) => help = symbol(fields.varint()?),
            (4, VARINT) => unit = symbol(fields.varint()?),
            _ => fields.skip(tag)?,
        }
    }
    Ok(help.zip(unit).map(|(help, unit)| Metadata { help, unit, ..found }))
}
