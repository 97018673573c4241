//! The labels of an answer: a series' own and its block's external labels (which win over a series'
//! own of the same name), without those that are dropped, and projected.

use std::borrow::Cow;

use xxhash_rust::xxh64::xxh64;

use crate::block::{ChunkPlace, SeriesBatch};
use crate::codec::LabelText;
use crate::index::SeriesLabels;
use crate::model::{Error, Labels};

use super::request::{Projection, Request, ShardInfo};

/// How the labels of a block's series become those of the answer.
#[derive(Clone, Debug)]
pub struct Shape {
    external: Labels,
    /// The external labels as text, and the length of the name of each.
    external_texts: Vec<(String, usize)>,
    without: Vec<String>,
    projection: Option<Projection>,
}

/// What a shape does to the order of a block's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It stays.
    Kept,
    /// It may change, so that they must be sorted.
    Changed,
}

impl Shape {
    /// The shape that `request` gives to the series of a block with these external labels.
    pub fn new(request: &Request, external: &Labels) -> Self {
        let kept = external.iter().filter(|(name, _)| request.without_labels.iter().all(|without| without != name));
        let external = Labels::from_sorted(kept);
        let text = |(name, value): (&str, &str)| {
            let mut text = String::new();
            LabelText::push(name, value, &mut text);
            (text, name.len())
        };
        let external_texts = external.iter().map(text).collect();
        Self {
            external,
            external_texts,
            without: request.without_labels.clone(),
            projection: request.projection.clone(),
        }
    }

    /// The external labels that are added.
    pub fn external(&self) -> &Labels {
        &self.external
    }

    /// Whether the label called `name` is dropped.
    pub fn drops(&self, name: &str) -> bool {
        self.without.iter().any(|without| without == name)
    }

    /// What becomes of the order of series with labels of these names, of which `least_extension`
    /// says, where it matters, what [`crate::index::BlockIndex::least_extension`] does.
    pub fn order(
        &self,
        label_names: &[String],
        least_extension: impl FnOnce() -> Result<Option<String>, Error>,
    ) -> Result<Order, Error> {
        let has = |name: &str| label_names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let buried = self.without.iter().any(|name| has(name));
        let overwritten = self.external.iter().any(|(name, _)| has(name));
        if self.projection.is_some() || buried || overwritten {
            return Ok(Order::Changed);
        }
        if self.external.is_empty() {
            return Ok(Order::Kept);
        }
        let least = least_extension()?;
        let overtaken = least.is_some_and(|least| self.external.iter().any(|(name, _)| name > least.as_str()));
        Ok(if overtaken { Order::Changed } else { Order::Kept })
    }

    /// Whether a series belongs to `shard`, which is told by its labels as they are before any projection.
    /// `scratch` is any buffer.
    pub fn is_in(&self, shard: &ShardInfo, own: &SeriesLabels, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        self.merge_labels(own, |label| shard.push_hashed((label.name(), label.value()), scratch));
        shard.is_hash_of(scratch)
    }

    /// Appends one series to `out`: labels in their final form, and `chunks`.
    pub fn append(&self, own: &SeriesLabels, chunks: &[ChunkPlace], out: &mut SeriesBatch) {
        match &self.projection {
            None => self.merge_labels(own, |label| out.push_text(label)),
            Some(projection) => self.append_projected(own, projection, out),
        }
        out.push_chunks(chunks);
        out.finish_series();
    }

    fn append_projected(&self, own: &SeriesLabels, projection: &Projection, out: &mut SeriesBatch) {
        let mut all = Vec::new();
        let mut kept: Vec<(&str, Cow<'_, str>)> = Vec::new();
        self.merge_labels(own, |label| {
            let (name, value) = (label.name(), label.value());
            all.extend_from_slice(name.as_bytes());
            all.push(0xff);
            all.extend_from_slice(value.as_bytes());
            all.push(0xff);
            if projection.kept.covers(name) {
                kept.push((name, Cow::Borrowed(value)));
            }
        });
        if !projection.hash_label.is_empty() {
            kept.retain(|(name, _)| *name != projection.hash_label);
            kept.push((&projection.hash_label, Cow::Owned(xxh64(&all, 0).to_string())));
            kept.sort_unstable();
        }
        kept.iter().for_each(|(name, value)| out.push_label(name, value));
    }

    /// Calls `push` for the labels of both, ascending by name.
    #[inline]
    fn merge_labels<'l>(&'l self, own: &'l SeriesLabels, mut push: impl FnMut(LabelText<'l>)) {
        let mut external =
            self.external_texts.iter().map(|(text, name_len)| LabelText::new(text, *name_len)).peekable();
        for label in own.texts() {
            while let Some(added) = external.next_if(|added| added.name() < label.name()) {
                push(added);
            }
            if let Some(added) = external.next_if(|added| added.name() == label.name()) {
                push(added);
            } else if !self.drops(label.name()) {
                push(label);
            }
        }
        external.for_each(push);
    }
}
