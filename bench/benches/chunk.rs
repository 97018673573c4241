//! Samples and checksums per core: XOR chunks decoded from the caches and from memory, encoded and
//! appended to, on every instruction set of the machine.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use bench::scrapes::{self, Timing};
use bench::sized;
use engine::chunk::Encoding;
use engine::chunk::aggr::{self, AggrChunk, Aggregate, Part};
use engine::chunk::xor::{self, Batch};
use engine::simd::{self, crc32c};

/// Chunks that stay in the last cache together with their samples' room.
const HOT_CHUNKS: usize = 4096;
/// Chunks that no cache holds.
const STREAM_CHUNKS: usize = 200_000;
/// Chunks that are decoded at a time.
const BATCH: usize = 256;

fn encoded(count: usize, timing: Timing) -> (Vec<Vec<u8>>, u64) {
    let columns = scrapes::chunks(7, count, timing);
    let samples = columns.iter().map(|columns| columns.len() as u64).sum();
    let encode = |columns: &engine::model::FloatColumns| {
        let mut data = Vec::new();
        xor::encode(&columns.timestamps, &columns.values, &mut data);
        data
    };
    (columns.iter().map(encode).collect(), samples)
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xor_decode");
    group.sample_size(20);
    let sets = [
        ("hot_jittered", HOT_CHUNKS, Timing::Jittered),
        ("hot_regular", HOT_CHUNKS, Timing::Regular),
        ("stream_jittered", sized(STREAM_CHUNKS), Timing::Jittered),
    ];
    for (name, count, timing) in sets {
        let (chunks, samples) = encoded(count, timing);
        let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        group.throughput(Throughput::Elements(samples));
        for isa in simd::isas() {
            let mut batch = Batch::default();
            group.bench_function(BenchmarkId::new(name, format!("{isa:?}")), |bencher| {
                bencher.iter(|| {
                    for chunks in slices.chunks(BATCH) {
                        simd::xor::decode_batch(isa, chunks, &mut batch).expect("the encoder's own chunks");
                        black_box(batch.values());
                    }
                });
            });
        }
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xor_encode");
    group.sample_size(20);
    for (name, timing) in [("jittered", Timing::Jittered), ("regular", Timing::Regular)] {
        let columns = scrapes::chunks(7, HOT_CHUNKS, timing);
        group.throughput(Throughput::Elements(columns.iter().map(|columns| columns.len() as u64).sum()));
        let mut data = Vec::new();
        group.bench_function(BenchmarkId::new(name, "whole"), |bencher| {
            bencher.iter(|| {
                for columns in &columns {
                    data.clear();
                    xor::encode(&columns.timestamps, &columns.values, &mut data);
                    black_box(&data);
                }
            });
        });
        group.bench_function(BenchmarkId::new(name, "appended"), |bencher| {
            bencher.iter(|| {
                for columns in &columns {
                    let mut appender = xor::Appender::default();
                    for (time, value) in columns.timestamps.iter().zip(&columns.values) {
                        appender.append(*time, *value);
                    }
                    black_box(appender.data());
                }
            });
        });
    }
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for len in [500usize, 64 << 10] {
        let bytes: Vec<u8> = (0..len).map(|at| ((at * 31) >> 3) as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("fast", len), |bencher| {
            bencher.iter(|| crc32c::crc32c(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("scalar", len), |bencher| {
            bencher.iter(|| crc32c::crc32c_scalar(black_box(&bytes)));
        });
    }
    group.finish();
}

fn aggregates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aggr");
    let columns = scrapes::chunks(5, 256, Timing::Regular);
    group.throughput(Throughput::Elements(256 * 120 * 5));
    group.bench_function("encode", |bencher| {
        let (mut parts, mut data): ([Vec<u8>; 5], Vec<u8>) = Default::default();
        bencher.iter(|| {
            for columns in &columns {
                for part in &mut parts {
                    part.clear();
                    xor::encode(&columns.timestamps, &columns.values, part);
                }
                let mut chunk = AggrChunk::default();
                for (aggregate, part) in Aggregate::ALL.into_iter().zip(&parts) {
                    chunk.set(aggregate, Part { encoding: Encoding::Xor, data: part });
                }
                data.clear();
                aggr::encode(&chunk, &mut data);
                black_box(&data);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode, aggregates, checksum);
criterion_main!(benches);
