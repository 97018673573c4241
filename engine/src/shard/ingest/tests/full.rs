//! A disk without room at the wrong moment: nothing is lost, doubled, or hidden for longer than that.

use std::sync::atomic::AtomicI64;

use super::*;

/// A disk of which `left` more durable writes have room.
struct Filling {
    inner: Box<dyn BlockIo>,
    left: Arc<AtomicI64>,
}

impl BlockIo for Filling {
    fn read(&mut self, reads: &[io::Read<'_>]) -> io::Batch<'_> {
        self.inner.read(reads)
    }

    fn write_and_sync(&mut self, writes: &[io::Write<'_>]) -> Result<(), io::Failure> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return self.inner.write_and_sync(writes);
        }
        Err(io::Failure { index: 0, offset: 0, source: std::io::Error::from_raw_os_error(libc::ENOSPC) })
    }

    fn write(&mut self, writes: &[io::Write<'_>]) -> Result<(), io::Failure> {
        self.inner.write(writes)
    }

    fn name(&self) -> &'static str {
        "filling"
    }

    fn counters(&self) -> io::IoCounters {
        self.inner.counters()
    }
}

/// Heads of one partition, and how many more writes of its log have room.
struct Disk {
    ingest: Arc<Ingest>,
    left: Arc<AtomicI64>,
}

impl Disk {
    fn open(options: &IngestOptions) -> Self {
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let open_io = |_| -> OpenIo {
            let left = Arc::clone(&left);
            Box::new(move || Ok(Box::new(Filling { inner: io::open(io::Mode::Pread)?, left }) as Box<dyn BlockIo>))
        };
        let ingest = Ingest::open_with(&pool(1), options.clone(), open_io).unwrap();
        Self { ingest, left }
    }

    fn has_room_for(&self, writes: i64) {
        self.left.store(writes, Ordering::SeqCst);
    }

    fn has_room(&self) {
        self.has_room_for(i64::MAX);
        while self.ingest.counters().full_partitions > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn samples_in_blocks(ingest: &Ingest) -> u64 {
    ingest.local_blocks("team-a").iter().map(|block| block.meta.stats.num_samples).sum()
}

/// Each try once wrote the samples as another block, and all of them were shipped.
#[test]
fn a_cut_that_cannot_be_recorded_as_done_is_finished_later_and_written_once() {
    // What has room: the intent of the cut in order; that cut, and the intent of the late one.
    for (room, restarts) in [(1, false), (1, true), (3, false), (3, true)] {
        let folder = Folder::new();
        let options = IngestOptions { out_of_order_window_ms: 2 * RANGE, ..folder.options() };
        let disk = Disk::open(&options);
        let mut ingest = Arc::clone(&disk.ingest);
        let times: Vec<i64> = (0..40).map(|at| at * STEP).collect();
        times.iter().chain(&[7 * STEP + 1]).for_each(|time| assert_eq!(append(&ingest, 3, *time).unwrap().samples, 3));
        let mut expected = times;
        expected.insert(8, 7 * STEP + 1);
        disk.has_room_for(room);
        for _ in 0..3 {
            assert!(block_on(ingest.flush(None, Flush::All)).is_err());
            assert_eq!(read(&ingest)["001"], expected);
        }
        let (cuts, done) = (ingest.cuts("team-a").unwrap(), room as u64 / 3);
        let counted = (cuts.blocks, cuts.truncations, cuts.truncations_failed, cuts.is_writing);
        assert_eq!(counted, (1 + done, 3 + done, 3, false));
        assert!(block_on(ingest.close()).is_err(), "a snapshot would forget the cut");
        if restarts {
            drop((disk, ingest));
            ingest = Ingest::open(&pool(1), options.clone()).unwrap();
        } else {
            disk.has_room();
            drop(disk);
        }
        block_on(ingest.flush(None, Flush::All)).unwrap();
        assert_eq!(read(&ingest)["001"], expected);
        let samples = samples_in_blocks(&ingest);
        assert_eq!((samples, ingest.stats("team-a").unwrap().series), (3 * 41, 0));
        drop(ingest);
        let on_disk = samples_in_blocks(&Ingest::open(&pool(1), options).unwrap());
        assert_eq!(on_disk, samples, "nothing else lies on the disk");
    }
}

/// It was once taken, and lost when the cut was tried again.
#[test]
fn a_late_sample_is_a_conflict_also_behind_a_cut_that_could_not_be_intended() {
    let folder = Folder::new();
    let disk = Disk::open(&folder.options());
    let write = |time: i64, value: f64| {
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "metric"), ("series", "0")]);
        batch.push_sample(time, value);
        block_on(disk.ingest.append(&tenant(), batch, WriteLimits::default())).unwrap().rejected
    };
    assert_eq!(write(1000 * STEP, 0.0), []);
    assert_eq!(write(990 * STEP, 1.0), []);
    let conflict = |rejected: Vec<crate::head::Rejected>| {
        assert_eq!(rejected.iter().map(|one| one.reason).collect::<Vec<_>>(), [Reason::DuplicateTimestamp]);
    };
    conflict(write(990 * STEP, 2.0));
    // The cut in order has room, the late one none.
    disk.has_room_for(2);
    assert!(block_on(disk.ingest.flush(None, Flush::All)).is_err());
    disk.has_room();
    conflict(write(990 * STEP, 2.0));
}

/// Reading it once had to wait for a restart.
#[test]
fn a_sound_block_is_read_though_its_column_index_can_be_kept_nowhere() {
    let folder = Folder::new();
    let index = folder.0.join(OWN_FOLDER).join("index");
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 10, STEP).unwrap();
    std::fs::remove_dir(&index).unwrap();
    std::fs::write(&index, b"in the way").unwrap();
    let blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    expect(&read(&ingest), 10, &[STEP]);
    drop(ingest);
    std::fs::remove_file(&index).unwrap();
    std::fs::create_dir_all(index.join(blocks[0].meta.ulid.to_string())).unwrap();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    assert!(ingest.unreadable_blocks().is_empty());
    expect(&read(&ingest), 10, &[STEP]);
}
