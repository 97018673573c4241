//! Fuzz targets: every decoder of bytes from outside as a function of bytes that must not panic.
//! Any fuzzing engine can call them; `tests/replay.rs` does without one.

#![forbid(unsafe_code)]

/// Configuration files and certificates, which the process parses.
#[cfg(feature = "process")]
pub mod files;
/// What requests of others hold, which the process parses.
#[cfg(feature = "process")]
pub mod requests;
/// Inputs that our own writers write, which mutations start from.
pub mod seeds;

use engine::block::tombstones::Tombstones;
use engine::bucket::marker::Marker;
use engine::bucket::{DeletionMark, Meta, NoCompactMark, NoDownsampleMark, ObjectName};
use engine::chunk::{aggr, float_histogram, histogram, segment, xor, xor2};
use engine::head::replay::Replay;
use engine::head::{self, Head};
use engine::index::{BlockIndex, SeriesLabels, column, header, tsdb};
use engine::model::regexp::Regexp;
use engine::model::relabel::{Config, Rule, relabel};
use engine::model::{
    Allowance, ByteString, FloatColumns, FloatHistogramColumns, HistogramColumns, Labels, Matcher, TimeRange,
};
use engine::promql::syntax;
use engine::wal::{Cut, CutPhase, Record, frame, records};
use prost::Message;
use proto::series::{AggrPart, ResponseView, SeriesView, scan};
use proto::write;

/// A function of bytes that must not panic.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its corpus too.
pub const TARGETS: &[(&str, Target)] = &[
    #[cfg(feature = "process")]
    ("active_series", files::active_series),
    ("aggr_chunk", aggr_chunk),
    #[cfg(feature = "process")]
    ("aws_profiles", files::aws_profiles),
    #[cfg(feature = "process")]
    ("cache_yaml", files::cache_yaml),
    #[cfg(feature = "process")]
    ("certificate", files::certificate),
    ("chunk_segment", chunk_segment),
    ("column_index", column_index),
    #[cfg(feature = "process")]
    ("endpoints_yaml", files::endpoints_yaml),
    #[cfg(feature = "process")]
    ("flag_value", files::flag_value),
    ("float_histogram_chunk", float_histogram_chunk),
    #[cfg(feature = "process")]
    ("hashrings_json", files::hashrings_json),
    ("histogram_chunk", histogram_chunk),
    #[cfg(feature = "process")]
    ("http_target", requests::http_target),
    #[cfg(feature = "process")]
    ("http_yaml", files::http_yaml),
    ("index_header", index_header),
    ("index_postings", index_postings),
    ("index_symbols", index_symbols),
    #[cfg(feature = "process")]
    ("label_escaped", requests::label_escaped),
    #[cfg(feature = "process")]
    ("limits_yaml", files::limits_yaml),
    #[cfg(feature = "process")]
    ("line_template", requests::line_template),
    ("marker", marker),
    #[cfg(feature = "process")]
    ("matchers", requests::matchers),
    ("meta_json", meta_json),
    ("object_name", object_name),
    #[cfg(feature = "process")]
    ("objstore_yaml", files::objstore_yaml),
    #[cfg(feature = "process")]
    ("otlp_json", files::otlp_json),
    ("otlp_request", otlp_request),
    #[cfg(feature = "process")]
    ("otlp_translated", files::otlp_translated),
    ("promql", promql),
    ("promql_selector", promql_selector),
    ("regexp", regexp),
    ("relabel_json", relabel_json),
    #[cfg(feature = "process")]
    ("relabel_yaml", files::relabel_yaml),
    #[cfg(feature = "process")]
    ("remote_read", requests::remote_read),
    #[cfg(feature = "process")]
    ("request_log_yaml", files::request_log_yaml),
    #[cfg(feature = "process")]
    ("rewrite_yaml", files::rewrite_yaml),
    #[cfg(feature = "process")]
    ("rules_yaml", files::rules_yaml),
    ("series_frame", series_frame),
    ("series_request", series_request),
    #[cfg(feature = "process")]
    ("snappy_body", files::snappy_body),
    ("store_request", store_request),
    ("tombstones", tombstones),
    ("tsdb_index", tsdb_index),
    ("wal_file", wal_file),
    ("wal_records", wal_records),
    ("write_forwarded", write_forwarded),
    ("write_v1", write_v1),
    ("write_v2", write_v2),
    ("xor2_chunk", xor2_chunk),
    ("xor_chunk", xor_chunk),
];

/// An aggregates chunk and the XOR chunks in it.
pub fn aggr_chunk(data: &[u8]) {
    let Ok(chunk) = aggr::split(data) else { return };
    for part in aggr::Aggregate::ALL.into_iter().filter_map(|aggregate| chunk.get(aggregate)) {
        xor_chunk(part.data);
    }
}

/// A file of chunks.
pub fn chunk_segment(data: &[u8]) {
    segment::chunks(data).for_each(drop);
}

