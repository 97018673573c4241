//! What every component does alike: it binds its ports before anything else, serves HTTP at once and
//! gRPC when it is ready, and ends in order when it is told to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use engine::io;
use engine::model::{Budget, Error, ErrorKind};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::api::grpc::measure::{GrpcMetrics, Measured};
use crate::api::http::guard::{self, Guard};
use crate::api::http::health::{self, Health, Readiness};
use crate::api::http::measure::Watch;
use crate::api::http::paths;
use crate::cli::Values;
use crate::config::{ConfigError, memory, web};
use crate::edge::algorithms::{self, Version, Versions};
use crate::edge::connect::{TlsClient, TlsFiles, Trust};
use crate::edge::serve::{Places, ServeOptions, serve};
use crate::edge::tls::{Clients, Pem, TlsOptions, TlsServer};
use crate::edge::trust::{Authorities, ClientAuth};
use crate::edge::{self, Listeners, Runtime, Shutdown, Together};
use crate::telemetry::requests::RequestLog;

/// Edge threads: more than a few only take turns on the same sockets.
const EDGE_THREADS_MAX: usize = 4;

/// The ports of a process and how they are served.
pub struct Ports {
    runtime: Runtime,
    threads: usize,
    http: Listeners,
    http_options: ServeOptions,
    guard: Option<Arc<Guard>>,
    grpc: Option<(Listeners, ServeOptions)>,
    writes: Option<(Listeners, ServeOptions)>,
    requests: Arc<RequestLog>,
}

/// What a process serves.
#[derive(Clone)]
pub struct Services {
    /// Over HTTP, besides what every component has.
    pub http: Router,
    /// Over gRPC, besides reflection and health; not used by a component without a gRPC server.
    pub grpc: Routes,
    /// Over HTTP at the address for remote write, where there is one.
    pub writes: Option<Router>,
    /// What is asked for over gRPC takes of this.
    pub memory: Arc<Budget>,
}

/// A process that serves.
pub struct Running {
    threads: Vec<JoinHandle<()>>,
    trigger: edge::ShutdownTrigger,
    ready: watch::Sender<bool>,
    health: Health,
}

