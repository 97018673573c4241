//! A bucket that lists one thing and gives another, once or always, costs no block and halts nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::compact::plan::Vertical;
use engine::model::{BlockId, ErrorKind};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use prometheus_client::registry::Registry;
use server::compactor::syncer::Syncer;
use server::objstore::Bucket;
use server::sync::{FetchOptions, Fetcher, Filters, PartialBlock, SyncMetrics, View};
use server::upkeep::clean::{self, CleanMetrics};
use server::upkeep::delete::delete;

use crate::compact_faults::{filled, run, settings};
use crate::support;
use crate::support::faulty::{Asked, Faulty, Told, fill, objects, visible_samples};

fn name_of(block: &Path) -> String {
    block.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A store of one block, and its id.
async fn one_block(folder: &Path) -> (Arc<InMemory>, BlockId) {
    let block = support::write_block(folder, 1, (2, 0));
    let store = Arc::new(InMemory::new());
    fill(&store, folder).await;
    (store, name_of(&block).parse().unwrap())
}

fn bucket_over(store: Faulty) -> Bucket {
    Bucket::over(Arc::new(store), "memory", &mut Registry::default())
}

fn fetcher_of(bucket: &Bucket) -> Fetcher {
    let options = FetchOptions { data_dir: None, concurrency: 1 };
    Fetcher::new(bucket.clone(), &options, SyncMetrics::register(&mut Registry::default()))
}

/// It once was taken for an upload that was broken off, and deleted.
#[test]
fn a_block_whose_meta_does_not_come_as_it_is_listed_stays() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, id) = one_block(folder.path()).await;
        let before = objects(&store).await;
        for told in [Told::Nothing, Told::First(0), Told::First(20)] {
            let bucket = bucket_over(Faulty::lying(&store, move |asked, name| {
                if asked == Asked::Bytes && name.ends_with("/meta.json") { told } else { Told::Truth }
            }));
            let seen = fetcher_of(&bucket).fetch(&Filters::all()).await.unwrap();
            assert!(seen.partial.is_empty() && seen.incomplete.is_none(), "{told:?}");
            let error = &seen.unknown[&id];
            assert!(error.kind() == ErrorKind::Unavailable && error.message().contains("the bucket lists"), "{error}");
            // Of a view of a time at which it was not there yet.
            let mut view = View::default();
            view.partial.insert(id, PartialBlock { why: "there is no meta.json".into(), modified: 0 });
            let metrics = CleanMetrics::default();
            clean::partial_uploads(&bucket, &view, &metrics).await;
            let counts = (metrics.attempts.get(), metrics.cleaned.get(), metrics.failures.get());
            assert_eq!(counts, (1, 0, 1), "{told:?}");
            assert!(objects(&store).await == before, "{told:?}");
        }
    });
}

#[test]
fn a_block_that_is_deleted_after_it_was_listed_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, id) = one_block(folder.path()).await;
        let asked_before = AtomicU64::new(0);
        // It is listed, asked for, and looked for again.
        let bucket = bucket_over(Faulty::lying(&store, move |_, name| {
            let is_first = !name.ends_with("/meta.json") || asked_before.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { Told::Truth } else { Told::Nothing }
        }));
        let seen = fetcher_of(&bucket).fetch(&Filters::all()).await.unwrap();
        assert!(seen.partial.contains_key(&id) && seen.unknown.is_empty() && seen.incomplete.is_none());
    });
}

/// Its meta.json once was left, without a deletion mark, as a block that nobody can read.
#[test]
fn a_block_is_deleted_whole_though_its_meta_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, id) = one_block(folder.path()).await;
        let bucket = bucket_over(Faulty::lying(&store, |asked, name| {
            if asked == Asked::Listing && name.ends_with("/meta.json") { Told::Nothing } else { Told::Truth }
        }));
        delete(&bucket, id).await.unwrap();
        let left = objects(&store).await;
        assert!(left.is_empty(), "{:?}", left.keys());
    });
}

/// One damaged transfer once halted the group until the compactor was started anew.
#[test]
fn a_file_that_comes_damaged_is_fetched_again_and_halts_its_group_only_when_it_does_so_twice() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (_, samples) = filled(folder.path()).await;
        let block = name_of(&support::blocks_in(folder.path())[1]);
        for (times, halts) in [(1, false), (2, true)] {
            let round = tempfile::tempdir().unwrap();
            let store = Arc::new(InMemory::new());
            fill(&store, folder.path()).await;
            let (damaged, given) = (format!("{block}/chunks/000001"), AtomicU64::new(0));
            let faulty = Faulty::lying(&store, move |asked, name| {
                let is_asked = asked == Asked::Bytes && name == damaged;
                let is_damaged = is_asked && given.fetch_add(1, Ordering::Relaxed) < times;
                if is_damaged { Told::Damaged } else { Told::Truth }
            });
            let work = settings(&round.path().join("work"), Vertical::Disabled);
            let (outcome, text) = run(Arc::new(faulty), work).await;
            assert_eq!(outcome.is_err(), halts, "{outcome:?}");
            let halted = format!("\nthanos_compact_halted {}\n", u8::from(halts));
            assert!(text.contains(&halted), "{times}: {text}");
            assert!(visible_samples(&objects(&store).await, &round.path().join("after")) == samples, "{times}");
        }
    });
}

/// What was merged around it once overlapped it for good.
#[test]
fn a_block_that_one_listing_misses_is_looked_for_again_and_one_that_is_gone_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    support::run(async {
        let (store, _) = filled(folder.path()).await;
        let block = name_of(&support::blocks_in(folder.path())[1]);
        let (missed, listings) = (format!("{block}/meta.json"), AtomicU64::new(0));
        let bucket = bucket_over(Faulty::lying(&store, move |asked, name| {
            let is_missed = asked == Asked::Listing && name == missed && listings.fetch_add(1, Ordering::Relaxed) == 1;
            if is_missed { Told::Nothing } else { Told::Truth }
        }));
        let syncer = Syncer::new(fetcher_of(&bucket), Filters::all(), None, None);
        for _ in 0..2 {
            assert_eq!(syncer.sync().await.unwrap().blocks.len(), 6);
        }
        for file in ["meta.json", "index", "chunks/000001"] {
            store.delete(&ObjectPath::from(format!("{block}/{file}"))).await.unwrap();
        }
        assert_eq!(syncer.sync().await.unwrap().blocks.len(), 5);
    });
}
