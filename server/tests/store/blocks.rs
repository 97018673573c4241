//! Which blocks are open and with which files, while these change in the bucket and on the local disk.

use std::path::Path;
use std::time::Duration;

use engine::index::column::{Check, Reader};
use engine::index::{BlockIndex, ChunkColumns, SeriesLabels};
use engine::model::{Error, ErrorKind, Matcher, TimeRange};
use prometheus_client::registry::Registry;
use server::gateway::blocks::Syncer;
use server::gateway::load::Loader;
use server::gateway::{Blocks, StoreMetrics};
use server::objstore::cache::Ranges;
use server::objstore::{Bucket, BucketConfig};
use server::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};

use crate::support::s3::{FakeS3, Fault};
use crate::support::{Uru, everything, run, series, wait, write_block};

const START: i64 = 1_700_000_000_000;

/// Series of a block whose index is too large to be built while its block is opened.
const MANY: usize = 9_999;

/// The blocks of a bucket that is a folder, without a process around them.
struct Store {
    syncer: Syncer,
    blocks: Blocks,
    metrics: StoreMetrics,
}

impl Store {
    fn new(bucket: &Path, data_dir: &Path) -> Self {
        let registry = &mut Registry::default();
        let bucket = Bucket::open(&BucketConfig::filesystem(bucket), registry).unwrap();
        let metrics = StoreMetrics::register(registry, 0);
        let fetch = FetchOptions { data_dir: None, concurrency: 1 };
        let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(registry));
        let ranges = Ranges::direct(bucket.clone());
        let loader = Loader::new((bucket, ranges), data_dir.to_owned(), metrics.clone());
        let syncer = Syncer { fetcher, filters: Filters::all(), loader, metrics: metrics.clone() };
        Self { syncer, blocks: Blocks::default(), metrics }
    }

    /// Syncs; says how many blocks are open afterwards.
    async fn sync(&self) -> usize {
        self.syncer.sync(&self.blocks).await.unwrap();
        self.blocks.current().synced.len()
    }

    /// Asks the index of the only block for all that it has.
    fn ask(&self) -> Result<(), Error> {
        let current = self.blocks.current();
        let index = current.set.blocks().next().unwrap().index();
        let (ordinals, mut labels) = (index.all()?.into_list(), SeriesLabels::default());
        for ordinal in &ordinals {
            index.labels(*ordinal, &mut labels)?;
        }
        for (name, value) in [("__name__", "up"), ("instance", "i-0007")] {
            index.select(&[Matcher::equal(name, value)], &|| Ok(()))?;
        }
        index.chunks(&ordinals[..1], TimeRange::ALL, &mut ChunkColumns::default())
    }
}

/// Goes on with `building` until `is_done`.
async fn until(building: impl Future<Output = ()>, is_done: impl Fn() -> bool) {
    let waiting = async {
        while !is_done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let either = async {
        tokio::select! {
            () = building => {}
            () = waiting => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), either).await.expect("what is waited for comes");
}

/// The column index with a bit flipped where nobody looks who opens it.
fn damaged(sound: &[u8]) -> Vec<u8> {
    let flipped = (1..64).find_map(|part| {
        let mut bytes = sound.to_vec();
        let at = bytes.len() * part / 64;
        bytes[at] ^= 1;
        let index = Reader::from_bytes(bytes.clone(), Check::OnFirstUse).ok()?;
        index.chunks(&[0], TimeRange::ALL, &mut ChunkColumns::default()).ok()?;
        Reader::from_bytes(bytes.clone(), Check::Everything).is_err().then_some(bytes)
    });
    flipped.expect("most of an index is not looked at when it is opened")
}

#[test]
fn a_large_column_index_is_checked_where_it_is_used_and_built_anew_in_the_background_when_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, data) = (folder.path().join("bucket"), folder.path().join("data"));
    let block = write_block(&bucket, 1, (MANY, START));
    let path = data.join(block.file_name().unwrap()).join("column-index");
    run(async {
        let store = Store::new(&bucket, &data);
        assert_eq!(store.sync().await, 1);
        until(store.syncer.keep_building(&store.blocks), || store.metrics.indexes_pending.get() == 0).await;
        drop(store);
        let sound = std::fs::read(&path).unwrap();
        std::fs::write(&path, damaged(&sound)).unwrap();

        let store = Store::new(&bucket, &data);
        assert_eq!((store.sync().await, store.metrics.index_rebuilds.get()), (1, 0));
        assert_eq!(store.ask().unwrap_err().kind(), ErrorKind::Corrupt);
        until(store.syncer.keep_building(&store.blocks), || store.ask().is_ok()).await;
        assert_eq!((store.metrics.index_rebuilds.get(), store.metrics.index_builds.get()), (1, 1));

        // One that can't be built is told until it can.
        drop(store);
        std::fs::write(&path, damaged(&sound)).unwrap();
        let store = Store::new(&bucket, &data);
        assert_eq!(store.sync().await, 1);
        let index = std::fs::read(block.join("index")).unwrap();
        std::fs::write(block.join("index"), vec![0; index.len()]).unwrap();
        let is_left_out = || store.blocks.current().synced.is_empty();
        until(store.syncer.keep_building(&store.blocks), is_left_out).await;
        assert!(store.ask().is_err());
        std::fs::write(block.join("index"), index).unwrap();
        assert_eq!(store.sync().await, 1);
        store.ask().unwrap();
    });
}

