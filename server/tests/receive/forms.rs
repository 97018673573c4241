//! What receivers take besides remote write in snappy: OTLP in both encodings, zstd, exemplars; and what
//! their readers get of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prost::Message;
use proto::otlp::any_value::Value;
use proto::otlp::metric::Data;
use proto::otlp::{
    AnyValue, Exemplar, Gauge, Histogram, HistogramPoint, KeyValue, Metric, MetricsRequest, NumberPoint, Resource,
    ResourceMetrics, ScopeMetrics, Sum, Temporality, exemplar, number_point,
};
use proto::thanos::exemplars_client::ExemplarsClient;
use proto::thanos::metadata_client::MetadataClient;
use proto::thanos::{
    ExemplarData, ExemplarsRequest, Meta, MetricMetadataRequest, Series, exemplars_response, metric_metadata_response,
};
use proto::write_v2;

use crate::support::write;
use crate::support::write::{Answer, EXTERNAL, NOW, body, float_series, labels_text, post, samples, start, stored};
use crate::support::{Uru, run};

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value) }
}

fn nanoseconds(milliseconds: i64) -> u64 {
    milliseconds as u64 * 1_000_000
}

/// A counter, a gauge and a histogram with an exemplar, of one service.
fn otlp(time: i64) -> MetricsRequest {
    let number = |value| NumberPoint {
        time_unix_nano: nanoseconds(time),
        value: Some(value),
        attributes: vec![attribute("http.method", "GET")],
        ..NumberPoint::default()
    };
    let metric = |name: &str, unit: &str, data| Metric {
        name: name.into(),
        unit: unit.into(),
        data: Some(data),
        ..Metric::default()
    };
    let temporality = Temporality::Cumulative as i32;
    let observed = Exemplar {
        time_unix_nano: nanoseconds(time),
        value: Some(exemplar::Value::AsDouble(0.3)),
        trace_id: vec![0xab; 16],
        ..Exemplar::default()
    };
    let point = HistogramPoint {
        time_unix_nano: nanoseconds(time),
        count: 3,
        sum: Some(1.5),
        bucket_counts: vec![2, 1],
        explicit_bounds: vec![0.5],
        exemplars: vec![observed],
        ..HistogramPoint::default()
    };
    let metrics = vec![
        metric("http.requests", "", {
            let data_points = vec![number(number_point::Value::AsInt(7))];
            Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic: true })
        }),
        metric("queue", "By", Data::Gauge(Gauge { data_points: vec![number(number_point::Value::AsDouble(0.5))] })),
        metric("latency", "s", {
            Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: temporality })
        }),
    ];
    let attributes = vec![attribute("service.name", "cart"), attribute("pod", "cart-1")];
    let resource = Some(Resource { attributes });
    MetricsRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics: vec![ScopeMetrics { metrics }] }],
    }
}

/// The same in JSON, as exporters write it.
fn otlp_json(time: i64) -> String {
    let time = format!("\"timeUnixNano\": \"{}\"", nanoseconds(time));
    let method = r#""attributes": [{"key": "http.method", "value": {"stringValue": "GET"}}]"#;
    let trace = "ab".repeat(16);
    format!(
        r#"{{"resourceMetrics": [{{
            "resource": {{"attributes": [{{"key": "service.name", "value": {{"stringValue": "cart"}}}},
                {{"key": "pod", "value": {{"stringValue": "cart-1"}}}}]}},
            "scopeMetrics": [{{"scope": {{}}, "metrics": [
                {{"name": "http.requests", "sum": {{"aggregationTemporality": 2, "isMonotonic": true,
                    "dataPoints": [{{{time}, "asInt": "7", {method}}}]}}}},
                {{"name": "queue", "unit": "By", "gauge": {{"dataPoints": [{{{time}, "asDouble": 0.5, {method}}}]}}}},
                {{"name": "latency", "unit": "s", "histogram": {{"aggregationTemporality": 2, "dataPoints": [
                    {{{time}, "count": "3", "sum": 1.5, "bucketCounts": ["2", "1"], "explicitBounds": [0.5],
                      "exemplars": [{{{time}, "asDouble": 0.3, "traceId": "{trace}"}}]}}]}}}}
            ]}}]}}]}}"#
    )
}

