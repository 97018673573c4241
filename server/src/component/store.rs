//! `uru store`: the blocks of a bucket over the StoreAPI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use engine::io;
use engine::model::Error;
use engine::promql::assemble::Merging;
use engine::promql::{Engine, syntax};
use engine::shard::{Options, Pool, Selector};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tonic::service::Routes;

use super::process::{self, Interrupts, Ports, Services};
use super::{query, viewer};
use crate::api::grpc::info::InfoService;
use crate::api::grpc::measure::GrpcMetrics;
use crate::api::grpc::reflection::reflected;
use crate::api::http::blocks::{Admin, BlockViewer, View};
use crate::api::http::health::Health;
use crate::api::http::query::{Api, Settings};
use crate::api::parsing::Parsing;
use crate::cli::{Subcommand, TimeOrDuration, Values, compact, flags, query as query_flags, store};
use crate::config::{ConfigError, memory, selector};
use crate::fanout::dial::Dialing;
use crate::fanout::discovery::Discovery;
use crate::fanout::{EndpointSet, Fanout, Mode, Proxy, queries};
use crate::gateway::blocks::{Blocks, Syncer};
use crate::gateway::load::{IndexForm, Loader};
use crate::gateway::query::GatewayBackend;
use crate::gateway::{Gateway, GatewayInfo, RequestLimits, StoreMetrics, StoreService};
use crate::ingest::Held;
use crate::ingest::exemplars::ExemplarsService;
use crate::ingest::metadata::MetadataService;
use crate::ingest::statistics::StatisticsService;
use crate::objstore::cache::metrics::CacheMetrics;
use crate::objstore::cache::{CacheConfig, PageCache, Ranges};
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{Duplicates, FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::telemetry::{self, metrics};

/// The component as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "store",
    about: "Store gateway: serves the blocks of a bucket over the StoreAPI",
    flags: &[
        store::ALONE,
        store::STORE,
        query_flags::PAGES,
        compact::VIEWER_SWITCH,
        query_flags::LIMITS,
        flags::HTTP_SERVER,
        flags::GRPC_SERVER,
        flags::OBJSTORE,
        flags::SELECTOR,
        flags::STORE_LIMITS,
        flags::REQUEST_LOGGING,
    ],
};

/// Pause between two attempts of the first sync.
const FIRST_SYNC_PAUSE: Duration = Duration::from_secs(5);

/// Time after which the first sync is given up.
const FIRST_SYNC_TIME_MAX: Duration = Duration::from_secs(30);

/// What the flags of a store come to.
pub struct StoreConfig {
    /// The bucket.
    pub bucket: BucketConfig,
    /// Where column indexes and copies of metas are kept.
    pub data_dir: PathBuf,
    /// Local form of indexes.
    pub index: IndexForm,
    /// Bytes that requests and the cache share.
    pub memory_limit: u64,
    /// Sizes of the cache of bucket bytes.
    pub cache: CacheConfig,
    /// How files are read.
    pub io: io::Mode,
    /// What ends a request.
    pub limits: RequestLimits,
    /// Series requests that run at once; 0: any number.
    pub series_concurrency: u64,
    /// Time between syncs.
    pub sync_interval: Duration,
    /// Blocks that are opened at once.
    pub block_concurrency: usize,
    /// Metas that are fetched at once.
    pub meta_concurrency: usize,
    /// Which blocks count.
    pub filters: Filters,
    /// What is served: from, to.
    pub times: (TimeOrDuration, TimeOrDuration),
    /// External label by which a viewer groups blocks.
    pub web_label: String,
    /// What the process ingests beside the store, where it does.
    pub held: Option<Held>,
}

/// A store that is wired and not synced yet.
pub struct Store {
    /// Answers requests.
    pub gateway: Arc<Gateway>,
    /// Keeps the open blocks those of the bucket.
    pub syncer: Syncer,
    /// Time between syncs.
    pub sync_interval: Duration,
}

/// Runs the component until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    let bucket = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let config = StoreConfig::parse(values, bucket).map_err(|error| error.given_by(values).to_string())?;
    serve(values, config, &Alone { values })
}

