//! Who is asked: processes that are started over the same blocks, or that run already.
//!
//! ```text
//! uru          all-in-one, over links to the blocks
//! thanos       query ─> store, over the blocks
//! prometheus   over links to the blocks, of its own blocks' length, without compaction
//! victoria-metrics   over what its vmctl imports of the blocks, without its cache of answers
//! ```

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use crate::program;
use crate::side::{CommandLine, Side, free_address, get, link_tree, run_to_end};
use crate::usage::{self, Usage};

use super::Args;
use super::answer::First;
use super::client::Client;

/// A side: where it answers, and whose time and memory count.
pub struct Asked {
    /// Its name in tables.
    pub name: String,
    /// A connection to it.
    pub client: Client,
    /// The processes whose CPU time and memory count, together.
    pub pids: Vec<u32>,
    /// What it answered first to the question that is asked.
    pub first: First,
    /// Started here: they end with the comparison.
    _started: Vec<Side>,
}

impl Asked {
    /// What its processes have used.
    pub fn usage(&self) -> Result<Usage, String> {
        let all = self.pids.iter().map(|pid| usage::of(*pid)).collect::<Result<Vec<_>, _>>()?;
        Ok(Usage::sum(&all))
    }

    fn started(runtime: &Runtime, name: &str, address: &str, sides: Vec<Side>) -> Result<Self, String> {
        let client = runtime.block_on(Client::connect(address))?;
        let pids = sides.iter().map(Side::pid).collect();
        Ok(Self { name: name.to_owned(), client, pids, first: First::default(), _started: sides })
    }

    fn running(runtime: &Runtime, name: &str, url: &str, pid: Option<u32>) -> Result<Self, String> {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let client = runtime.block_on(Client::connect(address))?;
        let (pids, first) = (pid.into_iter().collect(), First::default());
        Ok(Self { name: name.to_owned(), client, pids, first, _started: Vec::new() })
    }
}

/// All sides, uru first.
pub fn start(runtime: &Runtime, args: &Args) -> Result<Vec<Asked>, String> {
    let mut sides = vec![match &args.uru_url {
        Some(url) => Asked::running(runtime, "uru", url, args.uru_pid)?,
        None => uru(runtime, args)?,
    }];
    if let Some(program) = &args.thanos {
        sides.push(thanos(runtime, program, &blocks(args)?)?);
    }
    if let Some(program) = &args.prometheus {
        sides.push(prometheus(runtime, program, &blocks(args)?)?);
    }
    if let Some(program) = &args.victoria_metrics {
        sides.push(victoria_metrics(runtime, program, &blocks(args)?)?);
    }
    if let Some(url) = &args.peer_url {
        sides.push(Asked::running(runtime, "peer", url, args.peer_pid)?);
    }
    if let Some(line) = &args.peer_cmd {
        sides.push(peer(runtime, line, &blocks(args)?)?);
    }
    Ok(sides)
}

/// The folder with the blocks.
fn blocks(args: &Args) -> Result<PathBuf, String> {
    let blocks = args.blocks.as_ref().ok_or("give --blocks, the folder that sides are to serve")?;
    blocks.canonicalize().map_err(|error| format!("{}: {error}", blocks.display()))
}

