//! Local forms of indexes, buckets that fail, memory under load, and what is counted and logged of
//! requests.

use std::path::Path;
use std::time::{Duration, Instant};

use engine::index::tsdb;
use proto::thanos::{LabelMatcher, SeriesRequest};

use crate::support;
use crate::support::s3::{FakeS3, Fault};
use crate::support::{Uru, blocks_in, everything, frames, run, series, stream, write_block};

const START: i64 = 1_700_000_000_000;

/// Series of a block whose index is too large to be built while its block is opened.
const MANY: usize = 9_999;

fn folder_config(bucket: &Path) -> String {
    format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display())
}

fn data_dir(folder: &Path) -> String {
    format!("--data-dir={}", folder.display())
}

/// A bucket in `folder` with a block of so many series, served by a fake of S3, and the flag that names it.
fn s3_over(folder: &Path, count: usize) -> (FakeS3, String) {
    let bucket = folder.join("bucket");
    write_block(&bucket, 1, (count, START));
    let fake = FakeS3::start(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    (fake, remote)
}

fn has_file(folder: &Path, name: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|block| block.path().join(name).is_file())
}

#[test]
fn an_index_header_answers_as_the_column_index_does_over_folders_and_s3() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (300, START));
    write_block(&bucket, 2, (200, START + 3_600_000));
    let fake = FakeS3::start(&bucket);
    let local = folder_config(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    let dirs = ["columns", "header", "remote"].map(|name| folder.path().join(name));
    let header = "--store.index=header";
    let columns = Uru::start("store", &[&local, &data_dir(&dirs[0])]);
    let others = [
        Uru::start("store", &[&local, header, &data_dir(&dirs[1])]),
        Uru::start("store", &[&remote, header, &data_dir(&dirs[2])]),
    ];
    run(async {
        let expected = columns.connect().await;
        for (uru, dir) in others.iter().zip(&dirs[1..]) {
            assert!(has_file(dir, "index-header") && !has_file(dir, "column-index"));
            let found = uru.connect().await;
            for request in [everything(), SeriesRequest { skip_chunks: true, ..everything() }] {
                let (expected, _) = series(&expected, request.clone()).await.unwrap();
                let (found, warnings) = series(&found, request).await.unwrap();
                assert!(warnings.is_empty(), "{warnings:?}");
                assert!(found.len() == 300 && found == expected);
            }
        }
    });
}

#[test]
fn an_index_header_of_another_block_or_a_damaged_one_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let blocks = [(1, 300), (2, 200), (3, 100)];
    let names = blocks.map(|(seed, count)| {
        let block = write_block(&bucket, seed, (count, START + seed as i64 * 3_600_000));
        block.file_name().unwrap().to_owned()
    });
    let fake = FakeS3::start(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    for (name, config) in [("local", &folder_config(&bucket)), ("remote", &remote)] {
        let data = folder.path().join(name);
        let flags = [config.as_str(), "--store.index=header", &data_dir(&data)];
        let headers = names.clone().map(|block| data.join(block).join("index-header"));
        let ask = |uru: &Uru| run(async { series(&uru.connect().await, everything()).await.unwrap() });
        let expected = ask(&Uru::start("store", &flags));
        let sound = headers.clone().map(|header| std::fs::read(header).unwrap());
        std::fs::write(&headers[0], &sound[1]).unwrap();
        std::fs::write(&headers[1], &sound[0]).unwrap();
        std::fs::write(&headers[2], &sound[2][..sound[2].len() / 2]).unwrap();
        let uru = Uru::start("store", &flags);
        assert!(ask(&uru) == expected && expected.0.len() == 300, "{name}");
        assert_eq!(uru.log().matches("index-header can't be used").count(), 3, "{name}");
        assert_eq!(headers.clone().map(|header| std::fs::read(header).unwrap()), sound, "{name}");
        drop(uru);
        let again = Uru::start("store", &flags);
        assert!(!again.log().contains("index-header can't be used"), "{name}: {}", again.log());
    }
}

