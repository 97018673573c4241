//! Ingestion as a whole: what is acknowledged is there after any end of the process, blocks hold what
//! the heads held, and queries don't see where samples are.

mod begin;
mod delete;
mod full;
mod labels;
mod large;
mod late;
mod many;
mod memory;
mod partitions;
mod series;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::batch::SampleBatch;
use crate::block::Detail;
use crate::chunk::Encoding;
use crate::chunk::samples::{Samples, Value};
use crate::head::Reason;
use crate::io::BlockIo;
use crate::io::faulty::{Fault, Faulty};
use crate::model::{
    BlockId, Budget, ErrorKind, Histogram, HistogramValue, MatchKind, Matcher, Patience, Span, TimeRange,
};
use crate::promql::blocks::Scope;
use crate::promql::source::{Files, Hints, Part, SelectRequest, Source};
use crate::shard::gather::{Selector, block_on};
use crate::shard::pool;
use crate::shard::tests as shard_tests;
use crate::wal::folder::{list, segment_path};
use crate::wal::frame::{self, End, Tail};

const STEP: i64 = 15_000;
const RANGE: i64 = 7_200_000;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("uru-ingest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn options(&self) -> IngestOptions {
        IngestOptions {
            data_dir: self.0.clone(),
            external_labels: Labels::from_pairs([("receive", "0")]),
            tenant_label: "tenant_id".to_owned(),
            out_of_order_window_ms: 600_000,
            exemplars_max: 10,
            io: io::Mode::Pread,
            ..IngestOptions::default()
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn pool(shards: usize) -> Arc<Pool> {
    let options = pool::Options { shards: NonZeroUsize::new(shards), io: io::Mode::Pread, ..pool::Options::default() };
    Pool::start(&options).unwrap()
}

fn tenant() -> Arc<str> {
    Arc::from("team-a")
}

/// A batch of `series` series with one sample each; the value tells the sample's time.
fn batch(series: u32, time: i64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for at in 0..series {
        let number = format!("{at:03}");
        batch.push_series([("__name__", "metric"), ("series", number.as_str())]);
        batch.push_sample(time, time.wrapping_add(i64::from(at)) as f64);
    }
    batch
}

fn append(ingest: &Ingest, series: u32, time: i64) -> Result<WriteReport, Error> {
    block_on(ingest.append(&tenant(), batch(series, time), WriteLimits::default()))
}

fn read(ingest: &Arc<Ingest>) -> BTreeMap<String, Vec<i64>> {
    read_of(ingest, &tenant())
}

/// All samples of `tenant` by series, through PromQL's source.
fn read_of(ingest: &Arc<Ingest>, tenant: &str) -> BTreeMap<String, Vec<i64>> {
    all_of(&ingest.source(None, Scope::default()), tenant)
}

/// All samples of `tenant` in `source`, by series.
fn all_of(source: &HeadSource, tenant: &str) -> BTreeMap<String, Vec<i64>> {
    let (hints, range) = (Hints::default(), TimeRange::new(0, i64::MAX));
    let matchers = [Matcher::equal("__name__", "metric"), Matcher::equal("tenant_id", tenant)];
    let files = Files::default();
    let request = SelectRequest { matchers: &matchers, range, extent: range, hints: &hints, part: Part::WHOLE, files };
    let mut all = BTreeMap::new();
    let mut sink = |batch: &mut SampleBatch| -> Result<(), Error> {
        for series in batch.iter() {
            assert_eq!(series.labels.get("receive"), Some("0"));
            let name = series.labels.get("series").unwrap().to_owned();
            let number: i64 = name.parse().unwrap();
            let values: Vec<i64> = series.values.iter().map(|value| *value as i64 - number).collect();
            assert_eq!(values, series.timestamps);
            assert!(all.insert(name, values).is_none(), "a series comes once");
        }
        Ok(())
    };
    let selected = source.select(&request, &mut sink).unwrap();
    assert_eq!(selected.warnings, Vec::<String>::new());
    all
}

/// All samples of what `matchers` match, of all tenants.
fn view_of(matchers: &[Matcher]) -> ViewRequest {
    ViewRequest {
        tenants: None,
        matchers: matchers.to_vec(),
        range: TimeRange::new(0, i64::MAX),
        detail: Detail::Chunks,
        memory: Budget::new("--store.memory-limit", 1 << 30),
        patience: Patience::default(),
    }
}

fn expect(all: &BTreeMap<String, Vec<i64>>, series: usize, times: &[i64]) {
    assert_eq!(all.len(), series);
    for (name, found) in all {
        assert_eq!(found, times, "series {name}");
    }
}

#[test]
fn how_far_samples_may_be_behind_does_not_depend_on_the_number_of_shards() {
    use crate::head::Reason::{self, OutOfBounds, TooOld};
    let late = RANGE / 2 + 1;
    for (window, refusal) in [(0, OutOfBounds), (600_000, TooOld)] {
        for shards in 1..=4 {
            let folder = Folder::new();
            let options = IngestOptions { out_of_order_window_ms: window, ..folder.options() };
            let ingest = Ingest::open(&pool(shards), options).unwrap();
            let refused = |series: u32, time: i64| -> Vec<Reason> {
                let report = append(&ingest, series, time).unwrap();
                report.rejected.iter().map(|rejected| rejected.reason).collect()
            };
            // One series is in one head only; all others know how late it is.
            assert_eq!(refused(1, 10 * RANGE), []);
            assert_eq!(refused(30, 10 * RANGE - late), vec![refusal; 30], "{shards} shards");
            assert_eq!(refused(30, 10 * RANGE + 1), []);
            // Of the first batch it is the first sample that counts.
            let mut batch = WriteBatch::new();
            for (at, time) in [20 * RANGE, 20 * RANGE - late, 20 * RANGE - late + 1].into_iter().enumerate() {
                batch.push_series([("__name__", "metric"), ("series", ["000", "001", "002"][at])]);
                batch.push_sample(time, 1.0);
            }
            let report = block_on(ingest.append(&Arc::from("new"), batch, WriteLimits::default())).unwrap();
            let rejected: Vec<_> = report.rejected.iter().map(|found| (found.series, found.reason)).collect();
            assert_eq!(rejected, [(1, refusal)], "{shards} shards");
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_start_from_the_log_and_from_a_snapshot() {
    let folder = Folder::new();
    let times: Vec<i64> = (1..200).map(|at| at * STEP).collect();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for time in &times[..100] {
        assert_eq!(append(&ingest, 50, *time).unwrap().samples, 50);
    }
    expect(&read(&ingest), 50, &times[..100]);
    drop(ingest);
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert!(ingest.counters().replayed_frames > 0);
    expect(&read(&ingest), 50, &times[..100]);
    for time in &times[100..] {
        append(&ingest, 50, *time).unwrap();
    }
    block_on(ingest.close()).unwrap();
    assert!(append(&ingest, 50, 0).unwrap_err().message().contains("closed"));
    drop(ingest);
    // The folder keeps its number of partitions whatever the number of shards.
    let ingest = Ingest::open(&pool(3), folder.options()).unwrap();
    assert_eq!(ingest.partitions(), 2);
    expect(&read(&ingest), 50, &times);
    assert_eq!(append(&ingest, 50, times[198]).unwrap().duplicates, 50);
    assert_eq!(ingest.stats("team-a").unwrap().series, 50);
}

#[test]
fn each_head_is_swept_once_however_many_series_the_others_have() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    // Two parts in one of them, and three in the other.
    for time in [STEP, 3 * RANGE] {
        append(&ingest, 4096, time).unwrap();
    }
    block_on(ingest.flush(None, Flush::Due)).unwrap();
    let cuts = ingest.cuts("team-a").unwrap();
    assert_eq!((cuts.sweeps, cuts.sweep_parts), (1, 5));
}

#[test]
fn blocks_are_cut_when_due_and_queries_see_no_difference() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let times: Vec<i64> = (1..1100).map(|at| at * STEP).collect();
    for time in &times {
        append(&ingest, 10, *time).unwrap();
    }
    let before = read(&ingest);
    let cut = block_on(ingest.flush(None, Flush::Due)).unwrap();
    assert_eq!(cut.len(), 1);
    let meta = &cut[0].meta;
    assert_eq!((meta.min_time, meta.max_time, meta.stats.num_series), (STEP, RANGE, 10));
    let (cuts, stats) = (ingest.cuts("team-a").unwrap(), ingest.stats("team-a").unwrap());
    assert_eq!((cuts.looks, cuts.blocks, cuts.truncations, cuts.sweeps, cuts.failed), (1, 1, 1, 1, 0));
    assert!(stats.chunks_removed > 0 && stats.chunks > 0 && ingest.wal_bytes() > 0);
    assert_eq!(stats.chunks_created, stats.chunks + stats.chunks_removed);
    assert_eq!((ingest.counters().snapshots, ingest.counters().snapshots_failed), (1, 0));
    assert_eq!(meta.thanos.as_ref().unwrap().labels["tenant_id"], "team-a");
    assert_eq!(cut[0].path, folder.0.join("team-a").join(meta.ulid.to_string()));
    assert_eq!(read(&ingest), before);
    assert!(block_on(ingest.flush(None, Flush::Due)).unwrap().is_empty());
    drop(ingest);
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert_eq!(read(&ingest), before);
    let all = block_on(ingest.flush(Some("team-a"), Flush::All)).unwrap();
    let ranges: Vec<_> = all.iter().map(|block| (block.meta.min_time, block.meta.max_time)).collect();
    assert_eq!(ranges, [(RANGE, 2 * RANGE), (2 * RANGE, 1099 * STEP + 1)]);
    assert_eq!(read(&ingest), before);
    assert_eq!((ingest.stats("team-a").unwrap().series, ingest.local_blocks("team-a").len()), (0, 3));
    let answer = |request| {
        let selector = Selector { pool: Arc::clone(&ingest.pool), budget: crate::model::Budget::new("test", u64::MAX) };
        block_on(ingest.labels(&selector, request, crate::select::Limits::default())).unwrap().strings
    };
    let names = crate::select::LabelRequest {
        name: None,
        range: TimeRange::ALL,
        matchers: Vec::new(),
        without_labels: Vec::new(),
        limit: 0,
        block_matchers: Vec::new(),
    };
    assert!(answer(names).iter().eq(["__name__", "receive", "series", "tenant_id"]));
    block_on(ingest.remove_tenant("team-a")).unwrap();
    assert!(!folder.0.join("team-a").exists());
    drop(ingest);
    assert!(Ingest::open(&pool(2), folder.options()).unwrap().tenants().is_empty());
}

#[test]
fn a_flush_ends_whatever_times_samples_have() {
    let folder = Folder::new();
    let options = IngestOptions { out_of_order_window_ms: 2 * RANGE, ..folder.options() };
    let ingest = Ingest::open(&pool(2), options).unwrap();
    let other: Arc<str> = Arc::from("team-b");
    block_on(ingest.append(&other, batch(3, STEP), WriteLimits::default())).unwrap();
    let taken = |time: i64| {
        let mut batch = WriteBatch::new();
        for series in ["0", "1"] {
            batch.push_series([("__name__", "metric"), ("series", series)]);
            batch.push_sample(time, 1.0);
        }
        block_on(ingest.append(&tenant(), batch, WriteLimits::default())).unwrap().samples
    };
    // The third and the last three are late, which makes a chunk from one end of time to the other.
    let (min, max) = (TimeRange::ASKED.min_time, TimeRange::ASKED.max_time);
    let times = [min, min + STEP, min + 2, STEP, max - RANGE, max - 9, max];
    let late = [max - RANGE - 1, max - 8, max - 1];
    assert!(times.into_iter().chain(late).all(|time| taken(time) == 2));
    let blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    let samples = |tenant: &str| -> u64 {
        blocks.iter().filter(|block| &*block.tenant == tenant).map(|block| block.meta.stats.num_samples).sum()
    };
    assert_eq!((samples("team-a"), samples("team-b")), (2 * 10, 3));
    assert!(["team-a", "team-b"].iter().all(|tenant| ingest.stats(tenant).unwrap().series == 0));
    let size = ingest.wal_bytes();
    assert!(block_on(ingest.flush(None, Flush::All)).unwrap().is_empty());
    assert_eq!(ingest.wal_bytes(), size, "nothing was cut");
    drop(ingest);
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert!(block_on(ingest.flush(None, Flush::All)).unwrap().is_empty());
}

#[test]
fn samples_at_the_ends_of_time_are_refused_and_change_nothing() {
    for (window, early) in [(0, Reason::OutOfBounds), (2 * RANGE, Reason::TooOld)] {
        let folder = Folder::new();
        let options = IngestOptions { out_of_order_window_ms: window, ..folder.options() };
        let ingest = Ingest::open(&pool(2), options).unwrap();
        let (min, max) = (TimeRange::ASKED.min_time, TimeRange::ASKED.max_time);
        let far =
            [(i64::MAX, Reason::BeyondAllTime), (max + 1, Reason::BeyondAllTime), (min - 1, early), (i64::MIN, early)];
        for (time, reason) in far {
            let report = append(&ingest, 3, time).unwrap();
            assert!(report.rejected.iter().all(|rejected| rejected.reason == reason), "{report:?}");
            assert_eq!((report.rejected.len(), report.samples, report.series_created), (3, 0, 0), "{time}");
        }
        assert_eq!(append(&ingest, 3, STEP).unwrap().samples, 3);
        assert_eq!(append(&ingest, 1, i64::MAX).unwrap().rejected.len(), 1);
        assert_eq!(append(&ingest, 3, 2 * STEP).unwrap().samples, 3);
    }
}

#[test]
fn a_tenant_whose_cut_fails_keeps_nobody_else_from_being_cut() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let names = ["aaa", "bbb", "ccc", "ddd"];
    for name in names {
        for time in [STEP, 2 * RANGE] {
            block_on(ingest.append(&Arc::from(name), batch(3, time), WriteLimits::default())).unwrap();
        }
    }
    let broken = ["aaa", "ccc"].map(|name| folder.0.join(name));
    broken.iter().for_each(|path| std::fs::write(path, "no folder").unwrap());
    let error = block_on(ingest.flush(None, Flush::Due)).unwrap_err();
    assert!(["tenant aaa: ", "; tenant ccc: "].iter().all(|part| error.message().contains(part)), "{error}");
    let cut = names.map(|name| (ingest.local_blocks(name).len(), ingest.cuts(name).unwrap().failed));
    assert_eq!(cut, [(0, 1), (1, 0), (0, 1), (1, 0)]);
    assert_eq!(ingest.counters().snapshots, 1);
    broken.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(block_on(ingest.flush(None, Flush::Due)).unwrap().len(), 2);
}

#[test]
fn a_block_that_cannot_be_read_is_left_out_and_stays_where_it_is() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for at in [1, 480, 960] {
        append(&ingest, 10, at * STEP).unwrap();
    }
    let blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    drop(ingest);
    let meta = blocks[0].path.join("meta.json");
    let whole = std::fs::read(&meta).unwrap();
    std::fs::write(&meta, "").unwrap();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let left_out: Vec<(&str, &Path)> =
        ingest.unreadable_blocks().iter().map(|block| (&*block.tenant, &*block.path)).collect();
    assert_eq!(left_out, [("team-a", &*blocks[0].path)]);
    assert_eq!(ingest.local_blocks("team-a").len(), 2);
    append(&ingest, 10, 1000 * STEP).unwrap();
    expect(&read(&ingest), 10, &[480 * STEP, 960 * STEP, 1000 * STEP]);
    drop(ingest);
    std::fs::write(&meta, whole).unwrap();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert!(ingest.unreadable_blocks().is_empty());
    expect(&read(&ingest), 10, &[STEP, 480 * STEP, 960 * STEP, 1000 * STEP]);
}

#[test]
fn a_tenant_that_is_no_folder_is_refused_and_limits_hold_over_partitions() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for name in ["", "a/b", "../a", &"x".repeat(256)] {
        let refused = block_on(ingest.append(&Arc::from(name), batch(1, 1), WriteLimits::default()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
    append(&ingest, 5, STEP).unwrap();
    let limits = WriteLimits { series_max: 5 };
    let report = block_on(ingest.append(&tenant(), batch(20, 2 * STEP), limits)).unwrap();
    assert_eq!((report.samples, report.rejected.len()), (5, 15));
    assert_eq!(block_on(ingest.cardinality("team-a", 2)).unwrap().series_by_metric_name[0].value, 5);
}

#[test]
fn a_tenant_keeps_its_latest_exemplars_wherever_their_series_are() {
    let (folder, pool) = (Folder::new(), pool(3));
    let times = |ingest: &Ingest| {
        let selectors = [vec![Matcher::equal("__name__", "metric")]];
        let found = block_on(ingest.exemplars(&selectors, TimeRange::ALL)).unwrap();
        let mut times: Vec<i64> = found.iter().flat_map(|series| series.exemplars.iter().map(|one| one.time)).collect();
        times.sort_unstable();
        times
    };
    let write = |ingest: &Ingest, at: i64, series: i64| {
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "metric"), ("series", format!("{series:03}").as_str())]);
        batch.push_sample(STEP * at, 1.0);
        batch.push_exemplar(STEP * at, 1.0, [("trace_id", "x")]);
        assert_eq!(block_on(ingest.append(&tenant(), batch, WriteLimits::default())).unwrap().exemplars, 1);
    };
    let latest = |last: i64| ((last - 9).max(0)..=last).map(|at| STEP * at).collect::<Vec<_>>();
    let ingest = Ingest::open(&pool, folder.options()).unwrap();
    for at in 0..40 {
        // Of one series for a while, then of many.
        write(&ingest, at, if at < 15 { 0 } else { at % 7 });
        assert_eq!(times(&ingest), latest(at));
    }
    drop(ingest);
    let ingest = Ingest::open(&pool, folder.options()).unwrap();
    assert_eq!(times(&ingest), latest(39));
    write(&ingest, 40, 3);
    assert_eq!(times(&ingest), latest(40));
    let stats = ingest.stats("team-a").unwrap();
    assert!((10..30).contains(&stats.exemplars_kept) && (7..10).contains(&stats.exemplar_series), "{stats:?}");
    assert!(stats.exemplar_min_time <= STEP * 31 && stats.exemplars_out_of_order == 0, "{stats:?}");
}

