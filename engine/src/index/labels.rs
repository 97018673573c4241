//! The labels of one series at a time, in a buffer that remembers the texts it has decoded.

use std::collections::HashMap;

use super::column::gather::Gathered;
use super::tsdb::SymbolRef;
use crate::codec::LabelText;
use crate::model::Error;

/// Bytes of remembered texts above which a buffer starts afresh.
const TEXT_MAX: usize = 2 << 20;

/// Where a remembered label lies. Its text is never empty, so an empty span is one not remembered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
    name_len: u32,
}

impl Span {
    /// Whether it is remembered.
    pub(super) fn is_known(self) -> bool {
        self.len > 0
    }
}

/// The labels of the series that was asked for last. Reuse it from series to series: a label that
/// was seen before isn't decoded again. It may go from one index to another, but then forgets.
#[derive(Clone, Debug, Default)]
pub struct SeriesLabels {
    text: String,
    labels: Vec<Span>,
    index: u64,
    pub(super) gathered: Gathered,
    symbols: HashMap<(SymbolRef, SymbolRef), Span>,
}

impl SeriesLabels {
    /// Number of labels.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels in ascending order of names.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = LabelText<'_>> + Clone {
        let text = |span: &Span| &self.text[span.start as usize..][..span.len as usize];
        self.labels.iter().map(move |span| LabelText::new(text(span), span.name_len as usize))
    }

    /// Names and values in ascending order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.texts().map(|label| (label.name(), label.value()))
    }

    /// The value of the label called `name`; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Starts the labels of another series of the index that has the number `index`.
    pub(crate) fn begin(&mut self, index: u64) {
        self.labels.clear();
        if self.index != index || self.text.len() > TEXT_MAX {
            self.index = index;
            self.text.clear();
            self.gathered = Gathered::default();
            self.symbols.clear();
        }
    }

    /// Remembers a label.
    pub(super) fn remember(&mut self, name: &str, value: &str) -> Span {
        let start = self.text.len();
        LabelText::push(name, value, &mut self.text);
        Span { start: start as u32, len: (self.text.len() - start) as u32, name_len: name.len() as u32 }
    }

    /// Appends a label.
    #[inline]
    pub(super) fn push(&mut self, label: Span) {
        self.labels.push(label);
    }

    /// Appends the label of two symbols, whose texts `text` gives.
    pub(crate) fn push_symbols<'s>(
        &mut self,
        (name, value): (SymbolRef, SymbolRef),
        text: impl Fn(SymbolRef) -> Result<&'s str, Error>,
    ) -> Result<(), Error> {
        let label = match self.symbols.get(&(name, value)) {
            Some(label) => *label,
            None => {
                let label = self.remember(text(name)?, text(value)?);
                self.symbols.insert((name, value), label);
                label
            }
        };
        self.push(label);
        Ok(())
    }
}
