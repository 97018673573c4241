//! Blocks of receivers on their way to the bucket: whole or not visible, whatever fails; kept while the
//! bucket is away; gone when they have been kept long enough.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use engine::bucket::Meta;
use engine::bucket::meta::FileHash;
use engine::head::WriteBatch;
use engine::shard::ingest::WriteLimits;
use engine::shard::{self, Flush, Ingest, IngestOptions, Pool};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use server::ingest::ship::{Retention, ShipMetrics, Shipper};
use server::objstore::Bucket;
use server::upkeep::transfer::Transfer;

use crate::support;
use crate::support::faulty::{FAULTS, Fault, Faulty, Meets, objects, whole_blocks};
use crate::support::write::{
    EXTERNAL, NOW, Samples, WriteRequest, float_series, labels_text, recorded, samples, start, stored, write,
};
use crate::support::{Uru, blocks_in, free_address, meta_of, run, wait};

const MINUTE: i64 = 60_000;

/// Counts blocks that were deleted before they were in the bucket.
const DROPPED: &str = "uru_receive_blocks_dropped_unshipped_total";

/// One sample each minute from `start` on, of two series.
fn minutes(start: i64, count: i64) -> WriteRequest {
    let times: Vec<(i64, f64)> = (0..count).map(|at| (start + at * MINUTE, at as f64)).collect();
    let series = |name| float_series(&[("__name__", "shipped"), ("name", name)], &times);
    WriteRequest { timeseries: vec![series("a"), series("b")], ..WriteRequest::default() }
}

fn samples_of(request: &WriteRequest) -> Samples {
    let mut samples = Samples::new();
    recorded(request, &mut samples);
    samples
}

/// The files of a folder, by their names below it.
fn files(folder: &Path) -> BTreeMap<String, Bytes> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap().into());
            }
        }
    }
    found
}

/// The same files with every meta.json as if it was never uploaded, and how many of them say when they were.
fn never_uploaded(mut files: BTreeMap<String, Bytes>) -> (BTreeMap<String, Bytes>, usize) {
    let mut told = 0;
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name.ends_with("meta.json")) {
        let mut meta = Meta::parse(bytes).unwrap();
        let thanos = meta.thanos.as_mut().unwrap();
        let since = std::mem::take(&mut thanos.upload_time).unix_ms();
        told += usize::from(since.is_some_and(|since| (now() - 60 * MINUTE..=now()).contains(&since)));
        *bytes = meta.to_json().into();
    }
    (files, told)
}

fn bucket_flag(folder: &Path) -> String {
    format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", folder.display())
}

fn ship(ingest: &Arc<Ingest>, data: &Path, store: Arc<dyn ObjectStore>) -> Shipper {
    ship_within(ingest, data, store, 0).0
}

/// What ships blocks and keeps so many bytes of them, and its metrics.
fn ship_within(ingest: &Arc<Ingest>, data: &Path, store: Arc<dyn ObjectStore>, bytes_max: u64) -> (Shipper, Registry) {
    let mut registry = Registry::default();
    let bucket = Bucket::over(store, "memory", &mut Registry::default());
    let more = (Retention { age: Duration::ZERO, bytes_max }, ShipMetrics::register(&mut registry));
    (Shipper::new(Arc::clone(ingest), data, Some((bucket, Transfer::default())), more), registry)
}

/// A counter of the tenant `team`; 0 when it never rose.
fn count_of_team(registry: &Registry, name: &str) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let start = format!("{name}{{tenant=\"team\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0.0, |value| value.parse().unwrap())
}

/// A receiver over the folder `data` with three blocks of the tenant `team`.
async fn with_three_blocks(data: &Path) -> Arc<Ingest> {
    with_blocks_of(data, &["team"]).await
}

/// A receiver over the folder `data` with three blocks of each tenant.
async fn with_blocks_of(data: &Path, tenants: &[&str]) -> Arc<Ingest> {
    let pool = Pool::start(&shard::Options::default()).unwrap();
    let options = IngestOptions {
        data_dir: data.to_owned(),
        external_labels: engine::model::Labels::from_pairs([("receive", "a")]),
        block_range_ms: 10 * MINUTE,
        ..IngestOptions::default()
    };
    let ingest = Ingest::open(&pool, options).unwrap();
    for (minute, tenant) in (0..30).flat_map(|minute| tenants.iter().map(move |tenant| (minute, *tenant))) {
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "shipped")]);
        batch.push_sample(minute * MINUTE, minute as f64);
        ingest.append(&Arc::from(tenant), batch, WriteLimits::default()).await.unwrap();
    }
    assert_eq!(ingest.flush(None, Flush::All).await.unwrap().len(), 3 * tenants.len());
    ingest
}

/// When the local blocks of the tenant `team` begin, in minutes.
fn local_starts(ingest: &Ingest) -> Vec<i64> {
    let mut starts: Vec<i64> = ingest.local_blocks("team").iter().map(|block| block.meta.min_time / MINUTE).collect();
    starts.sort_unstable();
    starts
}

