//! Operators as Thanos' JSON; the values of queries write their own.

use engine::promql::explain::Explained;
pub use engine::promql::json::{Completeness, push_value_while};
use serde_json::{Value, json};

/// Operators as Thanos' explanation has them.
pub fn plan(explained: &Explained) -> Value {
    let node = json!({ "name": explained.name });
    with_children(node, explained.children.iter().map(plan).collect())
}

/// Operators with what each did, as Thanos' analysis has them; what is called `samples`, `series` and `bytes` is of what
/// an operator gave, and not in Thanos'.
pub fn analysis(explained: &Explained) -> Value {
    let node = json!({
        "name": explained.name,
        "executionTime": go_duration(explained.seconds),
        "totalSamples": explained.queried,
        "peakSamples": explained.queried_at_once,
        "samples": explained.samples,
        "series": explained.series,
        "bytes": explained.bytes,
    });
    with_children(node, explained.children.iter().map(analysis).collect())
}

/// `node` with what is below it, which is not copied: a chain would be at each of its operators.
fn with_children(mut node: Value, children: Vec<Value>) -> Value {
    node["children"] = Value::Array(children);
    node
}

/// Seconds as Go prints a duration below an hour.
fn go_duration(seconds: f64) -> String {
    let micros = seconds * 1e6;
    if micros >= 1e6 {
        format!("{:.3}s", seconds)
    } else if micros >= 1e3 {
        format!("{:.3}ms", micros / 1e3)
    } else {
        format!("{micros:.3}µs")
    }
}
