//! All measurements as one page with plots, and as JSON lines: each is this program again, run by
//! its subcommand, so that every figure can be had alone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::profile::Profile;
use crate::program;
use crate::settings::Settings;

use page::Section;
use plane::{Data, PLANES, Plane};
use record::Record;

/// The page.
mod page;
/// What is measured.
mod plane;
/// Plots.
mod plot;
/// Figures.
mod record;

/// Series of the data by which growth is shown; each is used when it is not over `--series-max`.
const SCALES: [usize; 7] = [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];

/// Most series of data over which all questions are asked, rather than those that show growth.
const COMPARED_SERIES: usize = 100_000;

/// Series from which on growth is only sampled: fewer samples of each series, fewer rounds, uru alone.
const SAMPLED_SERIES: usize = 1_000_001;

/// What this program's complaint begins with.
const OWN: &str = "perf: ";

/// Rounds where growth is only sampled.
const SAMPLED_ROUNDS: usize = 2;

/// What to measure and where to write it.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the page, `index.html`, and the figures, `results.jsonl`; made when it is not there.
    #[arg(long, default_value = "target/report")]
    out: PathBuf,
    /// Folder for generated blocks; those that are there from an earlier run are used again.
    #[arg(long, default_value = "target/report-data")]
    data: PathBuf,
    /// Most series of the data: 1000000 takes an hour, and more is only sampled.
    #[arg(long, default_value_t = 100_000)]
    series_max: usize,
    /// How often each side is asked each question, and compacts or takes requests half as often.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this measurement: store, query, receive or compact; may repeat.
    #[arg(long)]
    only: Vec<String>,
    /// A Thanos program to compare with.
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// A Prometheus program to compare with; otherwise that of the search path.
    #[arg(long)]
    prometheus: Option<PathBuf>,
    /// A VictoriaMetrics program to compare with; otherwise that of the search path.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// The program of uru; otherwise the one beside this, which is built first when cargo runs this.
    #[arg(long)]
    uru: Option<PathBuf>,
}

/// Who is measured.
struct Programs {
    uru: PathBuf,
    /// Flag names of peers, and their programs.
    peers: Vec<(&'static str, PathBuf)>,
    /// Peers that are not there, and how they would be.
    absent: Vec<String>,
}

/// Measures everything and writes the page.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    if let Some(unknown) = args.only.iter().find(|name| PLANES.iter().all(|plane| plane.name != **name)) {
        return Err(format!("--only={unknown}: there are store, query, receive and compact"));
    }
    if args.series_max < SCALES[0] {
        let (given, least) = (args.series_max, SCALES[0]);
        return Err(format!("--series-max={given}: nothing would be measured; the smallest data has {least} series"));
    }
    let programs = Programs::find(args)?;
    programs.check()?;
    programs.absent.iter().for_each(|absent| eprintln!("left out: {absent}"));
    let mut sections = Vec::new();
    for plane in PLANES.iter().filter(|plane| args.only.is_empty() || args.only.iter().any(|name| name == plane.name)) {
        sections.push(measured(args, settings, &programs, plane)?);
    }
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, error))?;
    let (page, results) = (args.out.join("index.html"), args.out.join("results.jsonl"));
    let notes: Vec<String> = programs.notes().into_iter().chain(settings.profile.as_ref().map(drawn)).collect();
    fs::write(&page, page::html(settings.machine(), &notes, &sections)).map_err(|error| failed(&page, error))?;
    write_figures(&results, settings, &sections).map_err(|error| failed(&results, error))?;
    settings.tell_page(&page, &results)
}

/// What the page says of a run whose scenarios were drawn.
fn drawn(profile: &Profile) -> String {
    let folder = profile.folder.display();
    format!("uru was watched while it was measured, which costs it time; a flame graph of every scenario: {folder}")
}

fn write_figures(path: &Path, settings: &Settings, sections: &[Section]) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    for section in sections {
        for record in &section.records {
            writeln!(file, "{}", record.json(section.plane.name, settings.machine()))?;
        }
    }
    Ok(())
}

impl Programs {
    fn find(args: &Args) -> Result<Self, String> {
        let uru = args.uru.clone().map_or_else(program::built_uru, Ok)?;
        let (mut peers, mut absent) = (Vec::new(), Vec::new());
        match &args.thanos {
            Some(thanos) => peers.push(("thanos", thanos.clone())),
            None => absent.push("thanos: name a program with --thanos".to_owned()),
        }
        for (name, given) in [("prometheus", &args.prometheus), ("victoria-metrics", &args.victoria_metrics)] {
            match given.clone().or_else(|| program::on_path(name)) {
                Some(path) => peers.push((name, path)),
                None => absent.push(format!("{name}: install Debian's package, or name a program with --{name}")),
            }
        }
        Ok(Self { uru, peers, absent })
    }

