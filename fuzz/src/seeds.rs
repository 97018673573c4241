//! Inputs of the binary targets, as our own writers write them.

use engine::block::tombstones::Tombstones;
use engine::bucket::Meta;
use engine::chunk::native::Appender;
use engine::chunk::{Encoding, aggr, segment, xor};
use engine::head::snapshot::Position;
use engine::head::{self, AppendLimits, Head, Metadata, MetricKind, WriteBatch};
use engine::index::{ChunkMeta, column, header, tsdb};
use engine::model::{BlockId, ChunkRef, FloatHistogram, Histogram, HistogramValue, Labels, SeriesRef, Span, TimeRange};
use engine::wal::{Cut, CutKind, CutPhase, Recorder, frame};
use prost::Message;
use proto::prometheus_copy::{self, BucketSpan, Exemplar, Sample, TimeSeries};
use proto::series::{AggrPart, ChunkKind, ChunkSet, FrameWriter, GRPC_PREFIX_LEN};
use proto::thanos::{Label, TimeSeriesTenantTuple, WriteRequest};
use proto::write::put_message;
use proto::{otlp, write_v2};

/// The inputs of the target called `name`; none where its corpus consists of files.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "aggr_chunk" => vec![aggr_chunk()],
        "chunk_segment" => vec![chunk_segment()],
        "column_index" => vec![column_index()],
        "float_histogram_chunk" => vec![float_histogram_chunk()],
        "histogram_chunk" => vec![histogram_chunk()],
        "index_header" => vec![index_header()],
        "index_postings" => vec![vec![0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9]],
        "index_symbols" => vec![b"\x00\x00\x00\x03\x00\x01a\x03job".to_vec()],
        "meta_json" => vec![Meta::new(BlockId::from_parts(1, 2), 0, 7_200_000).to_json()],
        "series_frame" => vec![series_frame(0), series_frame(8)],
        "series_request" => vec![series_request()],
        "store_request" => vec![label_values_request(), query_range_request()],
        "tombstones" => vec![tombstones()],
        "wal_file" => vec![wal_file()],
        "wal_records" => vec![wal_records()],
        "tsdb_index" => vec![tsdb_index()],
        "remote_read" => vec![remote_read()],
        "otlp_json" => vec![OTLP_JSON.as_bytes().to_vec()],
        "otlp_request" | "otlp_translated" => vec![otlp_request()],
        "write_forwarded" => vec![write_forwarded()],
        "write_v1" => vec![write_v1()],
        "write_v2" => vec![write_v2()],
        "xor2_chunk" | "xor_chunk" => vec![xor_chunk()],
        _ => Vec::new(),
    }
}

fn write_series() -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    TimeSeries {
        labels: vec![label("__name__", "up"), label("job", "node")],
        samples: vec![Sample { value: 1.5, timestamp: 1_700_000_000_000 }],
        exemplars: vec![Exemplar { labels: vec![label("id", "7")], value: 2.0, timestamp: 9 }],
        histograms: vec![write_histogram()],
    }
}

fn write_histogram() -> prometheus_copy::Histogram {
    prometheus_copy::Histogram {
        count: Some(prometheus_copy::histogram::Count::CountInt(3)),
        positive_spans: vec![BucketSpan { offset: -1, length: 2 }],
        positive_deltas: vec![2, -1],
        custom_values: vec![0.5],
        timestamp: 9,
        ..prometheus_copy::Histogram::default()
    }
}

fn write_v1() -> Vec<u8> {
    let mut request = Vec::new();
    put_message(&mut request, 1, &write_series().encode_to_vec());
    put_message(&mut request, 3, &prometheus_copy::MetricMetadata::default().encode_to_vec());
    request
}

fn write_v2() -> Vec<u8> {
    let series = write_v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![write_v2::Sample { value: 1.0, timestamp: 9, start_timestamp: 3 }],
        histograms: vec![write_v2::Histogram::decode(&*write_histogram().encode_to_vec()).unwrap_or_default()],
        exemplars: vec![write_v2::Exemplar { labels_refs: vec![3, 4], value: 1.0, timestamp: 9 }],
        metadata: Some(write_v2::Metadata { r#type: 1, help_ref: 2, unit_ref: 0 }),
    };
    let symbols = ["", "__name__", "up", "job", "node"].map(str::to_owned).to_vec();
    write_v2::Request { symbols, timeseries: vec![series] }.encode_to_vec()
}

fn write_forwarded() -> Vec<u8> {
    let tuple = TimeSeriesTenantTuple { timeseries: vec![write_series()], tenant: "a".into() };
    let request = WriteRequest { replica: 1, timeseries_tenant_data: vec![tuple], ..WriteRequest::default() };
    request.encode_to_vec()
}

const OTLP_JSON: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":
{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[{"name":"m","sum":{"aggregationTemporality":2,"isMonotonic":true,
"dataPoints":[{"timeUnixNano":"5","asInt":"7","exemplars":[{"traceId":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
"asDouble":1}]}]}},{"name":"h","histogram":{"aggregationTemporality":2,
"dataPoints":[{"count":"3","sum":4,"bucketCounts":["1",2],"explicitBounds":[0.5]}]}},
{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":1,"scale":-1,"zeroCount":2,
"positive":{"offset":-4,"bucketCounts":["1"]}}]}}]}]}]}"#;

