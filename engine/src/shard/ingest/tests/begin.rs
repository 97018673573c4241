//! Where heads begin: behind what is in blocks.

use super::*;

#[test]
fn a_head_that_begins_behind_a_cut_takes_nothing_in_order_from_before_it() {
    let folder = Folder::new();
    let options = IngestOptions { out_of_order_window_ms: 0, ..folder.options() };
    let ingest = Ingest::open(&pool(2), options.clone()).unwrap();
    // All samples are in one head.
    append(&ingest, 1, 1000 * STEP).unwrap();
    let block = block_on(ingest.flush(None, Flush::All)).unwrap().remove(0);
    let refused = |ingest: &Ingest| {
        let report = append(ingest, 10, 990 * STEP).unwrap();
        (report.samples, report.rejected.iter().all(|rejected| rejected.reason == Reason::OutOfBounds))
    };
    assert_eq!(refused(&ingest), (0, true));
    drop(ingest);
    let ingest = Ingest::open(&pool(2), options.clone()).unwrap();
    assert_eq!(refused(&ingest), (0, true), "as its log says");
    drop(ingest);
    std::fs::remove_dir_all(folder.0.join(".uru/wal")).unwrap();
    let ingest = Ingest::open(&pool(2), options).unwrap();
    assert_eq!(refused(&ingest), (0, true), "as its block says");
    assert_eq!(append(&ingest, 10, block.meta.max_time).unwrap().samples, 10);
}

#[test]
fn what_a_process_left_unfinished_is_removed_by_the_next() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 10, STEP).unwrap();
    let block = block_on(ingest.flush(None, Flush::All)).unwrap().remove(0);
    drop(ingest);
    let (own, other) = (folder.0.join(".uru"), BlockId::from_parts(1, 1));
    let left = [own.join("wal/000/00000007.snapshot.tmp"), own.join("index").join(other.to_string())];
    left.iter().for_each(|path| std::fs::write(path, "half").unwrap());
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert_eq!(left.map(|path| path.exists()), [false; 2]);
    assert!(own.join("index").join(block.meta.ulid.to_string()).exists());
    expect(&read(&ingest), 10, &[STEP]);
}

/// They were left out of the block as they come before it, and left the heads.
#[test]
fn samples_from_before_the_first_that_come_when_a_cut_has_begun_are_in_its_block() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 1, 1000 * STEP).unwrap();
    // The cut is to begin with that one.
    append(&ingest, 10, 990 * STEP).unwrap();
    let before = read(&ingest);
    assert_eq!(before.len(), 10);
    let (known, mut blocks) = (ingest.known("team-a").unwrap(), Vec::new());
    ingest.cut_in_order(&known, (1000 * STEP, 3 * RANGE), &mut blocks).unwrap();
    assert_eq!((blocks[0].meta.min_time, blocks[0].meta.stats.num_samples), (990 * STEP, 10));
    assert_eq!(read(&ingest), before);
}
