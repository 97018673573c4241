//! Merged and downsampled blocks against those that Thanos made of the same sources: file for file the
//! same bytes, with any number of threads; every result is read back by ourselves and by promtool.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::bucket::Meta;
use engine::bucket::meta::source;
use engine::compact::{
    DownsampleOptions, MergeOptions, Merged, Replicas, SourceBlock, Target, Unwatched, Watch, Workers, downsample,
    merge, verify_written,
};
use engine::model::{BlockId, ErrorKind, Resolution};
use engine::shard::{Options, Pool};
use tests::impatient::impatient;
use tests::scratch::Scratch;
use tests::shared;

fn folder(path: &str) -> Option<PathBuf> {
    shared(&format!("golden/{path}"))
}

fn meta(folder: &Path) -> Meta {
    Meta::parse(&fs::read(folder.join("meta.json")).unwrap()).unwrap()
}

/// A target with id and labels of the block in the folder `golden`.
fn target(golden: &Path, parent: &Path) -> Target {
    let meta = meta(golden);
    let labels = meta.thanos.unwrap().labels;
    Target {
        parent: parent.to_owned(),
        id: meta.ulid,
        labels,
        extensions: serde_json::Value::Null,
        source: source::COMPACTOR,
    }
}

/// Everything but when it was uploaded.
fn comparable(mut meta: Meta) -> Meta {
    meta.thanos.as_mut().unwrap().upload_time = Default::default();
    meta
}

/// Compares the block in the folder `ours` with that in `golden`, whose id it has.
fn assert_same(ours: &Path, golden: &Path) {
    let name = golden.display();
    assert_eq!(comparable(meta(ours)), comparable(meta(golden)), "{name}");
    for file in ["index", "chunks/000001"] {
        let (left, right) = (fs::read(ours.join(file)).unwrap(), fs::read(golden.join(file)).unwrap());
        let differs = left.iter().zip(&right).position(|(left, right)| left != right);
        assert!(left == right, "{name}/{file}: {} and {} bytes, first differing {differs:?}", left.len(), right.len());
    }
    verify_written(ours, &Workers::threads(1)).unwrap();
    analyze(ours);
}

