//! Heads: appends to series that are there and to new ones, views, replay of records, snapshots.

use bench::writes::{BATCH_SERIES, OPTIONS, append, batches};
use bench::{fleet, sized};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::head::Head;
use engine::head::replay::Replay;
use engine::head::snapshot::Position;
use engine::model::{Labels, Matcher, TimeRange};
use engine::wal::{Recorder, frame, records};
use std::hint::black_box;

const SERIES: usize = 100_000;

/// Scrapes before anything is measured: chunks are then half full.
const SCRAPES: usize = 60;

fn filled(series: &[Labels], log: &mut Recorder) -> Head {
    let mut head = Head::new(OPTIONS, i64::MIN);
    for scrape in 0..SCRAPES {
        append(&mut head, &batches(series, scrape), log);
    }
    head
}

fn appends(criterion: &mut Criterion) {
    let series = fleet::labels(sized(SERIES));
    let mut head = filled(&series, &mut Recorder::default());
    let mut group = criterion.benchmark_group("head");
    group.sample_size(10);
    group.throughput(Throughput::Elements(series.len() as u64));
    let mut scrape = SCRAPES;
    group.bench_function(BenchmarkId::new("append", SERIES), |bencher| {
        bencher.iter_batched(
            || {
                scrape += 1;
                batches(&series, scrape)
            },
            |batches| append(&mut head, &batches, &mut Recorder::default()),
            criterion::BatchSize::PerIteration,
        );
    });
    let new = batches(&series, 0);
    group.bench_function(BenchmarkId::new("new series", SERIES), |bencher| {
        bencher.iter(|| {
            let mut head = Head::new(OPTIONS, i64::MIN);
            append(&mut head, &new, &mut Recorder::default());
            head
        });
    });
    group.throughput(Throughput::Elements(BATCH_SERIES as u64));
    let matchers = [Matcher::equal("namespace", "team-05")];
    group.bench_function("view of a namespace", |bencher| {
        bencher.iter(|| head.excerpt(black_box(&matchers), TimeRange::ALL));
    });
    group.finish();
}

fn replays(criterion: &mut Criterion) {
    let series = fleet::labels(sized(SERIES / 10));
    let mut log = Recorder::default();
    let head = filled(&series, &mut log);
    let samples = (series.len() * SCRAPES) as u64;
    let mut file = frame::HEADER.to_vec();
    file.extend_from_slice(frame::Encoder::default().frame(&[log.bytes()]));
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10);
    group.throughput(Throughput::Elements(samples));
    group.bench_function("records", |bencher| bencher.iter(|| replay(&file)));
    let mut snapshot = Recorder::default();
    let mut next = Some(Position::START);
    while let Some(from) = next {
        next = head.snapshot_part(0, from, &mut snapshot);
    }
    let mut file = frame::HEADER.to_vec();
    file.extend_from_slice(frame::Encoder::default().frame(&[snapshot.bytes()]));
    group.throughput(Throughput::Elements(series.len() as u64));
    group.bench_function("snapshot", |bencher| bencher.iter(|| replay(&file)));
    group.finish();
}

fn replay(file: &[u8]) -> Head {
    let mut replay = Replay::new(Head::new(OPTIONS, i64::MIN));
    let scanned = frame::scan(file, frame::Tail::MustBeWhole, |at, bytes| {
        for record in records(bytes, at) {
            replay.record(&record?)?;
        }
        Ok(())
    });
    assert!(scanned.is_ok(), "what was written can be read");
    replay.finish()
}

criterion_group!(benches, appends, replays);
criterion_main!(benches);
