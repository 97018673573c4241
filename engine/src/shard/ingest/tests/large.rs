//! What is too large or gone: refused or told, while everything else goes on.

use super::*;

#[test]
fn a_batch_that_no_log_could_take_is_refused_as_a_whole_and_others_are_taken() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let mut large = WriteBatch::new();
    large.push_series([("__name__", "metric"), ("series", "large")]);
    (0..11_000_000).for_each(|time| large.push_sample(time, 1.0));
    let append = |batch| block_on(ingest.append(&tenant(), batch, WriteLimits::default()));
    let error = append(large).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("send fewer at once"), "{error}");
    assert_eq!(append(batch(10, STEP)).unwrap().series_created, 10);
    assert_eq!(ingest.stats(&tenant()).unwrap().series, 10);
}

/// Each head once had for itself what was left for all of them.
#[test]
fn the_heads_of_a_tenant_share_what_is_left_of_its_series() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(4), folder.options()).unwrap();
    let append = |time: i64| {
        let report = block_on(ingest.append(&tenant(), batch(100, time), WriteLimits { series_max: 10 })).unwrap();
        assert!(report.rejected.iter().all(|rejected| rejected.reason == Reason::SeriesLimit));
        (report.series_created, report.samples, report.rejected.len())
    };
    assert_eq!(append(STEP), (10, 10, 90));
    assert_eq!(append(2 * STEP), (0, 10, 90), "those that are there go on");
    assert_eq!(ingest.stats(&tenant()).unwrap().series, 10);
}

#[test]
fn a_log_that_is_damaged_is_named_with_a_way_out_which_leaves_the_others() {
    let folder = Folder::new();
    let wal = folder.0.join(OWN_FOLDER).join("wal");
    let open = || Ingest::open(&pool(2), folder.options());
    let ingest = open().unwrap();
    for round in 0..3 {
        block_on(ingest.append(&tenant(), batch(40, STEP * round), WriteLimits::default())).unwrap();
    }
    drop(ingest);
    let path = segment_path(&wal.join("000"), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = open().err().unwrap();
    let way_out = format!("move the folder {} away", wal.join("000").display());
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains(&way_out), "{error}");
    std::fs::rename(wal.join("000"), folder.0.join("damaged")).unwrap();
    let ingest = open().unwrap();
    assert_eq!(ingest.partitions(), 2);
    assert!((1..40).contains(&ingest.stats(&tenant()).unwrap().series));
    assert!(
        block_on(ingest.append(&tenant(), batch(40, STEP * 3), WriteLimits::default())).unwrap().rejected.is_empty()
    );
    assert_eq!(ingest.stats(&tenant()).unwrap().series, 40);
}

#[test]
fn what_a_snapshot_makes_needless_is_removed_and_a_removal_that_fails_is_counted() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(1), folder.options()).unwrap();
    append(&ingest, 5, STEP).unwrap();
    block_on(ingest.snapshot()).unwrap();
    assert_eq!((ingest.counters().removals, ingest.counters().removals_failed), (1, 0));
    // No file.
    std::fs::create_dir(segment_path(&folder.0.join(OWN_FOLDER).join("wal").join("000"), 0)).unwrap();
    assert!(block_on(ingest.snapshot()).is_err());
    assert_eq!((ingest.counters().removals, ingest.counters().removals_failed), (2, 1));
    assert_eq!((ingest.counters().snapshots, ingest.counters().snapshots_failed), (2, 0));
}

#[test]
fn a_view_holds_the_memory_that_it_takes_and_one_that_is_too_large_is_refused() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for at in 1..100 {
        append(&ingest, 1000, at * STEP).unwrap();
    }
    let view = |detail: Detail, memory: &Arc<Budget>| {
        let memory = Arc::clone(memory);
        block_on(ingest.view(&ViewRequest { detail, memory, ..view_of(&[Matcher::equal("__name__", "metric")]) }))
    };
    let memory = Budget::new("--store.memory-limit", 100 << 20);
    let seen = view(Detail::Chunks, &memory).unwrap();
    let whole = memory.usage().used;
    assert!(whole > 100_000, "{whole}");
    drop(seen);
    assert_eq!(memory.usage().used, 0);
    let seen = view(Detail::Labels, &memory).unwrap();
    assert!(memory.usage().used < whole, "{} {whole}", memory.usage().used);
    drop(seen);
    let little = Budget::new("--store.memory-limit", 100 << 10);
    assert_eq!(view(Detail::Chunks, &little).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(little.usage().used, 0);
}

#[test]
fn a_view_that_nobody_waits_for_tries_no_regexp_on_all_values() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 1000, STEP).unwrap();
    let request = view_of(&[Matcher::new(MatchKind::Re, "series", ".*9.*").unwrap()]);
    assert!(!block_on(ingest.view(&request)).unwrap().is_empty());
    request.patience.canceled.store(true, Ordering::Relaxed);
    assert_eq!(block_on(ingest.view(&request)).err().unwrap().kind(), ErrorKind::Canceled);
}