#[test]
fn a_fault_at_any_call_leaves_no_part_of_a_block_visible_and_the_next_round_ships_it() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let counted = Faulty::new(&Arc::new(InMemory::new()), u64::MAX, Fault::Refused);
        let calls = counted.calls();
        ship(&ingest, data.path(), Arc::new(counted)).ship().await;
        let calls = calls.load(Ordering::Relaxed);
        // Of each block: is it there, its chunks, its index, its meta.json.
        assert_eq!(calls, 3 * 4);
        for at in 0..calls {
            for fault in FAULTS {
                std::fs::remove_file(data.path().join("team/thanos.shipper.json")).unwrap();
                let store = Arc::new(InMemory::new());
                ship(&ingest, data.path(), Arc::new(Faulty::new(&store, at, fault))).ship().await;
                let scratch = tempfile::tempdir().unwrap();
                // What is visible is whole.
                let visible = whole_blocks(&objects(&store).await, scratch.path()).len();
                assert!(visible <= 3, "call {at}, {fault:?}");
                ship(&ingest, data.path(), Arc::clone(&store) as _).ship().await;
                let mut local = files(&data.path().join("team"));
                local.retain(|name, _| name != "thanos.shipper.json" && !name.ends_with("tombstones"));
                let (found, told) = never_uploaded(objects(&store).await);
                assert!(found == never_uploaded(local).0, "call {at}, {fault:?}");
                assert_eq!(told, 3, "call {at}, {fault:?}");
            }
        }
    });
}

#[test]
fn blocks_wait_while_the_bucket_is_away_and_are_shipped_after_a_crash_when_it_is_back() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = bucket.path().join("bucket");
    let flags = [&*bucket_flag(&folder), "--shipper.sync-interval=20ms", "--tsdb.min-block-duration=5m"];
    let uru = start(data.path(), &flags);
    // A file where the bucket's folder was: nothing can be written to it or read from it.
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    let request = minutes(NOW, 40);
    assert_eq!(write(&uru, "team", &request.timeseries).status, 200);
    let of_team = |name: &str| uru.metric(&format!("{name}{{tenant=\"team\"}}"));
    wait(|| of_team("uru_receive_blocks_waiting").is_some_and(|count| count >= 6.0));
    wait(|| of_team("thanos_shipper_upload_failures_total").is_some_and(|count| count > 6.0));
    assert!(of_team("uru_receive_local_bytes").unwrap() > 1000.0);
    assert_eq!(samples(&stored(&uru, "shipped"), &EXTERNAL), samples_of(&request));
    uru.kill();
    // Back, with a block that was half there.
    std::fs::remove_file(&folder).unwrap();
    let local = blocks_in(&data.path().join("team"));
    let half = folder.join(local[0].file_name().unwrap());
    std::fs::create_dir_all(half.join("chunks")).unwrap();
    std::fs::write(half.join("chunks/000001"), "half").unwrap();
    let uru = start(data.path(), &flags);
    wait(|| uru.metric("uru_receive_blocks_waiting{tenant=\"team\"}") == Some(0.0));
    for block in blocks_in(&data.path().join("team")) {
        let mut local = files(&block);
        local.remove("tombstones");
        let (shipped, told) = never_uploaded(files(&folder.join(block.file_name().unwrap())));
        assert!(shipped == never_uploaded(local).0 && told == 1, "{}", block.display());
    }
    assert!(blocks_in(&folder).len() >= 6);
    assert_eq!(samples(&stored(&uru, "shipped"), &EXTERNAL), samples_of(&request));
}

/// A bucket that never answers, as long as the listener is there: connections wait for ever to be accepted.
fn silent_bucket() -> (std::net::TcpListener, String) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!(
        "--objstore.config={{type: S3, config: {{bucket: metrics, endpoint: '{}', insecure: true, access_key: key, \
         secret_key: secret}}}}",
        silent.local_addr().unwrap()
    );
    (silent, flag)
}

