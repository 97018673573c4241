//! Set algebra and unpacking, each kernel beside its scalar twin.

use std::hint::black_box;

use bench::fleet::Random;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::postings::packed;
use engine::simd::{bitmap, intersect, isas, unpack};

const SERIES: u64 = 1_000_000;

/// A list of about one in `every` of a million series.
fn list(every: u64, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..SERIES).filter(|_| random.below(every) == 0).map(|ordinal| ordinal as u32).collect()
}

fn intersection(criterion: &mut Criterion) {
    let tenth = list(10, 1);
    for (name, other) in [("10% & 10%", list(10, 2)), ("10% & 1%", list(100, 3)), ("10% & 0.1%", list(1000, 4))] {
        let mut group = criterion.benchmark_group(format!("intersect {name}"));
        group.throughput(Throughput::Elements((tenth.len() + other.len()) as u64));
        for isa in isas() {
            let mut out = Vec::new();
            group.bench_function(format!("{isa:?}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    intersect::intersect(isa, black_box(&tenth), black_box(&other), &mut out);
                });
            });
        }
        group.finish();
    }
}

fn bitmaps(criterion: &mut Criterion) {
    let mut words = vec![0u64; SERIES.div_ceil(64) as usize];
    list(4, 5).iter().for_each(|ordinal| words[*ordinal as usize / 64] |= 1 << (ordinal % 64));
    let mut group = criterion.benchmark_group("ordinals of a bitmap, 25%");
    group.throughput(Throughput::Elements(SERIES / 4));
    for isa in isas() {
        let mut out = Vec::new();
        group.bench_function(format!("{isa:?}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                bitmap::ordinals(isa, black_box(&words), 0, &mut out);
            });
        });
    }
    group.finish();
}

fn columns(criterion: &mut Criterion) {
    let packed: Vec<u8> = (0..SERIES * 2).map(|byte| (byte * 31 % 251) as u8).collect();
    let mut group = criterion.benchmark_group("unpack 13 bits");
    group.throughput(Throughput::Elements(SERIES));
    for isa in isas() {
        let mut out = vec![0; SERIES as usize];
        group.bench_function(format!("{isa:?}"), |bencher| {
            bencher.iter(|| unpack::unpack(isa, black_box(&packed), 13, 0, &mut out));
        });
    }
    group.finish();
}

fn lists(criterion: &mut Criterion) {
    let list = list(10, 6);
    let mut bytes = Vec::new();
    packed::encode(&list, &mut bytes);
    let mut group = criterion.benchmark_group("packed list, 10%");
    group.throughput(Throughput::Elements(list.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| packed::decode(black_box(&bytes), list.len(), SERIES as u32));
    });
    group.bench_function("encode", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            packed::encode(black_box(&list), &mut out);
        });
    });
    group.finish();
}

criterion_group!(benches, intersection, bitmaps, columns, lists);
criterion_main!(benches);
