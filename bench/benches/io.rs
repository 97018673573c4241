//! Local files read and written in batches, with io_uring and with pread, out of the system's cache.

use std::hint::black_box;

use bench::fleet::Random;
use bench::folder::Folder;
use bench::sized;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::io::{self, File, Mode, Read, Write};

/// Bytes of the file.
const FILE_BYTES: usize = 64 << 20;

/// Reads of a batch, which fit into a window.
const READS: usize = 64;

fn modes() -> Vec<Mode> {
    let all = [Mode::Uring, Mode::Pread];
    all.into_iter().filter(|mode| io::open(*mode).is_ok()).collect()
}

fn batches(criterion: &mut Criterion) {
    let folder = Folder::new("io");
    let path = folder.file("file");
    let bytes: Vec<u8> = (0..sized(FILE_BYTES)).map(|at| ((at * 31) >> 3) as u8).collect();
    std::fs::write(&path, &bytes).expect("a file");
    let file = File::open(path).expect("a file");
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20);
    for len in [700, 16 << 10] {
        let mut random = Random(7);
        let end = file.len() - len as u64;
        let reads: Vec<Read<'_>> = (0..READS).map(|_| Read { file: &file, offset: random.below(end), len }).collect();
        group.throughput(Throughput::Bytes((READS * len) as u64));
        for mode in modes() {
            let mut io = io::open(mode).expect("it was tried");
            group.bench_function(BenchmarkId::new(format!("{len} bytes"), mode), |bencher| {
                bencher.iter(|| black_box(io.read(&reads).bytes.len()));
            });
        }
    }
    group.finish();
}

fn commits(criterion: &mut Criterion) {
    let folder = Folder::new("io-write");
    let bytes = vec![7; 64 << 10];
    let mut group = criterion.benchmark_group("write");
    group.sample_size(10).throughput(Throughput::Bytes(bytes.len() as u64));
    for mode in modes() {
        let mut io = io::open(mode).expect("it was tried");
        let file = File::create(folder.file(&mode.to_string())).expect("a new file");
        group.bench_function(BenchmarkId::new("synced", mode), |bencher| {
            bencher.iter(|| {
                let outcome = io.write_and_sync(&[Write { file: &file, offset: 0, bytes: &bytes, zeros: 0 }]);
                assert!(outcome.is_ok(), "the file can be written");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batches, commits);
criterion_main!(benches);
