//! All measurements as one page with plots, and as JSON lines: each is this program again, run by
//! its subcommand, so that every figure can be had alone.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use page::Section;
use plot::{Line, Plot};

/// The page.
mod page;
/// Plots.
mod plot;

/// Series of the blocks by which growth is shown; each is asked when it is not over `--series-max`.
const SCALES: [usize; 7] = [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];

/// Series of the block on which sides are compared.
const COMPARED_SERIES: usize = 100_000;

/// Questions by which growth is shown.
const GROWTH: [&str; 3] = ["everything", "everything, no chunks", "metric, all pods"];

/// What to measure and where to write it.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the page, `index.html`, and the figures, `results.jsonl`; made when it is not there.
    #[arg(long, default_value = "target/report")]
    out: PathBuf,
    /// Folder for generated blocks; those that are there from an earlier run are used again.
    #[arg(long, default_value = "target/report-data")]
    data: PathBuf,
    /// Most series of a generated block.
    #[arg(long, default_value_t = 1_000_000)]
    series_max: usize,
    /// A Thanos program to compare with.
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// How often each side is asked each question.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// Figures of one side for one question: medians unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What was asked.
    pub question: String,
    /// What the answer held.
    pub answer: String,
    /// Who was asked.
    pub side: String,
    /// Series of the data, where that is what changes; otherwise 0.
    pub scale: usize,
    /// Least time in milliseconds.
    pub wall_min_ms: f64,
    /// Time in milliseconds.
    pub wall_ms: f64,
    /// CPU time in milliseconds.
    pub cpu_ms: f64,
    /// Most memory in MiB.
    pub peak_mib: f64,
}

/// Where it was measured.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Of the sources, when git knows it.
    pub commit: String,
    /// Model of the processor.
    pub cpu: String,
    /// Number of cores.
    pub cores: usize,
    /// Memory.
    pub memory_gib: f64,
    /// Version of the kernel.
    pub kernel: String,
}

/// Measures everything and writes the page.
pub fn run(args: &Args) -> Result<(), String> {
    let machine = Machine::this();
    let sections = vec![growth(args)?, stores(args)?];
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let page = args.out.join("index.html");
    fs::write(&page, page::html(&machine, &sections)).map_err(|error| format!("{}: {error}", page.display()))?;
    write_figures(&args.out.join("results.jsonl"), &machine, &sections)?;
    println!("{}", page.display());
    Ok(())
}

fn write_figures(path: &Path, machine: &Machine, sections: &[Section]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = fs::File::create(path).map_err(failed)?;
    for section in sections {
        for record in &section.records {
            let line = json!({
                "section": section.title, "question": record.question, "answer": record.answer, "side": record.side,
                "scale": record.scale, "wall_min_ms": record.wall_min_ms, "wall_ms": record.wall_ms,
                "cpu_ms": record.cpu_ms, "peak_mib": record.peak_mib, "commit": machine.commit, "cpu": machine.cpu,
                "cores": machine.cores,
            });
            writeln!(file, "{line}").map_err(failed)?;
        }
    }
    Ok(())
}

/// How cost grows with the number of series, of uru alone.
fn growth(args: &Args) -> Result<Section, String> {
    let mut records = Vec::new();
    for series in SCALES.into_iter().filter(|series| *series <= args.series_max) {
        let bucket = generated(args, series, "60s")?;
        let words = ["store", "--json", "--bucket", &bucket, "--rounds", &args.rounds.to_string(), "--only", ""];
        for record in measured(&words.map(str::to_owned))? {
            if record.side == "uru" && GROWTH.contains(&record.question.as_str()) {
                records.push(Record { scale: series, ..record });
            }
        }
    }
    let plot = |title: &str, y, figure: fn(&Record) -> f64| Plot {
        title: title.to_owned(),
        x: "series in the block",
        y,
        lines: GROWTH.iter().map(|question| line(question, &records, figure)).collect(),
    };
    let plots = vec![
        plot("Time of an answer", "ms", |record| record.wall_ms),
        plot("CPU of an answer", "ms", |record| record.cpu_ms),
        plot("Memory at most", "MiB", |record| record.peak_mib),
    ];
    Ok(Section {
        title: "Growth with the number of series".into(),
        text: "Two hours at a sample a minute in one block; StoreAPI on loopback; pages in the system's cache; each \
               question is warmed up for half a second."
            .into(),
        command: "perf blocks --interval 60s --label cluster=c1 --series N --out DIR; perf store --bucket DIR".into(),
        records,
        plots,
    })
}

