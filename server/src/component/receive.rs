//! `uru receive`: takes remote write and OTLP, keeps samples, places them on other receivers, ships
//! blocks, and answers for what it keeps.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::Router;
use engine::head::{OUT_OF_ORDER_CAP_MAX, StartTimes};
use engine::io::freed;
use engine::model::relabel::Rule;
use engine::model::{Budget, Labels};
use engine::promql::syntax;
use engine::shard::{Ingest, IngestOptions, Options, Pool, Selector};
use engine::wal::Durability;
use prometheus_client::registry::Registry;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use super::process::{self, Interrupts, Ports, Running, Services};
use super::query::{listed, report_features};
use super::store;
use crate::api::grpc::info::InfoService;
use crate::api::grpc::measure::GrpcMetrics;
use crate::api::grpc::reflection::reflected;
use crate::api::http::blocks::Origins;
use crate::api::http::coding::with_codings;
use crate::api::http::health::Health;
use crate::api::http::measure::HttpMetrics;
use crate::api::http::query::status::{self, Status};
use crate::api::parsing::Parsing;
use crate::api::ui::{self, Prefix};
use crate::cli::{Subcommand, TimeOrDuration, Values, flags, query, receive};
use crate::cluster::hashring::Algorithm;
use crate::config::{ConfigError, content, memory, selector};
use crate::edge::certificate::SubjectField;
use crate::fanout::queries;
use crate::gateway::blocks::Blocks;
use crate::gateway::{Gateway, GatewayInfo, RequestLimits, StoreMetrics, StoreService};
use crate::ingest::exemplars::ExemplarsService;
use crate::ingest::forward::{Compression, ForwardOptions, Peers};
use crate::ingest::heads::{Beside, HeadMetrics};
use crate::ingest::limits::{Limiter, LimitsConfig, LimitsFile, META_MONITORING_INTERVAL};
use crate::ingest::metadata::MetadataService;
use crate::ingest::metrics::ReceiveMetrics;
use crate::ingest::noted::{self, Noted};
use crate::ingest::otlp::{TargetInfo, Translation};
use crate::ingest::ring::{RingSource, Rings};
use crate::ingest::service::WriteableStore;
use crate::ingest::ship::{Retention, ShipMetrics, Shipper};
use crate::ingest::statistics::StatisticsService;
use crate::ingest::tenant::Tenancy;
use crate::ingest::{self, Held, Mode, ReceiveOptions, Receiver, unread};
use crate::objstore::cache::Ranges;
use crate::objstore::{Bucket, BucketConfig};
use crate::telemetry::{self, metrics};
use crate::threads::Threads;
use crate::upkeep::transfer::{HashFunc, Transfer};

/// The component as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "receive",
    about: "Receiver: takes remote write and OTLP, and serves and ships what it keeps",
    flags: &[
        receive::ALONE,
        receive::REMOTE_WRITE,
        receive::RECEIVE,
        receive::TSDB,
        receive::EXEMPLARS,
        receive::READING,
        query::LIMITS,
        flags::HTTP_SERVER,
        flags::GRPC_SERVER,
        flags::OBJSTORE,
        flags::STORE_LIMITS,
        flags::REQUEST_LOGGING,
    ],
};

/// Least time between two looks for blocks that are due and blocks to ship.
const SHIP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The feature that puts a zero where a counter began, by Prometheus' name.
pub(super) const START_ZEROS: &str = "created-timestamp-zero-ingestion";

/// What the flags of a receiver come to.
pub struct ReceiveConfig {
    options: ReceiveOptions,
    ingest: IngestOptions,
    limits: LimitsConfig,
    limits_file: Option<LimitsFile>,
    relabel: Vec<Rule>,
    rings: RingSource,
    algorithm: Algorithm,
    forward: ForwardOptions,
    transfer: Transfer,
    retention: Retention,
    ship_interval: Duration,
}

/// Services that reflection names: those that answer.
pub(super) const SERVED: [&str; 7] = [
    "thanos.Store",
    "thanos.WriteableStore",
    "thanos.Exemplars",
    "thanos.Metadata",
    "thanos.Status",
    "thanos.Query",
    "thanos.info.Info",
];