#[test]
fn an_index_header_is_kept_while_its_index_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let blocks = [write_block(&bucket, 1, (50, START)), write_block(&bucket, 2, (40, START + 3_600_000))];
    let fake = FakeS3::start(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    let [first, data] = ["first", "data"].map(|name| folder.path().join(name));
    let start = |data: &Path| Uru::start("store", &[&remote, "--store.index=header", &data_dir(data)]);
    let ask = |uru: &Uru| run(async { series(&uru.connect().await, everything()).await.unwrap() });
    let expected = ask(&start(&first));
    // Headers alone: pages of indexes are kept on the disk, too.
    for block in blocks.iter().map(|block| block.file_name().unwrap()) {
        std::fs::create_dir_all(data.join(block)).unwrap();
        std::fs::copy(first.join(block).join("index-header"), data.join(block).join("index-header")).unwrap();
    }
    fake.set_for("/index", Fault::Unavailable);
    let uru = start(&data);
    assert_eq!(uru.log().matches("its index-header is used as it is").count(), 2, "{}", uru.log());
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(2.0));
    let (found, warnings) = ask(&uru);
    assert!(found.is_empty() && !warnings.is_empty(), "{} series, {warnings:?}", found.len());
    fake.set(Fault::Nothing);
    assert!(ask(&uru) == expected && expected.0.len() == 50);
}

/// The same index with a flipped bit in the entry of the series before the 43rd, which no index-header holds.
fn with_damaged_entry(mut index: Vec<u8>) -> Vec<u8> {
    let end = {
        let reader = tsdb::Reader::open(index.as_slice()).unwrap();
        let (mut scan, mut series) = (reader.series(), tsdb::Series::default());
        for _ in 0..42 {
            assert!(scan.next(&mut series).unwrap());
        }
        scan.offset() as usize
    };
    index[end - 1] ^= 1;
    index
}

#[test]
fn an_index_that_came_damaged_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_fake, remote) = s3_over(folder.path(), 50);
    let path = blocks_in(&folder.path().join("bucket")).remove(0).join("index");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, with_damaged_entry(whole.clone())).unwrap();
    let data = data_dir(&folder.path().join("data"));
    let uru = Uru::start("store", &[&remote, "--store.index=header", &data]);
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(1.0));
    let ask = || run(async { series(&uru.connect().await, everything()).await.unwrap() });
    let (found, warnings) = ask();
    assert!(found.is_empty() && warnings.len() == 1 && warnings[0].contains(": index: "), "{warnings:?}");
    std::fs::write(&path, whole).unwrap();
    let (found, warnings) = ask();
    assert!(found.len() == 50 && warnings.is_empty(), "{} series, {warnings:?}", found.len());
}

#[test]
fn a_damaged_entry_of_an_index_leaves_those_out_who_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let path = write_block(&bucket, 1, (50, START)).join("index");
    std::fs::write(&path, with_damaged_entry(std::fs::read(&path).unwrap())).unwrap();
    let asking = |instances: &str| {
        let matcher = LabelMatcher { r#type: 2, name: "instance".into(), value: instances.into() };
        let matchers = everything().matchers.into_iter().chain([matcher]).collect();
        SeriesRequest { matchers, ..everything() }
    };
    for form in ["column", "header"] {
        let (data, flag) = (data_dir(&folder.path().join(form)), format!("--store.index={form}"));
        let uru = Uru::start("store", &[&folder_config(&bucket), &data, &flag]);
        run(async {
            let channel = uru.connect().await;
            let (found, warnings) = series(&channel, asking("i-000.")).await.unwrap();
            assert!(found.len() == 10 && warnings.is_empty(), "{form}: {} series, {warnings:?}", found.len());
            let (found, warnings) = series(&channel, asking("i-004.")).await.unwrap();
            assert!(found.is_empty() && warnings.len() == 1, "{form}: {} series, {warnings:?}", found.len());
            assert!(warnings[0].contains("series entry at byte"), "{form}: {warnings:?}");
        });
    }
}