#[test]
fn while_a_bucket_does_not_answer_blocks_are_cut_and_the_end_is_in_time_and_the_next_start_ships_them() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_silent, bucket) = silent_bucket();
    let flags = ["--shipper.sync-interval=20ms", "--tsdb.min-block-duration=5m", "--shipper.end-timeout=1s"];
    let uru = start(data.path(), &[&[&*bucket], &flags[..]].concat());
    let waiting = |uru: &Uru| uru.metric("uru_receive_blocks_waiting{tenant=\"team\"}");
    let mut sent = minutes(NOW, 40);
    assert_eq!(write(&uru, "team", &sent.timeseries).status, 200);
    wait(|| waiting(&uru).is_some_and(|count| count >= 6.0));
    assert!(uru.metric("uru_receive_local_bytes{tenant=\"team\"}").unwrap() > 0.0);
    // One upload is under way from now on.
    wait(|| uru.metric("thanos_shipper_dir_syncs_total{tenant=\"team\"}").is_some_and(|count| count >= 1.0));
    let more = minutes(NOW + 40 * MINUTE, 40);
    assert_eq!(write(&uru, "team", &more.timeseries).status, 200);
    wait(|| waiting(&uru).is_some_and(|count| count >= 14.0));
    let begin = Instant::now();
    uru.terminate();
    assert!((1..10).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let left = blocks_in(&data.path().join("team")).len();
    assert!(left >= 16);
    let uru = start(data.path(), &[&[&*bucket_flag(folder.path())], &flags[..]].concat());
    wait(|| waiting(&uru) == Some(0.0));
    assert_eq!(blocks_in(folder.path()).len(), left);
    sent.timeseries.extend(more.timeseries);
    assert_eq!(samples(&stored(&uru, "shipped"), &EXTERNAL), samples_of(&sent));
}

#[test]
fn the_end_waits_as_long_as_it_may_for_a_bucket_that_takes_blocks_again() {
    run(async {
        for (calls_silent, within, left) in [(u64::MAX, 1, 3), (1, 60, 0)] {
            let data = tempfile::tempdir().unwrap();
            let ingest = with_three_blocks(data.path()).await;
            let memory = Arc::new(InMemory::new());
            let silent = move |call: u64| if call < calls_silent { Meets::Hangs } else { Meets::Nothing };
            let shipper = ship(&ingest, data.path(), Arc::new(Faulty::planned(&memory, silent)));
            let begin = Instant::now();
            shipper.close(Duration::from_secs(within)).await;
            let scratch = tempfile::tempdir().unwrap();
            assert_eq!(whole_blocks(&objects(&memory).await, scratch.path()).len(), 3 - left);
            // One round ends when the bucket has been silent for ten seconds.
            let expected = if left > 0 { 1..9 } else { 10..30 };
            assert!(expected.contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        }
    });
}

#[test]
fn without_a_bucket_to_take_them_blocks_stay_within_the_bytes_allowed_and_what_is_lost_is_counted() {
    let bucket = tempfile::tempdir().unwrap();
    let folder = bucket.path().join("bucket");
    let (_silent, silent) = silent_bucket();
    for flag in [bucket_flag(&folder), silent] {
        let data = tempfile::tempdir().unwrap();
        let flags = [
            &*flag,
            "--shipper.sync-interval=20ms",
            "--tsdb.min-block-duration=5m",
            "--tsdb.max-retention-bytes=3KB",
            "--shipper.end-timeout=0s",
        ];
        let uru = start(data.path(), &flags);
        if folder.is_dir() {
            std::fs::remove_dir(&folder).unwrap();
            std::fs::write(&folder, "").unwrap();
        }
        assert_eq!(write(&uru, "team", &minutes(NOW, 60).timeseries).status, 200);
        let of_team = |name: &str| uru.metric(&format!("{name}{{tenant=\"team\"}}"));
        wait(|| of_team("uru_receive_blocks_dropped_unshipped_total").is_some_and(|count| count > 0.0));
        wait(|| of_team("uru_receive_local_bytes").is_some_and(|bytes| bytes <= 3072.0));
        assert!(uru.log().contains("--tsdb.max-retention-bytes is reached"), "{}", uru.log());
    }
}

#[test]
fn a_block_in_the_bucket_stays_until_it_is_answered_for_from_there_unless_there_is_no_room() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let (store, is_answered) = (Arc::new(InMemory::new()), Arc::new(AtomicBool::new(false)));
        let keep = |age: Duration, bytes_max: u64| {
            let bucket = Bucket::over(Arc::clone(&store) as _, "memory", &mut Registry::default());
            let more = (Retention { age, bytes_max }, ShipMetrics::default());
            let is_answered = Arc::clone(&is_answered);
            Shipper::new(Arc::clone(&ingest), data.path(), Some((bucket, Transfer::default())), more)
                .beside(move |_, since| since <= Instant::now() && is_answered.load(Ordering::Relaxed))
        };
        let old = keep(Duration::from_secs(1), 0);
        old.ship().await;
        old.retain().await;
        assert_eq!(local_starts(&ingest), [0, 10, 20]);
        is_answered.store(true, Ordering::Relaxed);
        old.retain().await;
        // The age counts from the end of the newest block.
        assert_eq!(local_starts(&ingest), [20]);
        is_answered.store(false, Ordering::Relaxed);
        keep(Duration::ZERO, 1).retain().await;
        assert!(local_starts(&ingest).is_empty());
    });
}

/// Of many tenants each was held against the blocks of all, and a process that was told to end did so only after that.
#[test]
fn each_tenant_is_asked_for_its_own_blocks_alone_and_between_two_others_have_their_turn() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_blocks_of(data.path(), &["a", "b"]).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let shipper = ship(&ingest, data.path(), Arc::new(InMemory::new())).beside(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        });
        shipper.ship().await;
        shipper.retain().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2 * 3);
        let is_retained = tokio::select! {
            biased;
            () = shipper.retain() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_retained);
    });
}

