//! Who is fed: uru and Thanos with the same flags, and what else takes remote write.

use std::path::Path;
use std::time::Duration;

use crate::profile::{Profile, Watched};
use crate::side::{CommandLine, Side, free_address, get};
use crate::usage::Usage;

use super::Args;
use super::stages::Stages;

/// Name of the metric that counts the samples that a TSDB has taken.
const TSDB_SAMPLES: &str = "prometheus_tsdb_head_samples_appended_total";

/// The same of VictoriaMetrics.
const VICTORIA_SAMPLES: &str = "vm_rows_inserted_total{type=\"promremotewrite\"";

/// A receiver that runs.
pub struct Receiver {
    /// Its name in tables.
    pub name: &'static str,
    target: (String, &'static str),
    /// Bytes of memory that it had before anything came.
    pub empty_bytes: u64,
    /// Times of the requests since they were last taken.
    pub latencies: Vec<Duration>,
    /// Rounds that it was sent besides those that are timed.
    pub more_rounds: usize,
    side: Side,
    command: CommandLine,
    http: String,
    /// Path that answers 200 when it is ready.
    ready: &'static str,
    samples_metric: &'static str,
}

/// How a process ends before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is killed, so that all is in its log.
    Killed,
    /// It is told to end.
    Told,
}

impl Receiver {
    /// Waits until it is ready.
    fn new(
        name: &'static str,
        (side, command): (Side, CommandLine),
        (http, ready): (String, &'static str),
        target: (String, &'static str),
    ) -> Result<Self, String> {
        let samples_metric = if name == "victoria-metrics" { VICTORIA_SAMPLES } else { TSDB_SAMPLES };
        let (empty_bytes, latencies) = (0, Vec::new());
        let mut receiver =
            Self { name, target, empty_bytes, latencies, more_rounds: 0, side, command, http, ready, samples_metric };
        receiver.side.wait_ready(&receiver.http, ready)?;
        receiver.empty_bytes = receiver.usage()?.peak_bytes;
        Ok(receiver)
    }

    /// Address and path of remote write.
    pub fn target(&self) -> (&str, &str) {
        (&self.target.0, self.target.1)
    }

    /// What its process has used.
    pub fn usage(&self) -> Result<Usage, String> {
        self.side.usage()
    }

    /// Where it tells of itself.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.side.pid()
    }

    /// Ends it and starts it again; gives the time from its start until it is ready. With a profile, the
    /// flame graph of the start gets this name.
    pub fn start_again(&mut self, end: End, profile: Option<(&Profile, &str)>) -> Result<Duration, String> {
        let watched = match end {
            End::Killed => self.side.crash(&self.command, profile)?,
            End::Told => self.side.restart(&self.command, profile)?,
        };
        let took = self.side.wait_ready(&self.http, self.ready)?;
        watched.map_or(Ok(()), Watched::draw)?;
        Ok(took)
    }

    /// From now on the peak of memory is that of what follows.
    pub fn reset_peak(&self) -> Result<(), String> {
        self.side.reset_peak()
    }

    /// Time in the stages of requests, where it tells that.
    pub fn stages(&self) -> Option<Stages> {
        Stages::read(&get(&self.http, "/metrics")?.1)
    }

    /// Samples that it says it has taken.
    pub fn samples(&self) -> Result<u64, String> {
        self.metric(self.samples_metric)
    }

    /// Series that are in its heads, as it says.
    pub fn series(&self) -> Result<u64, String> {
        self.metric("prometheus_tsdb_head_series{")
    }

    /// The sum of all its metrics whose lines start with `start`.
    fn metric(&self, start: &str) -> Result<u64, String> {
        let failed = || format!("{}: its metrics have no {start}", self.name);
        let (_, text) = get(&self.http, "/metrics").ok_or_else(failed)?;
        let counts: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with(start))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if counts.is_empty() { Err(failed()) } else { Ok(counts.iter().sum::<f64>() as u64) }
    }
}

/// All receivers, uru first.
pub fn start(args: &Args) -> Result<Vec<Receiver>, String> {
    let mut all = vec![thanos_like("uru", CommandLine::uru(args.uru_cmd.as_deref(), &["receive"])?)?];
    if let Some(program) = &args.thanos {
        all.push(thanos_like("thanos", CommandLine::of(program, &["receive"]))?);
    }
    if let Some(line) = &args.peer_cmd {
        all.push(thanos_like("peer", CommandLine::parse(line)?)?);
    }
    if let Some(program) = &args.prometheus {
        all.push(prometheus(program)?);
    }
    if let Some(program) = &args.victoria_metrics {
        all.push(victoria_metrics(program)?);
    }
    Ok(all)
}

fn thanos_like(name: &'static str, mut command: CommandLine) -> Result<Receiver, String> {
    let scratch = Side::scratch()?;
    let address = command.flag("remote-write.address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    command.flag("grpc-address", &free_address()?);
    command.flag("tsdb.path", &scratch.path().join("data").display().to_string());
    command.flag("label", "receive=\"perf\"");
    let side = Side::start(name, &command, scratch)?;
    Receiver::new(name, (side, command), (http, "/-/ready"), (address, "/api/v1/receive"))
}

fn prometheus(program: &Path) -> Result<Receiver, String> {
    let scratch = Side::scratch()?;
    let config = scratch.path().join("prometheus.yml");
    std::fs::write(&config, "").map_err(|error| format!("{}: {error}", config.display()))?;
    let address = free_address()?;
    let command = CommandLine::of(program, &["--log.level=warn", "--web.enable-remote-write-receiver"]).with([
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", scratch.path().join("data").display()),
        format!("--web.listen-address={address}"),
    ]);
    let side = Side::start("prometheus", &command, scratch)?;
    Receiver::new("prometheus", (side, command), (address.clone(), "/-/ready"), (address, "/api/v1/write"))
}

fn victoria_metrics(program: &Path) -> Result<Receiver, String> {
    let scratch = Side::scratch()?;
    let address = free_address()?;
    let command = CommandLine::of(program, &["-loggerLevel=WARN"]).with([
        format!("-storageDataPath={}", scratch.path().join("data").display()),
        format!("-httpListenAddr={address}"),
    ]);
    let side = Side::start("victoria-metrics", &command, scratch)?;
    Receiver::new("victoria-metrics", (side, command), (address.clone(), "/health"), (address, "/api/v1/write"))
}
