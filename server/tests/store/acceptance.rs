//! One suite over every implementation of StoreAPI: what it answers is compared with a naive model
//! that filters the series one by one.

use std::collections::BTreeSet;
use std::path::Path;

use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::Meta;
use engine::chunk::{Encoding, xor};
use engine::index::tsdb::Symbols;
use engine::model::{BlockId, FloatColumns, Labels};
use proto::thanos::{
    LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse, Series,
    SeriesRequest, ShardInfo,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::support;
use crate::support::write as writing;
use crate::support::{IO_MODES, Uru, run, series, unary};

const START: i64 = 1_700_000_000_000;
const END: i64 = START + 59 * 60_000;
const EXTERNAL: (&str, &str) = ("region", "eu");

/// Matchers drawn at random for each kind of request.
const DRAWS: u64 = 300;

/// The series that every implementation holds; one carries the external label itself.
fn data() -> Vec<Labels> {
    let mut all = vec![
        Labels::from_pairs([("__name__", "up")]),
        Labels::from_pairs([("__name__", "up"), ("foo", "a")]),
        Labels::from_pairs([("__name__", "up"), ("bar", "1"), ("foo", "b")]),
        Labels::from_pairs([("__name__", "up"), ("bar", "2"), ("foo", "b")]),
        Labels::from_pairs([("__name__", "up"), ("bar", "2"), ("foo", "ab\u{e9}\n")]),
        Labels::from_pairs([("__name__", "down"), ("bar", "1")]),
        Labels::from_pairs([("__name__", "down"), ("foo", "c"), ("region", "inside")]),
        Labels::from_pairs([("__name__", "down"), ("zone", "z")]),
    ];
    all.sort();
    all
}

/// The samples of the series with ordinal `number`.
fn samples(number: usize) -> (Vec<i64>, Vec<f64>) {
    (0..60).map(|minute| (START + minute * 60_000, (number * 1000) as f64 + minute as f64 / 3.0)).unzip()
}

/// A block of `data` in `bucket`.
fn write(bucket: &Path) {
    let all = data();
    let words: BTreeSet<&str> = all.iter().flat_map(Labels::iter).flat_map(|(name, value)| [name, value]).collect();
    let symbols = std::iter::once("").chain(words);
    let id = BlockId::from_parts(START as u64, 1);
    std::fs::create_dir_all(bucket).unwrap();
    let mut writer = BlockWriter::create(bucket, id, Symbols::from_sorted(symbols)).unwrap();
    for (number, labels) in all.iter().enumerate() {
        let (times, values) = samples(number);
        let mut bytes = Vec::new();
        xor::encode(&times, &values, &mut bytes);
        let chunk = ChunkData { min_time: START, max_time: END, encoding: Encoding::Xor, data: &bytes };
        writer.add_labels(labels, &[chunk]).unwrap();
    }
    let meta = serde_json::json!({
        "ulid": id.to_string(), "minTime": START, "maxTime": END + 1, "version": 1,
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {"version": 1, "labels": {EXTERNAL.0: EXTERNAL.1}, "downsample": {"resolution": 0}, "source": "t"},
    });
    writer.finish(Meta::parse(meta.to_string().as_bytes()).unwrap()).unwrap();
}

/// What StoreAPI shows of `data`: the external label takes the place of the series' own.
fn shown() -> Vec<(Vec<(String, String)>, usize)> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut all: Vec<_> = data()
        .iter()
        .enumerate()
        .map(|(number, labels)| {
            let mut pairs: Vec<_> = labels.iter().filter(|(name, _)| *name != EXTERNAL.0).map(owned).collect();
            pairs.push(owned(EXTERNAL));
            pairs.sort();
            (pairs, number)
        })
        .collect();
    all.sort();
    all
}

/// Whether a series with `labels` matches, as Prometheus says: an absent label is an empty one.
fn is_match(labels: &[(String, String)], matchers: &[LabelMatcher]) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.iter().find(|(name, _)| *name == matcher.name).map_or("", |(_, value)| value);
        let regexp = || {
            let pattern = matcher.value.clone().into();
            engine::model::regexp::Regexp::new_anchored(&pattern).unwrap().is_match(value)
        };
        match matcher.r#type {
            0 => value.as_bytes() == matcher.value,
            1 => value.as_bytes() != matcher.value,
            2 => regexp(),
            _ => !regexp(),
        }
    })
}

/// Marsaglia's xorshift; a seed that is printed replays its matchers.
struct Random(u64);

