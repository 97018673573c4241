//! Start timestamps of blocks that are merged: chunks as Prometheus makes them, and each sample with the
//! start timestamp that it came with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::block::tombstones::Tombstones;
use engine::block::writer::BlockWriter;
use engine::bucket::Meta;
use engine::bucket::meta::Thanos;
use engine::chunk::{Encoding, float_histogram, histogram, native, segment, xor, xor2};
use engine::compact::source::Bytes;
use engine::compact::{MergeOptions, Merged, Replicas, SourceBlock, Unwatched, Workers, merge, verify_written};
use engine::index::tsdb::{Reader, Series, Symbols};
use engine::model::{
    BlockId, CounterReset, FloatColumns, FloatHistogram, FloatHistogramColumns, Histogram, HistogramColumns, Labels,
    Span, TimeRange,
};
use tests::impatient::impatient;
use tests::random::Random;
use tests::scratch::Scratch;
use tests::written::{Chunk, chunk_data, target};

/// The chunks of each series, which has its number as its only label.
type Block = BTreeMap<u64, Vec<Chunk>>;

/// Writes a block of whole times, so that chunks may be cut at its end.
fn write(parent: &Path, id: u128, block: &Block, meta: impl FnOnce(&mut Meta)) -> PathBuf {
    let id = BlockId::from_parts(1_700_000_000_000, id);
    let all: Vec<Labels> = block.keys().map(|series| Labels::from_pairs([("series", series.to_string())])).collect();
    let symbols: BTreeSet<&str> =
        all.iter().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let symbols = Symbols::from_sorted(symbols);
    let mut writer = BlockWriter::create(parent, id, symbols).unwrap();
    let mut sorted: Vec<(&Labels, &Vec<Chunk>)> = all.iter().zip(block.values()).collect();
    sorted.sort_by(|left, right| left.0.cmp(right.0));
    for (labels, chunks) in sorted {
        writer.add_labels(labels, &chunk_data(chunks)).unwrap();
    }
    let range = writer.time_range().unwrap();
    let mut described = Meta { thanos: Some(Thanos::default()), ..Meta::new(id, range.min_time, range.max_time + 1) };
    meta(&mut described);
    writer.finish(described).unwrap();
    parent.join(id.to_string())
}

fn read(folder: &Path) -> Block {
    let index = Reader::open(fs::read(folder.join("index")).unwrap()).unwrap();
    let segment = fs::read(folder.join("chunks/000001")).unwrap();
    let (mut scan, mut series, mut block) = (index.series(), Series::default(), Block::new());
    while scan.next(&mut series).unwrap() {
        let chunks = series.chunks.iter().map(|meta| {
            let chunk = segment::read_at(&segment, 0, u64::from(meta.chunk_ref.offset())).unwrap();
            let (encoding, data) = (chunk.encoding, chunk.data.to_vec());
            Chunk { min_time: meta.min_time, max_time: meta.max_time, encoding, data }
        });
        let labels = series.labels(index.symbols());
        block.insert(labels.get("series").unwrap().parse().unwrap(), chunks.collect());
    }
    block
}

