//! Every block that Prometheus and Thanos wrote is read whole: each float sample is the one that
//! promtool dumps, each aggregate is the one of the raw samples in its window, and a block written
//! again from what was read has the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine::block::verify::verify;
use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::Meta;
use engine::chunk::aggr::{self, Aggregate};
use engine::chunk::{Encoding, histogram, segment, xor};
use engine::index::tsdb::{Reader, Series, Symbols};
use engine::model::{FloatColumns, HistogramColumns, Labels};
use tests::scratch::Scratch;
use tests::shared;

/// Sets of blocks of samples as they were scraped.
const RAW: [&str; 9] = [
    "blocks/k8s",
    "blocks/native",
    "blocks/churn",
    "blocks/ha-a",
    "blocks/ha-b",
    "blocks/long",
    "thanos/churn",
    "thanos/ha",
    "thanos/ha1",
];

const DOWNSAMPLED: &str = "thanos/long";

/// The folders of the blocks of a set; none where there is no reference data.
fn blocks(set: &str) -> Vec<PathBuf> {
    let Some(folder) = shared(&format!("golden/{set}")) else { return Vec::new() };
    let mut blocks: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    blocks.sort();
    blocks
}

/// A block in memory.
struct Block {
    meta: Meta,
    index: Reader<Vec<u8>>,
    segments: Vec<Vec<u8>>,
}

