//! What each operator of a query did: samples, series, time and bytes, beside the operator tree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::plan::Node;
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
}

/// One operator with what it did and its inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// What the operator is.
    pub name: String,
    /// Seconds that it took, with its inputs unless they stream into it.
    pub seconds: f64,
    /// Series that it gave.
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
        self.count(id, (batch.len(), batch.cells.samples(), batch.cells.heap_bytes()));
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
        let children = node.inputs().into_iter().map(|input| self.explain(input)).collect();
        let name = node.describe();
        match self.operators.get(node.id) {
            None => Explained { name, children, ..Explained::default() },
            Some(counters) => Explained {
                name,
                seconds: load(&counters.nanoseconds) as f64 / 1e9,
                series: load(&counters.series),
                samples: load(&counters.samples),
                bytes: load(&counters.bytes),
                children,
            },
        }
    }
}
