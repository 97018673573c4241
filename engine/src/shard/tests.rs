//! Whole requests over whole blocks, on shards.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::block::{BlockInfo, BlockSet, ChunkSource, Detail, LabelView, OpenedBlock, Segments};
use crate::bucket::Meta;
use crate::index::column;
use crate::index::tsdb::{self, FileSource};
use crate::io;
use crate::model::matcher::MatchKind;
use crate::model::{Budget, Error, Labels, Matcher, Resolution, TimeRange};
use crate::select::{
    Aggregate, Aggregates, ChunkSet, FrameSink, Hashed, LabelRequest, Limits, Request, ShardInfo, SinkFactory,
};

/// A chunk set of an answer: times, and for each part its place, encoding and data.
type Set = (i64, i64, Vec<(usize, u8, Vec<u8>)>);

/// Series of an answer, in the order in which they came.
pub(super) type Series = Vec<(Labels, Vec<Set>)>;

/// Keeps the series of a range; its "frames" are a ticket for them.
#[derive(Default)]
struct Kept {
    ranges: Mutex<Vec<Series>>,
}

struct KeepingSink {
    all: Arc<Kept>,
    own: Series,
}

impl FrameSink for KeepingSink {
    fn series(&mut self, labels: LabelView<'_>, chunks: &[ChunkSet<'_>]) -> Result<(), Error> {
        let sets = chunks.iter().map(|set| {
            let parts = set
                .parts
                .iter()
                .enumerate()
                .filter_map(|(at, part)| part.map(|chunk| (at, chunk.encoding.byte(), chunk.data.to_vec())));
            (set.min_time, set.max_time, parts.collect())
        });
        self.own.push((labels.to_labels(), sets.collect()));
        Ok(())
    }

    fn len(&self) -> usize {
        self.own.len()
    }

    fn take(&mut self) -> Vec<u8> {
        let mut ranges = self.all.ranges.lock().unwrap();
        ranges.push(std::mem::take(&mut self.own));
        (ranges.len() - 1).to_le_bytes().to_vec()
    }
}

struct Keeping(Arc<Kept>);

impl SinkFactory for Keeping {
    fn sink(&self, _bytes: usize) -> Box<dyn FrameSink> {
        Box::new(KeepingSink { all: Arc::clone(&self.0), own: Vec::new() })
    }
}

pub(super) fn golden(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is required", path.display());
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

pub(super) fn block_folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("meta.json").exists());
    found.sort();
    found
}

