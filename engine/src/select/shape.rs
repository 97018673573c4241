//! The labels of an answer: a series' own and its block's external labels (which win over a series'
//! own of the same name), without those that are dropped, and projected.

use std::borrow::Cow;

use xxhash_rust::xxh64::xxh64;

use crate::block::{ChunkPlace, SeriesBatch};
use crate::model::Labels;

use super::request::{Projection, Request};

/// How the labels of a block's series become those of the answer.
#[derive(Clone, Debug)]
pub struct Shape {
    external: Labels,
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
        Self { external, without: request.without_labels.clone(), projection: request.projection.clone() }
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
    /// is what [`crate::block::OpenedBlock::least_extension`] says.
    pub fn order(&self, label_names: &[String], least_extension: Option<&str>) -> Order {
        let has = |name: &str| label_names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let buried = self.without.iter().any(|name| has(name));
        let overwritten = self.external.iter().any(|(name, _)| has(name));
        let overtaken = least_extension.is_some_and(|least| self.external.iter().any(|(name, _)| name > least));
        if self.projection.is_some() || buried || overwritten || overtaken { Order::Changed } else { Order::Kept }
    }

    /// Appends one series to `out`: labels in their final form, and `chunks`.
    pub fn append<'l>(
        &'l self,
        own: impl Iterator<Item = (&'l str, &'l str)>,
        chunks: &[ChunkPlace],
        out: &mut SeriesBatch,
    ) {
        match &self.projection {
            None => merge_labels(own, self, |name, value| out.push_label(name, value)),
            Some(projection) => self.append_projected(own, projection, out),
        }
        out.push_chunks(chunks);
        out.finish_series();
    }

    fn append_projected<'l>(
        &'l self,
        own: impl Iterator<Item = (&'l str, &'l str)>,
        projection: &'l Projection,
        out: &mut SeriesBatch,
    ) {
        let mut all = Vec::new();
        let mut kept: Vec<(&str, Cow<'_, str>)> = Vec::new();
        merge_labels(own, self, |name, value| {
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
}

/// Calls `push` for the labels of both, ascending by name.
#[inline]
fn merge_labels<'a>(
    own: impl Iterator<Item = (&'a str, &'a str)>,
    shape: &'a Shape,
    mut push: impl FnMut(&'a str, &'a str),
) {
    let mut external = shape.external.iter().peekable();
    for (name, value) in own {
        while let Some((added, its_value)) = external.next_if(|(added, _)| *added < name) {
            push(added, its_value);
        }
        if let Some((added, its_value)) = external.next_if(|(added, _)| *added == name) {
            push(added, its_value);
        } else if !shape.drops(name) {
            push(name, value);
        }
    }
    external.for_each(|(name, value)| push(name, value));
}
