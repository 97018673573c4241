//! Receivers fed with the same remote write requests, encoded before the clock starts: uru, and a peer
//! when one is named.
//!
//! ```text
//! warm-up     every series once, so that it exists
//! steady      every series again in each round
//! new         in each round as many series that never were before
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::compare::Spread;
use crate::side::{CommandLine, Side, free_address};

/// Milliseconds between two samples of a series.
const INTERVAL_MS: i64 = 15_000;

/// Who is fed with what.
#[derive(clap::Args)]
pub struct Args {
    /// Command line of a peer with Thanos' flags, for example "thanos receive". Flags for its folder,
    /// labels and addresses are added unless it says them.
    #[arg(long)]
    peer_cmd: Option<String>,
    /// Command line of uru; otherwise the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// Series, of which each has one sample in each round.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Rounds that are timed, of each kind.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Series of a request.
    #[arg(long, default_value_t = 2000)]
    batch: usize,
    /// Connections that send at once.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// What a side did with requests of one kind.
struct Figures {
    side: String,
    kind: &'static str,
    samples_per_second: f64,
    cpu_seconds_per_million: f64,
    p50_ms: f64,
    p99_ms: f64,
    peak_mib: f64,
    bytes_a_series: f64,
}

/// Runs the comparison.
pub fn run(args: &Args) -> Result<(), String> {
    let uru = args.uru_cmd.as_deref().map(CommandLine::parse).transpose()?;
    let mut commands = vec![("uru", uru.unwrap_or_else(|| CommandLine::uru(&["receive"])))];
    if let Some(peer) = &args.peer_cmd {
        commands.push(("peer", CommandLine::parse(peer)?));
    }
    let mut all = Vec::new();
    for (name, command) in commands {
        all.extend(feed(args, name, command)?);
    }
    for figures in &all {
        let first = all.iter().find(|other| other.kind == figures.kind).unwrap_or(figures);
        println!("{}", if args.json { figures.json(args.series) } else { figures.line(args.series, first) });
    }
    Ok(())
}

/// Starts a side, feeds it and ends it.
fn feed(args: &Args, name: &str, mut command: CommandLine) -> Result<Vec<Figures>, String> {
    let scratch = Side::scratch()?;
    let address = command.flag("remote-write.address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    command.flag("grpc-address", &free_address()?);
    command.flag("tsdb.path", &scratch.path().join("data").display().to_string());
    command.flag("label", "receive=\"perf\"");
    let mut side = Side::start(name, &command, scratch)?;
    side.wait_ready(&http, "/-/ready")?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let start = since - (2 * args.rounds as i64 + 2) * INTERVAL_MS;
    let before = side.usage()?.peak_bytes;
    send(args, &address, &requests(args, start, 0))?;
    side.reset_peak()?;
    let steady = timed(args, &side, &address, ("steady", start, before))?;
    let new = timed(args, &side, &address, ("new", start + args.rounds as i64 * INTERVAL_MS, before))?;
    Ok(vec![steady, new])
}

fn timed(
    args: &Args,
    side: &Side,
    address: &str,
    (kind, start, before): (&'static str, i64, u64),
) -> Result<Figures, String> {
    let (mut wall, mut cpu, mut latencies) = (Duration::ZERO, Duration::ZERO, Vec::new());
    for round in 1..=args.rounds {
        let generation = if kind == "new" { round } else { 0 };
        let bodies = requests(args, start + round as i64 * INTERVAL_MS, generation);
        let used = side.usage()?.cpu;
        let begin = Instant::now();
        latencies.extend(send(args, address, &bodies)?);
        wall += begin.elapsed();
        cpu += side.usage()?.cpu.saturating_sub(used);
    }
    let samples = (args.series * args.rounds) as f64;
    let peak = side.usage()?.peak_bytes;
    let series = if kind == "new" { args.series * (args.rounds + 1) } else { args.series };
    let mut sorted = latencies;
    sorted.sort_unstable();
    let at = |share: f64| {
        let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Ok(Figures {
        side: side.name.clone(),
        kind,
        samples_per_second: samples / wall.as_secs_f64(),
        cpu_seconds_per_million: cpu.as_secs_f64() / samples * 1e6,
        p50_ms: Spread::of(sorted.iter().map(|time| time.as_secs_f64() * 1e3)).median,
        p99_ms: at(0.99),
        peak_mib: peak as f64 / f64::from(1 << 20),
        bytes_a_series: peak.saturating_sub(before) as f64 / series as f64,
    })
}

impl Figures {
    fn line(&self, series: usize, first: &Self) -> String {
        let ratio = |own: f64, other: f64| if other == 0.0 { 0.0 } else { own / other };
        format!(
            "{:<5} {:<7} {series:>8} series  {:>10.0} samples/s (x{:.2})  {:.3} CPU s/million (x{:.2})  p50 {:.1} ms  \
             p99 {:.1} ms  peak {:.0} MiB (x{:.2})  {:.0} bytes a series",
            self.side,
            self.kind,
            self.samples_per_second,
            ratio(self.samples_per_second, first.samples_per_second),
            self.cpu_seconds_per_million,
            ratio(self.cpu_seconds_per_million, first.cpu_seconds_per_million),
            self.p50_ms,
            self.p99_ms,
            self.peak_mib,
            ratio(self.peak_mib, first.peak_mib),
            self.bytes_a_series,
        )
    }

    fn json(&self, series: usize) -> String {
        json!({
            "side": self.side, "kind": self.kind, "series": series, "samples_per_second": self.samples_per_second,
            "cpu_seconds_per_million": self.cpu_seconds_per_million, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms,
            "peak_mib": self.peak_mib, "bytes_a_series": self.bytes_a_series,
        })
        .to_string()
    }
}

/// The requests of one round: each series of a generation with one sample at `time`.
fn requests(args: &Args, time: i64, generation: usize) -> Vec<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let batches = (0..args.series).step_by(args.batch.max(1));
    let body = |first: usize| {
        let mut request = Vec::new();
        for number in first..(first + args.batch).min(args.series) {
            series(&mut request, (number, generation), time);
        }
        encoder.compress_vec(&request).expect("a request is far below 4 GiB")
    };
    batches.map(body).collect()
}

/// Appends a series shaped like those of a Kubernetes fleet.
fn series(request: &mut Vec<u8>, (number, generation): (usize, usize), time: i64) {
    let labels = [
        ("__name__", format!("http_requests_{:03}_total", number % 200)),
        ("cluster", "perf".to_owned()),
        ("container", format!("app-{}", number % 7)),
        ("generation", generation.to_string()),
        ("instance", format!("10.0.{}.{}:8080", number / 200 % 256, number / 51_200)),
        ("job", "kubernetes-pods".to_owned()),
        ("method", ["GET", "POST", "PUT", "DELETE"][number % 4].to_owned()),
        ("namespace", format!("team-{:02}", number / 200 % 40)),
        ("pod", format!("svc-{}-7d9f8b6c5d-{:05}", number / 200 % 97, number / 200)),
        ("status", ["200", "404", "500"][number % 3].to_owned()),
    ];
    let mut message = Vec::new();
    for (name, value) in &labels {
        let len = name.len() + value.len() + 4;
        message.extend_from_slice(&[0x0a, len as u8, 0x0a, name.len() as u8]);
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&[0x12, value.len() as u8]);
        message.extend_from_slice(value.as_bytes());
    }
    let mut sample = vec![0x09];
    sample.extend_from_slice(&((number as i64 + time / INTERVAL_MS) as f64).to_le_bytes());
    sample.push(0x10);
    varint(&mut sample, time as u64);
    message.extend_from_slice(&[0x12, sample.len() as u8]);
    message.extend_from_slice(&sample);
    request.push(0x0a);
    varint(request, message.len() as u64);
    request.extend_from_slice(&message);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Sends all requests over several connections; the time that each took.
fn send(args: &Args, address: &str, bodies: &[Vec<u8>]) -> Result<Vec<Duration>, String> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let connection = || -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(failed)?);
        let mut stream = stream;
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begin = Instant::now();
            let head = format!(
                "POST /api/v1/receive HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-protobuf\r\n\
                 Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
            answer(&mut reader).map_err(|why| format!("{address}: {why}"))?;
            times.lock().expect("no code panics while it holds this lock").push(begin.elapsed());
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections.max(1)).map(|_| scope.spawn(connection)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a sender panicked".to_owned())?)
    })?;
    Ok(times.into_inner().expect("no code panics while it holds this lock"))
}

/// Reads an answer to its end; one that is no success is an error.
fn answer(reader: &mut BufReader<TcpStream>) -> Result<(), String> {
    let (mut line, mut len, mut status) = (String::new(), 0usize, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(|error| error.to_string())?;
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if status.is_empty() {
            status = text.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).map_err(|error| error.to_string())?;
    if status.starts_with('2') { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&body))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_one_message_of_sorted_labels_and_one_sample() {
        let mut request = Vec::new();
        series(&mut request, (7, 0), 1_790_000_000_000);
        assert_eq!(request[0], 0x0a);
        let len = usize::from(request[1] & 0x7f) | usize::from(request[2]) << 7;
        assert_eq!(len + 3, request.len());
        let names = ["__name__", "cluster", "container", "generation", "instance", "job", "method", "namespace"];
        let text = String::from_utf8_lossy(&request).into_owned();
        let places: Vec<_> = names.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(places.is_sorted());
    }
}
