//! Whatever fails while blocks are compacted, no sample is lost or there twice, and the next run mends
//! the bucket.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::block::tombstones::Tombstones;
use engine::compact::group::LEVELS_MS;
use engine::compact::plan::{Planner, Vertical};
use engine::compact::retention::{Downsampling, Retention};
use engine::compact::source::Malformed;
use engine::compact::{Replicas, Workers};
use engine::index::tsdb::{Reader, Series};
use engine::model::TimeRange;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use prometheus_client::registry::Registry;
use server::compactor::metrics::CompactMetrics;
use server::compactor::syncer::Syncer;
use server::compactor::trouble::Troubles;
use server::compactor::{Compactor, OutOfOrder, Settings};
use server::objstore::Bucket;
use server::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};
use server::telemetry::metrics::render;
use server::upkeep::transfer::{HashFunc, Transfer};

use crate::support;
use crate::support::faulty::{FAULTS, Fault, Faulty, Meets, Sample, fill, objects, visible_samples, whole_blocks};

const TWO_HOURS: i64 = 2 * 3_600_000;

pub(super) fn settings(data_dir: &Path, vertical: Vertical) -> Settings {
    Settings {
        data_dir: data_dir.to_owned(),
        planner: Planner { ranges: LEVELS_MS.to_vec(), index_bytes_max: 64 << 30, vertical },
        replicas: Replicas::OneToOne,
        downsampling: Downsampling::Disabled,
        retention: Retention::default(),
        delete_delay: Duration::ZERO,
        transfer: Transfer { hash: HashFunc::None, concurrency: 1 },
        fetches: 1,
        merges: 1,
        downsamples: 1,
        workers: Workers::threads(0),
        out_of_order: OutOfOrder::Halt,
        malformed: Malformed::Refuse,
    }
}

/// One run of a compactor of its own over `store`, and what it says in its metrics.
pub(super) async fn run(store: Arc<dyn ObjectStore>, settings: Settings) -> (Result<(), Troubles>, String) {
    let (compactor, registry) = compactor(store, settings);
    let outcome = compactor.run_once().await;
    (outcome, render(&registry, "").1)
}

/// A compactor over `store`, and its metrics.
fn compactor(store: Arc<dyn ObjectStore>, settings: Settings) -> (Compactor, Registry) {
    let mut registry = Registry::default();
    let bucket = Bucket::over(store, "memory", &mut registry);
    let fetch = FetchOptions { data_dir: None, concurrency: 1 };
    let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut registry));
    // Half of the delay until deletion, as the component asks for.
    let filters = Filters { ignore_deletion_marks_delay: settings.delete_delay / 2, ..Filters::all() };
    let syncer = Syncer::new(fetcher, filters, None, None);
    let compactor = Compactor::new(bucket, syncer, settings, CompactMetrics::register(&mut registry));
    (compactor, registry)
}

/// Six blocks of two hours, of which the first four become one of eight.
pub(super) async fn filled(folder: &Path) -> (Arc<InMemory>, BTreeSet<Sample>) {
    for at in 0..6 {
        support::write_block(folder, 1 + at as u128, (3, at * TWO_HOURS));
    }
    let store = Arc::new(InMemory::new());
    fill(&store, folder).await;
    let samples = visible_samples(&objects(&store).await, &folder.join("before"));
    assert_eq!(samples.len(), 6 * 3 * 60);
    (store, samples)
}

/// Two blocks that overlap.
async fn overlapping(folder: &Path) -> Arc<InMemory> {
    support::write_block(folder, 1, (2, 0));
    support::write_block(folder, 2, (2, TWO_HOURS / 4));
    let store = Arc::new(InMemory::new());
    fill(&store, folder).await;
    store
}

fn with_meta(objects: &std::collections::BTreeMap<String, bytes::Bytes>) -> usize {
    objects.keys().filter(|name| name.ends_with("/meta.json")).count()
}

