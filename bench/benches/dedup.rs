//! Replicas made one: by penalty, by chain, and the windows that compaction keeps.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use bench::scrapes::{self, Timing};
use engine::dedup::chain;
use engine::dedup::fold::Fold;
use engine::dedup::penalty::{self, Adjust, Replica};

fn dedup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dedup");
    let columns = scrapes::chunks(7, 2, Timing::Jittered);
    group.throughput(Throughput::Elements(columns.iter().map(|columns| columns.len() as u64).sum()));
    let replicas: Vec<Replica<'_>> =
        columns.iter().map(|columns| Replica { timestamps: &columns.timestamps, values: &columns.values }).collect();
    let (mut picks, mut values) = (Vec::new(), Vec::new());
    group.bench_function("penalty", |bencher| {
        bencher.iter(|| {
            picks.clear();
            values.clear();
            penalty::merge(black_box(&replicas), Adjust::Counters, &mut picks, &mut values);
        });
    });
    let times: Vec<&[i64]> = columns.iter().map(|columns| columns.timestamps.as_slice()).collect();
    let mut picks = Vec::new();
    group.bench_function("chain", |bencher| {
        bencher.iter(|| {
            picks.clear();
            chain::merge(black_box(&times), &mut picks);
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
    group.finish();
}

fn chunk_times(start: i64) -> Vec<i64> {
    (0..120).map(|at| start + at * 15_000).collect()
}

criterion_group!(benches, dedup);
criterion_main!(benches);