    /// Refuses peers that can't be started, before anything is measured without them.
    fn check(&self) -> Result<(), String> {
        let gone = self.peers.iter().find(|(_, path)| program::version(path).is_none() && !path.is_file());
        gone.map_or(Ok(()), |(name, path)| Err(format!("--{name}={}: there is no such program", path.display())))
    }

    /// Who is compared with over `scale` series.
    fn peers_of(&self, plane: &Plane, scale: usize) -> Vec<(&'static str, PathBuf)> {
        let is_compared = |(name, _): &&(&'static str, PathBuf)| scale < SAMPLED_SERIES && plane.peers.contains(name);
        self.peers.iter().filter(is_compared).cloned().collect()
    }

    /// Who was compared with, and who was not, for the page.
    fn notes(&self) -> Vec<String> {
        let version = |(name, path): &(&str, PathBuf)| {
            let version = program::version(path).unwrap_or_else(|| "a program that tells no version".to_owned());
            format!("Compared with {name}: {version}")
        };
        let absent = self.absent.iter().map(|absent| format!("Left out: {absent}"));
        self.peers.iter().map(version).chain(absent).collect()
    }
}

/// Runs a measurement over data of all sizes.
fn measured(args: &Args, settings: &Settings, programs: &Programs, plane: &'static Plane) -> Result<Section, String> {
    let scales = SCALES.into_iter().filter(|series| *series <= args.series_max);
    let mut section = Section { plane, commands: Vec::new(), broken: Vec::new(), records: Vec::new() };
    for scale in scales {
        let mut peers = programs.peers_of(plane, scale);
        let run = |peers: &[(&'static str, PathBuf)]| {
            let words = words(args, (&programs.uru, peers), plane, scale)?;
            let with_flags = [words.clone(), vec!["--json".to_owned()], settings.flags_again(scale)].concat();
            Ok::<_, String>((shown(&words), own(&with_flags)?))
        };
        let (command, lines) = loop {
            match run(&peers) {
                // A peer that ends by itself takes no figure of uru and of other peers with it.
                Err(why) if !peers.is_empty() => {
                    peers = others(&peers, &why);
                    eprintln!("again without who failed: {why}");
                    section.broken.push(why);
                }
                outcome => break outcome?,
            }
        };
        section.commands.push(command);
        for line in lines.lines() {
            let record = Record::parse(line, scale).ok_or_else(|| format!("no figures: {line}"))?;
            record.commit().iter().for_each(|commit| settings.note_revision(commit));
            section.records.push(record);
        }
    }
    Ok(section)
}

/// The peers that `why`, the complaint of a run, does not name; none of them when it names none.
fn others(peers: &[(&'static str, PathBuf)], why: &str) -> Vec<(&'static str, PathBuf)> {
    // Before that is the command line, which names all.
    let complaint = why.rsplit_once(OWN).map_or(why, |(_, complaint)| complaint);
    let (named, others): (Vec<_>, Vec<_>) = peers.iter().cloned().partition(|(name, _)| complaint.contains(name));
    if named.is_empty() { Vec::new() } else { others }
}

/// The words with which this program measures `plane` over `scale` series.
fn words(
    args: &Args,
    (uru, peers): (&Path, &[(&str, PathBuf)]),
    plane: &Plane,
    scale: usize,
) -> Result<Vec<String>, String> {
    let is_sampled = scale >= SAMPLED_SERIES;
    let mut words = vec![plane.name.to_owned()];
    match plane.data {
        Data::Requests => words.extend(["--series".to_owned(), scale.to_string()]),
        Data::Blocks { flag, count, label } => {
            words.extend([flag.to_owned(), generated(args, (scale, count), label)?]);
        }
    }
    let rounds = if plane.name == "compact" { args.rounds.div_ceil(2) } else { args.rounds };
    let rounds = if is_sampled { SAMPLED_ROUNDS } else { rounds };
    words.extend(["--rounds".to_owned(), rounds.to_string()]);
    let component = if plane.name == "query" { "all-in-one --no-self-scrape" } else { plane.name };
    words.extend(["--uru-cmd".to_owned(), format!("'{}' {component}", uru.display())]);
    for (name, path) in peers {
        words.extend([format!("--{name}"), path.display().to_string()]);
    }
    if plane.name == "query" {
        words.push("--differing=noted".to_owned());
    }
    if scale > COMPARED_SERIES && !plane.only.is_empty() {
        words.extend(plane.growth.iter().flat_map(|question| [plane.only.to_owned(), (*question).to_owned()]));
    }
    Ok(words)
}

/// The bucket with generated blocks of `scale` series; made unless it is there.
fn generated(args: &Args, (scale, count): (usize, usize), label: &str) -> Result<String, String> {
    let interval = if scale >= SAMPLED_SERIES { "10m" } else { "1m" };
    let named = if label.is_empty() { "" } else { "-labelled" };
    let bucket = args.data.join(format!("{scale}-{count}{named}"));
    let whole = args.data.join(format!("{scale}-{count}{named}.whole"));
    let path = bucket.display().to_string();
    if !whole.is_file() {
        drop(fs::remove_dir_all(&bucket));
        let (scale, count) = (scale.to_string(), count.to_string());
        let mut words = vec!["blocks", "--out", &path, "--series", &scale, "--interval", interval, "--blocks", &count];
        if !label.is_empty() {
            words.extend(["--label", label]);
        }
        own(&words.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
        fs::write(&whole, "").map_err(|error| format!("{}: {error}", whole.display()))?;
    }
    Ok(path)
}

/// The command line of this program with `words`.
fn shown(words: &[String]) -> String {
    let quoted = words.iter().map(|word| if word.contains(' ') { format!(" \"{word}\"") } else { format!(" {word}") });
    format!("perf{}", quoted.collect::<String>())
}

/// What this program prints when it is run with `words`. What it complains of last is the error.
fn own(words: &[String]) -> Result<String, String> {
    eprintln!("{}", shown(words));
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    told(Command::new(program).args(words)).map_err(|why| format!("{}: {why}", shown(words)))
}

/// What `command` prints; what it complains of is passed on.
fn told(command: &mut Command) -> Result<String, String> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let complaints = child.stderr.take();
    let passing = std::thread::spawn(move || {
        let lines = complaints.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok));
        let said: Vec<String> = lines.inspect(|line| eprintln!("{line}")).collect();
        // Behind its own complaint comes the log of a peer that ended.
        said.iter().rfind(|line| line.starts_with(OWN)).or(said.last()).cloned().unwrap_or_default()
    });
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let last = passing.join().unwrap_or_default();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {last}", output.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: &Path) -> Args {
        Args {
            out: data.join("out"),
            data: data.to_owned(),
            series_max: 10_000,
            rounds: 5,
            only: Vec::new(),
            thanos: Some("/bin/thanos".into()),
            prometheus: None,
            victoria_metrics: None,
            uru: Some("/bin/uru".into()),
        }
    }

    #[test]
    fn a_peer_that_fails_takes_no_other_with_it() {
        let peers: Vec<(&'static str, PathBuf)> = ["thanos", "prometheus"].map(|name| (name, name.into())).to_vec();
        let names = |last: &str| {
            let why = format!("perf query --thanos thanos --prometheus prometheus: exit status: 1: perf: {last}");
            others(&peers, &why).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("prometheus has ended: exit status: 3; its log ends with"), ["thanos"]);
        assert!(names("uru: it ended").is_empty());
        let folder = tempfile::TempDir::new().unwrap();
        let refused = Programs::find(&args(folder.path())).unwrap().check().unwrap_err();
        assert_eq!(refused, "--thanos=/bin/thanos: there is no such program");
    }

    #[test]
    fn beyond_a_million_series_uru_alone_is_sampled() {
        let folder = tempfile::TempDir::new().unwrap();
        let args = args(folder.path());
        let programs = Programs::find(&args).unwrap();
        let of = |scale| {
            let peers = programs.peers_of(&PLANES[2], scale);
            words(&args, (&programs.uru, &peers), &PLANES[2], scale).unwrap().join(" ")
        };
        assert!(
            of(1_000_000)
                .starts_with("receive --series 1000000 --rounds 5 --uru-cmd '/bin/uru' receive --thanos /bin/thanos")
        );
        assert_eq!(of(3_000_000), "receive --series 3000000 --rounds 2 --uru-cmd '/bin/uru' receive");
    }

    #[test]
    fn fewer_series_than_the_smallest_data_has_are_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let args = Args { series_max: 9_999, ..args(folder.path()) };
        let flags = crate::settings::Flags::default();
        let why = run(&args, &Settings::new(flags).unwrap()).unwrap_err();
        assert!(why.contains("--series-max=9999") && why.contains("10000 series"), "{why}");
        assert!(!args.out.exists());
    }

    #[test]
    fn every_question_that_shows_growth_is_one_that_is_asked() {
        let folder = tempfile::TempDir::new().unwrap();
        let args = args(folder.path());
        fs::write(folder.path().join("300000-1.whole"), "").unwrap();
        let programs = Programs::find(&args).unwrap();
        let query = words(&args, (&programs.uru, &[]), &PLANES[1], 300_000).unwrap().join(" ");
        assert!(query.contains("--only range_sum_rate --only range_p99_by_ns"), "{query}");
        let store = crate::store::question_names();
        assert!(PLANES[0].growth.iter().all(|name| store.iter().any(|known| known == name)), "{store:?}");
        let query = crate::query::question_names();
        assert!(PLANES[1].growth.iter().all(|name| query.contains(name)), "{query:?}");
    }

    #[test]
    fn what_a_program_complains_of_last_is_why_it_failed() {
        let run = |script: &str| told(Command::new("sh").args(["-c", script]));
        assert_eq!(run("echo figures; echo progress >&2").unwrap(), "figures\n");
        let why = run("echo started >&2; echo 'peer: it ended' >&2; exit 3").unwrap_err();
        assert!(why.contains('3') && why.ends_with("peer: it ended"), "{why}");
    }
}