/// Runs the component until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    report_features(values, &[START_ZEROS]);
    let data_dir = PathBuf::from(values.text("tsdb.path").unwrap_or("./data"));
    let config = ReceiveConfig::parse(values, data_dir).map_err(|error| error.given_by(values).to_string())?;
    let bucket = bucket(values).map_err(|error| error.given_by(values).to_string())?;
    let memory_limit = memory::of_store(values).map_err(|error| error.to_string())?;
    freed::keep_freed_memory_of_writes(memory_limit);
    let ports = Ports::bind(values).and_then(|ports| ports.with_writes(values)).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "receive");
    health.requests().register(&mut registry);
    let grpc_metrics = GrpcMetrics::register(&mut registry, &SERVED)?;
    let wired = Wired::new(values, (config, bucket, memory_limit), health.requests(), &mut registry)?;
    let runtime = ports.runtime();
    tracing::info!(
        http = %ports.http_address(),
        grpc = %ports.grpc_address(),
        write = %ports.write_address().map(|address| address.to_string()).unwrap_or_default(),
        mode = wired.receiving.receiver.options.mode.name(),
        edge = runtime.name(),
        shards = wired.gateway.selector.pool.len(),
        "starting receiver"
    );
    let Receiving { receiver, held, .. } = &wired.receiving;
    runtime.run(async {
        let interrupts = Interrupts::listen();
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let api = Arc::new(store::query_api(values, &wired.gateway));
        api.gate.register(&mut registry, "local");
        let info = Arc::new(GatewayInfo::new(Arc::clone(&wired.gateway), health.clone(), "receive"));
        let grpc = Routes::new(StoreService::new(Arc::clone(&wired.gateway)))
            .add_service(WriteableStore::new(Arc::clone(receiver)))
            .add_service(ExemplarsService::new(Arc::clone(held), wired.gateway.parsing.clone()).into_server())
            .add_service(MetadataService::new(Arc::clone(held)).into_server())
            .add_service(StatisticsService::new(Arc::clone(held), wired.gateway.parsing.clone()).into_server())
            .add_service(queries::query(api, syntax::Options::ALL))
            .add_service(InfoService::new(info))
            .add_service(health_service);
        let grpc = reflected(grpc, &SERVED)?.prepare();
        // Thanos answers it where requests are written, Prometheus where it is asked.
        let status = ingest::status::routes(held, &receiver.options.tenancy);
        let services = Services {
            http: pages(values).merge(status.clone()),
            grpc,
            writes: Some(ingest::http::routes(receiver).merge(status)),
            memory: Arc::clone(&wired.gateway.selector.budget),
        };
        let running = ports.start(&services, (health.clone(), grpc_metrics), Arc::new(registry))?;
        let shipper = wired.work_until_interrupted(interrupts, (&running, &reporter)).await?;
        running.end_beside().await;
        if let Some(shipper) = &shipper {
            shipper.close(wired.ship_end_timeout).await;
        }
        Ok(())
    })
}

/// What a browser sees: pages, and what the process is.
fn pages(values: &Values) -> Router {
    let own = Status { flags: listed(values), started: SystemTime::now() };
    let routes = status::routes(Arc::new(own), Origins::All).merge(ui::routes(Prefix::none(), "receive"));
    routes.layer(axum::middleware::from_fn(with_codings))
}

/// Where blocks are shipped to, if anywhere.
fn bucket(values: &Values) -> Result<Option<BucketConfig>, ConfigError> {
    let environment = |name: &str| std::env::var(name).ok();
    let text = content::read(values, "objstore.config", &environment)?.filter(|text| !text.trim().is_empty());
    text.map(|text| BucketConfig::parse("objstore.config", &text)).transpose()
}

/// A process that receives, wired.
struct Wired {
    receiving: Receiving,
    /// Answers for what is kept.
    gateway: Arc<Gateway>,
    bucket: Option<Bucket>,
    ship_end_timeout: Duration,
}