/// A column index: each section is checked, then what its series are is asked.
pub fn column_index(data: &[u8]) {
    let Ok(index) = column::Reader::from_bytes(data.to_vec(), column::Check::OnFirstUse) else { return };
    let mut labels = SeriesLabels::default();
    for ordinal in index.all().map(|all| all.into_list()).unwrap_or_default() {
        let _ = index.labels(ordinal, &mut labels);
    }
    for name in index.label_names(None).unwrap_or_default() {
        let _ = index.label_values(&name, None, 10);
    }
}

/// A chunk of float histograms, without and with start timestamps.
pub fn float_histogram_chunk(data: &[u8]) {
    let _ = float_histogram::decode(data, &mut FloatHistogramColumns::default());
    let _ = float_histogram::decode_with_starts(data, &mut FloatHistogramColumns::default(), &mut Vec::new());
}

/// A chunk of integer histograms, without and with start timestamps.
pub fn histogram_chunk(data: &[u8]) {
    let _ = histogram::decode(data, &mut HistogramColumns::default());
    let _ = histogram::decode_with_starts(data, &mut HistogramColumns::default(), &mut Vec::new());
}

/// An index-header and the lookups that queries make in it.
pub fn index_header(data: &[u8]) {
    let Ok(header) = header::Reader::open(data) else { return };
    for name in header.label_names() {
        let _ = header.find(name, "a");
        let _ = header.find_symbol(name);
    }
    for place in 0..header.symbol_count() as u32 {
        let _ = header.symbol(tsdb::SymbolRef(place));
    }
}

/// The content of a postings list, behind its checksum.
pub fn index_postings(data: &[u8]) {
    let _ = tsdb::postings::decode(data, 0, &mut Vec::new());
}

/// The content of a symbol table, behind its checksum, in both versions.
pub fn index_symbols(data: &[u8]) {
    let _ = tsdb::Symbols::decode(data, 0, tsdb::Version::V1);
    let _ = tsdb::Symbols::decode(data, 0, tsdb::Version::V2);
}

/// Each of the markers beside meta.json.
pub fn marker(data: &[u8]) {
    let _ = DeletionMark::parse(data);
    let _ = NoCompactMark::parse(data);
    let _ = NoDownsampleMark::parse(data);
}

/// A meta.json; one that is read can be written.
pub fn meta_json(data: &[u8]) {
    if let Ok(meta) = Meta::parse(data) {
        let _ = meta.to_json();
    }
}

/// The name of an object in a bucket.
pub fn object_name(data: &[u8]) {
    let _ = ObjectName::parse(&String::from_utf8_lossy(data));
}

/// An OTLP request.
pub fn otlp_request(data: &[u8]) {
    let _ = proto::otlp::MetricsRequest::decode(data);
}

/// A query; one that is read can be printed, and what is printed can be read.
pub fn promql(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(query) = syntax::parse(&text, syntax::Options::default()) else { return };
    let printed = query.to_string();
    if let Err(error) = syntax::parse(&printed, syntax::Options::default()) {
        panic!("{text:?} is printed as {printed:?}, which is no query: {error}");
    }
}

/// Selectors as `match[]` takes them and as configurations do, and the name and labels of a series; matchers that
/// are read can be asked and printed.
pub fn promql_selector(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = syntax::parse_metric(&text);
    for matchers in
        [syntax::parse_match(&text, &mut Allowance::default()), syntax::parse_selector(&text)].into_iter().flatten()
    {
        matchers.iter().for_each(|matcher| _ = (matcher.matches("node"), matcher.to_string()));
    }
}

/// A regexp of a matcher.
pub fn regexp(data: &[u8]) {
    if let Ok(regexp) = Regexp::new_anchored(&ByteString::from(data.to_vec())) {
        regexp.is_match("prometheus");
        regexp.is_match("");
    }
}

/// Relabel rules, applied.
pub fn relabel_json(data: &[u8]) {
    let Ok(configs) = serde_json::from_slice::<Vec<Config>>(data) else { return };
    let Ok(rules) = configs.into_iter().map(Rule::new).collect::<Result<Vec<_>, _>>() else { return };
    apply(rules);
}

/// Relabel rules on labels of some shapes.
fn apply(rules: Vec<Rule>) {
    relabel(&rules, &Labels::from_pairs([("__name__", "up"), ("job", "node"), ("zone", "é")]));
}

/// A StoreAPI answer without its gRPC prefix.
pub fn series_frame(data: &[u8]) {
    let read = |series: SeriesView<'_>| {
        let _ = series.read(|_, _| {}, |chunk| _ = chunk.part(AggrPart::Raw));
    };
    match scan(data) {
        Ok(ResponseView::Series(series)) => read(series),
        Ok(ResponseView::Batch(batch)) => batch.map_while(Result::ok).for_each(read),
        _ => {}
    }
}

/// A StoreAPI request.
pub fn series_request(data: &[u8]) {
    let _ = proto::thanos::SeriesRequest::decode(data);
}