#[test]
fn a_fault_at_any_call_leaves_the_bucket_whole_and_the_next_run_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (clean, samples) = filled(folder.path()).await;
        let counted = Faulty::new(&clean, u64::MAX, Fault::Refused);
        let calls = counted.calls();
        let (outcome, text) = run(Arc::new(counted), settings(&folder.path().join("work"), Vertical::Disabled)).await;
        outcome.unwrap();
        assert!(text.contains("thanos_compact_group_compactions_total{resolution=\"0\"} 1"), "{text}");
        assert!(text.contains("thanos_compact_blocks_cleaned_total 4"), "{text}");
        let calls = calls.load(Ordering::Relaxed);
        let left = objects(&clean).await;
        assert_eq!((with_meta(&left), calls > 50), (3, true), "{calls} calls");
        for at in 0..calls {
            // Each call is refused, and meets one of the other faults in turn.
            for fault in [Fault::Refused, FAULTS[1 + at as usize % 3]] {
                let round = tempfile::tempdir().unwrap();
                let store = Arc::new(InMemory::new());
                fill(&store, folder.path()).await;
                let faulty = Faulty::new(&store, at, fault);
                drop(run(Arc::new(faulty), settings(&round.path().join("work"), Vertical::Disabled)).await);
                let after = visible_samples(&objects(&store).await, &round.path().join("after"));
                assert!(after == samples, "call {at}, {fault:?}: {} of {} samples", after.len(), samples.len());
                let (outcome, _) =
                    run(Arc::clone(&store) as _, settings(&round.path().join("work"), Vertical::Disabled)).await;
                outcome.unwrap_or_else(|troubles| panic!("call {at}, {fault:?}: {troubles}"));
                // What the second run has marked the third one deletes.
                run(Arc::clone(&store) as _, settings(&round.path().join("work"), Vertical::Disabled)).await.0.unwrap();
                let mended = objects(&store).await;
                assert!(visible_samples(&mended, &round.path().join("mended")) == samples, "call {at}, {fault:?}");
                assert_eq!(with_meta(&mended), 3, "call {at}, {fault:?}: {:?}", mended.keys());
            }
        }
    });
}

#[test]
fn any_interleaving_of_crashes_and_restarts_keeps_every_sample() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        for at in 0..9 {
            support::write_block(folder.path(), 1 + at as u128, (2, at * TWO_HOURS / 2));
        }
        // The same samples again: blocks that overlap wholly.
        for at in [2, 3, 7] {
            support::write_block(folder.path(), 100 + at as u128, (2, at * TWO_HOURS / 2));
        }
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |max: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % max
        };
        for round in 0..12 {
            let scratch = tempfile::tempdir().unwrap();
            let store = Arc::new(InMemory::new());
            fill(&store, folder.path()).await;
            let expected: BTreeSet<Sample> =
                support::blocks_in(folder.path()).iter().flat_map(|block| support::faulty::samples_of(block)).collect();
            for _ in 0..4 {
                let fault = FAULTS[random(4) as usize];
                let faulty = Faulty::new(&store, random(150), fault);
                drop(run(Arc::new(faulty), settings(&scratch.path().join("work"), Vertical::Enabled)).await);
                let whole = whole_blocks(&objects(&store).await, &scratch.path().join("whole"));
                let held: BTreeSet<Sample> = whole
                    .keys()
                    .flat_map(|id| support::faulty::samples_of(&scratch.path().join("whole").join(id.to_string())))
                    .collect();
                assert!(held == expected, "round {round}");
            }
            let (outcome, _) =
                run(Arc::clone(&store) as _, settings(&scratch.path().join("work"), Vertical::Enabled)).await;
            outcome.unwrap();
            let samples = visible_samples(&objects(&store).await, &scratch.path().join("end"));
            assert!(samples == expected, "round {round}: {} of {} samples", samples.len(), expected.len());
        }
    });
}

#[test]
fn a_corrupt_source_halts_its_group_with_its_place_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, _) = filled(folder.path()).await;
        let others = folder.path().join("others");
        for at in 0..6 {
            let block = support::write_block(&others, 100 + at as u128, (2, at * TWO_HOURS));
            let meta = std::fs::read_to_string(block.join("meta.json")).unwrap().replace("\"c1\"", "\"c2\"");
            std::fs::write(block.join("meta.json"), meta).unwrap();
        }
        fill(&store, &others).await;
        let broken = break_byte(&store, &support::blocks_in(folder.path())[1], OF_A_CHUNK).await;
        let (outcome, text) =
            run(Arc::clone(&store) as _, settings(&folder.path().join("work"), Vertical::Disabled)).await;
        let troubles = outcome.unwrap_err();
        let message = troubles.to_string();
        assert!(troubles.need_attention(), "{message}");
        for part in [broken.as_str(), "chunks/000001", "at byte"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(text.contains("thanos_compact_halted 1"), "{text}");
        assert!(text.contains("thanos_compact_group_compactions_total{resolution=\"0\"} 1"), "{text}");
        assert!(text.contains("thanos_compact_group_compactions_failures_total{resolution=\"0\"} 1"), "{text}");
    });
}

