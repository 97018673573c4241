//! What the tests of the process share: starting it, waiting for it, asking it, ending it.

#![allow(dead_code)]

/// An object store that fails at a chosen call.
pub mod faulty;
/// Certificates.
pub mod authority;
/// Chromium.
pub mod browser;
/// Endpoints that misbehave.
pub mod endpoint;
/// A fake of S3 that misbehaves.
pub mod s3;
/// Ways to endpoints that can be closed.
pub mod way;
/// Writing as a client does.
pub mod write;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::Message;
use proto::thanos::series_response::Result as Frame;
use proto::thanos::{LabelMatcher, Series, SeriesRequest, SeriesResponse};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Longest time that a process may take to be ready.
pub const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// A running `uru`, ended when dropped.
pub struct Uru {
    child: Child,
    /// Where it serves HTTP, `127.0.0.1:port`.
    pub http: String,
    /// Where it serves gRPC.
    pub grpc: String,
    log: Arc<Mutex<String>>,
}

/// The folder of shared data beside the project; `None`, said loudly, when it isn't there. With
/// URU_REQUIRE_ALL=1 its absence is a failure.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is required", full.display());
    eprintln!("SKIPPED: {} is not there", full.display());
    None
}

/// The modes of I/O that every behaviour is tested in.
pub const IO_MODES: [&str; 2] = ["auto", "pread"];

impl Uru {
    /// Starts a component with `flags` on free ports and waits until it is ready.
    pub fn start(component: &str, flags: &[&str]) -> Self {
        Self::spawn(component, flags).until_ready()
    }

    /// As [`Uru::start`], within a shell that ran `before`: to limit what the process may do.
    pub fn start_limited(before: &str, component: &str, flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]).arg(program());
        Self::spawn_by(shell, component, flags).until_ready()
    }

    fn until_ready(mut self) -> Self {
        let begin = Instant::now();
        while get(&self.http, "/-/ready").is_none_or(|(status, _)| status != 200) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < READY_TIME_MAX, "not ready: {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    /// Starts a component and waits until its ports are bound.
    pub fn spawn(component: &str, flags: &[&str]) -> Self {
        Self::spawn_by(Command::new(program()), component, flags)
    }

    fn spawn_by(mut command: Command, component: &str, flags: &[&str]) -> Self {
        command.arg(component);
        for free in ["--http-address", "--grpc-address"] {
            if !flags.iter().any(|flag| flag.starts_with(free)) {
                command.arg(format!("{free}=127.0.0.1:0"));
            }
        }
        let mut child = command
            .arg("--log.level=debug")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, addresses) = std::sync::mpsc::channel();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let (Some(http), Some(grpc)) = (field(&line, "http="), field(&line, "grpc=")) {
                    // Only the first such line is waited for.
                    let _ = sender.send((http, grpc));
                }
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (http, grpc) = addresses.recv_timeout(READY_TIME_MAX).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("no ports were bound\n{}", log.lock().unwrap())
        });
        Self { child, http, grpc, log }
    }

    /// Starts a component that serves HTTP alone, with `words` before its address, and waits until it is
    /// ready.
    pub fn start_http(words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_uru"))
            .args(words)
            .args(["--http-address=127.0.0.1:0", "--log.level=debug"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, addresses) = std::sync::mpsc::channel();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(http) = field(&line, " http=") {
                    // Only the first such line is waited for.
                    let _ = sender.send(http);
                }
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let http = addresses.recv_timeout(READY_TIME_MAX).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("no port was bound\n{}", log.lock().unwrap())
        });
        let uru = Self { child, http, grpc: String::new(), log };
        uru.wait_for("/-/ready", "OK");
        uru
    }

    /// Asks over HTTP until the answer holds `text`; returns it.
    pub fn wait_for(&self, path: &str, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let answer = get(&self.http, path);
            if let Some((200, body)) = answer.as_ref().filter(|(_, body)| body.contains(text)) {
                return body.clone();
            }
            assert!(begin.elapsed() < READY_TIME_MAX, "{path}: {answer:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks over HTTP; returns status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.http, path).expect("the process answers")
    }

    /// The value of the first sample whose line starts with `start`.
    pub fn metric(&self, start: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        text.lines().find(|line| line.starts_with(start))?.rsplit(' ').next()?.parse().ok()
    }

    /// From now on the most memory is that of what follows.
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_bytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells the peak");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// CPU time that all of its threads have used so far, to the kernel's hundredths of a second.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name of the program, in brackets, may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let hundredths: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * hundredths)
    }

    /// A gRPC connection; to be made within a runtime.
    pub async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// How often threads whose names start with `name` have waited for something.
    pub fn waits_of(&self, name: &str) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
        let waits = |status: String| {
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            field("Name:").filter(|own| own.starts_with(name))?;
            field("voluntary_ctxt_switches:")?.parse::<u64>().ok()
        };
        status.filter_map(waits).sum()
    }

    /// Where it takes remote write.
    pub fn write_address(&self) -> String {
        let log = self.log();
        log.lines().find_map(|line| field(line, "write=")).expect("a receiver logs where it takes remote write")
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits until it has.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }

    /// Sends it the signal of this name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Uru {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of uru:\n{}", self.log());
        }
    }
}

