//! Long series in the background lane of cores that answer queries: given back again and again, and worked
//! on to the same bytes as in one go.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use engine::block::writer::BlockWriter;
use engine::bucket::Meta;
use engine::bucket::meta::Thanos;
use engine::chunk::native::Appender;
use engine::chunk::{Encoding, xor};
use engine::compact::{
    DownsampleOptions, LANE_UNITS_MAX, MergeOptions, Merged, Replicas, SourceBlock, Target, Unwatched, Workers,
    downsample, merge, verify_written,
};
use engine::index::tsdb::Symbols;
use engine::model::{BlockId, Histogram, Labels, Resolution, Span};
use tests::impatient::impatient;
use tests::random::Random;
use tests::scratch::Scratch;
use tests::written::{Chunk, chunk_data, target};

const STEP_MS: i64 = 30_000;
const CHUNK: usize = 120;

/// Chunks of the series of floats in each block: twelve days and a half.
const FLOAT_CHUNKS: usize = 300;

/// Chunks of the series of native histograms in each block.
const HISTOGRAM_CHUNKS: usize = 25;

/// Units that a decoded chunk of native histograms counts at least.
const HISTOGRAM_UNITS: usize = 128;

fn floats(random: &mut Random, start: i64) -> Vec<Chunk> {
    let mut value = 0.0;
    (0..FLOAT_CHUNKS)
        .map(|chunk| {
            let times: Vec<i64> = (0..CHUNK).map(|at| start + (chunk * CHUNK + at) as i64 * STEP_MS).collect();
            let values: Vec<f64> = times
                .iter()
                .map(|_| {
                    value = if random.below(500) == 0 { 0.0 } else { value + random.below(9) as f64 };
                    value
                })
                .collect();
            let mut data = Vec::new();
            xor::encode(&times, &values, &mut data);
            Chunk { min_time: times[0], max_time: times[CHUNK - 1], encoding: Encoding::Xor, data }
        })
        .collect()
}

fn histograms(random: &mut Random, start: i64) -> Vec<Chunk> {
    let (mut first, mut second) = (0, 0);
    (0..HISTOGRAM_CHUNKS)
        .map(|chunk| {
            let mut appender = Appender::default();
            let times: Vec<i64> = (0..CHUNK).map(|at| start + (chunk * CHUNK + at) as i64 * STEP_MS).collect();
            for time in &times {
                (first, second) = (first + random.below(5) as i64, second + random.below(5) as i64);
                let histogram = Histogram {
                    count: (first + second) as u64,
                    sum: first as f64,
                    positive_spans: vec![Span { offset: 1, length: 2 }],
                    positive_buckets: vec![first, second - first],
                    ..Histogram::default()
                };
                assert!(appender.append(*time, &histogram).is_none());
            }
            Chunk {
                min_time: times[0],
                max_time: times[CHUNK - 1],
                encoding: Encoding::Histogram,
                data: appender.into_data(),
            }
        })
        .collect()
}

/// A block of both series, whose first samples are at `start`.
fn block(parent: &Path, id: u128, start: i64) -> PathBuf {
    let mut random = Random::new(id as u64);
    let id = BlockId::from_parts(1_700_000_000_000, id);
    let mut writer = BlockWriter::create(parent, id, Symbols::from_sorted(["floats", "histograms", "kind"])).unwrap();
    for (kind, chunks) in [("floats", floats(&mut random, start)), ("histograms", histograms(&mut random, start))] {
        writer.add_labels(&Labels::from_pairs([("kind", kind)]), &chunk_data(&chunks)).unwrap();
    }
    let range = writer.time_range().unwrap();
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(id, range.min_time, range.max_time + 1) };
    writer.finish(meta).unwrap();
    parent.join(id.to_string())
}

/// The files of the block that `make` writes with these workers.
fn files(workers: Workers, make: impl Fn(Workers, &Target)) -> (Scratch, [Vec<u8>; 2]) {
    let scratch = Scratch::new("long");
    let target = target(&scratch.0);
    make(workers, &target);
    let folder = scratch.0.join(target.id.to_string());
    verify_written(&folder, &Workers::threads(0)).unwrap();
    let files = ["index", "chunks/000001"].map(|file| fs::read(folder.join(file)).unwrap());
    (scratch, files)
}

/// Checks that `make` writes the same bytes in one go and a bit at a time, in at least `turns_min` turns
/// of a lane's core; gives the folder of the block.
fn check(name: &str, turns_min: usize, make: impl Fn(Workers, &Target)) -> Scratch {
    let (scratch, whole) = files(Workers::threads(0), &make);
    for units in [LANE_UNITS_MAX, 40] {
        let (workers, turns) = impatient(units);
        let (_, parts) = files(workers, &make);
        assert!(parts == whole, "{name}: other bytes by {units} units at a time");
        let (turns, least) = (turns.load(Ordering::Relaxed) as usize, turns_min * LANE_UNITS_MAX / units / 2);
        assert!(turns >= least, "{name}: {turns} turns of {units} units, {least} expected");
    }
    scratch
}

#[test]
fn long_series_are_worked_on_bit_by_bit_to_the_same_bytes() {
    let sources = Scratch::new("long-sources");
    let folders = [block(&sources.0, 1, 0), block(&sources.0, 2, 7_000)];
    let open = |folder: &PathBuf| SourceBlock::open(folder).unwrap();
    // Each chunk of floats counts eight units.
    let units = 2 * (8 * FLOAT_CHUNKS + HISTOGRAM_UNITS * HISTOGRAM_CHUNKS);
    let mut merged = Vec::new();
    for replicas in [Replicas::OneToOne, Replicas::Penalty] {
        let make = |workers: Workers, target: &Target| {
            let options = MergeOptions { replicas, workers, ..MergeOptions::default() };
            let made = merge(folders.iter().map(open).collect(), target, &options, &Unwatched).unwrap();
            assert!(matches!(made, Merged::Block(_)));
        };
        merged.push(check(&format!("{replicas:?}"), units / LANE_UNITS_MAX, make));
    }
    let downsampled = |from: PathBuf, to: Resolution, turns_min: usize| {
        check(&format!("to {to}"), turns_min, move |workers, target| {
            let options = DownsampleOptions { workers, ..DownsampleOptions::default() };
            downsample(open(&from), to, target, &options, &Unwatched).unwrap();
        })
    };
    let written = |scratch: &Scratch| scratch.0.join(target(&scratch.0).id.to_string());
    let five_minutes = downsampled(written(&merged[1]), Resolution::FIVE_MINUTES, units / 2 / LANE_UNITS_MAX);
    let other = downsampled(folders[1].clone(), Resolution::FIVE_MINUTES, units / 2 / LANE_UNITS_MAX);
    downsampled(written(&five_minutes), Resolution::ONE_HOUR, 0);
    // Downsampled replicas are merged too.
    let both = [written(&five_minutes), written(&other)];
    let make = |workers: Workers, target: &Target| {
        let options = MergeOptions { replicas: Replicas::Penalty, workers, ..MergeOptions::default() };
        merge(both.iter().map(open).collect(), target, &options, &Unwatched).unwrap();
    };
    check("downsampled replicas", 0, make);
}