#[test]
fn beyond_the_bytes_allowed_blocks_in_the_bucket_go_before_one_that_could_not_be_uploaded() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let bytes: usize = ingest
            .local_blocks("team")
            .iter()
            .flat_map(|block| files(&block.path).into_values())
            .map(|file| file.len())
            .sum();
        let store = Faulty::new(&Arc::new(InMemory::new()), 0, Fault::Refused);
        let (shipper, metrics) = ship_within(&ingest, data.path(), Arc::new(store), bytes as u64 - 1);
        shipper.ship().await;
        shipper.retain().await;
        assert_eq!(local_starts(&ingest), [0, 20]);
        assert_eq!(count_of_team(&metrics, DROPPED), 0.0);
        // The next round finds the bucket well.
        shipper.ship().await;
        assert_eq!(count_of_team(&metrics, "thanos_shipper_uploads_total"), 3.0);
    });
}

#[test]
fn beyond_the_bytes_allowed_no_block_goes_before_its_upload_failed_or_while_it_is_tried() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let store = Faulty::planned(&Arc::new(InMemory::new()), |_| Meets::Hangs);
        let (shipper, metrics) = ship_within(&ingest, data.path(), Arc::new(store), 1);
        shipper.retain().await;
        let mut round = std::pin::pin!(shipper.ship());
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut round).await.is_err());
        shipper.retain().await;
        assert_eq!(local_starts(&ingest), [0, 10, 20]);
        // The bucket's silence ends the round for all three; then the first is tried again.
        round.await;
        let mut round = std::pin::pin!(shipper.ship());
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut round).await.is_err());
        shipper.retain().await;
        assert_eq!(local_starts(&ingest), [0]);
        assert_eq!(count_of_team(&metrics, DROPPED), 2.0);
    });
}

#[test]
fn an_upload_that_hangs_holds_up_no_other_tenant_and_only_its_own_block_is_kept_for_it() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let tenants = ["a", "b", "c", "d", "e", "f"];
        let ingest = with_blocks_of(data.path(), &tenants).await;
        let memory = Arc::new(InMemory::new());
        // Whether the first block of `a` is there is answered; its first object is never taken.
        let store = Faulty::planned(&memory, |call| if call == 1 { Meets::Hangs } else { Meets::Nothing });
        let calls = store.calls();
        let (shipper, _) = ship_within(&ingest, data.path(), Arc::new(store), 1);
        let mut round = std::pin::pin!(shipper.ship());
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut round).await.is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 2 + 5 * 3 * 4);
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(whole_blocks(&objects(&memory).await, scratch.path()).len(), 5 * 3);
        shipper.retain().await;
        let left = tenants.map(|tenant| ingest.local_blocks(tenant).len());
        assert_eq!(left, [3, 0, 0, 0, 0, 0]);
    });
}

#[test]
fn blocks_are_shipped_and_go_also_while_it_cannot_be_noted_and_that_is_made_up_for() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let memory = Arc::new(InMemory::new());
        let store = Faulty::new(&memory, u64::MAX, Fault::Refused);
        let calls = store.calls();
        let (shipper, metrics) = ship_within(&ingest, data.path(), Arc::new(store), 1);
        let failures = || count_of_team(&metrics, "thanos_shipper_dir_sync_failures_total");
        // A folder in the file's place can't be replaced by it.
        let file = data.path().join("team/thanos.shipper.json");
        std::fs::create_dir(&file).unwrap();
        shipper.ship().await;
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(whole_blocks(&objects(&memory).await, scratch.path()).len(), 3);
        assert_eq!(failures(), 1.0);
        let uploads = calls.load(Ordering::Relaxed);
        std::fs::remove_dir(&file).unwrap();
        shipper.ship().await;
        let noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(noted["uploaded"].as_array().unwrap().len(), 3);
        assert_eq!((failures(), calls.load(Ordering::Relaxed)), (1.0, uploads));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        shipper.retain().await;
        assert!(local_starts(&ingest).is_empty());
        assert_eq!(count_of_team(&metrics, DROPPED), 0.0);
    });
}

#[test]
fn a_bucket_that_takes_blocks_gets_all_of_them_however_few_bytes_are_allowed() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = [
        &*bucket_flag(bucket.path()),
        "--shipper.sync-interval=20ms",
        "--tsdb.min-block-duration=5m",
        "--tsdb.max-retention-bytes=1",
    ];
    let uru = start(data.path(), &flags);
    let of_team = |name: &str| uru.metric(&format!("{name}{{tenant=\"team\"}}"));
    for hour in 0..4 {
        assert_eq!(write(&uru, "team", &minutes(NOW + hour * 60 * MINUTE, 60).timeseries).status, 200);
    }
    wait(|| blocks_in(bucket.path()).len() >= 40 && of_team("uru_receive_local_bytes") == Some(0.0));
    assert_eq!(of_team(DROPPED).unwrap_or_default(), 0.0);
    uru.terminate();
    let samples = |block: &std::path::PathBuf| meta_of(block)["stats"]["numSamples"].as_u64().unwrap();
    assert_eq!(blocks_in(bucket.path()).iter().map(samples).sum::<u64>(), 2 * 4 * 60);
}

