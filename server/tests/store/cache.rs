//! The cache of bucket bytes: what was read once is not read again, also after a restart; what is
//! damaged is read again; what is read and what is only used are counted apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Budget, Error};
use futures_util::future::try_join_all;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use prost::{Message, Name};
use proto::hintspb::{QueryStats, SeriesRequestHints, SeriesResponseHints};
use proto::thanos::series_response::Result as Frame;
use proto::thanos::{Series, SeriesRequest};
use server::objstore::Bucket;
use server::objstore::cache::{CacheConfig, PageCache, Ranges, Wanted};

use crate::support::faulty::{Faulty, Meets};
use crate::support::s3::{FakeS3, Fault};
use crate::support::{Uru, everything, frames, refused, run, series, write_block};

const START: i64 = 1_700_000_000_000;

/// What is done to the bytes of a file.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

struct Fixture {
    folder: tempfile::TempDir,
    fake: FakeS3,
}

impl Fixture {
    /// Two blocks in a bucket of S3.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path().join("bucket");
        write_block(&bucket, 1, (900, START));
        write_block(&bucket, 2, (700, START + 3_600_000));
        Self { fake: FakeS3::start(&bucket), folder }
    }

    fn start(&self, flags: &[&str]) -> Uru {
        let config = format!("--objstore.config={}", self.fake.config());
        let data_dir = format!("--data-dir={}", self.folder.path().join("data").display());
        Uru::start("store", &[&[config.as_str(), data_dir.as_str()], flags].concat())
    }

    /// The files of the disk part.
    fn cache_files(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("data/cache");
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    }
}

/// Everything, without a warning.
fn ask(uru: &Uru) -> Vec<Series> {
    let (found, warnings) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
    assert!(warnings.is_empty() && found.len() == 900, "{} series, {warnings:?}", found.len());
    found
}

/// What a request for everything says that it has touched and fetched.
fn stats(uru: &Uru) -> QueryStats {
    let hints = SeriesRequestHints { block_matchers: Vec::new(), enable_query_stats: true };
    let any = prost_types::Any { type_url: SeriesRequestHints::type_url(), value: hints.encode_to_vec() };
    let request = SeriesRequest { hints: Some(any), ..everything() };
    let found = run(async { frames(&uru.connect().await, request).await.unwrap() });
    let Some(Frame::Hints(any)) = &found.last().unwrap().result else { panic!("hints come last") };
    SeriesResponseHints::decode(&*any.value).unwrap().query_stats.unwrap()
}

#[test]
fn what_was_read_once_is_not_read_again_also_after_a_restart() {
    for index in ["column", "header"] {
        let fixture = Fixture::new();
        let flag = format!("--store.index={index}");
        let uru = fixture.start(&[&flag]);
        let first = ask(&uru);
        let read = fixture.fake.range_bytes();
        assert!(read > 0);
        assert!(ask(&uru) == first);
        assert_eq!(fixture.fake.range_bytes(), read, "{index}: read again");
        assert!(uru.terminate().success());
        let again = fixture.start(&[&flag]);
        let before = fixture.fake.range_bytes();
        assert!(ask(&again) == first);
        assert_eq!(fixture.fake.range_bytes(), before, "{index}: read again after the restart");
        assert!(again.metric("uru_cache_disk_hits_total").unwrap() > 0.0);
    }
}

#[test]
fn without_a_disk_part_memory_alone_keeps_what_was_read() {
    let fixture = Fixture::new();
    let uru = fixture.start(&["--chunk-pool-size=0"]);
    let first = ask(&uru);
    let read = fixture.fake.range_bytes();
    assert!(ask(&uru) == first);
    assert_eq!(fixture.fake.range_bytes(), read);
    assert!(!fixture.folder.path().join("data/cache").exists());
}

#[test]
fn what_comes_damaged_is_fetched_once_more_and_not_kept() {
    let fixture = Fixture::new();
    let uru = fixture.start(&[]);
    fixture.fake.set(Fault::FlippedOnce);
    let first = ask(&uru);
    let read = fixture.fake.range_bytes();
    assert!(ask(&uru) == first);
    assert_eq!(fixture.fake.range_bytes(), read);
}

