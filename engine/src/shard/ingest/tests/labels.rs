//! Labels that tenants get while they have blocks.

use super::*;

/// Gives the tenant `team-a` a zone, and takes it from all others.
fn set_zone(ingest: &Ingest, zone: &str) -> Result<(), Error> {
    let zone = Labels::from_pairs([("zone", zone)]);
    ingest.set_added_labels(HashMap::from([("team-a".to_owned(), zone)]))
}

/// The zones of the local blocks of `team-a`, the oldest first.
fn zones(ingest: &Ingest) -> Vec<String> {
    let mut blocks = ingest.local_blocks("team-a");
    blocks.sort_by_key(|block| block.meta.min_time);
    let zone = |block: &LocalBlock| block.opened().info().external_labels.get("zone").unwrap_or("none").to_owned();
    blocks.iter().map(zone).collect()
}

/// It once had the old labels until a restart: it was opened under them before they changed, and among the readable
/// blocks after these were gone through.
#[test]
fn a_block_whose_tenant_changes_its_labels_while_it_is_opened_has_the_new_ones() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 10, STEP).unwrap();
    let tenant = ingest.known("team-a").unwrap();
    let changed = ingest.options.labels_of("new");
    let reading = tenant.blocks.0.read().unwrap();
    std::thread::scope(|scope| {
        let flushed = scope.spawn(|| block_on(ingest.flush(None, Flush::All)).unwrap().len());
        // Its column index is written when it is opened.
        let is_begun = || std::fs::read_dir(folder.0.join(".uru/index")).unwrap().next().is_some();
        while !is_begun() && !flushed.is_finished() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(200));
        *tenant.labels.write().unwrap() = Arc::new(changed.clone());
        drop(reading);
        assert_eq!(flushed.join().unwrap(), 1);
    });
    let blocks = ingest.local_blocks("team-a");
    assert_eq!(blocks.iter().map(|block| &block.opened().info().external_labels).collect::<Vec<_>>(), [&changed]);
}

/// One that could not be opened once kept all behind it, and later tenants, under the old labels, also after it could.
#[test]
fn a_block_that_cannot_be_opened_keeps_no_other_from_new_labels_and_gets_them_later() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for time in [STEP, RANGE + STEP, 2 * RANGE + STEP] {
        append(&ingest, 10, time).unwrap();
    }
    let cut = block_on(ingest.flush(None, Flush::All)).unwrap();
    set_zone(&ingest, "one").unwrap();
    assert_eq!(zones(&ingest), ["one", "one", "one"]);
    let (meta, away) = (cut[0].path.join("meta.json"), folder.0.join("away"));
    std::fs::rename(&meta, &away).unwrap();
    let error = set_zone(&ingest, "two").unwrap_err();
    assert!(error.message().contains(&cut[0].meta.ulid.to_string()), "{error}");
    assert_eq!(zones(&ingest), ["one", "two", "two"]);
    std::fs::rename(&away, &meta).unwrap();
    set_zone(&ingest, "two").unwrap();
    assert_eq!(zones(&ingest), ["two", "two", "two"]);
}