#[test]
fn chunks_that_were_cut_are_counted_by_size_samples_and_time_as_in_prometheus() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--shipper.sync-interval=20ms", "--tsdb.min-block-duration=5m"]);
    let metric = |name: &str| uru.metric(&format!("prometheus_tsdb_compaction_chunk_{name}"));
    assert_eq!(write(&uru, "team", &minutes(NOW, 1).timeseries).status, 200);
    let of_team = |name: &str, what: &str| metric(&format!("{name}_{what}{{tenant=\"team\"}}")).unwrap();
    assert_eq!(metric("samples_count{tenant=\"team\"}"), None, "nothing is told of none");
    assert!(uru.get("/metrics").1.contains("# TYPE prometheus_tsdb_compaction_chunk_samples histogram\n"));
    assert_eq!(write(&uru, "team", &minutes(NOW + MINUTE, 39).timeseries).status, 200);
    // Until nothing more is due.
    let head_time = |end: &str| uru.metric(&format!("prometheus_tsdb_head_{end}_time{{tenant=\"team\"}}")).unwrap();
    wait(|| head_time("max") - head_time("min") <= 7.5 * MINUTE as f64);
    let blocks = blocks_in(&data.path().join("team"));
    let stats =
        |name: &str| -> f64 { blocks.iter().map(|block| meta_of(block)["stats"][name].as_f64().unwrap()).sum() };
    let chunks = stats("numChunks");
    assert!(chunks >= 12.0);
    for name in ["samples", "size_bytes", "range_seconds"] {
        assert_eq!(of_team(name, "count"), chunks, "{name}");
        let start = format!("prometheus_tsdb_compaction_chunk_{name}_bucket{{");
        let (_, text) = uru.get("/metrics");
        let bucket = text.lines().find(|line| line.starts_with(&start) && line.contains("le=\"+Inf\""));
        assert!(bucket.is_some_and(|line| line.ends_with(&format!(" {chunks}"))), "{name}: {bucket:?}");
    }
    assert_eq!(of_team("samples", "sum"), stats("numSamples"));
    // From the first sample of a chunk to the last, in milliseconds.
    assert_eq!(of_team("range_seconds", "sum"), (stats("numSamples") - chunks) * MINUTE as f64);
    assert!((10.0 * chunks..40.0 * chunks).contains(&of_team("size_bytes", "sum")));
    let of_team = |name: &str| uru.metric(&format!("prometheus_tsdb_{name}{{tenant=\"team\"}}"));
    // What comes after the last cut.
    let of_logs = |name: &str| uru.metric(&format!("prometheus_tsdb_{name}")).unwrap();
    wait(|| of_team("head_gc_duration_seconds_count") >= Some(blocks.len() as f64));
    wait(|| of_logs("checkpoint_creations_total") >= 1.0);
    for name in ["compactions_total", "compaction_duration_seconds_count", "head_truncations_total", "blocks_loaded"] {
        assert_eq!(of_team(name), Some(blocks.len() as f64), "{name}");
    }
    for name in ["head_truncations_failed_total", "head_active_appenders", "compaction_populating_block"] {
        assert_eq!(of_team(name), Some(0.0), "{name}");
    }
    assert_eq!(of_logs("wal_truncate_duration_seconds_count"), of_logs("wal_truncations_total"));
    assert!(of_logs("wal_truncate_duration_seconds_sum") > 0.0);
    wait(|| of_logs("checkpoint_deletions_total") >= of_logs("checkpoint_creations_total"));
    assert_eq!(of_logs("checkpoint_deletions_failed_total"), 0.0);
    // Each truncation begins a segment.
    assert!(of_logs("wal_segment_current") >= of_logs("checkpoint_creations_total") - 1.0);
    let removed = of_team("head_chunks_removed_total").unwrap();
    assert!(removed >= chunks, "{removed}");
    assert_eq!(of_team("head_chunks_created_total"), Some(of_team("head_chunks").unwrap() + removed));
    assert!(of_team("compactions_triggered_total") >= Some(1.0));
    wait(|| of_team("storage_blocks_bytes").is_some_and(|bytes| bytes > 0.0));
    let limit = (of_team("retention_limit_seconds"), of_team("retention_limit_bytes"));
    assert_eq!((limit, of_team("compactions_failed_total")), ((Some(0.0), Some(0.0)), Some(0.0)));
    // All tenants have the same logs.
    assert!(of_logs("wal_storage_size_bytes") > 0.0);
    assert!(of_logs("wal_record_parts_bytes_written_total") > of_logs("wal_record_part_writes_total"));
    assert_eq!(of_logs("wal_fsync_duration_seconds_count"), of_logs("wal_record_part_writes_total"));
    assert!(uru.get("/metrics").1.contains("# TYPE prometheus_tsdb_head_gc_duration_seconds summary\n"));
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Whether a tenant has a folder below `data`.
fn has_folder(data: &Path, tenant: &str) -> bool {
    data.join(tenant).exists()
}

