//! Figures as measurements print them, of one side for one question over data of one size.

use serde_json::{Value, json};

use crate::machine::Machine;

/// Figures of one side for one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Series of the data.
    pub scale: usize,
    /// What was asked.
    pub question: String,
    /// What the answer held.
    pub answer: String,
    /// Who was asked.
    pub side: String,
    /// All that was printed.
    line: Value,
}

impl Record {
    /// A line as `perf … --json` prints it.
    pub fn parse(line: &str, scale: usize) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
        Some(Self { scale, question: text("question")?, answer: text("answer")?, side: text("side")?, line })
    }

    /// The commit that uru said it is of.
    pub fn commit(&self) -> Option<&str> {
        self.line.get("commit")?.as_str()
    }

    /// The figure at a JSON pointer such as `/wall_ms/median`.
    pub fn figure(&self, pointer: &str) -> Option<f64> {
        self.line.pointer(pointer).and_then(Value::as_f64)
    }

    /// The line with the size of the data and where it was measured.
    pub fn json(&self, measurement: &str, machine: &Machine) -> Value {
        json!({
            "measurement": measurement, "scale": self.scale, "figures": self.line, "commit": machine.commit,
            "changed": machine.changed, "date": machine.date, "machine": machine.json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_printed_can_be_read() {
        let line =
            r#"{"question":"q","answer":"a","side":"uru","runs":3,"wall_ms":{"min":1.0,"median":2.0},"peak_mib":12.5}"#;
        let record = Record::parse(line, 10).unwrap();
        assert_eq!((record.figure("/wall_ms/median"), record.figure("/peak_mib")), (Some(2.0), Some(12.5)));
        assert_eq!(record.figure("/cpu_ms/min"), None);
        assert_eq!(record.json("store", &Machine::default())["figures"]["side"], "uru");
        assert_eq!(Record::parse("asked: everything", 10), None);
        assert_eq!(record.commit(), None);
        let line = r#"{"question":"q","answer":"a","side":"uru","commit":"abc"}"#;
        assert_eq!(Record::parse(line, 10).unwrap().commit(), Some("abc"));
    }
}