/// What runs in the process of a store beside it.
pub trait Companion {
    /// What the process is called.
    const COMPONENT: &'static str;
    /// Services that reflection names: those that answer.
    const SERVED: &'static [&'static str];

    /// What answers queries, of which gRPC and HTTP let the same number in; both are served at `addresses`.
    fn api(&self, addresses: Addresses, gateway: &Arc<Gateway>) -> Api;

    /// What is served over HTTP of the store's `parts`. Its metrics go into `registry`.
    fn routes(&self, addresses: Addresses, parts: &Parts<'_>, registry: &mut Registry) -> Result<Router, String>;

    /// `grpc` with what is served besides the store's own.
    fn services(&self, grpc: Routes) -> Routes {
        grpc
    }

    /// Whether the flags name an address for remote write.
    fn takes_writes(&self) -> bool {
        false
    }

    /// What is served there.
    fn writes(&self) -> Option<Router> {
        None
    }

    /// Opens what is to be answered for besides the bucket; an error ends the process.
    fn open(&self) -> impl Future<Output = Result<(), String>> {
        std::future::ready(Ok(()))
    }

    /// Told when requests can be answered.
    fn started(&self, gateway: &Gateway);

    /// What is done for ever; an error ends the process. Its metrics are in `registry`.
    fn work(&self, registry: &Registry) -> impl Future<Output = Result<(), String>>;

    /// What is done at the end.
    fn close(&self) -> impl Future<Output = ()>;
}

/// Where the process serves, as it reaches itself.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
}

impl Addresses {
    fn of(ports: &Ports) -> Self {
        let reached = |address: SocketAddr| {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            SocketAddr::new(ip, address.port())
        };
        Self { http: reached(ports.http_address()), grpc: reached(ports.grpc_address()) }
    }
}

/// What a store has for HTTP.
pub struct Parts<'a> {
    /// Answers requests.
    pub gateway: &'a Arc<Gateway>,
    /// Answers queries.
    pub api: &'a Arc<Api>,
    /// Tells when they can be answered.
    pub health: &'a Health,
    /// Shows the blocks.
    pub viewer: &'a BlockViewer,
}

/// Nothing beside the store.
struct Alone<'a> {
    values: &'a Values,
}

impl Companion for Alone<'_> {
    const COMPONENT: &'static str = SUBCOMMAND.name;
    const SERVED: &'static [&'static str] = &["thanos.Store", "thanos.Query", "thanos.info.Info"];

    fn api(&self, _: Addresses, gateway: &Arc<Gateway>) -> Api {
        query_api(self.values, gateway)
    }

    fn routes(&self, _: Addresses, parts: &Parts<'_>, registry: &mut Registry) -> Result<Router, String> {
        let delay = metrics::FloatGauge::default();
        delay.set(self.values.duration("consistency-delay").as_secs_f64());
        registry.register("thanos_consistency_delay_seconds", "Configured consistency delay in seconds", delay);
        if self.values.is_on("web.disable") {
            return Ok(Router::new());
        }
        Ok(viewer::routes(parts.viewer, self.values, Self::COMPONENT))
    }

    fn started(&self, _: &Gateway) {}

    fn work(&self, _: &Registry) -> impl Future<Output = Result<(), String>> {
        std::future::pending()
    }

    async fn close(&self) {}
}

/// Serves the store that `config` describes, and its companion.
pub fn serve<C: Companion>(values: &Values, config: StoreConfig, companion: &C) -> Result<(), String> {
    let ports = Ports::bind(values).and_then(|ports| match companion.takes_writes() {
        true => ports.with_writes(values),
        false => Ok(ports),
    });
    let ports = ports.map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, C::COMPONENT);
    health.requests().register(&mut registry);
    let grpc_metrics = GrpcMetrics::register(&mut registry, C::SERVED)?;
    let admin = if values.is_on("disable-admin-operations") { Admin::Disabled } else { Admin::Allowed };
    let web_label = config.web_label.clone();
    let store = Store::wire(config, &mut registry).map_err(|error| error.to_string())?;
    let runtime = ports.runtime();
    tracing::info!(
        http = %ports.http_address(),
        grpc = %ports.grpc_address(),
        write = %ports.write_address().map(|address| address.to_string()).unwrap_or_default(),
        bucket = store.gateway.bucket.name(),
        edge = runtime.name(),
        shards = store.gateway.selector.pool.len(),
        io = store.gateway.selector.pool.io_name(),
        "starting store"
    );
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let info = Arc::new(GatewayInfo::new(Arc::clone(&store.gateway), health.clone(), "store"));
    let addresses = Addresses::of(&ports);
    let api = Arc::new(companion.api(addresses, &store.gateway));
    api.gate.register(&mut registry, "local");
    let viewer = BlockViewer::new(store.gateway.bucket.clone(), &web_label, admin);
    let parts = Parts { gateway: &store.gateway, api: &api, health: &health, viewer: &viewer };
    let routes = companion.routes(addresses, &parts, &mut registry)?;
    let grpc = companion
        .services(kept(&store.gateway))
        .add_service(queries::query(Arc::clone(&api), syntax::Options::ALL))
        .add_service(InfoService::new(info))
        .add_service(health_service);
    let grpc = reflected(grpc, C::SERVED)?.prepare();
    let memory = Arc::clone(&store.gateway.selector.budget);
    let services = Services { http: routes, grpc, writes: companion.writes(), memory };
    let registry = Arc::new(registry);
    let running = ports.start(&services, (health, grpc_metrics), Arc::clone(&registry))?;
    let outcome = runtime.run(async {
        let serving = async {
            let mut interrupts = Interrupts::listen();
            tokio::select! {
                outcome = store.open(companion) => outcome?,
                () = interrupts.wait() => return Ok(()),
            }
            show(&viewer, &store.gateway);
            reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
            let mut interrupts = running.set_ready_under(interrupts);
            companion.started(&store.gateway);
            tokio::select! {
                () = store.sync_forever(&viewer) => Ok(()),
                outcome = companion.work(&registry) => outcome,
                () = interrupts.wait() => Ok(()),
            }
        };
        let outcome = serving.await;
        running.end_beside().await;
        companion.close().await;
        outcome
    });
    store.gateway.ranges.close();
    outcome
}