/// What takes requests; it keeps nothing yet.
pub struct Receiving {
    /// Takes requests.
    pub receiver: Arc<Receiver>,
    /// What is kept, once it is open.
    pub held: Held,
    ingest: IngestOptions,
    transfer: Transfer,
    retention: Retention,
    ship_interval: Duration,
    ship_metrics: ShipMetrics,
    /// Counts requests of tenants, too.
    requests: HttpMetrics,
    limits_file: Option<LimitsFile>,
}

impl Wired {
    fn new(
        values: &Values,
        (config, bucket, memory_limit): (ReceiveConfig, Option<BucketConfig>, u64),
        requests: &HttpMetrics,
        registry: &mut Registry,
    ) -> Result<Self, String> {
        let text = |error: engine::model::Error| error.message().to_owned();
        let (data_dir, io) = (config.ingest.data_dir.clone(), config.ingest.io);
        let held: Held = Arc::new(OnceLock::new());
        let budget = memory::budget("--store.memory-limit", memory_limit);
        let own = (Arc::clone(&held), Arc::clone(&budget));
        let receiving = Receiving::new(config, own, Beside::Nothing, requests, registry)?;
        let pool = Pool::start(&Options { io, ..Options::default() }).map_err(text)?;
        telemetry::memory::register(registry, &budget);
        process::own_folder("tsdb.path", &data_dir).map_err(text)?;
        // Everything that is answered lies on this disk: nothing is fetched from the bucket.
        let local = BucketConfig::filesystem(&data_dir);
        let local = Bucket::open(&local, &mut Registry::default()).map_err(text)?;
        let gateway = Gateway {
            blocks: Blocks::default(),
            ingest: Some(held),
            parsing: Parsing::new(&budget),
            selector: Selector { pool, budget },
            ranges: Ranges::direct(local.clone()),
            bucket: local,
            limits: RequestLimits {
                series: values.integer("store.limits.request-series"),
                samples: values.integer("store.limits.request-samples"),
                ..RequestLimits::default()
            },
            gate: None,
            min_time: TimeOrDuration::At(i64::MIN),
            max_time: TimeOrDuration::At(i64::MAX),
            metrics: StoreMetrics::register(registry, 0),
        };
        let bucket = bucket.map(|bucket| Bucket::open_or_wait(&bucket, registry)).transpose().map_err(text)?;
        let ship_end_timeout = values.duration("shipper.end-timeout");
        Ok(Self { receiving, gateway: Arc::new(gateway), bucket, ship_end_timeout })
    }

    /// Opens what the last process left and works until the process is told to end; gives what ships, if that was
    /// opened before.
    async fn work_until_interrupted(
        &self,
        mut interrupts: Interrupts,
        (running, reporter): (&Running, &HealthReporter),
    ) -> Result<Option<Shipper>, String> {
        let shipper = tokio::select! {
            shipper = self.receiving.open(&self.gateway.selector.pool, self.bucket.clone()) => shipper?,
            () = interrupts.wait() => return Ok(None),
        };
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let mut interrupts = running.set_ready_under(interrupts);
        tracing::info!("receiver is ready");
        tokio::select! {
            () = self.receiving.work(shipper.as_ref()) => {}
            () = interrupts.wait() => {}
        }
        Ok(shipper)
    }
}

impl Receiving {
    /// Wires what `config` describes; what is kept will be in `held`, with `beside` in the same process, whose
    /// other requests hold memory of `budget`. What `requests` counts for a tenant goes with it.
    pub fn new(
        config: ReceiveConfig,
        (held, budget): (Held, Arc<Budget>),
        beside: Beside,
        requests: &HttpMetrics,
        registry: &mut Registry,
    ) -> Result<Self, String> {
        let factor = config.options.replication_factor;
        let metrics = ReceiveMetrics::register(registry, factor);
        let rings = Rings::open(config.rings, (config.algorithm, factor), registry);
        let receiver = Receiver {
            limiter: Limiter::new(config.limits, registry),
            relabel: config.relabel,
            rings: rings.map_err(|error| error.to_string())?,
            peers: Peers::new(config.forward, metrics.calls.clone()),
            metrics,
            noted: Noted::default(),
            memory: ingest::request_memory(budget.limit()),
            ingest: Arc::clone(&held),
            options: config.options,
        };
        HeadMetrics::register(registry, &held, beside);
        config.ingest.memory.iter().for_each(|memory| memory.leave_out(Arc::clone(&budget)));
        Ok(Self {
            receiver: Arc::new(receiver),
            held,
            ingest: config.ingest,
            transfer: config.transfer,
            retention: config.retention,
            ship_interval: config.ship_interval,
            ship_metrics: ShipMetrics::register(registry),
            requests: requests.clone(),
            limits_file: config.limits_file,
        })
    }

