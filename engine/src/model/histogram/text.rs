//! Histograms as text: as Prometheus prints them, as its JSON has them, and in the notation of its
//! PromQL tests.

use std::fmt;
use std::fmt::Write;

use super::{CounterReset, FloatHistogram, Span};
use crate::model::float_text::{Notation, format_float_as, push_float};

/// As Prometheus prints a histogram: `{count:3, sum:2.5, (0.5,1]:3}`, without empty buckets.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value| format_float_as(value, Notation::General);
        write!(f, "{{count:{}, sum:{}", number(self.count), number(self.sum))?;
        for bucket in self.negative().rev().filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.positive().filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl FloatHistogram {
    /// Appends the JSON of Prometheus' API:
    /// `{"count":"3","sum":"2.5","buckets":[[0,"0.5","1","3"]]}`, without empty buckets and without
    /// `buckets` where there are none.
    pub fn push_json(&self, out: &mut Vec<u8>) {
        let quoted = |out: &mut Vec<u8>, value: f64| {
            out.push(b'"');
            push_float(out, value, Notation::Json);
            out.push(b'"');
        };
        out.extend_from_slice(b"{\"count\":");
        quoted(out, self.count);
        out.extend_from_slice(b",\"sum\":");
        quoted(out, self.sum);
        let mut before: &[u8] = b",\"buckets\":[[";
        for bucket in self.all().filter(|bucket| bucket.count != 0.0) {
            out.extend_from_slice(before);
            out.push(b'0' + bucket.boundaries());
            for value in [bucket.lower, bucket.upper, bucket.count] {
                out.push(b',');
                quoted(out, value);
            }
            before = b"],[";
        }
        out.extend_from_slice(if before == b"],[" { b"]]}" } else { b"}" });
    }

    /// The notation of Prometheus' PromQL tests: `{{schema:1 count:3 sum:2.5 buckets:[1 2]}}`.
    pub fn test_notation(&self) -> String {
        let mut compact = self.clone();
        compact.compact(usize::MAX >> 1);
        let mut fields = Vec::new();
        let mut field = |name: &str, value: f64| {
            if value != 0.0 {
                fields.push(format!("{name}:{}", format_float_as(value, Notation::General)));
            }
        };
        field("schema", f64::from(compact.schema));
        field("count", compact.count);
        field("sum", compact.sum);
        field("z_bucket", compact.zero_count);
        field("z_bucket_w", compact.zero_threshold);
        if compact.uses_custom_buckets() {
            fields.push(format!("custom_values:{}", list(&compact.custom_values)));
        }
        match compact.counter_reset {
            CounterReset::Unknown => {}
            CounterReset::Yes => fields.push("counter_reset_hint:reset".to_owned()),
            CounterReset::No => fields.push("counter_reset_hint:not_reset".to_owned()),
            CounterReset::Gauge => fields.push("counter_reset_hint:gauge".to_owned()),
        }
        let mut side = |names: [&str; 2], spans: &[Span], counts: &[f64]| {
            if let Some(span) = spans.first().filter(|span| span.offset != 0) {
                fields.push(format!("{}:{}", names[0], span.offset));
            }
            if !counts.is_empty() {
                fields.push(format!("{}:{}", names[1], list(counts)));
            }
        };
        side(["offset", "buckets"], &compact.positive_spans, &compact.positive_buckets);
        side(["n_offset", "n_buckets"], &compact.negative_spans, &compact.negative_buckets);
        format!("{{{{{}}}}}", fields.join(" "))
    }
}

fn list(values: &[f64]) -> String {
    let mut text = String::from("[");
    for (at, value) in values.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{space}{}", format_float_as(*value, Notation::General));
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_printed_as_prometheus_prints_them() {
        let histogram = FloatHistogram {
            count: 12.0,
            sum: -1.5,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 0.0, 4.0],
            negative_spans: vec![Span { offset: -1, length: 1 }],
            negative_buckets: vec![5.0],
            ..FloatHistogram::default()
        };
        assert_eq!(histogram.to_string(), "{count:12, sum:-1.5, [-0.5,-0.25):5, [-0.001,0.001]:2, (0.5,1]:1, (4,8]:4}");
        let mut json = Vec::new();
        histogram.push_json(&mut json);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"count":"12","sum":"-1.5","buckets":[[1,"-0.5","-0.25","5"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"4","8","4"]]}"#
        );
        assert_eq!(
            histogram.test_notation(),
            "{{count:12 sum:-1.5 z_bucket:2 z_bucket_w:0.001 buckets:[1 0 0 4] n_offset:-1 n_buckets:[5]}}"
        );
        let mut json = Vec::new();
        FloatHistogram::default().push_json(&mut json);
        assert_eq!(json, br#"{"count":"0","sum":"0"}"#);
    }
}
