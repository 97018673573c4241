//! Queries over series in memory: parsed, evaluated on one core, written as JSON.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;

use bench::scrapes::{self, Timing};
use engine::batch::SampleBatch;
use engine::model::Labels;
use engine::promql::json::push_value;
use engine::promql::source::MemorySource;
use engine::promql::{Context, Engine, Options, RangeSteps, syntax};

/// Series in memory, of 120 samples each.
const SERIES: usize = 1000;

const QUERIES: &[(&str, &str)] = &[
    ("select", "a_total"),
    ("sum_rate", "sum by (group) (rate(a_total[5m]))"),
    ("quantile_over_time", "quantile_over_time(0.9, a_total[5m])"),
    ("deriv", "sum(deriv(a_total[5m]))"),
    ("join", "rate(a_total[5m]) / a_total"),
];

fn source() -> (Arc<MemorySource>, RangeSteps) {
    let mut batch = SampleBatch::default();
    for (at, columns) in scrapes::chunks(7, SERIES, Timing::Jittered).into_iter().enumerate() {
        batch.floats.timestamps.extend(columns.timestamps);
        batch.floats.values.extend(columns.values);
        let (group, instance) = ((at % 17).to_string(), at.to_string());
        let labels = [("__name__", "a_total"), ("group", &group), ("instance", &instance)];
        batch.finish_series(Arc::new(Labels::from_pairs(labels)));
    }
    let start = batch.floats.timestamps[0];
    let steps = RangeSteps { start: start + 300_000, end: start + 1_800_000, step: 30_000 };
    (Arc::new(MemorySource::new(&batch)), steps)
}

fn evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evaluate");
    group.sample_size(20);
    let (source, steps) = source();
    let engine = Engine::new(Options::default());
    for (name, query) in QUERIES {
        group.throughput(Throughput::Elements(SERIES as u64 * 120));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| engine.range(query, steps, source.clone(), &Context::default()).expect("a valid query"));
        });
    }
    group.finish();
}

fn text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    let options = syntax::Options::default();
    group.bench_function("parse", |bencher| {
        bencher.iter(|| syntax::parse(black_box(QUERIES[1].1), options).expect("a valid query"));
    });
    let (source, steps) = source();
    let engine = Engine::new(Options::default());
    let result = engine.range("rate(a_total[5m])", steps, source, &Context::default()).expect("a valid query");
    let mut out = Vec::new();
    group.bench_function("json", |bencher| {
        bencher.iter(|| {
            out.clear();
            push_value(&mut out, black_box(&result.value), 0);
        });
    });
    group.finish();
}

criterion_group!(benches, evaluate, text);
criterion_main!(benches);
