//! Where heads begin: behind what is in blocks.

use super::*;
use crate::wal::record::FloatRows;
use crate::wal::{Order, Recorder};

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

/// It was removed with all that was in it, without a word.
#[test]
fn a_block_that_lost_its_meta_json_is_told_and_kept_and_what_was_never_whole_or_being_deleted_is_removed() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 10, STEP).unwrap();
    let block = block_on(ingest.flush(None, Flush::All)).unwrap().remove(0);
    drop(ingest);
    let (meta, id) = (block.path.join("meta.json"), block.meta.ulid);
    let whole = std::fs::read(&meta).unwrap();
    std::fs::remove_file(&meta).unwrap();
    let beside = |name: String| folder.0.join("team-a").join(name);
    let left = [beside(format!("{id}.tmp-for-creation")), beside(format!("{id}.tmp-for-deletion"))];
    let others = beside("notes.tmp".to_owned());
    for path in left.iter().chain([&others]) {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("index"), "half").unwrap();
    }
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let told = &ingest.unreadable_blocks()[0];
    assert_eq!((ingest.unreadable_blocks().len(), &told.path), (1, &block.path));
    for part in [meta.to_str().unwrap(), "is missing beside chunks/000001 (", ", index ("] {
        assert!(told.error.message().contains(part), "{}", told.error);
    }
    let mut removed: Vec<_> = ingest.removed_folders().iter().map(|one| (&one.path, one.content.as_str())).collect();
    removed.sort_unstable();
    assert_eq!(removed, left.each_ref().map(|path| (path, "index (4 bytes)")));
    assert_eq!((left.each_ref().map(|path| path.exists()), others.exists()), ([false; 2], true));
    drop(ingest);
    std::fs::write(&meta, whole).unwrap();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert!(ingest.unreadable_blocks().is_empty() && ingest.removed_folders().is_empty());
    expect(&read(&ingest), 10, &[STEP]);
    ingest.delete_block("team-a", id).unwrap();
    assert_eq!(std::fs::read_dir(folder.0.join("team-a")).unwrap().count(), 1, "nothing but the notes");
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

/// No start went on behind it.
#[test]
fn a_relaxed_log_that_the_machine_left_damaged_is_read_up_to_that_and_the_rest_is_set_aside_and_counted() {
    let folder = Folder::new();
    let options = IngestOptions { durability: Durability::Relaxed, ..folder.options() };
    let ingest = Ingest::open(&pool(1), options.clone()).unwrap();
    for at in 1..4 {
        append(&ingest, 10, at * STEP).unwrap();
    }
    drop(ingest);
    let path = segment_path(&folder.0.join(".uru/wal/000"), 0);
    let (mut bytes, mut starts) = (std::fs::read(&path).unwrap(), Vec::new());
    let visit = |at: u64, _: &[u8]| {
        starts.push(at as usize);
        Ok(())
    };
    frame::scan(&bytes, Tail::MustBeWhole, visit).unwrap();
    bytes[starts[1]..starts[2]].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let ingest = Ingest::open(&pool(1), options.clone()).unwrap();
    expect(&read(&ingest), 10, &[STEP]);
    let counters = ingest.counters();
    assert_eq!((counters.damaged_logs, counters.torn_logs, ingest.set_aside().count()), (1, 0, 1));
    assert!(counters.set_aside_bytes > 0);
    append(&ingest, 10, 4 * STEP).unwrap();
    drop(ingest);
    // It is told at every start, as one may have ended before it told so.
    let ingest = Ingest::open(&pool(1), options.clone()).unwrap();
    expect(&read(&ingest), 10, &[STEP, 4 * STEP]);
    let again = ingest.counters();
    assert_eq!((again.damaged_logs, again.set_aside_bytes), (1, counters.set_aside_bytes));
    let files: Vec<PathBuf> = ingest.set_aside().flat_map(|aside| aside.files.clone()).collect();
    drop(ingest);
    files.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(Ingest::open(&pool(1), options).unwrap().counters().damaged_logs, 0);
}

/// They were counted where nobody looked.
#[test]
fn samples_in_a_log_of_series_that_it_never_names_are_left_out_and_counted() {
    let folder = Folder::new();
    drop(Ingest::open(&pool(1), folder.options()).unwrap());
    let (mut rows, mut recorder) = (FloatRows::default(), Recorder::default());
    (1..3).for_each(|at| rows.push(7, at * STEP, 1.0));
    recorder.tenant(0, "team-a");
    recorder.floats(0, Order::Kept, &rows);
    let mut bytes = frame::HEADER.to_vec();
    bytes.extend_from_slice(frame::Encoder::default().frame(&[recorder.bytes()]));
    std::fs::write(segment_path(&folder.0.join(".uru/wal/000"), 0), bytes).unwrap();
    let ingest = Ingest::open(&pool(1), folder.options()).unwrap();
    assert_eq!((ingest.counters().replayed_unknown, read(&ingest).len()), (2, 0));
    append(&ingest, 10, STEP).unwrap();
    expect(&read(&ingest), 10, &[STEP]);
}
