//! OTLP in JSON: names in lower camel case, 64-bit numbers as decimal text or as numbers, ids in hex,
//! other bytes in base64, enums as numbers or by their names. Names may be written with underscores,
//! as in the schema; unknown ones are passed over.

use std::str::FromStr;

use proto::otlp::any_value::Value as Any;
use proto::otlp::metric::Data;
use proto::otlp::{
    AnyValue, ArrayValue, Buckets, Exemplar, ExponentialHistogram, ExponentialPoint, Gauge, Histogram, HistogramPoint,
    KeyValue, KeyValueList, Metric, MetricsRequest, NumberPoint, Quantile, Resource, ResourceMetrics, ScopeMetrics,
    Sum, Summary, SummaryPoint, Temporality, exemplar, number_point,
};
use serde_json::{Map, Value};

/// The error is a sentence about the value that can't be read.
type Parsed<T> = Result<T, String>;

/// Reads an object of some kind.
type Read<T> = for<'a> fn(Object<'a>) -> Parsed<T>;

/// Reads an `ExportMetricsServiceRequest`; what is behind it is passed over, as upstream does.
pub(super) fn parse(text: &[u8]) -> Parsed<MetricsRequest> {
    let first = serde_json::Deserializer::from_slice(text).into_iter::<Value>().next();
    let value = first.ok_or_else(|| "it is empty".to_owned())?.map_err(|error| error.to_string())?;
    if value.is_null() {
        return Ok(MetricsRequest::default());
    }
    let request = Object::of("the request", &value)?;
    Ok(MetricsRequest { resource_metrics: request.list("resourceMetrics", resource_metrics)? })
}

/// An object; fields that are absent have the value that nothing has, and so have texts, lists and objects that are
/// null. A number that is null is none: some write those so that are not finite.
#[derive(Clone, Copy)]
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(what: &str, value: &'a Value) -> Parsed<Self> {
        value.as_object().map(Self).ok_or_else(|| format!("{what} is no object"))
    }

    /// A field that is there, also when it is null.
    fn field(self, name: &str) -> Option<&'a Value> {
        let by_schema = || self.0.iter().find(|(given, _)| is_by_schema(given, name)).map(|(_, value)| value);
        self.0.get(name).or_else(by_schema)
    }

    /// A field that is not null.
    fn get(self, name: &str) -> Option<&'a Value> {
        self.field(name).filter(|value| !value.is_null())
    }

    /// The first of these fields that is not null, or else the first that is there.
    fn first(self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let there = names.iter().filter_map(|name| Some((*name, self.field(name)?)));
        there.clone().find(|(_, value)| !value.is_null()).or_else(|| there.clone().next())
    }

    fn list<T>(self, name: &str, item: fn(Object<'a>) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.values(name)?.iter().map(|value| item(Object::of(name, value)?)).collect()
    }

    fn values(self, name: &str) -> Parsed<&'a [Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{name} is no list")),
        }
    }

    fn object<T>(self, name: &str, read: fn(Object<'a>) -> Parsed<T>) -> Parsed<Option<T>> {
        self.get(name).map(|value| read(Object::of(name, value)?)).transpose()
    }

    fn text(self, name: &str) -> Parsed<String> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(value) => value.as_str().map(str::to_owned).ok_or_else(|| format!("{name} is no text")),
        }
    }

    fn integer<T: FromStr + Default>(self, name: &str) -> Parsed<T> {
        self.field(name).map_or_else(|| Ok(T::default()), |value| integer(name, value))
    }

    fn integers<T: FromStr>(self, name: &str) -> Parsed<Vec<T>> {
        self.values(name)?.iter().map(|value| integer(name, value)).collect()
    }

    fn float(self, name: &str) -> Parsed<Option<f64>> {
        self.field(name).map(|value| float(name, value)).transpose()
    }

    /// The `len` bytes of an id in hex; none where it is empty.
    fn id(self, name: &str, len: usize) -> Parsed<Vec<u8>> {
        let text = self.text(name)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| format!("{name} is not hexadecimal"))?;
        if bytes.is_empty() || bytes.len() == len {
            return Ok(bytes);
        }
        Err(format!("{name} is of {} bytes, not of {len}: {text:?}", bytes.len()))
    }
}