/// Asks for memory in small pages from now on. A compactor starts a thread for each step of its work, and
/// each would clear huge pages of which it uses a corner: half of its memory, and most of what the
/// kernel does for it.
pub fn use_small_pages() {
    // A kernel that refuses gives large ones, and all works the same.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// The mode of I/O that the flags name.
pub fn io_mode(values: &Values) -> io::Mode {
    let mode = if values.has("io.mode") { values.text("io.mode") } else { None };
    match mode {
        Some("io_uring") => io::Mode::Uring,
        Some("pread") => io::Mode::Pread,
        _ => io::Mode::Auto,
    }
}

impl Ports {
    /// Binds the ports that the flags name; that of gRPC where the component has one.
    pub fn bind(values: &Values) -> Result<Self, ConfigError> {
        let runtime = Runtime::choose(io_mode(values)).map_err(|why| ConfigError::new("io.mode", why))?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(EDGE_THREADS_MAX);
        let address = |flag: &str| values.text(flag).unwrap_or_default().to_owned();
        let bind = |flag: &str| Listeners::bind(&address(flag), threads).map_err(|why| ConfigError::new(flag, why));
        let http = bind("http-address")?;
        let grpc = if values.has("grpc-address") {
            let options = ServeOptions {
                tls: server_tls(values, ("grpc-server", &[b"h2"]))?,
                connection_age_max: values.duration("grpc-server-max-connection-age"),
                grace: values.duration("grpc-grace-period"),
                places: Places::default(),
            };
            Some((bind("grpc-address")?, options))
        } else {
            None
        };
        let (http_tls, guard) = http_guard(values)?;
        Ok(Self {
            runtime,
            threads,
            http_options: ServeOptions {
                tls: http_tls,
                connection_age_max: Duration::ZERO,
                grace: values.duration("http-grace-period"),
                places: Places::default(),
            },
            guard,
            requests: Arc::new(RequestLog::of(values)?),
            http,
            grpc,
            writes: None,
        })
    }

    /// Binds the address for remote write too.
    pub fn with_writes(mut self, values: &Values) -> Result<Self, ConfigError> {
        let flag = "remote-write.address";
        let address = values.text(flag).unwrap_or_default();
        let listeners = Listeners::bind(address, self.threads).map_err(|why| ConfigError::new(flag, why))?;
        let options = ServeOptions {
            tls: server_tls(values, ("remote-write.server", &[b"h2", b"http/1.1"]))?,
            ..self.http_options.clone()
        };
        self.writes = Some((listeners, options));
        Ok(self)
    }

    /// Where remote write is taken, if so.
    pub fn write_address(&self) -> Option<std::net::SocketAddr> {
        self.writes.as_ref().map(|(listeners, _)| listeners.address())
    }

    /// What drives the edge's threads.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> std::net::SocketAddr {
        self.http.address()
    }

    /// Where gRPC is served; the component has a gRPC server.
    pub fn grpc_address(&self) -> std::net::SocketAddr {
        self.grpc.as_ref().expect("the component declares --grpc-address").0.address()
    }

    /// Starts the threads of a component without a gRPC server.
    pub fn start_http(self, http: Router, health: Health, registry: Registry) -> Result<Running, String> {
        let memory = Budget::new("requests", memory::share());
        let services = Services { http, grpc: Routes::default(), writes: None, memory };
        self.start(&services, (health, GrpcMetrics::default()), Arc::new(registry))
    }

    /// Bounds the connections of each port by the memory that the process may use.
    fn bound(&mut self, memory_bytes: u64, health: &Health) {
        let places = || Places::within(memory_bytes, health.waiting_connections().clone());
        self.http_options.places = places();
        for (_, options) in self.grpc.iter_mut().chain(&mut self.writes) {
            options.places = places();
        }
    }

    /// Starts the edge's threads. `registry` holds all metrics of the process.
    pub fn start(
        mut self,
        services: &Services,
        (health, metrics): (Health, GrpcMetrics),
        registry: Arc<Registry>,
    ) -> Result<Running, String> {
        self.bound(services.memory.limit(), &health);
        let (trigger, shutdown) = edge::shutdown();
        let (ready, is_ready) = watch::channel(false);
        let watch = Watch { metrics: health.requests().clone(), log: Arc::clone(&self.requests) };
        let routes = services.http.clone().merge(health::routes(health.clone(), registry, &services.memory));
        let mut router = paths::forgiving(routes, watch.clone());
        if let Some(guard) = &self.guard {
            router = router.layer(axum::middleware::from_fn_with_state(Arc::clone(guard), guard::watch));
        }
        let writes_router = services.writes.clone().map(|writes| paths::forgiving(writes, watch));
        let (mut threads, together) = (Vec::new(), Together::new());
        for number in 0..self.threads {
            let Some(http) = self.http.take() else { break };
            let grpc = self.grpc.as_mut().and_then(|(listeners, options)| Some((listeners.take()?, options.clone())));
            let (log, memory) = (Arc::clone(&self.requests), Arc::clone(&services.memory));
            let service = Measured::new(services.grpc.clone(), metrics.clone(), log, memory);
            let http = (http, router.clone(), self.http_options.clone(), shutdown.clone());
            let grpc = grpc.map(|(socket, options)| (socket, service, options, shutdown.clone()));
            let writes = match (&mut self.writes, &writes_router) {
                (Some((listeners, options)), Some(router)) => {
                    listeners.take().map(|socket| (socket, router.clone(), options.clone(), shutdown.clone()))
                }
                _ => None,
            };
            let (is_ready, mut ends, together) = (is_ready.clone(), shutdown.clone(), together.clone());
            let body = move || async move {
                let serve_http = serve_routes(http);
                let serve_writes = async move {
                    if let Some(writes) = writes {
                        serve_routes(writes).await;
                    }
                };
                let serve_grpc = async move {
                    let Some((socket, service, options, shutdown)) = grpc else { return };
                    if !wait(is_ready, &mut ends).await {
                        return;
                    }
                    match edge::listener(socket) {
                        Ok(listener) => serve(listener, service, options, shutdown).await,
                        Err(error) => tracing::error!(%error, "cannot serve gRPC"),
                    }
                };
                tokio::join!(serve_http, serve_grpc, serve_writes);
                together.served().await;
            };
            let thread = self.runtime.spawn(format!("edge-{number}"), body);
            threads.push(thread.map_err(|error| format!("cannot start an edge thread: {error}"))?);
        }
        Ok(Running { threads, trigger, ready, health })
    }
}

