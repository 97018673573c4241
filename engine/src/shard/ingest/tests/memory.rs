//! A process that has as much memory as it may: what new series and samples come to then.

use super::*;
use crate::model::budget::process::Process;

/// Bytes beyond which there are no new series, and beyond which there are no samples.
const MARKS: (u64, u64) = (1 << 20, 2 << 20);

/// The process has so many bytes, which is noticed when this returns.
fn set(process: &Process, bytes: u64) {
    process.bytes.store(bytes, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(150));
}

fn open(folder: &Folder, shards: usize) -> (Arc<Ingest>, Arc<Process>) {
    let process = Arc::new(Process::default());
    let memory = Ceiling::new("--tsdb.memory-limit", MARKS, Box::new(Arc::clone(&process)));
    let options = IngestOptions { memory: Some(memory), ..folder.options() };
    (Ingest::open(&pool(shards), options).unwrap(), process)
}

/// They once grew until the process was killed, again and again in the replay of what it had acknowledged.
#[test]
fn a_process_that_has_its_memory_takes_samples_of_known_series_alone_and_at_last_none() {
    let folder = Folder::new();
    let (ingest, process) = open(&folder, 2);
    assert_eq!(append(&ingest, 10, STEP).unwrap().no_memory, None);
    set(&process, MARKS.0 + 1);
    let report = append(&ingest, 15, 2 * STEP).unwrap();
    assert_eq!((report.samples, report.series_created, report.rejected.len()), (10, 0, 5));
    assert!(report.rejected.iter().all(|rejected| rejected.reason == Reason::NoMemory), "{report:?}");
    let why = report.no_memory.unwrap();
    let words = "--tsdb.memory-limit: the process has 1048577 bytes, the limit is 1048576";
    assert!(why.kind() == ErrorKind::Unavailable && why.message().starts_with(words), "{why}");
    assert_eq!(append(&ingest, 10, 3 * STEP).unwrap().no_memory, None, "nothing of it is new");
    set(&process, MARKS.1 + 1);
    let refused = append(&ingest, 10, 4 * STEP).unwrap_err();
    assert!(refused.kind() == ErrorKind::Unavailable && refused.message().contains("no samples"), "{refused}");
    assert_eq!((ingest.counters().memory_limited, ingest.counters().memory_limit), (2, MARKS.0));
    set(&process, 0);
    let again = append(&ingest, 15, 2 * STEP + 1).unwrap();
    assert_eq!((again.series_created, again.no_memory), (5, None));
    let kept = read(&ingest);
    assert_eq!((&kept["000"], &kept["014"]), (&vec![STEP, 2 * STEP, 2 * STEP + 1, 3 * STEP], &vec![2 * STEP + 1]));
    drop(ingest);
    assert_eq!(read(&open(&folder, 2).0), kept);
}

#[test]
fn a_batch_that_takes_all_the_memory_itself_makes_a_part_of_its_series() {
    let folder = Folder::new();
    let (ingest, process) = open(&folder, 1);
    process.growth.store(MARKS.0 / 4, Ordering::Relaxed);
    let report = append(&ingest, 999, STEP).unwrap();
    assert!(report.series_created >= 64 && report.series_created < 500, "{}", report.series_created);
    assert_eq!(report.rejected.len() as u64, 999 - report.series_created);
    assert!(report.no_memory.is_some());
    assert_eq!(read(&ingest).len() as u64, report.series_created);
}

/// Nothing was cut for hours, as nothing more was taken.
#[test]
fn heads_that_have_their_memory_are_cut_before_their_time() {
    let folder = Folder::new();
    let (ingest, process) = open(&folder, 2);
    let range = ingest.options.block_range_ms;
    let times = [1, range / 4, range / 2, range];
    times.iter().for_each(|time| drop(append(&ingest, 10, *time).unwrap()));
    let due = || block_on(ingest.flush(None, Flush::Due)).unwrap();
    assert_eq!(due().len(), 0);
    set(&process, MARKS.0 + 1);
    let blocks = due();
    assert_eq!(blocks.iter().map(|block| block.meta.max_time).collect::<Vec<_>>(), [range / 2]);
    assert_eq!(due().len(), 0, "what is left is less than a block is worth");
    let kept = read(&ingest);
    assert_eq!((kept.len(), &kept["000"]), (10, &times.to_vec()));
}
