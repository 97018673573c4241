//! Metrics of each kind, and what Prometheus would make of them.

use engine::codec::LabelFault;
use engine::model::Budget;
use proto::otlp::any_value::Value;
use proto::otlp::{
    AnyValue, Buckets, Exemplar, ExponentialHistogram, ExponentialPoint, Gauge, Histogram, HistogramPoint, KeyValue,
    NumberPoint, Quantile, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryPoint, exemplar, number_point,
};
use proto::prometheus_copy::TimeSeries;
use proto::write;

use super::*;
use crate::ingest::intake::{Protocol, take_whole};

/// As [`super::translate`], where there is memory for all that becomes of a request.
fn translate(request: (Encoding, &[u8]), translation: &Translation) -> Result<Vec<u8>, String> {
    let held = Budget::new("--store.memory-limit", 4 << 30).reserve(0).unwrap();
    super::translate(request, translation, held).map(|(translated, _)| translated).map_err(|error| match error {
        Untranslated::Invalid(message) => message,
        Untranslated::NoRoom(error) => panic!("{error:?}"),
    })
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn request(metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            text("service.name", "cart"),
            text("service.namespace", "shop"),
            text("service.instance.id", "i-1"),
            text("k8s.pod.name", "cart-7"),
        ],
    };
    let scope_metrics = vec![ScopeMetrics { metrics }];
    MetricsRequest { resource_metrics: vec![ResourceMetrics { resource: Some(resource), scope_metrics }] }
        .encode_to_vec()
}

/// The series of a translated request, each as one line.
fn lines(translated: &[u8]) -> Vec<String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(message, repeated, tag = "1")]
        series: Vec<TimeSeries>,
    }
    let request = Request::decode(translated).unwrap();
    let line = |series: &TimeSeries| {
        let labels: Vec<String> = series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
        let samples: Vec<String> =
            series.samples.iter().map(|sample| format!("{}@{}", sample.value, sample.timestamp)).collect();
        let more = format!("h{} e{}", series.histograms.len(), series.exemplars.len());
        format!("{} {} {more}", labels.join(","), samples.join(","))
    };
    request.series.iter().map(line).collect()
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), description: String::new(), unit: unit.into(), data: Some(data) }
}

fn number(value: i64, attributes: Vec<KeyValue>) -> NumberPoint {
    NumberPoint {
        time_unix_nano: 5_000_000_000,
        value: Some(number_point::Value::AsInt(value)),
        attributes,
        ..NumberPoint::default()
    }
}

fn sum(points: Vec<NumberPoint>, temporality: Temporality) -> Data {
    Data::Sum(Sum { data_points: points, aggregation_temporality: temporality as i32, is_monotonic: true })
}

#[test]
fn names_carry_units_and_what_the_metric_is() {
    let gauge = || Data::Gauge(Gauge::default());
    let counter = || sum(Vec::new(), Temporality::Cumulative);
    for (name, unit, data, expected) in [
        ("http.server.duration", "ms", gauge(), "http_server_duration_milliseconds"),
        ("requests", "1", counter(), "requests_total"),
        ("system.io", "By", counter(), "system_io_bytes_total"),
        ("system.io.bytes", "By", counter(), "system_io_bytes_total"),
        ("cpu.utilization", "1", gauge(), "cpu_utilization_ratio"),
        ("speed", "m/s", gauge(), "speed_meters_per_second"),
        ("items", "{item}", gauge(), "items"),
        ("2xx__count", "", gauge(), "_2xx_count"),
        ("total.done", "", counter(), "done_total"),
    ] {
        assert_eq!(names::metric_name(&metric(name, unit, data)), expected, "{name} {unit}");
    }
}

#[test]
fn label_names_are_made_valid() {
    for (name, expected) in
        [("http.method", "http_method"), ("1st", "key_1st"), ("__x..y__", "__x_y__"), ("a--b", "a_b"), ("é", "")]
    {
        assert_eq!(names::label_name(name).unwrap_or_default(), expected, "{name}");
    }
}

