//! What compaction costs: aggregates chunks and indexes written, blocks merged as bytes, replicas merged
//! by penalty, samples downsampled.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use bench::fleet;
use bench::scrapes::{self, Timing};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::Meta;
use engine::bucket::meta::{Thanos, source};
use engine::chunk::aggr::{self, AggrChunk, Aggregate, Part};
use engine::chunk::{Encoding, xor};
use engine::compact::{DownsampleOptions, MergeOptions, Replicas, SourceBlock, Target, Unwatched, downsample, merge};
use engine::dedup::fold::Fold;
use engine::index::tsdb::Symbols;
use engine::model::{BlockId, FloatColumns, Labels, Resolution};

/// Series of the blocks.
const SERIES: usize = 5_000;
/// Blocks that are merged.
const BLOCKS: u64 = 4;
/// Chunks of a series in each.
const CHUNKS: usize = 4;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("uru-bench-compaction-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A block whose chunks follow each other, `shift` milliseconds late.
fn write(parent: &Path, labels: &[Labels], (id, shift): (u64, i64)) -> PathBuf {
    let columns = scrapes::chunks(id | 1, 997, Timing::Jittered);
    let span = columns[0].timestamps[119] - columns[0].timestamps[0] + 15_000;
    let texts: std::collections::BTreeSet<&str> =
        labels.iter().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let block = BlockId::from_parts(1_700_000_000_000 + id, u128::from(id));
    let mut writer = BlockWriter::create(parent, block, Symbols::from_sorted(texts)).expect("a new block");
    for (at, labels) in labels.iter().enumerate() {
        let encoded: Vec<(i64, i64, Vec<u8>)> = (0..CHUNKS)
            .map(|chunk| {
                let FloatColumns { timestamps, values } = &columns[(at * CHUNKS + chunk) % columns.len()];
                let late = shift + chunk as i64 * span;
                let timestamps: Vec<i64> = timestamps.iter().map(|time| time + late).collect();
                let mut data = Vec::new();
                xor::encode(&timestamps, values, &mut data);
                (timestamps[0], timestamps[119], data)
            })
            .collect();
        let chunks: Vec<_> = encoded
            .iter()
            .map(|(min_time, max_time, data)| ChunkData {
                min_time: *min_time,
                max_time: *max_time,
                encoding: Encoding::Xor,
                data,
            })
            .collect();
        writer.add_labels(labels, &chunks).expect("series in order");
    }
    let range = writer.time_range().expect("a block with samples");
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(block, range.min_time, range.max_time + 1) };
    writer.finish(meta).expect("a finished block");
    parent.join(block.to_string())
}

fn target(parent: &Path) -> Target {
    let (id, labels) = (BlockId::from_parts(1, 1), BTreeMap::new());
    Target { parent: parent.to_owned(), id, labels, extensions: Default::default(), source: source::COMPACTOR }
}

fn open(blocks: &[PathBuf]) -> Vec<SourceBlock> {
    blocks.iter().map(|block| SourceBlock::open(block).expect("a block")).collect()
}

fn jobs(criterion: &mut Criterion) {
    let scratch = Scratch::new();
    let labels = fleet::labels(SERIES);
    let span = 120 * CHUNKS as i64 * 15_000;
    let behind: Vec<_> = (0..BLOCKS).map(|id| write(&scratch.0, &labels, (id, id as i64 * span))).collect();
    let replicas = [write(&scratch.0, &labels, (91, 0)), write(&scratch.0, &labels, (92, 4_000))];
    let target = target(&scratch.0);
    let clean = || drop(std::fs::remove_dir_all(scratch.0.join(target.id.to_string())));
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for (name, blocks, replicas) in
        [("merge_bytes", &behind[..], Replicas::OneToOne), ("merge_penalty", &replicas[..], Replicas::Penalty)]
    {
        group.throughput(Throughput::Elements((blocks.len() * SERIES * CHUNKS * 120) as u64));
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
    group.throughput(Throughput::Elements((SERIES * CHUNKS * 120) as u64));
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
    group.finish();
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact_kernels");
    let columns = scrapes::chunks(5, 256, Timing::Regular);
    group.throughput(Throughput::Elements(256 * 120 * 5));
    group.bench_function("aggr_encode", |bencher| {
        let (mut parts, mut data): ([Vec<u8>; 5], Vec<u8>) = Default::default();
        bencher.iter(|| {
            for columns in &columns {
                for part in &mut parts {
                    part.clear();
                    xor::encode(&columns.timestamps, &columns.values, part);
                }
                let mut chunk = AggrChunk::default();
                for (aggregate, part) in Aggregate::ALL.into_iter().zip(&parts) {
                    chunk.set(aggregate, Part { encoding: Encoding::Xor, data: part });
                }
                data.clear();
                aggr::encode(&chunk, &mut data);
                black_box(&data);
            }
        });
    });
    let replica = |start: i64| (0..64).map(|chunk| chunk_times(start + chunk * 1_800_000)).collect::<Vec<_>>();
    let mut chunks = [replica(0), replica(7_000)].concat();
    chunks.sort();
    group.throughput(Throughput::Elements(128 * 120));
    group.bench_function("penalty_fold", |bencher| {
        let mut fold = Fold::default();
        bencher.iter(|| {
            fold.clear();
            for (at, times) in chunks.iter().enumerate() {
                fold.add(times, at as u32 * 120);
            }
            black_box(fold.picks().len())
        });
    });
    let labels = fleet::labels(20_000);
    group.throughput(Throughput::Elements(20_000));
    group.sample_size(10);
    group.bench_function("index_write", |bencher| {
        bencher.iter(|| fleet::write_index(&labels, Vec::new()).expect("an index"));
    });
    group.finish();
}

fn chunk_times(start: i64) -> Vec<i64> {
    (0..120).map(|at| start + at * 15_000).collect()
}

criterion_group!(benches, kernels, jobs);
criterion_main!(benches);