impl Running {
    /// The process can answer: gRPC is served from now on. Gives the signals to end, which are listened for
    /// before anybody knows that it is ready: who tells it to end at once finds it ending in order.
    pub fn set_ready(&self) -> Interrupts {
        self.set_ready_under(Interrupts::listen())
    }

    /// The same where they have been listened for since before, as what comes before takes long.
    pub fn set_ready_under(&self, interrupts: Interrupts) -> Interrupts {
        self.ready.send_replace(true);
        self.health.set_ready(Readiness::Ready);
        interrupts
    }

    /// Ends: no new requests, and time for those under way.
    pub fn end(self) {
        self.health.set_ready(Readiness::NotReady);
        self.trigger.begin();
        for thread in self.threads {
            // A thread that panicked has logged it.
            let _ = thread.join();
        }
    }

    /// The same where the calling thread drives connections that requests under way may wait for: they go on
    /// meanwhile.
    pub async fn end_beside(self) {
        // As above.
        let _ = tokio::task::spawn_blocking(move || self.end()).await;
    }
}

/// SIGTERM, SIGINT and SIGHUP from the time on at which this was made.
pub struct Interrupts(Option<[Signal; 3]>);

impl Interrupts {
    /// Listens from now on. Until then SIGTERM is nothing to the first process of a container, and SIGHUP ends any
    /// other.
    pub fn listen() -> Self {
        let listen =
            || Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]);
        let report = |error: std::io::Error| tracing::error!(%error, "signals can't be waited for: end the process with SIGKILL");
        Self(listen().map_err(report).ok())
    }

    /// Waits for the first that tells the process to end. SIGHUP does not: configuration reloaders send it.
    pub async fn wait(&mut self) {
        let Some([term, int, hangup]) = &mut self.0 else { return std::future::pending().await };
        let name = loop {
            tokio::select! {
                _ = term.recv() => break "SIGTERM",
                _ = int.recv() => break "SIGINT",
                _ = hangup.recv() => tracing::info!("caught SIGHUP: changed files are read again without it"),
            }
        };
        tracing::info!(signal = name, "caught signal, exiting");
    }
}

/// Makes the folder of the flag `flag` when it isn't there; an error when nothing can be written to it.
pub fn own_folder(flag: &str, folder: &Path) -> Result<(), Error> {
    let made = std::fs::create_dir_all(folder).and_then(|()| probe(folder));
    made.map_err(|error| {
        let text = format!("--{flag}: {}: {error}: give a folder that can be written to", folder.display());
        Error::new(ErrorKind::Unavailable, text)
    })
}

/// Writes a file to `folder` and removes it. A disk that is full takes no part in the answer: there may be room later,
/// which whoever writes waits for.
fn probe(folder: &Path) -> std::io::Result<()> {
    // A tenant may be called like that, and have its folder here.
    let mut names = (0u64..).map(|number| folder.join(format!(".write-probe-{number}")));
    let Some(path) = names.find(|path| !path.is_dir()) else { return Ok(()) };
    let written = std::fs::write(&path, []).and_then(|()| std::fs::remove_file(&path));
    match written {
        Err(error) if engine::io::is_full(&error) => {
            // What has a name and no content yet.
            let _ = std::fs::remove_file(&path);
            Ok(())
        }
        done => done,
    }
}

