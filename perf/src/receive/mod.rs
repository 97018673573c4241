//! Receivers fed with the same remote write requests in turn, encoded before the clock starts: uru, and
//! peers when they are named.
//!
//! ```text
//! warm-up     every series once, so that it exists
//! steady      every series again in each round
//! new         in each round as many series that never were before
//! starts      of fresh receivers over a warm-up and such rounds, after a kill and after an end
//! ```
//! A round ends when every request is acknowledged; afterwards every side must say that it has taken as
//! many samples as were sent.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::compare::{self, Row, Runs, Spread};
use crate::profile::Profile;
use crate::settings::{Settings, at_least_one};

use receivers::Receiver;
use requests::requests;
use send::send;
use stages::Stages;
use starts::Starts;

/// Who is fed.
mod receivers;
/// What is sent.
mod requests;
/// Connections.
mod send;
/// Time by stage.
mod stages;
/// Starts over what was taken.
mod starts;

/// Milliseconds between two samples of a series.
const INTERVAL_MS: i64 = 15_000;

/// Time for which requests of one kind are sent to be drawn: new series stay in memory.
const DRAWN_TIME: Duration = Duration::from_secs(2);

/// Longest time until the metrics of a receiver tell of what it has acknowledged: VictoriaMetrics counts once a
/// second.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(10);

/// Time between two looks at those metrics.
const COUNTING_PAUSE: Duration = Duration::from_millis(50);

/// Who is fed with what.
#[derive(clap::Args)]
pub struct Args {
    /// A Thanos program, whose `receive` is compared with.
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// A Prometheus program to compare with.
    #[arg(long)]
    prometheus: Option<PathBuf>,
    /// A VictoriaMetrics program to compare with.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// Command line of a peer with Thanos' flags, for example "thanos receive". Flags for its folder,
    /// labels and addresses are added unless it says them.
    #[arg(long)]
    peer_cmd: Option<String>,
    /// Command line of uru; otherwise the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// Series, of which each has one sample in each round.
    #[arg(long, default_value_t = 100_000, value_parser = at_least_one)]
    series: usize,
    /// Rounds that are timed, of each kind.
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    rounds: usize,
    /// Series of a request.
    #[arg(long, default_value_t = 2000, value_parser = at_least_one)]
    batch: usize,
    /// Connections that send at once.
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    connections: usize,
    /// How often a receiver that has taken the warm-up and the steady rounds is killed and started again,
    /// and then ended and started again; each start is timed until it is ready.
    #[arg(long, default_value_t = 2)]
    starts: usize,
}

/// What is sent in the timed rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Series that are there.
    Steady,
    /// Series that never were.
    New,
}

/// What a side did with requests of one kind.
struct Figures {
    side: &'static str,
    kind: Kind,
    samples_per_second: Spread,
    cpu_seconds_per_million: f64,
    p50_ms: f64,
    p99_ms: f64,
    peak_mib: f64,
    bytes_a_series: f64,
    /// Milliseconds for a million samples in each stage, of uru.
    stages: Option<Stages>,
}

