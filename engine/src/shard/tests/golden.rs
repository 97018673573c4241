//! Requests that were recorded with their answers from Thanos over the golden blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{Series, Set, run, selector};
use crate::block::{BlockInfo, BlockSet, ChunkSource, Detail, OpenedBlock, Segments};
use crate::bucket::Meta;
use crate::index::column;
use crate::index::tsdb::{self, FileSource};
use crate::io;
use crate::model::matcher::MatchKind;
use crate::model::{Labels, Matcher, Resolution, TimeRange};
use crate::select::{Aggregate, Hashed, LabelRequest, Limits, Request, ShardInfo};
use crate::shard::block_on;

fn golden(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is required", path.display());
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

fn block_folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("meta.json").exists());
    found.sort();
    found
}

fn open_block(folder: &Path, external: &[(&str, &str)]) -> Arc<OpenedBlock> {
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

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn matchers_of(recorded: &Value) -> Vec<Matcher> {
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
    let mut request = Request::new(range, matchers_of(recorded));
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
            assert!(found.strings.iter().eq(strings(&recorded["values"]).iter()), "{recorded}");
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

#[test]
fn recorded_requests_over_downsampled_blocks_get_the_recorded_series_and_bytes() {
    replay("downsampled-5m", &["blocks/long", "thanos/long"], io::Mode::Auto);
    replay("downsampled-1h", &["blocks/long", "thanos/long"], io::Mode::Pread);
}