#[test]
fn values_are_text_as_go_writes_them() {
    use proto::otlp::{ArrayValue, KeyValueList};
    let double = Value::DoubleValue;
    let list = |values: Vec<Value>| {
        let values = values.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
        Value::ArrayValue(ArrayValue { values })
    };
    let map = |values: Vec<KeyValue>| Value::KvlistValue(KeyValueList { values });
    for (value, expected) in [
        (double(3.0), "3"),
        (double(-0.25), "-0.25"),
        (double(1e20), "100000000000000000000"),
        (double(1e21), "1e+21"),
        (double(f64::MAX), "1.7976931348623157e+308"),
        (double(1e-6), "0.000001"),
        (double(1.5e-7), "1.5e-7"),
        (double(f64::INFINITY), "json: unsupported value: +Inf"),
        (double(f64::NEG_INFINITY), "json: unsupported value: -Inf"),
        (double(f64::NAN), "json: unsupported value: NaN"),
        (
            list(vec![
                Value::StringValue("x<&>\u{2028}\n".into()),
                double(1.0),
                double(1e22),
                Value::BytesValue(vec![1]),
            ]),
            r#"["x\u003c\u0026\u003e\u2028\n",1,1e+22,"AQ=="]"#,
        ),
        (list(vec![double(f64::NAN)]), ""),
        // Bytes that are none are nothing to Go.
        (list(vec![Value::BytesValue(Vec::new()), Value::StringValue(String::new())]), r#"[null,""]"#),
        (map(vec![attribute("none", Value::BytesValue(Vec::new()))]), r#"{"none":null}"#),
        (Value::BytesValue(Vec::new()), ""),
        (map(vec![text("z", "é"), attribute("a<", list(vec![])), text("z", "last")]), r#"{"a\u003c":[],"z":"last"}"#),
    ] {
        let value = AnyValue { value: Some(value) };
        assert_eq!(attributes::text(Some(&value)), expected);
    }
}

#[test]
fn floats_of_json_are_read_to_the_last_bit() {
    for text in ["94.86132332529381", "0.1", "12.155817690168593", "1.7976931348623157e308", "5e-324"] {
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"g","gauge":{{"dataPoints":[{{
            "timeUnixNano":"1000000","asDouble":{text}}}]}}}}]}}]}}]}}"#
        );
        let translated = translate((Encoding::Json, body.as_bytes()), &Translation::default()).unwrap();
        let value: f64 = text.parse().unwrap();
        assert_eq!(lines(&translated), [format!("__name__=g {value}@1 h0 e0")]);
    }
}

#[test]
fn a_metric_without_a_name_keeps_its_empty_one_for_which_it_is_refused() {
    let bytes = request(vec![metric("_", "", sum(vec![number(7, Vec::new())], Temporality::Cumulative))]);
    let translated = translate((Encoding::Protobuf, &bytes), &Translation::default()).unwrap();
    assert!(lines(&translated).iter().any(|line| line.starts_with("__name__=total,")), "{:?}", lines(&translated));
    let bytes = request(vec![metric("_", "", Data::Gauge(Gauge { data_points: vec![number(7, Vec::new())] }))]);
    let taken = take_whole(Protocol::V1, translate((Encoding::Protobuf, &bytes), &Translation::default()).unwrap());
    let faults: Vec<_> = (0..2).filter_map(|series| LabelFault::of(taken.batch.labels(series).iter())).collect();
    assert_eq!((faults, taken.counts.series), (vec![LabelFault::Empty], 2));
}

#[test]
fn numbers_get_their_resource_and_target_info_the_rest_of_it() {
    let point = number(7, vec![text("b.c", "2"), text("b-c", "1"), attribute("ok", Value::BoolValue(true))]);
    let bytes = request(vec![metric("jobs", "", sum(vec![point], Temporality::Cumulative))]);
    let translation = Translation { promoted: vec!["k8s.pod.name".into()], ..Translation::default() };
    assert_eq!(
        lines(&translate((Encoding::Protobuf, &bytes), &translation).unwrap()),
        [
            "__name__=jobs_total,b_c=1;2,instance=i-1,job=shop/cart,k8s_pod_name=cart-7,ok=true 7@5000 h0 e0",
            "__name__=target_info,instance=i-1,job=shop/cart,k8s_pod_name=cart-7 1@5000 h0 e0",
        ]
    );
    let without = Translation { target_info: TargetInfo::LeftOut, promoted: Vec::new() };
    assert_eq!(lines(&translate((Encoding::Protobuf, &bytes), &without).unwrap()).len(), 1);
}

