//! Version 1: every series carries its labels as text.

use super::cursor::{BYTES, Cursor, FIXED64, VARINT};
use super::{EXEMPLAR_LABELS_MAX, Exemplar, LABELS_MAX, LabelRun, Malformed, Metadata, Sample, Sink, histogram};
use crate::wire::{NAME, VALUE, field_len, plain_label, split_varint};

/// Reads a `prometheus.WriteRequest` into `sink`.
pub fn scan<'a>(request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
    let (mut fields, mut labels) = (Cursor::new(request), Vec::new());
    loop {
        let start = fields.offset();
        let Some(tag) = fields.next_key()? else { return Ok(()) };
        match (tag >> 3, tag & 7) {
            (1, BYTES) => series_field(start, &mut fields, &mut labels, sink)?,
            (3, BYTES) => sink.metadata(metadata(fields.message()?)?),
            (1 | 3, _) => return Err(fields.malformed("a series is no message")),
            _ => fields.skip(tag)?,
        }
    }
}

/// Reads the `TimeSeries` in the field whose key, from `start` on, was read; `labels` is room that series share.
#[inline]
pub(super) fn series_field<'a>(
    start: usize,
    fields: &mut Cursor<'a>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    let message = fields.message()?;
    sink.series_field(start..fields.offset());
    series(message, labels, sink)
}

/// Reads one `TimeSeries`.
fn series<'a>(
    mut fields: Cursor<'a>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    if let Some((run, last)) = before_sample(fields.rest())
        && sink.presumed_labels(LabelRun { offset: fields.offset(), bytes: run })
    {
        sink.sample(last);
        return Ok(());
    }
    let (start, mut is_plain) = (fields, true);
    fields.advance(short_labels(fields.rest()));
    if fields.rest().first() == Some(&LABEL) {
        is_plain = pass_labels(&mut fields)?;
    }
    let run = start.rest().get(..fields.offset() - start.offset()).unwrap_or_default();
    if !is_plain || !sink.label_run(LabelRun { offset: start.offset(), bytes: run }) {
        tell_labels(start, run.len(), labels)?;
        sink.series(labels);
    }
    while let [SAMPLE, len @ 0..0x80, rest @ ..] = fields.rest()
        && let Some((value, time)) = rest.get(..usize::from(*len)).and_then(plain_sample)
    {
        sink.sample(Sample { value, time, start: 0 });
        fields.advance(2 + usize::from(*len));
    }
    if fields.rest().is_empty() { Ok(()) } else { others(fields, labels, sink) }
}

/// Bytes of a sample as every sender writes it whose time is one of the years 1971 to 2109, as a field.
const SAMPLE_BYTES: usize = 18;

/// How such a field starts: its key, its length, and the key of the value.
const SAMPLE_START: [u8; 3] = [SAMPLE, SAMPLE_BYTES as u8 - 2, 0x09];

/// The same of a value of zero, which senders in Go leave out.
const ZERO_BYTES: usize = SAMPLE_BYTES - 9;

/// How that starts: its key, its length, and the key of the time.
const ZERO_START: [u8; 3] = [SAMPLE, ZERO_BYTES as u8 - 2, TIME];

/// Bytes of the time of either, with which it ends.
const TIME_BYTES: usize = 6;

/// What comes before the sample that ends a series, which are its labels where it has one sample and nothing
/// else, and that sample.
#[inline(always)]
fn before_sample(message: &[u8]) -> Option<(&[u8], Sample)> {
    let (run, last) = split_last_sample(message)?;
    if run.first() != Some(&LABEL) || split_last_sample(run).is_some() {
        return None;
    }
    let value = match last.first_chunk::<{ SAMPLE_BYTES - TIME_BYTES }>() {
        Some([_, _, _, value @ .., TIME]) => f64::from_le_bytes(*value),
        Some(_) => return None,
        None => 0.0,
    };
    let time = last_varint(u64::from_le_bytes(*last.last_chunk()?), TIME_BYTES)? as i64;
    Some((run, Sample { value, time, start: 0 }))
}

