//! Runs of series on their way to an answer: merged.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use engine::block::SeriesBatch;
use engine::select::merge::{Within, merge};

/// Series of a run.
const SERIES: usize = 2048;

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

criterion_group!(benches, select);
criterion_main!(benches);