#[test]
fn what_comes_damaged_again_is_a_warning_and_well_once_it_comes_whole() {
    let fixture = Fixture::new();
    let uru = fixture.start(&[]);
    fixture.fake.set(Fault::Flipped);
    let (found, warnings) = run(async { series(&uru.connect().await, everything()).await.unwrap() });
    assert!(!warnings.is_empty() && warnings.iter().all(|warning| warning.contains("checksum")), "{warnings:?}");
    fixture.fake.set(Fault::Nothing);
    // A series may have lost what it has in one of the two blocks alone.
    let chunks = |all: &[Series]| all.iter().map(|series| series.chunks.len()).sum::<usize>();
    assert!(chunks(&found) < chunks(&ask(&uru)));
}

/// An object of ten pages in a store whose calls meet what `plan` says, read through a cache.
fn ten_pages(plan: impl Fn(u64) -> Meets + Send + Sync + 'static) -> (Ranges, Arc<AtomicU64>, ObjectName) {
    let name = ObjectName { block: BlockId::from_parts(1, 1), object: BlockObject::Segment(0) };
    let inner = Arc::new(InMemory::new());
    let bytes: Vec<u8> = (0..10 * PAGE).map(|at| (at / 7) as u8).collect();
    run(inner.put(&name.to_string().into(), bytes.into())).unwrap();
    let faulty = Faulty::planned(&inner, plan);
    let calls = faulty.calls();
    let registry = &mut Registry::default();
    let bucket = Bucket::over(Arc::new(faulty), "memory", registry);
    let config = CacheConfig { memory_bytes: 1 << 20, page_bytes: PAGE, item_bytes_max: PAGE, ..CacheConfig::NONE };
    let budget = Budget::new("--store.memory-limit", 64 << 20);
    let cache = PageCache::open(&config, Path::new("none"), &budget, registry).unwrap();
    (Ranges::direct(bucket).through(cache, 0), calls, name)
}

const PAGE: u64 = 1000;

/// Reads a range and holds it against what the object has there.
async fn read(ranges: &Ranges, name: ObjectName, range: std::ops::Range<u64>) -> Result<u64, Error> {
    let found = ranges.read(name, 10 * PAGE, (range.clone(), Wanted::Last)).await?;
    assert!(found.bytes.iter().copied().eq(range.map(|at| (at / 7) as u8)));
    Ok(found.downloaded_bytes)
}

