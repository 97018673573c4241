//! Prometheus' PromQL corpora through StoreAPI: every load becomes blocks of two buckets, each behind
//! a store that answers over gRPC, and a querier's fan-out merges what both send.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::batch::SampleBatch;
use engine::io;
use engine::model::{BlockId, Budget};
use engine::promql::Engine;
use engine::promql::assemble::Merging;
use prometheus_client::registry::Registry;
use server::api::grpc::info::InfoService;
use server::api::http::health::{Health, Readiness};
use server::api::http::query::backend::{Backend, OnFailure, Scope};
use server::api::http::query::ending::Ending;
use server::cli::TimeOrDuration;
use server::component::store::{Store, StoreConfig};
use server::edge::serve::{Places, ServeOptions, serve};
use server::edge::{self, Listeners, ShutdownTrigger};
use server::fanout::dial::Dialing;
use server::fanout::discovery::{Discovery, Presence, Source};
use server::fanout::{EndpointSet, Fanout, Mode, Proxy};
use server::gateway::load::IndexForm;
use server::gateway::{GatewayInfo, RequestLimits, StoreService};
use server::objstore::BucketConfig;
use server::objstore::cache::CacheConfig;
use server::sync::Filters;
use tests::promqltest::{Answer, Evaluator, When, local, run};
use tests::written::write_block;
use tonic::service::Routes;

/// Bytes that a store's requests share, and that the querier holds of one.
const BYTES_MAX: u64 = 256 << 20;

/// A query that is not done by then has hung.
const QUERY_TIME_MAX: Duration = Duration::from_secs(120);

/// A store gateway in this process, over a bucket of one block at most.
struct Gateway {
    bucket: PathBuf,
    store: Store,
    address: String,
    thread: Option<std::thread::JoinHandle<()>>,
    trigger: ShutdownTrigger,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path().join("bucket");
        fs::create_dir_all(&bucket).unwrap();
        let times = (TimeOrDuration::At(i64::MIN), TimeOrDuration::At(i64::MAX));
        let config = StoreConfig {
            bucket: BucketConfig::filesystem(&bucket),
            data_dir: folder.path().join("data"),
            index: IndexForm::Column,
            memory_limit: BYTES_MAX,
            cache: CacheConfig::NONE,
            io: io::Mode::Auto,
            limits: RequestLimits::default(),
            series_concurrency: 0,
            sync_interval: Duration::MAX,
            block_concurrency: 1,
            meta_concurrency: 1,
            filters: Filters::all(),
            times,
            web_label: String::new(),
            held: None,
        };
        let mut registry = Registry::default();
        let store = Store::wire(config, &mut registry).unwrap();
        let health = Health::register(&mut registry, "store");
        health.set_ready(Readiness::Ready);
        let info = Arc::new(GatewayInfo::new(Arc::clone(&store.gateway), health, "store"));
        let routes = Routes::new(StoreService::new(Arc::clone(&store.gateway)));
        let routes = routes.add_service(InfoService::new(info)).prepare();
        let mut listeners = Listeners::bind("127.0.0.1:0", 1).unwrap();
        let (address, socket) = (listeners.address().to_string(), listeners.take().unwrap());
        let (trigger, shutdown) = edge::shutdown();
        let (tls, places) = (None, Places::default());
        let options = ServeOptions { tls, connection_age_max: Duration::ZERO, grace: Duration::ZERO, places };
        let body = move || async move { serve(edge::listener(socket).unwrap(), routes, options, shutdown).await };
        let thread = edge::Runtime::Tokio.spawn("store".into(), body).unwrap();
        Self { bucket, store, address, thread: Some(thread), trigger, _folder: folder }
    }

    /// Serves the series of `batch` and nothing else.
    async fn load(&self, id: BlockId, batch: &SampleBatch) {
        let old = fs::read_dir(&self.bucket).unwrap().map(|entry| entry.unwrap().path());
        old.for_each(|block| fs::remove_dir_all(block).unwrap());
        write_block(&self.bucket, id, batch);
        self.store.syncer.sync(&self.store.gateway.blocks).await.unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.trigger.begin();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A querier over stores: the first has all series, the second every other one too.
struct Querier {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    stores: [Gateway; 2],
    fanout: Fanout,
    loads: u128,
}

impl Querier {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stores = [Gateway::start(), Gateway::start()];
        let given = stores.iter().map(|store| Source::each(store.address.as_str(), Presence::WhenHealthy)).collect();
        let dialing = Dialing { info_timeout: QUERY_TIME_MAX, ..Dialing::default() };
        let endpoints = EndpointSet::new(Discovery { given, ..Discovery::default() }, dialing);
        let proxy = Proxy::new(Arc::new(endpoints), Budget::new("--query.memory-limit", BYTES_MAX));
        let fanout = Fanout { proxy, merging: Merging::Penalty, mode: Mode::Local };
        Self { runtime, engine: local::engine(), stores, fanout, loads: 0 }
    }
}

impl Evaluator for Querier {
    fn load(&mut self, series: &SampleBatch) {
        self.loads += 1;
        let id = BlockId::from_parts(1, self.loads);
        let half = every_other(series);
        self.runtime.block_on(async {
            self.stores[0].load(id, series).await;
            self.stores[1].load(id, &half).await;
            let problems = self.fanout.proxy.endpoints.refresh().await;
            assert!(problems.is_empty(), "{problems:?}");
        });
    }

    fn evaluate(&self, query: &str, when: When) -> Result<Answer, String> {
        let scope = Scope {
            replica_labels: Vec::new(),
            on_failure: OnFailure::Abort,
            max_resolution_ms: 0,
            store_matchers: Vec::new(),
            shard: None,
            tenant: "default-tenant".to_owned(),
        };
        let (ending, _caller) = Ending::at(Instant::now() + QUERY_TIME_MAX);
        let source = {
            let _entered = self.runtime.enter();
            self.fanout.source(&scope, &ending)
        };
        local::evaluate(&self.engine, source, query, when)
    }
}

/// Every other series of a batch.
fn every_other(batch: &SampleBatch) -> SampleBatch {
    let mut half = SampleBatch::default();
    for series in batch.iter().step_by(2) {
        half.floats.timestamps.extend_from_slice(series.timestamps);
        half.floats.values.extend_from_slice(series.values);
        half.histograms.timestamps.extend_from_slice(series.histogram_timestamps);
        half.histograms.values.extend_from_slice(series.histograms);
        half.finish_series(Arc::clone(series.labels));
    }
    half
}

fn hold_to(file: &str) {
    let Some(path) = tests::shared(&format!("promqltest/{file}.test")) else { return };
    let text = fs::read_to_string(path).unwrap();
    // StoreAPI knows no start timestamps.
    if text.contains("@st") {
        return;
    }
    let report = run(&text, &mut Querier::start()).unwrap_or_else(|error| panic!("{file}.test: {error}"));
    assert!(report.cases > 0, "{file}.test has cases");
    for failure in &report.failures {
        eprintln!("{file}.test:{}: {}: {}", failure.line, failure.query, failure.reason);
    }
    let (failed, cases) = (report.failures.len(), report.cases);
    assert!(failed == 0, "{file}.test: {failed} of {cases} cases failed through StoreAPI");
}

tests::every_corpus!(hold_to);