#[test]
fn what_a_tenant_has_sent_is_cut_when_it_sends_no_more_and_the_time_is_over() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), IngestOptions { block_range_ms: 200, ..folder.options() }).unwrap();
    let cut = || block_on(ingest.flush(None, Flush::Due)).unwrap().len();
    append(&ingest, 10, now_ms() - 1000).unwrap();
    assert_eq!(cut(), 0, "it has just sent that");
    assert!(!ingest.is_idle("team-a"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(ingest.is_idle("team-a"));
    assert_eq!((cut(), ingest.stats("team-a").unwrap().series), (1, 0));
    append(&ingest, 10, now_ms() + 3_600_000).unwrap();
    assert_eq!(cut(), 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(cut(), 0, "the time of these samples is not over");
}

#[test]
fn reads_see_whole_samples_while_writes_go_on() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 20, STEP).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for at in 2..1_300 {
                append(&ingest, 20, at * STEP).unwrap();
                if at % 400 == 0 {
                    block_on(ingest.flush(None, Flush::Due)).unwrap();
                }
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            for times in read(&ingest).values() {
                let expected: Vec<i64> = (1..=times.len() as i64).map(|at| at * STEP).collect();
                assert_eq!(*times, expected);
                seen = seen.max(times.len());
            }
        }
        assert!(seen > 0);
    });
}

