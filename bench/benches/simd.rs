//! Kernels on every instruction set of the machine: integers unpacked, sums, surveys and rates of rows.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use engine::simd::rate::{self, Ends, Kind, Reach, Sign, Windows};
use engine::simd::{self, reduce, unpack};

/// Steps of a row: two hours, one a minute.
const STEPS: usize = 120;
/// Integers of a frame.
const INTEGERS: usize = 4096;

fn integers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unpack");
    group.throughput(Throughput::Elements(INTEGERS as u64));
    let packed: Vec<u8> = (0..unpack::packed_len(11, INTEGERS) + unpack::SLACK).map(|at| (at * 37) as u8).collect();
    let mut out = vec![0; INTEGERS];
    for isa in simd::isas() {
        group.bench_function(BenchmarkId::new("11 bits", format!("{isa:?}")), |bencher| {
            bencher.iter(|| unpack::unpack(isa, black_box(&packed), 11, 0, &mut out));
        });
    }
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(STEPS as u64));
    let values: Vec<f64> = (0..STEPS).map(|at| at as f64 * 1.1).collect();
    let (mut sums, mut lost) = (vec![0.0; STEPS], vec![0.0; STEPS]);
    let timestamps: Vec<i64> = (0..STEPS as i64 + 20).map(|at| at * 15_000).collect();
    let (starts, behind): (Vec<u32>, Vec<u32>) = (0..STEPS as u32).map(|at| (at, at + 20)).unzip();
    let (interval, range) = (15_000, 300_000);
    let windows =
        Windows { timestamps: &timestamps, starts: &starts, ends: &behind, end: 19 * interval, interval, range };
    let mut reach = Reach::default();
    rate::reach(simd::isa(), windows, &mut reach);
    let ends = Ends { first: values.clone(), difference: values.iter().map(|value| value + 1.0).collect() };
    let kind = Kind { sign: Sign::Counter, seconds: 300.0 };
    let mut out = vec![0.0; STEPS];
    for isa in simd::isas() {
        let id = |name| BenchmarkId::new(name, format!("{isa:?}"));
        group.bench_function(id("sum"), |bencher| {
            bencher.iter(|| reduce::sum(isa, &mut sums, &mut lost, black_box(&values)));
        });
        group.bench_function(id("survey"), |bencher| bencher.iter(|| reduce::survey(isa, black_box(&values))));
        group.bench_function(id("reach"), |bencher| {
            bencher.iter(|| rate::reach(isa, black_box(windows), &mut reach));
        });
        group.bench_function(id("rates"), |bencher| {
            bencher.iter(|| rate::rates(isa, black_box(&reach), &ends, kind, &mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, integers, rows);
criterion_main!(benches);