impl Block {
    fn open(folder: &Path) -> Self {
        let mut paths: Vec<_> =
            fs::read_dir(folder.join("chunks")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        Self {
            meta: Meta::parse(&fs::read(folder.join("meta.json")).unwrap()).unwrap(),
            index: Reader::open(fs::read(folder.join("index")).unwrap()).unwrap(),
            segments: paths.iter().map(|path| fs::read(path).unwrap()).collect(),
        }
    }

    /// Calls `visit` with every series and its chunks.
    fn each(&self, mut visit: impl FnMut(&Series, &[ChunkData<'_>])) {
        let (mut scan, mut series) = (self.index.series(), Series::default());
        while scan.next(&mut series).unwrap() {
            let chunks = series.chunks.iter().map(|meta| {
                let segment = &self.segments[meta.chunk_ref.segment() as usize];
                let chunk = segment::read_at(segment, 0, u64::from(meta.chunk_ref.offset())).unwrap();
                let (encoding, data) = (chunk.encoding, chunk.data);
                ChunkData { min_time: meta.min_time, max_time: meta.max_time, encoding, data }
            });
            visit(&series, &chunks.collect::<Vec<_>>());
        }
    }

    fn labels(&self, series: &Series) -> Labels {
        series.labels(self.index.symbols())
    }
}

/// The float samples of `chunks`; histograms are checked for themselves.
fn floats(chunks: &[ChunkData<'_>]) -> FloatColumns {
    let mut columns = FloatColumns::default();
    for chunk in chunks {
        let start = columns.len();
        match chunk.encoding {
            Encoding::Xor => xor::decode(chunk.data, &mut columns).unwrap(),
            Encoding::Histogram => check_histograms(chunk),
            other => panic!("{other} in a raw block"),
        }
        if let [first, .., last] = columns.timestamps[start..] {
            assert_eq!((first, last), (chunk.min_time, chunk.max_time));
        }
    }
    columns
}

/// Each scrape of a native histogram adds three observations, and all are in buckets.
fn check_histograms(chunk: &ChunkData<'_>) {
    let mut columns = HistogramColumns::default();
    histogram::decode(chunk.data, &mut columns).unwrap();
    assert_eq!(columns.timestamps.first(), Some(&chunk.min_time));
    assert_eq!(columns.timestamps.last(), Some(&chunk.max_time));
    assert!(columns.values.windows(2).all(|pair| pair[1].count == pair[0].count + 3 && pair[1].sum > pair[0].sum));
    for value in &columns.values {
        let mut count = 0;
        let in_buckets: i64 = value
            .positive_buckets
            .iter()
            .map(|delta| {
                count += delta;
                count
            })
            .sum();
        assert_eq!(in_buckets as u64 + value.zero_count, value.count);
    }
}

/// Copies a block into a database of its own for promtool, which wants to see a WAL.
fn database(block: &Path, scratch: &Path) {
    let copy = scratch.join(block.file_name().unwrap());
    fs::create_dir_all(copy.join("chunks")).unwrap();
    fs::create_dir_all(scratch.join("wal")).unwrap();
    for file in ["meta.json", "index"] {
        fs::write(copy.join(file), fs::read(block.join(file)).unwrap()).unwrap();
    }
    for segment in fs::read_dir(block.join("chunks")).unwrap().map(|entry| entry.unwrap()) {
        fs::write(copy.join("chunks").join(segment.file_name()), fs::read(segment.path()).unwrap()).unwrap();
    }
}

/// Whether promtool is installed; it has to be where everything is required.
fn has_promtool() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    let required = std::env::var_os("URU_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(found || !required, "promtool is absent");
    if !found {
        eprintln!("SKIPPED: promtool is absent");
    }
    found
}

/// Compares every float sample of a block with what promtool dumps; returns how many there are.
fn compare_with_promtool(folder: &Path) -> u64 {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let set = folder.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let scratch = Scratch::new(&format!("dump-{set}-{name}"));
    database(folder, &scratch.0);
    let mut promtool =
        Command::new("promtool").args(["tsdb", "dump"]).arg(&scratch.0).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(promtool.stdout.take().unwrap()).lines();
    let mut count = 0;
    let block = Block::open(folder);
    block.each(|series, chunks| {
        let labels = block.labels(series).to_string();
        let columns = floats(chunks);
        for (time, value) in columns.timestamps.iter().zip(&columns.values) {
            let line = lines.next().expect("promtool dumps as many samples").unwrap();
            let mut parts = line.rsplitn(3, ' ');
            assert_eq!(parts.next().unwrap().parse(), Ok(*time), "{line}");
            let dumped: f64 = parts.next().unwrap().parse().unwrap();
            assert_eq!(dumped.to_bits(), value.to_bits(), "{line}");
            assert_eq!(parts.next(), Some(labels.as_str()));
            count += 1;
        }
    });
    assert!(lines.next().is_none(), "{name}: promtool dumps more");
    assert!(promtool.wait().unwrap().success());
    assert_eq!(count, block.meta.stats.num_float_samples);
    count
}

#[test]
fn every_float_sample_is_the_one_that_promtool_dumps() {
    if !has_promtool() {
        return;
    }
    let folders: Vec<_> = RAW.iter().flat_map(|set| blocks(set)).collect();
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(move || assert!(compare_with_promtool(folder) > 0));
        }
    });
}

#[test]
fn every_block_is_sound() {
    for folder in RAW.iter().chain([&DOWNSAMPLED]).flat_map(|set| blocks(set)) {
        let report = verify(&folder).unwrap();
        assert_eq!(report.faults, Vec::<String>::new(), "{}", folder.display());
        assert!(report.is_sound(), "{}: {report:?}", folder.display());
    }
}

#[test]
fn a_block_written_again_has_the_same_bytes() {
    for folder in RAW.iter().chain([&DOWNSAMPLED]).flat_map(|set| blocks(set)) {
        let block = Block::open(&folder);
        let scratch = Scratch::new(&format!("again-{}", block.meta.ulid));
        let symbols = Symbols::from_sorted(block.index.symbols().iter());
        let mut writer = BlockWriter::create(&scratch.0, block.meta.ulid, symbols).unwrap();
        block.each(|series, chunks| assert_eq!(writer.add_series(&series.labels, chunks).unwrap(), series.series_ref));
        let meta = writer.finish(block.meta.clone()).unwrap();
        let again = scratch.0.join(block.meta.ulid.to_string());
        for file in ["index", "chunks/000001"] {
            assert!(
                fs::read(again.join(file)).unwrap() == fs::read(folder.join(file)).unwrap(),
                "{file} of {folder:?}"
            );
        }
        assert_eq!(meta.stats.num_samples, block.meta.stats.num_samples);
        let files = |meta: &Meta| meta.thanos.as_ref().map(|thanos| thanos.files.clone());
        assert_eq!(files(&meta), files(&block.meta));
    }
}

/// Count, sum, min and max of the raw samples of each window of `resolution` milliseconds.
fn windows(columns: &FloatColumns, resolution: i64) -> BTreeMap<i64, [f64; 4]> {
    let mut windows = BTreeMap::new();
    for (time, value) in columns.timestamps.iter().zip(&columns.values) {
        let window = windows.entry(time.div_euclid(resolution)).or_insert([0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY]);
        *window = [window[0] + 1.0, window[1] + value, window[2].min(*value), window[3].max(*value)];
    }
    windows
}

#[test]
fn every_five_minute_aggregate_is_that_of_the_raw_samples_in_its_window() {
    let Some(raw) = blocks("blocks/long").into_iter().next() else { return };
    let raw = Block::open(&raw);
    let mut expected = BTreeMap::new();
    let resolution = 300_000;
    raw.each(|series, chunks| {
        expected.insert(raw.labels(series), windows(&floats(chunks), resolution));
    });
    let downsampled = blocks(DOWNSAMPLED).into_iter().map(|folder| Block::open(&folder));
    let block = downsampled.into_iter().find(|block| block.meta.resolution().0 == resolution).unwrap();
    let (mut compared, mut native) = (0, 0);
    block.each(|series, chunks| {
        let expected = &expected[&block.labels(series)];
        let mut found: BTreeMap<i64, [f64; 4]> = BTreeMap::new();
        for chunk in chunks {
            assert_eq!(chunk.encoding, Encoding::Aggr);
            let parts = aggr::split(chunk.data).unwrap();
            if parts.get(Aggregate::Min).is_none() {
                native += 1;
                continue;
            }
            for (at, aggregate) in
                [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max].into_iter().enumerate()
            {
                let mut columns = FloatColumns::default();
                xor::decode(parts.get(aggregate).unwrap().data, &mut columns).unwrap();
                for (time, value) in columns.timestamps.iter().zip(&columns.values) {
                    found.entry(time.div_euclid(resolution)).or_default()[at] = *value;
                }
            }
        }
        for (window, aggregates) in &found {
            let raw = expected[window];
            assert_eq!((aggregates[0], aggregates[2], aggregates[3]), (raw[0], raw[2], raw[3]));
            assert!((aggregates[1] - raw[1]).abs() <= raw[1].abs() * 1e-12, "{aggregates:?} {raw:?}");
        }
        assert_eq!(found.len(), expected.len());
        compared += found.len();
    });
    assert!(compared > 200_000 && native > 0, "{compared} windows of floats, {native} chunks of histograms");
}
