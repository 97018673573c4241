//! Random blocks, answered by the shards and by a naive merge of 30 lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::SampleBatch;
use crate::block::{BlockInfo, ChunkSource, OpenedBlock};
use crate::chunk::{Encoding, segment, xor};
use crate::index::{BlockIndex, ChunkMeta, column, tsdb};
use crate::model::matcher::MatchKind;
use crate::model::{BlockId, ChunkRef, ErrorKind, LabelsBuilder};
use crate::promql::blocks::{BlockSource, Scope};
use crate::promql::source::{Files, Hints, Part, SelectRequest, Source as _, Types};
use crate::select::{Failure, Fetched, Hashed, LabelRequest, Meter, Projection, RemoteRange, ShardInfo};
use crate::shard::gather::RANGE_BYTES;

/// Series of a block: labels, and of each chunk its first time and number of samples.
type Content = BTreeMap<Labels, Vec<(i64, i64)>>;

#[derive(Clone, Debug)]
pub(super) struct Model {
    external: Labels,
    content: Content,
    /// Distinguishes the samples of replicas.
    tint: i64,
}

/// Chunks in memory behind a fetcher, and how often it was asked.
#[derive(Default)]
struct Remote {
    segments: HashMap<BlockId, Vec<u8>>,
    asked: AtomicU64,
    broken: Option<BlockId>,
    /// Bytes that are read around each range.
    around: u64,
}

struct Remotely(Arc<Remote>);

impl Fetcher for Remotely {
    fn fetch(&self, ranges: Vec<RemoteRange>) -> Fetching {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let bytes = |range: &RemoteRange| {
            if self.0.broken == Some(range.block) {
                return Err(Error::new(ErrorKind::Unavailable, "chunks/000001: the bucket answered 503"));
            }
            let segment = &self.0.segments[&range.block];
            let end = segment.len().min((range.offset + range.len) as usize);
            Ok(Bytes::copy_from_slice(&segment[range.offset as usize..end]))
        };
        let fetched = |range: &RemoteRange| {
            let downloaded_bytes = range.len + self.0.around;
            Fetched { bytes: bytes(range), downloaded_bytes, downloads: 1, moment: 0 }
        };
        let answer: Vec<_> = ranges.iter().map(fetched).collect();
        Box::pin(async move { answer })
    }
}

fn chunk_data(start: i64, count: i64, tint: i64) -> Vec<u8> {
    let times: Vec<i64> = (0..count).map(|at| start + at * 10).collect();
    let values: Vec<f64> = times.iter().map(|time| (time + tint) as f64).collect();
    let mut data = Vec::new();
    xor::encode(&times, &values, &mut data);
    data
}

/// The index of the block that `model` describes, and its segment.
pub(super) fn written(model: &Model) -> (Vec<u8>, Vec<u8>) {
    let mut segment = segment::MAGIC.to_vec();
    segment.extend_from_slice(&[segment::VERSION, 0, 0, 0]);
    let symbols: BTreeSet<&str> =
        model.content.keys().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let mut writer = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(symbols)).unwrap();
    for (labels, chunks) in &model.content {
        let metas: Vec<ChunkMeta> = chunks
            .iter()
            .map(|(start, count)| {
                let chunk_ref = ChunkRef::new(0, segment.len() as u32);
                segment::encode(Encoding::Xor, &chunk_data(*start, *count, model.tint), &mut segment);
                ChunkMeta { min_time: *start, max_time: start + (count - 1) * 10, chunk_ref }
            })
            .collect();
        writer.add_labels(labels, &metas).unwrap();
    }
    (writer.finish().unwrap().1, segment)
}

/// The block that `model` describes with an index in some form, and its chunks elsewhere.
pub(super) fn opened(number: u128, model: &Model, (index, segment): (Arc<dyn BlockIndex>, &[u8])) -> Arc<OpenedBlock> {
    let info = BlockInfo {
        id: BlockId::from_parts(1, number),
        min_time: 0,
        max_time: 10_000,
        resolution: Resolution::RAW,
        series: model.content.len() as u64,
        external_labels: model.external.clone(),
    };
    Arc::new(OpenedBlock::new(info, index, ChunkSource::Remote(vec![segment.len() as u64])))
}

