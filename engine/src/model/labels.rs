//! Label sets: sorted by name, each name once, packed into one string.
//!
//! ```text
//! text  n a m e v a l u e n a m e v a l u e …
//! ends          ^         ^       ^         ^    two per label: end of name, end of value
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::matcher::is_plain_name;
use super::text::Quoted;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// The labels for a metric's type and unit.
pub const TYPE_AND_UNIT: [&str; 2] = ["__type__", "__unit__"];

/// Whether `name` is the label for a metric's type or unit.
pub fn is_type_or_unit(name: &str) -> bool {
    TYPE_AND_UNIT.contains(&name)
}

/// A set of labels in ascending order of their names. Equality, order and hash are those of the
/// sequence of names and values, as in Prometheus' `labels.Compare`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Labels {
    text: Box<str>,
    ends: Box<[u32]>,
}

/// Room in which most sets are made without growing.
const TEXT_BYTES: usize = 256;

impl Labels {
    /// The set of `pairs`, in any order. Of a name that comes twice the last value stays.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// The set of `pairs`, which ascend strictly by name.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::with_capacity(TEXT_BYTES);
        let mut ends = Vec::with_capacity(TEXT_BYTES / 8);
        for (name, value) in pairs {
            text.push_str(name);
            ends.push(text.len() as u32);
            text.push_str(value);
            ends.push(text.len() as u32);
        }
        Self { text: text.into_boxed_str(), ends: ends.into_boxed_slice() }
    }

    /// The set of `pairs`, which ascend strictly by name; `None` when one of them is not UTF-8.
    pub fn decode_sorted(pairs: &[(&[u8], &[u8])]) -> Option<Self> {
        let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let (mut text, mut ends) = (Vec::with_capacity(bytes), Vec::with_capacity(2 * pairs.len()));
        for (name, value) in pairs {
            text.extend_from_slice(name);
            ends.push(text.len() as u32);
            text.extend_from_slice(value);
            ends.push(text.len() as u32);
        }
        // Of a whole that is UTF-8, all pieces are that end between two characters.
        let text = String::from_utf8(text).ok()?;
        let is_whole = ends.iter().all(|end| text.is_char_boundary(*end as usize));
        is_whole.then(|| Self { text: text.into_boxed_str(), ends: ends.into_boxed_slice() })
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of the label called `name`; `None` when there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The metric name; empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Names and values, owned, as a meta.json has them.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Names and values in ascending order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        (0..self.len()).map(|at| {
            let start = if at == 0 { 0 } else { self.ends[2 * at - 1] as usize };
            let middle = self.ends[2 * at] as usize;
            let end = self.ends[2 * at + 1] as usize;
            (&self.text[start..middle], &self.text[middle..end])
        })
    }

    /// Bytes that the set occupies on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<u32>()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.ends.hash(state);
    }
}

/// As Prometheus prints a series: `{a="1", b="2"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            f.write_str(comma)?;
            if is_plain_name(name) {
                f.write_str(name)?;
            } else {
                Quoted(name.as_bytes()).fmt(f)?;
            }
            write!(f, "={}", Quoted(value.as_bytes()))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Labels in the making.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// A builder that starts from `labels`.
    pub fn from_labels(labels: &Labels) -> Self {
        Self { pairs: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// Sets `name` to `value`; an empty value removes the label, as an empty label is an absent one.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(at) if value.is_empty() => drop(self.pairs.remove(at)),
            Ok(at) => value.clone_into(&mut self.pairs[at].1),
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes the label called `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// The value of `name`; `None` when there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(&self.pairs[at].1)
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_the_last_value_of_a_name_stays() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "0"), ("a", "1"), ("empty", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.get("a"), Some("1"));
        assert_eq!(labels.get("empty"), None);
    }

    #[test]
    fn order_is_by_name_then_value_then_length() {
        let of = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let ascending = [
            of(&[]),
            of(&[("a", "1")]),
            of(&[("a", "1"), ("b", "1")]),
            of(&[("a", "10")]),
            of(&[("a", "2")]),
            of(&[("b", "0")]),
        ];
        assert!(ascending.is_sorted());
        assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
    }

    #[test]
    fn labels_are_decoded_when_each_name_and_value_is_text() {
        let pairs = |pairs: &[(&'static str, &'static str)]| -> Vec<(&[u8], &[u8])> {
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
        };
        let sorted = [("__name__", "up"), ("empty", ""), ("zone", "\u{e9}")];
        assert_eq!(Labels::decode_sorted(&pairs(&sorted)), Some(Labels::from_sorted(sorted)));
        let halves: [(&[u8], &[u8]); 1] = [(b"a\xc3", b"\xa9")];
        assert_eq!(Labels::decode_sorted(&halves), None);
        let between: [(&[u8], &[u8]); 2] = [(b"a", b"\xc3"), (b"\xa9", b"")];
        assert_eq!(Labels::decode_sorted(&between), None);
        assert_eq!(Labels::decode_sorted(&[(b"a", b"\xff")]), None);
    }
}