#[test]
fn blocks_go_when_they_are_old_and_shipped_and_tenants_with_nothing_left_go_too() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hour = 60 * MINUTE;
    // The last process kept a tenant that sends no more.
    let before = start(data.path(), &[]);
    assert_eq!(write(&before, "restarted", &minutes(now() - 5 * hour, 5).timeseries).status, 200);
    before.terminate();
    let flags = [
        &*bucket_flag(bucket.path()),
        "--shipper.sync-interval=20ms",
        "--tsdb.retention=1h",
        "--tsdb.min-block-duration=2s",
        "--tsdb.max-block-duration=2s",
    ];
    let uru = start(data.path(), &flags);
    let old = minutes(now() - 5 * hour, 5);
    assert_eq!(write(&uru, "old", &old.timeseries).status, 200);
    // No block's time is over.
    let new = minutes(now() + hour / 2, 1);
    assert_eq!(write(&uru, "new", &new.timeseries).status, 200);
    let owners = || -> Vec<String> {
        let owner = |block: &std::path::PathBuf| support::meta_of(block)["thanos"]["labels"]["tenant_id"].clone();
        blocks_in(bucket.path()).iter().map(|block| owner(block).as_str().unwrap().to_owned()).collect()
    };
    wait(|| ["old", "restarted"].into_iter().all(|tenant| owners().contains(&tenant.to_owned())));
    wait(|| !has_folder(data.path(), "old") && !has_folder(data.path(), "restarted"));
    for metric in [
        "prometheus_tsdb_head_series",
        "prometheus_tsdb_out_of_order_samples_total",
        "thanos_shipper_uploads_total",
        "uru_receive_local_bytes",
    ] {
        wait(|| uru.metric(&format!("{metric}{{tenant=\"old\"")).is_none());
    }
    // Nor do its requests leave anything.
    let lines = |tenant: &str| {
        let (_, text) = uru.get("/metrics");
        let of_requests = |line: &&str| line.starts_with("http_") || line.starts_with("thanos_receive_write_");
        let tenant = format!("tenant=\"{tenant}\"");
        text.lines().filter(of_requests).filter(|line| line.contains(&tenant)).count()
    };
    wait(|| lines("old") == 0);
    assert!(lines("new") > 20, "{}", lines("new"));
    assert!(!owners().contains(&"new".to_owned()), "{:?}", owners());
    assert_eq!(samples(&stored(&uru, "shipped"), &EXTERNAL), samples_of(&new));
    // A tenant that was pruned may come back.
    assert_eq!(write(&uru, "old", &minutes(now() - hour / 2, 5).timeseries).status, 200);
    assert_eq!(stored(&uru, "shipped").len(), 4);
    // Without an end of its own a process leaves nothing in the bucket that is not whole.
    let ended: Uru = uru;
    ended.terminate();
    let scratch = tempfile::tempdir().unwrap();
    assert!(whole_blocks(&files(bucket.path()), scratch.path()).len() >= 4);
}

/// What the log had said could still be flushed once went with the tenant.
#[test]
fn a_tenant_with_a_wal_of_thanos_is_not_pruned() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let segment = data.path().join("kept/wal/00000000");
    std::fs::create_dir_all(segment.parent().unwrap()).unwrap();
    std::fs::write(&segment, "samples").unwrap();
    let more = ["--shipper.sync-interval=20ms", "--tsdb.retention=1h", "--tsdb.min-block-duration=100ms"];
    let uru = start(data.path(), &[&[&*bucket_flag(bucket.path())][..], &more].concat());
    for tenant in ["gone", "kept"] {
        assert_eq!(write(&uru, tenant, &minutes(now() - 300 * MINUTE, 1).timeseries).status, 200);
    }
    wait(|| blocks_in(bucket.path()).len() == 2);
    wait(|| !has_folder(data.path(), "gone") && blocks_in(&data.path().join("kept")).is_empty());
    // Time for many rounds.
    std::thread::sleep(Duration::from_millis(300));
    assert!(segment.is_file());
    std::fs::remove_dir_all(data.path().join("kept/wal")).unwrap();
    wait(|| !has_folder(data.path(), "kept"));
}

