//! Every recorded StoreAPI request is answered as Thanos' store answered it.

use std::path::Path;

use prost::Message;
use proto::thanos::{
    AggrChunk, Chunk, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse, Series,
    SeriesRequest,
};
use serde_json::Value;

use crate::support;
use crate::support::{IO_MODES, Uru, blocks_in, copy_block, run, series, shared, unary};

const LABELS: [(&str, &str); 2] = [("cluster", "c1"), ("replica", "a")];

/// Labels, then of each chunk: aggregate, first time, last time, encoding, data, hash.
type Flat = (Vec<(String, String)>, Vec<(u8, i64, i64, i32, Vec<u8>, u64)>);

#[test]
fn k8s_is_answered_as_recorded() {
    check("k8s.jsonl", &["blocks/k8s"]);
}

#[test]
fn native_histograms_are_answered_as_recorded() {
    check("native.jsonl", &["blocks/native"]);
}

#[test]
fn blocks_of_five_minutes_are_answered_as_recorded() {
    check("downsampled-5m.jsonl", &["blocks/long", "thanos/long"]);
}

#[test]
fn blocks_of_one_hour_are_answered_as_recorded() {
    check("downsampled-1h.jsonl", &["blocks/long", "thanos/long"]);
}

#[test]
fn blocks_that_were_downsampled_here_are_answered_as_those_of_thanos() {
    let Some(golden) = shared("golden") else { return };
    let folder = tempfile::tempdir().unwrap();
    fill(&golden, folder.path(), &["blocks/long"]);
    support::compact_once(&objstore(folder.path()), &folder.path().join("compact"));
    for recorded in ["downsampled-5m.jsonl", "downsampled-1h.jsonl"] {
        check_bucket(&golden.join("storeapi").join(recorded), folder.path());
    }
}

fn check(recorded: &str, folders: &[&str]) {
    let Some(golden) = shared("golden") else { return };
    let folder = tempfile::tempdir().unwrap();
    fill(&golden, folder.path(), folders);
    check_bucket(&golden.join("storeapi").join(recorded), folder.path());
}

fn objstore(folder: &Path) -> String {
    let bucket = folder.join("bucket");
    format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display())
}

/// Puts reference blocks into the bucket below `folder`.
fn fill(golden: &Path, folder: &Path, sets: &[&str]) {
    for set in sets {
        for block in blocks_in(&golden.join(set)) {
            copy_block(&block, &folder.join("bucket"), &LABELS);
        }
    }
}

/// Holds a store over the bucket below `folder` to what was recorded.
fn check_bucket(recorded: &Path, folder: &Path) {
    let lines = std::fs::read_to_string(recorded).unwrap();
    let objstore = objstore(folder);
    for mode in IO_MODES {
        let data_dir = format!("--data-dir={}", folder.join("data").display());
        let uru = Uru::start("store", &[&objstore, &data_dir, &format!("--io.mode={mode}")]);
        run(async {
            let channel = uru.connect().await;
            for (number, line) in lines.lines().enumerate() {
                let recorded: Value = serde_json::from_str(line).unwrap();
                check_one(&channel, &recorded)
                    .await
                    .unwrap_or_else(|why| panic!("{mode}, line {}: {why}\n{}", number + 1, recorded["request"]));
            }
        });
    }
}