/// What comes before a field at the end of `message` that starts as a sample, and that field.
#[inline(always)]
fn split_last_sample(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let field = |bytes: usize, [key, len, first]: [u8; 3]| {
        let (before, last) = message.split_at_checked(message.len().checked_sub(bytes)?)?;
        // Compared at once: three bytes at a time would lie in memory for that.
        let start = u32::from_le_bytes(*last.first_chunk()?) << 8;
        (start == u32::from_le_bytes([0, key, len, first])).then_some((before, last))
    };
    field(SAMPLE_BYTES, SAMPLE_START).or_else(|| field(ZERO_BYTES, ZERO_START))
}

/// Passes over labels of any form; whether all are as every sender writes them.
#[cold]
fn pass_labels(fields: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let mut is_plain = true;
    while let Some(&LABEL) = fields.rest().first() {
        fields.next_key()?;
        let len_at = fields.offset();
        let message = fields.message()?.rest();
        is_plain &= plain_label(message).is_some() && fields.offset() - len_at == field_len(message);
    }
    Ok(is_plain)
}

/// Reads what is behind the labels of a `TimeSeries`.
#[inline(never)]
fn others<'a>(
    mut fields: Cursor<'a>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => return Err(fields.malformed("labels follow other fields of their series")),
            (2, BYTES) => sink.sample(sample(fields.message()?)?),
            (3, BYTES) => exemplar(fields.message()?, labels, sink)?,
            (4, BYTES) => histogram::tell(fields.message()?, sink)?,
            (1..=4, _) => return Err(fields.malformed(WRONG_TYPE)),
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

/// The key of a series' label as one byte.
const LABEL: u8 = 0x0a;
/// The key of a series' sample as one byte.
const SAMPLE: u8 = 0x12;
/// The key of a sample's time as one byte.
const TIME: u8 = 0x10;

/// Length of the labels at the start of `bytes` that are as every sender writes them and so short that
/// each length is one byte: nearly all there are. What is at odd places is looked at beside the way
/// from one label to the next, which is an addition of its length, and in one branch.
#[inline(always)]
fn short_labels(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(head) = bytes.get(end..).and_then(|rest| rest.first_chunk::<4>()) {
        let (next, value) = (end + 2 + usize::from(head[1]), end + 4 + usize::from(head[3]));
        let Some(tail) = bytes.get(value..).and_then(|rest| rest.first_chunk::<2>()) else { break };
        let has_keys = u32::from_le_bytes(*head) & 0x80ff_80ff == u32::from_le_bytes([LABEL, 0, NAME, 0]);
        let has_value = (tail[0] == VALUE) & (tail[1] < 0x80) & (value + 2 + usize::from(tail[1]) == next);
        if !(has_keys & has_value & (next <= bytes.len())) {
            break;
        }
        end = next;
    }
    end
}

/// Tells apart the labels in the next `len` bytes of `fields`: one more than [`LABELS_MAX`] at most.
fn tell_labels<'a>(
    mut fields: Cursor<'a>,
    len: usize,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
) -> Result<(), Malformed> {
    labels.clear();
    let end = fields.offset() + len;
    while fields.offset() < end {
        fields.next_key()?;
        let message = fields.message()?;
        let told = match plain_label(message.rest()) {
            Some(label) => label,
            None => label(message)?,
        };
        if labels.len() <= LABELS_MAX {
            labels.push(told);
        }
    }
    Ok(())
}

/// The name and value of a `Label`.
fn label<'a>(mut fields: Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => name = fields.bytes()?,
            (2, BYTES) => value = fields.bytes()?,
            (1 | 2, _) => return Err(fields.malformed(WRONG_TYPE)),
            _ => fields.skip(tag)?,
        }
    }
    Ok((name, value))
}