/// Store gateways beside each other.
fn stores(args: &Args) -> Result<Section, String> {
    let bucket = generated(args, COMPARED_SERIES.min(args.series_max), "15s")?;
    let mut words: Vec<String> = ["store", "--json", "--bucket", &bucket].map(str::to_owned).to_vec();
    words.extend(["--rounds".to_owned(), args.rounds.to_string()]);
    if let Some(thanos) = &args.thanos {
        words.extend(["--peer-cmd".to_owned(), format!("'{}' store", thanos.display())]);
    }
    Ok(Section {
        title: "Store gateway".into(),
        text: "Two hours at a sample each 15 s in one block; the same series, chunks and samples are in every side's \
               answer, which is checked before timing; warmed up; pages in the system's cache. The side called copy \
               sends the answer's bytes from memory through the same stack."
            .into(),
        command: format!("perf {}", words.join(" ")),
        records: measured(&words)?,
        plots: Vec::new(),
    })
}

fn line(question: &str, records: &[Record], figure: fn(&Record) -> f64) -> Line {
    let of_question = records.iter().filter(|record| record.question == question);
    let points = of_question.map(|record| (record.scale as f64, figure(record))).filter(|point| point.1 > 0.0);
    Line { name: question.to_owned(), points: points.collect() }
}

/// The bucket with one generated block of `series`; made unless it is there.
fn generated(args: &Args, series: usize, interval: &str) -> Result<String, String> {
    let bucket = args.data.join(format!("{series}-{interval}"));
    let path = bucket.display().to_string();
    if !bucket.join("whole").is_file() {
        let size = series.to_string();
        let words = ["blocks", "--out", &path, "--series", &size, "--interval", interval, "--label", "cluster=c1"];
        own(&words.map(str::to_owned))?;
        fs::write(bucket.join("whole"), "").map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(path)
}

/// The figures that this program prints when it is run with `words`.
fn measured(words: &[String]) -> Result<Vec<Record>, String> {
    own(words)?.lines().map(|line| Record::parse(line).ok_or_else(|| format!("no figures: {line}"))).collect()
}

/// What this program prints when it is run with `words`.
fn own(words: &[String]) -> Result<String, String> {
    eprintln!("perf {}", words.join(" "));
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let ran = Command::new(program).args(words).stderr(std::process::Stdio::inherit()).output();
    let output = ran.map_err(|error| format!("perf {}: {error}", words.join(" ")))?;
    if !output.status.success() {
        return Err(format!("perf {}: {}", words.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Record {
    /// A line as `perf … --json` prints it.
    fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
        let spread = |key: &str, part: &str| line.get(key)?.get(part)?.as_f64();
        Some(Self {
            question: text("question")?,
            answer: text("answer")?,
            side: text("side")?,
            scale: 0,
            wall_min_ms: spread("wall_ms", "min")?,
            wall_ms: spread("wall_ms", "median")?,
            cpu_ms: spread("cpu_ms", "median")?,
            peak_mib: line.get("peak_mib")?.as_f64()?,
        })
    }
}

impl Machine {
    /// The one that this runs on.
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
        };
        let kib: f64 =
            after(&read("/proc/meminfo"), "MemTotal").split(' ').next().unwrap_or_default().parse().unwrap_or_default();
        let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        Self {
            commit: commit.map_or_else(|_| String::new(), |git| String::from_utf8_lossy(&git.stdout).trim().to_owned()),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_printed_can_be_read() {
        let line = r#"{"question":"q","answer":"a","side":"uru","runs":3,"wall_ms":{"min":1.0,"median":2.0},"cpu_ms":{"min":0.5,"median":0.75},"peak_mib":12.5}"#;
        let record = Record::parse(line).unwrap();
        assert_eq!((record.wall_ms, record.cpu_ms, record.peak_mib), (2.0, 0.75, 12.5));
        assert_eq!(Record::parse("asked: everything"), None);
    }
}
