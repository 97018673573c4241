//! What a request takes in memory once it is decoded, told from its bytes before that: two bytes may be a metric, which
//! takes two hundred. What it is translated into is counted as it is made.

use proto::otlp;
use proto::wire::{Fields, Value};

use super::Encoding;

/// A kind of message: what one takes in lists that have grown to twice of what they hold, and which of its fields are
/// messages, and which text that is UTF-8. Its other fields are bytes, or numbers where `numbers` says so.
pub(super) struct Shape {
    bytes: usize,
    numbers: bool,
    pub(super) texts: &'static [u32],
    pub(super) messages: &'static [(u32, &'static Shape)],
}

impl Shape {
    const fn of<T>(messages: &'static [(u32, &'static Shape)]) -> Self {
        Self { bytes: 2 * size_of::<T>(), numbers: false, texts: &[], messages }
    }

    const fn with_numbers(self) -> Self {
        Self { numbers: true, ..self }
    }

    const fn with_texts(self, texts: &'static [u32]) -> Self {
        Self { texts, ..self }
    }
}

pub(super) static REQUEST: Shape = Shape::of::<otlp::MetricsRequest>(&[(1, &RESOURCE_METRICS)]);
static RESOURCE_METRICS: Shape = Shape::of::<otlp::ResourceMetrics>(&[(1, &RESOURCE), (2, &SCOPE_METRICS)]);
static RESOURCE: Shape = Shape::of::<otlp::Resource>(&[(1, &KEY_VALUE)]);
static SCOPE_METRICS: Shape = Shape::of::<otlp::ScopeMetrics>(&[(2, &METRIC)]);
static METRIC: Shape =
    Shape::of::<otlp::Metric>(&[(5, &GAUGE), (7, &GAUGE), (9, &HISTOGRAM), (10, &EXPONENTIAL), (11, &SUMMARY)])
        .with_texts(&[1, 2, 3]);
static GAUGE: Shape = Shape::of::<otlp::Sum>(&[(1, &NUMBER_POINT)]);
static HISTOGRAM: Shape = Shape::of::<otlp::Histogram>(&[(1, &HISTOGRAM_POINT)]);
static EXPONENTIAL: Shape = Shape::of::<otlp::ExponentialHistogram>(&[(1, &EXPONENTIAL_POINT)]);
static SUMMARY: Shape = Shape::of::<otlp::Summary>(&[(1, &SUMMARY_POINT)]);
static NUMBER_POINT: Shape = Shape::of::<otlp::NumberPoint>(&[(5, &EXEMPLAR), (7, &KEY_VALUE)]);
static HISTOGRAM_POINT: Shape = Shape::of::<otlp::HistogramPoint>(&[(8, &EXEMPLAR), (9, &KEY_VALUE)]).with_numbers();
static EXPONENTIAL_POINT: Shape =
    Shape::of::<otlp::ExponentialPoint>(&[(1, &KEY_VALUE), (8, &BUCKETS), (9, &BUCKETS), (11, &EXEMPLAR)]);
static BUCKETS: Shape = Shape::of::<otlp::Buckets>(&[]).with_numbers();
static SUMMARY_POINT: Shape = Shape::of::<otlp::SummaryPoint>(&[(6, &QUANTILE), (7, &KEY_VALUE)]);
static QUANTILE: Shape = Shape::of::<otlp::Quantile>(&[]);
static EXEMPLAR: Shape = Shape::of::<otlp::Exemplar>(&[(7, &KEY_VALUE)]);
static KEY_VALUE: Shape = Shape::of::<otlp::KeyValue>(&[(2, &ANY_VALUE)]).with_texts(&[1]);
static ANY_VALUE: Shape = Shape::of::<otlp::AnyValue>(&[(5, &ARRAY), (6, &LIST)]).with_texts(&[1]);
static ARRAY: Shape = Shape::of::<otlp::ArrayValue>(&[(1, &ANY_VALUE)]);
static LIST: Shape = Shape::of::<otlp::KeyValueList>(&[(1, &KEY_VALUE)]);

/// Messages within messages that the decoder follows.
pub(super) const DEPTH_MAX: usize = 100;

/// Bytes that an object of JSON takes as a tree's node and as what is read from it, and a value in a list.
const JSON_OBJECT_BYTES: usize = 768;
const JSON_VALUE_BYTES: usize = 64;

/// Bytes that `request` takes beside its own.
pub fn weight((encoding, request): (Encoding, &[u8])) -> u64 {
    let bytes = match encoding {
        Encoding::Protobuf => of_message(request, &REQUEST, 0),
        Encoding::Json => request.iter().map(|byte| of_json(*byte)).sum(),
    };
    bytes as u64
}

/// What cannot be read ends it: decoding will end there too.
fn of_message(message: &[u8], shape: &Shape, depth: usize) -> usize {
    let mut total = shape.bytes;
    let mut fields = Fields::new("OTLP", message);
    while let Ok(Some((number, value))) = fields.next() {
        let inner = shape.messages.iter().find(|(known, _)| *known == number);
        total += match (value, inner) {
            (Value::Bytes(bytes), Some((_, inner))) if depth < DEPTH_MAX => of_message(bytes, inner, depth + 1),
            (Value::Bytes(bytes), _) if shape.numbers => 2 * size_of::<f64>() * bytes.len(),
            (Value::Bytes(bytes), _) => bytes.len(),
            _ if shape.numbers => 2 * size_of::<f64>(),
            _ => 0,
        };
    }
    total
}

fn of_json(byte: u8) -> usize {
    match byte {
        b'{' => JSON_OBJECT_BYTES,
        b',' | b'[' => JSON_VALUE_BYTES,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn messages_of_two_bytes_weigh_what_they_become() {
        let metrics = vec![otlp::Metric::default(); 1000];
        let scope_metrics = vec![otlp::ScopeMetrics { metrics }];
        let resource_metrics = vec![otlp::ResourceMetrics { scope_metrics, ..otlp::ResourceMetrics::default() }];
        let request = otlp::MetricsRequest { resource_metrics }.encode_to_vec();
        assert!(request.len() < 2100);
        let weight = weight((Encoding::Protobuf, &request));
        assert!(weight >= 2000 * size_of::<otlp::Metric>() as u64, "{weight}");
        assert!(super::weight((Encoding::Json, br#"{"resourceMetrics":[{},{},{}]}"#)) > 3000);
    }

    #[test]
    fn what_cannot_be_read_weighs_what_comes_before_it() {
        for bytes in [&b"\xff\xff"[..], b"\x0a\x05a", b"\x0a\x02\x12\x07"] {
            assert!(weight((Encoding::Protobuf, bytes)) < 1000);
        }
    }

    #[test]
    fn lists_within_lists_are_followed_as_far_as_the_decoder_follows_them() {
        let nested = |depth: usize| {
            // Lists of values, in the value of an attribute of a resource.
            let fields = [1u64, 1, 1, 2].into_iter().chain((0..depth).flat_map(|_| [5, 1]));
            fields.collect::<Vec<u64>>().into_iter().rev().fold(Vec::new(), |inner, field| {
                let mut message = Vec::new();
                proto::write::put_message(&mut message, field, &inner);
                message
            })
        };
        let weight = |depth| weight((Encoding::Protobuf, &nested(depth)));
        assert!(weight(40) > weight(20) + 20 * size_of::<otlp::AnyValue>() as u64);
        assert!(weight(5_000) < weight(200) + 40_000, "the rest is text");
    }
}