fn otlp_request() -> Vec<u8> {
    let attributes = vec![otlp::KeyValue { key: "service.name".into(), value: None }];
    let point = otlp::NumberPoint { time_unix_nano: 5, attributes: attributes.clone(), ..otlp::NumberPoint::default() };
    let gauge = otlp::metric::Data::Gauge(otlp::Gauge { data_points: vec![point] });
    let metric = otlp::Metric { name: "up".into(), data: Some(gauge), ..otlp::Metric::default() };
    let resource = Some(otlp::Resource { attributes });
    let scope_metrics = vec![otlp::ScopeMetrics { metrics: vec![metric] }];
    otlp::MetricsRequest { resource_metrics: vec![otlp::ResourceMetrics { resource, scope_metrics }] }.encode_to_vec()
}

fn xor_chunk() -> Vec<u8> {
    let times: Vec<i64> = (0..40).map(|at| 1_700_000_000_000 + at * 15_000 + at % 3).collect();
    let values: Vec<f64> = (0..40).map(|at| f64::from(at * at) / 3.0).collect();
    let mut data = Vec::new();
    xor::encode(&times, &values, &mut data);
    data
}

fn aggr_chunk() -> Vec<u8> {
    let (data, mut out) = (xor_chunk(), Vec::new());
    let mut chunk = aggr::AggrChunk::default();
    for aggregate in [aggr::Aggregate::Count, aggr::Aggregate::Max] {
        chunk.set(aggregate, aggr::Part { encoding: Encoding::Xor, data: &data });
    }
    aggr::encode(&chunk, &mut out);
    out
}

fn chunk_segment() -> Vec<u8> {
    let mut bytes = segment::MAGIC.to_vec();
    bytes.extend_from_slice(&[segment::VERSION, 0, 0, 0]);
    segment::encode(Encoding::Xor, &xor_chunk(), &mut bytes);
    segment::encode(Encoding::Aggr, &aggr_chunk(), &mut bytes);
    bytes
}

fn histogram_chunk() -> Vec<u8> {
    let mut appender = Appender::<Histogram>::default();
    for at in 0..10 {
        let histogram = Histogram {
            count: 3 + at,
            sum: 1.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![1, 1 + at as i64],
            ..Histogram::default()
        };
        appender.append(at as i64 * 1000, &histogram);
    }
    appender.into_data()
}

fn float_histogram_chunk() -> Vec<u8> {
    let mut appender = Appender::<FloatHistogram>::default();
    for at in 0..10 {
        let histogram = FloatHistogram {
            count: 3.0 + at as f64,
            sum: 1.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, 2.0 + at as f64],
            ..FloatHistogram::default()
        };
        appender.append(at * 1000, &histogram);
    }
    appender.into_data()
}

fn tsdb_index() -> Vec<u8> {
    let symbols = tsdb::Symbols::from_sorted(["__name__", "a", "b", "job", "up"]);
    let mut index = tsdb::Writer::create(Vec::new(), symbols).expect("memory takes what is written");
    for (at, job) in ["a", "b"].into_iter().enumerate() {
        let chunk = ChunkMeta { min_time: 0, max_time: 600_000, chunk_ref: ChunkRef::new(0, 8 + 100 * at as u32) };
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
        index.add_labels(&labels, &[chunk]).expect("series ascend");
    }
    index.finish().expect("memory takes what is written").1
}

fn column_index() -> Vec<u8> {
    let index = tsdb::Reader::open(tsdb_index()).expect("what was written can be read");
    column::build_in_memory(&index).expect("what was written can be read")
}

fn index_header() -> Vec<u8> {
    let mut out = Vec::new();
    header::write(&tsdb_index(), &mut out).expect("what was written can be read");
    out
}

fn tombstones() -> Vec<u8> {
    let mut tombstones = Tombstones::default();
    tombstones.add(SeriesRef(3), TimeRange::new(10, 20));
    tombstones.add(SeriesRef(700), TimeRange::new(-5, i64::MAX));
    tombstones.to_bytes()
}