#[test]
fn a_folder_on_a_full_disk_is_opened_as_often_as_one_likes() {
    let folder = Folder::new();
    let pool = pool(2);
    drop(append(&Ingest::open(&pool, folder.options()).unwrap(), 8, STEP).unwrap());
    let open_io = |_| -> OpenIo {
        Box::new(|| Ok(Box::new(Faulty::new(io::open(io::Mode::Pread)?, Fault::Full, 1, 1)) as Box<dyn BlockIo>))
    };
    let files = || [0, 1].map(|partition| list(&folder.0.join(format!(".uru/wal/{partition:03}"))).unwrap());
    let before = files();
    for _ in 0..3 {
        let ingest = Ingest::open_with(&pool, folder.options(), open_io).unwrap();
        expect(&read(&ingest), 8, &[STEP]);
        assert!(append(&ingest, 8, 2 * STEP).is_err());
        let counters = ingest.counters();
        assert_eq!((counters.full_partitions, counters.broken_partitions, counters.wal.commits), (2, 0, 0));
        drop(ingest);
        assert_eq!(files(), before);
    }
}

/// Opens the folder with a disk that fails, appends until it does, then opens it with a sound disk: what
/// was acknowledged is there, once.
fn survives(fault: Fault, seed: u64) {
    let folder = Folder::new();
    let pool = pool(2);
    let open_io = |partition: usize| -> OpenIo {
        Box::new(move || {
            let disk: Box<dyn BlockIo> = io::open(io::Mode::Pread)?;
            // The first write begins the segment; a start that fails is no test of what comes after.
            Ok(Box::new(Faulty::new(disk, fault, 12, seed * 2 + partition as u64)))
        })
    };
    let Ok(ingest) = Ingest::open_with(&pool, folder.options(), open_io) else { return };
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for at in 1..60 {
        match append(&ingest, 8, at * STEP) {
            Ok(report) => {
                assert_eq!(report.samples, 8);
                acknowledged.push(at * STEP);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                refused += 1;
            }
        }
    }
    let broken = ingest.counters().broken_partitions;
    if fault == Fault::Full {
        assert_eq!(broken, 0, "a full disk ends no log");
    } else {
        assert_eq!(broken > 0, refused > 0, "a log that failed refuses");
    }
    drop(ingest);
    let ingest = Ingest::open(&pool, folder.options()).unwrap();
    for (name, times) in read(&ingest) {
        assert!(times.is_sorted_by(|left, right| left < right), "series {name} has a sample twice");
        let missing: Vec<_> = acknowledged.iter().filter(|time| times.binary_search(time).is_err()).collect();
        assert!(missing.is_empty(), "series {name} lost {missing:?}, seed {seed}, {fault:?}");
    }
    append(&ingest, 8, 1_000 * STEP).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_failure_of_the_disk_loses_what_was_acknowledged(seed in any::<u32>()) {
        for fault in [Fault::Error, Fault::Torn, Fault::Unsynced, Fault::Full] {
            survives(fault, u64::from(seed));
        }
    }

    #[test]
    fn a_log_cut_anywhere_in_its_last_segment_gives_what_came_before_the_cut(cut in 0.0..1.0f64) {
        let folder = Folder::new();
        let times: Vec<i64> = (1..20).map(|at| at * STEP).collect();
        let ingest = Ingest::open(&pool(1), folder.options()).unwrap();
        for time in &times {
            append(&ingest, 5, *time).unwrap();
        }
        drop(ingest);
        let wal = folder.0.join(".uru/wal/000");
        let path = segment_path(&wal, *list(&wal).unwrap().segments.last().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..(bytes.len() as f64 * cut) as usize]).unwrap();
        let ingest = Ingest::open(&pool(1), folder.options()).unwrap();
        let all = read(&ingest);
        let first = all.values().next().cloned().unwrap_or_default();
        prop_assert!(times.starts_with(&first));
        prop_assert!(all.values().all(|times| *times == first));
    }
}