/// As upstream counts attributes.
#[test]
fn a_resource_has_target_info_when_it_has_more_attributes_than_kinds_that_identify_it() {
    let lines_of = |attributes: Vec<KeyValue>| {
        let gauge = Data::Gauge(Gauge { data_points: vec![number(7, Vec::new())] });
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric("g", "", gauge)] }];
        let resource = Some(Resource { attributes });
        let request = MetricsRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] };
        lines(&translate((Encoding::Protobuf, &request.encode_to_vec()), &Translation::default()).unwrap())
    };
    let name = || text("service.name", "cart");
    let (series, info) = ("__name__=g,job=cart 7@5000 h0 e0", "__name__=target_info,job=cart 1@5000 h0 e0");
    assert_eq!(lines_of(vec![name()]), [series]);
    assert_eq!(lines_of(vec![name(), text("service.name", "other")]), [series, info]);
    assert_eq!(lines_of(vec![text("pod", "a")]), ["__name__=g 7@5000 h0 e0"], "nothing identifies it");
    assert_eq!(lines_of(Vec::new()), ["__name__=g 7@5000 h0 e0"]);
}

/// One attribute in Latin-1 lost all that the request brought.
#[test]
fn text_that_is_not_utf_8_is_kept_with_replacements() {
    let mut metrics = vec![metric("ok", "", Data::Gauge(Gauge { data_points: vec![number(1, Vec::new())] }))];
    let list = proto::otlp::ArrayValue { values: vec![AnyValue { value: Some(Value::StringValue("XX".into())) }] };
    let attributes = vec![text("q", "XXab"), attribute("list", Value::ArrayValue(list)), text("nXX", "1")];
    let point = number(2, attributes);
    metrics.push(Metric {
        description: "A XX.".into(),
        ..metric("bXX", "", Data::Gauge(Gauge { data_points: vec![point] }))
    });
    let mut broken = request(metrics);
    while let Some(at) = broken.windows(2).position(|pair| pair == b"XX") {
        broken[at..at + 2].copy_from_slice(b"\xe9\xff");
    }
    let without = Translation { target_info: TargetInfo::LeftOut, promoted: Vec::new() };
    let translated = translate((Encoding::Protobuf, &broken), &without).unwrap();
    let found: Vec<String> =
        lines(&translated).iter().map(|line| line.replace(",instance=i-1,job=shop/cart", "")).collect();
    let replaced = "\u{fffd}\u{fffd}";
    let labels = format!("__name__=b,list=[\"{replaced}\"],n_=1,q={replaced}ab");
    assert_eq!(found, [format!("{labels} 2@5000 h0 e0"), "__name__=ok 1@5000 h0 e0".to_owned()]);
    let help = format!("A {replaced}.");
    assert_eq!(told(&translated).0, [format!(r#"b 2 {help:?} """#), r#"ok 2 "" """#.to_owned()]);
    // What else is wrong is told.
    let cut = &broken[..broken.len() - 1];
    assert!(translate((Encoding::Protobuf, cut), &without).unwrap_err().contains("cannot decode the request"));
    // It takes memory.
    let memory = Budget::new("--store.memory-limit", 1 << 20);
    let held = memory.reserve((1 << 20) - broken.len() as u64).unwrap();
    let refused = super::translate((Encoding::Protobuf, &broken), &without, held);
    assert!(matches!(refused, Err(Untranslated::NoRoom(_))));
    assert_eq!(memory.usage().used, 0);
}

#[test]
fn text_of_json_that_is_not_utf_8_is_kept_with_replacements() {
    let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[{
        "timeUnixNano":"1000000","asInt":7,"attributes":[{"key":"q","value":{"stringValue":"XX"}}]}]}}]}]}]}"#;
    let broken: Vec<u8> = body.iter().map(|byte| if *byte == b'X' { 0xff } else { *byte }).collect();
    let translated = translate((Encoding::Json, &broken), &Translation::default()).unwrap();
    assert_eq!(lines(&translated), ["__name__=g,q=\u{fffd}\u{fffd} 7@1 h0 e0"]);
}