#[test]
fn a_meta_that_was_replaced_is_answered_with_from_the_next_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, data) = (folder.path().join("bucket"), folder.path().join("data"));
    let path = write_block(&bucket, 1, (3, START)).join("meta.json");
    run(async {
        let store = Store::new(&bucket, &data);
        let cluster = || {
            let current = store.blocks.current();
            let labels = current.set.blocks().next().unwrap().info().external_labels.clone();
            labels.get("cluster").map(str::to_owned)
        };
        assert_eq!((store.sync().await, cluster()), (1, Some("c1".to_owned())));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"c1\""), "{text}");
        std::fs::write(&path, text.replace("\"c1\"", "\"c2\"")).unwrap();
        // The kernel's clock of files may not have ticked since.
        let later = std::time::SystemTime::now() + Duration::from_secs(1);
        std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!((store.sync().await, cluster()), (1, Some("c2".to_owned())));
        store.ask().unwrap();
    });
}

#[test]
fn blocks_that_are_dropped_before_their_column_index_is_built_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, data) = (folder.path().join("bucket"), folder.path().join("data"));
    let blocks = [write_block(&bucket, 1, (MANY, START)), write_block(&bucket, 2, (MANY, START + 3_600_000))];
    run(async {
        let store = Store::new(&bucket, &data);
        assert_eq!(store.sync().await, 2);
        assert_eq!(store.metrics.indexes_pending.get(), 2);
        let mut building = Box::pin(store.syncer.keep_building(&store.blocks));
        // One is being built, and the other one waits for that.
        assert!(futures_util::poll!(&mut building).is_pending());
        blocks.iter().for_each(|block| std::fs::remove_dir_all(block).unwrap());
        assert_eq!(store.sync().await, 0);
        let is_empty = || std::fs::read_dir(&data).unwrap().next().is_none();
        until(building, || store.metrics.indexes_pending.get() == 0 && is_empty()).await;
    });
}

