//! Labels of a series in one piece: as a map of texts they take several times as much.

use std::cmp::Ordering;

use engine::codec::EncodedLabels;

use super::series::LabelMap;

/// Bytes that a short label takes beside its text.
const LABEL_BYTES: usize = 6;

/// Labels, by name; ordered as maps of them are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedLabels(Box<[u8]>);

impl PackedLabels {
    pub(super) fn of(labels: &LabelMap) -> Self {
        let bytes = labels.iter().map(|(name, value)| LABEL_BYTES + name.len() + value.len()).sum();
        let mut packed = Vec::with_capacity(bytes);
        labels.iter().for_each(|(name, value)| EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut packed));
        Self(packed.into())
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        EncodedLabels(&self.0).pairs()
    }
}

impl Ord for PackedLabels {
    fn cmp(&self, other: &Self) -> Ordering {
        EncodedLabels(&self.0).iter().cmp(EncodedLabels(&other.0).iter())
    }
}

impl PartialOrd for PackedLabels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_labels_are_what_they_were_and_in_the_same_order() {
        let long = "x".repeat(300);
        let map = |labels: &[(&str, &str)]| -> LabelMap {
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let maps = [
            map(&[]),
            map(&[("a", "")]),
            map(&[("a", "b")]),
            map(&[("a", "b"), ("c", "d")]),
            map(&[("a", "ba")]),
            map(&[("a", long.as_str()), ("b", "é\0")]),
            map(&[("aa", "")]),
        ];
        for left in &maps {
            let packed = PackedLabels::of(left);
            assert!(packed.iter().eq(left.iter().map(|(name, value)| (name.as_str(), value.as_str()))), "{left:?}");
            for right in &maps {
                assert_eq!(packed.cmp(&PackedLabels::of(right)), left.cmp(right), "{left:?} {right:?}");
                assert_eq!(packed == PackedLabels::of(right), left == right, "{left:?} {right:?}");
            }
        }
    }
}
