//! Compactors over copies of the same bucket: uru, a peer when one is named, and a plain copy of the
//! bucket's bytes. What they leave is held against what there was: samples are counted in the chunks themselves.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::compare::{self, Row, Runs};
use crate::profile::Profile;
use crate::settings::{Settings, at_least_one};
use crate::side::{CommandLine, Side, free_address, run_to_end};
use crate::usage::Usage;

/// Samples in chunks.
mod chunks;

/// What is compacted how.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the bucket: blocks with a section `thanos` in their meta.json, as
    /// `perf blocks --label cluster=c1` writes them. It is copied and stays as it is.
    #[arg(long)]
    bucket: std::path::PathBuf,
    /// A Thanos program, whose `compact` is compared with.
    #[arg(long)]
    thanos: Option<std::path::PathBuf>,
    /// Command line of another peer, for example "thanos compact". Flags for its bucket, its folder and its
    /// address are added unless it says them.
    #[arg(long)]
    peer_cmd: Option<String>,
    /// Command line of uru; otherwise the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// More flags for all, in quotes, for example "--deduplication.replica-label=replica".
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flags: String,
    /// How often each compacts.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
}

/// Flag that says which bucket there is.
const OBJSTORE: &str = "objstore.config";

/// Name of the plain copy.
const COPY: &str = "plain copy";

/// Flags that let samples go: copies of the same, and what is too old.
const LOSSY: [&str; 3] = ["--deduplication.", "--retention.", "--compact.enable-vertical-compaction"];

/// Whether flags let samples go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Refused,
    AskedFor,
}

/// One compactor, or the plain copy.
struct Contestant {
    name: &'static str,
    line: Option<CommandLine>,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Held {
    blocks: usize,
    bytes: u64,
    /// Of blocks that are not downsampled, as their meta.json say and their chunks hold.
    samples: u64,
}

/// Runs the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let bucket = args.bucket.canonicalize().map_err(|error| format!("{}: {error}", args.bucket.display()))?;
    let flags = CommandLine::parse(&format!("flags {}", args.flags))?;
    let mut all = Vec::new();
    let mut add = |name, line: CommandLine| {
        all.push(Contestant { name, line: Some(line.with(flags.arguments().iter().cloned())) });
    };
    add("uru", CommandLine::uru(args.uru_cmd.as_deref(), &["compact"])?);
    if let Some(program) = &args.thanos {
        add("thanos", CommandLine::of(program, &["compact"]));
    }
    if let Some(line) = &args.peer_cmd {
        add("peer", CommandLine::parse(line)?);
    }
    all.push(Contestant { name: COPY, line: None });
    let before = held(&bucket)?;
    eprintln!("every side compacts a copy that was just written: pages are warm, programs start with nothing");
    let loss = Loss::of(&all);
    all.iter().take(1).filter_map(|uru| uru.line.as_ref()).for_each(|line| ask_revision(line, settings));
    let mut after: Vec<(&str, Held)> = Vec::new();
    let mut profile = settings.profile.as_ref();
    let runs = compare::interleave(&mut all, args.rounds, |contestant| {
        // One drawing is enough.
        let watched = if contestant.name == "uru" { profile.take() } else { None };
        let (wall, usage, held) = contestant.once(&bucket, watched)?;
        let first = after.first().map(|(_, held)| *held);
        check(contestant.name, loss, (before, first), held)?;
        after.push((contestant.name, held));
        Ok((wall, usage.cpu, usage.peak_bytes))
    })?;
    let sides: Vec<(String, Runs)> = all.iter().map(|contestant| contestant.name.to_owned()).zip(runs).collect();
    let told = after.iter().take(all.len()).map(|(name, held)| format!("{name} {held}"));
    let answer = format!("{before} became {}", told.collect::<Vec<_>>().join(", "));
    let rows = [Row { question: "compact".into(), answer, sides }];
    settings.tell("compact", &compare::lines(&rows), &compare::table(&rows))
}

