//! Both implementations against the bytes of real files.

use std::path::PathBuf;

use super::blocks::{BLOCK_BYTES, Blocks};
use super::faulty::{Fault, Faulty};
use super::uring::{DEPTH, PIECE_BYTES};
use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uru-io-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> File {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        File::open(path).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All implementations that work here.
fn implementations() -> Vec<Box<dyn BlockIo>> {
    let mut all = vec![open(Mode::Pread).unwrap()];
    match probe() {
        Support::Uring => all.push(open(Mode::Uring).unwrap()),
        Support::Denied(why) => eprintln!("SKIPPED: io_uring: {why}"),
    }
    all
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[test]
fn reads_of_several_files_land_side_by_side_in_order() {
    let folder = Folder::new("order");
    let content = noise(3 * PIECE_BYTES);
    let (one, two) = (folder.file("1", &content), folder.file("2", &content[..5000]));
    for mut io in implementations() {
        for round in 0..3 {
            let mut reads = vec![Read { file: &two, offset: 17, len: 900 }, Read { file: &one, offset: 0, len: 0 }];
            reads.push(Read { file: &one, offset: round, len: 2 * PIECE_BYTES + 11 });
            reads.extend((0..3 * DEPTH as u64).map(|at| Read { file: &one, offset: at * 100, len: 37 }));
            let expected: Vec<u8> = reads
                .iter()
                .flat_map(|read| &content[read.offset as usize..read.offset as usize + read.len])
                .copied()
                .collect();
            let batch = io.read(&reads);
            assert!(batch.failures.is_empty());
            assert_eq!(batch.bytes, expected);
        }
        assert_eq!(io.counters().batches, 3);
        assert_eq!(io.counters().oversize, 0);
    }
}

#[test]
fn a_batch_larger_than_the_window_is_read_too() {
    let folder = Folder::new("oversize");
    let content = noise(WINDOW_BYTES + 4097);
    let file = folder.file("1", &content);
    for mut io in implementations() {
        let whole = Read { file: &file, offset: 0, len: content.len() };
        assert_eq!(io.read(&[whole]).bytes, content);
        assert_eq!(io.counters().oversize, 1);
        assert_eq!(io.read(&[Read { len: 10, ..whole }]).bytes, &content[..10]);
    }
}

#[test]
fn a_file_that_ends_early_fails_its_read_alone_and_names_the_byte() {
    let folder = Folder::new("short");
    let content = noise(1000);
    let file = folder.file("000001", &content);
    for mut io in implementations() {
        let reads = [(0, 10), (990, 20), (5000, 5), (20, 30)].map(|(offset, len)| Read { file: &file, offset, len });
        let batch = io.read(&reads);
        let failed: Vec<_> = batch.failures.iter().map(|failure| (failure.index, failure.offset)).collect();
        assert_eq!(failed, [(1, 1000), (2, 5000)]);
        assert_eq!(batch.bytes[..10], content[..10]);
        assert_eq!(batch.bytes[35..], content[20..50]);
        let error = batch.failures[0].to_error(&file);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("000001 at byte 1000: the file ends here"), "{error}");
    }
}

#[test]
fn a_disk_error_is_told_by_its_name() {
    let folder = Folder::new("folder-as-file");
    let path = folder.0.join("sub");
    std::fs::create_dir_all(&path).unwrap();
    let directory = File::open(path).unwrap();
    for mut io in implementations() {
        let batch = io.read(&[Read { file: &directory, offset: 0, len: 8 }]);
        let error = batch.failures[0].to_error(&directory);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("directory"), "{error}");
    }
}

#[test]
fn writes_are_durable_and_each_file_is_synced_once() {
    let folder = Folder::new("write");
    for (number, mut io) in implementations().into_iter().enumerate() {
        let one = File::create(folder.0.join(format!("{number}-1"))).unwrap();
        let two = File::create(folder.0.join(format!("{number}-2"))).unwrap();
        let content = noise(2 * PIECE_BYTES);
        let (front, back) = content.split_at(70_000);
        io.write_and_sync(&[
            Write { file: &one, offset: 70_000, bytes: back, zeros: 100 },
            Write { file: &two, offset: 0, bytes: b"wal", zeros: 0 },
            Write { file: &one, offset: 0, bytes: front, zeros: 0 },
        ])
        .unwrap();
        let found = std::fs::read(one.path()).unwrap();
        assert!(found.starts_with(&content) && found[content.len()..] == [0; 100]);
        assert_eq!(std::fs::read(two.path()).unwrap(), b"wal");
        assert_eq!(io.counters().syncs, 2);
        let read_only = File::open(one.path()).unwrap();
        assert!(io.write_and_sync(&[Write { file: &read_only, offset: 0, bytes: b"x", zeros: 0 }]).is_err());
    }
}