/// A byte of a block's first chunk, and one of its index.
const OF_A_CHUNK: (&str, usize) = ("chunks/000001", 40);
const OF_THE_INDEX: (&str, usize) = ("index", 0);

/// Breaks a byte of the block that lies in the folder `block`. Returns its id.
async fn break_byte(store: &InMemory, block: &Path, (file, at): (&str, usize)) -> String {
    let id = block.file_name().unwrap().to_str().unwrap().to_owned();
    let path = ObjectPath::from(format!("{id}/{file}"));
    let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[at] ^= 0xff;
    store.put(&path, bytes.into()).await.unwrap();
    id
}

#[test]
fn an_index_that_cannot_be_read_is_told_with_its_block_once() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, _) = filled(folder.path()).await;
        let broken = break_byte(&store, &support::blocks_in(folder.path())[1], OF_THE_INDEX).await;
        let work = settings(&folder.path().join("work"), Vertical::Disabled);
        let message = run(Arc::clone(&store) as _, work).await.0.unwrap_err().to_string();
        assert!(message.contains(&format!(": block {broken}: index: ")), "{message}");
        assert_eq!(message.matches(&broken).count(), 1, "{message}");
    });
}

/// Only a restart once made it try them again, as the blocks themselves were the same.
#[test]
fn what_halted_is_tried_again_or_forgotten_once_its_block_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, _) = filled(folder.path()).await;
        let broken = break_byte(&store, &support::blocks_in(folder.path())[1], OF_A_CHUNK).await;
        // A group of its own, whose only block is long enough to be downsampled.
        let long = support::write_block(&folder.path().join("long"), 100, (2, 0));
        let mut meta = support::meta_of(&long);
        meta["maxTime"] = (24 * TWO_HOURS).into();
        meta["thanos"]["labels"]["cluster"] = "c2".into();
        std::fs::write(long.join("meta.json"), meta.to_string()).unwrap();
        fill(&store, &folder.path().join("long")).await;
        let long = break_byte(&store, &long, OF_A_CHUNK).await;
        let settings = settings(&folder.path().join("work"), Vertical::Disabled);
        let settings = Settings { downsampling: Downsampling::Enabled, ..settings };
        let (compactor, registry) = compactor(Arc::clone(&store) as _, settings);
        let halted = |expected: i64| {
            let text = render(&registry, "").1;
            assert!(text.contains(&format!("\nthanos_compact_halted {expected}\n")), "{text}");
            text
        };
        let troubles = compactor.run_once().await.unwrap_err();
        assert!(troubles.need_attention() && troubles.len() == 2, "{troubles}");
        compactor.run_once().await.unwrap();
        halted(1);
        let mark = async |name: String| store.put(&ObjectPath::from(name), "{}".into()).await.unwrap();
        mark(format!("{broken}/no-compact-mark.json")).await;
        compactor.run_once().await.unwrap();
        let text = halted(1);
        assert!(text.contains("thanos_compact_group_compactions_total{resolution=\"0\"} 1"), "{text}");
        mark(format!("{long}/no-downsample-mark.json")).await;
        compactor.run_once().await.unwrap();
        halted(0);
    });
}

#[test]
fn a_bucket_that_is_not_seen_in_time_is_a_failed_sync() {
    support::run(async {
        let store = Faulty::planned(&Arc::new(InMemory::new()), |_| Meets::Hangs);
        let mut registry = Registry::default();
        let bucket = Bucket::over(Arc::new(store), "memory", &mut registry);
        let fetch = FetchOptions { data_dir: None, concurrency: 1 };
        let fetcher = Fetcher::new(bucket, &fetch, SyncMetrics::register(&mut registry));
        let syncer = Syncer::new(fetcher, Filters::all(), Some(Duration::from_millis(1)), None);
        let error = syncer.sync().await.unwrap_err();
        assert!(error.message().contains("--wait-interval"), "{error}");
        let text = render(&registry, "").1;
        for name in ["syncs_total", "sync_failures_total", "sync_duration_seconds_count"] {
            assert!(text.contains(&format!("\nthanos_blocks_meta_{name} 1\n")), "{text}");
        }
    });
}