fn merged(sources: Vec<SourceBlock>, parent: &Path, replicas: Replicas, workers: Workers) -> Option<Block> {
    let options = MergeOptions { replicas, workers, ..MergeOptions::default() };
    let Merged::Block(written) = merge(sources, &target(parent), &options, &Unwatched).unwrap() else { return None };
    let folder = parent.join(target(parent).id.to_string());
    verify_written(&folder, &Workers::threads(1)).unwrap();
    let block = read(&folder);
    let samples: usize = block.values().flatten().map(|chunk| samples_of(chunk).len()).sum();
    assert_eq!(written.meta.stats.num_samples, samples as u64);
    Some(block)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn chunks_with_start_timestamps_that_overlap_become_those_that_prometheus_makes() {
    let (mut a, mut b, mut expected) = (Block::new(), Block::new(), Block::new());
    let lines = include_str!("../testdata/merged_start_timestamps.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| fields[at].parse::<i64>().unwrap();
        let encoding = Encoding::parse(number(4) as u8, 0).unwrap();
        let chunk = Chunk { min_time: number(2), max_time: number(3), encoding, data: hex(fields[5]) };
        let block = match fields[1] {
            "a" => &mut a,
            "b" => &mut b,
            _ => &mut expected,
        };
        block.entry(number(0) as u64).or_default().push(chunk);
    }
    for workers in [Workers::threads(0), impatient(3).0] {
        let scratch = Scratch::new("compaction-starts");
        let open = |id, block: &Block| SourceBlock::open(&write(&scratch.0, id, block, |_| {})).unwrap();
        let found = merged(vec![open(1, &a), open(2, &b)], &scratch.0, Replicas::OneToOne, workers).unwrap();
        assert_eq!(found.len(), expected.len());
        for (series, chunks) in &expected {
            let seen = |chunk: &Chunk| (chunk.min_time, chunk.max_time, chunk.encoding, chunk.data.clone());
            let (found, chunks): (Vec<_>, Vec<_>) =
                (found[series].iter().map(seen).collect(), chunks.iter().map(seen).collect());
            assert_eq!(found, chunks, "series {series}");
        }
    }
}

/// Start timestamp, time and the bits of the value of a float or the sum of a histogram.
type Sample = (i64, i64, u64);

fn samples_of(chunk: &Chunk) -> Vec<Sample> {
    let (data, mut starts) = (&chunk.data[..], Vec::new());
    let (times, values): (Vec<i64>, Vec<u64>) = match chunk.encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut columns = FloatColumns::default();
            match chunk.encoding {
                Encoding::Xor => xor::decode(data, &mut columns).unwrap(),
                _ => xor2::decode(data, &mut columns, &mut starts).unwrap(),
            }
            (columns.timestamps, columns.values.iter().map(|value| value.to_bits()).collect())
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut columns = HistogramColumns::default();
            match chunk.encoding {
                Encoding::Histogram => histogram::decode(data, &mut columns).unwrap(),
                _ => drop(histogram::decode_with_starts(data, &mut columns, &mut starts).unwrap()),
            }
            (columns.timestamps, columns.values.iter().map(|value| value.sum.to_bits()).collect())
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut columns = FloatHistogramColumns::default();
            match chunk.encoding {
                Encoding::FloatHistogram => float_histogram::decode(data, &mut columns).unwrap(),
                _ => drop(float_histogram::decode_with_starts(data, &mut columns, &mut starts).unwrap()),
            }
            (columns.timestamps, columns.values.iter().map(|value| value.sum.to_bits()).collect())
        }
        Encoding::Aggr => panic!("downsampled data among raw samples"),
    };
    assert_eq!((times.first(), times.last()), (Some(&chunk.min_time), Some(&chunk.max_time)));
    starts.resize(times.len(), 0);
    starts.into_iter().zip(times).zip(values).map(|((start, time), value)| (start, time, value)).collect()
}

/// A chunk of samples, with start timestamps where one has any; `kind` says floats or which histograms.
fn chunk_of(kind: u64, samples: &[(i64, i64, f64)]) -> Chunk {
    let starts: Vec<i64> = samples.iter().map(|sample| sample.0).collect();
    let times: Vec<i64> = samples.iter().map(|sample| sample.1).collect();
    let has_starts = starts.iter().any(|start| *start != 0);
    let histogram = |sum: f64| Histogram {
        count: 5,
        sum,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![2, 1],
        ..Histogram::default()
    };
    let (mut plain, mut data) = (Vec::new(), Vec::new());
    let encodings = match kind {
        0 => {
            let values: Vec<f64> = samples.iter().map(|sample| sample.2).collect();
            xor::encode(&times, &values, &mut plain);
            xor2::encode(&times, &values, &starts, &mut data);
            (Encoding::Xor, Encoding::Xor2)
        }
        1 => {
            let values: Vec<Histogram> = samples.iter().map(|sample| histogram(sample.2)).collect();
            let columns = HistogramColumns { timestamps: times.clone(), values };
            histogram::encode(&columns, CounterReset::Yes, &mut plain);
            native::add_starts::<Histogram>(&plain, &starts, &mut data);
            (Encoding::Histogram, Encoding::HistogramSt)
        }
        _ => {
            let values: Vec<FloatHistogram> = samples.iter().map(|sample| histogram(sample.2).to_float()).collect();
            let columns = FloatHistogramColumns { timestamps: times.clone(), values };
            float_histogram::encode(&columns, CounterReset::Unknown, &mut plain);
            native::add_starts::<FloatHistogram>(&plain, &starts, &mut data);
            (Encoding::FloatHistogram, Encoding::FloatHistogramSt)
        }
    };
    let (encoding, data) = if has_starts { (encodings.1, data) } else { (encodings.0, plain) };
    Chunk { min_time: times[0], max_time: times[times.len() - 1], encoding, data }
}

