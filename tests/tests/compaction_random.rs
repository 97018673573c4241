//! Random blocks merged and downsampled, against models that look at one sample at a time; and merges
//! whose disks fail at any read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::block::tombstones::Tombstones;
use engine::block::writer::BlockWriter;
use engine::bucket::Meta;
use engine::bucket::meta::Thanos;
use engine::chunk::aggr::{self, Aggregate};
use engine::chunk::{Encoding, float_histogram, histogram, segment, xor};
use engine::compact::source::Bytes;
use engine::compact::{
    DownsampleOptions, MergeOptions, Merged, Replicas, SourceBlock, Unwatched, Workers, downsample, merge,
    verify_written,
};
use engine::index::tsdb::{Reader, Series, Source, Symbols};
use engine::model::value::{is_stale_nan, stale_nan};
use engine::model::{
    BlockId, CounterReset, Error, ErrorKind, FloatColumns, FloatHistogram, FloatHistogramColumns, Histogram,
    HistogramColumns, Labels, Resolution, Span, TimeRange,
};
use tests::impatient::impatient;
use tests::random::Random;
use tests::scratch::Scratch;
use tests::written::{Chunk, chunk_data, target};

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Histogram),
    FloatHistogram(FloatHistogram),
}

impl Value {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => compacted(a.to_float()).same_data(&compacted(b.to_float())),
            (Self::FloatHistogram(a), Self::FloatHistogram(b)) => compacted(a.clone()).same_data(&compacted(b.clone())),
            _ => false,
        }
    }
}

/// Without empty buckets, which a chunk may add.
fn compacted(mut histogram: FloatHistogram) -> FloatHistogram {
    histogram.compact(0);
    histogram
}

type Samples = BTreeMap<Labels, Vec<(i64, Value)>>;

fn value(random: &mut Random, kind: u64, at: u64) -> Value {
    match kind {
        0 if random.below(15) == 0 => Value::Float(stale_nan()),
        0 => Value::Float(random.below(1000) as f64 / 4.0),
        1 => {
            let (first, second) = (at + random.below(3), 2 * at + random.below(3));
            let buckets = vec![first as i64, second as i64 - first as i64];
            Value::Histogram(Histogram {
                count: first + second,
                sum: at as f64 * 1.5,
                positive_spans: vec![Span { offset: random.below(2) as i32, length: 2 }],
                positive_buckets: buckets,
                ..Histogram::default()
            })
        }
        _ => Value::FloatHistogram(FloatHistogram {
            counter_reset: CounterReset::Gauge,
            count: 3.5,
            sum: random.below(100) as f64,
            positive_spans: vec![Span { offset: 0, length: 1 + random.below(2) as u32 }],
            positive_buckets: vec![],
            ..FloatHistogram::default()
        }),
    }
}

/// The samples of one random block between two times; the kind of a series follows from its number.
fn samples(random: &mut Random, from: i64, to: i64, kinds: u64) -> Samples {
    let mut all = Samples::new();
    for series in 0..1 + random.below(7) {
        let labels = Labels::from_pairs([("a", format!("{}", random.below(9))), ("b", format!("{series}"))]);
        let kind = labels.get("a").unwrap().parse::<u64>().unwrap() % kinds;
        let (mut time, mut column) = (from + random.below(500) as i64, Vec::new());
        let step = 1 + random.below(400);
        while time < to {
            let mut made = value(random, kind, column.len() as u64);
            if let Value::FloatHistogram(histogram) = &mut made {
                histogram.positive_buckets = vec![1.0; histogram.positive_spans[0].length as usize];
            }
            column.push((time, made));
            time += 1 + random.below(step) as i64 * if random.below(30) == 0 { 20 } else { 1 };
        }
        if !column.is_empty() {
            all.insert(labels, column);
        }
    }
    all
}