fn uru(runtime: &Runtime, args: &Args) -> Result<Asked, String> {
    let scratch = Side::scratch()?;
    let mut command = CommandLine::uru(args.uru_cmd.as_deref(), &["all-in-one", "--no-self-scrape"])?;
    // It compacts its bucket, and the blocks are to stay as they are.
    let bucket = scratch.path().join("bucket");
    link_tree(&blocks(args)?, &bucket)?;
    command.flag("objstore.config", &filesystem(&bucket));
    command.flag("data-dir", &scratch.path().join("data").display().to_string());
    command.flag("grpc-address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    let mut side = Side::start("uru", &command, scratch)?;
    side.wait_ready(&http, "/-/ready")?;
    Asked::started(runtime, "uru", &http, vec![side])
}

fn thanos(runtime: &Runtime, program: &Path, blocks: &Path) -> Result<Asked, String> {
    let scratch = Side::scratch()?;
    let mut command = CommandLine::of(program, &["store"]);
    command.flag("objstore.config", &filesystem(blocks));
    command.flag("data-dir", &scratch.path().join("data").display().to_string());
    let (http, grpc) = (command.flag("http-address", &free_address()?), command.flag("grpc-address", &free_address()?));
    let mut store = Side::start("thanos store", &command, scratch)?;
    store.wait_ready(&http, "/-/ready")?;
    let mut command = CommandLine::of(program, &["query"]);
    command.flag("endpoint", &grpc);
    command.flag("grpc-address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    let mut querier = Side::start("thanos query", &command, Side::scratch()?)?;
    querier.wait_until(&http, "/api/v1/stores", |status, body| status == 200 && body.contains(&grpc))?;
    Asked::started(runtime, "thanos", &http, vec![querier, store])
}

fn prometheus(runtime: &Runtime, program: &Path, blocks: &Path) -> Result<Asked, String> {
    let scratch = Side::scratch()?;
    let (data, config) = (scratch.path().join("data"), scratch.path().join("prometheus.yml"));
    link_tree(blocks, &data)?;
    std::fs::write(&config, "").map_err(|error| format!("{}: {error}", config.display()))?;
    let address = free_address()?;
    let command = CommandLine::of(program, &["--log.level=warn", "--storage.tsdb.retention.time=100y"]).with([
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--web.listen-address={address}"),
        "--storage.tsdb.min-block-duration=2h".to_owned(),
        "--storage.tsdb.max-block-duration=2h".to_owned(),
        "--query.max-samples=1000000000".to_owned(),
    ]);
    let mut side = Side::start("prometheus", &command, scratch)?;
    side.wait_ready(&address, "/-/ready")?;
    Asked::started(runtime, "prometheus", &address, vec![side])
}

fn victoria_metrics(runtime: &Runtime, program: &Path, blocks: &Path) -> Result<Asked, String> {
    let beside = Some(program.with_file_name("vmctl")).filter(|path| path.is_file());
    let importer = beside.or_else(|| program::on_path("vmctl"));
    let importer =
        importer.ok_or_else(|| format!("there is no vmctl beside {}, which imports blocks", program.display()))?;
    let scratch = Side::scratch()?;
    let address = free_address()?;
    let words = ["-loggerLevel=WARN", "-retentionPeriod=100y", "-search.disableCache", "-search.maxQueryDuration=5m"];
    let command = CommandLine::of(program, &words).with([
        "-search.maxUniqueTimeseries=100000000".to_owned(),
        format!("-storageDataPath={}", scratch.path().join("data").display()),
        format!("-httpListenAddr={address}"),
    ]);
    let mut side = Side::start("victoria-metrics", &command, scratch)?;
    side.wait_ready(&address, "/health")?;
    // It ends with an error where it has no terminal to draw on.
    let import = format!(
        "'{}' prometheus -s --vm-disable-progress-bar --prom-snapshot='{}' --vm-addr=http://{address}",
        importer.display(),
        blocks.display()
    );
    let terminal = CommandLine::of(Path::new("script"), &["-qec", &import, "/dev/null"]);
    run_to_end("vmctl", &terminal, Side::scratch()?.path(), None)?;
    let flushed = get(&address, "/internal/force_flush").is_some_and(|(status, _)| status == 200);
    if !flushed {
        return Err(format!("victoria-metrics does not show what was imported; its log ends with\n{}", side.log_end()));
    }
    Asked::started(runtime, "victoria-metrics", &address, vec![side])
}

fn peer(runtime: &Runtime, line: &str, blocks: &Path) -> Result<Asked, String> {
    let address = free_address()?;
    let line = line.replace("{address}", &address).replace("{blocks}", &blocks.display().to_string());
    let mut side = Side::start("peer", &CommandLine::parse(&line)?, Side::scratch()?)?;
    side.wait_ready(&address, "/api/v1/query?query=1")?;
    Asked::started(runtime, "peer", &address, vec![side])
}

/// The configuration of a bucket in a folder.
fn filesystem(folder: &Path) -> String {
    format!("{{type: FILESYSTEM, config: {{directory: '{}'}}}}", folder.display())
}