/// Whether `given` is `name`, which is in lower camel case, as the schema has it: `time_unix_nano` is
/// `timeUnixNano`.
fn is_by_schema(given: &str, name: &str) -> bool {
    let mut rest = given.bytes();
    let is_same = name.bytes().all(|byte| match byte {
        b'A'..=b'Z' => rest.next() == Some(b'_') && rest.next() == Some(byte.to_ascii_lowercase()),
        _ => rest.next() == Some(byte),
    });
    is_same && rest.next().is_none()
}

fn integer<T: FromStr>(name: &str, value: &Value) -> Parsed<T> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    text.parse().map_err(|_| format!("{name} is not a whole number in its range: {value}"))
}

fn float(name: &str, value: &Value) -> Parsed<f64> {
    let found = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    found.ok_or_else(|| format!("{name} is no number: {value}; one that is not finite is text, as \"NaN\""))
}

fn resource_metrics(from: Object<'_>) -> Parsed<ResourceMetrics> {
    let resource =
        |from: Object<'_>| -> Parsed<Resource> { Ok(Resource { attributes: attributes(from, "attributes")? }) };
    Ok(ResourceMetrics {
        resource: from.object("resource", resource)?,
        scope_metrics: from
            .list("scopeMetrics", |scope| Ok(ScopeMetrics { metrics: scope.list("metrics", metric)? }))?,
    })
}

fn metric(from: Object<'_>) -> Parsed<Metric> {
    let name = from.text("name")?;
    let data = data(from).map_err(|error| format!("metric {name:?}: {error}"))?;
    Ok(Metric { name, description: from.text("description")?, unit: from.text("unit")?, data })
}

fn data(from: Object<'_>) -> Parsed<Option<Data>> {
    let kinds: [(&str, Read<Data>); 5] = [
        ("gauge", |from| Ok(Data::Gauge(Gauge { data_points: from.list(POINTS, number_point)? }))),
        ("sum", sum),
        ("histogram", |from| {
            let (data_points, aggregation_temporality) = (from.list(POINTS, histogram_point)?, temporality(from)?);
            Ok(Data::Histogram(Histogram { data_points, aggregation_temporality }))
        }),
        ("exponentialHistogram", |from| {
            let (data_points, aggregation_temporality) = (from.list(POINTS, exponential_point)?, temporality(from)?);
            Ok(Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality }))
        }),
        ("summary", |from| Ok(Data::Summary(Summary { data_points: from.list(POINTS, summary_point)? }))),
    ];
    let mut data = None;
    for (name, read) in kinds {
        data = from.object(name, read)?.or(data);
    }
    Ok(data)
}

/// The fields of the value of a point or exemplar.
const VALUES: [&str; 2] = ["asDouble", "asInt"];

/// Bytes of the ids of a trace and of a span.
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

const POINTS: &str = "dataPoints";
const START: &str = "startTimeUnixNano";
const TIME: &str = "timeUnixNano";

fn sum(from: Object<'_>) -> Parsed<Data> {
    Ok(Data::Sum(Sum {
        data_points: from.list(POINTS, number_point)?,
        aggregation_temporality: temporality(from)?,
        is_monotonic: from.field("isMonotonic").map_or(Ok(false), |value| boolean("isMonotonic", value))?,
    }))
}

fn temporality(from: Object<'_>) -> Parsed<i32> {
    let name = "aggregationTemporality";
    let Some(Value::String(text)) = from.field(name) else { return from.integer(name) };
    match text.as_str() {
        "AGGREGATION_TEMPORALITY_DELTA" => Ok(Temporality::Delta as i32),
        "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(Temporality::Cumulative as i32),
        "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(0),
        _ => Err(format!("{name} is not known: {text:?}")),
    }
}

fn number_point(from: Object<'_>) -> Parsed<NumberPoint> {
    let value = match from.first(&VALUES) {
        Some((name @ "asInt", value)) => Some(number_point::Value::AsInt(integer(name, value)?)),
        Some((name, value)) => Some(number_point::Value::AsDouble(float(name, value)?)),
        None => None,
    };
    Ok(NumberPoint {
        start_time_unix_nano: from.integer(START)?,
        time_unix_nano: from.integer(TIME)?,
        value,
        exemplars: from.list("exemplars", exemplar)?,
        attributes: attributes(from, "attributes")?,
        flags: from.integer("flags")?,
    })
}

