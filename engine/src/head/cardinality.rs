//! Counts of series by their labels, as `/api/v1/status/tsdb` shows them.

use std::collections::HashMap;

use super::Head;
use crate::codec::varint;
use crate::model::labels::METRIC_NAME;

/// For each label name, the number of series of each of its values.
#[derive(Clone, Debug, Default)]
pub struct LabelCounts {
    names: HashMap<String, HashMap<String, u64>>,
}

/// A name and a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How many there are.
    pub value: u64,
}

/// The greatest counts of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series in the heads.
    pub series: u64,
    /// Pairs of label name and value.
    pub label_pairs: u64,
    /// Chunks in the heads.
    pub chunks: u64,
    /// Unix milliseconds of the first sample; the latest time there is without samples.
    pub min_time: i64,
    /// Unix milliseconds of the last sample; the earliest time there is without samples.
    pub max_time: i64,
    /// Series by metric name.
    pub series_by_metric_name: Vec<Count>,
    /// Values by label name.
    pub values_by_label_name: Vec<Count>,
    /// Bytes of the values of all series by label name.
    pub bytes_by_label_name: Vec<Count>,
    /// Series by label name and value, joined by `=`.
    pub series_by_label_pair: Vec<Count>,
}

impl Head {
    /// Adds the head's series to `counts`.
    pub fn count_labels(&self, counts: &mut LabelCounts) {
        for (name, _) in self.postings.names() {
            let values = counts.names.entry(self.symbols.text(name).to_owned()).or_default();
            for place in self.postings.values_of(name) {
                let value = self.symbols.text(self.postings.symbol(*place));
                *values.entry(value.to_owned()).or_default() += self.postings.list(*place).len() as u64;
            }
        }
    }
}

impl LabelCounts {
    /// Adds other series.
    pub fn add(&mut self, other: Self) {
        for (name, values) in other.names {
            let own = self.names.entry(name).or_default();
            for (value, count) in values {
                *own.entry(value).or_default() += count;
            }
        }
    }

    /// The `limit` greatest of each kind.
    pub fn greatest(&self, limit: usize) -> Cardinality {
        let by_name = |count: &dyn Fn(&str, &HashMap<String, u64>) -> u64| {
            let counts =
                self.names.iter().map(|(name, values)| Count { name: name.clone(), value: count(name, values) });
            greatest(counts, limit)
        };
        let metrics = self.names.get(METRIC_NAME).into_iter().flatten();
        let pairs = self.names.iter().flat_map(|(name, values)| {
            values.iter().map(move |(value, count)| Count { name: format!("{name}={value}"), value: *count })
        });
        Cardinality {
            label_pairs: self.names.values().map(|values| values.len() as u64).sum(),
            series_by_metric_name: greatest(
                metrics.map(|(name, count)| Count { name: name.clone(), value: *count }),
                limit,
            ),
            values_by_label_name: by_name(&|_, values| values.len() as u64),
            bytes_by_label_name: by_name(&|name, values| {
                values.iter().map(|(value, count)| (text_len(name) + text_len(value)) * count).sum()
            }),
            series_by_label_pair: greatest(pairs, limit),
            ..Cardinality::default()
        }
    }
}

/// Bytes of a text with its length in front.
fn text_len(text: &str) -> u64 {
    (varint::len_u64(text.len() as u64) + text.len()) as u64
}

fn greatest(counts: impl Iterator<Item = Count>, limit: usize) -> Vec<Count> {
    let mut counts: Vec<Count> = counts.collect();
    counts.sort_unstable_by(|left, right| right.value.cmp(&left.value).then_with(|| left.name.cmp(&right.name)));
    counts.truncate(limit);
    counts
}
