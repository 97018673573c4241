//! A label as text in the form of [`EncodedLabels`](super::EncodedLabels), which it is byte for byte
//! while it is short.
//!
//! ```text
//! 0a │ len │ 0a │ name len │ name │ 12 │ value len │ value
//! ```
//! Tags and lengths below 128 are characters of one byte, so that all of it is UTF-8. Where a length
//! would take more, all three are 0, and the text is not the label's encoding.

use std::ops::Range;

/// Bytes before the name.
const HEAD: usize = 4;

/// Bytes between name and value.
const GAP: usize = 2;

/// Length of what an encoded label's length says, at most.
const INNER_MAX: usize = 127;

/// One label, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelText<'a> {
    text: &'a str,
    name_len: usize,
}

impl<'a> LabelText<'a> {
    /// The label that [`LabelText::push`] has written as `text`, with a name of `name_len` bytes.
    #[inline]
    pub fn new(text: &'a str, name_len: usize) -> Self {
        Self { text, name_len }
    }

    /// Appends a label to `out`.
    pub fn push(name: &str, value: &str, out: &mut String) {
        let inner = name.len() + value.len() + HEAD;
        let is_short = inner <= INNER_MAX;
        let len = |len: usize| if is_short { char::from(len as u8) } else { '\0' };
        out.extend(['\x0a', len(inner), '\x0a', len(name.len())]);
        out.push_str(name);
        out.extend(['\x12', len(value.len())]);
        out.push_str(value);
    }

    /// The name.
    #[inline]
    pub fn name(self) -> &'a str {
        &self.text[name_in(0, HEAD + self.name_len)]
    }

    /// The value.
    #[inline]
    pub fn value(self) -> &'a str {
        &self.text[value_in(HEAD + self.name_len, self.text.len())]
    }

    /// Bytes of the name.
    #[inline]
    pub fn name_len(self) -> usize {
        self.name_len
    }

    /// The whole text.
    #[inline]
    pub fn text(self) -> &'a str {
        self.text
    }

    /// Whether the text is the label's encoding.
    #[inline]
    pub fn is_encoding(self) -> bool {
        self.text.len() <= INNER_MAX + 2
    }
}

/// Where the name lies of a label whose text begins at `start`, and whose name ends at `name_end`.
#[inline]
pub fn name_in(start: usize, name_end: usize) -> Range<usize> {
    start + HEAD..name_end
}

/// Where the value lies of a label whose name ends at `name_end`, and whose text ends at `end`.
#[inline]
pub fn value_in(name_end: usize, end: usize) -> Range<usize> {
    name_end + GAP..end
}

/// Bytes that a label's text has besides its name and value.
pub const FRAME: usize = HEAD + GAP;

/// Bytes of a label's text up to the end of a name of `name_len` bytes.
#[inline]
pub fn name_end(name_len: usize) -> usize {
    HEAD + name_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::EncodedLabels;

    #[test]
    fn labels_come_back_and_short_ones_are_their_own_encoding() {
        let long = "é".repeat(80);
        for (name, value) in [("a", "b"), ("job", "é"), ("n", &long), (&long, "v"), (&long[..120], "1234"), ("n", "")]
        {
            let (mut text, mut encoded) = (String::new(), Vec::new());
            LabelText::push(name, value, &mut text);
            EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut encoded);
            let label = LabelText::new(&text, name.len());
            assert_eq!((label.name(), label.value()), (name, value));
            assert_eq!(label.is_encoding(), text.as_bytes() == encoded);
            assert_eq!(label.is_encoding(), name.len() + value.len() <= 123);
            assert_eq!(text.len(), FRAME + name.len() + value.len());
        }
    }
}