#[test]
fn blocks_that_a_receiver_of_thanos_left_are_shipped_with_the_labels_of_their_tenant() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let block = support::write_block(&data.path().join("team"), 1, (2, NOW - 120 * MINUTE));
    let mut meta = meta_of(&block);
    meta.as_object_mut().unwrap().remove("thanos");
    std::fs::write(block.join("meta.json"), meta.to_string()).unwrap();
    let uru = start(data.path(), &[&bucket_flag(bucket.path()), "--shipper.sync-interval=10ms"]);
    wait(|| blocks_in(bucket.path()).len() == 1);
    let shipped = meta_of(&blocks_in(bucket.path())[0]);
    let thanos = &shipped["thanos"];
    assert_eq!((&thanos["labels"]["tenant_id"], &thanos["source"]), (&"team".into(), &"receive".into()));
    uru.terminate();
}

#[test]
fn a_bucket_within_the_folder_of_tenants_is_no_tenant() {
    let data = tempfile::tempdir().unwrap();
    let bucket = data.path().join("bucket");
    let folder = |flag: &str| format!("--{flag}={}", data.path().display());
    let common = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0", "--remote-write.address=127.0.0.1:0"];
    let (own, config) = (folder("tsdb.path"), bucket_flag(&bucket));
    let error = support::refused(&[&["receive", &own, &config, "--label=a=\"b\""], &common[..]].concat());
    assert!(error.contains("--tsdb.path: the folder "), "{error}");
    let (own, config) = (folder("data-dir"), bucket_flag(data.path()));
    let error = support::refused(&[&["store", &own, &config], &common[..2]].concat());
    assert!(error.contains("--data-dir: the folder "), "{error}");
}

#[test]
fn without_a_bucket_what_is_old_when_it_comes_is_kept_as_long_as_what_is_new() {
    let data = tempfile::tempdir().unwrap();
    let ten_minutes = ["--tsdb.min-block-duration=10m", "--tsdb.max-block-duration=10m"];
    let uru =
        start(data.path(), &[&["--shipper.sync-interval=10ms", "--tsdb.retention=1h"], &ten_minutes[..]].concat());
    let start = (now() - 20 * 24 * 60 * MINUTE) / (10 * MINUTE) * (10 * MINUTE);
    assert_eq!(write(&uru, "old", &minutes(start, 130).timeseries).status, 200);
    // The newest block ends after two hours.
    let mut kept = samples_of(&minutes(start, 130));
    for series in kept.values_mut() {
        series.retain(|time, _| *time >= start + 60 * MINUTE);
    }
    wait(|| samples(&stored(&uru, "shipped"), &EXTERNAL) == kept);
}