pub(super) fn open_block(folder: &Path, external: &[(&str, &str)]) -> Arc<OpenedBlock> {
    let meta = Meta::parse(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let mut info = BlockInfo::from_meta(&meta);
    info.external_labels = Labels::from_pairs(external.iter().copied());
    let index = tsdb::Reader::open(FileSource::open(&folder.join("index")).unwrap()).unwrap();
    let columns = column::build_in_memory(&index).unwrap();
    let index = Arc::new(column::Reader::from_bytes(columns, column::Check::Everything).unwrap());
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(folder.join("chunks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    Arc::new(OpenedBlock::new(info, index, ChunkSource::Local(Segments::new(segments))))
}

pub(super) fn selector(shards: usize, mode: io::Mode) -> Selector {
    let options = Options { shards: NonZeroUsize::new(shards), io: mode, ..Options::default() };
    Selector { pool: Pool::start(&options).unwrap(), budget: Budget::new("--store.memory-limit", 1 << 30) }
}

pub(super) fn request(range: TimeRange, matchers: Vec<Matcher>) -> Request {
    Request {
        range,
        matchers,
        detail: Detail::Chunks,
        max_resolution: Resolution::RAW,
        aggregates: Aggregates::default(),
        shard: None,
        without_labels: Vec::new(),
        limit: 0,
        batch_series_max: 0,
        block_matchers: Vec::new(),
        projection: None,
    }
}

/// Runs a request to its end.
pub(super) fn run(selector: &Selector, blocks: &BlockSet, request: Request) -> Result<Series, Error> {
    let kept = Arc::<Kept>::default();
    let setting = Setting { limits: Limits::default(), sinks: Arc::new(Keeping(Arc::clone(&kept))), fetcher: None };
    block_on(async {
        let mut stream = selector.select(blocks, request, setting).await?;
        let mut series = Series::new();
        while let Some(part) = stream.next().await {
            let part = part?;
            if let Some(failure) = part.failures.first() {
                return Err(failure.error.clone());
            }
            let ticket = usize::from_le_bytes(part.frames.try_into().unwrap());
            series.append(&mut kept.ranges.lock().unwrap()[ticket]);
        }
        Ok(series)
    })
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

pub(super) fn matchers_of(recorded: &Value) -> Vec<Matcher> {
    let kinds = [MatchKind::Eq, MatchKind::NotEq, MatchKind::Re, MatchKind::NotRe];
    let items = recorded["Matchers"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|item| {
            let kind = kinds[item["Type"].as_u64().unwrap() as usize];
            Matcher::new(kind, item["Name"].as_str().unwrap(), item["Value"].as_str().unwrap()).unwrap()
        })
        .collect()
}

fn recorded_request(recorded: &Value) -> Request {
    let range = TimeRange::new(recorded["Min"].as_i64().unwrap(), recorded["Max"].as_i64().unwrap());
    let mut request = request(range, matchers_of(recorded));
    if recorded["Skip"].as_bool().unwrap() {
        request.detail = Detail::Labels;
    }
    request.max_resolution = Resolution(recorded["MaxResolution"].as_i64().unwrap());
    request.without_labels = strings(&recorded["WithoutReplica"]);
    for aggregate in recorded["Aggrs"].as_array().unwrap() {
        let number = aggregate.as_u64().unwrap() as usize;
        if number > 0 {
            request.aggregates = request.aggregates.with(Aggregate::ALL[number - 1]);
        }
    }
    let total = recorded["Shard"].as_u64().unwrap();
    if total > 0 {
        let labels = strings(&recorded["ShardLabels"]);
        let by = recorded["ShardBy"].as_bool().unwrap();
        let hashed = if by { Hashed::By(labels) } else { Hashed::Without(labels) };
        request.shard = Some(ShardInfo { index: recorded["ShardIdx"].as_u64().unwrap(), total, hashed });
    }
    request
}

fn recorded_label_request(recorded: &Value) -> LabelRequest {
    let request = &recorded["request"];
    LabelRequest {
        name: (recorded["method"] == "LabelValues").then(|| request["Label"].as_str().unwrap().to_owned()),
        range: TimeRange::new(request["Min"].as_i64().unwrap(), request["Max"].as_i64().unwrap()),
        matchers: matchers_of(request),
        without_labels: strings(&request["WithoutReplica"]),
        limit: request["Limit"].as_u64().unwrap() as usize,
        block_matchers: Vec::new(),
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | u32::from(digit(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// The recorded answer. An aggregated chunk comes as one entry for each of its parts.
fn recorded_series(recorded: &Value) -> Series {
    let encodings = [1, 2, 3];
    let items = recorded.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|item| {
            let pairs = item["Labels"].as_array().unwrap().iter();
            let labels = Labels::from_pairs(pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())));
            let mut sets: Vec<Set> = Vec::new();
            for chunk in item["Chunks"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let times = (chunk["Min"].as_i64().unwrap(), chunk["Max"].as_i64().unwrap());
                let part = (
                    chunk["Aggr"].as_u64().unwrap() as usize,
                    encodings[chunk["Type"].as_u64().unwrap() as usize],
                    base64(chunk["Data"].as_str().unwrap()),
                );
                match sets.last_mut().filter(|set| (set.0, set.1) == times && set.2.iter().all(|own| own.0 < part.0)) {
                    Some(set) => set.2.push(part),
                    None => sets.push((times.0, times.1, vec![part])),
                }
            }
            (labels, sets)
        })
        .collect()
}

fn replay(recording: &str, folders: &[&str], mode: io::Mode) {
    let Some(recording) = golden(&format!("storeapi/{recording}.jsonl")) else { return };
    let external = [("cluster", "c1"), ("replica", "a")];
    let mut blocks = Vec::new();
    for folder in folders {
        let folder = golden(folder).unwrap();
        blocks.extend(block_folders(&folder).iter().map(|block| open_block(block, &external)));
    }
    let blocks = BlockSet::new(blocks);
    let selector = selector(2, mode);
    let mut asked = 0;
    for line in std::fs::read_to_string(recording).unwrap().lines() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        asked += 1;
        if recorded["method"] != "Series" {
            let request = recorded_label_request(&recorded);
            let found = block_on(selector.labels(&blocks, request, Limits::default())).unwrap();
            assert_eq!(found.strings, strings(&recorded["values"]), "{recorded}");
            continue;
        }
        let found = run(&selector, &blocks, recorded_request(&recorded["request"]));
        if recorded["error"].as_bool().unwrap() {
            assert!(found.is_err(), "{}", recorded["request"]);
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{error}: {}", recorded["request"]));
        let expected = recorded_series(&recorded["series"]);
        let names = |series: &Series| series.iter().map(|(labels, _)| labels.to_string()).collect::<Vec<_>>();
        let (found_names, expected_names) = (names(&found), names(&expected));
        assert_eq!(found_names.len(), expected_names.len(), "{}", recorded["request"]);
        let other = found_names.iter().zip(&expected_names).find(|(found, expected)| found != expected);
        assert_eq!(other, None, "{}", recorded["request"]);
        for (found, expected) in found.iter().zip(&expected) {
            let found_sets: Vec<&Set> = found.1.iter().filter(|set| !set.2.is_empty()).collect();
            assert!(found_sets.into_iter().eq(expected.1.iter()), "{}: {}", recorded["request"], found.0);
        }
    }
    assert!(asked > 20, "the recording has requests");
}

#[test]
fn recorded_requests_over_a_raw_block_get_the_recorded_series_and_bytes() {
    replay("k8s", &["blocks/k8s"], io::Mode::Auto);
    replay("k8s", &["blocks/k8s"], io::Mode::Pread);
}

#[test]
fn recorded_requests_over_native_histograms_get_the_recorded_series_and_bytes() {
    replay("native", &["blocks/native"], io::Mode::Auto);
}