#[test]
fn histograms_and_summaries_become_series_with_cumulative_buckets() {
    let exemplar = Exemplar { value: Some(exemplar::Value::AsDouble(0.7)), ..Exemplar::default() };
    let point = HistogramPoint {
        time_unix_nano: 1_000_000,
        count: 6,
        sum: Some(2.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        exemplars: vec![exemplar],
        ..HistogramPoint::default()
    };
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: Temporality::Cumulative as i32 };
    let quantile_values = vec![Quantile { quantile: 0.99, value: 3.0 }];
    let point = SummaryPoint { count: 2, sum: 9.0, quantile_values, flags: 1, ..SummaryPoint::default() };
    let bytes = request(vec![
        metric("h", "s", Data::Histogram(histogram)),
        metric("s", "", Data::Summary(Summary { data_points: vec![point] })),
    ]);
    let without = Translation { target_info: TargetInfo::LeftOut, promoted: Vec::new() };
    let found: Vec<String> = lines(&translate((Encoding::Protobuf, &bytes), &without).unwrap())
        .iter()
        .map(|line| line.replace(",instance=i-1,job=shop/cart", ""))
        .collect();
    assert_eq!(
        found,
        [
            "__name__=h_seconds_bucket,le=+Inf 6@1 h0 e0",
            "__name__=h_seconds_bucket,le=0.5 1@1 h0 e0",
            "__name__=h_seconds_bucket,le=1 3@1 h0 e1",
            "__name__=h_seconds_count 6@1 h0 e0",
            "__name__=h_seconds_sum 2.5@1 h0 e0",
            "__name__=s,quantile=0.99 NaN@0 h0 e0",
            "__name__=s_count NaN@0 h0 e0",
            "__name__=s_sum NaN@0 h0 e0",
        ]
    );
}

#[test]
fn exponential_buckets_become_spans() {
    let buckets = |offset, counts: &[u64]| Some(Buckets { offset, bucket_counts: counts.to_vec() });
    let point = |scale, positive| ExponentialPoint { scale, positive, count: 9, ..ExponentialPoint::default() };
    let native = exponential::to_native(&point(0, buckets(-2, &[1, 0, 0, 4, 0, 0, 0, 2]))).unwrap();
    assert_eq!(native.positive.spans, [(-1, 4), (3, 1)]);
    assert_eq!(native.positive.deltas, [1, -1, 0, 4, -2]);
    let native = exponential::to_native(&point(9, buckets(0, &[1, 2, 3]))).unwrap();
    assert_eq!((native.schema, native.positive.spans, native.positive.deltas), (8, vec![(1, 2)], vec![3, 0]));
    assert!(exponential::to_native(&point(-5, None)).unwrap_err().contains("Scale must be >= -4"));
    let data = ExponentialHistogram {
        data_points: vec![point(0, buckets(0, &[9]))],
        aggregation_temporality: Temporality::Cumulative as i32,
    };
    let bytes = request(vec![metric("e", "", Data::ExponentialHistogram(data))]);
    let without = Translation { target_info: TargetInfo::LeftOut, promoted: Vec::new() };
    assert_eq!(
        lines(&translate((Encoding::Protobuf, &bytes), &without).unwrap()),
        ["__name__=e,instance=i-1,job=shop/cart  h1 e0"]
    );
}

#[test]
fn deltas_and_empty_metrics_are_refused_by_name() {
    let delta = request(vec![metric("d", "", sum(vec![number(1, Vec::new())], Temporality::Delta))]);
    let error = translate((Encoding::Protobuf, &delta), &Translation::default()).unwrap_err();
    assert!(error.contains("invalid temporality for metric \"d\""), "{error}");
    let empty = request(vec![metric("g", "", Data::Gauge(Gauge::default()))]);
    assert!(
        translate((Encoding::Protobuf, &empty), &Translation::default())
            .unwrap_err()
            .contains("empty data points. g is dropped")
    );
    assert!(translate((Encoding::Protobuf, &[0x0a, 5, 1]), &Translation::default()).is_err());
}