#[test]
fn a_new_block_answers_before_and_after_its_column_index_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, data) = (folder.path().join("bucket"), folder.path().join("data"));
    write_block(&bucket, 1, (MANY, START));
    let uru = Uru::start("store", &[&folder_config(&bucket), &data_dir(&data)]);
    run(async {
        let channel = uru.connect().await;
        let (before, _) = series(&channel, everything()).await.unwrap();
        assert_eq!(before.len(), MANY);
        let begin = Instant::now();
        while uru.metric("thanos_bucket_store_column_index_builds_total") != Some(1.0)
            || uru.metric("thanos_bucket_store_column_indexes_pending") != Some(0.0)
        {
            assert!(begin.elapsed() < Duration::from_secs(60), "the column index is not built");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(has_file(&data, "column-index"));
        while has_file(&data, "index-header") {
            assert!(begin.elapsed() < Duration::from_secs(60), "the index-header stays beside the column index");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (after, _) = series(&channel, everything()).await.unwrap();
        assert!(before == after);
    });
    // A second start finds the column index.
    drop(uru);
    let (config, dir) = (folder_config(&bucket), data_dir(&data));
    let again = Uru::start("store", &[&config, &dir]);
    assert_eq!(again.metric("thanos_bucket_store_column_index_builds_total"), Some(0.0));
    drop(again);
    // Each form goes where the other one is asked for.
    let header = Uru::start("store", &[&config, &dir, "--store.index=header"]);
    assert!(has_file(&data, "index-header") && !has_file(&data, "column-index"), "{}", header.log());
}

#[test]
fn a_column_index_that_could_not_be_built_is_tried_again_after_later_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let (fake, remote) = s3_over(folder.path(), MANY);
    fake.set_for("/index", Fault::WholeAbsent);
    let data = data_dir(&folder.path().join("data"));
    let uru = Uru::start("store", &[&remote, &data, "--sync-block-duration=100ms"]);
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // Some syncs go by.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(uru.metric("thanos_bucket_store_column_indexes_pending"), Some(1.0));
    let (found, _) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
    assert_eq!(found.len(), MANY);
    fake.set(Fault::Nothing);
    until("the column index is built", &|| uru.metric("thanos_bucket_store_column_index_builds_total") == Some(1.0));
    until("nothing is left to build", &|| uru.metric("thanos_bucket_store_column_indexes_pending") == Some(0.0));
}