/// What is wrong with a field whose wire type is another's: read over, its value would be zero.
const WRONG_TYPE: &str = "a field has the wire type of another";

/// A `Sample`; field 3, which only version 2 defines, is its start timestamp.
#[inline]
pub(super) fn sample(mut fields: Cursor<'_>) -> Result<Sample, Malformed> {
    let mut found = Sample::default();
    // As every sender writes it: value, then time.
    if let Some((value, time)) = plain_sample(fields.rest()) {
        return Ok(Sample { value, time, start: 0 });
    }
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, FIXED64) => found.value = fields.double()?,
            (2, VARINT) => found.time = fields.varint()? as i64,
            (3, VARINT) => found.start = fields.varint()? as i64,
            (1 | 2, _) => return Err(fields.malformed(WRONG_TYPE)),
            _ => fields.skip(tag)?,
        }
    }
    Ok(found)
}

/// The value and time of a sample that has nothing else.
#[inline(always)]
fn plain_sample(message: &[u8]) -> Option<(f64, i64)> {
    let [0x09, rest @ ..] = message else { return None };
    let (value, [TIME, rest @ ..]) = rest.split_first_chunk::<8>()? else { return None };
    let time = match (rest.len(), message.last_chunk()) {
        (len @ 1..=8, Some(word)) => last_varint(u64::from_le_bytes(*word), len)?,
        _ => {
            let (time, []) = split_varint(rest)? else { return None };
            time
        }
    };
    Some((f64::from_le_bytes(*value), time as i64))
}