/// The program; another build of it is tested by naming it.
fn program() -> String {
    std::env::var("URU_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_uru").to_owned())
}

/// An address that nobody listens on, to be given to a process that others must know beforehand. Its port is below those
/// that connections get, one of which could have it while that process is away.
pub fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id() % 100 * 200;
    let ports = std::iter::repeat_with(|| 10_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    let mut addresses = ports.take(20_000).map(|port| format!("127.0.0.1:{port}"));
    let is_free = |address: &String| std::net::TcpListener::bind(address).is_ok();
    addresses.find(is_free).expect("one of twenty thousand ports is free")
}

fn field(line: &str, key: &str) -> Option<String> {
    let (_, rest) = line.split_once(key)?;
    Some(rest.split(' ').next()?.to_owned())
}

/// A GET over a connection of its own; `None` when nobody answers.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    get_accepting(address, path, "*/*")
}

/// The same, for an answer of a kind.
pub fn get_accepting(address: &str, path: &str, accept: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// A request with these lines in its head, over a connection of its own; status, head and body.
pub fn request(address: &str, (method, path): (&str, &str), lines: &[&str], body: &[u8]) -> (u16, String, Vec<u8>) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), answer.split_off(end + 4))
}

/// Runs `uru compact` once over a bucket, taking fresh blocks and deleting at once what it replaces.
pub fn compact_once(objstore: &str, data_dir: &Path) {
    let data_dir = format!("--data-dir={}", data_dir.display());
    let flags = ["--http-address=127.0.0.1:0", "--consistency-delay=0s", "--delete-delay=0s"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_uru"));
    let output = command.arg("compact").args([objstore, &data_dir]).args(flags).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `uru` says of command lines that it refuses: it ends, and not well.
pub fn refused(words: &[&str]) -> String {
    let output = Command::new(program()).args(words).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{words:?}: {text}");
    text
}

/// Waits until `condition` holds.
pub fn wait(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < READY_TIME_MAX, "the condition never held");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A POST of a form over a connection of its own; `None` when nobody answers.
pub fn post(address: &str, path: &str, form: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// What the meta.json of a block says.
pub fn meta_of(block: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(block.join("meta.json")).unwrap()).unwrap()
}

/// Has the meta.json of a block say these external labels, whatever it said before.
pub fn set_labels(block: &Path, labels: &[(&str, &str)]) {
    let mut meta = meta_of(block);
    meta["thanos"]["labels"] = labels.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    std::fs::write(block.join("meta.json"), serde_json::to_vec(&meta).unwrap()).unwrap();
}

/// Runs a future on a runtime of its own.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Copies a block into a bucket, with these external labels and resolution in its meta.json.
pub fn copy_block(from: &Path, bucket: &Path, labels: &[(&str, &str)]) -> PathBuf {
    let to = bucket.join(from.file_name().unwrap());
    copy_folder(from, &to);
    let path = to.join("meta.json");
    let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    if meta.get("thanos").is_none() {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        meta["thanos"] = serde_json::json!({
            "version": 1, "labels": labels, "downsample": {"resolution": 0}, "source": "sidecar",
        });
    }
    std::fs::write(&path, serde_json::to_vec(&meta).unwrap()).unwrap();
    to
}

/// Copies a folder and all that is in it; the copies may be written to.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::write(&target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// The folders of blocks in `folder`, in order.
pub fn blocks_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("meta.json").is_file());
    found.sort();
    found
}

