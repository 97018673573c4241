//! Blocks shaped like a Kubernetes fleet, with the labels and kinds of values that upstream is
//! measured on: a hundred series a pod, of which 42 make up three classic histograms.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::meta::{Thanos, source};
use engine::bucket::{GoTime, Meta, name};
use engine::index::tsdb::SymbolRef;
use engine::model::{BlockId, Error};

use crate::random::Random;
use fleet::{Fleet, Series};
use samples::{Encoded, Scrapes};

/// Pods and their series.
mod fleet;
/// Values of series over time, encoded.
mod samples;

/// Series that are encoded at once, by all cores.
const BATCH: usize = 16_384;

/// What to write.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the blocks; made when it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Number of series, rounded down to whole pods of a hundred.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Time between scrapes.
    #[arg(long, default_value = "15s", value_parser = duration_ms)]
    interval: i64,
    /// Length of a block.
    #[arg(long, default_value = "2h", value_parser = duration_ms)]
    block: i64,
    /// Number of consecutive blocks.
    #[arg(long, default_value_t = 1)]
    blocks: u64,
    /// Start of the first block, Unix milliseconds.
    #[arg(long, default_value_t = 1_789_984_800_000)]
    start: i64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Part of the plain metrics that are native histograms.
    #[arg(long, default_value_t = 0.0)]
    native: f64,
    /// Part of the pods that are replaced from block to block.
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// Milliseconds by which scrapes are late at most.
    #[arg(long, default_value_t = 8)]
    jitter: i64,
    /// How often each block is there, under another id each time; all share their files.
    #[arg(long, default_value_t = 1)]
    copies: u64,
    /// External label, `name=value`; given at all, meta.json gets its section for Thanos.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// Writes the blocks and prints id and number of samples of each.
pub fn run(args: &Args) -> Result<(), Error> {
    std::fs::create_dir_all(&args.out).map_err(|error| Error::invalid(format!("{}: {error}", args.out.display())))?;
    if args.interval <= 0 || args.block <= args.jitter || args.jitter < 0 {
        return Err(Error::invalid("interval and block must be positive, and a block longer than the jitter"));
    }
    let mut fleet = Fleet::new(args.series, args.native, args.seed);
    for number in 0..args.blocks {
        if number > 0 {
            fleet.churn(args.churn, number);
        }
        let start = args.start + number as i64 * args.block;
        let scrapes = Scrapes {
            start,
            end: start + args.block - args.jitter,
            interval: args.interval,
            jitter: args.jitter,
            seed: args.seed,
        };
        let meta = write(&args.out, &mut fleet, &scrapes, args)?;
        println!("{} {}", meta.ulid, meta.stats.num_samples);
        for copy in 1..args.copies {
            link(&args.out, &meta, copy).map_err(|error| Error::invalid(format!("{}: {error}", args.out.display())))?;
        }
    }
    Ok(())
}

/// The block `meta` under another id: its index and segments are links.
fn link(out: &Path, meta: &Meta, copy: u64) -> std::io::Result<()> {
    let entropy = Random::new(&[meta.ulid.0 as u64, copy]).next();
    let id = BlockId::from_parts(meta.max_time as u64, u128::from(entropy));
    let (from, to) = (out.join(meta.ulid.to_string()), out.join(id.to_string()));
    std::fs::create_dir_all(to.join(name::CHUNKS))?;
    std::fs::hard_link(from.join(name::INDEX), to.join(name::INDEX))?;
    for segment in std::fs::read_dir(from.join(name::CHUNKS))? {
        let segment = segment?;
        std::fs::hard_link(segment.path(), to.join(name::CHUNKS).join(segment.file_name()))?;
    }
    let text = std::fs::read_to_string(from.join(name::META))?;
    std::fs::write(to.join(name::META), text.replace(&meta.ulid.to_string(), &id.to_string()))
}

fn write(out: &Path, fleet: &mut Fleet, scrapes: &Scrapes, args: &Args) -> Result<Meta, Error> {
    let entropy = Random::new(&[args.seed, scrapes.start as u64, args.series as u64]).next();
    let id = BlockId::from_parts(scrapes.end as u64, u128::from(entropy));
    let (symbols, places) = fleet.symbols();
    let mut order: Vec<(LabelRefs, &mut Series)> =
        fleet.series_mut().map(|series| (series.labels(&places), series)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut writer = BlockWriter::create(out, id, symbols)?;
    for batch in order.chunks_mut(BATCH) {
        for (labels, encoded) in encode(batch, scrapes) {
            let chunks: Vec<ChunkData<'_>> = encoded.iter().collect();
            writer.add_series(labels, &chunks)?;
        }
    }
    let range = writer.time_range().ok_or_else(|| Error::invalid("there is no scrape in a block"))?;
    let meta = Meta { thanos: thanos(&args.labels), ..Meta::new(id, range.min_time, range.max_time + 1) };
    writer.finish(meta)
}

/// Labels of a series as the block's symbols.
type LabelRefs = Box<[(SymbolRef, SymbolRef)]>;

/// Encodes a batch on all cores.
fn encode<'a>(batch: &'a mut [(LabelRefs, &mut Series)], scrapes: &Scrapes) -> Vec<(&'a LabelRefs, Encoded)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part_len = batch.len().div_ceil(threads);
    let encode_part = |part: &'a mut [(LabelRefs, &mut Series)]| -> Vec<_> {
        part.iter_mut().map(|(labels, series)| (&*labels, samples::encode(series, scrapes))).collect()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = batch.chunks_mut(part_len).map(|part| scope.spawn(move || encode_part(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("encoding a series does not panic")).collect()
    })
}

fn thanos(labels: &[(String, String)]) -> Option<Thanos> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
    (!labels.is_empty()).then(|| Thanos {
        labels: labels.iter().cloned().collect(),
        source: source::SIDECAR.to_owned(),
        upload_time: GoTime::from_unix_nanos(now),
        ..Thanos::default()
    })
}

/// Milliseconds of a duration such as `15s` or `2h`.
fn duration_ms(text: &str) -> Result<i64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} is not a number and one of ms, s, m, h, d")),
    };
    let number: i64 = number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is too long"))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not name=value"))?;
    Ok((name.to_owned(), value.trim_matches('"').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        assert_eq!(duration_ms("15s"), Ok(15_000));
        assert_eq!(duration_ms("2h"), Ok(7_200_000));
        for text in ["", "s", "1", "1y", "99999999999999999d"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_block_is_written_and_sound() {
        let out = std::env::temp_dir().join(format!("uru-perf-blocks-{}", std::process::id()));
        let args = Args {
            out: out.clone(),
            series: 300,
            interval: 60_000,
            block: 7_200_000,
            blocks: 2,
            start: 1_789_984_800_000,
            seed: 7,
            native: 0.3,
            churn: 0.5,
            jitter: 8,
            copies: 2,
            labels: vec![("cluster".to_owned(), "c1".to_owned())],
        };
        run(&args).unwrap();
        let mut folders: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        assert_eq!(folders.len(), 4);
        for folder in &folders {
            let report = engine::block::verify::verify(folder).unwrap();
            assert!(report.is_sound(), "{report:?}");
            assert_eq!((report.health.series, report.samples), (300, 300 * 120));
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
}
