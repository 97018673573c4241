//! Label sets as bytes in one canonical form, the one that remote write 1 carries them in: a hash of
//! the bytes is a hash of the labels, and equal bytes are equal labels.
//!
//! ```text
//! label   0a │ len varint │ 0a │ len varint │ name │ 12 │ len varint │ value
//! labels  label │ label │ …          names ascend strictly, neither names nor values are empty
//! ```

use std::cmp::Ordering;

use super::Corrupt;
use super::varint;

const WHAT: &str = "encoded labels";
const LABEL: u8 = 0x0a;
const NAME: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// Bytes of a field's content from which on its length takes more than a byte.
const LONG: usize = 0x80;

/// Bytes of a label besides its texts when it and both of them are short: a tag and a length for each.
const SHORT_FRAME: usize = 3 * 2;

/// A label set in canonical form, borrowed. Bytes that are not in that form end the set early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedLabels<'a>(pub &'a [u8]);

/// What is wrong with labels that are whole and yet no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelFault {
    /// Names not in ascending order.
    OutOfOrder,
    /// A name twice.
    Duplicate,
    /// A name or value that is empty, or no label at all.
    Empty,
    /// A name or value that is not UTF-8.
    NotUtf8,
}

impl LabelFault {
    /// What is wrong with labels; `None` when nothing is.
    pub fn of<'a>(labels: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Option<Self> {
        if !labels.clone().all(|(name, value)| is_text(name) && is_text(value)) {
            return Some(Self::NotUtf8);
        }
        let mut last: &[u8] = &[];
        for (name, value) in labels {
            if name.is_empty() || value.is_empty() {
                return Some(Self::Empty);
            }
            match name_order(last, name) {
                Ordering::Less => last = name,
                Ordering::Equal => return Some(Self::Duplicate),
                Ordering::Greater => return Some(Self::OutOfOrder),
            }
        }
        last.is_empty().then_some(Self::Empty)
    }
}

/// Whether bytes can be a name or a value.
#[inline]
pub fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// The order of two names.
#[inline]
pub fn name_order(left: &[u8], right: &[u8]) -> Ordering {
    // The first byte mostly tells.
    left.first().cmp(&right.first()).then_with(|| left.cmp(right))
}

/// Names and values of an [`EncodedLabels`], as bytes.
#[derive(Clone, Debug)]
pub struct EncodedIter<'a> {
    rest: &'a [u8],
}

impl<'a> EncodedLabels<'a> {
    /// Checks that `bytes` are labels in canonical form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let mut iter = EncodedIter { rest: bytes };
        let (mut before, mut len): (&[u8], usize) = (b"", 0);
        for (name, value) in &mut iter {
            if name <= before || value.is_empty() {
                return Err(Corrupt::new(WHAT, len as u64, "names do not ascend, or a value is empty"));
            }
            if !is_text(name) || !is_text(value) {
                return Err(Corrupt::new(WHAT, len as u64, "a name or a value is not UTF-8"));
            }
            len += label_len(name.len(), value.len());
            before = name;
        }
        if iter.rest.is_empty() && len == bytes.len() && len > 0 {
            return Ok(Self(bytes));
        }
        let at = bytes.len() - iter.rest.len();
        Err(Corrupt::new(WHAT, at as u64, format!("not in canonical form, {} bytes in all", bytes.len())))
    }

    /// Names and values as bytes, in order.
    pub fn iter(self) -> EncodedIter<'a> {
        EncodedIter { rest: self.0 }
    }

    /// Names and values as text, in order; ends where bytes are not UTF-8.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.iter().map_while(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
    }

    /// Appends a label to `out`.
    #[inline]
    pub fn push(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let inner = field_len(name.len()) + field_len(value.len());
        out.push(LABEL);
        varint::encode_u64(inner as u64, out);
        Self::push_inner(name, value, out);
    }

    /// Appends what [`EncodedLabel::bytes`] of a label are to `out`.
    #[inline]
    pub fn push_inner(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        for (tag, text) in [(NAME, name), (VALUE, value)] {
            out.push(tag);
            varint::encode_u64(text.len() as u64, out);
            out.extend_from_slice(text);
        }
    }
}

fn field_len(text_len: usize) -> usize {
    1 + varint::len_u64(text_len as u64) + text_len
}

fn label_len(name_len: usize, value_len: usize) -> usize {
    field_len(field_len(name_len) + field_len(value_len))
}

/// One label of an [`EncodedLabels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedLabel<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Both with their tags and lengths: equal bytes are equal labels.
    pub bytes: &'a [u8],
}

impl EncodedLabel<'_> {
    /// Bytes that it takes in canonical form.
    #[inline]
    pub fn canonical_len(&self) -> usize {
        if self.bytes.len() < LONG {
            // Whatever form it has: the canonical one is no longer.
            return SHORT_FRAME + self.name.len() + self.value.len();
        }
        label_len(self.name.len(), self.value.len())
    }
}

