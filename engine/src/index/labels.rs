//! The labels of one series at a time, in a buffer that remembers the texts it has decoded.

use std::collections::HashMap;

use super::column::gather::Gathered;
use super::tsdb::SymbolRef;

/// Bytes of remembered texts above which a buffer starts afresh.
const TEXT_MAX: usize = 16 << 20;

/// Where a remembered text lies. Texts are never empty, so an empty span is one not remembered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Whether it is remembered.
    pub(super) fn is_known(self) -> bool {
        self.len > 0
    }
}

/// The labels of the series that was asked for last. Reuse it from series to series: a value that
/// was seen before isn't decoded again. It may go from one index to another, but then forgets.
#[derive(Clone, Debug, Default)]
pub struct SeriesLabels {
    text: String,
    pairs: Vec<(Span, Span)>,
    index: u64,
    pub(super) gathered: Gathered,
    pub(crate) symbols: HashMap<SymbolRef, Span>,
}

impl SeriesLabels {
    /// Number of labels.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Names and values in ascending order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(name, value)| (self.text_of(*name), self.text_of(*value)))
    }

    /// The value of the label called `name`; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Starts the labels of another series of the index that has the number `index`.
    pub(crate) fn begin(&mut self, index: u64) {
        self.pairs.clear();
        if self.index != index || self.text.len() > TEXT_MAX {
            self.index = index;
            self.text.clear();
            self.gathered = Gathered::default();
            self.symbols.clear();
        }
    }

    /// Remembers what `write` appends.
    pub(crate) fn remember(&mut self, write: impl FnOnce(&mut String)) -> Span {
        let start = self.text.len();
        write(&mut self.text);
        Span { start: start as u32, len: (self.text.len() - start) as u32 }
    }

    /// Appends a label.
    pub(crate) fn push(&mut self, name: Span, value: Span) {
        self.pairs.push((name, value));
    }

    fn text_of(&self, span: Span) -> &str {
        &self.text[span.start as usize..][..span.len as usize]
    }
}
