//! Native histograms of a write request: the same fields in both versions, and the start timestamp
//! that only version 2 has.

use super::cursor::{BYTES, Cursor, FIXED64, VARINT, key, unzigzag};
use super::{Malformed, Sink};
use crate::wire::{put_varint, varint_len};

/// A count, as integers or floats have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// Of an integer histogram.
    Integer(u64),
    /// Of a float histogram.
    Float(f64),
}

impl Default for Count {
    fn default() -> Self {
        Self::Integer(0)
    }
}

/// What is known of a counter reset before a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// Nothing.
    #[default]
    Unknown,
    /// There was one.
    Yes,
    /// There was none.
    No,
    /// A gauge has none.
    Gauge,
}

/// The buckets of one sign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Runs of buckets: the gap before each and its length.
    pub spans: Vec<(i32, u32)>,
    /// Counts of an integer histogram, each as the difference to the one before.
    pub deltas: Vec<i64>,
    /// Counts of a float histogram.
    pub counts: Vec<f64>,
}

/// A native histogram at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Unix milliseconds.
    pub time: i64,
    /// Unix milliseconds at which counting began; 0 when not given.
    pub start: i64,
    /// All observations; tells integers from floats.
    pub count: Count,
    /// Sum of all observations.
    pub sum: f64,
    /// Resolution.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: Count,
    /// Buckets below zero.
    pub negative: Buckets,
    /// Buckets above zero.
    pub positive: Buckets,
    /// What is known of a reset.
    pub reset: ResetHint,
    /// Bounds of custom buckets.
    pub custom_values: Vec<f64>,
}

/// Bytes that a byte of a histogram's message becomes at most: a number.
const BYTES_PER_BYTE: usize = size_of::<i64>();

/// Bytes of a message up to which a histogram is read before there is room for it, as nearly all are.
const MESSAGE_BYTES_SMALL: usize = 4 << 10;

/// Reads the histogram of `message` into `sink`, unless it is large and there is no room for it.
pub(super) fn tell<'a>(message: Cursor<'a>, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    if message.rest().len() <= MESSAGE_BYTES_SMALL {
        sink.histogram(Histogram::read(message)?);
        return Ok(());
    }
    let bytes = BYTES_PER_BYTE * message.rest().len();
    if sink.take_room(bytes) {
        let found = Histogram::read(message)?;
        // What it has become is counted by who takes it.
        sink.give_room(bytes);
        sink.histogram(found);
    }
    Ok(())
}

impl Histogram {
    /// Reads a histogram's message.
    fn read(mut fields: Cursor<'_>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        while let Some(tag) = fields.next_key()? {
            match (tag >> 3, tag & 7) {
                (1, VARINT) => found.count = Count::Integer(fields.varint()?),
                (2, FIXED64) => found.count = Count::Float(fields.double()?),
                (3, FIXED64) => found.sum = fields.double()?,
                (4, VARINT) => found.schema = fields.zigzag()? as i32,
                (5, FIXED64) => found.zero_threshold = fields.double()?,
                (6, VARINT) => found.zero_count = Count::Integer(fields.varint()?),
                (7, FIXED64) => found.zero_count = Count::Float(fields.double()?),
                (8, BYTES) => found.negative.spans.push(span(fields.message()?)?),
                (9, _) => deltas(&mut fields, tag, &mut found.negative.deltas)?,
                (10, _) => doubles(&mut fields, tag, &mut found.negative.counts)?,
                (11, BYTES) => found.positive.spans.push(span(fields.message()?)?),
                (12, _) => deltas(&mut fields, tag, &mut found.positive.deltas)?,
                (13, _) => doubles(&mut fields, tag, &mut found.positive.counts)?,
                (14, VARINT) => {
                    found.reset = match fields.varint()? {
                        1 => ResetHint::Yes,
                        2 => ResetHint::No,
                        3 => ResetHint::Gauge,
                        _ => ResetHint::Unknown,
                    }
                }
                (15, VARINT) => found.time = fields.varint()? as i64,
                (16, _) => doubles(&mut fields, tag, &mut found.custom_values)?,
                (17, VARINT) => found.start = fields.varint()? as i64,
                _ => fields.skip(tag)?,
            }
        }
        Ok(found)
    }

    /// Whether its counts are floats.
    pub fn is_float(&self) -> bool {
        matches!(self.count, Count::Float(_))
    }
}