fn encode(samples: &[(i64, Value)], out: &mut Vec<u8>) -> Encoding {
    let times: Vec<i64> = samples.iter().map(|sample| sample.0).collect();
    match &samples[0].1 {
        Value::Float(_) => {
            let values: Vec<f64> =
                samples.iter().map(|sample| if let Value::Float(value) = sample.1 { value } else { 0.0 }).collect();
            xor::encode(&times, &values, out);
            Encoding::Xor
        }
        Value::Histogram(value) => {
            let columns = HistogramColumns { timestamps: times[..1].to_vec(), values: vec![value.clone()] };
            histogram::encode(&columns, CounterReset::Unknown, out);
            Encoding::Histogram
        }
        Value::FloatHistogram(value) => {
            let columns = FloatHistogramColumns { timestamps: times[..1].to_vec(), values: vec![value.clone()] };
            float_histogram::encode(&columns, CounterReset::Gauge, out);
            Encoding::FloatHistogram
        }
    }
}

/// Writes a block of chunks of random lengths; histograms get a chunk each, for their layouts differ.
fn write(random: &mut Random, parent: &Path, id: u128, samples: &Samples) -> PathBuf {
    let len = |first: &Value| if matches!(first, Value::Float(_)) { 1 + random.below(40) as usize } else { 1 };
    write_chunks(parent, id, samples, len)
}

/// Writes a block of chunks whose length `len` tells from the first value.
fn write_chunks(parent: &Path, id: u128, samples: &Samples, mut len: impl FnMut(&Value) -> usize) -> PathBuf {
    let id = BlockId::from_parts(1_700_000_000_000, id);
    let symbols: std::collections::BTreeSet<&str> =
        samples.keys().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let mut writer = BlockWriter::create(parent, id, Symbols::from_sorted(symbols)).unwrap();
    for (labels, column) in samples {
        let mut chunks = Vec::new();
        let mut rest = column.as_slice();
        while let Some((_, first)) = rest.first() {
            let (part, behind) = rest.split_at(len(first).min(rest.len()));
            let mut data = Vec::new();
            let encoding = encode(part, &mut data);
            chunks.push(Chunk { min_time: part[0].0, max_time: part[part.len() - 1].0, encoding, data });
            rest = behind;
        }
        writer.add_labels(labels, &chunk_data(&chunks)).unwrap();
    }
    let range = writer.time_range().unwrap();
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(id, range.min_time, range.max_time + 1) };
    writer.finish(meta).unwrap();
    parent.join(id.to_string())
}

fn read(folder: &Path) -> Samples {
    let index = Reader::open(fs::read(folder.join("index")).unwrap()).unwrap();
    let segment = fs::read(folder.join("chunks/000001")).unwrap();
    let (mut scan, mut series, mut all) = (index.series(), Series::default(), Samples::new());
    while scan.next(&mut series).unwrap() {
        let mut column = Vec::new();
        for meta in &series.chunks {
            let chunk = segment::read_at(&segment, 0, u64::from(meta.chunk_ref.offset())).unwrap();
            let start = column.len();
            match chunk.encoding {
                Encoding::Xor => {
                    let mut columns = FloatColumns::default();
                    xor::decode(chunk.data, &mut columns).unwrap();
                    assert!(columns.len() <= 120);
                    column.extend(columns.timestamps.into_iter().zip(columns.values.into_iter().map(Value::Float)));
                }
                Encoding::Histogram => {
                    let mut columns = HistogramColumns::default();
                    histogram::decode(chunk.data, &mut columns).unwrap();
                    column.extend(columns.timestamps.into_iter().zip(columns.values.into_iter().map(Value::Histogram)));
                }
                Encoding::FloatHistogram => {
                    let mut columns = FloatHistogramColumns::default();
                    float_histogram::decode(chunk.data, &mut columns).unwrap();
                    let values = columns.values.into_iter().map(Value::FloatHistogram);
                    column.extend(columns.timestamps.into_iter().zip(values));
                }
                other => panic!("{other} among raw samples"),
            }
            assert_eq!((column[start].0, column[column.len() - 1].0), (meta.min_time, meta.max_time));
        }
        assert!(column.is_sorted_by(|a, b| a.0 < b.0));
        all.insert(series.labels(index.symbols()), column);
    }
    all
}