/// A call with one answer.
pub async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(1 << 30);
    client.ready().await.unwrap();
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    Ok(client.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?.into_inner())
}

/// A Series call whose answer is yet to be read.
pub async fn stream(channel: &Channel, request: SeriesRequest) -> Result<tonic::Streaming<SeriesResponse>, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(1 << 30);
    client.ready().await.unwrap();
    let codec: ProstCodec<SeriesRequest, SeriesResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static("/thanos.Store/Series");
    Ok(client.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

/// The frames of a Series call.
pub async fn frames(channel: &Channel, request: SeriesRequest) -> Result<Vec<SeriesResponse>, Status> {
    let mut stream = stream(channel, request).await?;
    let mut frames = Vec::new();
    while let Some(frame) = stream.message().await? {
        frames.push(frame);
    }
    Ok(frames)
}

/// The series of a Series call, out of frames and batches; and its warnings.
pub async fn series(channel: &Channel, request: SeriesRequest) -> Result<(Vec<Series>, Vec<String>), Status> {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for frame in frames(channel, request).await? {
        match frame.result {
            Some(Frame::Series(series)) => found.push(series),
            Some(Frame::Batch(batch)) => found.extend(batch.series),
            Some(Frame::Warning(warning)) => warnings.push(warning),
            Some(Frame::Hints(_)) | None => {}
        }
    }
    Ok((found, warnings))
}

/// A block of our own: `series` series called `up` with an hour of samples each minute, written by
/// the engine. Returns its folder.
pub fn write_block(bucket: &Path, seed: u128, (series, start): (usize, i64)) -> PathBuf {
    use engine::block::writer::{BlockWriter, ChunkData};
    use engine::bucket::Meta;
    use engine::chunk::{Encoding, xor};
    use engine::index::tsdb::Symbols;
    use engine::model::{BlockId, Labels};

    let id = BlockId::from_parts(start as u64, seed);
    let values: Vec<String> = (0..series).map(|number| format!("i-{number:04}")).collect();
    let mut symbols: Vec<&str> = vec!["", "__name__", "instance", "up"];
    symbols.extend(values.iter().map(String::as_str));
    symbols.sort_unstable();
    std::fs::create_dir_all(bucket).unwrap();
    let mut writer = BlockWriter::create(bucket, id, Symbols::from_sorted(symbols)).unwrap();
    let times: Vec<i64> = (0..60).map(|minute| start + minute * 60_000).collect();
    for (number, value) in values.iter().enumerate() {
        let samples: Vec<f64> = (0..60).map(|minute| (number * 100 + minute) as f64).collect();
        let mut data = Vec::new();
        xor::encode(&times, &samples, &mut data);
        let chunk = ChunkData { min_time: times[0], max_time: times[59], encoding: Encoding::Xor, data: &data };
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", value.as_str())]);
        writer.add_labels(&labels, &[chunk]).unwrap();
    }
    let meta = serde_json::json!({
        "ulid": id.to_string(), "minTime": start, "maxTime": times[59] + 1, "version": 1,
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {"version": 1, "labels": {"cluster": "c1"}, "downsample": {"resolution": 0}, "source": "sidecar"},
    });
    writer.finish(Meta::parse(meta.to_string().as_bytes()).unwrap()).unwrap();
    bucket.join(id.to_string())
}

/// A request for all series and chunks since 1970.
pub fn everything() -> SeriesRequest {
    let up = LabelMatcher { r#type: 0, name: "__name__".into(), value: "up".into() };
    SeriesRequest { max_time: 4_000_000_000_000, matchers: vec![up], ..SeriesRequest::default() }
}
