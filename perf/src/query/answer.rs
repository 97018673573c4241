//! Answers of Prometheus' HTTP API, as far as they must be equal: of the same type, with the same warnings and
//! the same series, each once, with the same times, and values that differ by no more than the order of a sum's
//! terms makes them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;

/// By how much of the larger one two values may differ.
const TOLERANCE: f64 = 1e-9;

/// Series by their labels, with times in seconds and values.
#[derive(Debug, Default)]
pub struct Answer {
    /// Vector or matrix.
    result_type: String,
    /// What is told beside the series, in order.
    warnings: Vec<String>,
    series: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Answer {
    /// Reads an answer; fails with what the other side says is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole: Value = serde_json::from_slice(bytes).map_err(|error| format!("an answer is no JSON: {error}"))?;
        if whole["status"] != "success" {
            return Err(format!("the query failed: {}", whole["error"]));
        }
        let warnings = whole["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut answer = Self {
            result_type: whole["data"]["resultType"].as_str().unwrap_or_default().to_owned(),
            warnings: warnings.map(str::to_owned).collect(),
            series: BTreeMap::new(),
        };
        answer.warnings.sort_unstable();
        let rows = whole["data"]["result"].as_array().ok_or("an answer has no result")?;
        for row in rows {
            let labels: BTreeMap<&String, &Value> = row["metric"].as_object().into_iter().flatten().collect();
            let labels = serde_json::to_string(&labels).unwrap_or_default();
            let samples = match &row["values"] {
                Value::Array(samples) => samples.iter().filter_map(sample).collect(),
                _ => sample(&row["value"]).into_iter().collect(),
            };
            match answer.series.entry(labels) {
                Entry::Vacant(place) => _ = place.insert(samples),
                Entry::Occupied(place) => return Err(format!("an answer has {} twice", place.key())),
            }
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
        if self.result_type != other.result_type {
            return Some(format!("it is a {}, ours a {}", other.result_type, self.result_type));
        }
        if self.warnings != other.warnings {
            return Some(format!("it warns {:?}, ours {:?}", other.warnings, self.warnings));
        }
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

/// What a side answered before anything was timed; what it answers later is held against it.
#[derive(Debug, Default)]
pub struct First {
    /// The answer.
    pub answer: Answer,
    len: usize,
}

impl First {
    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self { answer: Answer::parse(bytes)?, len: bytes.len() })
    }

    /// Fails when a later answer is another one, of which one of the same length is not suspected: sums may
    /// differ in their last digits.
    pub fn hold(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() == self.len {
            return Ok(());
        }
        self.answer.difference(&Answer::parse(bytes)?).map_or(Ok(()), Err)
    }

    /// In words.
    pub fn describe(&self) -> String {
        format!("{} series, {} samples, {} B", self.answer.series(), self.answer.samples(), self.len)
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

    fn parsed(kind: &str, rows: &str, warnings: &str) -> Result<Answer, String> {
        let data = format!(r#"{{"resultType":"{kind}","result":[{rows}]}}"#);
        Answer::parse(format!(r#"{{"status":"success","data":{data},"warnings":[{warnings}]}}"#).as_bytes())
    }

    #[test]
    fn types_warnings_and_repetitions_make_answers_different() {
        let row = r#"{"metric":{"a":"1"},"value":[1,"2"]}"#;
        let plain = parsed("vector", row, "").unwrap();
        assert_eq!(plain.difference(&parsed("vector", row, "").unwrap()), None);
        assert!(
            plain.difference(&parsed("matrix", row, "").unwrap()).unwrap().contains("it is a matrix, ours a vector")
        );
        let warned = parsed("vector", row, r#""less","more""#).unwrap();
        assert!(plain.difference(&warned).unwrap().contains("less"));
        assert_eq!(warned.difference(&parsed("vector", row, r#""more","less""#).unwrap()), None);
        let twice = parsed("vector", &[row, row].join(","), "").unwrap_err();
        assert_eq!(twice, r#"an answer has {"a":"1"} twice"#);
    }

    #[test]
    fn later_answers_are_the_first_up_to_the_order_of_a_sum() {
        let text = |value: &str| {
            let rows = format!(r#"[{{"metric":{{}},"value":[1,"{value}"]}}]"#);
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{rows}}}}}"#)
        };
        let first = First::parse(text("0.3").as_bytes()).unwrap();
        assert_eq!(first.hold(text("0.3").as_bytes()), Ok(()));
        assert_eq!(first.hold(text("0.30000000000000004").as_bytes()), Ok(()));
        assert!(first.hold(text("0.31").as_bytes()).unwrap_err().contains("ours"));
        assert!(first.hold(br#"{"status":"error","error":"no"}"#).unwrap_err().contains("no"));
        assert!(first.hold(b"").is_err());
        assert!(first.describe().starts_with("1 series, 1 samples, "), "{}", first.describe());
    }

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
        let empty = Answer { result_type: "vector".into(), ..Answer::default() };
        assert!(answer("1").difference(&empty).unwrap().contains("lacks"));
        assert!(Answer::parse(br#"{"status":"error","error":"no"}"#).unwrap_err().contains("no"));
    }
}
