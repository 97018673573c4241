//! Operators as Thanos' JSON; the values of queries write their own.

use engine::promql::explain::Explained;
pub use engine::promql::json::{Completeness, push_value_while};
use serde_json::{Value, json};

/// Operators as Thanos' explanation has them.
pub fn plan(explained: &Explained) -> Value {
    let children: Vec<Value> = explained.children.iter().map(plan).collect();
    json!({ "name": explained.name, "children": children })
}

/// Operators with what each did, as Thanos' analysis has them.
pub fn analysis(explained: &Explained) -> Value {
    let children: Vec<Value> = explained.children.iter().map(analysis).collect();
    json!({
        "name": explained.name,
        "executionTime": go_duration(explained.seconds),
        "totalSamples": explained.samples,
        "peakSamples": explained.samples,
        "series": explained.series,
        "bytes": explained.bytes,
        "children": children,
    })
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