/// Lets promtool read a block; it has to be there where everything is required.
fn analyze(block: &Path) {
    let database = Scratch::new("promtool");
    let id = block.file_name().unwrap();
    let copied = Command::new("cp").arg("-r").arg(block).arg(database.0.join(id)).status().unwrap();
    assert!(copied.success());
    fs::create_dir_all(database.0.join("wal")).unwrap();
    let Ok(output) = Command::new("promtool").args(["tsdb", "analyze"]).arg(&database.0).arg(id).output() else {
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none_or(|value| value != "1"), "promtool is absent");
        return eprintln!("SKIPPED: promtool is absent");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("\nSeries: "),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn merged(sources: &[PathBuf], target: &Target, options: MergeOptions) -> Meta {
    let sources = sources.iter().map(|source| SourceBlock::open(source).unwrap()).collect();
    match merge(sources, target, &options, &Unwatched).unwrap() {
        Merged::Block(written) => written.meta,
        Merged::Empty => panic!("nothing is left"),
    }
}

/// The cores of a process that answers queries.
fn lane(cores: usize) -> Workers {
    Workers::lane(Pool::start(&Options { shards: NonZeroUsize::new(cores), ..Options::default() }).unwrap())
}

/// Merges with no, one and three threads, in the background lane of two cores, and on a core that gives
/// jobs back all the time, and compares each result with Thanos'.
fn check_merge(sources: &[PathBuf], golden: &Path, replicas: Replicas) {
    let [alone, one, three] = [0, 1, 3].map(Workers::threads);
    let [unit, some] = [1, 50].map(|units| impatient(units).0);
    let ways = [(alone, 2048), (one, 64), (three, 300), (lane(2), 2048), (unit, 2048), (some, 2048)];
    for (workers, slice_chunks) in ways {
        let scratch = Scratch::new("merge");
        let target = target(golden, &scratch.0);
        merged(sources, &target, MergeOptions { replicas, workers, slice_chunks, ..MergeOptions::default() });
        assert_same(&scratch.0.join(target.id.to_string()), golden);
    }
}

#[test]
fn blocks_behind_each_other_become_the_block_that_thanos_makes() {
    let Some(golden) = folder("thanos/churn/01M7YFZPKSH5KWE5TWSMDG4HPF") else { return };
    let parents = meta(&golden).compaction.parents;
    let sources: Vec<_> =
        parents.iter().filter_map(|parent| folder(&format!("blocks/churn/{}", parent.ulid))).collect();
    assert_eq!(sources.len(), 3);
    check_merge(&sources, &golden, Replicas::OneToOne);
}

#[test]
fn replicas_become_the_block_that_thanos_makes_by_penalty() {
    let Some(golden) = folder("thanos/ha/01M7YFY95SBXYDM8C6EFEWV8B4") else { return };
    let sources = ["ha-a/01M7YFY7XCGXWYDATWXHE88G5B", "ha-b/01M7YFY7ZHTQM6TPXQH4BKJM1W"];
    let sources = sources.map(|source| folder(&format!("blocks/{source}")).unwrap());
    check_merge(&sources, &golden, Replicas::Penalty);
}

#[test]
fn equal_replicas_become_the_block_that_thanos_makes_one_to_one() {
    let Some(golden) = folder("thanos/ha1/01M7YFZPRHRZY7HGZGBSV9FTX3") else { return };
    let first = folder("blocks/ha-a/01M7YFY7XCGXWYDATWXHE88G5B").unwrap();
    let scratch = Scratch::new("copy");
    let second = scratch.0.join("01M7YFZPFPDMQPYP1W1Z21WP3Q");
    assert!(Command::new("cp").arg("-r").arg(&first).arg(&second).status().unwrap().success());
    let text = fs::read_to_string(second.join("meta.json")).unwrap();
    let text = text.replace("01M7YFY7XCGXWYDATWXHE88G5B", "01M7YFZPFPDMQPYP1W1Z21WP3Q");
    fs::write(second.join("meta.json"), text).unwrap();
    check_merge(&[first, second], &golden, Replicas::OneToOne);
}

#[test]
fn downsampled_blocks_are_those_that_thanos_makes() {
    let (Some(raw), Some(five_minutes), Some(one_hour)) = (
        folder("blocks/long/01M7YFY8BV00C3ZCVTKKNPDDM8"),
        folder("thanos/long/01M7YFY8G6VN538AX46T8NB0BW"),
        folder("thanos/long/01M7YFY8WFBRF0ZPSVGENYZ2CX"),
    ) else {
        return;
    };
    let passes = [
        (&raw, &five_minutes, Resolution::FIVE_MINUTES, Workers::threads(0)),
        (&raw, &five_minutes, Resolution::FIVE_MINUTES, Workers::threads(3)),
        (&raw, &five_minutes, Resolution::FIVE_MINUTES, lane(2)),
        (&raw, &five_minutes, Resolution::FIVE_MINUTES, impatient(1).0),
        (&raw, &five_minutes, Resolution::FIVE_MINUTES, impatient(300).0),
        (&five_minutes, &one_hour, Resolution::ONE_HOUR, Workers::threads(0)),
        (&five_minutes, &one_hour, Resolution::ONE_HOUR, Workers::threads(2)),
        (&five_minutes, &one_hour, Resolution::ONE_HOUR, lane(3)),
        (&five_minutes, &one_hour, Resolution::ONE_HOUR, impatient(1).0),
    ];
    for (from, golden, resolution, workers) in passes {
        let scratch = Scratch::new("downsample");
        let target = target(golden, &scratch.0);
        let options = DownsampleOptions { workers, ..DownsampleOptions::default() };
        downsample(SourceBlock::open(from).unwrap(), resolution, &target, &options, &Unwatched).unwrap();
        assert_same(&scratch.0.join(target.id.to_string()), golden);
    }
}

#[test]
fn a_resolution_that_is_not_coarser_is_refused() {
    let Some(five_minutes) = folder("thanos/long/01M7YFY8G6VN538AX46T8NB0BW") else { return };
    let scratch = Scratch::new("refused");
    let (target, options) = (target(&five_minutes, &scratch.0), DownsampleOptions::default());
    let source = SourceBlock::open(&five_minutes).unwrap();
    let error = downsample(source, Resolution::FIVE_MINUTES, &target, &options, &Unwatched).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

/// Says stop after some questions.
struct StopAfter(AtomicU64);

impl Watch for StopAfter {
    fn is_canceled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 0
    }
}

#[test]
fn a_merge_that_is_stopped_anywhere_leaves_nothing_and_can_be_done_again() {
    let Some(golden) = folder("thanos/churn/01M7YFZPKSH5KWE5TWSMDG4HPF") else { return };
    let parents = meta(&golden).compaction.parents;
    let open = || {
        let paths = parents.iter().map(|parent| folder(&format!("blocks/churn/{}", parent.ulid)).unwrap());
        paths.map(|path| SourceBlock::open(&path).unwrap()).collect::<Vec<_>>()
    };
    let scratch = Scratch::new("stopped");
    let target = target(&golden, &scratch.0);
    for stop in 0..40 {
        let options =
            MergeOptions { workers: Workers::threads(stop % 3), slice_chunks: 100, ..MergeOptions::default() };
        let done = merge(open(), &target, &options, &StopAfter(AtomicU64::new(stop as u64)));
        match done {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Canceled);
                assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0, "stopped after {stop}");
            }
            Ok(_) => {
                assert!(stop > 15);
                assert_same(&scratch.0.join(target.id.to_string()), &golden);
                return;
            }
        }
    }
    panic!("the merge was never left alone");
}

#[test]
fn damage_in_a_source_names_block_file_and_byte() {
    let Some(block) = folder("blocks/churn/01M7YFZP7XEVXZPFAJ3G00DZX3") else { return };
    let scratch = Scratch::new("damaged");
    let copy = scratch.0.join("01M7YFZP7XEVXZPFAJ3G00DZX3");
    assert!(Command::new("cp").arg("-r").arg(&block).arg(&copy).status().unwrap().success());
    let sound = fs::read(block.join("chunks/000001")).unwrap();
    let target = Target {
        parent: scratch.0.clone(),
        id: BlockId::from_parts(1, 1),
        labels: Default::default(),
        extensions: serde_json::Value::Null,
        source: source::COMPACTOR,
    };
    for at in [9, 5000, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        fs::write(copy.join("chunks/000001"), bytes).unwrap();
        let merged = merge(vec![SourceBlock::open(&copy).unwrap()], &target, &MergeOptions::default(), &Unwatched);
        let error = merged.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let message = error.message();
        assert!(message.starts_with("block 01M7YFZP7XEVXZPFAJ3G00DZX3: chunks/000001: "), "{message}");
        assert!(message.contains("at byte "), "{message}");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }
    fs::write(copy.join("chunks/000001"), &sound[..sound.len() / 2]).unwrap();
    let merged = merge(vec![SourceBlock::open(&copy).unwrap()], &target, &MergeOptions::default(), &Unwatched);
    assert!(merged.unwrap_err().message().starts_with("block 01M7YFZP7XEVXZPFAJ3G00DZX3: chunks/000001: "));
}