#[test]
fn old_samples_that_are_coming_are_taken_behind_each_other_though_their_times_are_past_what_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--shipper.sync-interval=10ms", "--tsdb.retention=1h"]);
    let start = now() - 20 * 24 * 60 * MINUTE;
    for round in 0..10 {
        for (sender, behind) in [("a", 0), ("b", 10 * MINUTE)] {
            let labels = [("__name__", "shipped"), ("name", sender)];
            let series = float_series(&labels, &[(start + round * MINUTE - behind, 1.0)]);
            assert_eq!(write(&uru, "old", &[series]).status, 200, "{sender} {round}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(stored(&uru, "shipped").len(), 2);
}

#[test]
fn a_block_that_cannot_be_read_is_told_and_kept_and_writes_are_taken() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flag = bucket_flag(bucket.path());
    let old = start(data.path(), &[&flag]);
    assert_eq!(write(&old, "team", &minutes(NOW, 30).timeseries).status, 200);
    old.terminate();
    let block = blocks_in(&data.path().join("team")).remove(0);
    std::fs::write(block.join("meta.json"), "").unwrap();
    std::fs::create_dir_all(data.path().join("other/wal")).unwrap();
    std::fs::write(data.path().join("other/wal/00000000"), "of Thanos").unwrap();
    std::fs::create_dir_all(data.path().join("wal")).unwrap();
    std::fs::write(data.path().join("wal/00000000"), "of Prometheus").unwrap();
    let more = ["--shipper.sync-interval=20ms", "--tsdb.retention=1h", "--tsdb.min-block-duration=100ms"];
    let uru = start(data.path(), &[&[&*flag, "--tsdb.max-block-duration=100ms"], &more[..]].concat());
    for told in [
        "leaving out a local block that can't be read",
        "samples in a WAL of Thanos are not read: unless it is flushed, move the folder .uru, which",
        "this is a data folder of Prometheus",
    ] {
        assert!(uru.log().contains(told), "{}", uru.log());
    }
    assert_eq!(write(&uru, "team", &minutes(now() - 5 * 60 * MINUTE, 1).timeseries).status, 200);
    // Nothing else is left of the tenant, which would be pruned.
    let of_team = |name: &str| uru.metric(&format!("{name}{{tenant=\"team\"}}"));
    wait(|| of_team("thanos_shipper_uploads_total") == Some(1.0) && of_team("uru_receive_local_bytes") == Some(0.0));
    let before = of_team("thanos_shipper_dir_syncs_total").unwrap();
    wait(|| of_team("thanos_shipper_dir_syncs_total").is_some_and(|count| count > before + 20.0));
    assert!(block.join("index").exists());
}

/// It went to the bucket as it was, for the compactor to find.
#[test]
fn a_damaged_block_is_told_and_counted_and_not_uploaded_and_stops_no_other() {
    let data = tempfile::tempdir().unwrap();
    run(async {
        let ingest = with_three_blocks(data.path()).await;
        let damaged = ingest.local_blocks("team").remove(0);
        let index = std::fs::read(damaged.path.join("index")).unwrap();
        std::fs::write(damaged.path.join("index"), &index[..index.len() / 2]).unwrap();
        let store = Arc::new(InMemory::new());
        let (shipper, metrics) = ship_within(&ingest, data.path(), Arc::clone(&store) as Arc<dyn ObjectStore>, 0);
        for _ in 0..3 {
            shipper.ship().await;
        }
        let damaged_as = ["uru_receive_blocks_damaged_total", "thanos_shipper_corrupted_blocks_total"];
        let names = [damaged_as[0], damaged_as[1], "thanos_shipper_uploads_total", DROPPED];
        assert_eq!(names.map(|name| count_of_team(&metrics, name)), [1.0, 1.0, 2.0, 0.0]);
        let bucket = objects(&store).await;
        assert!(!bucket.keys().any(|name| name.contains(&damaged.meta.ulid.to_string())), "{:?}", bucket.keys());
        shipper.retain().await;
        assert_eq!(local_starts(&ingest).len(), 3, "it is kept");
        // Nothing else waits for it.
        let closed = tokio::time::timeout(Duration::from_secs(20), shipper.close(Duration::from_secs(60)));
        closed.await.unwrap();
    });
}

#[test]
fn files_are_told_with_their_hashes_where_that_is_asked_for() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = [&*bucket_flag(bucket.path()), "--hash-func=SHA256", "--shipper.upload-concurrency=4"];
    let uru = start(data.path(), &flags);
    assert_eq!(write(&uru, "t", &minutes(now() - 30 * MINUTE, 20).timeseries).status, 200);
    uru.terminate();
    let block = blocks_in(bucket.path()).remove(0);
    let meta = Meta::parse(&std::fs::read(block.join("meta.json")).unwrap()).unwrap();
    let told: Vec<_> = meta.thanos.unwrap().files.into_iter().map(|file| (file.rel_path, file.hash)).collect();
    let hash = |path: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(block.join(path)).unwrap());
        let value = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        (path.to_owned(), Some(FileHash { func: "SHA256".into(), value }))
    };
    assert_eq!(told, [hash("chunks/000001"), hash("index"), ("meta.json".into(), None)]);
}

#[test]
fn a_tenant_carries_the_labels_of_its_ring_in_answers_and_in_the_bucket_also_after_they_changed() {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, file, grpc) = (folder.path().join("data"), folder.path().join("rings.json"), free_address());
    let set = |zone: &str| {
        let own = format!(r#"{{"tenants": ["a"], "endpoints": ["{grpc}"], "external_labels": {{"zone": "{zone}"}}}}"#);
        let written = folder.path().join("written");
        std::fs::write(&written, format!(r#"[{own}, {{"endpoints": ["{grpc}"]}}]"#)).unwrap();
        std::fs::rename(&written, &file).unwrap();
    };
    set("one");
    let (rings, own) =
        (format!("--receive.hashrings-file={}", file.display()), format!("--receive.local-endpoint={grpc}"));
    let (address, bucket_flag) = (format!("--grpc-address={grpc}"), bucket_flag(bucket.path()));
    let uru = start(&data, &[&rings, &own, &address, &bucket_flag]);
    for tenant in ["a", "b"] {
        assert_eq!(write(&uru, tenant, &minutes(NOW, 3).timeseries).status, 200);
    }
    let zones = || -> Vec<String> {
        stored(&uru, "shipped")
            .iter()
            .map(|series| labels_text(&series.labels, &["__name__", "name", "receive"]))
            .collect()
    };
    let expected = |zone: &str| {
        let a = format!("tenant_id=\"a\",zone=\"{zone}\"");
        [a.clone(), "tenant_id=\"b\"".into(), a, "tenant_id=\"b\"".into()]
    };
    assert_eq!(zones(), expected("one"));
    set("two");
    wait(|| zones() == expected("two"));
    uru.terminate();
    let labels: Vec<_> =
        blocks_in(bucket.path()).iter().map(|block| meta_of(block)["thanos"]["labels"].clone()).collect();
    let mut zones: Vec<_> = labels.iter().map(|of| (of["tenant_id"].as_str(), of["zone"].as_str())).collect();
    zones.sort_unstable();
    assert_eq!(zones, [(Some("a"), Some("two")), (Some("b"), None)]);
}
