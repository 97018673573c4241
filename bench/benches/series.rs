//! Series on their way to an answer: integers of indexes decoded, runs of series merged, replicas made
//! one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use bench::scrapes::{self, Timing};
use engine::block::SeriesBatch;
use engine::codec::varint;
use engine::dedup::chain;
use engine::dedup::penalty::{self, Adjust, Replica};
use engine::select::merge::{Within, merge};

/// Series of a run.
const SERIES: usize = 2048;
/// Integers that are decoded.
const INTEGERS: u64 = 4096;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(INTEGERS));
    let mut bytes = Vec::new();
    (0..INTEGERS).for_each(|at| varint::encode_u64(at * at % 100_000, &mut bytes));
    group.bench_function("varint_decode", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut sum) = (black_box(bytes.as_slice()), 0);
            while let Some((value, len)) = varint::decode_u64(rest) {
                sum += value;
                rest = &rest[len..];
            }
            sum
        });
    });
    group.finish();
}

fn select(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    group.throughput(Throughput::Elements(SERIES as u64));
    let run = |first: usize| {
        let mut run = SeriesBatch::default();
        for at in (first..SERIES).step_by(2) {
            run.push_label("__name__", "http_requests_total");
            run.push_label("instance", &format!("10.0.0.{at:05}:8080"));
            run.finish_series();
        }
        run
    };
    let runs = [run(0), run(1), run(0), run(1)];
    group.bench_function("merge_four_runs", |bencher| bencher.iter(|| merge(black_box(&runs), Within::Distinct)));
    group.finish();
}

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
    group.finish();
}

criterion_group!(benches, codec, select, dedup);
criterion_main!(benches);
