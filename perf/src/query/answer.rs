//! Answers of Prometheus' HTTP API, as far as they must be equal: the same series with the same times,
//! and values that differ by no more than the order of a sum's terms makes them.

use std::collections::BTreeMap;

use serde_json::Value;

/// By how much of the larger one two values may differ.
const TOLERANCE: f64 = 1e-9;

/// Series by their labels, with times in seconds and values.
#[derive(Debug, Default)]
pub struct Answer {
    series: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Answer {
    /// Reads an answer; fails with what the other side says is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole: Value = serde_json::from_slice(bytes).map_err(|error| format!("an answer is no JSON: {error}"))?;
        if whole["status"] != "success" {
            return Err(format!("the query failed: {}", whole["error"]));
        }
        let mut answer = Self::default();
        let rows = whole["data"]["result"].as_array().ok_or("an answer has no result")?;
        for row in rows {
            let labels: BTreeMap<&String, &Value> = row["metric"].as_object().into_iter().flatten().collect();
            let labels = serde_json::to_string(&labels).unwrap_or_default();
            let samples = match &row["values"] {
                Value::Array(samples) => samples.iter().filter_map(sample).collect(),
                _ => sample(&row["value"]).into_iter().collect(),
            };
            answer.series.insert(labels, samples);
        }
        Ok(answer)
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Where `other` differs first.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if let Some(missing) = self.series.keys().find(|labels| !other.series.contains_key(*labels)) {
            return Some(format!("it lacks {missing}"));
        }
        if let Some(extra) = other.series.keys().find(|labels| !self.series.contains_key(*labels)) {
            return Some(format!("it has {extra}"));
        }
        let pairs = self.series.iter().zip(other.series.values());
        for ((labels, ours), theirs) in pairs {
            if ours.len() != theirs.len() {
                return Some(format!("{labels}: {} samples, ours {}", theirs.len(), ours.len()));
            }
            let differing = ours.iter().zip(theirs).find(|(ours, theirs)| !are_close(ours, theirs));
            if let Some((ours, theirs)) = differing {
                return Some(format!("{labels}: {theirs:?}, ours {ours:?}"));
            }
        }
        None
    }
}

fn sample(pair: &Value) -> Option<(f64, f64)> {
    Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_str()?.parse().ok()?))
}

fn are_close(ours: &(f64, f64), theirs: &(f64, f64)) -> bool {
    let (a, b) = (ours.1, theirs.1);
    let is_same = a == b || (a.is_nan() && b.is_nan());
    (ours.0 - theirs.0).abs() < 1e-6 && (is_same || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: &str) -> Answer {
        let text = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"b":"1","a":"2"}},"value":[1.5,"{value}"]}}]}}}}"#
        );
        Answer::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn answers_are_equal_up_to_the_order_of_a_sum() {
        assert_eq!(answer("0.3").difference(&answer("0.30000000000000004")), None);
        assert_eq!(answer("NaN").difference(&answer("NaN")), None);
        assert_eq!(answer("+Inf").difference(&answer("Inf")), None);
        assert!(answer("1").difference(&answer("2")).unwrap().contains(r#"{"a":"2","b":"1"}"#));
        assert!(answer("1").difference(&Answer::default()).unwrap().contains("lacks"));
        assert!(Answer::parse(br#"{"status":"error","error":"no"}"#).unwrap_err().contains("no"));
    }
}