impl Loss {
    /// What the command lines ask for.
    fn of(all: &[Contestant]) -> Self {
        let mut words = all.iter().filter_map(|contestant| contestant.line.as_ref()).flat_map(CommandLine::arguments);
        let is_lossy = words.any(|word| LOSSY.iter().any(|start| word.starts_with(*start)));
        if is_lossy { Self::AskedFor } else { Self::Refused }
    }
}

/// Refuses what a side has left of `before` when samples are gone: all must be there, or where flags let some go,
/// as many as the first has left, which is uru. Nor may a side leave all blocks where the first compacted some.
fn check(name: &str, loss: Loss, (before, first): (Held, Option<Held>), after: Held) -> Result<(), String> {
    let expected = match (loss, first) {
        (Loss::AskedFor, Some(first)) if name != COPY => first.samples,
        (Loss::AskedFor, None) => after.samples.max(1),
        _ => before.samples,
    };
    if first.is_some_and(|first| first.blocks != before.blocks) && name != COPY && after.blocks == before.blocks {
        return Err(format!("compact: {name} left {before} as they were"));
    }
    if after.samples == expected {
        return Ok(());
    }
    Err(format!("compact: {name} made {after} of {before}, where {expected} samples are to be left"))
}

/// Starts uru over an empty bucket, where it waits, to ask of which commit it is: when it is timed it ends too soon.
/// What is wrong with it is told when it is timed.
fn ask_revision(line: &CommandLine, settings: &Settings) {
    let waiting = || -> Result<(Side, String), String> {
        let scratch = Side::scratch()?;
        let bucket = scratch.path().join("empty");
        std::fs::create_dir(&bucket).map_err(|error| format!("{}: {error}", bucket.display()))?;
        let (line, http) = over(&bucket, line.clone().with(["--wait".to_owned()]), scratch.path())?;
        let mut side = Side::start("uru", &line, scratch)?;
        side.wait_ready(&http, "/-/ready")?;
        Ok((side, http))
    };
    // A bucket that the command line names itself is left alone.
    if !line.has_flag(&[OBJSTORE, "objstore.config-file", "wait"])
        && let Ok((_side, http)) = waiting()
    {
        settings.ask_revision(&http);
    }
}

/// A compactor's command line over `bucket`, with its files in `scratch`, and the address where it serves HTTP.
fn over(bucket: &Path, mut line: CommandLine, scratch: &Path) -> Result<(CommandLine, String), String> {
    let config = format!("{{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    if !line.has_flag(&[OBJSTORE, "objstore.config-file"]) {
        line.flag(OBJSTORE, &config);
    }
    line.flag("data-dir", &scratch.join("data").display().to_string());
    let http = line.flag("http-address", &free_address()?);
    line.flag("consistency-delay", "0s");
    Ok((line, http))
}

impl Contestant {
    /// Compacts a copy of `bucket`, or only copies it: the time, what was used, and what is there then.
    fn once(&self, bucket: &Path, profile: Option<&Profile>) -> Result<(Duration, Usage, Held), String> {
        let scratch: TempDir = Side::scratch()?;
        let copy = scratch.path().join("bucket");
        let copying = CommandLine::parse(&format!("cp -r '{}' '{}'", bucket.display(), copy.display()))?;
        let copied = run_to_end("cp", &copying, scratch.path(), None)?;
        let Some(line) = &self.line else { return Ok((copied.wall, copied.usage, held(&copy)?)) };
        let (line, _) = over(&copy, line.clone(), scratch.path())?;
        let finished = run_to_end(self.name, &line, scratch.path(), profile.map(|profile| (profile, "compact")))?;
        Ok((finished.wall, finished.usage, held(&copy)?))
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(f, "{mib:.1} MiB in {} blocks, {} samples", self.blocks, self.samples)
    }
}

/// The blocks of a bucket that are not marked for deletion, and their bytes.
fn held(bucket: &Path) -> Result<Held, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", bucket.display());
    let mut held = Held::default();
    for entry in std::fs::read_dir(bucket).map_err(failed)? {
        let block = entry.map_err(failed)?.path();
        if block.join("meta.json").is_file() && !block.join("deletion-mark.json").is_file() {
            held.blocks += 1;
            held.bytes += size(&block).map_err(failed)?;
            let samples = samples(&block.join("meta.json")).map_err(failed)?;
            let found = if samples > 0 { chunks::samples(&block.join("chunks"))? } else { 0 };
            if found != samples {
                return Err(format!("{}: {found} samples are there, {samples} should be", block.display()));
            }
            held.samples += samples;
        }
    }
    Ok(held)
}