#[test]
fn pages_that_several_need_at_once_are_fetched_once() {
    let (ranges, calls, name) = ten_pages(|_| Meets::Delay(20));
    run(async {
        let first = [0..6 * PAGE, 5..6 * PAGE - 5, PAGE..PAGE + 1, 0..PAGE];
        let downloaded = try_join_all(first.map(|range| read(&ranges, name, range))).await.unwrap();
        assert_eq!(downloaded, [6 * PAGE, 0, 0, 0]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let rest = [3 * PAGE..8 * PAGE, 7 * PAGE..10 * PAGE, 0..10 * PAGE];
        let downloaded = try_join_all(rest.map(|range| read(&ranges, name, range))).await.unwrap();
        assert_eq!(downloaded, [2 * PAGE, 2 * PAGE, 0]);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        assert_eq!(read(&ranges, name, 0..10 * PAGE).await, Ok(0));
    });
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn who_waits_for_a_fetch_that_fails_asks_for_itself() {
    let (ranges, calls, name) = ten_pages(|call| if call == 0 { Meets::Refused } else { Meets::Delay(5) });
    let (first, second) = run(async { tokio::join!(read(&ranges, name, 0..PAGE), read(&ranges, name, 0..2 * PAGE)) });
    assert!(first.unwrap_err().message().contains("injected fault"));
    assert_eq!(second, Ok(2 * PAGE));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn a_fetch_goes_on_when_the_first_who_needs_it_goes_away_and_ends_with_the_last() {
    let (ranges, calls, name) = ten_pages(|call| if call == 1 { Meets::Hangs } else { Meets::Delay(20) });
    run(async {
        let mut first = Box::pin(read(&ranges, name, 0..PAGE));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(read(&ranges, name, 0..PAGE));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, Ok(0));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        // Of one that never ends nothing is left when all have gone.
        let mut third = Box::pin(read(&ranges, name, PAGE..2 * PAGE));
        let mut fourth = Box::pin(read(&ranges, name, PAGE..2 * PAGE));
        while calls.load(Ordering::Relaxed) < 2 {
            assert!(futures_util::poll!(&mut third).is_pending() && futures_util::poll!(&mut fourth).is_pending());
            tokio::task::yield_now().await;
        }
        drop((third, fourth));
        assert_eq!(read(&ranges, name, PAGE..2 * PAGE).await, Ok(PAGE));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn what_is_wanted_anew_is_not_what_has_landed_for_one_who_still_waits_for_more() {
    let (ranges, _, name) = ten_pages(|call| if call == 2 { Meets::Hangs } else { Meets::Nothing });
    run(async {
        read(&ranges, name, PAGE..2 * PAGE).await.unwrap();
        // The pages around it are two requests, of which the second never ends.
        let mut waiting = Box::pin(read(&ranges, name, 0..3 * PAGE));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(read(&ranges, name, 0..PAGE).await, Ok(0));
        let anew = ranges.read(name, 10 * PAGE, (0..PAGE, Wanted::After(0))).await.unwrap();
        assert_eq!(anew.downloaded_bytes, PAGE);
    });
}

#[test]
fn a_page_that_several_find_damaged_is_fetched_again_once() {
    let (ranges, calls, name) = ten_pages(|_| Meets::Delay(5));
    let damaged = |moment| {
        let (ranges, page) = (ranges.clone(), 0..PAGE);
        async move { ranges.read(name, 10 * PAGE, (page, Wanted::After(moment))).await.unwrap().downloads }
    };
    run(async {
        let moment = || async { ranges.read(name, 10 * PAGE, (0..PAGE, Wanted::Last)).await.unwrap().moment };
        let before = moment().await;
        // Those who find it while it is fetched again wait for that, and those who find it later have it.
        let (first, second, third) = tokio::join!(damaged(before), damaged(before), damaged(before));
        assert_eq!((first + second + third, damaged(before).await), (1, 0));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        // Who has read it after that has seen what was fetched then.
        assert_eq!((damaged(moment().await).await, damaged(before).await), (1, 0));
        assert_eq!(read(&ranges, name, 0..PAGE).await, Ok(0));
    });
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn damaged_cache_files_are_as_if_they_were_not_there() {
    let fixture = Fixture::new();
    let small = ["--chunk-pool-size=64MB", "--store.memory-limit=64MB"];
    let uru = fixture.start(&small);
    let first = ask(&uru);
    assert!(uru.terminate().success());
    let whole: Vec<(PathBuf, Vec<u8>)> = fixture
        .cache_files()
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
        .collect();
    assert!(!whole.is_empty(), "nothing is on disk");
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let flip = |bytes: &mut Vec<u8>, every: usize| {
        let end = used(bytes);
        (every / 2..end).step_by(every).for_each(|at| bytes[at] ^= 0x10);
    };
    let damages: [Damage<'_>; 5] = [
        &|bytes| flip(bytes, 4099),
        &|bytes| flip(bytes, 61),
        &|bytes| bytes.truncate(used(bytes) / 2),
        &|bytes| bytes.fill(0xff),
        &|bytes| bytes.clear(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        for (path, bytes) in &whole {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
        let uru = fixture.start(&small);
        assert!(ask(&uru) == first, "damage {number}");
        // As a crash would end it: nothing that is whole is written.
        uru.kill();
    }
    std::fs::remove_dir_all(fixture.folder.path().join("data/cache")).unwrap();
    std::fs::write(fixture.folder.path().join("data/cache"), b"no folder").unwrap();
    let uru = fixture.start(&[]);
    assert!(ask(&uru) == first);
    assert!(uru.log().contains("disk part"), "{}", uru.log());
}

#[test]
fn what_is_used_is_told_apart_from_what_is_read_from_the_bucket() {
    let fixture = Fixture::new();
    let uru = fixture.start(&[]);
    let (first, second) = (stats(&uru), stats(&uru));
    assert_eq!((first.chunks_touched, second.chunks_touched), (1600, 1600));
    // A page that one part of the request has brought may be there for the next.
    assert!((1..=1600).contains(&first.chunks_fetched) && first.chunks_fetch_count > 0, "{first:?}");
    assert_eq!(second.chunks_fetched, 0);
    assert_eq!((second.chunks_fetched_size_sum, second.chunks_fetch_count), (0, 0));
    assert_eq!(second.data_downloaded_size_sum, 0);
    assert_eq!(first.data_downloaded_size_sum as u64, fixture.fake.range_bytes());
    // The column index is local.
    assert_eq!((first.postings_touched, first.postings_fetched), (1600, 0));
    assert_eq!((first.series_touched, first.series_fetched), (1600, 0));
    let fetched =
        |bytes: &str| uru.metric(&format!("thanos_bucket_store_series_data_{bytes}_sum{{data_type=\"chunks\""));
    assert_eq!((fetched("touched"), fetched("fetched")), (Some(3200.0), Some(first.chunks_fetched as f64)));

    let headers = fixture.start(&["--store.index=header", "--chunk-pool-size=0", "--index-cache-size=0"]);
    let read = fixture.fake.range_bytes();
    let stats = stats(&headers);
    assert!(stats.postings_fetched > 0 && stats.series_touched_size_sum > 0);
    assert_eq!(stats.data_downloaded_size_sum as u64, fixture.fake.range_bytes() - read);
}

#[test]
fn the_cache_is_counted_under_thanos_names() {
    let fixture = Fixture::new();
    let index = "--index-cache.config={type: IN-MEMORY, config: {max_size: 20MB, max_item_size: 1MB}}";
    let bucket = "--store.caching-bucket.config={type: IN-MEMORY, config: {max_size: 10MB, max_item_size: 1MB}, \
                  chunk_subrange_size: 16000, max_chunks_get_range_requests: 3}";
    let uru = fixture.start(&[index, bucket, "--store.index=header"]);
    ask(&uru);
    ask(&uru);
    let metric = |name: &str| uru.metric(name).unwrap_or_else(|| panic!("there is no {name}"));
    let chunks = "{config=\"chunks\",operation=\"get_range\"}";
    let requests = metric(&format!("thanos_store_bucket_cache_operation_requests_total{chunks}"));
    let hits = metric(&format!("thanos_store_bucket_cache_operation_hits_total{chunks}"));
    assert!(hits > 0.4 * requests && hits < requests, "{hits} of {requests}");
    for origin in ["bucket", "cache"] {
        let name = "thanos_store_bucket_cache_getrange_fetched_bytes_total";
        assert!(metric(&format!("{name}{{config=\"chunks\",origin=\"{origin}\"}}")) > 0.0);
    }
    let requested = metric("thanos_store_index_cache_requests_total");
    let found = metric("thanos_store_index_cache_hits_total");
    assert!(requested > 0.0 && found <= requested, "{found} of {requested}");
    let (items, bytes) =
        (metric("thanos_store_index_cache_items{"), metric("thanos_store_index_cache_items_size_bytes{"));
    assert!(items >= 1.0 && items <= metric("thanos_store_index_cache_items_added_total"), "{items}");
    assert!(bytes > items && metric("thanos_store_index_cache_total_size_bytes{") > bytes, "{bytes}");
    assert_eq!(metric("thanos_store_index_cache_max_item_size_bytes"), f64::from(1 << 20));
    assert_eq!(metric("thanos_cache_inmemory_max_size_bytes"), f64::from(30 << 20));
    assert!(metric("thanos_cache_inmemory_items{") > 0.0);
    assert!(metric("thanos_cache_inmemory_items_added_total") > 0.0);
}

#[test]
fn a_cache_elsewhere_is_named_in_the_log_and_a_cache_of_no_kind_is_refused() {
    let fixture = Fixture::new();
    let uru = fixture.start(&["--index-cache.config={type: MEMCACHED, config: {addresses: ['localhost:11211']}}"]);
    assert!(uru.log().contains("MEMCACHED"), "{}", uru.log());
    ask(&uru);
    let (config, data) = (format!("--objstore.config={}", fixture.fake.config()), Path::new("none"));
    let data_dir = format!("--data-dir={}", data.display());
    let text = refused(&["store", &config, &data_dir, "--index-cache.config={type: FLOPPY}"]);
    assert!(text.contains("FLOPPY"), "{text}");
}