const EXPECTED: [&str; 7] = [
    r#"__name__="http_requests_total",http_method="GET",job="cart" 7"#,
    r#"__name__="latency_seconds_bucket",job="cart",le="+Inf" 3"#,
    r#"__name__="latency_seconds_bucket",job="cart",le="0.5" 2"#,
    r#"__name__="latency_seconds_count",job="cart" 3"#,
    r#"__name__="latency_seconds_sum",job="cart" 1.5"#,
    r#"__name__="queue_bytes",http_method="GET",job="cart" 0.5"#,
    r#"__name__="target_info",job="cart",pod="cart-1" 1"#,
];

/// Each series with its only value.
fn lines(found: &[Series], time: i64) -> Vec<String> {
    let found = samples(found, &EXTERNAL);
    found.into_iter().map(|(labels, samples)| format!("{labels} {}", f64::from_bits(samples[&time]))).collect()
}

fn send_otlp(uru: &Uru, content: &str, encoding: Option<&str>, body: &[u8]) -> Answer {
    let mut headers = vec![("Content-Type", content)];
    headers.extend(encoding.map(|encoding| ("Content-Encoding", encoding)));
    post(&uru.write_address(), "/api/v1/otlp", &headers, body).unwrap()
}

/// What the Exemplars API says of `query`.
fn exemplars(uru: &Uru, query: &str, (start, end): (i64, i64)) -> Vec<ExemplarData> {
    run(async {
        let mut client = ExemplarsClient::new(uru.connect().await);
        let request = ExemplarsRequest { query: query.into(), start, end, ..ExemplarsRequest::default() };
        let mut stream = client.exemplars(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(frame) = stream.message().await.unwrap() {
            match frame.result {
                Some(exemplars_response::Result::Data(data)) => found.push(data),
                other => panic!("{other:?}"),
            }
        }
        found
    })
}

#[test]
fn otlp_in_both_encodings_is_kept_as_prometheus_would() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.max-exemplars=100"]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&otlp(NOW + 1000).encode_to_vec()).unwrap();
    let packed = packed.finish().unwrap();
    let protobuf = "application/x-protobuf";
    for (time, answer) in [
        (NOW + 250, send_otlp(&uru, protobuf, None, &otlp(NOW + 250).encode_to_vec())),
        (NOW + 1000, send_otlp(&uru, protobuf, Some("gzip"), &packed)),
        (NOW + 2000, send_otlp(&uru, "application/json; charset=utf-8", None, otlp_json(NOW + 2000).as_bytes())),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(lines(&stored(&uru, ".+"), time), EXPECTED);
    }
    let found = exemplars(&uru, "latency_seconds_bucket", (NOW, NOW + 2000));
    let labels = &found[0].series_labels.as_ref().unwrap().labels;
    assert_eq!((found.len(), labels_text(labels, &EXTERNAL)), {
        (1, r#"__name__="latency_seconds_bucket",job="cart",le="0.5""#.to_owned())
    });
    assert_eq!(found[0].exemplars.len(), 3);
    let oldest = "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds{tenant=\"default-tenant\"}";
    assert_eq!(uru.metric(oldest), Some(NOW as f64 / 1000.0 + 0.25));
    // As SDKs of JavaScript write what is not finite: it was taken for 0.
    let null = otlp_json(NOW + 3000).replace("\"asDouble\": 0.5", "\"asDouble\": null");
    let json = "application/json";
    for (content, body) in [(protobuf, "{}"), (json, "{"), ("text/plain", "{}"), (json, null.as_str())] {
        assert_eq!(send_otlp(&uru, content, None, body.as_bytes()).status, 400, "{content} {body}");
    }
    assert_eq!(send_otlp(&uru, protobuf, Some("br"), &packed).status, 400);
}

#[test]
fn a_counter_begins_with_a_zero_where_it_began_when_the_feature_is_on() {
    let began = format!("\"asInt\": \"7\", \"startTimeUnixNano\": \"{}\"", nanoseconds(NOW - 500));
    for (flags, expected) in [
        (&[][..], vec![(NOW, 7.0), (NOW + 1000, 7.0)]),
        (&["--enable-feature=created-timestamp-zero-ingestion"], vec![(NOW - 500, 0.0), (NOW, 7.0), (NOW + 1000, 7.0)]),
    ] {
        let data = tempfile::tempdir().unwrap();
        let uru = start(data.path(), flags);
        for time in [NOW, NOW + 1000] {
            let body = otlp_json(time).replace("\"asInt\": \"7\"", &began);
            assert_eq!(send_otlp(&uru, "application/json", None, body.as_bytes()).status, 200);
        }
        let found = samples(&stored(&uru, "http_requests_total"), &EXTERNAL);
        let found = found.into_values().flatten().map(|(time, bits)| (time, f64::from_bits(bits)));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn of_a_version_2_request_what_refers_to_no_symbol_is_refused_and_the_rest_is_kept() {
    let symbols = ["", "__name__", "up", "job", "a", "down", "gone"].map(str::to_owned).to_vec();
    let of = |labels_refs: &[u32], exemplar_refs: &[u32]| write_v2::TimeSeries {
        labels_refs: labels_refs.to_vec(),
        samples: vec![write_v2::Sample { value: 1.0, timestamp: NOW, start_timestamp: 0 }],
        exemplars: vec![write_v2::Exemplar { labels_refs: exemplar_refs.to_vec(), value: 1.0, timestamp: NOW }],
        ..write_v2::TimeSeries::default()
    };
    // A name without a value, no such symbol, and good series: of one the exemplar has a name alone, of one the
    // help is no symbol.
    let mut helpless = of(&[1, 6], &[3, 4]);
    helpless.metadata = Some(write_v2::Metadata { help_ref: 99, ..write_v2::Metadata::default() });
    let timeseries = vec![of(&[1, 2, 3], &[]), of(&[1, 99], &[]), of(&[1, 5, 3, 4], &[3]), helpless];
    let request = write_v2::Request { symbols, timeseries };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    let content = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let headers = [("Content-Type", content), ("X-Prometheus-Remote-Write-Version", "2.0.0")];
    let (kept, routed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uru = start(kept.path(), &["--tsdb.max-exemplars=10"]);
    let rings = format!("--receive.hashrings=[{{\"endpoints\": [\"{}\"]}}]", uru.grpc);
    let router = start(routed.path(), &[&*rings]);
    // Nobody tells a router how much was kept.
    for (to, samples_written) in [(&router, None), (&uru, Some("2"))] {
        let answer = post(&to.write_address(), "/api/v1/receive", &headers, &body).unwrap();
        let told = answer.headers.get("x-prometheus-remote-write-samples-written");
        assert_eq!((answer.status, told.map(String::as_str)), (400, samples_written));
        assert!(answer.body.contains("add 4 series: labels_refs name what is no symbol"), "{}", answer.body);
        let found: Vec<String> =
            stored(&uru, ".+").iter().map(|series| labels_text(&series.labels, &EXTERNAL)).collect();
        assert_eq!(found, [r#"__name__="down",job="a""#, r#"__name__="gone""#]);
    }
}

#[test]
fn bodies_in_zstd_are_taken() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let series = [float_series(&[("__name__", "packed")], &[(NOW, 1.0), (NOW + 1, 2.0)])];
    let request = write::WriteRequest { timeseries: series.to_vec(), ..Default::default() }.encode_to_vec();
    let packed = ruzstd::encoding::compress_to_vec(&*request, ruzstd::encoding::CompressionLevel::Fastest);
    let headers = [("Content-Encoding", "zstd"), ("Content-Type", "application/x-protobuf")];
    let answer = post(&uru.write_address(), "/api/v1/receive", &headers, &packed).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = samples(&stored(&uru, "packed"), &EXTERNAL);
    assert_eq!(found["__name__=\"packed\""].len(), 2);
    let cut = post(&uru.write_address(), "/api/v1/receive", &headers, &packed[..packed.len() / 2]).unwrap();
    assert_eq!(cut.status, 400);
    // Thanos takes snappy under every name.
    let later = [float_series(&[("__name__", "packed")], &[(NOW + 2, 3.0)])];
    let headers = [("Content-Encoding", "gzip"), ("Content-Type", "application/x-protobuf")];
    let answer = post(&uru.write_address(), "/api/v1/receive", &headers, &body(&later)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_path_that_is_written_oddly_leads_to_the_one_that_is_served() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let bytes = body(&[float_series(&[("__name__", "slash")], &[(NOW, 1.0)])]);
    for path in ["/api/v1/receive/", "//api/v1/receive"] {
        let answer = post(&uru.write_address(), path, &[], &bytes).unwrap();
        assert_eq!((answer.status, answer.headers["location"].as_str()), (307, "/api/v1/receive"), "{path}");
    }
    assert_eq!(post(&uru.write_address(), "/api/v1/nothing", &[], &bytes).unwrap().status, 404);
}

#[test]
fn series_that_only_look_as_every_sender_writes_them_are_kept_like_all_others() {
    use proto::write::{Sample, put_label, put_message, put_sample};
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let label = |name: &str| {
        let mut bytes = Vec::new();
        put_label(&mut bytes, b"__name__", name.as_bytes());
        bytes
    };
    let sample = |time: i64| {
        let mut bytes = Vec::new();
        put_sample(&mut bytes, Sample { time, value: 1.0, start: 0 });
        bytes
    };
    let send = |series: &[Vec<u8>]| {
        let mut request = Vec::new();
        series.iter().for_each(|series| put_message(&mut request, 1, series));
        let packed = snap::raw::Encoder::new().compress_vec(&request).unwrap();
        let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
        post(&uru.write_address(), "/api/v1/receive", &headers, &packed).unwrap()
    };
    for time in [NOW, NOW + 10] {
        // The value of a label before its name, and the time of a first sample before its value.
        let (mut odd_label, mut time_first) = (Vec::new(), sample(time));
        put_message(&mut odd_label, 1, b"\x12\x08odd_name\x0a\x08__name__");
        let content = time_first.split_off(2);
        let (value, time_field) = content.split_at(9);
        time_first.extend([time_field, value].concat());
        let two = [label("odd_samples"), time_first, sample(time + 1)].concat();
        let answer = send(&[[label("odd_plain"), sample(time)].concat(), [odd_label, sample(time)].concat(), two]);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let found = samples(&stored(&uru, "odd.*"), &EXTERNAL);
    let counts: Vec<_> = found.iter().map(|(labels, samples)| (labels.as_str(), samples.len())).collect();
    assert_eq!(counts, [("__name__=\"odd_name\"", 2), ("__name__=\"odd_plain\"", 2), ("__name__=\"odd_samples\"", 4),]);
    let behind = [label("odd_order"), sample(NOW), label("more"), sample(NOW + 1)].concat();
    assert_eq!(send(&[behind]).status, 400, "labels behind a sample");
    assert_eq!(send(&[[label("\u{1}"), vec![0x0a, 3], sample(NOW)].concat()]).status, 400, "a length that lies");
}

#[test]
fn exemplars_are_read_by_what_a_query_selects_and_when() {
    let data = tempfile::tempdir().unwrap();
    let write = |uru: &Uru, name: &str, time: i64| {
        let mut series = float_series(&[("__name__", name), ("job", "a")], &[(time, 1.0)]);
        let labels = vec![proto::thanos::Label { name: "trace_id".into(), value: format!("t{time}") }];
        let exemplar = proto::prometheus_copy::Exemplar { labels, value: time as f64, timestamp: time };
        series.exemplars.push(exemplar);
        assert_eq!(write::write(uru, "", &[series]).status, 200);
    };
    let flags = ["--tsdb.max-exemplars=100"];
    let uru = start(data.path(), &flags);
    for at in 0..3 {
        write(&uru, "a_total", NOW + at);
        write(&uru, "b_total", NOW + at);
    }
    let times = |uru: &Uru, query: &str, range| -> Vec<Vec<i64>> {
        let found = exemplars(uru, query, range);
        found.iter().map(|data| data.exemplars.iter().map(|exemplar| exemplar.ts).collect()).collect()
    };
    let all = (NOW, NOW + 10);
    assert_eq!(times(&uru, "rate(a_total[5m]) / b_total", all), [[NOW, NOW + 1, NOW + 2]; 2]);
    assert_eq!(times(&uru, "a_total", (NOW + 2, NOW + 2)), [[NOW + 2]]);
    assert_eq!(times(&uru, "a_total{job=\"b\"}", all), Vec::<Vec<i64>>::new());
    let found = &exemplars(&uru, "a_total", all)[0];
    let labels = labels_text(&found.series_labels.as_ref().unwrap().labels, &[]);
    assert_eq!(labels, r#"__name__="a_total",job="a",receive="a",tenant_id="default-tenant""#);
    let own = &found.exemplars[0];
    assert_eq!(labels_text(&own.labels.as_ref().unwrap().labels, &[]), format!("trace_id=\"t{NOW}\""));
    // They are in the log as samples are.
    uru.kill();
    let uru = start(data.path(), &flags);
    assert_eq!(times(&uru, "b_total", all), [[NOW, NOW + 1, NOW + 2]]);
    uru.terminate();
    let uru = start(data.path(), &flags);
    assert_eq!(times(&uru, "b_total", all), [[NOW, NOW + 1, NOW + 2]]);
}

/// All but the first were answered with 409, and counted.
#[test]
fn exemplars_that_overtake_each_other_are_left_out_as_in_thanos_and_those_behind_what_is_kept_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.max-exemplars=100"]);
    let overtaken = "prometheus_tsdb_exemplar_out_of_order_exemplars_total{tenant=\"default-tenant\"}";
    for (times, status, counted) in
        [(&[5, 3, 5][..], 200, 1.0), (&[4], 409, 1.0), (&[7, 6, 5], 200, 2.0), (&[6, 8], 409, 2.0), (&[8], 200, 2.0)]
    {
        let mut series = float_series(&[("__name__", "a_total")], &[(NOW, 1.0)]);
        series.exemplars = times
            .iter()
            .map(|time| {
                let labels = vec![proto::thanos::Label { name: "trace_id".into(), value: "t".into() }];
                proto::prometheus_copy::Exemplar { labels, value: 1.0, timestamp: NOW + time }
            })
            .collect();
        let answer = write::write(&uru, "", &[series]);
        assert_eq!((answer.status, uru.metric(overtaken)), (status, Some(counted)), "{times:?}: {}", answer.body);
    }
    let found = &exemplars(&uru, "a_total", (NOW, NOW + 10))[0];
    assert_eq!(found.exemplars.iter().map(|one| one.ts - NOW).collect::<Vec<_>>(), [5, 7, 8]);
}

/// A label of an exemplar without a value once ended every start behind it, and spans of a stale histogram were
/// compared bucket by bucket.
#[test]
fn what_is_odd_and_acknowledged_is_there_after_a_kill_and_after_an_end() {
    use proto::prometheus_copy::{BucketSpan, Exemplar, Histogram, histogram};
    use proto::thanos::Label;
    let data = tempfile::tempdir().unwrap();
    let flags = ["--tsdb.max-exemplars=100"];
    let uru = start(data.path(), &flags);
    let exemplar = |labels: &[(&str, &str)], value: f64, timestamp: i64| {
        let labels = labels.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() });
        Exemplar { labels: labels.collect(), value, timestamp }
    };
    let mut odd = float_series(&[("__name__", "odd"), ("a", "\0\n\u{10ffff}")], &[(NOW, f64::NAN)]);
    odd.exemplars = vec![
        exemplar(&[("trace_id", "")], 1.0, i64::MIN),
        exemplar(&[("", "x")], f64::NAN, NOW),
        exemplar(&[("b", "2"), ("a", ""), ("a", "1"), ("b", "3")], f64::INFINITY, NOW + 1),
        exemplar(&[], 0.0, i64::MAX),
    ];
    let mut stale = float_series(&[("__name__", "odd_stale")], &[]);
    stale.histograms.push(Histogram {
        count: Some(histogram::Count::CountInt(0)),
        zero_count: Some(histogram::ZeroCount::ZeroCountInt(0)),
        sum: engine::model::value::stale_nan(),
        schema: 99,
        positive_spans: vec![BucketSpan { offset: i32::MAX, length: u32::MAX }; 10],
        timestamp: NOW,
        ..Histogram::default()
    });
    let family = write::Family { kind: 99, name: "\0".into(), help: "\u{10ffff}".into() };
    let request = write::WriteRequest { timeseries: vec![odd, stale.clone()], metadata: vec![family] };
    let answer = post(&uru.write_address(), "/api/v1/receive", &[], &write::packed(&request)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(write::write(&uru, "", &[stale]).status, 200, "the same again");
    let read = |uru: &Uru| {
        let found = exemplars(uru, "odd", (i64::MIN, i64::MAX));
        let all = found.iter().flat_map(|data| &data.exemplars);
        let all = all.map(|one| (labels_text(&one.labels.as_ref().unwrap().labels, &[]), one.value.to_bits(), one.ts));
        (all.collect::<Vec<_>>(), stored(uru, "odd.*").len())
    };
    let expected =
        [("", 1.0, i64::MIN), ("", f64::NAN, NOW), (r#"a="1",b="2""#, f64::INFINITY, NOW + 1), ("", 0.0, i64::MAX)];
    let expected = (expected.map(|(labels, value, time)| (labels.to_owned(), value.to_bits(), time)).to_vec(), 2);
    assert_eq!(read(&uru), expected);
    uru.kill();
    let uru = start(data.path(), &flags);
    assert_eq!(read(&uru), expected);
    uru.terminate();
    let uru = start(data.path(), &flags);
    assert_eq!(read(&uru), expected);
}

/// The connection once ended while the rest was being sent.
#[test]
fn a_sender_that_was_told_to_go_on_and_sends_too_much_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "--receive.limits-config={write: {default: {request: {size_bytes_limit: 4000}}}}";
    let uru = start(folder.path(), &[limits]);
    let mut stream = TcpStream::connect(uru.write_address()).unwrap();
    let head = "POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(std::str::from_utf8(&told), Ok("HTTP/1.1 100 Continue\r\n\r\n"));
    // More than a connection holds on its way.
    let chunk = [&b"100000\r\n"[..], &vec![7; 1 << 20], b"\r\n"].concat();
    (0..12).for_each(|_| stream.write_all(&chunk).unwrap());
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[test]
fn the_limit_of_bytes_is_one_of_what_is_sent_and_not_of_what_it_is_translated_into() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "--receive.limits-config={write: {default: {request: {size_bytes_limit: 4000}}}}";
    let uru = start(folder.path(), &[limits]);
    let mut request = otlp(NOW);
    let metrics = &mut request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(Data::Histogram(histogram)) = &mut metrics[2].data else { panic!("the third is a histogram") };
    histogram.data_points[0].explicit_bounds = (0..100).map(f64::from).collect();
    histogram.data_points[0].bucket_counts = vec![0; 101];
    let body = request.encode_to_vec();
    assert!((1500..4000).contains(&body.len()));
    assert_eq!(send_otlp(&uru, "application/x-protobuf", None, &body).status, 200);
    let longer = vec![b' '; 4001];
    assert_eq!(send_otlp(&uru, "application/json", None, &longer).status, 413);
}

/// What the Metadata API says, a line for each metric.
fn metadata(uru: &Uru) -> Vec<String> {
    run(async {
        let mut client = MetadataClient::new(uru.connect().await);
        let request = MetricMetadataRequest { limit: -1, ..MetricMetadataRequest::default() };
        let mut stream = client.metric_metadata(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(frame) = stream.message().await.unwrap() {
            let said = match frame.result {
                Some(metric_metadata_response::Result::Metadata(said)) => said,
                other => panic!("{other:?}"),
            };
            for (name, entry) in said.metadata {
                let line = |meta: &Meta| format!("{name} {} {:?} {}", meta.r#type, meta.help, meta.unit);
                found.extend(entry.metas.iter().map(line));
            }
        }
        found.sort();
        found
    })
}

#[test]
fn what_otlp_says_of_metrics_is_kept_and_a_resource_may_come_twice_the_newer_first() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let mut request = otlp(NOW + 2000);
    request.resource_metrics.extend(otlp(NOW + 1000).resource_metrics);
    for resource in &mut request.resource_metrics {
        resource.scope_metrics[0].metrics[0].description = "Requests.".into();
    }
    let answer = send_otlp(&uru, "application/x-protobuf", None, &request.encode_to_vec());
    assert_eq!(answer.status, 200, "{}", answer.body);
    for time in [NOW + 1000, NOW + 2000] {
        assert_eq!(lines(&stored(&uru, ".+"), time), EXPECTED);
    }
    assert_eq!(
        metadata(&uru),
        [
            r#"http_requests_total counter "Requests." "#,
            r#"latency_seconds histogram "" seconds"#,
            r#"queue_bytes gauge "" bytes"#,
            r#"target_info gauge "Target metadata" "#,
        ]
    );
}

/// It was left out as soon as series might have gone elsewhere.
#[test]
fn what_is_said_of_metric_families_is_kept_also_where_series_are_relabelled_or_split() {
    let content = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let second = [("Content-Type", content), ("X-Prometheus-Remote-Write-Version", "2.0.0")];
    for flag in
        ["--receive.relabel-config=[{regex: 'pod', action: labeldrop}]", "--receive.split-tenant-label-name=team"]
    {
        let data = tempfile::tempdir().unwrap();
        let uru = start(data.path(), &[flag]);
        let series = float_series(&[("__name__", "a_total"), ("team", "red")], &[(NOW, 1.0)]);
        let symbols = ["", "__name__", "b_total", "team", "red", "Bytes."].map(str::to_owned).to_vec();
        let timeseries = vec![write_v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![write_v2::Sample { value: 1.0, timestamp: NOW, start_timestamp: 0 }],
            metadata: Some(write_v2::Metadata { r#type: 1, help_ref: 5, ..write_v2::Metadata::default() }),
            ..write_v2::TimeSeries::default()
        }];
        let of_second = write_v2::Request { symbols, timeseries }.encode_to_vec();
        let of_first = [(vec![series], "a_total"), (vec![], "alone_total")].map(|(timeseries, name)| {
            let family = write::Family { kind: 1, name: name.into(), help: "Requests.".into() };
            write::packed(&write::WriteRequest { timeseries, metadata: vec![family] })
        });
        let of_second = snap::raw::Encoder::new().compress_vec(&of_second).unwrap();
        for (headers, body) in [(&[][..], &of_first[0]), (&[][..], &of_first[1]), (&second[..], &of_second)] {
            let answer = post(&uru.write_address(), "/api/v1/receive", headers, body).unwrap();
            assert_eq!(answer.status, 200, "{flag}: {}", answer.body);
        }
        let said =
            ["a_total counter \"Requests.\" ", "alone_total counter \"Requests.\" ", "b_total counter \"Bytes.\" "];
        assert_eq!(metadata(&uru), said, "{flag}");
        uru.kill();
        assert_eq!(metadata(&start(data.path(), &[flag])), said, "{flag}");
    }
}

/// All of it was kept, which nothing told.
#[test]
fn what_is_said_of_a_metric_at_too_great_length_is_left_out_and_counted() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    for (name, help_bytes) in [("short_total", 9), ("long_total", (64 << 10) + 1)] {
        let family = write::Family { kind: 1, name: name.into(), help: "h".repeat(help_bytes) };
        let body = write::packed(&write::WriteRequest { timeseries: Vec::new(), metadata: vec![family] });
        let answer = post(&uru.write_address(), "/api/v1/receive", &[], &body).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
    assert_eq!(metadata(&uru), [r#"short_total counter "hhhhhhhhh" "#]);
    assert_eq!(uru.metric("uru_receive_metadata_left_out_total "), Some(1.0));
    assert_eq!(uru.metric("uru_receive_metadata_bytes "), Some(20.0));
}

#[test]
fn bodies_that_are_packed_in_parts_are_taken_whole() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    // Encoded requests behind each other are one.
    let times = [NOW, NOW + 1000];
    let gzip = times.map(|time| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&otlp(time).encode_to_vec()).unwrap();
        packed.finish().unwrap()
    });
    let answer = send_otlp(&uru, "application/x-protobuf", Some("gzip"), &gzip.concat());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = stored(&uru, ".+");
    times.iter().for_each(|time| assert_eq!(lines(&found, *time), EXPECTED));
    let zstd = times.map(|time| {
        let timeseries = vec![float_series(&[("__name__", "packed")], &[(time, 1.0)])];
        let request = write::WriteRequest { timeseries, ..Default::default() }.encode_to_vec();
        ruzstd::encoding::compress_to_vec(&*request, ruzstd::encoding::CompressionLevel::Fastest)
    });
    let headers = [("Content-Encoding", "zstd"), ("Content-Type", "application/x-protobuf")];
    let answer = post(&uru.write_address(), "/api/v1/receive", &headers, &zstd.concat()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = samples(&stored(&uru, "packed"), &EXTERNAL);
    assert_eq!(found["__name__=\"packed\""].keys().copied().collect::<Vec<_>>(), times);
}