/// The varint that the last `len` bytes of `word` are, of which there are one to eight; `None` when it ends
/// before them or not with them.
#[inline(always)]
fn last_varint(word: u64, len: usize) -> Option<u64> {
    const GOES_ON: u64 = 0x8080_8080_8080_8080;
    let unused = 64 - 8 * len;
    let bytes = word >> unused;
    if bytes & GOES_ON != (GOES_ON >> unused) >> 8 & GOES_ON {
        return None;
    }
    // Seven bits of each byte, then pairs of such groups, and pairs of these.
    let sevens = bytes & !GOES_ON;
    let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    Some(fours & 0x0fff_ffff | (fours >> 32) << 28)
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
            (1, BYTES) => {
                let told = label(fields.message()?)?;
                if labels.len() <= EXEMPLAR_LABELS_MAX {
                    labels.push(told);
                }
            }
            (2, FIXED64) => found.value = fields.double()?,
            (3, VARINT) => found.time = fields.varint()? as i64,
            (1..=3, _) => return Err(fields.malformed(WRONG_TYPE)),
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

#[cfg(test)]
mod tests {
    use super::super::{put_label, put_sample};
    use super::*;

    #[test]
    fn a_field_of_another_wire_type_is_no_zero() {
        for fields in [&[0x08, 1][..], &[0x11, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(sample(Cursor::new(fields)).unwrap_err().reason, WRONG_TYPE);
        }
        assert_eq!(label(Cursor::new(&[0x08, 1])).unwrap_err().reason, WRONG_TYPE);
        // Only version 2 knows the third.
        assert_eq!(sample(Cursor::new(&[0x1a, 0])).unwrap(), Sample::default());
    }

    #[test]
    fn the_varint_at_the_end_of_a_word_is_as_read_byte_by_byte() {
        let shapes =
            (0..=u8::MAX).map(|shape| std::array::from_fn(|at| shape << (7 - at) & 0x80 | 0x51 ^ (7 * at as u8)));
        for bytes in shapes.chain([[0; 8], [0x80; 8], [0x7f; 8], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]]) {
            for len in 1..=8 {
                let split = split_varint(&bytes[8 - len..]).filter(|(_, behind)| behind.is_empty());
                let word = u64::from_le_bytes(bytes);
                assert_eq!(last_varint(word, len), split.map(|(number, _)| number), "{bytes:?} {len}");
            }
        }
    }

    #[test]
    fn what_a_series_with_one_sample_has_before_it_is_presumed_to_be_its_labels() {
        let (mut labels, mut whole) = (Vec::new(), Vec::new());
        put_label(&mut labels, b"__name__", b"up");
        let now = Sample { time: 1_790_000_000_000, value: 0.5, start: 0 };
        put_sample(&mut whole, now);
        let series = |parts: &[&[u8]]| parts.concat();
        let one = series(&[&labels, &whole]);
        assert_eq!(before_sample(&one), Some((labels.as_slice(), now)));
        for at in 0..one.len() {
            assert_eq!(before_sample(&one[..at]), None, "cut at {at}");
        }
        // A sample of zero as senders in Go write it, whose value is left out.
        let zero = [&ZERO_START[..], &whole[12..]].concat();
        let zeros = Sample { value: 0.0, ..now };
        let one = series(&[&labels, &zero]);
        assert_eq!(before_sample(&one), Some((labels.as_slice(), zeros)));
        assert_eq!(sample(Cursor::new(&zero[2..])).unwrap(), zeros);
        for at in 0..one.len() {
            assert_eq!(before_sample(&one[..at]), None, "cut at {at}");
        }
        for pair in [[&zero, &zero], [&zero, &whole], [&whole, &zero]] {
            assert_eq!(before_sample(&series(&[&labels, pair[0], pair[1]])), None);
        }
        // Two samples, a time of another length, something behind the sample, no labels.
        let mut other = Vec::new();
        put_sample(&mut other, Sample { time: 5, ..now });
        for odd in [&[&labels[..], &whole, &whole][..], &[&labels, &other], &[&labels, &whole, &[0x20, 1]], &[&whole]] {
            assert_eq!(before_sample(&series(odd)), None);
        }
        // Another number of as many bytes where the time is expected: that of the start, and a field that is not known.
        for key in [0x18, 0x20] {
            let mut odd = whole.clone();
            odd[11] = key;
            assert_eq!(before_sample(&series(&[&labels, &odd])), None, "{key:#x}");
        }
        // A time that ends before the sample does.
        let mut odd = whole.clone();
        odd[14] &= 0x7f;
        assert_eq!(before_sample(&series(&[&labels, &odd])), None);
        // What only the labels themselves would tell.
        assert_eq!(before_sample(&series(&[&labels, &other, &whole])).unwrap().0, series(&[&labels, &other]));
    }

    /// [`short_labels`] by what tells single labels.
    fn short_labels_one_by_one(bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some([LABEL, len @ 0..0x80, rest @ ..]) = bytes.get(end..)
            && let Some((message, _)) = rest.split_at_checked(usize::from(*len))
            && plain_label(message).is_some_and(|(name, value)| name.len() < 0x80 && value.len() < 0x80)
        {
            end += 2 + message.len();
        }
        end
    }

    #[test]
    fn labels_with_lengths_of_one_byte_are_told_at_once_as_one_by_one() {
        for lens in [(1, 1), (0, 5), (7, 0), (60, 63), (60, 64), (1, 122), (1, 123), (127, 1), (128, 1)] {
            let mut bytes = Vec::new();
            for (name, value) in [(3, 4), lens, (2, 9)] {
                put_label(&mut bytes, &vec![b'n'; name], &vec![b'v'; value]);
            }
            let short = if lens.0 + lens.1 + 4 < 0x80 { bytes.len() } else { 13 };
            assert_eq!(short_labels(&bytes), short, "{lens:?}");
            for at in 0..bytes.len() {
                assert_eq!(short_labels(&bytes[..at]), short_labels_one_by_one(&bytes[..at]), "{lens:?} cut at {at}");
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    assert_eq!(short_labels(&damaged), short_labels_one_by_one(&damaged), "{lens:?}: {at} {bit}");
                }
            }
        }
    }
}