/// Copies `from` to `to`, as a crash at this moment would leave it.
fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Writes to the logs in `folder` that `cut` is intended.
fn intend(folder: &Folder, cut: &crate::wal::Cut) {
    for partition in 0..2 {
        let wal = folder.0.join(format!(".uru/wal/{partition:03}"));
        let last = segment_path(&wal, *list(&wal).unwrap().segments.last().unwrap());
        let mut bytes = std::fs::read(&last).unwrap();
        if let End::Open { at, .. } = frame::scan(&bytes, Tail::MayBeTorn, |_, _| Ok(())).unwrap() {
            bytes.truncate(at as usize);
        }
        let mut recorder = crate::wal::Recorder::default();
        recorder.cut(0, cut);
        bytes.extend_from_slice(frame::Encoder::default().frame(&[recorder.bytes()]));
        std::fs::write(&last, bytes).unwrap();
    }
}

/// Options under which samples may come hours late.
fn hours_late(folder: &Folder) -> IngestOptions {
    IngestOptions { out_of_order_window_ms: 20_000_000, ..folder.options() }
}

/// Cuts ten series with a sample at each of the steps `ats` in `folder`, of which `early` is a copy from before; gives
/// the blocks of late samples.
fn cut_late(folder: &Folder, early: &Folder, ats: &[i64]) -> Vec<CutBlock> {
    let ingest = Ingest::open(&pool(2), hours_late(folder)).unwrap();
    ats.iter().for_each(|at| drop(append(&ingest, 10, at * STEP).unwrap()));
    copy_tree(&folder.0, &early.0);
    let mut blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    blocks.retain(|block| !block.meta.compaction.hints.is_empty());
    blocks
}

