//! The log: frames encoded and scanned, and commits that are on disk, one at a time and many at once.

use std::hint::black_box;
use std::sync::mpsc;

use bench::folder::Folder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::io::{self, Mode};
use engine::model::Error;
use engine::wal::record::FloatRows;
use engine::wal::{Durability, Order, Place, Recorder, Writer, frame, records};

/// Samples of a commit.
const SAMPLES: u32 = 2000;

fn commit() -> Vec<u8> {
    let mut rows = FloatRows::default();
    (0..SAMPLES)
        .for_each(|series| rows.push(series, 1_700_000_000_000 + i64::from(series % 7), f64::from(series) * 1.5));
    let mut recorder = Recorder::default();
    recorder.floats(0, Order::Kept, &rows);
    recorder.take()
}

fn frames(criterion: &mut Criterion) {
    let records_of_commit = commit();
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Elements(u64::from(SAMPLES)));
    let mut encoder = frame::Encoder::default();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encoder.frame(&[black_box(&records_of_commit)]).len());
    });
    let mut file = frame::HEADER.to_vec();
    file.extend_from_slice(encoder.frame(&[&records_of_commit]));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            let visit = |at, bytes: &[u8]| -> Result<(), Error> {
                count += records(bytes, at).filter(Result::is_ok).count();
                Ok(())
            };
            frame::scan(black_box(&file), frame::Tail::MustBeWhole, visit).expect("what was written can be read");
            count
        });
    });
    group.finish();
}

fn commits(criterion: &mut Criterion) {
    let records_of_commit = commit();
    let mut group = criterion.benchmark_group("commits");
    group.sample_size(10);
    for (name, durability) in [("synced", Durability::Fsync), ("relaxed", Durability::Relaxed)] {
        for at_once in [1, 16] {
            let folder = Folder::new("wal");
            let place = Place { folder: folder.path().to_owned(), segment: 1, durability };
            let writer = Writer::start(place, Box::new(|| io::open(Mode::Auto))).expect("a log");
            group.throughput(Throughput::Elements(at_once * u64::from(SAMPLES)));
            group.bench_function(BenchmarkId::new(name, at_once), |bencher| {
                bencher.iter(|| {
                    let (sender, receiver) = mpsc::channel();
                    for _ in 0..at_once {
                        let sender = sender.clone();
                        writer.commit(records_of_commit.clone(), Box::new(move |done| drop(sender.send(done))));
                    }
                    drop(sender);
                    receiver.iter().for_each(|done| done.expect("the log can be written"));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, frames, commits);
criterion_main!(benches);