#[test]
fn whole_blocks_go_to_a_durable_file_without_a_sync() {
    let folder = Folder::new("durable");
    let content = noise(3 * PIECE_BYTES);
    for (number, mut io) in implementations().into_iter().enumerate() {
        let file = io.create_durable(folder.0.join(number.to_string())).unwrap();
        let mut blocks = Blocks::default();
        for (start, end) in [(0, 5000), (BLOCK_BYTES, content.len()), (0, 100)] {
            blocks.fill(&[&content[start..end]], end - start);
            io.write_and_sync(&[Write { file: &file, offset: start as u64, bytes: blocks.bytes(), zeros: 0 }]).unwrap();
        }
        assert_eq!(io.counters().syncs, if file.is_durable() { 0 } else { 3 });
        file.truncate(content.len() as u64).unwrap();
        let found = std::fs::read(file.path()).unwrap();
        assert_eq!((&found[..100], &found[BLOCK_BYTES..]), (&content[..100], &content[BLOCK_BYTES..]));
        assert!(io.create_durable(file.path().to_owned()).is_err(), "it is there already");
    }
}

#[test]
fn zeros_that_nobody_holds_are_written_behind_the_bytes() {
    let folder = Folder::new("zeros");
    let content = noise(BLOCK_BYTES);
    for (number, mut io) in implementations().into_iter().enumerate() {
        let file = io.create_durable(folder.0.join(number.to_string())).unwrap();
        let old = vec![7; 4 * PIECE_BYTES];
        let mut blocks = Blocks::default();
        blocks.fill(&[&old], old.len());
        io.write_and_sync(&[Write { file: &file, offset: 0, bytes: blocks.bytes(), zeros: 0 }]).unwrap();
        blocks.fill(&[&content], content.len());
        let zeros = 2 * PIECE_BYTES + BLOCK_BYTES;
        let offset = BLOCK_BYTES as u64;
        io.write_and_sync(&[Write { file: &file, offset, bytes: blocks.bytes(), zeros }]).unwrap();
        io.write_and_sync(&[Write { file: &file, offset: old.len() as u64, bytes: &[], zeros }]).unwrap();
        let found = std::fs::read(file.path()).unwrap();
        let expected =
            [&old[..BLOCK_BYTES], &content, &vec![0; zeros], &old[2 * BLOCK_BYTES + zeros..], &vec![0; zeros]];
        assert!(found == expected.concat(), "{}", io.name());
    }
}

#[test]
fn a_disk_is_full_when_it_says_so_and_not_when_it_refuses_otherwise() {
    for (code, expected) in [(libc::ENOSPC, true), (libc::EDQUOT, true), (libc::EACCES, false), (libc::EIO, false)] {
        assert_eq!(is_full(&std::io::Error::from_raw_os_error(code)), expected, "{code}");
    }
}

#[test]
fn injected_faults_come_back_from_the_same_seed() {
    let folder = Folder::new("faulty");
    let content = noise(4096);
    let file = folder.file("1", &content);
    let reads: Vec<_> = (0..40).map(|at| Read { file: &file, offset: at * 100, len: 96 }).collect();
    let run = |fault, seed| {
        let mut io = Faulty::new(open(Mode::Pread).unwrap(), fault, 4, seed);
        let batch = io.read(&reads);
        (batch.bytes.to_vec(), batch.failures.iter().map(|failure| failure.index).collect::<Vec<_>>())
    };
    assert_eq!(run(Fault::Error, 1), run(Fault::Error, 1));
    assert_ne!(run(Fault::Error, 1).1, run(Fault::Error, 2).1);
    assert!(!run(Fault::Error, 1).1.is_empty());
    let (bytes, failed) = run(Fault::BitFlip, 1);
    assert!(failed.is_empty());
    assert_ne!(bytes, run(Fault::Truncated, 1).0);
}

#[test]
fn the_limit_of_open_files_is_raised_once_and_stays() {
    let raised = raise_open_files_max();
    assert_eq!(raise_open_files_max(), raised);
}