#[test]
fn what_is_translated_is_a_request_that_the_scanner_reads() {
    struct Count(usize);
    impl<'a> write::Sink<'a> for Count {
        fn series(&mut self, _: &write::LabelPairs<'a>) {
            self.0 += 1;
        }
        fn sample(&mut self, _: write::Sample) {}
        fn histogram(&mut self, _: write::Histogram) {}
        fn exemplar(&mut self, _: &write::LabelPairs<'a>, _: write::Exemplar) {}
        fn metadata(&mut self, _: write::Metadata<'a>) {}
    }
    let bytes = request(vec![metric("jobs", "", sum(vec![number(7, Vec::new())], Temporality::Cumulative))]);
    let mut count = Count(0);
    write::scan_v1(&translate((Encoding::Protobuf, &bytes), &Translation::default()).unwrap(), &mut count).unwrap();
    assert_eq!(count.0, 2);
}

/// A series for each point, of which each has the long attribute.
fn long_attribute(points: usize) -> Vec<u8> {
    let point = |at: usize| NumberPoint {
        time_unix_nano: 1_000_000,
        attributes: vec![text("at", &at.to_string())],
        ..NumberPoint::default()
    };
    let gauge = Gauge { data_points: (0..points).map(point).collect() };
    let resource = Resource { attributes: vec![text("service.name", &"v".repeat(1 << 20))] };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric("m", "", Data::Gauge(gauge))] }];
    MetricsRequest { resource_metrics: vec![ResourceMetrics { resource: Some(resource), scope_metrics }] }
        .encode_to_vec()
}

#[test]
fn what_would_come_to_too_many_bytes_of_labels_is_refused_however_short_the_request_is() {
    let translated = |points| translate((Encoding::Protobuf, &long_attribute(points)), &Translation::default());
    assert_eq!(lines(&translated(10).unwrap()).len(), 10);
    let error = translated(5000).unwrap_err();
    assert!(error.contains("more than 128 MiB"), "{error}");
}

