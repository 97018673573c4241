//! Many series at once: their labels in one text, their chunks in one list.
//!
//! ```text
//! text    label │ label │ …     each as [`LabelText`] writes it
//! ends    of each label, where its name ends and where it ends itself
//! series  first label and first chunk of each, and one more at the end
//! long    numbers of the series whose text is not the encoding of their labels, ascending
//! ```

use std::cmp::Ordering;

use crate::codec::{EncodedLabels, LabelText, label_text};
use crate::model::Labels;

/// Where a chunk lies and which times it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ChunkPlace {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// Number of the segment file, from 0.
    pub segment: u32,
    /// Byte within it at which the chunk's length starts.
    pub offset: u32,
    /// Bytes from there to the end of its checksum, or to the chunk behind it; where the index doesn't say,
    /// [`super::CHUNK_BYTES_GUESS`], which may be short.
    pub len: u32,
}

/// Labels and chunk places of a run of series.
#[derive(Clone, Debug)]
pub struct SeriesBatch {
    text: String,
    ends: Vec<Ends>,
    chunks: Vec<ChunkPlace>,
    series: Vec<Start>,
    long: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    name: u32,
    label: u32,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    label: u32,
    chunk: u32,
}

/// The labels of one series of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct LabelView<'a> {
    text: &'a str,
    start: u32,
    ends: &'a [Ends],
    is_long: bool,
}

impl Default for SeriesBatch {
    fn default() -> Self {
        let series = vec![Start { label: 0, chunk: 0 }];
        Self { text: String::new(), ends: Vec::new(), chunks: Vec::new(), series, long: Vec::new() }
    }
}

impl SeriesBatch {
    /// Number of finished series.
    pub fn len(&self) -> usize {
        self.series.len() - 1
    }

    /// Whether there is no finished series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all series and keeps the room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.chunks.clear();
        self.series.truncate(1);
        self.long.clear();
    }

    /// Makes room for so many series more, each with a chunk.
    pub fn reserve(&mut self, series: usize) {
        self.series.reserve(series);
        self.chunks.reserve(series);
    }

    /// Appends a label to the series that is being made; names ascend.
    pub fn push_label(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        LabelText::push(name, value, &mut self.text);
        let is_encoding = LabelText::new(&self.text[start..], name.len()).is_encoding();
        self.end_label((start, name.len()), is_encoding);
    }

    /// Appends a label to the series that is being made; names ascend.
    #[inline]
    pub fn push_text(&mut self, label: LabelText<'_>) {
        let start = self.text.len();
        self.text.push_str(label.text());
        self.end_label((start, label.name_len()), label.is_encoding());
    }

    #[inline]
    fn end_label(&mut self, (start, name_len): (usize, usize), is_encoding: bool) {
        let name = start + label_text::name_end(name_len);
        self.ends.push(Ends { name: name as u32, label: self.text.len() as u32 });
        let series = self.len() as u32;
        if !is_encoding && self.long.last() != Some(&series) {
            self.long.push(series);
        }
    }

    /// Appends a chunk to the series that is being made.
    #[inline]
    pub fn push_chunk(&mut self, chunk: ChunkPlace) {
        self.chunks.push(chunk);
    }

    /// Appends chunks to the series that is being made.
    pub fn push_chunks(&mut self, chunks: &[ChunkPlace]) {
        self.chunks.extend_from_slice(chunks);
    }

    /// Finishes the series that is being made.
    #[inline]
    pub fn finish_series(&mut self) {
        self.series.push(Start { label: self.ends.len() as u32, chunk: self.chunks.len() as u32 });
    }

    /// The labels of series `at`.
    #[inline]
    pub fn labels(&self, at: usize) -> LabelView<'_> {
        let (first, end) = (self.series[at].label as usize, self.series[at + 1].label as usize);
        let start = if first == 0 { 0 } else { self.ends[first - 1].label };
        let is_long = !self.long.is_empty() && self.long.binary_search(&(at as u32)).is_ok();
        LabelView { text: &self.text, start, ends: &self.ends[first..end], is_long }
    }

    /// The chunks of series `at`, in time order.
    pub fn chunks(&self, at: usize) -> &[ChunkPlace] {
        &self.chunks[self.series[at].chunk as usize..self.series[at + 1].chunk as usize]
    }

    /// Chunks of all series.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes of the labels and chunk places.
    pub fn content_bytes(&self) -> usize {
        self.text.len() - label_text::FRAME * self.ends.len() + self.chunks.len() * size_of::<ChunkPlace>()
    }

    /// Bytes of the labels as they are kept.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes that the batch occupies on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.text.capacity()
            + self.ends.capacity() * size_of::<Ends>()
            + self.chunks.capacity() * size_of::<ChunkPlace>()
            + self.series.capacity() * size_of::<Start>()
            + self.long.capacity() * size_of::<u32>()
    }
}