fn span(mut fields: Cursor<'_>) -> Result<(i32, u32), Malformed> {
    let (mut offset, mut length) = (0, 0);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, VARINT) => offset = fields.zigzag()? as i32,
            (2, VARINT) => length = fields.varint()? as u32,
            _ => fields.skip(tag)?,
        }
    }
    Ok((offset, length))
}

/// Zigzag numbers, packed or one.
fn deltas(fields: &mut Cursor<'_>, tag: u64, into: &mut Vec<i64>) -> Result<(), Malformed> {
    match tag & 7 {
        BYTES => {
            let mut packed = fields.message()?;
            into.reserve(packed.rest().iter().filter(|byte| **byte < 0x80).count());
            while let Some(value) = packed.next_key()? {
                into.push(unzigzag(value));
            }
            Ok(())
        }
        VARINT => {
            into.push(fields.zigzag()?);
            Ok(())
        }
        _ => fields.skip(tag),
    }
}

/// Doubles, packed or one.
fn doubles(fields: &mut Cursor<'_>, tag: u64, into: &mut Vec<f64>) -> Result<(), Malformed> {
    match tag & 7 {
        BYTES => {
            let mut packed = fields.message()?;
            into.reserve(packed.rest().len() / size_of::<f64>());
            while !packed.rest().is_empty() {
                into.push(packed.double()?);
            }
            Ok(())
        }
        FIXED64 => {
            into.push(fields.double()?);
            Ok(())
        }
        _ => fields.skip(tag),
    }
}

/// Appends the message of `histogram`, without a key and length before it.
pub fn put_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    let mut double = |number: u64, value: f64| super::put_double(out, number, value);
    match histogram.count {
        Count::Integer(_) => {}
        Count::Float(count) => double(2, count),
    }
    if histogram.sum.to_bits() != 0 {
        double(3, histogram.sum);
    }
    if histogram.zero_threshold != 0.0 {
        double(5, histogram.zero_threshold);
    }
    if let Count::Float(count) = histogram.zero_count {
        double(7, count);
    }
    let mut varint = |number: u64, value: u64| {
        put_varint(out, key(number, VARINT));
        put_varint(out, value);
    };
    if let Count::Integer(count) = histogram.count {
        varint(1, count);
    }
    if let Count::Integer(count) = histogram.zero_count {
        varint(6, count);
    }
    varint(4, zigzag(i64::from(histogram.schema)));
    varint(14, histogram.reset as u64);
    varint(15, histogram.time as u64);
    if histogram.start != 0 {
        varint(17, histogram.start as u64);
    }
    put_buckets(out, &histogram.negative, [8, 9, 10]);
    put_buckets(out, &histogram.positive, [11, 12, 13]);
    put_doubles(out, 16, &histogram.custom_values);
}

fn put_buckets(out: &mut Vec<u8>, buckets: &Buckets, [spans, deltas, counts]: [u64; 3]) {
    for (offset, length) in &buckets.spans {
        let offset = zigzag(i64::from(*offset));
        put_varint(out, key(spans, BYTES));
        put_varint(out, (2 + varint_len(offset) + varint_len(u64::from(*length))) as u64);
        out.push(1 << 3);
        put_varint(out, offset);
        out.push(2 << 3);
        put_varint(out, u64::from(*length));
    }
    if !buckets.deltas.is_empty() {
        put_varint(out, key(deltas, BYTES));
        put_varint(out, buckets.deltas.iter().map(|delta| varint_len(zigzag(*delta)) as u64).sum());
        buckets.deltas.iter().for_each(|delta| put_varint(out, zigzag(*delta)));
    }
    put_doubles(out, counts, &buckets.counts);
}

fn put_doubles(out: &mut Vec<u8>, number: u64, values: &[f64]) {
    if !values.is_empty() {
        put_varint(out, key(number, BYTES));
        put_varint(out, 8 * values.len() as u64);
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
