//! The values of one label, ascending, front-coded in groups of eight.
//!
//! ```text
//! ┌──────────────────────────────────────────────────────────────────────────┐
//! │ start of each group within the entries <u32 each>                        │
//! ├──────────────────────────────────────────────────────────────────────────┤
//! │ entries: bytes shared with the value before <uvarint> (0 first in group) │
//! │          length of the rest <uvarint>, rest                              │
//! └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Ids count from 1 in this order; 0 stands for a series without the label.

use std::ops::{ControlFlow, Range};

use crate::codec::{Corrupt, Cursor, StringList, varint};

const WHAT: &str = "dictionary";

/// Values of a group.
const GROUP: usize = 8;

/// Appends the dictionary of `values`, which ascend strictly; only the first may be empty.
pub fn encode<'v>(values: impl Iterator<Item = &'v str>, out: &mut Vec<u8>) {
    let (mut starts, mut entries) = (Vec::new(), Vec::new());
    let mut before = "";
    for (at, value) in values.enumerate() {
        let mut shared = 0;
        if at % GROUP == 0 {
            starts.push(entries.len() as u32);
        } else {
            shared = before.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
        }
        varint::encode_u64(shared as u64, &mut entries);
        varint::encode_u64((value.len() - shared) as u64, &mut entries);
        entries.extend_from_slice(&value.as_bytes()[shared..]);
        before = value;
    }
    assert!(u32::try_from(entries.len()).is_ok(), "the values of a label take at most 4 GiB");
    starts.iter().for_each(|start| out.extend(start.to_le_bytes()));
    out.append(&mut entries);
}

/// The values of a label.
#[derive(Clone, Copy, Debug)]
pub struct Dictionary<'a> {
    starts: &'a [u8],
    entries: &'a [u8],
    len: u32,
}

impl<'a> Dictionary<'a> {
    /// The dictionary of `len` values in `bytes`; checks that every value is there, is UTF-8 and
    /// greater than the one before.
    pub fn decode(bytes: &'a [u8], len: u32) -> Result<Self, Corrupt> {
        let groups = (len as usize).div_ceil(GROUP);
        let mut cursor = Cursor::new(WHAT, bytes, 0);
        cursor.bytes(groups * 4)?;
        let dictionary = Self::of_checked(bytes, len);
        let (mut before, mut value) = (Vec::new(), Vec::new());
        let base = cursor.offset();
        for id in 0..len as usize {
            let starts_group = id % GROUP == 0;
            if starts_group && dictionary.start(id / GROUP) as u64 != cursor.offset() - base {
                return Err(cursor.corrupt(format!("group {} doesn't start here", id / GROUP)));
            }
            let shared = cursor.uvarint()? as usize;
            let rest = cursor.count()?;
            if shared > value.len() || (starts_group && shared > 0) {
                return Err(cursor.corrupt(format!("{shared} bytes shared with a value of {}", value.len())));
            }
            value.truncate(shared);
            value.extend_from_slice(cursor.bytes(rest)?);
            if (id > 0 && value <= before) || str::from_utf8(&value).is_err() {
                return Err(cursor.corrupt(format!("value {id} doesn't ascend or isn't UTF-8")));
            }
            before.clone_from(&value);
        }
        if cursor.remaining() > 0 {
            return Err(cursor.corrupt(format!("{} bytes after the last value", cursor.remaining())));
        }
        Ok(dictionary)
    }

    /// The dictionary of `len` values in `bytes`, which [`Dictionary::decode`] found sound before.
    pub fn of_checked(bytes: &'a [u8], len: u32) -> Self {
        let (starts, entries) = bytes.split_at(((len as usize).div_ceil(GROUP) * 4).min(bytes.len()));
        Self { starts, entries, len }
    }