impl<'a> LabelView<'a> {
    /// Number of labels.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Names and values in ascending order of names.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone {
        (0..self.len()).map(move |at| self.label(at))
    }

    /// The labels in their encoding; `None` where one of them is longer than its text can say.
    #[inline]
    pub fn encoded(self) -> Option<EncodedLabels<'a>> {
        let end = self.ends.last().map_or(self.start, |end| end.label);
        (!self.is_long).then(|| EncodedLabels(&self.text.as_bytes()[self.start as usize..end as usize]))
    }

    /// The value of the label called `name`.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Order by name, then value, label by label; a set comes before those that extend it.
    pub fn compare(self, other: LabelView<'_>) -> Ordering {
        let (left, right) = (self.text.as_bytes(), other.text.as_bytes());
        let (mut left_start, mut right_start) = (self.start as usize, other.start as usize);
        for (own, others) in self.ends.iter().zip(other.ends) {
            let (left_end, right_end) = (own.label as usize, others.label as usize);
            let (left_name, right_name) = (own.name as usize, others.name as usize);
            // Neighbours in label order have most labels in common. Bytes of text order as the text does;
            // where a name ends its text alone does not say of a long label.
            let are_same = left_name - left_start == right_name - right_start
                && left[left_start..left_end] == right[right_start..right_end];
            if !are_same {
                let names = left[label_text::name_in(left_start, left_name)]
                    .cmp(&right[label_text::name_in(right_start, right_name)]);
                return names.then_with(|| {
                    left[label_text::value_in(left_name, left_end)]
                        .cmp(&right[label_text::value_in(right_name, right_end)])
                });
            }
            (left_start, right_start) = (left_end, right_end);
        }
        self.len().cmp(&other.len())
    }

    /// Whether `other` has all labels of this set first, and then more.
    pub fn is_strict_prefix_of(self, other: LabelView<'_>) -> bool {
        let shared = self.len();
        if shared >= other.len() {
            return false;
        }
        // Neighbours in label order usually differ at the end.
        (0..shared).rev().all(|at| self.label(at) == other.label(at))
    }

    /// Label number `at`.
    #[inline]
    pub fn label(self, at: usize) -> (&'a str, &'a str) {
        let start = if at == 0 { self.start } else { self.ends[at - 1].label } as usize;
        let (name, end) = (self.ends[at].name as usize, self.ends[at].label as usize);
        (&self.text[label_text::name_in(start, name)], &self.text[label_text::value_in(name, end)])
    }

    /// An owned copy.
    pub fn to_labels(self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_come_back_with_their_labels_and_chunks() {
        let mut batch = SeriesBatch::default();
        batch.push_label("a", "1");
        batch.push_chunk(ChunkPlace { min_time: 5, ..ChunkPlace::default() });
        batch.finish_series();
        batch.push_label("a", "1");
        batch.push_label("b", "2");
        batch.finish_series();
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.chunks(0).len(), 1);
        assert!(batch.chunks(1).is_empty());
        assert_eq!(batch.labels(1).to_labels().to_string(), r#"{a="1", b="2"}"#);
        assert!(batch.labels(0).is_strict_prefix_of(batch.labels(1)));
        assert!(!batch.labels(1).is_strict_prefix_of(batch.labels(0)));
        assert_eq!(batch.labels(0).compare(batch.labels(1)), Ordering::Less);
    }

    #[test]
    fn sets_are_ordered_as_their_names_and_values_are() {
        let long = "v".repeat(200);
        let sets: [&[(&str, &str)]; 11] = [
            &[],
            &[("a", "1")],
            &[("a", "1"), ("b", "")],
            &[("a", "1"), ("b", "é")],
            &[("a", "1"), ("bb", "2")],
            &[("a", "10")],
            &[("aa", "0")],
            &[("a", &long)],
            &[("a", &long), ("b", "1")],
            // The same text but for where the name ends.
            &[("a", &format!("{long}\x12\0c"))],
            &[(&format!("a\x12\0{long}"), "c")],
        ];
        let mut batch = SeriesBatch::default();
        for set in sets {
            set.iter().for_each(|(name, value)| batch.push_label(name, value));
            batch.finish_series();
        }
        for (left, right) in (0..sets.len()).flat_map(|left| (0..sets.len()).map(move |right| (left, right))) {
            let compared = batch.labels(left).compare(batch.labels(right));
            assert_eq!(compared, sets[left].cmp(sets[right]), "{:?} {:?}", sets[left], sets[right]);
        }
    }
}