#[test]
fn overlapping_blocks_halt_their_group_unless_they_may_be_merged() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let store = overlapping(folder.path()).await;
        let (outcome, text) =
            run(Arc::clone(&store) as _, settings(&folder.path().join("work"), Vertical::Disabled)).await;
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("pre compaction overlap check"), "{message}");
        assert!(text.contains("thanos_compact_halted 1"), "{text}");
        let (outcome, text) =
            run(Arc::clone(&store) as _, settings(&folder.path().join("work"), Vertical::Enabled)).await;
        outcome.unwrap();
        assert!(text.contains("thanos_compact_group_vertical_compactions_total{resolution=\"0\"} 1"), "{text}");
        let of_merges = [
            "compactions_total 1",
            "vertical_compactions_total 1",
            "compaction_duration_seconds_count 1",
            "compaction_populating_block 0",
        ];
        assert!(of_merges.iter().all(|line| text.contains(&format!("\nprometheus_tsdb_{line}\n"))), "{text}");
        assert_eq!(with_meta(&objects(&store).await), 1);
    });
}

/// A run over the blocks in `folder` whose marks come of age in days. It is to end long before.
async fn run_to_its_end(folder: &Path) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    fill(&store, folder).await;
    let delete_delay = Duration::from_secs(48 * 3600);
    let settings = Settings { delete_delay, ..settings(&folder.join("work"), Vertical::Disabled) };
    for _ in 0..2 {
        let run = run(Arc::clone(&store) as _, settings.clone());
        let (outcome, _) = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it is planned for ever");
        outcome.unwrap();
    }
    store
}

#[test]
fn a_block_that_is_rewritten_for_its_tombstones_is_rewritten_once_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let deleted_from = support::write_block(folder.path(), 1, (3, 0));
        let mut meta = support::meta_of(&deleted_from);
        meta["maxTime"] = (24 * TWO_HOURS).into();
        meta["stats"]["numTombstones"] = 3.into();
        std::fs::write(deleted_from.join("meta.json"), meta.to_string()).unwrap();
        delete_half_an_hour(&deleted_from);
        support::write_block(folder.path(), 2, (3, 24 * TWO_HOURS));
        let store = run_to_its_end(folder.path()).await;
        let mut objects = objects(&store).await;
        assert_eq!(with_meta(&objects), 3);
        let samples = visible_samples(&objects, &folder.path().join("before"));
        let mark = |name: &String| Some(name.strip_suffix("/deletion-mark.json")?.to_owned());
        let marked: BTreeSet<String> = objects.keys().filter_map(mark).collect();
        assert_eq!(marked.iter().map(|id| folder.path().join(id)).collect::<Vec<_>>(), [deleted_from]);
        objects.retain(|name, _| !name.split('/').next().is_some_and(|id| marked.contains(id)));
        let after = visible_samples(&objects, &folder.path().join("after"));
        assert!(after == samples && samples.len() == 3 * 30 + 3 * 60, "{}", samples.len());
    });
}

/// Deletes the first half hour of all series of the block in `folder`, which begins at 0.
fn delete_half_an_hour(folder: &Path) {
    let index = Reader::open(std::fs::read(folder.join("index")).unwrap()).unwrap();
    let (mut scan, mut series, mut tombstones) = (index.series(), Series::default(), Tombstones::default());
    while scan.next(&mut series).unwrap() {
        tombstones.add(series.series_ref, TimeRange::new(0, 30 * 60_000 - 1));
    }
    std::fs::write(folder.join("tombstones"), tombstones.to_bytes()).unwrap();
}

#[test]
fn what_waits_to_be_downsampled_stays_beyond_its_retention_while_its_group_fails() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let store = overlapping(folder.path()).await;
        let hour = Duration::from_secs(3600);
        let run = |vertical, downsampling| {
            let retention = Retention { raw: hour, ..Retention::default() };
            let settings = settings(&folder.path().join("work"), vertical);
            run(Arc::clone(&store) as _, Settings { downsampling, retention, delete_delay: 48 * hour, ..settings })
        };
        let marks = async || objects(&store).await.keys().filter(|name| name.ends_with("/deletion-mark.json")).count();
        assert!(run(Vertical::Disabled, Downsampling::Enabled).await.0.unwrap_err().need_attention());
        assert_eq!(marks().await, 0, "the group overlaps, and its coarser data is not there");
        // A block of no resolution, for which nothing can be planned.
        let odd = support::write_block(folder.path(), 3, (2, 24 * TWO_HOURS));
        let mut meta = support::meta_of(&odd);
        meta["thanos"]["downsample"]["resolution"] = 60_000.into();
        std::fs::write(odd.join("meta.json"), meta.to_string()).unwrap();
        fill(&store, folder.path()).await;
        run(Vertical::Enabled, Downsampling::Enabled).await.0.unwrap_err();
        assert_eq!(marks().await, 2, "only the sources of what was merged");
        let odd = odd.file_name().unwrap().to_str().unwrap().to_owned();
        for name in objects(&store).await.into_keys().filter(|name| name.starts_with(&odd)) {
            store.delete(&ObjectPath::from(name)).await.unwrap();
        }
        // Two sources, and what they are merged into, which is too short to be downsampled.
        run(Vertical::Enabled, Downsampling::Enabled).await.0.unwrap();
        assert_eq!(marks().await, 3);
    });
}