    /// Number of values.
    pub fn len(self) -> u32 {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Appends the value of `id` (from 1 on); an unknown id appends nothing.
    pub fn append(self, id: u32, out: &mut String) {
        if id == 0 || id > self.len {
            return;
        }
        let at = id as usize - 1;
        let (mut entries, mut front) = (self.group(at / GROUP), Front::default());
        for _ in 0..=at % GROUP {
            front.advance(&mut entries);
        }
        out.push_str(front.as_str());
    }

    /// The id of `value`; `None` when no series has it.
    pub fn find(self, value: &str) -> Option<u32> {
        let id = self.lower_bound(value.as_bytes());
        let mut found = String::new();
        self.append(id, &mut found);
        (id <= self.len && found == value).then_some(id)
    }

    /// The least id whose value is not less than `value`; one past the last id when there is none.
    pub fn lower_bound(self, value: &[u8]) -> u32 {
        let (mut low, mut high) = (0, self.starts.len() / 4);
        while low < high {
            let middle = low.midpoint(high);
            let mut first = Front::default();
            first.advance(&mut self.group(middle));
            if first.0.as_slice() < value { low = middle + 1 } else { high = middle }
        }
        if low == 0 {
            return 1;
        }
        let first = (low - 1) * GROUP;
        let end = (first + GROUP).min(self.len as usize);
        let (mut entries, mut front) = (self.group(low - 1), Front::default());
        for id in first..end {
            front.advance(&mut entries);
            if front.0.as_slice() >= value {
                return id as u32 + 1;
            }
        }
        end as u32 + 1
    }

    /// The ids of the values that start with `prefix`.
    pub fn with_prefix(self, prefix: &str) -> Range<u32> {
        let start = self.lower_bound(prefix.as_bytes());
        let mut end = prefix.as_bytes().to_vec();
        while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
        let Some(last) = end.last_mut() else { return start..self.len + 1 };
        *last += 1;
        start..self.lower_bound(&end).max(start)
    }

    /// Appends the first `count` values to `list`: what a value shares with the one before is copied from
    /// there.
    pub fn append_first(self, count: usize, list: &mut StringList) {
        let mut entries = self.entries;
        for id in 0..count.min(self.len as usize) {
            let (shared, rest) = next_entry(&mut entries);
            list.push_continued(if id % GROUP == 0 { 0 } else { shared }, rest);
        }
    }

    /// Calls `visit` with each of `ids` and its value, ascending, until it breaks.
    pub fn visit(self, ids: Range<u32>, mut visit: impl FnMut(u32, &str) -> ControlFlow<()>) {
        let ids = ids.start.max(1)..ids.end.min(self.len.saturating_add(1));
        if ids.is_empty() {
            return;
        }
        let group = (ids.start as usize - 1) / GROUP;
        let (mut entries, mut front) = (self.group(group), Front::default());
        for id in (group * GROUP) as u32 + 1..ids.end {
            front.advance(&mut entries);
            if id >= ids.start && visit(id, front.as_str()).is_break() {
                return;
            }
        }
    }

    fn start(self, group: usize) -> usize {
        let word = self.starts.as_chunks::<4>().0.get(group).copied().unwrap_or_default();
        u32::from_le_bytes(word) as usize
    }

    /// The entries from the first of `group` on.
    fn group(self, group: usize) -> &'a [u8] {
        self.entries.get(self.start(group)..).unwrap_or_default()
    }
}

/// Takes the next entry: the bytes that it shares with the value before, and the rest.
#[inline]
fn next_entry<'a>(entries: &mut &'a [u8]) -> (usize, &'a [u8]) {
    // Most values are short, and then both numbers are bytes.
    if let [shared @ ..0x80, rest @ ..0x80, after @ ..] = *entries
        && let Some((rest, after)) = after.split_at_checked(usize::from(*rest))
    {
        *entries = after;
        return (usize::from(*shared), rest);
    }
    let mut number = || {
        let (number, len) = varint::decode_u64(entries).unwrap_or((0, 0));
        *entries = &entries[len..];
        number as usize
    };
    let (shared, rest) = (number(), number());
    let (rest, after) = entries.split_at(rest.min(entries.len()));
    *entries = after;
    (shared, rest)
}

/// The value that was reached going forward through entries.
#[derive(Default)]
struct Front(Vec<u8>);

impl Front {
    fn advance(&mut self, entries: &mut &[u8]) {
        let (shared, rest) = next_entry(entries);
        self.0.truncate(shared);
        self.0.extend_from_slice(rest);
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<String>> {
        let value = prop_oneof!["[ab]{1,4}", "pod-[0-9]{1,3}", "\\PC{1,6}", "\u{10ffff}{1,3}"];
        prop::collection::btree_set(value, 0..60).prop_map(|set: BTreeSet<String>| set.into_iter().collect())
    }

    fn encoded(values: &[String]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(values.iter().map(String::as_str), &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_dictionary_answers_as_the_sorted_list(values in values(), probe in "[abp]{0,3}|pod-[0-9]|\\PC") {
            let bytes = encoded(&values);
            let dictionary = Dictionary::decode(&bytes, values.len() as u32).unwrap();
            for (at, value) in values.iter().enumerate() {
                let mut text = String::new();
                dictionary.append(at as u32 + 1, &mut text);
                prop_assert_eq!(&text, value);
                prop_assert_eq!(dictionary.find(value), Some(at as u32 + 1));
            }
            prop_assert_eq!(dictionary.find(&probe).is_some(), values.contains(&probe));
            let mut prefixed = Vec::new();
            dictionary.visit(dictionary.with_prefix(&probe), |_, value| {
                prefixed.push(value.to_owned());
                ControlFlow::Continue(())
            });
            let mut first = StringList::default();
            dictionary.append_first(values.len() / 2 + 1, &mut first);
            prop_assert!(first.iter().eq(values.iter().take(values.len() / 2 + 1)));
            let expected: Vec<String> = values.iter().filter(|value| value.starts_with(&probe)).cloned().collect();
            prop_assert_eq!(prefixed, expected);
        }

        #[test]
        fn a_damaged_dictionary_is_an_error_or_readable(
            values in values(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let mut bytes = encoded(&values);
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) ^= 1u8 << bit;
            }
            let damaged = Dictionary::of_checked(&bytes, values.len() as u32);
            damaged.visit(1..u32::MAX, |id, _| {
                damaged.append(id, &mut String::new());
                ControlFlow::Continue(())
            });
            damaged.lower_bound(b"b");
            damaged.append_first(values.len() + 1, &mut StringList::default());
            let _ = Dictionary::decode(&bytes, values.len() as u32);
        }
    }
}
