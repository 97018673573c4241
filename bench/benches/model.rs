//! Nouns of everything: label sets built and compared, matchers and regexps applied, floats
//! as text.

use std::hint::black_box;

use bench::fleet;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::model::float_text::{Notation, push_float};
use engine::model::{Labels, MatchKind, Matcher};

/// Series whose labels are looked at.
const SERIES: usize = 1000;

fn labels(criterion: &mut Criterion) {
    let series = fleet::labels(SERIES);
    let mut group = criterion.benchmark_group("labels");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("from_pairs", |bencher| {
        bencher.iter(|| series.iter().map(|labels| Labels::from_pairs(black_box(labels).iter()).len()).sum::<usize>());
    });
    group.bench_function("compare", |bencher| {
        bencher.iter(|| series.windows(2).filter(|pair| black_box(&pair[0]) < &pair[1]).count());
    });
    group.finish();
}

fn matchers(criterion: &mut Criterion) {
    let series = fleet::labels(SERIES);
    let pods: Vec<&str> = series.iter().filter_map(|labels| labels.get("pod")).collect();
    let mut group = criterion.benchmark_group("matchers");
    group.throughput(Throughput::Elements(pods.len() as u64));
    for (name, pattern) in [
        ("prefix", "svc-0.*"),
        ("alternatives", "svc-001.*|svc-002.*|svc-003.*"),
        ("letters at the end", "svc-.*-[0-9a-f]+7"),
        ("any case", "(?i)SVC-00[1-4].*"),
    ] {
        let matcher = Matcher::new(MatchKind::Re, "pod", pattern).expect("a sound regexp");
        group.bench_function(name, |bencher| {
            bencher.iter(|| pods.iter().filter(|pod| matcher.matches(black_box(pod))).count());
        });
    }
    group.bench_function("compile", |bencher| {
        bencher.iter(|| Matcher::new(MatchKind::Re, "pod", black_box("svc-.*-[0-9a-f]+7")).is_ok());
    });
    group.finish();
}

fn floats(criterion: &mut Criterion) {
    let values: Vec<f64> = (0..SERIES).map(|at| at as f64 * 1.1 / 7.0).collect();
    let mut group = criterion.benchmark_group("floats");
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut out = Vec::new();
    group.bench_function("text", |bencher| {
        bencher.iter(|| {
            out.clear();
            values.iter().for_each(|value| push_float(&mut out, *value, Notation::Json));
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, labels, matchers, floats);
criterion_main!(benches);
