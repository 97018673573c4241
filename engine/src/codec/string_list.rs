//! Many strings as the bytes of a protobuf message whose first field they are.
//!
//! ```text
//! ┌──────┬──────────────────┬───────┬──────┬──────────────────┬───────┬───
//! │ 0x0a │ length <uvarint> │ bytes │ 0x0a │ length <uvarint> │ bytes │ …
//! └──────┴──────────────────┴───────┴──────┴──────────────────┴───────┴───
//! ```
//! Label names and values go from the dictionary of a block to the wire in this form: no string is an
//! allocation of its own, and none is encoded a second time.

use std::iter::Peekable;

use super::varint;

/// The tag of the first field, a string.
const TAG: u8 = 0x0a;

/// Bytes around a string at most: its tag and its length.
const AROUND: usize = 11;

/// Strings in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringList {
    bytes: Vec<u8>,
    len: usize,
    /// Where the last string's own bytes begin.
    last: usize,
}

impl StringList {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it has room for.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends a string.
    pub fn push(&mut self, text: &str) {
        self.push_continued(0, text.as_bytes());
    }

    /// Appends a string that begins as the last one does, with `shared` bytes of it, and goes on with
    /// `rest`; together they are UTF-8.
    #[inline]
    pub fn push_continued(&mut self, shared: usize, rest: &[u8]) {
        let before = self.last;
        let shared = shared.min(self.bytes.len() - before);
        let len = shared + rest.len();
        self.bytes.reserve(len + AROUND);
        self.bytes.push(TAG);
        if len < 0x80 {
            self.bytes.push(len as u8);
        } else {
            varint::encode_u64(len as u64, &mut self.bytes);
        }
        self.last = self.bytes.len();
        self.bytes.extend_from_within(before..before + shared);
        self.bytes.extend_from_slice(rest);
        self.len += 1;
    }

    /// Keeps the first `len` strings.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let end = Entries(&self.bytes).take(len).map(|entry| entry.whole.len()).sum();
        self.bytes.truncate(end);
        (self.len, self.last) = (len, end);
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        Entries(&self.bytes).map(|entry| str::from_utf8(entry.text).unwrap_or_default())
    }

    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Ascending lists of which each has a string once, as one such list.
    pub fn merge(mut lists: Vec<Self>) -> Self {
        lists.retain(|list| !list.is_empty());
        while lists.len() > 1 {
            let mut pairs = lists.into_iter();
            lists = Vec::with_capacity(pairs.len().div_ceil(2));
            while let Some(left) = pairs.next() {
                lists.push(match pairs.next() {
                    // Blocks that follow each other mostly have the same values.
                    Some(right) if right.bytes != left.bytes => left.with(&right),
                    _ => left,
                });
            }
        }
        lists.pop().unwrap_or_default()
    }

    fn with(&self, other: &Self) -> Self {
        let mut merged = Self { bytes: Vec::with_capacity(self.bytes.len().max(other.bytes.len())), ..Self::default() };
        let (mut left, mut right) = (Entries(&self.bytes).peekable(), Entries(&other.bytes).peekable());
        while let Some(entry) = least(&mut left, &mut right) {
            merged.last = merged.bytes.len() + entry.whole.len() - entry.text.len();
            merged.bytes.extend_from_slice(entry.whole);
            merged.len += 1;
        }
        merged
    }
}

impl<'s> FromIterator<&'s str> for StringList {
    fn from_iter<I: IntoIterator<Item = &'s str>>(texts: I) -> Self {
        let mut list = Self::default();
        texts.into_iter().for_each(|text| list.push(text));
        list
    }
}

/// The lesser of two next strings; of two equal ones the first, and both are passed.
fn least<'b>(left: &mut Peekable<Entries<'b>>, right: &mut Peekable<Entries<'b>>) -> Option<Entry<'b>> {
    match (left.peek(), right.peek()) {
        (Some(one), Some(other)) if one.text == other.text => {
            right.next();
            left.next()
        }
        (Some(one), Some(other)) if one.text > other.text => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    }
}

/// A string, and the same with its tag and length.
#[derive(Clone, Copy)]
struct Entry<'b> {
    whole: &'b [u8],
    text: &'b [u8],
}

/// The strings of a list that this module has written.
struct Entries<'b>(&'b [u8]);

impl<'b> Iterator for Entries<'b> {
    type Item = Entry<'b>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'b>> {
        let (len, size) = varint::decode_u64(self.0.get(1..)?)?;
        let start = 1 + size;
        let (whole, rest) = self.0.split_at_checked(start + len as usize)?;
        self.0 = rest;
        Some(Entry { whole, text: &whole[start..] })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list(texts: &BTreeSet<String>) -> StringList {
        texts.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_string_goes_on_from_the_one_before() {
        let mut list = StringList::default();
        list.push("abc");
        list.push_continued(2, b"d");
        list.push_continued(9, b"");
        list.push(&"x".repeat(200));
        list.push_continued(1, b"y");
        assert_eq!(list.iter().collect::<Vec<_>>(), ["abc", "abd", "abd", &"x".repeat(200), "xy"]);
        list.truncate(2);
        list.push_continued(3, b"e");
        assert_eq!(list.into_bytes(), b"\x0a\x03abc\x0a\x03abd\x0a\x01e");
    }

    proptest! {
        #[test]
        fn merged_lists_hold_what_the_union_holds(
            sets in prop::collection::vec(prop::collection::btree_set("[ab]{0,3}|\\PC{1,3}|c{120,140}", 0..12), 0..6),
            limit in 0..20usize,
        ) {
            let mut merged = StringList::merge(sets.iter().map(list).collect());
            let union: BTreeSet<String> = sets.into_iter().flatten().collect();
            prop_assert_eq!(merged.len(), union.len());
            prop_assert!(merged.iter().eq(union.iter()));
            merged.truncate(limit);
            prop_assert!(merged.iter().eq(union.iter().take(limit)));
            prop_assert_eq!(merged.len(), union.len().min(limit));
        }
    }
}