impl<'a> EncodedIter<'a> {
    /// The next label with its own bytes.
    #[inline]
    pub fn next_label(&mut self) -> Option<EncodedLabel<'a>> {
        let (bytes, rest) = field(LABEL, self.rest)?;
        let (name, behind) = field(NAME, bytes)?;
        let (value, []) = field(VALUE, behind)? else { return None };
        self.rest = rest;
        Some(EncodedLabel { name, value, bytes })
    }

    /// Passes over the next label when it is `label`, byte for byte; whether it is.
    #[inline]
    pub fn pass(&mut self, label: &EncodedLabel<'_>) -> bool {
        let behind = field(LABEL, self.rest).filter(|(bytes, _)| *bytes == label.bytes).map(|(_, behind)| behind);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }
}

impl<'a> Iterator for EncodedIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_label().map(|label| (label.name, label.value))
    }
}

/// The content of the field `tag` at the start of `bytes`, and what comes after it.
#[inline]
fn field(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, len, ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    if *len < 0x80 {
        return bytes.get(2..)?.split_at_checked(usize::from(*len));
    }
    let (len, used) = varint::decode_u64(&bytes[1..])?;
    bytes.get(1 + used..)?.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        pairs.iter().for_each(|(name, value)| EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut out));
        out
    }

    #[test]
    fn labels_come_back_and_every_cut_is_noticed() {
        let long = "x".repeat(300);
        let pairs = [("__name__", "up"), ("instance", long.as_str()), ("job", "é")];
        let bytes = encode(&pairs);
        let labels = EncodedLabels::parse(&bytes).unwrap();
        assert_eq!(labels.pairs().collect::<Vec<_>>(), pairs);
        for end in 0..bytes.len() {
            let cut = EncodedLabels::parse(&bytes[..end]);
            assert_eq!(cut.is_ok(), end == encode(&pairs[..1]).len() || end == encode(&pairs[..2]).len(), "{end}");
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for pairs in [&[("b", "1"), ("a", "1")][..], &[("a", "1"), ("a", "1")], &[("a", "")], &[("", "a")], &[]] {
            assert!(EncodedLabels::parse(&encode(pairs)).is_err(), "{pairs:?}");
        }
        let fault = |pairs: &[(&str, &str)]| {
            let bytes = encode(pairs);
            LabelFault::of(EncodedLabels(&bytes).iter())
        };
        assert_eq!(fault(&[("a", "é"), ("b", "1")]), None);
        assert_eq!(fault(&[("b", "1"), ("a", "1")]), Some(LabelFault::OutOfOrder));
        assert_eq!(fault(&[("a", "1"), ("a", "2")]), Some(LabelFault::Duplicate));
        assert_eq!([&[("a", "")][..], &[("", "a")], &[]].map(fault), [Some(LabelFault::Empty); 3]);
        let not_text = [(&b"b"[..], &b"1"[..]), (b"a", b"\xff")];
        assert_eq!(LabelFault::of(not_text.into_iter()), Some(LabelFault::NotUtf8));
        // A length of two bytes where one is enough.
        assert!(EncodedLabels::parse(&[0x0a, 0x86, 0x00, 0x0a, 1, b'a', 0x12, 1, b'b']).is_err());
        assert!(EncodedLabels::parse(&[0x0a, 6, 0x0a, 1, 0xff, 0x12, 1, b'b']).is_err());
    }

    #[test]
    fn a_label_is_passed_over_when_it_is_the_next_one() {
        let long = "x".repeat(300);
        let bytes = encode(&[("a", "1"), ("b", long.as_str()), ("c", "é")]);
        let labels = EncodedLabels(&bytes);
        let all: Vec<EncodedLabel<'_>> = {
            let mut rest = labels.iter();
            std::iter::from_fn(|| rest.next_label()).collect()
        };
        let (mut passing, mut parsing) = (labels.iter(), labels.iter());
        for next in &all {
            assert_eq!(all.iter().filter(|label| passing.clone().pass(label)).collect::<Vec<_>>(), [next]);
            assert!(passing.pass(next) && parsing.next_label().as_ref() == Some(next));
            assert_eq!(passing.rest, parsing.rest);
        }
        assert!(all.iter().all(|label| !passing.pass(label)) && passing.rest.is_empty());
        assert!(!EncodedLabels(&bytes[..5]).iter().pass(&all[0]));
    }

    #[test]
    fn the_canonical_length_of_a_label_is_that_of_its_canonical_form_whatever_its_own_is() {
        for (name, value) in (0..140usize).flat_map(|name| (0..140usize).map(move |value| (name, value))) {
            let (name, value) = ("n".repeat(name), "v".repeat(value));
            let canonical = encode(&[(name.as_str(), value.as_str())]);
            let label = EncodedLabels(&canonical).iter().next_label().unwrap();
            assert_eq!(label.canonical_len(), canonical.len());
            // The length of the name takes more bytes than it need.
            let mut bytes = vec![NAME, name.len() as u8 | 0x80, (name.len() >> 7) as u8 | 0x80, 0];
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&label.bytes[field_len(name.len())..]);
            let long = EncodedLabel { bytes: &bytes, ..label };
            assert_eq!(long.canonical_len(), canonical.len());
        }
    }
}
