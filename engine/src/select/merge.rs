//! Several sorted runs of series as one: the same series in several runs is one series of the answer.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::block::{LabelView, SeriesBatch};

/// One series of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The run.
    pub run: u32,
    /// The series' place in its run.
    pub at: u32,
}

/// The entries of all runs, in the order of their labels; groups of equal labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    entries: Vec<Entry>,
    /// First entry of each group, and one more at the end.
    starts: Vec<u32>,
}

struct Head<'a> {
    labels: LabelView<'a>,
    entry: Entry,
}

/// Whether equal labels may follow each other within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// No run has equal labels twice.
    Distinct,
    /// A run may have, as labels that told its series apart were dropped.
    Repeated,
}

/// Merges `runs`, each sorted by labels.
pub fn merge(runs: &[SeriesBatch], within: Within) -> Merged {
    let mut merged = Merged::default();
    let mut filled = runs.iter().enumerate().filter(|(_, run)| !run.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => {}
        (Some((only, run)), None) => {
            merged.entries.reserve(run.len());
            merged.starts.reserve(run.len() + 1);
            for at in 0..run.len() {
                let same = within == Within::Repeated
                    && at > 0
                    && run.labels(at).compare(run.labels(at - 1)) == Ordering::Equal;
                merged.push(Entry { run: only as u32, at: at as u32 }, same);
            }
        }
        _ => merge_heap(runs, &mut merged),
    }
    merged.starts.push(merged.entries.len() as u32);
    merged
}

fn merge_heap(runs: &[SeriesBatch], merged: &mut Merged) {
    let head = |run: usize, at: usize| {
        let entry = Entry { run: run as u32, at: at as u32 };
        (at < runs[run].len()).then(|| Head { labels: runs[run].labels(at), entry })
    };
    let mut heads: BinaryHeap<Head<'_>> = (0..runs.len()).filter_map(|run| head(run, 0)).collect();
    let mut last: Option<LabelView<'_>> = None;
    while let Some(mut least) = heads.peek_mut() {
        let (labels, entry) = (least.labels, least.entry);
        match head(entry.run as usize, entry.at as usize + 1) {
            Some(next) => *least = next,
            None => drop(std::collections::binary_heap::PeekMut::pop(least)),
        }
        let same = last.is_some_and(|last| last.compare(labels) == Ordering::Equal);
        merged.push(entry, same);
        last = Some(labels);
    }
}

impl Merged {
    /// Number of series of the answer.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries that are series `at` of the answer.
    pub fn group(&self, at: usize) -> &[Entry] {
        &self.entries[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// The entries that are the series `groups` of the answer.
    pub fn entries(&self, groups: Range<usize>) -> &[Entry] {
        &self.entries[self.starts[groups.start] as usize..self.starts[groups.end] as usize]
    }

    fn push(&mut self, entry: Entry, same: bool) {
        if !same {
            self.starts.push(self.entries.len() as u32);
        }
        self.entries.push(entry);
    }
}

/// The greatest head is that of the least labels, and of these the first run.
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.labels.compare(self.labels).then(other.entry.run.cmp(&self.entry.run))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Labels;

    fn batch(series: &[Labels]) -> SeriesBatch {
        let mut batch = SeriesBatch::default();
        for labels in series {
            labels.iter().for_each(|(name, value)| batch.push_label(name, value));
            batch.finish_series();
        }
        batch
    }

    proptest! {
        #[test]
        fn merging_is_sorting_and_grouping(
            runs in prop::collection::vec(prop::collection::vec((0u8..4, 0u8..4, 0u8..3), 0..30), 0..6)
        ) {
            let runs: Vec<Vec<Labels>> = runs
                .into_iter()
                .map(|run| {
                    let mut run: Vec<Labels> = run
                        .into_iter()
                        .map(|(a, b, c)| {
                            let text = |value: u8| if value == 0 { String::new() } else { value.to_string() };
                            Labels::from_pairs([("a", text(a)), ("b", text(b)), ("c", text(c))])
                        })
                        .collect();
                    run.sort();
                    run
                })
                .collect();
            let mut expected: Vec<(Labels, u32)> = runs
                .iter()
                .enumerate()
                .flat_map(|(at, run)| run.iter().map(move |labels| (labels.clone(), at as u32)))
                .collect();
            expected.sort();
            let batches: Vec<SeriesBatch> = runs.iter().map(|run| batch(run)).collect();
            let merged = merge(&batches, Within::Repeated);
            let mut found = Vec::new();
            let mut before: Option<Labels> = None;
            for group in 0..merged.len() {
                let labels: Vec<Labels> = merged
                    .group(group)
                    .iter()
                    .map(|entry| batches[entry.run as usize].labels(entry.at as usize).to_labels())
                    .collect();
                prop_assert!(labels.iter().all(|each| *each == labels[0]));
                prop_assert!(before.as_ref().is_none_or(|before| *before < labels[0]));
                before = Some(labels[0].clone());
                found.extend(labels.into_iter().zip(merged.group(group).iter().map(|entry| entry.run)));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
