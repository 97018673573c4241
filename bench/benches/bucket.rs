//! What lies in a bucket: listings told apart, meta.json read and written, reads planned.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::bucket::meta::Thanos;
use engine::bucket::plan::{self, LOCAL_GAP_BYTES_MAX, REMOTE_GAP_BYTES_MAX, Wanted};
use engine::bucket::{BlockListing, Meta};
use engine::model::BlockId;

/// Blocks of a bucket.
const BLOCKS: u64 = 2_000;

/// Chunks that a question wants.
const CHUNKS: u64 = 10_000;

/// Bytes between the starts of two chunks that are wanted: others lie between.
const STRIDE: u64 = 9_000;

fn listing(criterion: &mut Criterion) {
    let ids = (0..BLOCKS).map(|at| BlockId::from_parts(1_700_000_000_000 + at, u128::from(at)));
    let names: Vec<String> = ids
        .flat_map(|id| ["meta.json", "index", "chunks/000001", "chunks/000002"].map(|name| format!("{id}/{name}")))
        .collect();
    let mut group = criterion.benchmark_group("bucket");
    group.throughput(Throughput::Elements(names.len() as u64)).sample_size(20);
    group.bench_function("listing", |bencher| {
        bencher.iter(|| BlockListing::from_names(black_box(&names)).blocks().len());
    });
    let labels = [("cluster", "c1"), ("replica", "a")];
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let thanos = Some(Thanos { labels, ..Thanos::default() });
    let meta = Meta { thanos, ..Meta::new(BlockId::from_parts(1, 1), 0, 7_200_000) };
    let text = meta.to_json();
    group.throughput(Throughput::Elements(1));
    group.bench_function("meta_parse", |bencher| bencher.iter(|| Meta::parse(black_box(&text)).expect("a meta.json")));
    group.bench_function("meta_write", |bencher| bencher.iter(|| black_box(&meta).to_json().len()));
    group.finish();
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(CHUNKS));
    let wanted: Vec<Wanted> =
        (0..CHUNKS).map(|at| Wanted { file: 0, offset: at * STRIDE, len: 200 + at % 700 }).collect();
    for (name, gap) in [("local", LOCAL_GAP_BYTES_MAX), ("remote", REMOTE_GAP_BYTES_MAX)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| plan::coalesce(black_box(&wanted), |_| gap).ranges.len());
        });
    }
    group.finish();
}

criterion_group!(benches, listing, plans);
criterion_main!(benches);