#[test]
fn a_column_index_answers_also_where_another_block_of_its_sync_took_long_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let (fake, remote) = s3_over(folder.path(), 50);
    let data = data_dir(&folder.path().join("data"));
    let uru = Uru::start("store", &[&remote, &data, "--sync-block-duration=100ms"]);
    // The fake names what fails by a part of the object's name.
    let index_of =
        |block: &Path| -> &'static str { format!("{}/index", block.file_name().unwrap().to_str().unwrap()).leak() };
    let written = folder.path().join("written");
    let (slow, large) = (write_block(&written, 2, (40, START)), write_block(&written, 3, (MANY, START + 3_600_000)));
    fake.set_for(index_of(&slow), Fault::Silence);
    for block in [&slow, &large] {
        std::fs::rename(block, folder.path().join("bucket").join(block.file_name().unwrap())).unwrap();
    }
    support::wait(|| uru.metric("thanos_bucket_store_column_index_builds_total") == Some(2.0));
    // The index in the bucket is read no more.
    fake.set_for(index_of(&large), Fault::Unavailable);
    support::wait(|| uru.metric("thanos_bucket_store_blocks_loaded") == Some(3.0));
    let request = || SeriesRequest { skip_chunks: true, ..everything() };
    let begin = Instant::now();
    loop {
        let (found, warnings) = run(async { series(&uru.connect().await, request()).await.unwrap() });
        if warnings.is_empty() {
            assert_eq!(found.len(), MANY);
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{warnings:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bucket_that_fails_is_a_warning_or_an_error_that_names_block_file_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let block = write_block(&bucket, 1, (50, START));
    let block = block.file_name().unwrap().to_str().unwrap();
    let fake = FakeS3::start(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    let uru = Uru::start("store", &[&remote, &data_dir(&folder.path().join("data"))]);
    run(async {
        let channel = uru.connect().await;
        for fault in [Fault::Unavailable, Fault::HalfBody, Fault::Short, Fault::Silence] {
            fake.set(fault);
            let (found, warnings) = series(&channel, everything()).await.unwrap();
            assert!(found.is_empty() && !warnings.is_empty(), "{fault:?}: {} series", found.len());
            let named = |text: &str| text.contains(block) && text.contains("chunks/000001") && text.contains("bytes ");
            assert!(warnings.iter().all(|warning| named(warning)), "{fault:?}: {warnings:?}");
            let strict = SeriesRequest { partial_response_strategy: 1, ..everything() };
            let error = series(&channel, strict).await.unwrap_err();
            assert!(named(error.message()), "{fault:?}: {error}");
            let (labels, _) = series(&channel, SeriesRequest { skip_chunks: true, ..everything() }).await.unwrap();
            assert_eq!(labels.len(), 50, "{fault:?}");
        }
        fake.set(Fault::Nothing);
        let (found, warnings) = series(&channel, everything()).await.unwrap();
        assert!(found.len() == 50 && warnings.is_empty(), "{warnings:?}");
    });
}

#[test]
fn a_request_of_the_bucket_that_is_tried_again_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (fake, remote) = s3_over(folder.path(), 50);
    fake.set_for("/meta.json", Fault::UnavailableOnce);
    let remote = remote.replace("max_retries: 1", "max_retries: 5");
    let uru = Uru::start("store", &[&remote, &data_dir(&folder.path().join("data"))]);
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(1.0));
    let told = |line: &&str| line.contains("caller=retry.rs:") && line.contains("503");
    assert_eq!(uru.log().lines().filter(told).count(), 1, "{}", uru.log());
}

#[test]
fn an_index_of_another_block_leaves_its_block_out_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let small = write_block(&bucket, 1, (40, START));
    let large = write_block(&bucket, 2, (50, START + 3_600_000));
    let later = write_block(&bucket, 3, (50, START + 7_200_000));
    let whole = Uru::start("store", &[&folder_config(&bucket), &data_dir(&folder.path().join("whole"))]);
    assert_eq!(whole.metric("thanos_bucket_store_blocks_loaded"), Some(3.0));
    let fake = FakeS3::start(&bucket);
    let (local, remote) = (folder_config(&bucket), format!("--objstore.config={}", fake.config()));
    for (at, (from, reason)) in
        [(&later, "its first series has chunks of"), (&small, "it has 40 series, and meta")].into_iter().enumerate()
    {
        std::fs::copy(from.join("index"), large.join("index")).unwrap();
        let meta = std::fs::read_to_string(large.join("meta.json")).unwrap();
        let counted = meta.replace("\"version\":1", "\"version\":1,\"stats\":{\"numSeries\":50}");
        std::fs::write(large.join("meta.json"), counted).unwrap();
        let ways = [("column", &local), ("header", &local), ("header", &remote)];
        for (number, (form, config)) in ways.into_iter().enumerate() {
            let data = data_dir(&folder.path().join(format!("data-{at}-{number}")));
            // What the first process leaves does not make the second one take it.
            for _ in 0..2 {
                let uru = Uru::start("store", &[config, &data, &format!("--store.index={form}")]);
                assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(2.0), "{form}");
                assert!(uru.log().contains("it is of another block") && uru.log().contains(reason), "{}", uru.log());
            }
        }
    }
}