/// Serves HTTP on one socket until the signal to end.
async fn serve_routes((socket, routes, options, shutdown): (std::net::TcpListener, Router, ServeOptions, Shutdown)) {
    match edge::listener(socket) {
        Ok(listener) => serve(listener, routes, options, shutdown).await,
        Err(error) => tracing::error!(%error, "cannot serve HTTP"),
    }
}

async fn wait(mut is_ready: watch::Receiver<bool>, ends: &mut Shutdown) -> bool {
    tokio::select! {
        outcome = is_ready.wait_for(|ready| *ready) => outcome.is_ok(),
        () = ends.begun() => false,
    }
}

/// TLS of the flags that start with `prefix`, offering `protocols`.
fn server_tls(values: &Values, (prefix, protocols): (&str, &[&[u8]])) -> Result<Option<Arc<TlsServer>>, ConfigError> {
    let name = |rest: &str| format!("{prefix}-tls-{rest}");
    let file = |rest: &str| values.text(&name(rest)).map(std::path::PathBuf::from);
    let (certificate, key) = match (file("cert"), file("key"), file("client-ca")) {
        (None, None, None) => return Ok(None),
        (Some(certificate), Some(key), _) => (certificate, key),
        (None, None, Some(_)) => {
            let why = "when a client CA is used a server key and certificate must also be provided";
            return Err(ConfigError::new(&name("client-ca"), why));
        }
        _ => return Err(ConfigError::new(&name("cert"), "both server key and certificate must be provided")),
    };
    check_tls_files(values, (prefix, "client-ca"))?;
    check_algorithms(values, prefix)?;
    let clients = file("client-ca").map_or_else(Clients::default, |ca| Clients {
        auth: ClientAuth::RequireAndVerifyClientCert,
        ca: Some(Pem::File(ca)),
        allowed_names: Vec::new(),
    });
    let version = Version::parse(values.text(&name("min-version")).unwrap_or("1.3"));
    let options = TlsOptions {
        certificate: Pem::File(certificate),
        key: Pem::File(key),
        clients,
        versions: Versions::from(version.map_err(|why| ConfigError::new(&name("min-version"), why))?),
        ciphers: values.list(&name("ciphers")).to_vec(),
        curves: values.list(&name("curves")).to_vec(),
        protocols: protocols.iter().map(|protocol| protocol.to_vec()).collect(),
    };
    tracing::info!(server = prefix, clients = options.clients.auth.name(), "enabling server side TLS");
    TlsServer::open(options).map(|tls| Some(Arc::new(tls))).map_err(|why| ConfigError::new(&name("cert"), why))
}

/// Whether what the files of the flags `<prefix>-tls-cert`, `<prefix>-tls-key` and `<prefix>-tls-<ca>` hold can be
/// used: an error names the flag of the one that can't.
pub fn check_tls_files(values: &Values, (prefix, ca): (&str, &str)) -> Result<(), ConfigError> {
    let check = |rest: &str, read: &dyn Fn(Pem) -> Result<(), String>| {
        let flag = format!("{prefix}-tls-{rest}");
        let pem = values.text(&flag).map(|path| Pem::File(PathBuf::from(path)));
        pem.map_or(Ok(()), read).map_err(|why| ConfigError::new(&flag, why))
    };
    check("cert", &|pem: Pem| pem.certificates("certificate").map(drop))?;
    check("key", &|pem: Pem| pem.key("key").map(drop))?;
    check(ca, &|pem: Pem| pem.certificates("CA").and_then(Authorities::new).map(drop))
}

