//! Compactors over copies of the same bucket: uru, a peer when one is named, and a plain copy of the
//! bucket's bytes.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::compare::{self, Row, Runs};
use crate::profile::Profile;
use crate::settings::{Settings, at_least_one};
use crate::side::{CommandLine, Side, free_address, run_to_end};
use crate::usage::Usage;

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
    /// Of blocks that are not downsampled, as their meta.json say.
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
    all.push(Contestant { name: "plain copy", line: None });
    let before = held(&bucket)?;
    let mut after = Vec::new();
    let mut profile = settings.profile.as_ref();
    let runs = compare::interleave(&mut all, args.rounds, |contestant| {
        // One drawing is enough.
        let watched = if contestant.name == "uru" { profile.take() } else { None };
        let (wall, usage, held) = contestant.once(&bucket, watched)?;
        after.push((contestant.name, held));
        Ok((wall, usage.cpu, usage.peak_bytes))
    })?;
    let sides: Vec<(String, Runs)> = all.iter().map(|contestant| contestant.name.to_owned()).zip(runs).collect();
    let told = after.iter().take(all.len()).map(|(name, held)| format!("{name} {held}"));
    let mut answer = format!("{before} became {}", told.collect::<Vec<_>>().join(", "));
    let samples = |after: &[(&str, Held)]| -> Vec<u64> {
        after.iter().filter(|(name, _)| *name != "plain copy").map(|(_, held)| held.samples).collect()
    };
    if samples(&after).windows(2).any(|pair| pair[0] != pair[1]) {
        answer.push_str(": different samples");
    }
    let rows = [Row { question: "compact".into(), answer, sides }];
    settings.tell("compact", &compare::lines(&rows), &compare::table(&rows))
}

impl Contestant {
    /// Compacts a copy of `bucket`, or only copies it: the time, what was used, and what is there then.
    fn once(&self, bucket: &Path, profile: Option<&Profile>) -> Result<(Duration, Usage, Held), String> {
        let scratch: TempDir = Side::scratch()?;
        let copy = scratch.path().join("bucket");
        let copying = CommandLine::parse(&format!("cp -r '{}' '{}'", bucket.display(), copy.display()))?;
        let copied = run_to_end("cp", &copying, scratch.path(), None)?;
        let Some(line) = &self.line else { return Ok((copied.wall, copied.usage, held(&copy)?)) };
        let mut line = line.clone();
        let config = format!("{{type: FILESYSTEM, config: {{directory: '{}'}}}}", copy.display());
        if !line.has_flag(&["objstore.config", "objstore.config-file"]) {
            line.flag("objstore.config", &config);
        }
        line.flag("data-dir", &scratch.path().join("data").display().to_string());
        line.flag("http-address", &free_address()?);
        line.flag("consistency-delay", "0s");
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
            held.samples += samples(&block.join("meta.json")).map_err(failed)?;
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
            std::fs::write(folder.path().join(block).join("chunks/000001"), "12345").unwrap();
        }
        std::fs::write(folder.path().join("b/deletion-mark.json"), "{}").unwrap();
        assert_eq!(held(folder.path()).unwrap(), Held { blocks: 1, bytes: 31, samples: 7 });
    }
}