#[test]
fn an_index_of_another_block_is_told_by_its_chunks_although_a_header_of_it_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, data) = (folder.path().join("bucket"), folder.path().join("data"));
    let [block, other] =
        [(1, START), (2, START + 3_600_000)].map(|(seed, start)| write_block(&bucket, seed, (50, start)));
    std::fs::copy(other.join("index"), block.join("index")).unwrap();
    let flags = [folder_config(&bucket), data_dir(&data), "--store.index=header".to_owned()];
    let start = || Uru::start("store", &flags.each_ref().map(String::as_str));
    drop(start());
    let header_of = |block: &Path| data.join(block.file_name().unwrap()).join("index-header");
    std::fs::create_dir_all(header_of(&block).parent().unwrap()).unwrap();
    std::fs::copy(header_of(&other), header_of(&block)).unwrap();
    let uru = start();
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(1.0), "{}", uru.log());
    assert!(uru.log().contains("its first series has chunks of"), "{}", uru.log());
}

/// It was once taken for one whose index is of another block, and nothing of it was answered.
#[test]
fn a_segment_that_was_cut_off_leaves_those_out_who_read_its_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let block = write_block(&bucket, 1, (50, START));
    let name = block.file_name().unwrap().to_str().unwrap();
    let fake = FakeS3::start(&bucket);
    let (local, remote) = (folder_config(&bucket), format!("--objstore.config={}", fake.config()));
    for (at, len) in [0, 8].into_iter().enumerate() {
        std::fs::OpenOptions::new().write(true).open(block.join("chunks/000001")).unwrap().set_len(len).unwrap();
        let ways = [("column", &local), ("header", &local), ("column", &remote), ("header", &remote)];
        for (number, (form, config)) in ways.into_iter().enumerate() {
            let data = data_dir(&folder.path().join(format!("data-{at}-{number}")));
            let uru = Uru::start("store", &[config, &data, &format!("--store.index={form}")]);
            assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(1.0), "{form}: {}", uru.log());
            run(async {
                let channel = uru.connect().await;
                let (labels, warnings) =
                    series(&channel, SeriesRequest { skip_chunks: true, ..everything() }).await.unwrap();
                assert!(labels.len() == 50 && warnings.is_empty(), "{form}: {} series, {warnings:?}", labels.len());
                let (_, warnings) = series(&channel, everything()).await.unwrap();
                let named = |text: &str| text.contains(name) && text.contains("chunks/000001") && text.contains("byte");
                assert!(!warnings.is_empty() && warnings.iter().all(|text| named(text)), "{form}: {warnings:?}");
            });
        }
    }
}

#[test]
fn metas_and_indexes_that_fail_leave_their_block_out_until_they_are_back() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let broken = write_block(&bucket, 1, (50, START));
    write_block(&bucket, 2, (40, START + 3_600_000));
    // The fake names what fails by a part of the object's name.
    let broken: &'static str = broken.file_name().unwrap().to_str().unwrap().to_owned().leak();
    let fake = FakeS3::start(&bucket);
    let remote = format!("--objstore.config={}", fake.config());
    for (number, object) in ["meta.json", "index"].into_iter().enumerate() {
        let part: &'static str = format!("{broken}/{object}").leak();
        for (more, fault) in [Fault::Unavailable, Fault::HalfBody, Fault::Absent].into_iter().enumerate() {
            // When a whole view fails, nothing is served, and the first sync is tried again.
            let is_fatal = object == "meta.json" && fault != Fault::Absent;
            fake.set_for(part, fault);
            let data = data_dir(&folder.path().join(format!("data-{number}-{more}")));
            let uru = Uru::spawn("store", &[&remote, &data, "--sync-block-duration=100ms"]);
            let loaded = || uru.metric("thanos_bucket_store_blocks_loaded");
            if is_fatal {
                support::wait(|| uru.log().contains("first sync failed"));
                assert!(uru.log().contains(part), "{fault:?}: {}", uru.log());
                let failed = "thanos_blocks_meta_synced{state=\"failed\"}";
                assert_eq!(uru.metric(failed), Some(1.0), "{fault:?}");
            } else {
                uru.wait_for("/-/ready", "OK");
                assert_eq!(loaded(), Some(1.0), "{fault:?}");
                let (found, warnings) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
                assert_eq!((found.len(), warnings.len()), (40, 1), "{warnings:?}");
                assert!(warnings[0].contains(broken), "{warnings:?}");
            }
            if object == "index" {
                assert!(uru.log().contains("loading block failed") && uru.log().contains(broken), "{}", uru.log());
                assert!(uru.metric("thanos_bucket_store_block_load_failures_total") >= Some(1.0));
            }
            if fault == Fault::Absent && object == "meta.json" {
                assert_eq!(uru.metric("thanos_blocks_meta_synced{state=\"failed\"}"), Some(1.0), "it is listed");
            }
            fake.set_for("", Fault::Nothing);
            support::wait(|| loaded() == Some(2.0));
            let (found, warnings) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
            assert!(found.len() == 50 && warnings.is_empty(), "{fault:?}: {warnings:?}");
        }
    }
}