/// The StoreAPI, and what else is served of a head where there is one.
fn kept(gateway: &Arc<Gateway>) -> Routes {
    let routes = Routes::new(StoreService::new(Arc::clone(gateway)));
    let Some(held) = &gateway.ingest else { return routes };
    routes
        .add_service(ExemplarsService::new(Arc::clone(held), gateway.parsing.clone()).into_server())
        .add_service(MetadataService::new(Arc::clone(held)).into_server())
        .add_service(StatisticsService::new(Arc::clone(held), gateway.parsing.clone()).into_server())
}

/// Shows the blocks that are open; for a store both views are the same.
fn show(viewer: &BlockViewer, gateway: &Gateway) {
    let current = gateway.blocks.current();
    for view in [View::Loaded, View::Global] {
        viewer.show(view, &current.synced);
        if let Some(error) = &current.error {
            viewer.show_error(view, error);
        }
    }
}

/// Queries over the gateway's blocks, within the limits of the flags, with Prometheus' defaults.
pub(super) fn query_api(values: &Values, gateway: &Arc<Gateway>) -> Api {
    let endpoints = Arc::new(EndpointSet::new(Discovery::default(), Dialing::default()));
    let proxy = Proxy::new(endpoints, Arc::clone(&gateway.selector.budget));
    let fanout = Fanout { proxy, merging: Merging::Penalty, mode: Mode::Local };
    Api {
        backend: Arc::new(GatewayBackend { gateway: Arc::clone(gateway), fanout, scraped: None }),
        engine: Engine::new(query::limits(values, Arc::clone(&gateway.selector.budget))),
        syntax: syntax::Options::ALL,
        settings: Settings { timeout: values.duration("query.timeout"), ..Settings::default() },
        gate: query::gate(values),
        parsing: gateway.parsing.clone(),
        memory: Arc::clone(&gateway.selector.budget),
    }
}

impl StoreConfig {
    /// Reads the flags.
    pub fn parse(values: &Values, bucket: BucketConfig) -> Result<Self, ConfigError> {
        let times = (values.time("min-time"), values.time("max-time"));
        let now = crate::upkeep::now_ms();
        if times.0.resolve(now) > times.1.resolve(now) {
            let (min, max) = (values.text("min-time").unwrap_or(""), values.text("max-time").unwrap_or(""));
            let why = format!("invalid argument: --min-time '{min}' can't be greater than --max-time '{max}'");
            return Err(ConfigError::new("min-time", why));
        }
        let memory_limit = memory::of_store(values)?;
        Ok(Self {
            bucket,
            data_dir: PathBuf::from(values.text("data-dir").unwrap_or("./data")),
            index: match values.text("store.index") {
                Some("header") => IndexForm::Header,
                _ => IndexForm::Column,
            },
            memory_limit,
            cache: CacheConfig::given(values, memory::for_requests(memory_limit))?,
            io: process::io_mode(values),
            limits: RequestLimits {
                series: values.integer("store.limits.request-series"),
                samples: values.integer("store.limits.request-samples"),
                touched_series: values.integer("store.grpc.touched-series-limit"),
                chunk_samples: values.integer("store.grpc.series-sample-limit"),
                downloaded_bytes: values.bytes("store.grpc.downloaded-bytes-limit"),
            },
            series_concurrency: values.integer("store.grpc.series-max-concurrency"),
            sync_interval: values.duration("sync-block-duration"),
            block_concurrency: match values.integer("block-sync-concurrency") {
                0 => {
                    let why = "the block sync concurrency must be equal or greater than 1.";
                    return Err(ConfigError::new("block-sync-concurrency", why));
                }
                count => count as usize,
            },
            meta_concurrency: values.integer("block-meta-fetch-concurrency") as usize,
            filters: Filters {
                min_time: times.0,
                max_time: times.1,
                keeps: selector::keeps(values)?,
                consistency_delay: values.duration("consistency-delay"),
                ignore_deletion_marks_delay: values.duration("ignore-deletion-marks-delay"),
                replica_labels: Vec::new(),
                duplicates: Duplicates::LeftOut,
            },
            times,
            web_label: values.text("bucket-web-label").unwrap_or_default().to_owned(),
            held: None,
        })
    }
}