/// Samples that a meta.json tells of; none of a downsampled block, which has aggregates.
fn samples(path: &Path) -> std::io::Result<u64> {
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let resolution = meta.pointer("/thanos/downsample/resolution").and_then(serde_json::Value::as_u64);
    let samples = meta.pointer("/stats/numSamples").and_then(serde_json::Value::as_u64);
    Ok(if resolution.unwrap_or(0) > 0 { 0 } else { samples.unwrap_or(0) })
}

fn size(path: &Path) -> std::io::Result<u64> {
    let found = std::fs::metadata(path)?;
    if !found.is_dir() {
        return Ok(found.len());
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_without_a_mark_count() {
        let folder = TempDir::new().unwrap();
        for block in ["a", "b"] {
            std::fs::create_dir_all(folder.path().join(block).join("chunks")).unwrap();
            let meta = r#"{"stats":{"numSamples":7}}"#;
            std::fs::write(folder.path().join(block).join("meta.json"), meta).unwrap();
            std::fs::write(folder.path().join(block).join("chunks/000001"), chunks::segment(&[3, 4])).unwrap();
        }
        std::fs::write(folder.path().join("b/deletion-mark.json"), "{}").unwrap();
        assert_eq!(held(folder.path()).unwrap(), Held { blocks: 1, bytes: 26 + 8 + 2 * 8, samples: 7 });
        std::fs::write(folder.path().join("a/chunks/000001"), chunks::segment(&[3])).unwrap();
        let why = held(folder.path()).unwrap_err();
        assert!(why.ends_with("/a: 3 samples are there, 7 should be"), "{why}");
    }

    #[test]
    fn a_side_that_loses_samples_is_named() {
        let of = |samples: u64| Held { blocks: 1, bytes: 1, samples };
        let checked = |name: &str, first: Option<u64>, after: u64, loss: Loss| {
            check(name, loss, (of(12), first.map(of)), of(after))
        };
        assert_eq!(checked("uru", None, 12, Loss::Refused), Ok(()));
        assert_eq!(checked("peer", Some(12), 12, Loss::Refused), Ok(()));
        for why in [checked("uru", None, 1, Loss::Refused), checked("uru", None, 0, Loss::AskedFor)] {
            assert!(why.clone().unwrap_err().contains("uru made "), "{why:?}");
        }
        for why in [checked("peer", Some(12), 1, Loss::Refused), checked("peer", Some(6), 5, Loss::AskedFor)] {
            assert!(why.clone().unwrap_err().contains("peer made "), "{why:?}");
        }
        assert_eq!(checked("uru", None, 6, Loss::AskedFor), Ok(()));
        assert_eq!(checked("peer", Some(6), 6, Loss::AskedFor), Ok(()));
        assert_eq!(checked(COPY, Some(6), 12, Loss::AskedFor), Ok(()));
        let compacted = Held { blocks: 2, ..of(12) };
        let untouched = Held { blocks: 9, ..of(12) };
        let idle = check("peer", Loss::Refused, (untouched, Some(compacted)), untouched).unwrap_err();
        assert!(idle.contains("peer left ") && idle.ends_with(" as they were"), "{idle}");
        assert_eq!(check(COPY, Loss::Refused, (untouched, Some(compacted)), untouched), Ok(()));
    }

    #[test]
    fn flags_of_any_side_let_samples_go() {
        let of = |text: &str| Loss::of(&[Contestant { name: "uru", line: Some(CommandLine::parse(text).unwrap()) }]);
        assert_eq!(of("uru compact --compact.concurrency=2"), Loss::Refused);
        assert_eq!(of("uru compact --deduplication.replica-label=replica"), Loss::AskedFor);
        assert_eq!(of("uru compact --retention.resolution-raw 5d"), Loss::AskedFor);
        assert_eq!(Loss::of(&[Contestant { name: COPY, line: None }]), Loss::Refused);
    }
}