#[test]
fn blocks_that_hold_nothing_are_marked_once_and_others_behind_them_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        for at in 0..10 {
            support::write_block(folder.path(), 1 + at as u128, (if at < 4 { 0 } else { 3 }, at * TWO_HOURS));
        }
        let store = run_to_its_end(folder.path()).await;
        let objects = objects(&store).await;
        let marks = objects.keys().filter(|name| name.ends_with("/deletion-mark.json")).count();
        assert_eq!((marks, with_meta(&objects)), (8, 11), "four hold nothing, four became one");
    });
}

#[test]
fn two_compactors_on_one_bucket_neither_lose_nor_double_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, samples) = filled(folder.path()).await;
        let delayed = |name: &str| Settings {
            delete_delay: Duration::from_secs(48 * 3600),
            ..settings(&folder.path().join(name), Vertical::Disabled)
        };
        let (first, second) =
            tokio::join!(run(Arc::clone(&store) as _, delayed("one")), run(Arc::clone(&store) as _, delayed("two")));
        // The slower one may find the faster one's result beside its own sources: an overlap, or nothing.
        drop((first, second));
        assert!(visible_samples(&objects(&store).await, &folder.path().join("after")) == samples);
        let (outcome, _) = run(Arc::clone(&store) as _, delayed("one")).await;
        outcome.unwrap();
        assert!(visible_samples(&objects(&store).await, &folder.path().join("mended")) == samples);
    });
}

#[test]
fn nothing_is_merged_around_blocks_that_are_not_understood_and_they_stay() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (clean, _) = filled(folder.path()).await;
        let clean = objects(&clean).await;
        let name = |at: usize| support::blocks_in(folder.path())[at].file_name().unwrap().to_str().unwrap().to_owned();
        let (strange, other) = (name(1), name(4));
        let meta = format!("{strange}/meta.json");
        let written = String::from_utf8(clean[&meta].to_vec()).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(written.contains(from), "{written}");
            (meta.clone(), written.replacen(from, to, 1))
        };
        let mark = format!("{{\"id\":\"{strange}\",\"version\":7,\"deletion_time\":1}}");
        for ((object, text), words) in [
            (changed("\"version\": 1", "\"version\": 7"), "version is 7"),
            (changed(&strange, &other), "meta.json is that of block"),
            (changed("\"level\": 1", "\"level\": \"one\""), "invalid type"),
            ((format!("{strange}/deletion-mark.json"), mark), "version is 7"),
        ] {
            let store = Arc::new(InMemory::new());
            for (name, bytes) in &clean {
                store.put(&ObjectPath::from(name.as_str()), bytes.clone().into()).await.unwrap();
            }
            store.put(&ObjectPath::from(object.as_str()), text.into()).await.unwrap();
            let before = objects(&store).await;
            let work = settings(&folder.path().join("work"), Vertical::Disabled);
            let (outcome, metrics) = run(Arc::clone(&store) as _, work).await;
            let troubles = outcome.unwrap_err();
            assert!(!troubles.need_attention() && troubles.to_string().contains(words), "{troubles}");
            assert!(objects(&store).await == before, "{object}: {words}");
            assert!(metrics.contains("thanos_compact_halted 0"), "{metrics}");
        }
    });
}

#[test]
fn a_disk_that_cannot_be_written_to_fails_the_run_and_not_the_bucket() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, samples) = filled(folder.path()).await;
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        // A file where the folder of work should be fails every write, as a full disk does.
        let (outcome, text) = run(Arc::clone(&store) as _, settings(&file, Vertical::Disabled)).await;
        let troubles = outcome.unwrap_err();
        assert!(!troubles.need_attention(), "{troubles}");
        assert!(troubles.to_string().contains(file.to_str().unwrap()), "{troubles}");
        assert!(text.contains("thanos_compact_halted 0"), "{text}");
        assert!(visible_samples(&objects(&store).await, &folder.path().join("after")) == samples);
    });
}