async fn check_one(channel: &tonic::transport::Channel, recorded: &Value) -> Result<(), String> {
    let request = base64(recorded["request_bytes"].as_str().unwrap());
    let fails = recorded["error"].as_bool().unwrap();
    let expect = |answer: Result<Vec<String>, tonic::Status>| match answer {
        Ok(_) if fails => Err("an error was recorded".to_owned()),
        Ok(words) if words == strings(&recorded["values"]) => Ok(()),
        Ok(words) => Err(format!("{words:?} is not {}", recorded["values"])),
        Err(_) if fails => Ok(()),
        Err(status) => Err(status.to_string()),
    };
    match recorded["method"].as_str().unwrap() {
        "LabelNames" => {
            let request = LabelNamesRequest::decode(&*request).unwrap();
            let answer: Result<LabelNamesResponse, _> = unary(channel, "/thanos.Store/LabelNames", request).await;
            expect(answer.map(|answer| answer.names))
        }
        "LabelValues" => {
            let request = LabelValuesRequest::decode(&*request).unwrap();
            let answer: Result<LabelValuesResponse, _> = unary(channel, "/thanos.Store/LabelValues", request).await;
            expect(answer.map(|answer| answer.values))
        }
        _ => {
            let mut request = SeriesRequest::decode(&*request).unwrap();
            // What was recorded as an error must be one, not a warning.
            request.partial_response_disabled |= fails;
            match series(channel, request).await {
                Ok(_) if fails => Err("an error was recorded".into()),
                Ok((found, warnings)) if warnings.is_empty() => compare(&found, &recorded["series"]),
                Ok((_, warnings)) => Err(format!("{warnings:?}")),
                Err(_) if fails => Ok(()),
                Err(status) => Err(status.to_string()),
            }
        }
    }
}

fn compare(found: &[Series], recorded: &Value) -> Result<(), String> {
    let found: Vec<Flat> = merge(found.iter().map(flatten));
    let recorded: Vec<Flat> = merge(recorded.as_array().into_iter().flatten().map(flatten_recorded));
    for (at, (found, recorded)) in found.iter().zip(&recorded).enumerate() {
        if found.0 != recorded.0 {
            return Err(format!("series {at}: {:?} is not {:?}", found.0, recorded.0));
        }
        if found.1 != recorded.1 {
            let chunks = (found.1.len(), recorded.1.len());
            let differs = found.1.iter().zip(&recorded.1).position(|(left, right)| left != right);
            return Err(format!("series {at} {:?}: chunks differ, {chunks:?} of them, at {differs:?}", found.0));
        }
    }
    if found.len() != recorded.len() {
        return Err(format!("{} series instead of {}", found.len(), recorded.len()));
    }
    Ok(())
}

/// Frames of one series that follow each other are one.
fn merge(series: impl Iterator<Item = Flat>) -> Vec<Flat> {
    let mut merged: Vec<Flat> = Vec::new();
    for (labels, chunks) in series {
        match merged.last_mut() {
            Some(last) if last.0 == labels => last.1.extend(chunks),
            _ => merged.push((labels, chunks)),
        }
    }
    merged
}

fn flatten(series: &Series) -> Flat {
    let labels = series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
    let mut chunks = Vec::new();
    for set in &series.chunks {
        let AggrChunk { min_time, max_time, raw, count, sum, min, max, counter } = set;
        for (aggregate, part) in [raw, count, sum, min, max, counter].into_iter().enumerate() {
            if let Some(Chunk { r#type, data, hash }) = part {
                chunks.push((aggregate as u8, *min_time, *max_time, *r#type, data.to_vec(), *hash));
            }
        }
    }
    (labels, chunks)
}

fn flatten_recorded(series: &Value) -> Flat {
    let labels = series["Labels"].as_array().into_iter().flatten();
    let labels = labels.map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    let chunks = series["Chunks"].as_array().into_iter().flatten().map(|chunk| {
        let number = |key: &str| chunk[key].as_i64().unwrap();
        let hash = chunk["Hash"].as_u64().unwrap();
        let data = base64(chunk["Data"].as_str().unwrap());
        (number("Aggr") as u8, number("Min"), number("Max"), number("Type") as i32, data, hash)
    });
    (labels, chunks.collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        word = (word << 6) | u32::from(digit(byte));
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes
}

#[test]
fn base64_is_decoded() {
    assert_eq!(base64("Zm9vYg=="), b"foob");
    assert!(Path::new(env!("CARGO_BIN_EXE_uru")).is_file());
}
