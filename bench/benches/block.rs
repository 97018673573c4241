//! Blocks: written, verified, opened and their series visited.

use std::hint::black_box;

use bench::blocks::{self, Shape};
use bench::folder::Folder;
use bench::{fleet, sized};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::block::{ChunkPlace, ChunkScratch, verify};
use engine::index::SeriesLabels;
use engine::model::TimeRange;

/// Series of the block.
const SERIES: usize = 5_000;
/// Chunks of a series.
const CHUNKS: usize = 4;

fn block(criterion: &mut Criterion) {
    let folder = Folder::new("block");
    let labels = fleet::labels(sized(SERIES));
    let shape = Shape { seed: 7, shift: 0, chunks: CHUNKS };
    let written = blocks::write(folder.path(), &labels, shape);
    let mut group = criterion.benchmark_group("block");
    group.sample_size(10).throughput(Throughput::Elements((labels.len() * CHUNKS) as u64));
    let again = folder.file("again");
    group.bench_function("write", |bencher| {
        let setup = || {
            drop(std::fs::remove_dir_all(&again));
            std::fs::create_dir(&again).expect("a folder");
        };
        bencher.iter_batched(setup, |()| blocks::write(&again, &labels, shape), BatchSize::PerIteration);
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify::verify(&written).expect("a block").is_sound());
    });
    group.throughput(Throughput::Elements(labels.len() as u64));
    group.bench_function("open", |bencher| bencher.iter(|| blocks::open(&written)));
    let opened = blocks::open(&written);
    let ordinals = opened.index().all().expect("all series are known").into_list();
    let (mut scratch, mut labels) = (ChunkScratch::default(), SeriesLabels::default());
    group.bench_function("visit series", |bencher| {
        bencher.iter(|| {
            let each = |at: usize, chunks: &[ChunkPlace]| {
                opened.index().labels(ordinals[at], &mut labels)?;
                black_box((labels.len(), chunks.len()));
                Ok(())
            };
            opened.visit_chunks(&ordinals, TimeRange::ALL, &mut scratch, each).expect("a sound block");
        });
    });
    group.finish();
}

criterion_group!(benches, block);
criterion_main!(benches);
