//! Text that is not UTF-8, with which a request can't be decoded here, and can be in Go. Each such byte becomes U+FFFD,
//! as Prometheus' API shows it.

use proto::wire::{Fields, Malformed, Value, put_varint};
use proto::write::put_message;

use super::Encoding;
use super::weight::{DEPTH_MAX, REQUEST, Shape};

/// What a byte becomes.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// How often the text of a request is there: in a message and in the one around it, in buffers that may have grown to
/// twice of what they hold, and as what it is decoded to.
const COPIES: usize = 6;

/// Bytes that it takes to repair `request`; `None` when all its text is UTF-8.
pub(super) fn room((encoding, request): (Encoding, &[u8])) -> Option<u64> {
    let faults = match encoding {
        Encoding::Protobuf => faults(request, &REQUEST, 0),
        Encoding::Json => faults_of_text(request),
    };
    (faults > 0).then(|| (COPIES * (request.len() + REPLACEMENT.len() * faults)) as u64)
}

/// `request` with text that is UTF-8; `None` when it can't be read for another reason.
pub(super) fn repaired((encoding, request): (Encoding, &[u8])) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Protobuf => repaired_message(request, &REQUEST, 0).ok(),
        Encoding::Json => Some(repaired_text(request)),
    }
}

/// Bytes of text in `message` that are not UTF-8, as far as it can be read.
fn faults(message: &[u8], shape: &Shape, depth: usize) -> usize {
    let (mut total, mut fields) = (0, Fields::new("OTLP", message));
    while let Ok(Some((number, value))) = fields.next() {
        let bytes = value.bytes();
        total += match inner(shape, number, depth) {
            Some(inner) => faults(bytes, inner, depth + 1),
            None if shape.texts.contains(&number) => faults_of_text(bytes),
            None => 0,
        };
    }
    total
}

fn faults_of_text(text: &[u8]) -> usize {
    text.utf8_chunks().map(|chunk| chunk.invalid().len()).sum()
}

/// The shape of the messages in field `number`, as deep as the decoder follows them.
fn inner(shape: &Shape, number: u32, depth: usize) -> Option<&'static Shape> {
    let (_, inner) = shape.messages.iter().find(|(known, _)| *known == number)?;
    (depth < DEPTH_MAX).then_some(*inner)
}

fn repaired_message(message: &[u8], shape: &Shape, depth: usize) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut fields) = (Vec::with_capacity(message.len()), Fields::new("OTLP", message));
    while let Some((field, value)) = fields.next()? {
        let number = u64::from(field);
        match (value, inner(shape, field, depth)) {
            (Value::Bytes(bytes), Some(inner)) => {
                put_message(&mut out, number, &repaired_message(bytes, inner, depth + 1)?);
            }
            (Value::Bytes(bytes), None) if shape.texts.contains(&field) => {
                put_message(&mut out, number, &repaired_text(bytes));
            }
            (Value::Bytes(bytes), None) => put_message(&mut out, number, bytes),
            (Value::Varint(value), _) => {
                put_varint(&mut out, number << 3);
                put_varint(&mut out, value);
            }
            (Value::Fixed64(bits), _) => {
                put_varint(&mut out, number << 3 | 1);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            (Value::Fixed32(bits), _) => {
                put_varint(&mut out, number << 3 | 5);
                out.extend_from_slice(&bits.to_le_bytes());
            }
        }
    }
    Ok(out)
}

fn repaired_text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        chunk.invalid().iter().for_each(|_| out.extend_from_slice(REPLACEMENT));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_not_utf_8_is_replaced() {
        let cases: [(&[u8], &str); 5] = [
            (b"\xe9ab\xff", "\u{fffd}ab\u{fffd}"),
            (b"\xf0\x9f\x98", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80\xc3\xa9", "\u{fffd}\u{fffd}\u{fffd}é"),
            ("é".as_bytes(), "é"),
            (b"", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(repaired_text(text), expected.as_bytes(), "{text:?}");
            assert_eq!(faults_of_text(text), expected.matches('\u{fffd}').count(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_text_stays_as_it_is() {
        // A varint, eight bytes, four, and bytes of fields that no message here has; then what there is of one.
        let (varint, bytes) = (b"\xa0\x06\x96\x01", b"\xa2\x06\x02\xff\xfe");
        let (long, short) = (b"\xa1\x06\x01\x02\x03\x04\x05\x06\x07\x08", b"\xa5\x06\x01\x02\x03\x04");
        let unknown = [&varint[..], &bytes[..], &long[..], &short[..]].concat();
        for request in [&unknown[..], b"\x0a\x00", b""] {
            assert_eq!(room((Encoding::Protobuf, request)), None);
            assert_eq!(repaired((Encoding::Protobuf, request)).as_deref(), Some(request));
        }
        assert_eq!(repaired((Encoding::Protobuf, b"\x0a\x05\x0a")), None, "it is cut off");
        assert_eq!(room((Encoding::Json, b"{")), None);
    }
}
