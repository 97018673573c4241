//! What becomes of the items of a series: those that overlap no other are copied, runs of those that do
//! are merged. The order is that in which Prometheus and Thanos merge.

use super::items::{Item, Items, Origin};
use crate::compact::output::JobStats;
use crate::dedup::heap::Heap;

/// What is done next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// An item is copied.
    Copy(Item),
    /// Items that overlap are merged, as places among the overlapping ones; the first is the base.
    Merge {
        /// The base.
        start: u32,
        /// Behind the last.
        end: u32,
    },
    /// A series ends.
    EndSeries,
}

/// The steps of a slice. Their room serves one slice after the other.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    /// Items that overlap, one run behind the other.
    pub(super) overlapping: Vec<Item>,
    heap: Heap<Head>,
    order: Vec<(i64, usize)>,
}

/// The next item of a run.
#[derive(Clone, Copy, Debug)]
struct Head {
    item: Item,
    run: usize,
    at: usize,
}

fn less(a: &Head, b: &Head) -> bool {
    a.item.times < b.item.times
}

impl Steps {
    /// Removes all steps.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.overlapping.clear();
    }

    /// Adds the steps of the series that was added to `items` last.
    pub(super) fn add_series(&mut self, items: &Items, origin: Origin<'_>, stats: &mut JobStats) {
        if !self.add_in_order(items) {
            self.add_merged(items, origin, stats);
        }
        self.steps.push(Step::EndSeries);
    }

    /// Adds the runs one behind the other when that is in the order of time and nothing overlaps.
    fn add_in_order(&mut self, items: &Items) -> bool {
        self.order.clear();
        let firsts = items.runs().enumerate();
        self.order.extend(firsts.filter_map(|(run, items)| Some((items.first()?.times.0, run))));
        self.order.sort_unstable();
        let before = self.steps.len();
        let mut last = None;
        for (_, run) in &self.order {
            let mut items = (0..).map_while(|at| items.get(*run, at));
            let in_order = items.try_for_each(|item| {
                let overlaps = self.order.len() > 1 && last.is_some_and(|last| item.times.0 <= last);
                last = Some(item.times.1);
                self.steps.push(Step::Copy(item));
                if overlaps { Err(()) } else { Ok(()) }
            });
            if in_order.is_err() {
                self.steps.truncate(before);
                return false;
            }
        }
        true
    }

    fn add_merged(&mut self, items: &Items, origin: Origin<'_>, stats: &mut JobStats) {
        self.heap.clear();
        for run in 0..items.runs().len() {
            self.push(items, run, 0);
        }
        while let Some(base) = self.pop(items) {
            let start = self.overlapping.len();
            self.overlapping.push(base);
            let (mut end, mut before) = (base.times.1, base);
            while let Some(next) = self.heap.peek().map(|head| head.item).filter(|next| next.times.0 <= end) {
                self.pop(items);
                if next.times == before.times && items.record(next, origin) == items.record(before, origin) {
                    stats.chunks_dropped += 1;
                    continue;
                }
                self.overlapping.push(next);
                end = end.max(next.times.1);
                before = next;
            }
            if self.overlapping.len() == start + 1 {
                self.overlapping.pop();
                self.steps.push(Step::Copy(base));
            } else {
                self.steps.push(Step::Merge { start: start as u32, end: self.overlapping.len() as u32 });
            }
        }
    }

    fn push(&mut self, items: &Items, run: usize, at: usize) {
        if let Some(item) = items.get(run, at) {
            self.heap.push(Head { item, run, at }, less);
        }
    }

    fn pop(&mut self, items: &Items) -> Option<Item> {
        let head = self.heap.pop(less)?;
        self.push(items, head.run, head.at + 1);
        Some(head.item)
    }
}