impl Random {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        &from[(self.0 >> 11) as usize % from.len()]
    }

    fn matchers(&mut self) -> Vec<LabelMatcher> {
        let count = *self.pick(&[1, 1, 2, 2, 3]);
        // Matchers of external labels alone ask for nothing: stores take them out.
        let own = ["__name__", "foo", "bar", "zone", "nowhere"];
        let all = [own.as_slice(), &["region"]].concat();
        (0..count).map(|at| self.matcher(if at == 0 { &own } else { &all })).collect()
    }

    fn matcher(&mut self, names: &[&'static str]) -> LabelMatcher {
        let name = *self.pick(names);
        let kind = *self.pick(&[0, 1, 2, 3]);
        let texts = ["up", "down", "a", "b", "c", "1", "2", "eu", "inside", "z", "", "ab\u{e9}\n"];
        let patterns = ["up|down", "a.*", ".+", ".*", "", "(?i)A", "[12]", "e.|x", "u.", "(?s)ab.+", "b?", ".*n.*"];
        let value = if kind < 2 { *self.pick(&texts) } else { *self.pick(&patterns) };
        LabelMatcher { r#type: kind, name: name.into(), value: value.into() }
    }
}

fn labels_of(series: &Series) -> Vec<(String, String)> {
    series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
}

fn ask(matchers: Vec<LabelMatcher>) -> SeriesRequest {
    SeriesRequest { min_time: START, max_time: END, matchers, ..SeriesRequest::default() }
}

fn some_up() -> Vec<LabelMatcher> {
    vec![LabelMatcher { r#type: 2, name: "__name__".into(), value: ".+".into() }]
}

/// Series with drawn matchers are those of the model, sorted, with the samples that were written.
async fn series_match(channel: &Channel) {
    for seed in 1..=DRAWS {
        let matchers = Random(seed * 0x9e37_79b9).matchers();
        let expected: Vec<_> = shown().into_iter().filter(|(labels, _)| is_match(labels, &matchers)).collect();
        let (found, warnings) = series(channel, ask(matchers.clone())).await.unwrap();
        // A querier says so when no endpoint can have such series.
        assert!(warnings.is_empty() || expected.is_empty(), "seed {seed}: {warnings:?}");
        let labels: Vec<_> = found.iter().map(labels_of).collect();
        let wanted: Vec<_> = expected.iter().map(|(labels, _)| labels.clone()).collect();
        assert_eq!(labels, wanted, "seed {seed}: {matchers:?}");
        for (found, (_, number)) in found.iter().zip(&expected) {
            let mut columns = FloatColumns::default();
            for chunk in &found.chunks {
                xor::decode(&chunk.raw.as_ref().unwrap().data, &mut columns).unwrap();
            }
            assert_eq!((columns.timestamps, columns.values), samples(*number), "seed {seed}");
        }
        let skipped = SeriesRequest { skip_chunks: true, ..ask(matchers) };
        let (found, _) = series(channel, skipped).await.unwrap();
        assert_eq!(found.iter().map(labels_of).collect::<Vec<_>>(), wanted, "seed {seed}, without chunks");
        assert!(found.iter().all(|series| series.chunks.is_empty()), "seed {seed}, without chunks");
    }
}

/// Label names and values under drawn matchers are those of the matching series.
async fn labels_match(channel: &Channel) {
    for seed in 0..DRAWS {
        let mut random = Random((seed + 1) * 0x517c_c1b7);
        let matchers = if seed == 0 { Vec::new() } else { random.matchers() };
        let all: Vec<_> = shown().into_iter().filter(|(labels, _)| is_match(labels, &matchers)).collect();
        let names: BTreeSet<String> = all.iter().flat_map(|(labels, _)| labels).map(|(name, _)| name.clone()).collect();
        let request =
            LabelNamesRequest { start: START, end: END, matchers: matchers.clone(), ..LabelNamesRequest::default() };
        let answer: LabelNamesResponse = unary(channel, "/thanos.Store/LabelNames", request).await.unwrap();
        assert_eq!(answer.names, Vec::from_iter(names), "seed {seed}: {matchers:?}");
        let label = *random.pick(&["__name__", "foo", "bar", "region", "zone", "nowhere"]);
        let values: BTreeSet<String> = all
            .iter()
            .flat_map(|(labels, _)| labels)
            .filter(|pair| pair.0 == label)
            .map(|pair| pair.1.clone())
            .collect();
        let request = LabelValuesRequest {
            label: label.into(),
            start: START,
            end: END,
            matchers: matchers.clone(),
            ..LabelValuesRequest::default()
        };
        let answer: LabelValuesResponse = unary(channel, "/thanos.Store/LabelValues", request).await.unwrap();
        assert_eq!(answer.values, Vec::from_iter(values), "seed {seed}: {label} of {matchers:?}");
    }
}

/// Shards split the series, limits and batches change how many come at once and never which.
async fn series_are_sharded_limited_and_batched(channel: &Channel) {
    let (all, _) = series(channel, ask(some_up())).await.unwrap();
    assert_eq!(all.len(), data().len());
    for (by, labels) in [(true, vec!["foo".to_owned()]), (false, vec!["bar".to_owned()]), (false, vec![])] {
        let mut together = Vec::new();
        for shard_index in 0..3 {
            let shard = ShardInfo { shard_index, total_shards: 3, by, labels: labels.clone() };
            let request = SeriesRequest { shard_info: Some(shard), ..ask(some_up()) };
            let (found, _) = series(channel, request).await.unwrap();
            assert!(found.iter().map(labels_of).is_sorted());
            together.extend(found.iter().map(labels_of));
        }
        together.sort();
        assert_eq!(together, all.iter().map(labels_of).collect::<Vec<_>>(), "by {by} {labels:?}");
    }
    let limited = SeriesRequest { limit: 2, ..ask(some_up()) };
    assert_eq!(series(channel, limited).await.unwrap().0, all[..2]);
    let batched = SeriesRequest { response_batch_size: 3, ..ask(some_up()) };
    assert_eq!(series(channel, batched).await.unwrap().0, all);
    let request = LabelNamesRequest { start: START, end: END, limit: 2, ..LabelNamesRequest::default() };
    let answer: LabelNamesResponse = unary(channel, "/thanos.Store/LabelNames", request).await.unwrap();
    assert_eq!(answer.names, ["__name__", "bar"]);
}

/// Series without replica labels are sorted by what is left of their labels.
async fn replica_labels_are_left_out_and_the_order_is_kept(channel: &Channel) {
    for label in ["foo", "bar", "region"] {
        let request = SeriesRequest { without_replica_labels: vec![label.into()], ..ask(some_up()) };
        let (found, _) = series(channel, request).await.unwrap();
        let found: Vec<_> = found.iter().map(labels_of).collect();
        assert!(found.is_sorted(), "without {label}: {found:?}");
        assert!(found.iter().flatten().all(|(name, _)| name != label));
        let without = |(labels, _): (Vec<(String, String)>, usize)| {
            labels.into_iter().filter(|(name, _)| name != label).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<_> = shown().into_iter().map(without).collect();
        assert_eq!(BTreeSet::from_iter(found), wanted, "without {label}");
    }
}

/// What is outside the time range isn't found, and what is wrong is said.
async fn bad_and_empty_requests(channel: &Channel) {
    let later = SeriesRequest { min_time: END + 1_000_000_000, max_time: END + 2_000_000_000, ..ask(some_up()) };
    assert_eq!(series(channel, later).await.unwrap().0, []);
    let broken = LabelMatcher { r#type: 2, name: "foo".into(), value: "(".into() };
    let status = series(channel, ask(vec![broken])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("missing closing )"), "{status}");
}

async fn accept(channel: &Channel) {
    series_match(channel).await;
    labels_match(channel).await;
    series_are_sharded_limited_and_batched(channel).await;
    replica_labels_are_left_out_and_the_order_is_kept(channel).await;
    bad_and_empty_requests(channel).await;
}

/// A component over the bucket in `folder`, with more flags.
fn over_bucket(component: &str, folder: &Path, flags: &[&str]) -> Uru {
    let bucket = folder.join("bucket");
    write(&bucket);
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data_dir = format!("--data-dir={}", folder.join("data").display());
    Uru::start(component, &[&[&*objstore, &*data_dir][..], flags].concat())
}

/// A receiver over `folder` that was sent the same data, minute after minute. The label that names tenants is the
/// external one, of which there is no other.
fn receiver(folder: &Path, mode: &str) -> Uru {
    let (name, value) = EXTERNAL;
    let (label, tenant) = (format!("--label={name}=\"{value}\""), format!("--receive.tenant-label-name={name}"));
    let uru = writing::start(folder, &[&label, &tenant, &format!("--io.mode={mode}")]);
    let all: Vec<_> = data().into_iter().enumerate().map(|(number, labels)| (labels, samples(number))).collect();
    for minute in 0..60 {
        let sample = |(labels, (times, values)): &(Labels, (Vec<i64>, Vec<f64>))| {
            let pairs: Vec<(&str, &str)> = labels.iter().collect();
            writing::float_series(&pairs, &[(times[minute], values[minute])])
        };
        let answer = writing::write(&uru, value, &all.iter().map(sample).collect::<Vec<_>>());
        assert_eq!(answer.status, 200, "minute {minute}: {}", answer.body);
    }
    uru
}

#[test]
fn the_store_gateway_is_a_store() {
    for mode in IO_MODES {
        let folder = tempfile::tempdir().unwrap();
        let uru = over_bucket("store", folder.path(), &[&format!("--io.mode={mode}")]);
        run(async { accept(&uru.connect().await).await });
    }
}

#[test]
fn the_store_gateway_is_a_store_by_index_headers_alone() {
    for mode in IO_MODES {
        let folder = tempfile::tempdir().unwrap();
        let uru = over_bucket("store", folder.path(), &["--store.index=header", &format!("--io.mode={mode}")]);
        run(async { accept(&uru.connect().await).await });
    }
}

#[test]
fn the_receiver_is_a_store_of_what_is_in_its_head() {
    for mode in IO_MODES {
        let folder = tempfile::tempdir().unwrap();
        let uru = receiver(folder.path(), mode);
        run(async { accept(&uru.connect().await).await });
    }
}

#[test]
fn all_in_one_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let uru = over_bucket("all-in-one", folder.path(), &[]);
    run(async { accept(&uru.connect().await).await });
}

#[test]
fn the_querier_is_a_store_over_its_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let store = over_bucket("store", folder.path(), &[]);
    let querier = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    support::wait(|| querier.get("/api/v1/stores").1.contains(&store.grpc));
    run(async { accept(&querier.connect().await).await });
}