/// A random block whose values are its own; notes the start timestamp of each.
fn random_block(random: &mut Random, number: u64, starts: &mut BTreeMap<(u64, i64, u64), i64>) -> Block {
    let mut block = Block::new();
    for series in (0..9).filter(|_| random.below(4) > 0).collect::<Vec<u64>>() {
        let (mut time, mut start, mut chunks) = (random.below(3_000) as i64, 0, Vec::new());
        for at in 0..1 + random.below(5) {
            let mut samples = Vec::new();
            for sample in 0..1 + random.below(200) {
                if random.below(20) == 0 {
                    start = if random.below(3) == 0 { 0 } else { time - random.below(5_000) as i64 };
                }
                let value = (number * 10_000_000 + at * 1_000 + sample) as f64;
                samples.push((start, time, value));
                starts.insert((series, time, value.to_bits()), start);
                time += 1 + random.below(60) as i64;
            }
            chunks.push(chunk_of(series % 3, &samples));
        }
        block.insert(series, chunks);
    }
    block
}

#[test]
fn every_sample_of_a_merge_has_the_start_timestamp_that_it_came_with() {
    let mut kept = 0;
    for seed in 0..36 {
        let (scratch, mut random, mut starts) = (Scratch::new("compaction-starts"), Random::new(seed), BTreeMap::new());
        let mut sources = Vec::new();
        for number in 0..1 + random.below(3) {
            let block = random_block(&mut random, number, &mut starts);
            if block.is_empty() {
                continue;
            }
            // Every other block ends before its chunks do, which are then cut.
            let end = seed % 2 == 0;
            let folder = write(&scratch.0, u128::from(number), &block, |meta| {
                if end {
                    meta.max_time = meta.max_time.min(4_000).max(meta.min_time + 1);
                }
            });
            sources.push(with_deletions(&mut random, &folder));
        }
        if sources.is_empty() {
            continue;
        }
        let replicas = if seed % 3 == 0 { Replicas::Penalty } else { Replicas::OneToOne };
        let workers = if seed % 5 == 0 { impatient(2).0 } else { Workers::threads(1) };
        let found = merged(sources, &scratch.0, replicas, workers).unwrap_or_default();
        for (series, chunks) in found {
            for (start, time, value) in chunks.iter().flat_map(samples_of) {
                assert_eq!(start, starts[&(series, time, value)], "seed {seed}, series {series} at {time}");
                kept += usize::from(start != 0);
            }
        }
    }
    assert!(kept > 10_000, "{kept} start timestamps were compared");
}

/// The block in `folder` with some ranges of some series deleted.
fn with_deletions(random: &mut Random, folder: &Path) -> SourceBlock {
    let bytes = |file: &str| fs::read(folder.join(file)).unwrap();
    let index = Reader::open(bytes("index")).unwrap();
    let (mut scan, mut series, mut tombstones) = (index.series(), Series::default(), Tombstones::default());
    while scan.next(&mut series).unwrap() {
        if random.below(2) == 0 {
            let start = random.below(8_000) as i64;
            tombstones.add(series.series_ref, TimeRange::new(start, start + random.below(2_000) as i64));
        }
    }
    let meta = Arc::new(Meta::parse(&bytes("meta.json")).unwrap());
    let segments = vec![Bytes::new(bytes("chunks/000001"))];
    SourceBlock::new(meta, Bytes::new(bytes("index")), segments, tombstones).unwrap()
}
