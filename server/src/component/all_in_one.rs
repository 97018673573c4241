//! `uru all-in-one`: everything in one process over a folder; works with no configuration.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use engine::compact::Workers;
use prometheus_client::registry::Registry;
use tonic::service::Routes;

use super::compact::{self, Schedule};
use super::process;
use super::query::{self, Prefixes};
use super::receive::{self, ReceiveConfig, Receiving};
use super::store::{self, Addresses, Companion, Parts, StoreConfig};
use crate::api::http::coding::with_codings;
use crate::api::http::health::Health;
use crate::api::http::query::{Api, Asked};
use crate::cli::{
    Subcommand, Values, all_in_one as own_flags, compact as compact_flags, flags, query as query_flags,
    receive as receive_flags, store as store_flags,
};
use crate::compactor::metrics::CompactMetrics;
use crate::compactor::syncer::Syncer;
use crate::compactor::{Compactor, Priority, Settings, Stop, run_compactor};
use crate::config::{ConfigError, content};
use crate::edge::connect::{TlsClient, TlsFiles, Trust};
use crate::fanout::dial::Dialing;
use crate::fanout::discovery::{Discovery, Presence, Source};
use crate::fanout::{EndpointSet, Proxy};
use crate::gateway::Gateway;
use crate::gateway::query::GatewayBackend;
use crate::ingest::heads::Beside;
use crate::ingest::own::SelfScrape;
use crate::ingest::scrape::OwnTarget;
use crate::ingest::service::WriteableStore;
use crate::ingest::ship::Shipper;
use crate::ingest::{self, Held};
use crate::objstore::BucketConfig;
use crate::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};

/// Time between two looks at what the store holds.
const INFO_INTERVAL: Duration = Duration::from_secs(5);

/// Least age of blocks that the compactor works on: a folder may be copied into the bucket file by file.
const CONSISTENCY_DELAY_MIN: Duration = Duration::from_secs(30 * 60);

/// The component as the command line knows it: it takes the flags of all that it starts.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "all-in-one",
    about: "Everything in one process, over a bucket in ./data/bucket by default; it ingests and scrapes itself",
    flags: &[
        store_flags::STORE,
        query_flags::LIMITS,
        query_flags::EVALUATION,
        query_flags::PAGES,
        query_flags::ACCEPTED,
        compact_flags::COMPACTION,
        compact_flags::HASH,
        compact_flags::RETENTION,
        receive_flags::REMOTE_WRITE,
        receive_flags::RECEIVE,
        receive_flags::TSDB,
        receive_flags::EXEMPLARS,
        flags::HTTP_SERVER,
        flags::GRPC_SERVER,
        flags::OBJSTORE,
        flags::SELECTOR,
        flags::STORE_LIMITS,
        flags::REQUEST_LOGGING,
        own_flags::ALL_IN_ONE,
    ],
};

/// Runs the component until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    query::report_features(values, &[&query::FEATURES[..], &[receive::START_ZEROS]].concat());
    let environment = |name: &str| std::env::var(name).ok();
    let data_dir = PathBuf::from(values.text("data-dir").unwrap_or("./data"));
    let given = content::read(values, "objstore.config", &environment).map_err(|error| error.to_string())?;
    let bucket = match given {
        Some(text) => {
            let config = BucketConfig::parse("objstore.config", &text);
            config.map_err(|error| error.given_by(values).to_string())?
        }
        None => own_bucket(&data_dir),
    };
    let mut config = StoreConfig::parse(values, bucket).map_err(|error| error.given_by(values).to_string())?;
    config.data_dir = data_dir.join("store");
    let address = |flag: &str| values.text(flag).unwrap_or_default().replace("0.0.0.0", "127.0.0.1");
    let (http, grpc) = (address("http-address"), address("grpc-address"));
    let work = data_dir.join("compact");
    let settings = compact::settings(values, work).map_err(|error| error.to_string())?;
    let kept = values.text("tsdb.path").map_or_else(|| data_dir.join("receive"), PathBuf::from);
    let receive = ReceiveConfig::parse(values, kept).map_err(|error| error.given_by(values).to_string())?;
    let tls = own_tls(values)?;
    let held = Held::default();
    config.held = Some(Arc::clone(&held));
    let companions = Companions {
        values,
        scheme: process::scheme(values).map_err(|error| error.to_string())?,
        http,
        grpc,
        tls,
        endpoints: OnceLock::new(),
        settings,
        compactor: OnceLock::new(),
        held,
        target: OwnTarget::default(),
        receive: Mutex::new(Some(receive)),
        ingesting: OnceLock::new(),
    };
    store::serve(values, config, &companions)
}