/// The other requests that are answered over gRPC, as which the same bytes are read.
pub fn store_request(data: &[u8]) {
    let _ = proto::thanos::LabelNamesRequest::decode(data);
    let _ = proto::thanos::LabelValuesRequest::decode(data);
    let _ = proto::thanos::QueryRequest::decode(data);
    let _ = proto::thanos::QueryRangeRequest::decode(data);
    let _ = proto::thanos::RulesRequest::decode(data);
    let _ = proto::thanos::TargetsRequest::decode(data);
    let _ = proto::thanos::MetricMetadataRequest::decode(data);
    let _ = proto::thanos::ExemplarsRequest::decode(data);
    let _ = proto::thanos::TsdbStatisticsRequest::decode(data);
    let _ = proto::thanos::info::InfoRequest::decode(data);
    let _ = proto::hintspb::SeriesRequestHints::decode(data);
}

/// A file of tombstones.
pub fn tombstones(data: &[u8]) {
    let _ = Tombstones::parse(data);
}

/// An index file: its series, its postings and the table that finds them.
pub fn tsdb_index(data: &[u8]) {
    let Ok(index) = tsdb::Reader::open(data) else { return };
    let _ = column::build_in_memory(&index);
    if let Ok(table) = index.offset_table() {
        let _ = index.postings(&table, ("job", "a"), &mut Vec::new());
        let _ = index.label_values(&table, "job");
    }
}

/// What a receiver forwards to another.
pub fn write_forwarded(data: &[u8]) {
    let Ok((tenants, _)) = write::scan_forwarded(data, |_| Ok::<_, write::Malformed>(())) else { return };
    for tenant in tenants {
        let _ = tenant.read(&mut Rewritten::default());
    }
}

/// A remote write request of version 1.
pub fn write_v1(data: &[u8]) {
    let _ = write::scan_v1(data, &mut Rewritten::default());
}

/// A remote write request of version 2.
pub fn write_v2(data: &[u8]) {
    let _ = write::scan_v2(data, &mut Rewritten::default());
}

/// Writes what it is given again, as receivers do that forward.
#[derive(Default)]
struct Rewritten {
    /// Labels of the series that comes next, as they lie in the request.
    run: Option<Vec<u8>>,
    bytes: Vec<u8>,
}

impl<'a> write::Sink<'a> for Rewritten {
    fn label_run(&mut self, run: write::LabelRun<'a>) -> bool {
        self.run = Some(run.bytes.to_vec());
        false
    }

    fn series(&mut self, labels: &write::LabelPairs<'a>) {
        self.bytes.clear();
        labels.iter().for_each(|(name, value)| write::put_label(&mut self.bytes, name, value));
        if let Some(run) = self.run.take() {
            assert!(run.starts_with(&self.bytes), "plain labels are written as they were read");
            assert!(run == self.bytes || labels.len() > write::LABELS_MAX, "and all of them");
        }
    }

    fn sample(&mut self, sample: write::Sample) {
        write::put_sample(&mut self.bytes, sample);
    }

    fn histogram(&mut self, histogram: write::Histogram) {
        write::put_histogram(&mut self.bytes, &histogram);
    }

    fn exemplar(&mut self, labels: &write::LabelPairs<'a>, _: write::Exemplar) {
        labels.iter().for_each(|(name, value)| write::put_label(&mut self.bytes, name, value));
    }

    fn metadata(&mut self, _: write::Metadata<'a>) {}
}

/// A segment or snapshot of a log, with a tail that may be torn, or damaged anywhere.
pub fn wal_file(data: &[u8]) {
    for tail in [frame::Tail::MayBeTorn, frame::Tail::MayBeDamaged] {
        let _ = frame::scan(data, tail, |_, bytes| {
            wal_records(bytes);
            Ok(())
        });
    }
}

/// Records of a log, applied to a head; one that takes them can be read.
pub fn wal_records(data: &[u8]) {
    let options = head::Options {
        block_range_ms: 7_200_000,
        out_of_order_window_ms: 600_000,
        out_of_order_cap_max: head::OUT_OF_ORDER_CAP_MAX,
        exemplars_max: 10,
        start_times: head::StartTimes::Dropped,
    };
    let mut replay = Replay::new(Head::new(options, i64::MIN));
    for record in records(data, 0).map_while(Result::ok) {
        let _ = replay.record(&record);
        if let Record::Cut(_, cut) = record {
            replay.cut(&Cut { phase: CutPhase::Done, ..cut });
        }
    }
    let matchers = [Matcher::equal("__name__", "up")];
    let _ = replay.finish().excerpt(&matchers, TimeRange::ALL);
}

/// A XOR2 chunk.
pub fn xor2_chunk(data: &[u8]) {
    let _ = xor2::decode(data, &mut FloatColumns::default(), &mut Vec::new());
}

/// A XOR chunk: decoded alone, and among others.
pub fn xor_chunk(data: &[u8]) {
    let alone = xor::decode(data, &mut FloatColumns::default());
    let together = xor::decode_batch(&[data; 9], &mut xor::Batch::default());
    assert_eq!(alone.is_ok(), together.is_ok(), "alone {alone:?}, together {together:?}");
}
