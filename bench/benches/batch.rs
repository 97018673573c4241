//! Columns of samples laid on steps: the latest sample of each, windows, bitmaps.

use std::hint::black_box;

use bench::scrapes::{self, Timing};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::batch::{StepBatch, StepGrid, Windows, align, bitmap};

/// Series.
const SERIES: usize = 256;

fn steps(criterion: &mut Criterion) {
    let columns = scrapes::chunks(7, SERIES, Timing::Jittered);
    let start = columns[0].timestamps[0];
    let grid = StepGrid::range(start + 300_000, start + 1_800_000, 30_000);
    let mut group = criterion.benchmark_group("steps");
    group.throughput(Throughput::Elements((SERIES * grid.count) as u64));
    let mut picks = Vec::new();
    group.bench_function("align", |bencher| {
        bencher.iter(|| {
            let mut rows = StepBatch::new(grid.count);
            for columns in &columns {
                align::latest(&grid, 300_000, &columns.timestamps, &mut picks);
                let row = rows.push_row();
                let (values, valid) = rows.row_mut(row);
                align::gather(&picks, &columns.values, values, valid);
            }
            rows.samples()
        });
    });
    let mut windows = Windows::default();
    for (name, range) in [("windows of whole steps", 300_000), ("windows", 300_001)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                columns.iter().fold(0, |sum, columns| {
                    windows.find(&grid, range, black_box(&columns.timestamps));
                    sum + windows.total()
                })
            });
        });
    }
    group.finish();
}

fn bits(criterion: &mut Criterion) {
    const BITS: usize = 1 << 16;
    let mut group = criterion.benchmark_group("bitmap");
    group.throughput(Throughput::Elements(BITS as u64));
    let (mut some, mut others) = (vec![0; bitmap::words(BITS)], vec![0; bitmap::words(BITS)]);
    (0..BITS).step_by(3).for_each(|at| bitmap::set(&mut some, at));
    (0..BITS).step_by(5).for_each(|at| bitmap::set(&mut others, at));
    group.bench_function("union", |bencher| bencher.iter(|| bitmap::union(&mut some, black_box(&others))));
    group.bench_function("ones", |bencher| bencher.iter(|| bitmap::ones(black_box(&others)).sum::<usize>()));
    group.finish();
}

criterion_group!(benches, steps, bits);
criterion_main!(benches);