/// That the late samples before it are to become `blocks`, or without any that they are to become some.
fn late_intent(blocks: &[CutBlock]) -> crate::wal::Cut {
    let (phase, kind) = (crate::wal::CutPhase::Intended, crate::wal::CutKind::OutOfOrder);
    let blocks = blocks.iter().map(|block| block.meta.ulid).collect();
    crate::wal::Cut { phase, kind, until: 2 * RANGE, blocks }
}

#[test]
fn blocks_stay_though_the_last_one_of_their_cut_was_shipped_and_is_gone() {
    let (folder, early) = (Folder::new(), Folder::new());
    let late = cut_late(&folder, &early, &[1000, 100, 600]);
    assert_eq!(late.len(), 2);
    let mut cut = late_intent(&late);
    intend(&early, &late_intent(&[]));
    intend(&early, &cut);
    cut.phase = crate::wal::CutPhase::Done;
    intend(&early, &cut);
    let first = early.0.join("team-a").join(late[0].meta.ulid.to_string());
    copy_tree(&late[0].path, &first);
    let ingest = Ingest::open(&pool(2), hours_late(&early)).unwrap();
    expect(&read(&ingest), 10, &[100 * STEP, 1000 * STEP]);
}

#[test]
fn a_crash_between_log_and_block_loses_and_doubles_nothing() {
    // The folder of the second is not called like the tenant.
    crash_between_log_and_block("team-a");
    crash_between_log_and_block("..");
}