/// The block in `folder` with some ranges of some series deleted; also from `model`.
fn with_deletions(random: &mut Random, folder: &Path, model: &mut Samples) -> SourceBlock {
    let index = Reader::open(fs::read(folder.join("index")).unwrap()).unwrap();
    let (mut scan, mut series, mut tombstones) = (index.series(), Series::default(), Tombstones::default());
    while scan.next(&mut series).unwrap() {
        if random.below(3) == 0 {
            let start = random.below(20_000) as i64;
            let range = TimeRange::new(start, start + random.below(6_000) as i64);
            tombstones.add(series.series_ref, range);
            let column = model.get_mut(&series.labels(index.symbols())).unwrap();
            column.retain(|(time, _)| !range.contains(*time));
        }
    }
    model.retain(|_, column| !column.is_empty());
    let meta = Meta::parse(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let bytes = |file: &str| Bytes::new(fs::read(folder.join(file)).unwrap());
    SourceBlock::new(Arc::new(meta), bytes("index"), vec![bytes("chunks/000001")], tombstones).unwrap()
}

/// No thread, some, or a core that works on each job a bit at a time.
fn workers(seed: u64) -> Workers {
    match seed % 4 {
        threads @ 0..=2 => Workers::threads(threads as usize),
        _ => impatient(1 + (seed % 100) as usize).0,
    }
}

#[test]
fn one_to_one_keeps_every_time_of_every_source_and_a_value_that_one_of_them_has() {
    for seed in 0..150 {
        let (scratch, mut random) = (Scratch::new("random-compaction"), Random::new(seed));
        let (mut models, mut sources) = (Vec::new(), Vec::new());
        for block in 0..1 + random.below(4) {
            let from = random.below(3) as i64 * 6_000;
            let mut model = samples(&mut random, from, from + 9_000, 3);
            let folder = write(&mut random, &scratch.0, u128::from(block), &model);
            if seed % 2 == 0 {
                sources.push(SourceBlock::open(&folder).unwrap());
            } else {
                sources.push(with_deletions(&mut random, &folder, &mut model));
            }
            models.push(model);
        }
        let options = MergeOptions {
            replicas: Replicas::OneToOne,
            workers: workers(seed),
            slice_chunks: 1 + random.below(50) as usize,
            ..MergeOptions::default()
        };
        let target = target(&scratch.0);
        let mut expected = BTreeMap::<&Labels, BTreeMap<i64, Vec<&Value>>>::new();
        for (labels, column) in models.iter().flatten() {
            for (time, value) in column {
                expected.entry(labels).or_default().entry(*time).or_default().push(value);
            }
        }
        let Merged::Block(_) = merge(sources, &target, &options, &Unwatched).unwrap() else {
            assert!(expected.is_empty(), "seed {seed}");
            continue;
        };
        let folder = scratch.0.join(target.id.to_string());
        verify_written(&folder, &Workers::threads(1)).unwrap();
        let merged = read(&folder);
        assert!(merged.keys().eq(expected.keys().copied()), "seed {seed}");
        for (labels, column) in &merged {
            let expected = &expected[labels];
            assert!(column.iter().map(|(time, _)| time).eq(expected.keys()), "seed {seed}, {labels}");
            for (time, value) in column {
                assert!(expected[time].iter().any(|known| known.same(value)), "seed {seed}, {labels} at {time}");
            }
        }
    }
}

#[test]
fn one_to_one_keeps_the_value_that_prometheus_keeps_where_blocks_disagree() {
    // Of the two that have 20 and 30, Prometheus goes on with the one that its heap gives when the third ends.
    let later: [&[i64]; 2] = [&[5, 20, 30], &[6, 20, 30]];
    let ends_before = [(0, 0.0), (5, 1.0), (6, 2.0), (10, 0.0), (20, 2.0), (30, 2.0)];
    let ends_with = [(0, 0.0), (5, 1.0), (6, 2.0), (20, 1.0), (30, 2.0)];
    for (first, expected) in [(&[0, 10], &ends_before[..]), (&[0, 20], &ends_with)] {
        let blocks: [&[i64]; 3] = [first, later[0], later[1]];
        let scratch = Scratch::new("random-compaction");
        let sources = blocks.iter().enumerate().map(|(block, times)| {
            let column = times.iter().map(|time| (*time, Value::Float(block as f64))).collect();
            let model = Samples::from([(Labels::from_pairs([("a", "0")]), column)]);
            SourceBlock::open(&write_chunks(&scratch.0, block as u128, &model, |_| times.len())).unwrap()
        });
        let target = target(&scratch.0);
        merge(sources.collect(), &target, &MergeOptions::default(), &Unwatched).unwrap();
        let merged = read(&scratch.0.join(target.id.to_string()));
        let column = merged.values().next().unwrap();
        let found = column.iter().map(|(time, value)| match value {
            Value::Float(value) => (*time, *value),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{blocks:?}");
    }
}

#[test]
fn five_minute_aggregates_are_those_of_the_samples_in_each_window() {
    for seed in 0..60 {
        let (scratch, mut random) = (Scratch::new("random-compaction"), Random::new(seed));
        let model = samples(&mut random, 0, 9_000_000, 1);
        let model: Samples = model
            .into_iter()
            .map(|(labels, column)| {
                let stretched = column.into_iter().step_by(1 + random.below(30) as usize);
                (labels, stretched.map(|(time, value)| (time * 40, value)).collect())
            })
            .collect();
        let folder = write(&mut random, &scratch.0, 1, &model);
        let options = DownsampleOptions { workers: workers(seed), ..DownsampleOptions::default() };
        let target = target(&scratch.0);
        let source = SourceBlock::open(&folder).unwrap();
        downsample(source, Resolution::FIVE_MINUTES, &target, &options, &Unwatched).unwrap();
        let folder = scratch.0.join(target.id.to_string());
        verify_written(&folder, &Workers::threads(1)).unwrap();
        for (labels, windows) in read_aggregates(&folder) {
            check_windows(&labels, &model[&labels], &windows);
        }
    }
}

/// Count, sum, minimum and maximum by time; counters as they are stored.
type Aggregates = [Vec<(i64, f64)>; 5];

fn read_aggregates(folder: &Path) -> BTreeMap<Labels, Aggregates> {
    let index = Reader::open(fs::read(folder.join("index")).unwrap()).unwrap();
    let segment = fs::read(folder.join("chunks/000001")).unwrap();
    let (mut scan, mut series, mut all) = (index.series(), Series::default(), BTreeMap::new());
    while scan.next(&mut series).unwrap() {
        let mut columns = Aggregates::default();
        for meta in &series.chunks {
            let chunk = segment::read_at(&segment, 0, u64::from(meta.chunk_ref.offset())).unwrap();
            let parts = aggr::split(chunk.data).unwrap();
            for aggregate in Aggregate::ALL {
                let mut decoded = FloatColumns::default();
                xor::decode(parts.get(aggregate).unwrap().data, &mut decoded).unwrap();
                columns[aggregate as usize].extend(decoded.timestamps.into_iter().zip(decoded.values));
            }
        }
        all.insert(series.labels(index.symbols()), columns);
    }
    all
}

fn check_windows(labels: &Labels, samples: &[(i64, Value)], found: &Aggregates) {
    let mut windows = BTreeMap::<i64, Vec<f64>>::new();
    let mut raw = Vec::new();
    for (time, value) in samples {
        let Value::Float(value) = value else { panic!("{labels} has histograms") };
        if !is_stale_nan(*value) {
            windows.entry(time / 300_000).or_default().push(*value);
            raw.push(*value);
        }
    }
    assert_eq!(found[0].len(), windows.len(), "{labels}");
    for (at, (window, values)) in windows.iter().enumerate() {
        let expected = [
            values.len() as f64,
            values.iter().fold(0.0, |sum, value| sum + value),
            values.iter().copied().fold(f64::MAX, f64::min),
            values.iter().copied().fold(-f64::MAX, f64::max),
        ];
        for (column, expected) in found[..4].iter().zip(expected) {
            assert_eq!(column[at].0 / 300_000, *window, "{labels}");
            assert_eq!(column[at].1, expected, "{labels}, window {window}");
        }
    }
    // Resets told apart from raw last values, the stored counters rise by what the raw samples did.
    let rise = |values: &mut dyn Iterator<Item = f64>| {
        let (mut last, mut total) = (None, 0.0);
        for value in values {
            total += match last {
                Some(last) if value >= last => value - last,
                Some(_) => value,
                None => 0.0,
            };
            last = Some(value);
        }
        total
    };
    let (mut last_time, mut last, mut total) = (None, 0.0, 0.0);
    for (time, value) in &found[Aggregate::Counter as usize] {
        if last_time == Some(*time) {
            last = *value;
            continue;
        }
        if last_time.is_some() {
            total += if *value >= last { value - last } else { *value };
        }
        (last_time, last) = (Some(*time), *value);
    }
    let expected = rise(&mut raw.into_iter());
    assert!((total - expected).abs() <= expected.abs() * 1e-9, "{labels}: {total} instead of {expected}");
}

/// A file that fails after some reads.
struct Failing {
    bytes: Vec<u8>,
    reads_left: Arc<AtomicU64>,
}

impl Source for Failing {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let left = self.reads_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            return Err(Error::new(ErrorKind::Unavailable, format!("{} bytes from byte {offset}: no disk", out.len())));
        }
        out.copy_from_slice(&self.bytes[offset as usize..][..<[u8]>::len(out)]);
        Ok(())
    }
}

#[test]
fn a_disk_that_fails_at_any_read_ends_the_merge_and_leaves_nothing() {
    let (scratch, mut random) = (Scratch::new("random-compaction"), Random::new(5));
    let folders: Vec<PathBuf> = (0..3)
        .map(|block| {
            let model = samples(&mut random, block * 4_000, block * 4_000 + 6_000, 2);
            write(&mut random, &scratch.0, block as u128, &model)
        })
        .collect();
    let results = Scratch::new("random-compaction");
    let target = target(&results.0);
    let mut whole = None;
    for reads in 0..3000 {
        let reads_left = Arc::new(AtomicU64::new(reads));
        let open = |folder: &PathBuf| {
            let file = |name: &str| {
                let bytes = fs::read(folder.join(name)).unwrap();
                Bytes::new(Failing { bytes, reads_left: Arc::clone(&reads_left) })
            };
            let meta = Meta::parse(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
            let segments = vec![file("chunks/000001")];
            SourceBlock::new(Arc::new(meta), file("index"), segments, Tombstones::default())
        };
        let options = MergeOptions {
            workers: Workers::threads(reads as usize % 3),
            slice_chunks: 200,
            ..MergeOptions::default()
        };
        let sources: Result<Vec<_>, Error> = folders.iter().map(open).collect();
        match sources.and_then(|sources| merge(sources, &target, &options, &Unwatched)) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.message().starts_with("block 01") && error.message().contains("no disk"), "{error}");
                assert_eq!(fs::read_dir(&results.0).unwrap().count(), 0, "{reads} reads");
            }
            Ok(merged) => {
                whole = Some(merged);
                break;
            }
        }
    }
    assert!(whole.is_some());
    verify_written(&results.0.join(target.id.to_string()), &Workers::threads(1)).unwrap();
}
