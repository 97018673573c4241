//! Queries over downsampled data: what `max_source_resolution` lets be read, and how far selectors look
//! back for it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Uru, blocks_in, copy_block, meta_of, shared};

/// Half an hour behind a sample of the data that was downsampled to 1h.
const BETWEEN_SAMPLES: &str = "1788939000";

#[test]
fn selectors_look_back_as_far_as_samples_of_the_resolution_are_apart() {
    let Some(blocks) = shared("golden/thanos/long") else { return };
    let folder = tempfile::tempdir().unwrap();
    for block in
        blocks_in(&blocks).iter().filter(|block| meta_of(block)["thanos"]["downsample"]["resolution"] == 3_600_000)
    {
        copy_block(block, &folder.path().join("bucket"), &[("cluster", "c1")]);
    }
    let bucket = folder.path().join("bucket").display().to_string();
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {bucket}}}}}");
    let data_dir = |name: &str| format!("--data-dir={}", folder.path().join(name).display());
    let store = Uru::start("store", &[&objstore, &data_dir("store")]);
    let endpoint = format!("--endpoint={}", store.grpc);
    let by_default = Uru::start("query", &[&endpoint]);
    assert_eq!(series_found(&by_default, "&max_source_resolution=1h"), 1);
    assert_eq!(series_found(&by_default, "&max_source_resolution=1h&lookback_delta=5m"), 0);
    assert_eq!(series_found(&by_default, "&max_source_resolution=5m"), 0);
    assert_eq!(series_found(&by_default, "&max_source_resolution=auto"), 0);
    assert_eq!(series_found(&by_default, ""), 0);
    let fixed = Uru::start("query", &[&endpoint, "--no-query.dynamic-lookback-delta"]);
    assert_eq!(series_found(&fixed, "&max_source_resolution=1h"), 0);
    let automatic = ["--query.instant.default.max_source_resolution=1h", "--query.auto-downsampling"];
    let flags = [&[endpoint.as_str()], &automatic[..]].concat();
    assert_eq!(series_found(&Uru::start("query", &flags), ""), 1);
    let both = Uru::start("all-in-one", &[&objstore, &data_dir("both")]);
    assert_eq!(series_found(&both, "&max_source_resolution=1h"), 1);
}

#[test]
fn series_of_which_only_downsampled_data_is_left_are_listed() {
    let Some(blocks) = shared("golden/thanos/long") else { return };
    let folder = tempfile::tempdir().unwrap();
    let is_downsampled = |block: &PathBuf| meta_of(block)["thanos"]["downsample"]["resolution"] == 3_600_000;
    let both = over(&blocks_in(&blocks).into_iter().filter(is_downsampled).collect::<Vec<_>>(), folder.path());
    let endpoint = format!("--endpoint={}", both.grpc);
    for uru in [&both, &Uru::start("query", &[&endpoint])] {
        let (status, body) = uru.get("/api/v1/series?match[]=process_bytes_00&start=0&end=2000000000");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, answer["data"].as_array().unwrap().len()), (200, 1), "{body}");
    }
}

#[test]
fn functions_over_two_samples_read_data_of_which_two_lie_in_a_window() {
    let Some(blocks) = shared("golden/thanos/long") else { return };
    let folder = tempfile::tempdir().unwrap();
    let both = over(&blocks_in(&blocks), folder.path());
    let endpoint = format!("--endpoint={}", both.grpc);
    for uru in [&both, &Uru::start("query", &[&endpoint])] {
        let count = |query: &str| {
            let path = format!("/api/v1/query?query={query}&time={BETWEEN_SAMPLES}&max_source_resolution=1h");
            let answer: Value = serde_json::from_str(&uru.get(&path).1).unwrap();
            answer["data"]["result"].as_array().unwrap().len()
        };
        assert_eq!(count("delta(process_bytes_00[50m])"), 1);
        assert_eq!(count("delta(process_bytes_00[9m])"), 0);
    }
}

#[test]
fn an_aggregate_that_histograms_lack_is_a_warning_and_floats_beside_them_are_answered() {
    let Some(blocks) = shared("golden/thanos/long") else { return };
    let folder = tempfile::tempdir().unwrap();
    let both = over(&blocks_in(&blocks), folder.path());
    let query = "min_over_time(%7B__name__=~%22process_bytes_00|rpc_latency_seconds_01%22%7D%5B1h%5D)";
    let path = format!("/api/v1/query?query={query}&time={BETWEEN_SAMPLES}&max_source_resolution=1h");
    let (status, body) = both.get(&path);
    let answer: Value = serde_json::from_str(&body).unwrap();
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(status == 200 && warnings.len() == 1, "{warnings:?}");
    assert!(warnings[0].as_str().unwrap().contains("aggregate min does not exist"), "{warnings:?}");
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    let (status, body) = both.get(&format!("{path}&partial_response=false"));
    assert!(status != 200 && body.contains("aggregate min does not exist"), "{status}: {body}");
}

/// All in one over `blocks`, which are copied into `folder`.
fn over(blocks: &[PathBuf], folder: &Path) -> Uru {
    let (bucket, data) = (folder.join("bucket"), folder.join("data"));
    for block in blocks {
        copy_block(block, &bucket, &[("cluster", "c1")]);
    }
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    Uru::start("all-in-one", &[&objstore, &format!("--data-dir={}", data.display())])
}

/// Series that an instant query finds between two samples.
fn series_found(uru: &Uru, params: &str) -> usize {
    let (status, body) = uru.get(&format!("/api/v1/query?query=process_bytes_00&time={BETWEEN_SAMPLES}{params}"));
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["data"]["result"].as_array().unwrap().len()
}