fn crash_between_log_and_block(tenant: &str) {
    let name: Arc<str> = Arc::from(tenant);
    let (folder, early, late) = (Folder::new(), Folder::new(), Folder::new());
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for at in 1..800 {
        block_on(ingest.append(&name, batch(10, at * STEP), WriteLimits::default())).unwrap();
    }
    let before = read_of(&ingest, tenant);
    copy_tree(&folder.0, &early.0);
    let block = block_on(ingest.flush(None, Flush::Due)).unwrap().remove(0);
    drop(ingest);
    copy_tree(&folder.0, &late.0);
    // The crash comes after the cut was intended: with the block, and without it.
    let cut = crate::wal::Cut {
        phase: crate::wal::CutPhase::Intended,
        kind: crate::wal::CutKind::InOrder,
        until: RANGE,
        blocks: vec![block.meta.ulid],
    };
    for is_there in [false, true] {
        let crashed = Folder::new();
        copy_tree(&early.0, &crashed.0);
        intend(&crashed, &cut);
        let place = tenant_folder(&crashed.0, tenant).join(block.meta.ulid.to_string());
        if is_there {
            copy_tree(&block.path, &place);
        }
        let ingest = Ingest::open(&pool(2), crashed.options()).unwrap();
        assert_eq!(read_of(&ingest, tenant), before, "{tenant}: {is_there}");
        let chunks = || Ingest::open(&pool(2), crashed.options()).unwrap().stats(tenant).unwrap().chunks;
        let expected = if is_there { 30 } else { 70 };
        assert_eq!(ingest.stats(tenant).unwrap().chunks, expected, "{tenant}: {is_there}");
        drop(ingest);
        if is_there {
            // It was shipped and is needed no more.
            std::fs::remove_dir_all(&place).unwrap();
        }
        assert_eq!(chunks(), expected, "{tenant}: {is_there}");
    }
    assert_eq!(read_of(&Ingest::open(&pool(2), late.options()).unwrap(), tenant), before);
}