/// The block that `model` describes, with its chunks in a segment of its own.
pub(super) fn open(number: u128, model: &Model) -> (Arc<OpenedBlock>, Vec<u8>) {
    let (index, segment) = written(model);
    let columns = column::build_in_memory(&tsdb::Reader::open(index).unwrap()).unwrap();
    let index = column::Reader::from_bytes(columns, column::Check::Everything).unwrap();
    (opened(number, model, (Arc::new(index), &segment)), segment)
}

fn open_all(models: &[Model]) -> (BlockSet, Remote) {
    let mut remote = Remote::default();
    let mut blocks = Vec::new();
    for (number, model) in models.iter().enumerate() {
        let (block, segment) = open(number as u128 + 1, model);
        remote.segments.insert(block.id(), segment);
        blocks.push(block);
    }
    (BlockSet::new(blocks), remote)
}

/// What the answer must be, computed with a sorted map.
pub(super) fn naive(models: &[Model], request: &Request) -> Series {
    let mut merged: BTreeMap<Labels, BTreeSet<Set>> = BTreeMap::new();
    for model in models {
        for (own, chunks) in &model.content {
            let mut labels = LabelsBuilder::from_labels(own);
            for (name, value) in model.external.iter() {
                labels.set(name, value);
            }
            if !request.matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or(""))) {
                continue;
            }
            for name in &request.without_labels {
                labels.remove(name);
            }
            let within = chunks.iter().map(|(start, count)| (*start, *count, start + (count - 1) * 10));
            for (start, count, end) in
                within.filter(|(start, _, end)| request.range.overlaps(TimeRange::new(*start, *end)))
            {
                let part = (0, Encoding::Xor.byte(), chunk_data(start, count, model.tint));
                merged.entry(labels.build()).or_default().insert((start, end, vec![part]));
            }
        }
    }
    merged.into_iter().map(|(labels, sets)| (labels, sets.into_iter().collect())).collect()
}

fn run_remote(selector: &Selector, blocks: &BlockSet, request: Request, remote: Remote) -> Result<Series, Error> {
    run_with(selector, blocks, request, Some(Arc::new(Remotely(Arc::new(remote)))))
}

fn labels() -> impl Strategy<Value = Labels> {
    // Some sets begin with all labels of others, and some have names that external labels have too.
    let value = || prop::option::weighted(0.5, 0u8..3);
    ("[xy]", value(), value(), value(), value()).prop_map(|(a, b, d, r, z)| {
        let text = |value: Option<u8>| value.map_or(String::new(), |value| value.to_string());
        Labels::from_pairs([("a", a), ("b", text(b)), ("d", text(d)), ("r", text(r)), ("z", text(z))])
    })
}

fn content() -> impl Strategy<Value = Content> {
    let chunks = prop::collection::vec((1i64..50, 1i64..5), 1..4).prop_map(|gaps| {
        let mut start = 0;
        let place = |(gap, count): (i64, i64)| {
            start += gap * 10;
            let placed = (start, count);
            start += count * 10;
            placed
        };
        gaps.into_iter().map(place).collect::<Vec<_>>()
    });
    prop::collection::btree_map(labels(), chunks, 0..25)
}

