//! Integers, bits, sections and labels as files hold them.

use std::hint::black_box;

use bench::fleet;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::codec::bits::{BitReader, BitWriter};
use engine::codec::{EncodedLabels, section, varint};
use engine::model::Labels;

/// Integers that are decoded.
const INTEGERS: u64 = 4096;

/// Series whose labels are encoded.
const SERIES: usize = 1000;

fn integers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("integers");
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
    let width = |at: u64| 1 + (at % 37) as u32;
    let mut packed = Vec::new();
    group.bench_function("bits_write", |bencher| {
        bencher.iter(|| {
            packed.clear();
            let mut writer = BitWriter::new(&mut packed);
            (0..INTEGERS).for_each(|at| writer.put(at & ((1 << width(at)) - 1), width(at)));
            writer.finish()
        });
    });
    group.bench_function("bits_read", |bencher| {
        bencher.iter(|| {
            let mut reader = BitReader::new("bits of a bench", black_box(&packed), 0);
            (0..INTEGERS).fold(0, |sum, at| sum ^ reader.bits(width(at)))
        });
    });
    group.finish();
}

fn sections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sections");
    let content: Vec<u8> = (0..64 << 10).map(|at: usize| ((at * 31) >> 3) as u8).collect();
    let mut bytes = Vec::new();
    section::encode(&content, &mut bytes);
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| section::decode("a section of a bench", black_box(&bytes), 0).expect("a sound section").len());
    });
    group.finish();
}

fn labels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("labels");
    group.throughput(Throughput::Elements(SERIES as u64));
    let series = fleet::labels(SERIES);
    let mut bytes = Vec::new();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            for (name, value) in series.iter().flat_map(|labels| labels.iter()) {
                EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut bytes);
            }
            bytes.len()
        });
    });
    let encoded = |labels: &Labels| {
        let mut bytes = Vec::new();
        labels.iter().for_each(|(name, value)| EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut bytes));
        bytes
    };
    let encoded: Vec<Vec<u8>> = series.iter().map(encoded).collect();
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let parse = |bytes: &Vec<u8>| EncodedLabels::parse(black_box(bytes)).expect("sound labels").pairs().count();
            encoded.iter().map(parse).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, integers, sections, labels);
criterion_main!(benches);