#[test]
fn a_tenant_that_writes_while_it_is_removed_is_refused_or_kept() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let (names, is_over): (Vec<Arc<str>>, _) =
        ((0..300).map(|at| Arc::from(format!("t-{at}"))).collect(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for name in ingest.tenants() {
                    // One with series is left alone.
                    drop(block_on(ingest.remove_tenant(&name)));
                }
            }
        });
        for name in &names {
            match block_on(ingest.append(name, batch(5, STEP), WriteLimits::default())) {
                Ok(report) => {
                    assert_eq!(report.samples, 5);
                    assert_eq!(ingest.stats(name).map(|stats| stats.series), Some(5), "{name}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_partitions_report_is_one_answer_and_a_report_that_is_lost_is_an_error() {
    let gather = |outcomes: Vec<Option<Result<WriteReport, Error>>>| {
        let (sender, receiver) = flume::bounded(1);
        let gathered = Arc::new(Gathered { held: None, report: Mutex::new(Ok(WriteReport::default())), sender });
        let parts: Vec<super::Part> = outcomes.iter().map(|_| super::Part::of(&gathered)).collect();
        drop(gathered);
        for (part, outcome) in parts.into_iter().zip(outcomes) {
            assert!(receiver.is_empty(), "one has not reported yet");
            match outcome {
                Some(outcome) => part.reply(outcome),
                None => drop(part),
            }
        }
        receiver.try_recv().unwrap()
    };
    let taken = |samples| Some(Ok(WriteReport { samples, ..WriteReport::default() }));
    assert_eq!(gather(vec![taken(1), taken(2)]).unwrap().samples, 3);
    assert_eq!(gather(vec![taken(1), None, taken(2)]).unwrap_err().kind(), ErrorKind::Bug);
    let full = || Some(Err(Error::new(ErrorKind::Unavailable, "full")));
    assert_eq!(gather(vec![full(), taken(2), None]).unwrap_err().kind(), ErrorKind::Unavailable);
}
