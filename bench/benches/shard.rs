//! Cores: what a hop to a shard and back costs, and a request for series from its plan to its frames.

use std::sync::Arc;

use bench::blocks::{self, Shape};
use bench::folder::Folder;
use bench::{fleet, questions, sized};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::block::BlockSet;
use engine::io::Mode;
use engine::model::Matcher;
use engine::shard::gather;
use engine::shard::{Options, Pool, block_on};

/// Series of the block.
const SERIES: usize = 20_000;

/// Hops under way at once.
const HOPS: usize = 64;

fn hops(criterion: &mut Criterion) {
    let pool = Pool::start(&Options::default()).expect("the shards start");
    let mut group = criterion.benchmark_group("hop");
    let call = || gather::call(&pool, |context| context.shard()).expect("a mailbox with room");
    group.bench_function("there and back", |bencher| {
        bencher.iter(|| block_on(call().into_recv_async()).expect("an answer"));
    });
    group.throughput(Throughput::Elements(HOPS as u64));
    group.bench_function("64 at once", |bencher| {
        bencher.iter(|| {
            let waiting: Vec<_> = (0..HOPS).map(|_| call()).collect();
            waiting.into_iter().map(|one| block_on(one.into_recv_async()).expect("an answer")).sum::<usize>()
        });
    });
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let folder = Folder::new("shard");
    let written = blocks::write(folder.path(), &fleet::labels(sized(SERIES)), Shape { seed: 7, shift: 0, chunks: 4 });
    let set = BlockSet::new([Arc::new(blocks::open(&written))]);
    let selector = questions::selector(Mode::Auto);
    let mut group = criterion.benchmark_group("series");
    group.sample_size(20);
    for (name, matchers) in
        [("one metric", vec![Matcher::equal("__name__", "process_bytes_00")]), ("everything", Vec::new())]
    {
        let bytes = questions::ask(&selector, &set, questions::chunks_of(matchers.clone()));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| questions::ask(&selector, &set, questions::chunks_of(matchers.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, hops, requests);
criterion_main!(benches);
