//! Tenants by the thousand, and mailboxes with hardly a place.

use super::*;
use crate::select::{LabelRequest, Limits};

const TENANTS: usize = 5_000;

fn pool_with(shards: usize, mailbox_max: usize) -> Arc<Pool> {
    let shards = NonZeroUsize::new(shards);
    Pool::start(&pool::Options { shards, io: io::Mode::Pread, mailbox_max }).unwrap()
}

fn relaxed(folder: &Folder) -> IngestOptions {
    IngestOptions { durability: Durability::Relaxed, ..folder.options() }
}

/// Four series and an exemplar of each of [`TENANTS`].
fn crowded() -> Folder {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), relaxed(&folder)).unwrap();
    for number in 0..TENANTS {
        let mut batch = batch(4, STEP);
        batch.push_exemplar(STEP, 1.0, [("trace_id", "x")]);
        let tenant: Arc<str> = Arc::from(format!("t-{number:04}"));
        assert_eq!(block_on(ingest.append(&tenant, batch, WriteLimits::default())).unwrap().samples, 4);
    }
    folder
}

/// Each head once had a place of its own: where there were not as many the query failed, and writes beside it.
#[test]
fn reads_of_thousands_of_tenants_take_a_place_for_each_partition_and_leave_shards_to_others_in_between() {
    let (folder, pool) = (crowded(), pool_with(2, 8));
    let ingest = Ingest::open(&pool, relaxed(&folder)).unwrap();
    let matchers = vec![Matcher::equal("__name__", "metric")];
    let request = view_of(&matchers);
    let before = pool.counters().hops;
    let view = block_on(ingest.view(&request)).unwrap();
    assert_eq!(view.blocks().map(|block| block.info().series).sum::<u64>(), 4 * TENANTS as u64);
    let hops = pool.counters().hops - before;
    assert!((3..TENANTS as u64).contains(&hops), "{hops}");
    let values = LabelRequest {
        name: Some("tenant_id".to_owned()),
        range: TimeRange::ALL,
        matchers: Vec::new(),
        without_labels: Vec::new(),
        limit: 0,
        block_matchers: Vec::new(),
    };
    let selector = Selector { pool: Arc::clone(&pool), budget: Budget::new("test", u64::MAX) };
    let labels = block_on(ingest.labels(&selector, values, Limits::default())).unwrap();
    assert_eq!(labels.strings.iter().count(), TENANTS);
    let exemplars = block_on(ingest.exemplars(&[matchers], TimeRange::ALL)).unwrap();
    assert_eq!(exemplars.len(), TENANTS);
    std::thread::scope(|scope| {
        let read = || block_on(ingest.view(&request)).map(|view| view.len());
        let readers: Vec<_> = (0..6).map(|_| scope.spawn(read)).collect();
        (1..20).for_each(|at| assert_eq!(append(&ingest, 10, at * STEP).unwrap().samples, 10));
        readers.into_iter().for_each(|reader| assert!(reader.join().unwrap().unwrap() >= TENANTS));
    });
    assert_eq!(pool.counters().mailbox_full, 0);
    request.patience.canceled.store(true, Ordering::Relaxed);
    assert_eq!(block_on(ingest.view(&request)).err().unwrap().kind(), ErrorKind::Canceled);
}

/// It was refused in the middle, which left late samples frozen in some heads and not in others.
#[test]
fn a_flush_waits_for_places_in_a_mailbox_that_is_full() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(4), hours_late(&folder)).unwrap();
    [1000, 600].iter().for_each(|at| assert_eq!(append(&ingest, 40, at * STEP).unwrap().samples, 40));
    drop(ingest);
    // Four partitions are of one shard, with a place for two jobs.
    let small = pool_with(1, 2);
    let ingest = Ingest::open(&small, hours_late(&folder)).unwrap();
    let ((begun, has_begun), (gate, is_open)) = (flume::bounded(1), flume::bounded::<()>(1));
    let waits = move |_: &mut ShardContext| {
        begun.send(()).unwrap_or_default();
        is_open.recv().unwrap_or_default();
    };
    small.send_waiting(0, waits).unwrap();
    has_begun.recv().unwrap();
    while small.send(0, |_| {}).is_ok() {}
    let blocks = std::thread::scope(|scope| {
        let flush = scope.spawn(|| block_on(ingest.flush(None, Flush::All)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!flush.is_finished());
        drop(gate);
        flush.join().unwrap().unwrap()
    });
    let samples: u64 = blocks.iter().map(|block| block.meta.stats.num_samples).sum();
    assert_eq!((blocks.len(), samples, ingest.stats("team-a").unwrap().series), (2, 80, 0));
    drop(ingest);
    let ingest = Ingest::open(&pool(4), hours_late(&folder)).unwrap();
    expect(&read(&ingest), 40, &[600 * STEP, 1000 * STEP]);
}
