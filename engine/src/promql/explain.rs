//! What each operator of a query did: samples, series, time and bytes, beside the operator tree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::plan::{Node, Operator, RangeArgument};
use super::value::Matrix;

/// Counters of all operators of a query, by the operators' numbers. Shared by the cores that work
/// on the query.
#[derive(Debug, Default)]
pub struct Profile {
    operators: Vec<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    nanoseconds: AtomicU64,
    series: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    queried: AtomicU64,
    queried_at_once: AtomicU64,
    steps: AtomicU64,
}

/// One operator with what it did and its inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// What the operator is.
    pub name: String,
    /// Seconds that it took, with its inputs unless they stream into it; of several cores that work on it side by
    /// side the sum.
    pub seconds: f64,
    /// Samples that it and the operators below it took from series, as a query's are counted: those of each window,
    /// and what is the same at all steps once for each.
    pub queried: u64,
    /// Most samples that one of them took at once, for a batch of rows.
    pub queried_at_once: u64,
    /// Series that it gave a sample of.
    pub series: u64,
    /// Samples that it gave.
    pub samples: u64,
    /// Bytes of what it gave.
    pub bytes: u64,
    /// The operators that it reads from.
    pub children: Vec<Explained>,
}

impl Profile {
    /// Counters for `operators` operators.
    pub fn new(operators: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(operators, Counters::default);
        Self { operators: all }
    }

    /// Counts series, samples and bytes that operator `id` gave.
    pub fn count(&self, id: usize, (series, samples, bytes): (usize, usize, usize)) {
        let Some(counters) = self.operators.get(id) else { return };
        counters.series.fetch_add(series as u64, Ordering::Relaxed);
        counters.samples.fetch_add(samples as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a batch that operator `id` gave.
    pub fn count_rows(&self, id: usize, batch: &Matrix) {
        let series = (0..batch.len()).filter(|row| batch.cells.occupied(*row)).count();
        self.count(id, (series, batch.cells.samples(), batch.cells.heap_bytes()));
    }

    /// Counts `count` samples that operator `id` took from series for a batch of rows.
    pub fn count_queried(&self, id: usize, count: usize) {
        let Some(counters) = self.operators.get(id) else { return };
        counters.queried.fetch_add(count as u64, Ordering::Relaxed);
        counters.queried_at_once.fetch_max(count as u64, Ordering::Relaxed);
    }

    /// Operator `id` evaluates its input once for `count` steps.
    pub fn count_steps(&self, id: usize, count: usize) {
        let Some(counters) = self.operators.get(id) else { return };
        counters.steps.fetch_max(count as u64, Ordering::Relaxed);
    }

    /// Counts time that operator `id` took.
    pub fn add_time(&self, id: usize, time: Duration) {
        let Some(counters) = self.operators.get(id) else { return };
        counters.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Counts the whole result of operator `id`.
    pub fn record(&self, id: usize, time: Duration, result: &Matrix) {
        self.count_rows(id, result);
        self.add_time(id, time);
    }

    /// The tree under `node`.
    pub fn explain(&self, node: &Node) -> Explained {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let children: Vec<Explained> = node.inputs().map(|input| self.explain(input)).collect();
        let name = node.describe();
        let Some(counters) = self.operators.get(node.id) else {
            return Explained { name, children, ..Explained::default() };
        };
        let (below, times) = match &node.operator {
            // Samples of a subquery count in the windows.
            Operator::OverTime(call) if matches!(call.argument, RangeArgument::Subquery(_)) => (&children[1..], 1),
            Operator::StepInvariant(_) => (&children[..], load(&counters.steps)),
            _ => (&children[..], 1),
        };
        let queried_below = below.iter().map(|child| child.queried).sum::<u64>().saturating_mul(times);
        let at_once_below = children.iter().map(|child| child.queried_at_once).max().unwrap_or(0);
        Explained {
            name,
            seconds: load(&counters.nanoseconds) as f64 / 1e9,
            queried: load(&counters.queried).saturating_add(queried_below),
            queried_at_once: load(&counters.queried_at_once).max(at_once_below),
            series: load(&counters.series),
            samples: load(&counters.samples),
            bytes: load(&counters.bytes),
            children,
        }
    }
}