/// The bucket where none is named. Its folder is made before it is opened, which warns of one that was not there; what
/// goes wrong is told of then.
fn own_bucket(data_dir: &Path) -> BucketConfig {
    let folder = data_dir.join("bucket");
    let _ = std::fs::create_dir_all(&folder);
    BucketConfig::filesystem(folder)
}

/// How the process connects to its own gRPC server: with TLS where that has it, and the server's certificate,
/// which need not name the address, as its own.
fn own_tls(values: &Values) -> Result<Option<Arc<TlsClient>>, String> {
    let path = |flag| values.text(flag).map(PathBuf::from);
    let (Some(certificate), Some(key)) = (path("grpc-server-tls-cert"), path("grpc-server-tls-key")) else {
        return Ok(None);
    };
    process::check_tls_files(values, ("grpc-server", "client-ca")).map_err(|error| error.to_string())?;
    let files = TlsFiles { identity: Some((certificate, key)), trust: Trust::Anybody, ..TlsFiles::default() };
    let tls = files.open().map_err(|why| ConfigError::new("grpc-server-tls-cert", why).to_string())?;
    Ok(Some(Arc::new(tls)))
}

/// What runs beside the store: the querier, whose queries read the store's blocks and all else its
/// StoreAPI, the compactor, which works on the cores of the queries when they have nothing else to do, and
/// ingestion.
struct Companions<'a> {
    values: &'a Values,
    /// `http` or `https`.
    scheme: &'static str,
    http: String,
    grpc: String,
    /// How the process connects to itself; none for plain text.
    tls: Option<Arc<TlsClient>>,
    endpoints: OnceLock<Arc<EndpointSet>>,
    settings: Settings,
    compactor: OnceLock<Arc<Compactor>>,
    /// What is kept of what was received, once it is open.
    held: Held,
    /// How the last scrape of the process' own metrics went.
    target: OwnTarget,
    /// What the flags of ingestion come to, until it is wired.
    receive: Mutex<Option<ReceiveConfig>>,
    ingesting: OnceLock<Ingesting>,
}

/// Ingestion, wired.
struct Ingesting {
    receiving: Receiving,
    scrape: SelfScrape,
    /// Answers for the bucket, too.
    gateway: Arc<Gateway>,
    /// After which time it answers for a block that came to the bucket.
    consistency_delay: Duration,
    /// Once what the last process left is open; none of what keeps nothing.
    shipper: OnceLock<Option<Shipper>>,
}

impl Ingesting {
    /// Opens what the last process left.
    async fn open(&self) -> Result<(), String> {
        let bucket = self.gateway.bucket.clone();
        let shipper = self.receiving.open(&self.gateway.selector.pool, Some(bucket)).await?;
        let (gateway, delay) = (Arc::clone(&self.gateway), self.consistency_delay);
        let is_answered = move |id, since| gateway.blocks.current().is_settled(id, since, delay);
        self.shipper.get_or_init(|| shipper.map(|shipper| shipper.beside(is_answered)));
        Ok(())
    }

    /// Scrapes, cuts and ships, for ever.
    async fn work(&self, scrapes: Option<&Registry>) {
        let shipper = self.shipper.get().and_then(Option::as_ref);
        let scraping = async {
            // What only places series on others keeps none, also of its own.
            if let (Some(registry), Some(_)) = (scrapes, shipper) {
                self.scrape.work(registry).await;
            }
        };
        tokio::join!(scraping, self.receiving.work(shipper));
    }
}