#[test]
fn exemplars_of_a_series_are_in_the_order_of_time_and_then_of_value() {
    let exemplar = |(time, value): (u64, f64)| Exemplar {
        time_unix_nano: time * 1_000_000,
        value: Some(exemplar::Value::AsDouble(value)),
        ..Exemplar::default()
    };
    let exemplars = [(3, 1.0), (1, 7.0), (2, 1.0), (1, -2.0)];
    let sum = Sum {
        data_points: vec![NumberPoint { exemplars: exemplars.map(exemplar).to_vec(), ..NumberPoint::default() }],
        aggregation_temporality: Temporality::Cumulative as i32,
        is_monotonic: false,
    };
    let translated = translate(
        (Encoding::Protobuf, &request(vec![metric("m", "", Data::Sum(sum))])),
        &Translation { target_info: TargetInfo::LeftOut, promoted: Vec::new() },
    );
    struct Found(Vec<(i64, f64)>);
    impl<'a> write::Sink<'a> for Found {
        fn series(&mut self, _: &write::LabelPairs<'a>) {}
        fn sample(&mut self, _: write::Sample) {}
        fn histogram(&mut self, _: write::Histogram) {}
        fn exemplar(&mut self, _: &write::LabelPairs<'a>, exemplar: write::Exemplar) {
            self.0.push((exemplar.time, exemplar.value));
        }
        fn metadata(&mut self, _: write::Metadata<'a>) {}
    }
    let mut found = Found(Vec::new());
    write::scan_v1(&translated.unwrap(), &mut found).unwrap();
    assert_eq!(found.0, [(1, -2.0), (1, 7.0), (2, 1.0), (3, 1.0)]);
}

/// What a translated request says of metric families, and the times of each of its series in their order.
fn told(translated: &[u8]) -> (Vec<String>, Vec<Vec<i64>>) {
    #[derive(Default)]
    struct Told {
        families: Vec<String>,
        times: Vec<Vec<i64>>,
    }
    impl<'a> write::Sink<'a> for Told {
        fn series(&mut self, _: &write::LabelPairs<'a>) {
            self.times.push(Vec::new());
        }
        fn sample(&mut self, sample: write::Sample) {
            self.times.last_mut().unwrap().push(sample.time);
        }
        fn histogram(&mut self, histogram: write::Histogram) {
            self.times.last_mut().unwrap().push(histogram.time);
        }
        fn exemplar(&mut self, _: &write::LabelPairs<'a>, _: write::Exemplar) {}
        fn metadata(&mut self, said: write::Metadata<'a>) {
            let [name, help, unit] = [said.family, said.help, said.unit].map(|text| std::str::from_utf8(text).unwrap());
            self.families.push(format!("{name} {} {help:?} {unit:?}", said.kind));
        }
    }
    let mut told = Told::default();
    write::scan_v1(translated, &mut told).unwrap();
    (told.families, told.times)
}

fn exponential(points: Vec<ExponentialPoint>) -> Data {
    let aggregation_temporality = Temporality::Cumulative as i32;
    Data::ExponentialHistogram(ExponentialHistogram { data_points: points, aggregation_temporality })
}

/// It was dropped.
#[test]
fn what_a_metric_is_and_means_is_said_of_its_family() {
    let said = |help: &str, (name, unit): (&str, &str), data: Data| Metric {
        description: help.into(),
        ..metric(name, unit, data)
    };
    let points = || vec![number(1, Vec::new())];
    let gauge = || Data::Gauge(Gauge { data_points: points() });
    let aggregation_temporality = Temporality::Cumulative as i32;
    let level = Sum { data_points: points(), aggregation_temporality, is_monotonic: false };
    let histogram = Histogram { data_points: vec![HistogramPoint::default()], aggregation_temporality };
    let bytes = request(vec![
        said("Jobs done.", ("jobs", "1"), sum(points(), Temporality::Cumulative)),
        said("", ("level", "By"), Data::Sum(level)),
        said("Once.", ("speed", "m/s"), gauge()),
        said("How fast.", ("speed", "m/s"), gauge()),
        said("How long.", ("h", "s"), Data::Histogram(histogram)),
        said("", ("e", "{item}"), exponential(vec![ExponentialPoint::default()])),
        said("", ("s", ""), Data::Summary(Summary { data_points: vec![SummaryPoint::default()] })),
        // A name that becomes none.
        said("Nothing.", ("_", ""), gauge()),
    ]);
    let translated = translate((Encoding::Protobuf, &bytes), &Translation::default()).unwrap();
    assert_eq!(
        told(&translated).0,
        [
            r#"e 3 "" """#,
            r#"h_seconds 3 "How long." "seconds""#,
            r#"jobs_total 1 "Jobs done." """#,
            r#"level_bytes 2 "" "bytes""#,
            r#"s 5 "" """#,
            r#"speed_meters_per_second 2 "How fast." "meters_per_second""#,
            r#"target_info 2 "Target metadata" """#,
        ]
    );
}

#[test]
fn units_are_those_of_prometheus() {
    let units =
        [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("1/s", "per_second"), ("{a}/m", "per_minute")];
    for (unit, expected) in units.into_iter().chain([("requests", "requests"), ("a b", "a_b"), ("", "")]) {
        assert_eq!(names::unit_name(unit), expected, "{unit}");
    }
}

/// The later of them seemed to go back in time, as `target_info` of one resource does that comes twice.
#[test]
fn samples_of_a_series_are_in_the_order_of_time_in_whichever_order_resources_come() {
    let of = |time: u64| {
        let time_unix_nano = time * 1_000_000;
        let point = NumberPoint { time_unix_nano, ..number(1, Vec::new()) };
        let native = ExponentialPoint { time_unix_nano, ..ExponentialPoint::default() };
        request(vec![
            metric("jobs", "", sum(vec![point], Temporality::Cumulative)),
            metric("e", "", exponential(vec![native])),
        ])
    };
    // Encoded requests behind each other are one.
    let bytes = [of(9), of(5), of(7)].concat();
    let translated = translate((Encoding::Protobuf, &bytes), &Translation::default()).unwrap();
    assert_eq!(told(&translated).1, [[5, 7, 9]; 3]);
}

/// So many points of a histogram of fifteen bounds, each with ten attributes of its own.
fn wide_histogram(points: usize) -> Vec<u8> {
    let point = |at: usize| HistogramPoint {
        time_unix_nano: 1_000_000,
        attributes: (0..10).map(|name| text(&format!("attribute_{name}"), &format!("value-{name}-{at:08}"))).collect(),
        bucket_counts: vec![1; 16],
        explicit_bounds: (0..15).map(f64::from).collect(),
        ..HistogramPoint::default()
    };
    let data_points = (0..points).map(point).collect();
    let aggregation_temporality = Temporality::Cumulative as i32;
    request(vec![metric("h", "", Data::Histogram(Histogram { data_points, aggregation_temporality }))])
}

/// Every bucket has all attributes: a request once became several times as much as was counted.
#[test]
fn series_are_counted_with_what_they_take_and_refused_where_there_is_no_memory() {
    let memory = Budget::new("--store.memory-limit", 64 << 20);
    let request = wide_histogram(100);
    let encoding = Encoding::Protobuf;
    let held = memory.reserve(request.len() as u64 + weight((encoding, &request))).unwrap();
    let before = held.bytes();
    let (translated, held) = super::translate((encoding, &request), &Translation::default(), held).unwrap();
    let (series, more) = (lines(&translated).len() as u64, held.bytes() - before);
    assert_eq!(series, 1 + 100 * 17);
    // Labels while they are made, and in the request.
    let encoded = translated.len() as u64;
    assert!((2 * encoded..4 * encoded).contains(&more), "{more} for {encoded}");
    drop(held);
    let held = memory.reserve(63 << 20).unwrap();
    let refused = super::translate((encoding, &request), &Translation::default(), held);
    let Err(Untranslated::NoRoom(refused)) = refused else { panic!("there is no memory") };
    assert!(refused.bytes > memory.limit() && refused.error.message().contains("--store.memory-limit"), "{refused:?}");
    assert_eq!(memory.usage().used, 0);
}

#[test]
fn whatever_makes_a_request_more_than_it_was_is_counted() {
    let text_of = |len: usize| Value::StringValue("<".repeat(len));
    let list = Value::ArrayValue(proto::otlp::ArrayValue { values: vec![AnyValue { value: Some(text_of(200_000)) }] });
    let gauge = |attributes: Vec<KeyValue>| Data::Gauge(Gauge { data_points: vec![number(1, attributes)] });
    let many: Vec<KeyValue> = (0..20_000).map(|at| text(&format!("a{at}"), "")).collect();
    let dense = Buckets { offset: 0, bucket_counts: vec![1; 100_000] };
    let point = ExponentialPoint { positive: Some(dense), ..ExponentialPoint::default() };
    let samples = Data::Gauge(Gauge { data_points: vec![number(1, Vec::new()); 50_000] });
    let exemplars = vec![Exemplar { trace_id: vec![1; 300_000], ..Exemplar::default() }];
    let traced = sum(vec![NumberPoint { exemplars, ..NumberPoint::default() }], Temporality::Cumulative);
    let nothing = || Data::Summary(Summary::default());
    let families: Vec<Metric> = (0..20_000).map(|at| metric(&format!("m{at}"), "", nothing())).collect();
    let requests = [
        vec![metric("list", "", gauge(vec![attribute("list", list)]))],
        vec![metric("text", "", gauge(vec![attribute("text", text_of(1 << 20))]))],
        vec![metric("many", "", gauge(many))],
        vec![metric("native", "", exponential(vec![point]))],
        vec![metric("samples", "", samples)],
        vec![metric("traced", "", traced)],
        families,
    ];
    for (at, metrics) in requests.into_iter().enumerate() {
        let memory = Budget::new("--store.memory-limit", 2 << 20);
        let held = memory.reserve(0).unwrap();
        let refused = super::translate((Encoding::Protobuf, &request(metrics)), &Translation::default(), held);
        assert!(matches!(refused, Err(Untranslated::NoRoom(_))), "{at}");
        assert_eq!(memory.usage().used, 0, "{at}");
    }
}