#[test]
fn a_burst_of_wide_requests_stays_within_the_memory_limit() {
    const LIMIT: f64 = 64e6;
    /// Sockets, connections and the allocator's own room. What the process had before any request is a part of the
    /// limit, and none of what it grows by.
    const MARGIN: f64 = 20e6;
    const REQUESTS: usize = 48;
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    for seed in 0..2 {
        write_block(&bucket, seed, (MANY, START + seed as i64 * 3_600_000));
    }
    let (config, data) = (folder_config(&bucket), data_dir(&folder.path().join("data")));
    let (limit, gate) = ("--store.memory-limit=64MB", "--store.grpc.series-max-concurrency=0");
    let uru = Uru::start("store", &[&config, &data, limit, gate]);
    let begin = Instant::now();
    while uru.metric("thanos_bucket_store_column_indexes_pending") != Some(0.0) {
        assert!(begin.elapsed() < Duration::from_secs(60), "the column indexes are not built");
        std::thread::sleep(Duration::from_millis(10));
    }
    uru.reset_peak();
    let before = uru.peak_bytes();
    let answered: usize = run(async {
        // One caller reads nothing, and what is ready for it is kept.
        let idle = uru.connect().await;
        let _unread = stream(&idle, everything()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..REQUESTS {
            let channel = uru.connect().await;
            tasks.spawn(async move {
                let found = frames(&channel, everything()).await?;
                Ok(found.iter().map(prost::Message::encoded_len).sum())
            });
        }
        let mut answered = 0;
        while let Some(done) = tasks.join_next().await {
            let done: Result<usize, tonic::Status> = done.unwrap();
            match done {
                Ok(bytes) => answered += bytes,
                Err(status) => assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}"),
            }
        }
        answered
    });
    let grown = uru.peak_bytes() - before;
    eprintln!("{answered} bytes answered, grown by {grown} bytes");
    assert!(answered as f64 > 1.5 * (LIMIT + MARGIN), "only {answered} bytes were answered");
    assert!(grown < LIMIT + MARGIN, "grown by {grown} bytes");
}

#[test]
fn requests_are_counted_and_logged_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (3, START));
    let log = "--request.logging-config={options: {level: DEBUG, decision: {log_start: true, log_end: true}}}";
    let uru = Uru::start("store", &[&folder_config(&bucket), &data_dir(&folder.path().join("data")), log]);
    assert_eq!(uru.get("/api/v1/blocks").0, 200);
    let requests = "http_requests_total{code=\"200\",handler=\"blocks\",method=\"get\"}";
    assert_eq!(uru.metric(requests), Some(1.0));
    assert_eq!(uru.metric("http_request_duration_seconds_count{code=\"200\",handler=\"blocks\""), Some(1.0));
    run(async { series(&uru.connect().await, everything()).await.unwrap() });
    let begin = Instant::now();
    let line = |message: &str, field: &str| {
        uru.log().lines().any(|line| line.contains(&format!("msg=\"{message}\"")) && line.contains(field))
    };
    for (message, field) in [
        ("started call", "grpc.method=Series"),
        ("finished call", "grpc.code=OK"),
        ("started call", "thanos.method_name=blocks"),
        ("finished call", "http.status_code=200"),
    ] {
        while !line(message, field) {
            assert!(begin.elapsed() < Duration::from_secs(30), "no line {message} {field} in\n{}", uru.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
