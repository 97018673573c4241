//! Jobs of the compactor over blocks on disk, in process, without bucket and upload: what a merge, a
//! downsampling or the reading back takes, for profilers.
//!
//! ```text
//! jobs merge|penalty|downsample|verify <threads> <rounds> <folder of a block>…
//! ```
//! It prints least milliseconds, CPU milliseconds of a round, and the peak of the process' memory. With
//! threads it works on as many cores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::bucket::meta::source;
use engine::compact::{
    DownsampleOptions, MergeOptions, Replicas, SourceBlock, Target, Unwatched, Workers, downsample, merge,
    verify_written,
};
use engine::model::{BlockId, Error, Resolution};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = match words.as_slice() {
        [job, threads, rounds, folders @ ..] if !folders.is_empty() => {
            threads.parse().ok().zip(rounds.parse().ok()).map(|(threads, rounds)| (job, threads, rounds, folders))
        }
        _ => None,
    };
    let Some((job, threads, rounds, folders)) = asked else {
        eprintln!("usage: jobs merge|penalty|downsample|verify <threads> <rounds> <folder of a block>…");
        return ExitCode::FAILURE;
    };
    let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    match run(job, (threads, rounds), &folders) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: &str, (threads, rounds): (usize, u32), folders: &[PathBuf]) -> Result<(), Error> {
    let parent = std::env::temp_dir().join(format!("uru-jobs-{}", std::process::id()));
    let failed = |error: std::io::Error| Error::invalid(format!("{}: {error}", parent.display()));
    let (mut least, begin) = (Duration::MAX, cpu());
    for _ in 0..rounds {
        std::fs::create_dir_all(&parent).map_err(failed)?;
        let begin = Instant::now();
        let done = once(job, threads.saturating_sub(1), folders, &parent);
        least = least.min(begin.elapsed());
        std::fs::remove_dir_all(&parent).map_err(failed)?;
        done?;
    }
    let cpu = cpu().saturating_sub(begin) / rounds.max(1);
    let [least, cpu] = [least, cpu].map(|time| time.as_secs_f64() * 1e3);
    println!("{least:9.1} ms least, {cpu:9.1} ms CPU, {} peak  {job}", peak());
    Ok(())
}

fn once(job: &str, threads: usize, folders: &[PathBuf], parent: &Path) -> Result<(), Error> {
    let workers = Workers::threads(threads);
    let target = |number: usize| Target {
        parent: parent.to_owned(),
        id: BlockId::from_parts(1, number as u128),
        labels: BTreeMap::new(),
        extensions: Default::default(),
        source: source::COMPACTOR,
    };
    let replicas = match job {
        "merge" => Replicas::OneToOne,
        "penalty" => Replicas::Penalty,
        "downsample" => {
            let options = DownsampleOptions { workers, ..DownsampleOptions::default() };
            for (number, folder) in folders.iter().enumerate() {
                let source = SourceBlock::open(folder)?;
                downsample(source, Resolution::FIVE_MINUTES, &target(number), &options, &Unwatched)?;
            }
            return Ok(());
        }
        "verify" => return folders.iter().try_for_each(|folder| verify_written(folder, &workers)),
        _ => return Err(Error::invalid(format!("{job} is no job"))),
    };
    let sources = folders.iter().map(|folder| SourceBlock::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let options = MergeOptions { replicas, workers, ..MergeOptions::default() };
    merge(sources, &target(0), &options, &Unwatched).map(drop)
}

/// Time that the process has been on a CPU.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(10) * ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum::<u32>()
}

/// The most memory that the process has had.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench::blocks::{self, CHUNK_MS, Shape};
    use bench::fleet;
    use bench::folder::Folder;

    #[test]
    fn every_job_runs_over_several_blocks_in_several_rounds() {
        let folder = Folder::new("jobs");
        let labels = fleet::labels(100);
        let write = |seed, shift| blocks::write(folder.path(), &labels, Shape { seed, shift, chunks: 1 });
        let folders = [write(1, 0), write(2, CHUNK_MS)];
        for job in ["merge", "penalty", "downsample", "verify"] {
            run(job, (2, 2), &folders).unwrap();
        }
        assert!(run("nonsense", (1, 1), &folders).is_err());
    }
}
