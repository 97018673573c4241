//! Ranges of chunks as a request reads them: through a ring that its thread owns, with pread, and on the
//! runtimes that could wait for them instead. Each way has the bytes of a batch in memory before it goes on
//! to the next batch, and keeps as many reads in flight as the ring does.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bench::folder::Folder;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use engine::bucket::plan::{self, LOCAL_GAP_BYTES_MAX, Range, Wanted};
use engine::io::{self, Mode, Read, WINDOW_BYTES};
use futures_util::StreamExt;
use futures_util::stream;

use super::{has_uring, segment};

/// Bytes between two chunks that are wanted: what other series have lies between.
const STRIDE: u64 = 24_000;

/// Reads in flight: the ring's depth.
const DEPTH: usize = io::uring::DEPTH;

/// Compares all ways.
pub fn compare(criterion: &mut Criterion) {
    let folder = Folder::new("runtimes-shards");
    let path = segment(&folder);
    let batches = batches(std::fs::metadata(&path).expect("the segment").len());
    let bytes: u64 = batches.iter().flatten().map(|range| range.len).sum();
    let mut group = criterion.benchmark_group("shards: ranges of chunks");
    group.sample_size(20).throughput(Throughput::Bytes(bytes));
    for mode in [Mode::Uring, Mode::Pread] {
        if mode == Mode::Pread || has_uring() {
            own(&mut group, mode, &path, &batches);
        }
    }
    blocking_pool(&mut group, &path, &batches);
    if has_uring() {
        tokio_uring(&mut group, &path, &batches);
        glommio(&mut group, &path, &batches);
    }
    group.finish();
}

/// The ranges of a request whose chunks lie all over the segment, in batches that fit into a window.
fn batches(len: u64) -> Vec<Vec<Range>> {
    let wanted: Vec<Wanted> =
        (0..len / STRIDE).map(|at| Wanted { file: 0, offset: at * STRIDE, len: 300 + at * 37 % 2_000 }).collect();
    let (mut batches, mut room): (Vec<Vec<Range>>, u64) = (Vec::new(), 0);
    for range in plan::coalesce(&wanted, |_| LOCAL_GAP_BYTES_MAX).ranges {
        if range.len > room {
            batches.push(Vec::new());
            room = WINDOW_BYTES as u64;
        }
        room -= range.len;
        batches.last_mut().expect("one was pushed").push(range);
    }
    batches
}

/// The shards' own way.
fn own(group: &mut BenchmarkGroup<'_, WallTime>, mode: Mode, path: &Path, batches: &[Vec<Range>]) {
    let file = io::File::open(path).expect("the segment");
    let mut io = io::open(mode).expect("it was tried");
    let reads: Vec<Vec<Read<'_>>> = batches
        .iter()
        .map(|batch| {
            batch.iter().map(|range| Read { file: &file, offset: range.offset, len: range.len as usize }).collect()
        })
        .collect();
    group.bench_function(format!("own {mode}"), |bencher| {
        bencher.iter(|| reads.iter().map(|batch| black_box(io.read(batch)).bytes.len()).sum::<usize>());
    });
}

/// Plain tokio: pread on its threads for what blocks.
fn blocking_pool(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches: &[Vec<Range>]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let file = Arc::new(File::open(path).expect("the segment"));
    let read = |range: Range| {
        let file = Arc::clone(&file);
        async move {
            let job = move || {
                let mut bytes = vec![0; range.len as usize];
                file.read_exact_at(&mut bytes, range.offset).map(|()| bytes)
            };
            tokio::task::spawn_blocking(job).await.expect("it does not panic").expect("the segment").len()
        }
    };
    group.bench_function("tokio, pread on its blocking threads", |bencher| {
        bencher.iter(|| runtime.block_on(all(batches, read)));
    });
}

fn tokio_uring(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches: &[Vec<Range>]) {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).expect("a ring");
    let file = Rc::new(runtime.block_on(tokio_uring::fs::File::open(path)).expect("the segment"));
    let read = |range: Range| {
        let file = Rc::clone(&file);
        async move {
            let (outcome, bytes) = file.read_exact_at(vec![0; range.len as usize], range.offset).await;
            outcome.expect("the segment");
            bytes.len()
        }
    };
    group.bench_function("tokio-uring", |bencher| bencher.iter(|| runtime.block_on(all(batches, read))));
}

fn glommio(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path, batches: &[Vec<Range>]) {
    let executor = glommio::LocalExecutor::default();
    let file = Rc::new(executor.run(glommio::io::BufferedFile::open(path)).expect("the segment"));
    let read = |range: Range| {
        let file = Rc::clone(&file);
        async move { file.read_at(range.offset, range.len as usize).await.expect("the segment").len() }
    };
    group.bench_function("glommio", |bencher| bencher.iter(|| executor.run(all(batches, read))));
    let file = Rc::new(executor.run(glommio::io::DmaFile::open(path)).expect("the segment"));
    let read = |range: Range| {
        let file = Rc::clone(&file);
        async move { file.read_at(range.offset, range.len as usize).await.expect("the segment").len() }
    };
    group.bench_function("glommio, O_DIRECT", |bencher| bencher.iter(|| executor.run(all(batches, read))));
}

/// Reads batch after batch; the bytes that were read.
async fn all<F: Future<Output = usize>>(batches: &[Vec<Range>], read: impl Fn(Range) -> F + Copy) -> usize {
    let mut bytes = 0;
    for batch in batches {
        let reads = stream::iter(batch.iter().map(|range| read(*range))).buffer_unordered(DEPTH);
        bytes += reads.fold(0, |sum, len| std::future::ready(sum + len)).await;
    }
    bytes
}