fn model() -> impl Strategy<Value = Model> {
    let external = prop::collection::btree_map("[bcez]", "[pq]", 0..3);
    (external, content(), 0i64..2).prop_map(|(external, content, tint)| Model {
        external: Labels::from_pairs(external),
        content,
        tint,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn many_blocks_answer_as_a_naive_merge_does(
        models in prop::collection::vec(model(), 1..5),
        without in prop::collection::vec("[bcrz]", 0..3),
        from in 0i64..600,
        length in 0i64..600,
    ) {
        let (blocks, remote) = open_all(&models);
        let matchers = vec![Matcher::new(MatchKind::Re, "a", "x|y").unwrap()];
        let mut request = Request::new(TimeRange::new(from, from + length), matchers);
        request.without_labels = without;
        let expected = naive(&models, &request);
        let mut found = run_remote(&selector(2, io::Mode::Pread), &blocks, request, remote).unwrap();
        for (_, sets) in &mut found {
            prop_assert!(sets.is_sorted_by_key(|(start, end, _)| (*start, *end)));
            // Which block's chunk of the same times comes first is not the naive merge's to say.
            sets.sort();
        }
        prop_assert_eq!(found, expected);
    }
}

/// `count` series of ten chunks, enough of them for many ranges.
pub(super) fn large(count: usize) -> Model {
    let chunks: Vec<(i64, i64)> = (0..10).map(|at| (at * 900, 60)).collect();
    let series =
        (0..count).map(|at| (Labels::from_pairs([("a", "x".to_owned()), ("n", format!("{at:06}"))]), chunks.clone()));
    Model { external: Labels::from_pairs([("replica", "1")]), content: series.collect(), tint: 0 }
}

/// One series of one chunk of `count` samples.
pub(super) fn long_chunk(count: i64) -> Model {
    Model { content: [(Labels::from_pairs([("a", "x")]), vec![(0, count)])].into(), ..large(0) }
}

/// The same with samples of its own.
pub(super) fn tinted(count: usize, tint: i64) -> Model {
    Model { tint, ..large(count) }
}

/// The values of `n` of the series that match.
pub(super) fn values_of_n(matchers: Vec<Matcher>) -> LabelRequest {
    LabelRequest {
        name: Some("n".to_owned()),
        range: TimeRange::ALL,
        matchers,
        without_labels: Vec::new(),
        limit: 0,
        block_matchers: Vec::new(),
    }
}

/// How many series `blocks` answer, and which blocks failed.
pub(super) fn counted(selector: &Selector, blocks: &BlockSet, setting: Setting) -> (u64, Vec<Failure>) {
    block_on(async {
        let mut stream = selector.select(blocks, all_series(), setting).await.unwrap();
        let (mut series, mut failures) = (0, Vec::new());
        while let Some(part) = stream.next().await {
            let part = part.unwrap();
            series += part.series;
            failures.extend(part.failures);
        }
        (series, failures)
    })
}

pub(super) fn all_series() -> Request {
    Request::new(TimeRange::ALL, vec![Matcher::equal("a", "x")])
}

/// What a query knows of the types of the series called `m` of `blocks`, and how many labels they come with where it
/// looks at one.
fn types_of(blocks: &[&[&[(&str, &str)]]]) -> (Types, BTreeSet<usize>) {
    let block = |(number, all): (usize, &&[&[(&str, &str)]])| {
        let labels = |own: &&[(&str, &str)]| Labels::from_pairs(own.iter().copied().chain([("a", "x")]));
        let content = all.iter().map(|own| (labels(own), vec![(0, 9)])).collect();
        let (block, segment) = open(number as u128 + 1, &Model { content, ..large(0) });
        Arc::new(block.with_chunks(ChunkSource::Memory(vec![segment.into()])))
    };
    let blocks = BlockSet::new(blocks.iter().enumerate().map(block).collect::<Vec<_>>());
    let source = BlockSource::new(Arc::new(blocks), Scope::default());
    let (matchers, range) = ([Matcher::equal("__name__", "m")], TimeRange::new(0, 10_000));
    let (hints, files) = (Hints { projection: Some(vec!["b".to_owned()]), ..Hints::default() }, Files::default());
    let request = SelectRequest { matchers: &matchers, range, extent: range, hints: &hints, part: Part::WHOLE, files };
    let mut counts = BTreeSet::new();
    let mut count = |batch: &mut SampleBatch| {
        counts.extend(batch.labels.iter().map(|labels| labels.iter().len()));
        Ok(())
    };
    source.select(&request, &mut count).unwrap();
    (source.types(&request).unwrap(), counts)
}

#[test]
fn series_of_one_type_and_unit_come_with_the_labels_alone_that_a_query_looks_at() {
    let counter = |b| [("__name__", "m"), ("__type__", "counter"), ("b", b)];
    let seconds = |b| [("__name__", "m"), ("__type__", "counter"), ("__unit__", "s"), ("b", b)];
    let (bare, other) = (|b| [("__name__", "m"), ("b", b)], [("__name__", "n"), ("__type__", "gauge"), ("b", "1")]);
    let same: [&[&[&[_]]]; 5] = [
        &[&[&counter("1"), &counter("2"), &other]],
        &[&[&bare("1"), &bare("2"), &other]],
        &[&[&counter("1")]],
        &[&[&seconds("1"), &other], &[&seconds("2"), &seconds("3")]],
        &[&[&bare("1"), &other], &[&bare("2")]],
    ];
    for blocks in same {
        assert_eq!(types_of(blocks), (Types::Same, BTreeSet::from([1])), "{blocks:?}");
    }
    let differing: [&[&[&[_]]]; 5] = [
        &[&[&counter("1"), &bare("2")]],
        &[&[&counter("1"), &seconds("2")]],
        &[&[&counter("1")], &[&bare("1")]],
        &[&[&bare("1")], &[&seconds("2")]],
        &[&[&counter("1"), &other], &[&seconds("1"), &other]],
    ];
    for blocks in differing {
        let (types, counts) = types_of(blocks);
        assert!(types == Types::Differ && counts.iter().all(|count| *count > 2), "{types:?} {counts:?} of {blocks:?}");
    }
}

#[test]
fn what_is_left_of_a_range_is_not_looked_up_again_for_every_part_of_it() {
    // Of each block only as much is known of its chunk as a chunk may have, so that a part of the answer has few.
    let model = |at: usize| Model {
        content: [(Labels::from_pairs([("a", "x".to_owned()), ("n", format!("{at:06}"))]), vec![(0, 9)])].into(),
        ..large(0)
    };
    let models: Vec<Model> = (0..800).map(model).collect();
    let in_memory = |(number, model): (usize, &Model)| {
        let (block, segment) = open(number as u128 + 1, model);
        let block = Arc::into_inner(block).unwrap();
        Arc::new(block.with_chunks(ChunkSource::Memory(vec![segment.into()])))
    };
    let blocks = BlockSet::new(models.iter().enumerate().map(in_memory).collect::<Vec<_>>());
    for shards in [1, 3] {
        let selector = selector(shards, io::Mode::Pread);
        let kept = Arc::<Kept>::default();
        let setting = Setting { limits: Limits::default(), sinks: Arc::new(Keeping(Arc::clone(&kept))), fetcher: None };
        let (found, parts, touched) = block_on(async {
            let mut stream = selector.select(&blocks, all_series(), setting).await.unwrap();
            let (mut found, mut parts) = (Series::new(), 0);
            while let Some(part) = stream.next().await {
                let ticket = usize::from_le_bytes(part.unwrap().frames.try_into().unwrap());
                found.append(&mut kept.ranges.lock().unwrap()[ticket]);
                parts += 1;
            }
            (found, parts, stream.stats().series_touched)
        });
        assert_eq!(found, naive(&models, &all_series()));
        assert!(parts > 8, "{parts} parts");
        assert!(touched <= 2 * 800 + 100, "{touched} series were looked up for 800");
    }
}

#[test]
fn a_limit_gives_the_first_series_and_no_more() {
    let models = [large(300)];
    let (blocks, remote) = open_all(&models);
    let request = Request { limit: 7, ..all_series() };
    let found = run_remote(&selector(2, io::Mode::Pread), &blocks, request, remote).unwrap();
    assert_eq!(found, naive(&models, &all_series())[..7]);
}

#[test]
fn dropping_the_answer_ends_the_work_and_gives_the_memory_back() {
    let (blocks, remote) = open_all(&[large(20_000)]);
    let remote = Arc::new(remote);
    let selector = selector(2, io::Mode::Pread);
    let setting = Setting {
        limits: Limits::default(),
        sinks: Arc::new(Keeping(Arc::default())),
        fetcher: Some(Arc::new(Remotely(Arc::clone(&remote)))),
    };
    let mut stream = block_on(selector.select(&blocks, all_series(), setting)).unwrap();
    assert!(stream.reserved_bytes() > 0);
    assert!(block_on(stream.next()).unwrap().unwrap().series > 0);
    drop(stream);
    let asked = remote.asked.load(Ordering::Relaxed);
    assert!(asked <= 10, "{asked} ranges were fetched for one that was read");
    while selector.budget.usage().used > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_block_whose_bucket_fails_is_named_and_the_others_answer() {
    let models = [large(200), Model { external: Labels::from_pairs([("replica", "2")]), ..large(200) }];
    let (blocks, mut remote) = open_all(&models);
    let broken = BlockId::from_parts(1, 2);
    remote.broken = Some(broken);
    let kept = Arc::<Kept>::default();
    let setting = Setting {
        limits: Limits::default(),
        sinks: Arc::new(Keeping(Arc::clone(&kept))),
        fetcher: Some(Arc::new(Remotely(Arc::new(remote)))),
    };
    let selector = selector(2, io::Mode::Pread);
    let (series, failures) = counted(&selector, &blocks, setting);
    assert_eq!(series, 200);
    assert!(failures.iter().all(|failure| failure.block == broken));
    let message = failures[0].error.to_string();
    assert_eq!(message, format!("block {broken}: chunks/000001: the bucket answered 503"));
}

#[test]
fn limits_end_a_request_by_name() {
    let (blocks, _) = open_all(&[large(500)]);
    let selector = selector(2, io::Mode::Pread);
    let cases = [
        (Limits { series_max: 100, ..Limits::default() }, "--store.limits.request-series"),
        (Limits { samples_max: 1200, ..Limits::default() }, "--store.limits.request-samples"),
        (Limits { touched_series_max: 499, ..Limits::default() }, "--store.grpc.touched-series-limit"),
        (Limits { chunk_samples_max: 1200, ..Limits::default() }, "--store.grpc.series-sample-limit"),
        (Limits { bytes_max: 1000, ..Limits::default() }, "--store.grpc.downloaded-bytes-limit"),
    ];
    for (limits, flag) in cases {
        let (_, remote) = open_all(&[large(500)]);
        let setting = Setting {
            limits,
            sinks: Arc::new(Keeping(Arc::default())),
            fetcher: Some(Arc::new(Remotely(Arc::new(remote)))),
        };
        let error = block_on(async {
            let mut stream = selector.select(&blocks, all_series(), setting).await?;
            while let Some(part) = stream.next().await {
                part?;
            }
            Ok::<(), Error>(())
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().starts_with(flag), "{error}");
    }
}

#[test]
fn what_is_read_around_ranges_counts_as_downloaded() {
    let ask = |bytes_max: u64| {
        let (blocks, mut remote) = open_all(&[large(10)]);
        remote.around = 1 << 20;
        let setting = Setting {
            limits: Limits { bytes_max, ..Limits::default() },
            sinks: Arc::new(Keeping(Arc::default())),
            fetcher: Some(Arc::new(Remotely(Arc::new(remote)))),
        };
        block_on(async {
            let mut stream = selector(1, io::Mode::Pread).select(&blocks, all_series(), setting).await?;
            while let Some(part) = stream.next().await {
                part?;
            }
            Ok::<(), Error>(())
        })
    };
    ask(16 << 20).unwrap();
    let error = ask(1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().starts_with("--store.grpc.downloaded-bytes-limit"), "{error}");
}

#[test]
fn a_request_waits_for_memory_and_is_refused_when_it_can_never_have_it() {
    let (blocks, remote) = open_all(&[large(10)]);
    let mut small = selector(2, io::Mode::Pread);
    small.budget = Budget::new("--store.memory-limit", 1 << 20);
    let error = run_remote(&small, &blocks, all_series(), remote).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().starts_with("--store.memory-limit"), "{error}");
}

#[test]
fn where_memory_is_too_little_for_work_on_all_shards_a_request_has_less_in_work() {
    let models = [large(300)];
    let mut small = selector(8, io::Mode::Pread);
    // Far too little, and all but what looking for series takes.
    for limit in [20 << 20, (4 << 20) + 17 * RANGE_BYTES] {
        small.budget = Budget::new("--store.memory-limit", limit);
        let _cache = small.budget.reserve_for_good(4 << 20).unwrap();
        let (blocks, remote) = open_all(&models);
        assert_eq!(run_remote(&small, &blocks, all_series(), remote).unwrap(), naive(&models, &all_series()));
        assert_eq!(small.budget.usage().refused, 0, "{:?}", small.budget.usage());
    }
}

/// A block of series with a label of so many bytes each.
fn long_labels(count: i64, bytes: usize) -> Model {
    let series = (0..count).map(|at| {
        let long = format!("{at:06}{}", "v".repeat(bytes));
        (Labels::from_pairs([("a", "x".to_owned()), ("n", long)]), vec![(0, 2)])
    });
    Model { external: Labels::from_pairs([("replica", "1")]), content: series.collect(), tint: 0 }
}

#[test]
fn long_labels_are_accounted_for_and_refused_by_name_where_there_is_no_memory_for_them() {
    let model = [long_labels(6000, 4000)];
    // Replica labels that lie before others are sorted anew, with the labels of all.
    let requests = [all_series(), Request { without_labels: vec!["a".to_owned()], ..all_series() }];
    for request in requests {
        let mut limited = selector(2, io::Mode::Pread);
        limited.budget = Budget::new("--store.memory-limit", 20 << 20);
        let (blocks, remote) = open_all(&model);
        let error = run_remote(&limited, &blocks, request.clone(), remote).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().starts_with("--store.memory-limit"), "{error}");
        assert!(limited.budget.usage().peak <= 20 << 20);
        let ample = selector(2, io::Mode::Pread);
        let (blocks, remote) = open_all(&model);
        assert_eq!(run_remote(&ample, &blocks, request, remote).unwrap().len(), 6000);
        let labels = 6000 * 4000;
        assert!(ample.budget.usage().peak > labels, "{:?}", ample.budget.usage());
        for selector in [limited, ample] {
            while selector.budget.usage().used > 0 {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn lists_of_very_many_chunks_of_a_series_are_accounted_for() {
    let chunks: Vec<(i64, i64)> = (0..40_000).map(|at| (at * 20, 2)).collect();
    let model = Model { content: [(Labels::from_pairs([("a", "x")]), chunks)].into(), ..large(0) };
    let (blocks, remote) = open_all(&[model]);
    let selector = selector(1, io::Mode::Pread);
    let found = run_remote(&selector, &blocks, all_series(), remote).unwrap();
    assert_eq!(found[0].1.len(), 40_000);
    let (lists, usage) = (2 * 40_000 * size_of::<ChunkSet<'_>>() as u64, selector.budget.usage());
    assert!(usage.peak >= 2 * lists, "{usage:?}");
}

#[test]
fn values_of_labels_are_accounted_for_as_long_as_they_are_held() {
    let request = values_of_n(Vec::new());
    let (blocks, _) = open_all(&[long_labels(2000, 1000), long_labels(1000, 1000)]);
    let ample = selector(2, io::Mode::Pread);
    let found = block_on(ample.labels(&blocks, request.clone(), Limits::default())).unwrap();
    assert_eq!(found.strings.len(), 2000);
    assert!(ample.budget.usage().used >= 2 * 2000 * 1006, "{:?}", ample.budget.usage());
    drop(found);
    assert_eq!(ample.budget.usage().used, 0);
    let mut limited = selector(2, io::Mode::Pread);
    limited.budget = Budget::new("--store.memory-limit", 3 << 20);
    let error = block_on(limited.labels(&blocks, request, Limits::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().starts_with("--store.memory-limit"), "{error}");
    while limited.budget.usage().used > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn values_that_many_blocks_have_take_the_memory_of_two_of_them() {
    let request = values_of_n(Vec::new());
    let models: Vec<Model> = (0..12).map(|_| long_labels(300, 1000)).collect();
    let (one, _) = open_all(&models[..1]);
    let mut selector = selector(2, io::Mode::Pread);
    let alone = block_on(selector.labels(&one, request.clone(), Limits::default())).unwrap();
    let bytes = selector.budget.usage().used;
    assert!(bytes >= 2 * 300 * 1006, "{bytes}");
    let (blocks, _) = open_all(&models);
    selector.budget = Budget::new("--store.memory-limit", 2 * bytes + bytes / 2);
    let found = block_on(selector.labels(&blocks, request, Limits::default())).unwrap();
    assert!(found.failures.is_empty() && found.strings.iter().eq(alone.strings.iter()));
    assert_eq!(selector.budget.usage().used, bytes);
    drop(found);
    assert_eq!(selector.budget.usage().used, 0);
}

#[test]
fn a_block_that_is_asked_again_as_memory_was_short_counts_its_series_once() {
    let request = values_of_n(vec![Matcher::equal("a", "x")]);
    let models = [long_labels(300, 1000), long_labels(300, 1000)];
    let budget = Budget::new("--store.memory-limit", 1 << 30);
    let ask = |models: &[Model], touched_series_max: u64| {
        let chosen = open_all(models).0.overlapping(&request.matchers, request.range, &[]);
        let meter = Meter::new(Limits { touched_series_max, ..Limits::default() }, &budget);
        let (said, left) = request.ask_all(chosen, &meter).unwrap();
        (said, left, meter)
    };
    let alone = ask(&models[..1], 0);
    let bytes = budget.usage().used;
    assert!(alone.1.is_empty() && bytes >= 2 * 300 * 1006, "{bytes}");
    drop(alone);
    let others = budget.reserve((1 << 30) - bytes - bytes / 2).unwrap();
    let (said, left, meter) = ask(&models, 600);
    assert_eq!(left.len(), 1);
    drop(others);
    let said = request.ask_one_by_one(said, &left, &meter).unwrap();
    assert_eq!(request.answer(said).strings.len(), 300);
}

#[test]
fn a_share_has_the_same_series_with_and_without_a_projection() {
    let selector = selector(2, io::Mode::Pread);
    for hashed in [Hashed::By(vec!["n".to_owned()]), Hashed::Without(vec!["a".to_owned()])] {
        let share = |index: u64, projection: Option<Projection>| {
            let (blocks, remote) = open_all(&[large(60)]);
            let shard = Some(ShardInfo { index, total: 3, hashed: hashed.clone() });
            run_remote(&selector, &blocks, Request { shard, projection, ..all_series() }, remote).unwrap()
        };
        let kept = Hashed::By(vec!["a".to_owned()]);
        let projection = Projection { kept, hash_label: "__series_hash__".to_owned() };
        for index in 0..3 {
            let whole = share(index, None);
            assert!(!whole.is_empty() && whole.len() < 60);
            assert_eq!(share(index, Some(projection.clone())).len(), whole.len(), "{hashed:?}, share {index}");
        }
    }
}

#[test]
fn a_projection_keeps_the_labels_that_are_looked_at_and_a_hash_that_tells_series_apart() {
    let models = [large(50), Model { external: Labels::from_pairs([("replica", "2")]), ..large(50) }];
    let (blocks, remote) = open_all(&models);
    let kept = Hashed::By(vec!["a".to_owned()]);
    let projection = Some(Projection { kept, hash_label: "__series_hash__".to_owned() });
    let request = Request { projection, ..all_series() };
    let found = run_remote(&selector(2, io::Mode::Pread), &blocks, request, remote).unwrap();
    assert_eq!(found.len(), 100);
    assert!(found.is_sorted_by(|left, right| left.0 < right.0));
    for (labels, sets) in &found {
        let names: Vec<&str> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!((names.as_slice(), sets.len()), (&["__series_hash__", "a"][..], 10));
    }
}
