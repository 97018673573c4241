//! Version 1: every series carries its labels as text.

use super::cursor::{BYTES, Cursor, FIXED64, VARINT};
use super::histogram::Histogram;
use super::{Encoded, Exemplar, Malformed, Metadata, Sample, Sink};

/// Reads a `prometheus.WriteRequest` into `sink`.
pub fn scan<'a>(request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let (mut fields, mut labels) = (Cursor::new(request), Vec::new());
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => series(fields.message()?, &mut labels, sink)?,
            (3, BYTES) => sink.metadata(metadata(fields.message()?)?),
            (1 | 3, _) => return Err(fields.malformed("a series is no message")),
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

/// Reads one `TimeSeries`; `labels` is room that series share.
pub(super) fn series<'a>(
    mut fields: Cursor<'a>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    labels.clear();
    let (start, mut is_plain) = (fields, true);
    while let Some(LABEL) = fields.rest().first() {
        fields.next_key()?;
        let message = fields.message()?;
        match plain_label(message.rest()) {
            Some(label) => labels.push(label),
            None => {
                is_plain = false;
                labels.push(label(message)?);
            }
        }
    }
    let bytes = start.rest().get(..fields.offset() - start.offset()).unwrap_or_default();
    sink.series(labels, is_plain.then_some(Encoded { offset: start.offset(), bytes }));
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => return Err(fields.malformed("labels follow other fields of their series")),
            (2, BYTES) => sink.sample(sample(fields.message()?)?),
            (3, BYTES) => exemplar(fields.message()?, labels, sink)?,
            (4, BYTES) => sink.histogram(Histogram::read(fields.message()?)?),
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

/// The key of a series' label as one byte.
const LABEL: &u8 = &0x0a;

/// A `Label` as every sender writes it: name, value, both shorter than 128 bytes.
#[inline]
fn plain_label(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, name_len @ 0..0x80, rest @ ..] = message else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let [0x12, value_len @ 0..0x80, value @ ..] = rest else { return None };
    // The label's own length has one byte too when it is below 128.
    (value.len() == usize::from(*value_len) && message.len() < 0x80).then_some((name, value))
}

/// The name and value of a `Label`.
fn label<'a>(mut fields: Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => name = fields.bytes()?,
            (2, BYTES) => value = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    Ok((name, value))
}

/// A `Sample`; field 3, which only version 2 defines, is its start timestamp.
#[inline]
pub(super) fn sample(mut fields: Cursor<'_>) -> Result<Sample, Malformed> {
    let mut found = Sample::default();
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, FIXED64) => found.value = fields.double()?,
            (2, VARINT) => found.time = fields.varint()? as i64,
            (3, VARINT) => found.start = fields.varint()? as i64,
            _ => fields.skip(tag)?,
        }
    }
    Ok(found)
}

fn exemplar<'a>(
    mut fields: Cursor<'a>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    let mut found = Exemplar::default();
    labels.clear();
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => labels.push(label(fields.message()?)?),
            (2, FIXED64) => found.value = fields.double()?,
            (3, VARINT) => found.time = fields.varint()? as i64,
            _ => fields.skip(tag)?,
        }
    }
    sink.exemplar(labels, found);
    Ok(())
}

fn metadata<'a>(mut fields: Cursor<'a>) -> Result<Metadata<'a>, Malformed> {
    let mut found = Metadata::default();
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, VARINT) => found.kind = fields.varint()?.min(8) as u8 % 8,
            (2, BYTES) => found.family = fields.bytes()?,
            (4, BYTES) => found.help = fields.bytes()?,
            (5, BYTES) => found.unit = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(found)
}