/// Whether there are such algorithms as the flags `<prefix>-tls-ciphers` and `<prefix>-tls-curves` name.
fn check_algorithms(values: &Values, prefix: &str) -> Result<(), ConfigError> {
    let (ciphers, curves) = (format!("{prefix}-tls-ciphers"), format!("{prefix}-tls-curves"));
    let offered = algorithms::offer(values.list(&ciphers), &[]);
    offered.map_err(|why| ConfigError::new(&ciphers, why))?;
    let offered = algorithms::offer(&[], values.list(&curves));
    offered.map(drop).map_err(|why| ConfigError::new(&curves, why))
}

/// TLS towards others, by the flags `<prefix>-tls-…` and `<prefix>-server-name`; none without
/// `<prefix>-tls-secure`. Whether the files can be used is said now, not when somebody is connected to.
pub fn client_tls(values: &Values, prefix: &str) -> Result<Option<Arc<TlsClient>>, ConfigError> {
    let name = |flag: &str| format!("{prefix}-{flag}");
    if !values.is_on(&name("tls-secure")) {
        return Ok(None);
    }
    let path = |flag: &str| values.text(&name(flag)).map(PathBuf::from);
    let identity = TlsFiles::identity(path("tls-cert"), path("tls-key"));
    let version = Version::parse(values.text(&name("tls-min-version")).unwrap_or("1.3"));
    let identity = identity.map_err(|why| ConfigError::new(&name("tls-cert"), why))?;
    check_tls_files(values, (prefix, "ca"))?;
    let tls = TlsFiles {
        ca: path("tls-ca"),
        identity,
        server_name: values.text(&name("server-name")).map(str::to_owned),
        trust: if values.is_on(&name("tls-skip-verify")) { Trust::Anybody } else { Trust::Verified },
        version_min: version.map_err(|why| ConfigError::new(&name("tls-min-version"), why))?,
    };
    // What is left are a certificate and a key that don't belong together.
    let client = tls.open().map_err(|why| ConfigError::new(&name("tls-cert"), why))?;
    Ok(Some(Arc::new(client)))
}

/// TLS of a server; none for plain text.
type OwnTls = Option<Arc<TlsServer>>;

/// `https` where the file of `--http.config` asks for TLS, else `http`.
pub fn scheme(values: &Values) -> Result<&'static str, ConfigError> {
    let flag = "http.config";
    let web = values.text(flag).map(|path| web::read(flag, Path::new(path))).transpose()?;
    Ok(if web.is_some_and(|web| web.tls.is_some()) { "https" } else { "http" })
}

/// TLS and the guard that the file of `--http.config` asks for.
fn http_guard(values: &Values) -> Result<(OwnTls, Option<Arc<Guard>>), ConfigError> {
    let flag = "http.config";
    let Some(path) = values.text(flag).map(PathBuf::from) else { return Ok((None, None)) };
    let guard = Some(Arc::new(Guard::open(flag, path.clone())?));
    if web::read(flag, &path)?.tls.is_none() {
        return Ok((None, guard));
    }
    let file = path.clone();
    let reread = move || match web::read(flag, &file) {
        Ok(web) => web.tls.ok_or_else(|| format!("{}: TLS config is not present", file.display())),
        Err(error) => Err(error.to_string()),
    };
    let tls = TlsServer::following(path, Box::new(reread)).map_err(|why| ConfigError::new(flag, why))?;
    Ok((Some(Arc::new(tls)), guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenant of such a name once kept the process from starting.
    #[test]
    fn folders_that_are_called_like_what_is_written_to_try_end_no_start() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("new");
        own_folder("tsdb.path", &folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        for tenant in [".write-probe", ".write-probe-0", ".write-probe-1"] {
            std::fs::create_dir(folder.join(tenant)).unwrap();
        }
        own_folder("tsdb.path", &folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        std::fs::write(folder.join("file"), "").unwrap();
        let error = own_folder("tsdb.path", &folder.join("file")).unwrap_err();
        assert!(error.message().starts_with("--tsdb.path: "), "{error}");
    }
}