#[test]
fn files_that_come_or_grow_after_their_block_was_opened_are_read() {
    for is_local in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path().join("bucket");
        let block = write_block(&bucket, 1, (2_000, START));
        // As it is while it is copied.
        let segment = block.join("chunks/000001");
        let whole = std::fs::read(&segment).unwrap();
        std::fs::write(&segment, &whole[..whole.len() / 4]).unwrap();
        let fake = FakeS3::start(&bucket);
        let local = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
        let config = format!("--objstore.config={}", if is_local { local } else { fake.config() });
        let data_dir = format!("--data-dir={}", folder.path().join("data").display());
        let uru = Uru::start("store", &[&config, &data_dir, "--sync-block-duration=50ms"]);
        let ask = || run(async { series(&uru.connect().await, everything()).await.unwrap() });
        let has_all = |count: usize| {
            let (found, warnings) = ask();
            found.len() == count && warnings.is_empty() && found.iter().all(|series| !series.chunks.is_empty())
        };
        assert!(!has_all(2_000));
        std::fs::write(&segment, &whole).unwrap();
        wait(|| has_all(2_000));
        if !is_local {
            // The fake tells no times, by which another meta.json is known.
            continue;
        }
        // Another index of the same block, and after a while the segment that belongs to it.
        let other = write_block(&folder.path().join("written"), 1, (2_500, START));
        for name in ["meta.json", "index"] {
            std::fs::rename(other.join(name), block.join(name)).unwrap();
        }
        wait(|| uru.metric("thanos_bucket_store_column_index_builds_total") >= Some(2.0));
        std::fs::rename(other.join("chunks/000001"), &segment).unwrap();
        wait(|| has_all(2_500));
    }
}

/// The file that was open was once read until the next start.
#[test]
fn a_sound_segment_in_the_place_of_a_damaged_one_as_long_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let segment = write_block(&bucket, 1, (5, START)).join("chunks/000001");
    let sound = std::fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    std::fs::write(&segment, damaged).unwrap();
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data_dir = format!("--data-dir={}", folder.path().join("data").display());
    let uru = Uru::start("store", &[&config, &data_dir, "--sync-block-duration=50ms"]);
    let warnings = || run(async { series(&uru.connect().await, everything()).await.unwrap() }).1;
    assert!(!warnings().is_empty());
    let other = folder.path().join("sound");
    std::fs::write(&other, sound).unwrap();
    // The kernel's clock of files may not have ticked since.
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    std::fs::File::open(&other).unwrap().set_modified(later).unwrap();
    std::fs::rename(&other, &segment).unwrap();
    wait(|| warnings().is_empty());
}

/// Only the log once told of it.
#[test]
fn a_new_block_whose_meta_cannot_be_fetched_is_missed_by_name_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (5, START));
    let new = write_block(&folder.path().join("written"), 2, (7, START + 3_600_000));
    let id: &'static str = new.file_name().unwrap().to_str().unwrap().to_owned().leak();
    let fake = FakeS3::start(&bucket);
    let config = format!("--objstore.config={}", fake.config());
    let data_dir = format!("--data-dir={}", folder.path().join("data").display());
    let uru = Uru::start("store", &[&config, &data_dir, "--sync-block-duration=50ms"]);
    let answers = |count: usize, is_missed: bool| {
        let (found, warnings) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
        let named = warnings.len() == 1 && warnings[0].contains(id) && warnings[0].contains("meta.json");
        found.len() == count && if is_missed { named } else { warnings.is_empty() }
    };
    assert!(answers(5, false));
    fake.set_for(id, Fault::Unavailable);
    std::fs::rename(&new, bucket.join(id)).unwrap();
    wait(|| answers(5, true));
    fake.set_for("", Fault::Nothing);
    wait(|| answers(7, false));
}

/// Its index-header once went on answering with series of the other block.
#[test]
fn a_large_index_of_another_block_leaves_its_block_out_before_its_column_index_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let block = write_block(&bucket, 1, (MANY, START));
    let other = write_block(&folder.path().join("other"), 2, (MANY, START + 7_200_000));
    std::fs::copy(other.join("index"), block.join("index")).unwrap();
    let store = Store::new(&bucket, &folder.path().join("data"));
    run(async {
        for _ in 0..3 {
            assert_eq!(store.sync().await, 0);
            let error = store.ask().unwrap_err();
            assert!(error.message().contains("it is of another block"), "{error}");
        }
        // Its own index comes back, of as many bytes.
        let own = write_block(&folder.path().join("own"), 1, (MANY, START)).join("index");
        std::fs::rename(own, block.join("index")).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(1);
        std::fs::File::open(block.join("index")).unwrap().set_modified(later).unwrap();
        assert_eq!(store.sync().await, 1);
        store.ask().unwrap();
    });
    assert_eq!(store.metrics.indexes_pending.get(), 1);
}