/// Runs the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let mut all = receivers::start(args)?;
    all.iter().take(1).for_each(|uru| settings.ask_revision(uru.http()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let start = now - (2 * args.rounds as i64 + 2) * INTERVAL_MS;
    let warm_up = requests(args, start, 0);
    eprintln!("every side is sent each series once before it is timed, so that series and caches are there");
    for receiver in &mut all {
        send(receiver.target(), args.connections, &warm_up)?;
        receiver.reset_peak()?;
    }
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for kind in [Kind::Steady, Kind::New] {
        let before: Vec<Option<Stages>> = all.iter().map(Receiver::stages).collect();
        let runs = timed(args, &mut all, (kind, start))?;
        if let (Some(profile), Some(uru)) = (&settings.profile, all.first_mut()) {
            draw(args, profile, uru, (kind, start))?;
        }
        for ((receiver, runs), before) in all.iter_mut().zip(&runs).zip(before) {
            let sent = args.series * args.rounds;
            let passed = before.zip(receiver.stages()).map(|(before, after)| after.since(&before, sent));
            figures.push(Figures { stages: passed, ..Figures::new(args, receiver, (kind, runs)) });
        }
        let sides = all.iter().map(|receiver| receiver.name.to_owned()).zip(runs).collect();
        let answer = format!("{} samples in {} requests a round", args.series, warm_up.len());
        rows.push(Row { question: format!("{} series", kind.name()), answer, sides });
    }
    for receiver in &all {
        let sent = (args.series * (2 * args.rounds + 1 + receiver.more_rounds)) as u64;
        let taken = counted(sent, COUNTING_TIME_MAX, || receiver.samples())?;
        if taken != sent {
            return Err(format!("{} has taken {taken} samples, {sent} were sent", receiver.name));
        }
    }
    drop(all);
    let starts = if args.starts > 0 { Some(Starts::time(args, settings.profile.as_ref(), start)?) } else { None };
    let mut lines: Vec<Value> =
        compare::lines(&rows).into_iter().zip(&figures).map(|(line, figures)| figures.json(args, line)).collect();
    let told: String = figures.iter().map(|own| own.line(args, own.first(&figures))).collect();
    lines.extend(starts.iter().flat_map(Starts::lines));
    let told = compare::table(&rows) + &told + &starts.map_or_else(String::new, |starts| starts.text());
    settings.tell("receive", &lines, &told)
}

/// What `count` tells as soon as that is `expected` or more, and otherwise what it tells after `time_max`.
fn counted(expected: u64, time_max: Duration, count: impl Fn() -> Result<u64, String>) -> Result<u64, String> {
    let begin = Instant::now();
    loop {
        match count() {
            Ok(found) if found >= expected => return Ok(found),
            outcome if begin.elapsed() >= time_max => return outcome,
            _ => std::thread::sleep(COUNTING_PAUSE),
        }
    }
}

/// Sends the rounds of one kind to all receivers in turn.
fn timed(args: &Args, all: &mut [Receiver], (kind, start): (Kind, i64)) -> Result<Vec<Runs>, String> {
    let (mut turns, count, mut bodies) = (0, all.len(), Vec::new());
    compare::interleave(all, args.rounds, |receiver| {
        if turns % count == 0 {
            bodies = kind.requests(args, start, (turns / count + 1, 0));
        }
        turns += 1;
        let before = receiver.usage()?;
        let begin = Instant::now();
        let latencies = send(receiver.target(), args.connections, &bodies)?;
        let wall = begin.elapsed();
        let after = receiver.usage()?;
        receiver.latencies.extend(latencies);
        Ok((wall, after.cpu.saturating_sub(before.cpu), after.peak_bytes))
    })
}

/// Sends more rounds of the same kind, a millisecond apart, while uru is watched.
fn draw(args: &Args, profile: &Profile, uru: &mut Receiver, (kind, start): (Kind, i64)) -> Result<(), String> {
    let scene = format!("receive {} series", kind.name());
    let watched = profile.watch(&scene, uru.pid())?;
    let begin = Instant::now();
    for more in 1..INTERVAL_MS {
        let bodies = kind.requests(args, start, (args.rounds, more));
        send(uru.target(), args.connections, &bodies)?;
        uru.more_rounds += 1;
        if begin.elapsed() > DRAWN_TIME {
            break;
        }
    }
    watched.draw()
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::New => "new",
        }
    }

    /// The requests of round `round`, from 1, and so many after it, a millisecond apart.
    fn requests(self, args: &Args, start: i64, (round, more): (usize, i64)) -> Vec<Vec<u8>> {
        let (scrape, generation) = match self {
            Self::Steady => (round, 0),
            Self::New => (args.rounds + round, round + more as usize),
        };
        requests(args, start + scrape as i64 * INTERVAL_MS + more, generation)
    }

    /// Series that a receiver has after the rounds of this kind.
    fn series(self, args: &Args) -> usize {
        match self {
            Self::Steady => args.series,
            Self::New => args.series * (args.rounds + 1),
        }
    }
}