fn histogram_point(from: Object<'_>) -> Parsed<HistogramPoint> {
    let bounds = from.values("explicitBounds")?.iter().map(|bound| float("explicitBounds", bound));
    Ok(HistogramPoint {
        start_time_unix_nano: from.integer(START)?,
        time_unix_nano: from.integer(TIME)?,
        count: from.integer("count")?,
        sum: from.float("sum")?,
        bucket_counts: from.integers("bucketCounts")?,
        explicit_bounds: bounds.collect::<Parsed<_>>()?,
        exemplars: from.list("exemplars", exemplar)?,
        attributes: attributes(from, "attributes")?,
        flags: from.integer("flags")?,
    })
}

fn exponential_point(from: Object<'_>) -> Parsed<ExponentialPoint> {
    let buckets = |from: Object<'_>| -> Parsed<Buckets> {
        Ok(Buckets { offset: from.integer("offset")?, bucket_counts: from.integers("bucketCounts")? })
    };
    Ok(ExponentialPoint {
        attributes: attributes(from, "attributes")?,
        start_time_unix_nano: from.integer(START)?,
        time_unix_nano: from.integer(TIME)?,
        count: from.integer("count")?,
        sum: from.float("sum")?,
        scale: from.integer("scale")?,
        zero_count: from.integer("zeroCount")?,
        positive: from.object("positive", buckets)?,
        negative: from.object("negative", buckets)?,
        flags: from.integer("flags")?,
        exemplars: from.list("exemplars", exemplar)?,
    })
}

fn summary_point(from: Object<'_>) -> Parsed<SummaryPoint> {
    let quantile = |from: Object<'_>| -> Parsed<Quantile> {
        let (quantile, value) = (from.float("quantile")?, from.float("value")?);
        Ok(Quantile { quantile: quantile.unwrap_or_default(), value: value.unwrap_or_default() })
    };
    Ok(SummaryPoint {
        start_time_unix_nano: from.integer(START)?,
        time_unix_nano: from.integer(TIME)?,
        count: from.integer("count")?,
        sum: from.float("sum")?.unwrap_or_default(),
        quantile_values: from.list("quantileValues", quantile)?,
        attributes: attributes(from, "attributes")?,
        flags: from.integer("flags")?,
    })
}

fn exemplar(from: Object<'_>) -> Parsed<Exemplar> {
    let value = match from.first(&VALUES) {
        Some((name @ "asInt", value)) => Some(exemplar::Value::AsInt(integer(name, value)?)),
        Some((name, value)) => Some(exemplar::Value::AsDouble(float(name, value)?)),
        None => None,
    };
    Ok(Exemplar {
        time_unix_nano: from.integer(TIME)?,
        value,
        span_id: from.id("spanId", SPAN_ID_BYTES)?,
        trace_id: from.id("traceId", TRACE_ID_BYTES)?,
        filtered_attributes: attributes(from, "filteredAttributes")?,
    })
}

fn attributes(from: Object<'_>, name: &str) -> Parsed<Vec<KeyValue>> {
    from.list(name, |from| Ok(KeyValue { key: from.text("key")?, value: from.object("value", any_value)? }))
}

fn boolean(name: &str, value: &Value) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| format!("{name} is no boolean"))
}