impl Companion for Companions<'_> {
    const COMPONENT: &'static str = SUBCOMMAND.name;
    const SERVED: &'static [&'static str] = &receive::SERVED;

    fn api(&self, addresses: Addresses, gateway: &Arc<Gateway>) -> Api {
        let given = vec![Source::each(addresses.grpc.to_string(), Presence::WhenHealthy)];
        let memory_limit = gateway.selector.budget.limit();
        let dialing = Dialing { tls: self.tls.clone(), info_timeout: INFO_INTERVAL, memory_limit };
        let endpoints = EndpointSet::new(Discovery { given, ..Discovery::default() }, dialing);
        let endpoints = Arc::clone(self.endpoints.get_or_init(|| Arc::new(endpoints)));
        let proxy = Proxy::new(endpoints, Arc::clone(&gateway.selector.budget));
        let fanout = query::fanout(self.values, proxy);
        let scraped = Some(self.target.clone());
        let backend = GatewayBackend { gateway: Arc::clone(gateway), fanout, scraped };
        query::api(self.values, Arc::new(backend), Arc::clone(&gateway.selector.budget))
    }

    fn routes(&self, addresses: Addresses, parts: &Parts<'_>, registry: &mut Registry) -> Result<Router, String> {
        let Parts { gateway, api, health, viewer } = *parts;
        let outside = compact::check_outside(&gateway.bucket, &self.settings.data_dir);
        outside.map_err(|error| error.message().to_owned())?;
        let compactor = self.compactor(gateway, registry).map_err(|error| error.to_string())?;
        self.compactor.get_or_init(|| Arc::new(compactor));
        let writes = self.wire(addresses.http, gateway, health, registry)?;
        let asked = Asked { api: Arc::clone(api), health: Some(health.clone()) };
        let blocks = viewer.routes(query::origins(self.values)).layer(axum::middleware::from_fn(with_codings));
        Ok(query::http_routes((asked, blocks), &Prefixes::of(self.values), Self::COMPONENT).merge(writes))
    }

    fn services(&self, grpc: Routes) -> Routes {
        match self.ingesting.get() {
            Some(own) => grpc.add_service(WriteableStore::new(Arc::clone(&own.receiving.receiver))),
            None => grpc,
        }
    }

    fn takes_writes(&self) -> bool {
        self.values.text("remote-write.address").is_some()
    }

    fn writes(&self) -> Option<Router> {
        self.ingesting.get().map(|own| ingest::http::routes(&own.receiving.receiver))
    }

    async fn open(&self) -> Result<(), String> {
        match self.ingesting.get() {
            Some(own) => own.open().await,
            None => Ok(()),
        }
    }

    fn started(&self, gateway: &Gateway) {
        let http = format!("{}://{}", self.scheme, self.http);
        let text = greeting(gateway, (&http, Prefixes::of(self.values).route()), &self.grpc);
        // It serves also where nobody reads that.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    async fn work(&self, registry: &Registry) -> Result<(), String> {
        let Some(endpoints) = self.endpoints.get() else { return std::future::pending().await };
        let Some(compactor) = self.compactor.get().cloned() else { return std::future::pending().await };
        let stop = StopOnDrop(compactor.stop());
        let interval = Some(self.values.duration("wait-interval"));
        let schedule = Schedule { interval, ..compact::schedule(self.values) };
        let compacting = async {
            let compact = move || async move { compact::keep_compacting(&compactor, &schedule).await };
            let outcome = run_compactor(Priority::Background, compact);
            if let Err(error) = outcome.await.map_err(|error| error.to_string()).flatten() {
                tracing::error!(error, "the compactor has ended, queries go on");
            }
            std::future::pending::<()>().await;
        };
        let refreshing = async {
            query::report(&endpoints.refresh().await);
            query::keep_refreshed(endpoints, INFO_INTERVAL).await;
        };
        let ingesting = async {
            match self.ingesting.get() {
                Some(own) => own.work(Some(registry).filter(|_| self.values.is_on("self-scrape"))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ingesting => {}
            () = compacting => {}
            () = refreshing => {}
        }
        drop(stop);
        Ok(())
    }

    async fn close(&self) {
        if let Some(ingest) = self.held.get()
            && let Err(error) = ingest.close().await
        {
            tracing::error!(%error, "closing the heads failed; the WAL keeps their samples");
        }
    }
}

/// Tells the compactor to end when nobody waits for it any more.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Companions<'_> {
    /// Wires ingestion; gives where it takes requests besides the address for them.
    fn wire(
        &self,
        http: SocketAddr,
        gateway: &Arc<Gateway>,
        health: &Health,
        registry: &mut Registry,
    ) -> Result<Router, String> {
        let config = self.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let config = config.expect("routes are made once");
        let own = (Arc::clone(&self.held), Arc::clone(&gateway.selector.budget));
        let receiving = Receiving::new(config, own, Beside::Compactor, health.requests(), registry)?;
        let receiver = Arc::clone(&receiving.receiver);
        let routes = ingest::http::routes(&receiver);
        let scrape = SelfScrape { receiver, target: self.target.clone(), http, scheme: self.scheme };
        let (gateway, consistency_delay) = (Arc::clone(gateway), self.values.duration("consistency-delay"));
        let shipper = OnceLock::new();
        self.ingesting.get_or_init(|| Ingesting { receiving, scrape, gateway, consistency_delay, shipper });
        Ok(routes)
    }

    /// The compactor of the store's bucket.
    fn compactor(&self, gateway: &Gateway, registry: &mut Registry) -> Result<Compactor, ConfigError> {
        let bucket = gateway.bucket.clone();
        let own = compact::filters(self.values)?;
        let consistency_delay = own.consistency_delay.max(CONSISTENCY_DELAY_MIN);
        // The times of the flags are those that are served.
        let Filters { min_time, max_time, .. } = Filters::all();
        let filters = Filters { min_time, max_time, consistency_delay, ..own };
        let metrics = CompactMetrics::register(registry);
        metrics.consistency_delay.set(filters.consistency_delay.as_secs_f64());
        let concurrency = self.values.integer("block-meta-fetch-concurrency") as usize;
        let fetch = FetchOptions { data_dir: None, concurrency };
        // The store's own metrics of syncs have the same names, so those of the compactor are not published.
        let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut Registry::default()));
        let settings = Settings { workers: Workers::lane(gateway.selector.pool.clone()), ..self.settings.clone() };
        Ok(Compactor::new(bucket, Syncer::new(fetcher, filters, None, None), settings, metrics))
    }
}

/// What is served and where, pages and API below `route`; with an empty bucket, how to put a block there.
fn greeting(gateway: &Gateway, (http, route): (&str, &str), grpc: &str) -> String {
    let blocks = gateway.blocks.current().synced.len();
    let noun = if blocks == 1 { "block" } else { "blocks" };
    let mut text = format!(
        "uru serves {blocks} {noun} of the bucket {}\n  \
         StoreAPI      grpc://{grpc}   (give it to a querier: --endpoint={grpc})\n  \
         queries, UI   {http}/\n  \
         remote write  {http}/api/v1/receive\n  \
         metrics       {http}/metrics\n  \
         open blocks   {http}{route}/api/v1/blocks\n",
        gateway.bucket.name(),
    );
    if blocks == 0 {
        let folder = gateway.bucket.folder().map_or(Path::new("<bucket>"), |folder| folder).display();
        text.push_str(&format!(
            "The bucket is empty. To put a block there, copy its folder, named after its ULID:\n  \
             cp -r <prometheus data>/01ABC… {folder}/\n\
             and start again, or wait for the next sync (--sync-block-duration).\n"
        ));
    }
    text
}
