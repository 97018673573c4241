//! Writing the messages of version 1, which receivers forward to each other.

use super::Sample;
use super::cursor::{BYTES, FIXED64, VARINT, key};
use crate::wire::{put_varint, varint_len};

/// Appends a field whose content is a message or text.
pub fn put_message(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, key(number, BYTES));
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a field of text; empty text is left out, as protobuf's third version does.
pub fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    if !text.is_empty() {
        put_message(out, number, text.as_bytes());
    }
}

/// Appends a double, also when it is 0.
pub fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, key(number, FIXED64));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a label as field 1.
pub fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let field = |text: &[u8]| 1 + varint_len(text.len() as u64) + text.len();
    put_varint(out, key(1, BYTES));
    put_varint(out, (field(name) + field(value)) as u64);
    put_message(out, 1, name);
    put_message(out, 2, value);
}

/// Appends a sample as field 2, with its start timestamp where it has one.
pub fn put_sample(out: &mut Vec<u8>, sample: Sample) {
    let start = if sample.start == 0 { 0 } else { 1 + varint_len(sample.start as u64) };
    put_varint(out, key(2, BYTES));
    put_varint(out, (9 + 1 + varint_len(sample.time as u64) + start) as u64);
    put_double(out, 1, sample.value);
    put_varint(out, key(2, VARINT));
    put_varint(out, sample.time as u64);
    if sample.start != 0 {
        put_varint(out, key(3, VARINT));
        put_varint(out, sample.start as u64);
    }
}