/// Records of a batch with all that a batch can have, and a snapshot of the head that took it.
fn wal_records() -> Vec<u8> {
    let mut batch = WriteBatch::new();
    batch.push_series([("__name__", "up"), ("job", "a")]);
    (0..40).for_each(|at| batch.push_sample(at * 15_000, f64::from(at as u8)));
    batch.push_sample(7, 1.0);
    batch.push_exemplar(8, 0.5, [("trace_id", "x")]);
    batch.push_metadata(Metadata { kind: MetricKind::Gauge, help: "is up", unit: "" });
    batch.push_series([("__name__", "latency")]);
    let histogram = Histogram {
        count: 3,
        positive_spans: vec![Span { offset: 1, length: 1 }],
        positive_buckets: vec![3],
        ..Histogram::default()
    };
    batch.push_histogram(9, 0, HistogramValue::Integer(Box::new(histogram.clone())));
    batch.push_histogram(10, 0, HistogramValue::Float(Box::new(histogram.to_float())));
    let options = head::Options {
        block_range_ms: 7_200_000,
        out_of_order_window_ms: 600_000,
        out_of_order_cap_max: head::OUT_OF_ORDER_CAP_MAX,
        exemplars_max: 10,
        start_times: head::StartTimes::Dropped,
    };
    let (mut head, mut recorder) = (Head::new(options, i64::MIN), Recorder::default());
    let limits = AppendLimits { time_max: i64::MAX, series_left: None, latest_time: i64::MIN, memory: None };
    recorder.tenant(1, "team-a");
    head.append((&batch, &[0, 1]), limits, (1, &mut recorder));
    head.snapshot_part(1, Position::START, &mut recorder);
    let cut = Cut { phase: CutPhase::Intended, kind: CutKind::OutOfOrder, until: 5, blocks: vec![BlockId(7)] };
    recorder.cut(1, &cut);
    recorder.take()
}

fn wal_file() -> Vec<u8> {
    let mut bytes = frame::HEADER.to_vec();
    let mut encoder = frame::Encoder::default();
    bytes.extend_from_slice(encoder.frame(&[wal_records()]));
    bytes.extend_from_slice(encoder.frame(&[wal_records()]));
    bytes
}

fn series_frame(batch_series_max: usize) -> Vec<u8> {
    let data = xor_chunk();
    let mut frames = FrameWriter::new(batch_series_max);
    let chunk = proto::series::ChunkRef { kind: ChunkKind::Xor, data: &data };
    let chunks = [ChunkSet::new(0, 600_000).with(AggrPart::Raw, chunk)];
    frames.series([("__name__", "up"), ("job", "a")].into_iter(), &chunks);
    frames.close_batch();
    frames.take().split_off(GRPC_PREFIX_LEN)
}

fn series_request() -> Vec<u8> {
    let matcher = proto::thanos::LabelMatcher { r#type: 2, name: "job".to_owned(), value: "a|b".into() };
    let request = proto::thanos::SeriesRequest {
        min_time: -1,
        max_time: 600_000,
        matchers: vec![matcher],
        without_replica_labels: vec!["replica".to_owned()],
        ..Default::default()
    };
    request.encode_to_vec()
}

fn label_values_request() -> Vec<u8> {
    let matcher = proto::thanos::LabelMatcher { r#type: 1, name: "job".to_owned(), value: "a".into() };
    let request = proto::thanos::LabelValuesRequest {
        label: "pod".to_owned(),
        start: -1,
        end: 600_000,
        matchers: vec![matcher],
        without_replica_labels: vec!["replica".to_owned()],
        ..Default::default()
    };
    request.encode_to_vec()
}

fn query_range_request() -> Vec<u8> {
    let request = proto::thanos::QueryRangeRequest {
        query: "rate(up[5m])".to_owned(),
        end_time_seconds: 600,
        interval_seconds: 15,
        replica_labels: vec!["replica".to_owned()],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Packed as one literal, the length of which fits its tag.
fn remote_read() -> Vec<u8> {
    let matcher = prometheus_copy::LabelMatcher { r#type: 2, name: "job".to_owned(), value: "a|b".into() };
    let hints = prometheus_copy::ReadHints { func: "rate".to_owned(), range_ms: 300_000, ..Default::default() };
    let query = prometheus_copy::Query {
        start_timestamp_ms: -1,
        end_timestamp_ms: 600_000,
        matchers: vec![matcher],
        hints: Some(hints),
    };
    let request = prometheus_copy::ReadRequest { queries: vec![query], accepted_response_types: vec![1] };
    let plain = request.encode_to_vec();
    let len = plain.len() as u8;
    assert!(len <= 60, "a longer literal has its length behind its tag");
    [&[len, (len - 1) << 2][..], &*plain].concat()
}
