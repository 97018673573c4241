//! What compaction costs: blocks merged as bytes, replicas merged by penalty, samples downsampled, and
//! what was written read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bench::blocks::{self, CHUNK_MS, Shape};
use bench::folder::Folder;
use bench::{fleet, sized};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::bucket::meta::source;
use engine::compact::{
    DownsampleOptions, MergeOptions, Replicas, SourceBlock, Target, Unwatched, Workers, downsample, merge,
    verify_written,
};
use engine::model::{BlockId, Resolution};

/// Series of the blocks.
const SERIES: usize = 5_000;
/// Blocks that are merged.
const BLOCKS: u64 = 4;
/// Chunks of a series in each.
const CHUNKS: usize = 4;

fn target(parent: &Path) -> Target {
    let (id, labels) = (BlockId::from_parts(1, 1), BTreeMap::new());
    Target { parent: parent.to_owned(), id, labels, extensions: Default::default(), source: source::COMPACTOR }
}

fn open(blocks: &[PathBuf]) -> Vec<SourceBlock> {
    blocks.iter().map(|block| SourceBlock::open(block).expect("a block")).collect()
}

fn jobs(criterion: &mut Criterion) {
    let folder = Folder::new("compact");
    let labels = fleet::labels(sized(SERIES));
    let write = |seed, shift| blocks::write(folder.path(), &labels, Shape { seed, shift, chunks: CHUNKS });
    let behind: Vec<_> = (0..BLOCKS).map(|id| write(id, id as i64 * CHUNKS as i64 * CHUNK_MS)).collect();
    let replicas = [write(91, 0), write(92, 4_000)];
    let target = target(folder.path());
    let clean = || drop(std::fs::remove_dir_all(folder.file(&target.id.to_string())));
    let samples = |blocks: usize| Throughput::Elements((blocks * labels.len() * CHUNKS * 120) as u64);
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for (name, blocks, replicas) in
        [("merge_bytes", &behind[..], Replicas::OneToOne), ("merge_penalty", &replicas[..], Replicas::Penalty)]
    {
        group.throughput(samples(blocks.len()));
        group.bench_function(name, |bencher| {
            let setup = || {
                clean();
                open(blocks)
            };
            let options = MergeOptions { replicas, ..MergeOptions::default() };
            bencher.iter_batched(
                setup,
                |sources| merge(sources, &target, &options, &Unwatched).expect("a merge"),
                BatchSize::PerIteration,
            );
        });
    }
    group.throughput(samples(1));
    group.bench_function("downsample_5m", |bencher| {
        let setup = || {
            clean();
            open(&behind[..1]).remove(0)
        };
        let options = DownsampleOptions::default();
        bencher.iter_batched(
            setup,
            |source| downsample(source, Resolution::FIVE_MINUTES, &target, &options, &Unwatched).expect("downsampled"),
            BatchSize::PerIteration,
        );
    });
    let alone = Workers::threads(0);
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify_written(&behind[0], &alone).expect("a sound block"));
    });
    group.finish();
}

criterion_group!(benches, jobs);
criterion_main!(benches);