    /// Replays what the last process left; a router keeps nothing. Where nobody waits for it any more, the end of the
    /// process ends it, as a crash would: what it reads stays where it is.
    pub async fn open(&self, pool: &Arc<Pool>, bucket: Option<Bucket>) -> Result<Option<Shipper>, String> {
        if !self.receiver.options.mode.ingests() {
            return Ok(None);
        }
        let (pool, options) = (Arc::clone(pool), self.ingest.clone());
        let data_dir = options.data_dir.clone();
        if let Some(bucket) = &bucket {
            let outside = bucket.check_outside("tsdb.path", &data_dir, |own, folder| folder.starts_with(own));
            outside.map_err(|error| error.message().to_owned())?;
        }
        let begin = std::time::Instant::now();
        // Not on a thread of the runtime, which would wait for it at its end.
        let opened = Threads::named("open").run(move || Ingest::open(&pool, options)).await.flatten();
        let opened = opened.map_err(|error| error.message().to_owned())?;
        tracing::info!(duration = ?begin.elapsed(), tenants = opened.tenants().len(), "opened the heads");
        let counters = opened.counters();
        if counters.torn_logs > 0 {
            let (logs, bytes) = (counters.torn_logs, counters.torn_bytes);
            tracing::warn!(logs, bytes, "{TORN}");
        }
        unread::tell(&opened, &data_dir);
        let ingest = self.held.get_or_init(|| opened);
        self.label_tenants().map_err(|error| error.message().to_owned())?;
        let more = (self.retention, self.ship_metrics.clone());
        let bucket = bucket.map(|bucket| (bucket, self.transfer));
        let (receiver, requests) = (Arc::clone(&self.receiver), self.requests.clone());
        let forget = move |tenant: &str| {
            receiver.metrics.forget(tenant);
            receiver.limiter.forget(tenant);
            requests.forget(tenant);
        };
        Ok(Some(Shipper::new(Arc::clone(ingest), &data_dir, bucket, more).forgetting(forget)))
    }