impl Store {
    /// Starts the shards and connects everything; `registry` gets all metrics.
    pub fn wire(config: StoreConfig, registry: &mut Registry) -> Result<Self, Error> {
        process::own_folder("data-dir", &config.data_dir)?;
        let bucket = Bucket::open(&config.bucket, registry)?;
        bucket.check_outside("data-dir", &config.data_dir, |own, folder| folder == own)?;
        let copies = config.data_dir.join("meta-syncer");
        bucket.check_outside("data-dir", &copies, |own, folder| folder.starts_with(own))?;
        let store_metrics = StoreMetrics::register(registry, config.series_concurrency);
        let pool = Pool::start(&Options { io: config.io, ..Options::default() })?;
        let budget = memory::budget("--store.memory-limit", config.memory_limit);
        telemetry::memory::register(registry, &budget);
        io::freed::keep_freed_memory(config.memory_limit);
        let ranges = Ranges::direct(bucket.clone());
        let ranges = if bucket.folder().is_none() {
            let cache = PageCache::open(&config.cache, &config.data_dir, &budget, registry)?;
            ranges.through(cache, config.cache.requests_max)
        } else {
            // Dashboards find a cache that is not asked.
            drop(CacheMetrics::register(registry, &CacheConfig::NONE));
            ranges
        };
        let gate = usize::try_from(config.series_concurrency).ok().filter(|max| *max > 0);
        let fetch = FetchOptions { data_dir: Some(config.data_dir.clone()), concurrency: config.meta_concurrency };
        let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(registry));
        let loader = Loader::new((bucket.clone(), ranges.clone()), config.data_dir, store_metrics.clone())
            .concurrency(config.block_concurrency)
            .form(config.index)
            .keeping_pages(&budget)?
            .building_within(&budget);
        let gateway = Gateway {
            blocks: Blocks::default(),
            ingest: config.held,
            parsing: Parsing::new(&budget),
            selector: Selector { pool, budget },
            bucket,
            ranges,
            limits: config.limits,
            gate: gate.map(|max| Arc::new(Semaphore::new(max))),
            min_time: config.times.0,
            max_time: config.times.1,
            metrics: store_metrics.clone(),
        };
        Ok(Self {
            gateway: Arc::new(gateway),
            syncer: Syncer { fetcher, filters: config.filters, loader, metrics: store_metrics },
            sync_interval: config.sync_interval,
        })
    }

    /// Opens the blocks of the bucket, then what is answered for besides.
    async fn open<C: Companion>(&self, companion: &C) -> Result<(), String> {
        let begin = Instant::now();
        self.sync_first().await.map_err(|error| format!("bucket store initial sync: {error}"))?;
        tracing::info!(init_duration = ?begin.elapsed(), "bucket store ready");
        companion.open().await
    }

    /// The first sync, tried again for a while when it fails.
    pub async fn sync_first(&self) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            match self.syncer.sync_first(&self.gateway.blocks).await {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() >= FIRST_SYNC_TIME_MAX => return Err(error),
                Err(error) => tracing::warn!(%error, "first sync failed, trying again"),
            }
            tokio::time::sleep(FIRST_SYNC_PAUSE).await;
        }
    }

    /// Syncs on the interval and builds column indexes of new blocks meanwhile, for ever; `viewer` shows
    /// what is open.
    pub async fn sync_forever(&self, viewer: &BlockViewer) {
        let syncing = async {
            loop {
                tokio::time::sleep(self.sync_interval).await;
                if let Err(error) = self.syncer.sync(&self.gateway.blocks).await {
                    tracing::warn!(%error, "syncing blocks failed");
                }
                show(viewer, &self.gateway);
            }
        };
        tokio::join!(syncing, self.syncer.keep_building(&self.gateway.blocks));
    }
}
