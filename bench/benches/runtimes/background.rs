//! A segment from its start to its end, as compaction reads it: mapped, in windows through the shards' own
//! ways, and on the runtimes that could read ahead. Every way looks at one byte of each page.

use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use bench::folder::Folder;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use engine::io::{self, Mode, Read, WINDOW_BYTES, mmap};
use tokio::io::AsyncReadExt;

use super::{has_uring, segment};

/// Bytes of a page.
const PAGE: usize = 4096;

/// Windows that are read ahead where a way can.
const READ_AHEAD: usize = 4;

/// Compares all ways.
pub fn compare(criterion: &mut Criterion) {
    let folder = Folder::new("runtimes-background");
    let path = segment(&folder);
    let len = std::fs::metadata(&path).expect("the segment").len();
    let mut group = criterion.benchmark_group("background: a segment from its start to its end");
    group.sample_size(10).throughput(Throughput::Bytes(len));
    group.bench_function("own map", |bencher| {
        bencher.iter(|| look(&mmap::Mmap::open(&path).expect("the segment")));
    });
    for mode in [Mode::Uring, Mode::Pread] {
        if mode == Mode::Pread || has_uring() {
            own(&mut group, mode, &path);
        }
    }
    group.bench_function("std", |bencher| {
        let mut window = vec![0; WINDOW_BYTES];
        bencher.iter(|| {
            let mut file = std::fs::File::open(&path).expect("the segment");
            let mut sum = 0;
            while let len @ 1.. = file.read(&mut window).expect("the segment") {
                sum += look(&window[..len]);
            }
            sum
        });
    });
    plain_tokio(&mut group, &path);
    if has_uring() {
        tokio_uring(&mut group, &path);
        glommio(&mut group, &path);
    }
    group.finish();
}

/// One byte of each page, summed.
fn look(bytes: &[u8]) -> u64 {
    black_box(bytes).iter().step_by(PAGE).map(|byte| u64::from(*byte)).sum()
}

fn own(group: &mut BenchmarkGroup<'_, WallTime>, mode: Mode, path: &Path) {
    let file = io::File::open(path).expect("the segment");
    let mut io = io::open(mode).expect("it was tried");
    group.bench_function(format!("own {mode}"), |bencher| {
        bencher.iter(|| {
            let windows = (0..file.len()).step_by(WINDOW_BYTES);
            windows.fold(0, |sum, offset| {
                let len = (file.len() - offset).min(WINDOW_BYTES as u64) as usize;
                sum + look(io.read(&[Read { file: &file, offset, len }]).bytes)
            })
        });
    });
}

fn plain_tokio(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    group.bench_function("tokio", |bencher| {
        let mut window = vec![0; WINDOW_BYTES];
        bencher.iter(|| {
            runtime.block_on(async {
                let mut file = tokio::fs::File::open(path).await.expect("the segment");
                let mut sum = 0;
                while let len @ 1.. = file.read(&mut window).await.expect("the segment") {
                    sum += look(&window[..len]);
                }
                sum
            })
        });
    });
}

fn tokio_uring(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path) {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).expect("a ring");
    group.bench_function("tokio-uring", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let file = tokio_uring::fs::File::open(path).await.expect("the segment");
                let (mut sum, mut offset, mut window) = (0, 0, vec![0; WINDOW_BYTES]);
                loop {
                    let (len, read) = file.read_at(window, offset).await;
                    window = read;
                    match len.expect("the segment") {
                        0 => break sum,
                        len => {
                            sum += look(&window[..len]);
                            offset += len as u64;
                        }
                    }
                }
            })
        });
    });
}

fn glommio(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path) {
    let executor = glommio::LocalExecutor::default();
    let file = Rc::new(executor.run(glommio::io::DmaFile::open(path)).expect("the segment"));
    group.bench_function("glommio, O_DIRECT, ahead", |bencher| {
        bencher.iter(|| {
            executor.run(async {
                let builder = glommio::io::DmaStreamReaderBuilder::from_rc(Rc::clone(&file));
                let mut reader = builder.with_buffer_size(WINDOW_BYTES).with_read_ahead(READ_AHEAD).build();
                let mut sum = 0;
                loop {
                    let window = reader.get_buffer_aligned(WINDOW_BYTES as u64).await.expect("the segment");
                    if window.is_empty() {
                        break;
                    }
                    sum += look(&window);
                }
                reader.close().await.expect("the segment stays open for the next round");
                sum
            })
        });
    });
}