    /// Cuts and ships, where something is kept, follows what rings and limits become, and tells when memory is short:
    /// for ever.
    pub async fn work(&self, shipper: Option<&Shipper>) {
        let shipping = async {
            match shipper {
                Some(shipper) => shipper.work(self.ship_interval).await,
                None => std::future::pending().await,
            }
        };
        let telling = async {
            match &self.ingest.memory {
                Some(memory) => noted::tell_of_memory(memory).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(shipping, telling, self.follow_rings(), self.follow_limits(), self.ask_meta_monitoring());
    }

    /// Gives tenants the external labels that the rings have for them.
    fn label_tenants(&self) -> Result<(), engine::model::Error> {
        let rings = self.receiver.rings.current();
        let (Some(ingest), Some(rings)) = (self.held.get(), rings) else { return Ok(()) };
        ingest.set_added_labels(rings.added_labels())
    }

    async fn follow_rings(&self) {
        let receiver = &self.receiver;
        receiver
            .rings
            .watch(|| {
                let rings = receiver.rings.current();
                let endpoints: Vec<&str> = rings
                    .iter()
                    .flat_map(|rings| rings.configs())
                    .flat_map(|config| &config.endpoints)
                    .map(|endpoint| &*endpoint.address)
                    .collect();
                receiver.peers.reset(|address| endpoints.contains(&address));
                if let Err(error) = self.label_tenants() {
                    tracing::error!(%error, "a local block can't be read under the labels of the changed rings");
                }
            })
            .await;
    }

    async fn follow_limits(&self) {
        match &self.limits_file {
            Some(file) => file.follow(&self.receiver.limiter, |name| std::env::var(name).ok()).await,
            None => std::future::pending().await,
        }
    }

    async fn ask_meta_monitoring(&self) {
        loop {
            if let Some(from) = self.receiver.limiter.meta_monitoring() {
                match from.ask().await {
                    Ok(found) => self.receiver.limiter.active.set(found),
                    Err(error) => {
                        self.receiver.limiter.meta_monitoring_failed();
                        tracing::error!(error, "meta-monitoring did not answer");
                    }
                }
            }
            tokio::time::sleep(META_MONITORING_INTERVAL).await;
        }
    }
}

impl ReceiveConfig {
    /// Reads the flags; samples are kept in `data_dir`.
    pub fn parse(values: &Values, data_dir: PathBuf) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        let external_labels = external_labels(values)?;
        if external_labels.is_empty() {
            let why = "no external labels configured for receive: give at least one that tells this receiver from \
                       others, for example --label='receive_replica=\"0\"'";
            return Err(ConfigError::new("label", why));
        }
        if values.text("receive.tenant-label-name").is_none() {
            let why = "it is empty: name the external label that says the tenant, as tenant_id";
            return Err(ConfigError::new("receive.tenant-label-name", why));
        }
        let (mode, rings, local_endpoint) = rings(values)?;
        let limits = content::read(values, "receive.limits-config", &environment)?.unwrap_or_default();
        Ok(Self {
            options: receive_options(values, mode, local_endpoint),
            ingest: ingest_options(values, data_dir, external_labels)?,
            limits: LimitsConfig::parse(&limits)?,
            limits_file: values.text("receive.limits-config-file").map(|path| LimitsFile {
                path: PathBuf::from(path),
                interval: values.duration("receive.limits-config-reload-timer").max(Duration::from_millis(100)),
                text: limits.clone(),
            }),
            relabel: relabel_rules(values, &environment)?,
            rings,
            algorithm: match values.text("receive.hashrings-algorithm") {
                Some("ketama") => Algorithm::Ketama,
                _ => Algorithm::Hashmod,
            },
            forward: forward_options(values)?,
            transfer: Transfer {
                hash: HashFunc::parse(values.text("hash-func").unwrap_or_default()),
                concurrency: values.integer("shipper.upload-concurrency") as usize,
            },
            retention: Retention {
                age: values.duration("tsdb.retention"),
                bytes_max: values.bytes("tsdb.max-retention-bytes"),
            },
            ship_interval: values.duration("shipper.sync-interval").max(SHIP_INTERVAL_MIN),
        })
    }
}

/// Who sends, and what becomes of it.
fn receive_options(values: &Values, mode: Mode, local_endpoint: String) -> ReceiveOptions {
    let word = |flag: &str| values.text(flag).unwrap_or_default().to_owned();
    let promoted = values.list("receive.otlp-promote-resource-attributes").iter();
    let target_info = values.is_on("receive.otlp-enable-target-info");
    ReceiveOptions {
        mode,
        tenancy: Tenancy {
            header: word("receive.tenant-header"),
            default: word("receive.default-tenant-id"),
            field: values.text("receive.tenant-certificate-field").and_then(SubjectField::parse),
        },
        split_label: values.text("receive.split-tenant-label-name").map(str::to_owned),
        replica_header: word("receive.replica-header"),
        replication_factor: values.integer("receive.replication-factor").max(1) as usize,
        local_endpoint,
        request_bytes_max: values.bytes("receive.request-bytes-max").min(1 << 30) as usize,
        forward_timeout: values.duration("receive-forward-timeout"),
        translation: Translation {
            target_info: if target_info { TargetInfo::Written } else { TargetInfo::LeftOut },
            promoted: promoted.filter(|name| !name.is_empty()).cloned().collect(),
        },
    }
}

/// How samples are kept.
fn ingest_options(values: &Values, data_dir: PathBuf, external_labels: Labels) -> Result<IngestOptions, ConfigError> {
    let cap_max = match values.integer("tsdb.out-of-order.cap-max") {
        0 => OUT_OF_ORDER_CAP_MAX,
        // The bound that Prometheus has.
        given @ 1..=255 => given as usize,
        given => return Err(ConfigError::new("tsdb.out-of-order.cap-max", format!("{given} is more than 255"))),
    };
    let ms = |flag: &str| i64::try_from(values.duration(flag).as_millis()).unwrap_or(i64::MAX);
    Ok(IngestOptions {
        data_dir,
        external_labels,
        tenant_label: values.text("receive.tenant-label-name").unwrap_or_default().to_owned(),
        block_range_ms: ms("tsdb.min-block-duration").max(1),
        out_of_order_window_ms: ms("tsdb.out-of-order.time-window"),
        out_of_order_cap_max: cap_max,
        too_far_in_future_ms: ms("tsdb.too-far-in-future.time-window"),
        exemplars_max: values.integer("tsdb.max-exemplars") as usize,
        start_times: start_times(values),
        series_max: 0,
        memory: memory::of_heads(values)?,
        durability: match values.text("tsdb.wal-durability") {
            Some("relaxed") => Durability::Relaxed,
            _ => Durability::Fsync,
        },
        io: process::io_mode(values),
    })
}

/// What was lost with the end of a log that was cut off.
const TORN: &str = "logs ended in a write that was cut off, which nobody was told of unless they were written with \
                    --tsdb.wal-durability=relaxed: it is removed";

/// What becomes of the times at which counters began.
fn start_times(values: &Values) -> StartTimes {
    let is_on = values.words("enable-feature").any(|feature| feature.trim() == START_ZEROS);
    if is_on { StartTimes::ZeroSamples } else { StartTimes::Dropped }
}

/// What a receiver does follows from its flags, as in Thanos: with rings and an address of its own it
/// places and keeps, with rings alone it places, without rings it keeps.
fn rings(values: &Values) -> Result<(Mode, RingSource, String), ConfigError> {
    let interval = values.duration("receive.hashrings-file-refresh-interval");
    let source = match (values.text("receive.hashrings-file"), values.text("receive.hashrings")) {
        (Some(_), Some(_)) => {
            let why = "give either --receive.hashrings-file or --receive.hashrings, not both";
            return Err(ConfigError::new("receive.hashrings", why));
        }
        (Some(path), None) => RingSource::File(PathBuf::from(path), interval),
        (None, Some(text)) => RingSource::Text(text.to_owned()),
        (None, None) => return Ok((Mode::Ingestor, RingSource::Alone, String::new())),
    };
    Ok(match values.text("receive.local-endpoint") {
        Some(endpoint) => (Mode::RouterIngestor, source, endpoint.to_owned()),
        None => (Mode::Router, source, String::new()),
    })
}

/// Labels as `name="value"`.
fn external_labels(values: &Values) -> Result<Labels, ConfigError> {
    let mut pairs = Vec::new();
    for text in values.list("label").iter().filter(|text| !text.is_empty()) {
        let bad = || ConfigError::new("label", format!("{text:?} is not name=\"value\""));
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(bad)?;
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(Labels::from_pairs(pairs))
}

fn relabel_rules(values: &Values, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Rule>, ConfigError> {
    let flag = "receive.relabel-config";
    let Some(text) = content::read(values, flag, environment)?.filter(|text| !text.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    selector::rules(flag, &text)
}

fn forward_options(values: &Values) -> Result<ForwardOptions, ConfigError> {
    Ok(ForwardOptions {
        tls: process::client_tls(values, "remote-write.client")?,
        compression: match values.text("receive.grpc-compression") {
            Some("none") => Compression::None,
            _ => Compression::Snappy,
        },
        workers: values.integer("receive.forward.async-workers") as usize,
        pause_max: values.duration("receive-forward-max-backoff"),
    })
}