fn any_value(from: Object<'_>) -> Parsed<AnyValue> {
    let kinds = ["stringValue", "boolValue", "intValue", "doubleValue", "bytesValue", "arrayValue", "kvlistValue"];
    // What is not known is passed over, also in front of what is.
    let Some((name, value)) = from.first(&kinds) else { return Ok(AnyValue::default()) };
    let value = match name {
        "stringValue" => Some(Any::StringValue(from.text(name)?)),
        "boolValue" => Some(Any::BoolValue(boolean(name, value)?)),
        "intValue" => Some(Any::IntValue(integer(name, value)?)),
        "doubleValue" => Some(Any::DoubleValue(float(name, value)?)),
        "bytesValue" => Some(Any::BytesValue(super::attributes::bytes_of_base64(&from.text(name)?)?)),
        "arrayValue" => {
            from.object(name, |list| Ok(ArrayValue { values: list.list("values", any_value)? }))?.map(Any::ArrayValue)
        }
        "kvlistValue" => {
            from.object(name, |list| Ok(KeyValueList { values: attributes(list, "values")? }))?.map(Any::KvlistValue)
        }
        _ => None,
    };
    Ok(AnyValue { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_metric_is_read() {
        let text = r#"{"resourceMetrics": [{"resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "cart"}},
            {"key": "more", "value": {"arrayValue": {"values": [{"intValue": "7"}, {"bytesValue": "aGk="},
                {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 0.5}}]}}, {"boolValue": true}]}}}]},
          "scopeMetrics": [{"scope": {"name": "unknown to us"}, "metrics": [
            {"name": "g", "unit": "s", "gauge": {"dataPoints": [{"timeUnixNano": "5000000000", "asInt": "-3"},
                {"timeUnixNano": 6000000000, "asDouble": "NaN", "flags": 1}]}},
            {"name": "s", "sum": {"isMonotonic": true, "aggregationTemporality": 2,
                "dataPoints": [{"startTimeUnixNano": "1", "asDouble": 2.5, "exemplars": [
                    {"traceId": "0AFF0000000000000000000000000000", "spanId": "", "asDouble": 1,
                        "filteredAttributes": []}]}]}},
            {"name": "h", "histogram": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                "dataPoints": [{"count": "3", "sum": 4, "bucketCounts": ["1", 2], "explicitBounds": [0.5]}]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                {"scale": -1, "zeroCount": 2, "positive": {"offset": -4, "bucketCounts": ["1"]}}]}},
            {"name": "q", "summary": {"dataPoints": [{"quantileValues": [{"quantile": 0.5, "value": 9}]}]}}
          ]}]}]}"#;
        let request = parse(text.as_bytes()).unwrap();
        let resource = &request.resource_metrics[0];
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        assert_eq!(super::super::attributes::text(attributes[1].value.as_ref()), r#"[7,"aGk=",{"a":0.5},true]"#);
        let metrics = &resource.scope_metrics[0].metrics;
        let Some(Data::Gauge(gauge)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!(gauge.data_points[0].value, Some(number_point::Value::AsInt(-3)));
        assert_eq!((gauge.data_points[1].time_unix_nano, gauge.data_points[1].flags), (6_000_000_000, 1));
        let Some(Data::Sum(sum)) = &metrics[1].data else { panic!("{metrics:?}") };
        assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, 2));
        assert_eq!(sum.data_points[0].exemplars[0].trace_id[..2], [10, 255]);
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("{metrics:?}") };
        assert_eq!((histogram.aggregation_temporality, &*histogram.data_points[0].bucket_counts), (2, &[1, 2][..]));
        let Some(Data::ExponentialHistogram(found)) = &metrics[3].data else { panic!("{metrics:?}") };
        assert_eq!((found.aggregation_temporality, found.data_points[0].scale), (1, -1));
        assert_eq!(found.data_points[0].positive.as_ref().unwrap().offset, -4);
        let Some(Data::Summary(summary)) = &metrics[4].data else { panic!("{metrics:?}") };
        assert_eq!(summary.data_points[0].quantile_values[0].value, 9.0);
    }

    #[test]
    fn names_may_be_those_of_the_schema() {
        let text = r#"{"resource_metrics": [{"resource": {"attributes": [
            {"key": "service.name", "value": {"string_value": "cart"}}, {"key": "n", "value": {"int_value": "7"}}]},
          "scope_metrics": [{"metrics": [{"name": "s", "sum": {"is_monotonic": true, "aggregation_temporality": 2,
            "data_points": [{"start_time_unix_nano": "1", "time_unix_nano": "5", "as_double": 2.5}]}}]}]}]}"#;
        let camel = text
            .replace("resource_metrics", "resourceMetrics")
            .replace("string_value", "stringValue")
            .replace("int_value", "intValue")
            .replace("scope_metrics", "scopeMetrics")
            .replace("is_monotonic", "isMonotonic")
            .replace("aggregation_temporality", "aggregationTemporality")
            .replace("data_points", "dataPoints")
            .replace("start_time_unix_nano", "startTimeUnixNano")
            .replace("time_unix_nano", "timeUnixNano")
            .replace("as_double", "asDouble");
        assert!(!camel.contains('_'));
        assert_eq!(parse(text.as_bytes()).unwrap(), parse(camel.as_bytes()).unwrap());
        assert_eq!(parse(b"null").unwrap(), MetricsRequest::default());
    }

    #[test]
    fn fields_of_a_value_that_are_not_known_hide_none_that_is() {
        let value: Value = serde_json::from_str(r#"{"fooValue": 5, "aValue": {}, "intValue": 7}"#).unwrap();
        let found = any_value(Object::of("a value", &value).unwrap()).unwrap();
        assert_eq!(found.value, Some(Any::IntValue(7)));
    }

    #[test]
    fn values_of_another_kind_are_named() {
        for (text, words) in [
            (r#"[]"#, "the request is no object"),
            (r#"{"resourceMetrics": 5}"#, "resourceMetrics is no list"),
            (r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": 5}]}]}]}"#, "name is no text"),
            (
                r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"gauge": {"dataPoints": [{"flags": -1}]}}]}]}]}"#,
                "flags is not a whole number",
            ),
            (
                r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"isMonotonic": "true"}}]}]}]}"#,
                "isMonotonic is no boolean",
            ),
            (
                r#"{"resourceMetrics": [{"resource": {"attributes": [{"key": "a", "value": {"boolValue": "true"}}]}}]}"#,
                "boolValue is no boolean",
            ),
            ("{", "EOF"),
            ("", "it is empty"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    /// A request of one metric called `m`.
    fn of_metric(data: &str) -> Parsed<MetricsRequest> {
        let metric = format!(r#"{{"name": "m", {data}}}"#);
        let text = format!(r#"{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": [{metric}]}}]}}]}}"#);
        parse(text.as_bytes())
    }

    /// They were 0 or left out, and taken: SDKs of JavaScript write numbers that are not finite as null.
    #[test]
    fn numbers_that_are_null_are_refused_by_name() {
        for (data, words) in [
            (r#""gauge": {"dataPoints": [{"asDouble": null}]}"#, r#"metric "m": asDouble is no number: null"#),
            (r#""gauge": {"dataPoints": [{"asInt": null}]}"#, "asInt is not a whole number in its range: null"),
            (r#""gauge": {"dataPoints": [{"timeUnixNano": null}]}"#, "timeUnixNano is not a whole number"),
            (r#""sum": {"dataPoints": [{"exemplars": [{"asDouble": null}]}]}"#, "asDouble is no number: null"),
            (r#""sum": {"isMonotonic": null}"#, "isMonotonic is no boolean"),
            (r#""sum": {"aggregationTemporality": null}"#, "aggregationTemporality is not a whole number"),
            (r#""histogram": {"dataPoints": [{"sum": null}]}"#, "sum is no number: null"),
            (r#""summary": {"dataPoints": [{"quantileValues": [{"value": null}]}]}"#, "value is no number: null"),
            (
                r#""gauge": {"dataPoints": [{"attributes": [{"key": "a", "value": {"doubleValue": null}}]}]}"#,
                "doubleValue is no number: null",
            ),
        ] {
            let error = of_metric(data).unwrap_err();
            assert!(error.contains(words), "{data}: {error}");
        }
        // Where another field has the value, null says nothing; neither does it for what is no number.
        let point = r#"{"asDouble": null, "asInt": "7", "attributes": null, "exemplars": null}"#;
        let request = of_metric(&format!(r#""unit": null, "gauge": {{"dataPoints": [{point}]}}"#)).unwrap();
        let Some(Data::Gauge(gauge)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("{request:?}")
        };
        assert_eq!(gauge.data_points[0].value, Some(number_point::Value::AsInt(7)));
    }

    #[test]
    fn ids_and_enums_are_what_upstream_takes() {
        let exemplar = |id: &str| of_metric(&format!(r#""sum": {{"dataPoints": [{{"exemplars": [{{{id}}}]}}]}}"#));
        for (id, words) in [
            (r#""traceId": "0af7""#, r#"traceId is of 2 bytes, not of 16: "0af7""#),
            (r#""spanId": "0af7651916cd43dd8448eb211c80319c""#, "spanId is of 16 bytes, not of 8"),
            (r#""spanId": "0af765191""#, "spanId is not hexadecimal"),
        ] {
            let error = exemplar(id).unwrap_err();
            assert!(error.contains(words), "{id}: {error}");
        }
        for id in [r#""traceId": "", "spanId": null"#, r#""spanId": "B7AD6B7169203331""#] {
            assert!(exemplar(id).is_ok(), "{id}");
        }
        let error = of_metric(r#""sum": {"aggregationTemporality": "2"}"#).unwrap_err();
        assert!(error.contains(r#"aggregationTemporality is not known: "2""#), "{error}");
    }

    #[test]
    fn what_is_behind_a_request_is_passed_over() {
        assert_eq!(parse(b"{} x").unwrap(), MetricsRequest::default());
        assert_eq!(parse(br#"{"resourceMetrics": [{}]}{"#).unwrap().resource_metrics.len(), 1);
    }
}