impl Figures {
    fn new(args: &Args, receiver: &mut Receiver, (kind, runs): (Kind, &Runs)) -> Self {
        let rate = |wall: &Duration| args.series as f64 / wall.as_secs_f64();
        let mut latencies = std::mem::take(&mut receiver.latencies);
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let peak = runs.peak_bytes.iter().max().copied().unwrap_or_default();
        let cpu: Duration = runs.cpu.iter().sum();
        Self {
            side: receiver.name,
            kind,
            samples_per_second: Spread::of(runs.wall.iter().map(rate)),
            cpu_seconds_per_million: cpu.as_secs_f64() / (args.series * runs.cpu.len().max(1)) as f64 * 1e6,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            peak_mib: runs.peak_mib(),
            bytes_a_series: peak.saturating_sub(receiver.empty_bytes) as f64 / kind.series(args) as f64,
            stages: None,
        }
    }

    /// What the first side did with requests of the same kind.
    fn first<'a>(&'a self, all: &'a [Self]) -> &'a Self {
        all.iter().find(|other| other.kind == self.kind).unwrap_or(self)
    }

    fn line(&self, args: &Args, first: &Self) -> String {
        let ratio = |own: f64, other: f64| if other == 0.0 { 0.0 } else { own / other };
        let (rate, first_rate) = (self.samples_per_second.median, first.samples_per_second.median);
        format!(
            "{:<16} {:<7} {:>8} series  {rate:>10.0} samples/s (x{:.2})  {:.3} CPU s/million (x{:.2})  p50 {:.1} ms  \
             p99 {:.1} ms  peak {:.0} MiB (x{:.2})  {:.0} bytes a series\n",
            self.side,
            self.kind.name(),
            args.series,
            ratio(rate, first_rate),
            self.cpu_seconds_per_million,
            ratio(self.cpu_seconds_per_million, first.cpu_seconds_per_million),
            self.p50_ms,
            self.p99_ms,
            self.peak_mib,
            ratio(self.peak_mib, first.peak_mib),
            self.bytes_a_series,
        ) + &self.stages.as_ref().map_or_else(String::new, Stages::text)
    }

    /// `line`, which compares times, with what is this comparison's own.
    fn json(&self, args: &Args, mut line: Value) -> Value {
        line["series"] = json!(args.series);
        line["samples_per_second"] =
            json!({"min": self.samples_per_second.min, "median": self.samples_per_second.median});
        line["cpu_seconds_per_million"] = json!(self.cpu_seconds_per_million);
        line["p50_ms"] = json!(self.p50_ms);
        line["p99_ms"] = json!(self.p99_ms);
        line["bytes_a_series"] = json!(self.bytes_a_series);
        if let Some(stages) = &self.stages {
            line["ms_a_million_by_stage"] = stages.json();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_lags_is_waited_for_and_one_that_stays_wrong_is_told() {
        let looks = std::cell::Cell::new(0);
        let lagging = || {
            looks.set(looks.get() + 1);
            if looks.get() < 2 { Err("no such metric".to_owned()) } else { Ok(looks.get()) }
        };
        assert_eq!((counted(4, COUNTING_TIME_MAX, lagging), looks.get()), (Ok(4), 4));
        assert_eq!(counted(4, COUNTING_TIME_MAX, || Ok(5)), Ok(5));
        assert_eq!(counted(4, Duration::ZERO, || Ok(3)), Ok(3));
        assert!(counted(4, Duration::ZERO, || Err("no such metric".to_owned())).is_err());
    }

    #[test]
    fn rounds_go_on_in_time_and_new_series_are_new() {
        let args = Args {
            thanos: None,
            prometheus: None,
            victoria_metrics: None,
            peer_cmd: None,
            uru_cmd: None,
            series: 10,
            rounds: 3,
            batch: 4,
            connections: 1,
            starts: 0,
        };
        assert_eq!(Kind::Steady.requests(&args, 0, (1, 0)).len(), 3);
        assert_ne!(Kind::Steady.requests(&args, 0, (1, 0)), Kind::Steady.requests(&args, 0, (2, 0)));
        assert_eq!((Kind::Steady.series(&args), Kind::New.series(&args)), (10, 40));
        let text = |kind: Kind| {
            let body = kind.requests(&args, 0, (2, 0)).swap_remove(0);
            String::from_utf8_lossy(&snap::raw::Decoder::new().decompress_vec(&body).unwrap()).into_owned()
        };
        assert!(
            text(Kind::Steady).contains("generation\u{12}\u{1}0") && text(Kind::New).contains("generation\u{12}\u{1}2")
        );
    }
}
