//! `uru query`: PromQL over endpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use engine::io::freed;
use engine::model::{Budget, Labels};
use engine::promql::assemble::Merging;
use engine::promql::exec::NameRemoval;
use engine::promql::{self, Engine, syntax};
use http::{HeaderName, StatusCode, header};
use tonic::service::Routes;

use super::process::{self, Interrupts, Ports, Services};
use crate::api::grpc::info::InfoService;
use crate::api::grpc::measure::GrpcMetrics;
use crate::api::grpc::reflection::reflected;
use crate::api::http::blocks::Origins;
use crate::api::http::coding::with_codings;
use crate::api::http::health::Health;
use crate::api::http::paths;
use crate::api::http::query::active::ActiveQueries;
use crate::api::http::query::backend::{Backend, FailureDefaults, OnFailure};
use crate::api::http::query::gate::Gate;
use crate::api::http::query::lookback::Lookback;
use crate::api::http::query::{self, Api, Asked, Settings};
use crate::api::parsing::Parsing;
use crate::api::ui::{self, Prefix};
use crate::cli::{Subcommand, Values, flags, query as query_flags};
use crate::config::{ConfigError, memory, selector};
use crate::edge::certificate::SubjectField;
use crate::fanout::dial::Dialing;
use crate::fanout::discovery::{self, ClientConfig, Discovery, Presence, Source};
use crate::fanout::merge::CallLimits;
use crate::fanout::metrics::{FanoutMetrics, TelemetryBuckets};
use crate::fanout::selector::Selector;
use crate::fanout::{EndpointSet, Fanout, Mode, Proxy, queries, relay, serve};
use crate::ingest::tenant::Tenancy;
use crate::telemetry::{self, metrics};

/// The component as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "query",
    about: "Querier: PromQL, the HTTP API and the web interface over endpoints",
    flags: &[
        query_flags::LIMITS,
        query_flags::EVALUATION,
        query_flags::FEATURES,
        query_flags::PAGES,
        query_flags::ACCEPTED,
        query_flags::ENDPOINTS,
        query_flags::GRPC_CLIENT,
        flags::HTTP_SERVER,
        flags::GRPC_SERVER,
        flags::STORE_LIMITS,
        flags::REQUEST_LOGGING,
    ],
};

/// Services that reflection names: those that answer.
const SERVED: [&str; 8] = [
    "thanos.Store",
    "thanos.Query",
    "thanos.info.Info",
    "thanos.Rules",
    "thanos.Targets",
    "thanos.Metadata",
    "thanos.Exemplars",
    "thanos.Status",
];

/// A flag that gives endpoints, what becomes of its values, and when they are asked.
type EndpointFlag = (&'static str, fn(String, Presence) -> Source, Presence);

/// Flags of endpoints, and what becomes of an address.
const ENDPOINT_FLAGS: [EndpointFlag; 4] = [
    ("endpoint", Source::each, Presence::WhenHealthy),
    ("endpoint-group", Source::group, Presence::WhenHealthy),
    ("endpoint-strict", Source::each, Presence::Always),
    ("endpoint-group-strict", Source::group, Presence::Always),
];

/// Features of PromQL that are off by default, by Prometheus' names.
pub const FEATURES: [&str; 4] =
    [EXPERIMENTAL_FUNCTIONS, EXTENDED_RANGE_SELECTORS, BINOP_FILL_MODIFIERS, DELAYED_NAME_REMOVAL];
const EXPERIMENTAL_FUNCTIONS: &str = "promql-experimental-functions";
const EXTENDED_RANGE_SELECTORS: &str = "promql-extended-range-selectors";
const BINOP_FILL_MODIFIERS: &str = "promql-binop-fill-modifiers";
const DELAYED_NAME_REMOVAL: &str = "promql-delayed-name-removal";

/// Queries that are in the file of active queries at most where any number may run.
const PLACES_WITHOUT_LIMIT: usize = 1000;

/// Runs the component until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    report_features(values, &FEATURES);
    let discovery = discovery(values).map_err(|error| error.to_string())?;
    let dialing = dialing(values).map_err(|error| error.to_string())?;
    let own_labels = own_labels(values).map_err(|error| error.to_string())?;
    let rules = selector::given(values).map_err(|error| error.to_string())?.unwrap_or_default();
    let fanout_metrics = FanoutMetrics::new(telemetry(values), listed_words(values, "query.conn-metric.label"));
    let ports = Ports::bind(values).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "query");
    health.requests().register(&mut registry);
    let grpc_metrics = GrpcMetrics::register(&mut registry, &SERVED)?;
    fanout_metrics.register(&mut registry);
    let runtime = ports.runtime();
    tracing::info!(http = %ports.http_address(), grpc = %ports.grpc_address(), edge = runtime.name(), "starting querier");
    let (values, listed_for) = (values.clone(), values.duration("store.unhealthy-timeout"));
    runtime.run(async move {
        let endpoints =
            Arc::new(EndpointSet::new(discovery, dialing).counted_by(fanout_metrics.clone()).listed_for(listed_for));
        let memory = memory::budget("--query.memory-limit", bytes_max(&values));
        telemetry::memory::register(&mut registry, &memory);
        freed::keep_freed_memory(memory.limit());
        let proxy = Proxy {
            frame_timeout: Some(values.duration("store.response-timeout")).filter(|timeout| !timeout.is_zero()),
            own_labels,
            selector: Arc::new(Selector::new(rules)),
            limits: CallLimits {
                series: values.integer("store.limits.request-series"),
                samples: values.integer("store.limits.request-samples"),
            },
            metrics: fanout_metrics,
            ..Proxy::new(Arc::clone(&endpoints), Arc::clone(&memory))
        };
        let mode = if values.text("query.mode") == Some("distributed") { Mode::Distributed } else { Mode::Local };
        let fanout = Fanout { mode, ..fanout(&values, proxy.clone()) };
        let api = api(&values, Arc::new(fanout), memory);
        let api = Arc::new(Api { gate: noted(api.gate, &values)?, ..api });
        api.gate.register(&mut registry, values.text("query.mode").unwrap_or("local"));
        proxy.requested.register(&mut registry);
        let prefixes = Prefixes::of(&values);
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let info = Arc::new(serve::ProxyInfo { proxy: proxy.clone() });
        let grpc = relay::add_to(Routes::new(serve::store(proxy.clone())), &proxy)
            .add_service(queries::query(Arc::clone(&api), api.syntax))
            .add_service(InfoService::new(info))
            .add_service(health_service);
        let grpc = reflected(grpc, &SERVED)?.prepare();
        let asked = Asked { api: Arc::clone(&api), health: None };
        let (http, memory) = (http_routes((asked, Router::new()), &prefixes, "query"), Arc::clone(&api.memory));
        let services = Services { http, grpc, writes: None, memory };
        let running = ports.start(&services, (health, grpc_metrics), Arc::new(registry))?;
        let mut interrupts = Interrupts::listen();
        tokio::select! {
            failures = endpoints.refresh() => report(&failures),
            () = interrupts.wait() => {
                running.end_beside().await;
                return Ok(());
            }
        }
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let mut interrupts = running.set_ready_under(interrupts);
        tokio::select! {
            () = keep_refreshed(&endpoints, values.duration("endpoint.info-timeout")) => {}
            () = interrupts.wait() => {}
        }
        // Every connection to an endpoint is driven by this thread.
        running.end_beside().await;
        Ok(())
    })
}

/// Keeps `endpoints` what they are, for ever.
pub async fn keep_refreshed(endpoints: &EndpointSet, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        report(&endpoints.refresh().await);
    }
}

/// Logs what went wrong with addresses.
pub fn report(problems: &[String]) {
    for problem in problems {
        tracing::warn!(problem, "endpoints could not be found");
    }
}

/// Endpoints as the API's backend, for queries that are evaluated here.
pub fn fanout(values: &Values, proxy: Proxy) -> Fanout {
    let merging = if values.text("deduplication.func") == Some("chain") { Merging::Chain } else { Merging::Penalty };
    Fanout { proxy, merging, mode: Mode::Local }
}

/// Most bytes that one query holds: what the flag says, or half of the memory there is.
pub fn bytes_max(values: &Values) -> u64 {
    match values.bytes("query.memory-limit") {
        0 => memory::share(),
        limit => limit,
    }
}

/// The limits that the flags set to queries, which share `memory` with all else in the process.
pub fn limits(values: &Values, memory: Arc<Budget>) -> promql::Options {
    let bytes_max = values.bytes("query.memory-limit");
    promql::Options {
        samples_max: values.integer("query.max-samples"),
        bytes_max: if bytes_max == 0 { memory.limit() } else { bytes_max },
        memory: Some(memory),
        ..promql::Options::default()
    }
}

/// The turns of queries that the flags describe.
pub fn gate(values: &Values) -> Gate {
    Gate::new(usize::try_from(values.integer("query.max-concurrent")).unwrap_or(usize::MAX))
}

/// `gate`, with the queries that pass it in a file if there is to be one.
fn noted(gate: Gate, values: &Values) -> Result<Gate, String> {
    let flag = "query.active-query-path";
    let Some(folder) = values.text(flag).filter(|folder| !folder.is_empty()) else { return Ok(gate) };
    let places = if gate.max() == 0 { PLACES_WITHOUT_LIMIT } else { gate.max() };
    let active = ActiveQueries::open(Path::new(folder), places);
    let refused = |error: std::io::Error| {
        let text = match error.kind() {
            std::io::ErrorKind::InvalidInput => error.to_string(),
            _ => format!("{folder}: {error}: give a folder that can be written to"),
        };
        ConfigError::new(flag, text).to_string()
    };
    Ok(gate.noted_in(active.map_err(refused)?))
}

/// The API that the flags describe, over queries that share `memory` with all else in the process.
pub fn api(values: &Values, backend: Arc<dyn Backend>, memory: Arc<Budget>) -> Api {
    let features: Vec<&str> = values.words("enable-feature").map(str::trim).collect();
    let has = |name: &str| features.contains(&name);
    let options = promql::Options {
        lookback_ms: milliseconds(values, "query.lookback-delta"),
        default_step_ms: milliseconds(values, "query.default-evaluation-interval"),
        name_removal: if has(DELAYED_NAME_REMOVAL) { NameRemoval::Delayed } else { NameRemoval::Immediate },
        ..limits(values, Arc::clone(&memory))
    };
    Api {
        parsing: Parsing::new(&memory),
        memory,
        backend,
        engine: Engine::new(options),
        syntax: syntax::Options {
            experimental_functions: has(EXPERIMENTAL_FUNCTIONS),
            extended_range_selectors: has(EXTENDED_RANGE_SELECTORS),
            fill_modifiers: has(BINOP_FILL_MODIFIERS),
        },
        gate: gate(values),
        settings: settings(values),
    }
}

/// Logs which names of `--enable-feature` are none of those that are `known`.
pub fn report_features(values: &Values, known: &[&str]) {
    for feature in unknown_features(values, known) {
        let known = known.join(", ");
        tracing::warn!(feature, known, "--enable-feature names what is always on or not there: it changes nothing");
    }
}

fn unknown_features(values: &Values, known: &[&str]) -> Vec<String> {
    listed_words(values, "enable-feature").into_iter().filter(|name| !known.contains(&name.as_str())).collect()
}

/// The words of a flag that may come again and that has lists, parted by commas.
fn listed_words(values: &Values, flag: &str) -> Vec<String> {
    let words = values.words(flag);
    words.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn telemetry(values: &Values) -> TelemetryBuckets {
    let bounds = |what: &str, fallback: Vec<f64>| {
        let words = listed_words(values, &format!("query.telemetry.request-{what}-quantiles"));
        let given: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        if given.is_empty() { fallback } else { given }
    };
    let TelemetryBuckets { seconds, samples, series } = TelemetryBuckets::default();
    TelemetryBuckets {
        seconds: bounds("duration-seconds", seconds),
        samples: bounds("samples", samples),
        series: bounds("series-seconds", series),
    }
}

/// Which sites may ask.
pub fn origins(values: &Values) -> Origins {
    if values.is_on("web.disable-cors") { Origins::Own } else { Origins::All }
}

fn milliseconds(values: &Values, name: &str) -> i64 {
    i64::try_from(values.duration(name).as_millis()).unwrap_or(i64::MAX)
}

fn failure_defaults(values: &Values) -> FailureDefaults {
    let of = |flag: &str| if values.is_on(flag) { OnFailure::Warn } else { OnFailure::Abort };
    FailureDefaults {
        queries: of("query.partial-response"),
        rules: of("rule.partial-response"),
        targets: of("target.partial-response"),
        metadata: of("metric-metadata.partial-response"),
        exemplars: of("exemplar.partial-response"),
        cardinalities: of("status.partial-response"),
    }
}

fn settings(values: &Values) -> Settings {
    let labels = values.words("query.replica-label");
    let word = |name: &str| values.text(name).unwrap_or_default().to_owned();
    Settings {
        timeout: values.duration("query.timeout"),
        replica_labels: labels.filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        on_failure: failure_defaults(values),
        auto_downsampling: values.is_on("query.auto-downsampling"),
        instant_resolution_ms: milliseconds(values, "query.instant.default.max_source_resolution"),
        lookback: if values.is_on("query.dynamic-lookback-delta") { Lookback::Dynamic } else { Lookback::Fixed },
        origins: origins(values),
        default_step: values.duration("query.default-step"),
        metadata_range: values.duration("query.metadata.default-time-range"),
        flags: listed(values),
        started: SystemTime::now(),
        tenancy: Tenancy {
            header: word("query.tenant-header"),
            default: word("query.default-tenant-id"),
            field: values.text("query.tenant-certificate-field").and_then(SubjectField::parse),
        },
        tenant_label: values.is_on("query.enforce-tenancy").then(|| word("query.tenant-label-name")),
    }
}

/// Whether the content of the flag called `name` may hold the keys of others' services.
fn may_hold_keys(name: &str) -> bool {
    name.ends_with("config") && !name.ends_with("relabel-config") && !name.ends_with("logging-config")
}

/// The flags as pages and callers of the API see them: without keys.
pub(super) fn listed(values: &Values) -> BTreeMap<String, String> {
    let shown = |name: &str, given: &[String]| match given.join(",") {
        text if may_hold_keys(name) && !text.is_empty() => "<secret>".to_owned(),
        text => text,
    };
    values.all().map(|(name, given)| (name.to_owned(), shown(name, given))).collect()
}

/// Where HTTP is served, and where a browser sees it.
#[derive(Clone, Debug)]
pub struct Prefixes {
    route: String,
    external: Prefix,
}

impl Prefixes {
    /// The prefixes that the flags name. What has no flag for where HTTP is served, as a store, serves it at the root.
    pub fn of(values: &Values) -> Self {
        let path = |name: &str| paths::prefix(values.text(name).unwrap_or_default());
        let external = path("web.external-prefix");
        let route = match values.has("web.route-prefix").then(|| values.text("web.route-prefix")) {
            Some(Some(given)) => paths::prefix(given),
            Some(None) => external.clone(),
            None => String::new(),
        };
        // A prefix that is given stands above one that requests name.
        let header = values.text("web.prefix-header").filter(|_| external.is_empty());
        let header = header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let seen = if external.is_empty() { route.clone() } else { external };
        Self { route, external: header.map_or(Prefix::Fixed(seen), Prefix::OfHeader) }
    }

    /// The path below which HTTP is served, without a slash at its end.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The path below which a browser sees the process.
    pub fn pages(&self) -> Prefix {
        self.external.clone()
    }

    /// `routes` of `component` below the path at which HTTP is served, which `/` leads to. What a proxy has of that
    /// path with a slash leads to where the proxy is seen.
    pub fn nest(&self, routes: Router, component: &'static str) -> Router {
        if self.route.is_empty() {
            return routes;
        }
        let first = format!("{}{}", self.route, ui::first_page(component));
        let start = get(async move || (StatusCode::FOUND, [(header::LOCATION, first)]));
        let below = format!("{}/", self.route);
        Router::new().nest(&self.route, routes).route("/", start).route(&below, ui::start(&self.external, component))
    }
}

/// The API, what else the pages ask, and the pages, below their prefix.
pub fn http_routes((asked, more): (Asked, Router), prefixes: &Prefixes, component: &'static str) -> Router {
    let pages = ui::routes(prefixes.pages(), component).layer(axum::middleware::from_fn(with_codings));
    prefixes.nest(query::routes(asked).merge(more).merge(pages), component)
}

fn discovery(values: &Values) -> Result<Discovery, ConfigError> {
    let flags = ClientConfig::of_flags(values);
    let mut given = Vec::new();
    for (flag, source, presence) in ENDPOINT_FLAGS {
        for address in values.list(flag) {
            let source = source(address.clone(), presence);
            source.check().map_err(|error| ConfigError::new(flag, error.message()))?;
            given.push(source);
        }
    }
    if let Some(text) = values.text("endpoint.sd-config") {
        let found = discovery::parse_config(text, &flags);
        given.extend(found.map_err(|error| ConfigError::new("endpoint.sd-config", error.to_string()))?);
    }
    let files = values.list("store.sd-files").iter().filter(|file| !file.is_empty()).cloned().collect();
    let config_file = values.text("endpoint.sd-config-file").map(PathBuf::from);
    if let Some(file) = &config_file {
        let read = discovery::read_config(file, &flags);
        read.map_err(|error| ConfigError::new("endpoint.sd-config-file", error.to_string()))?;
    }
    let injected = values.list("inject-test-addresses").to_vec();
    Ok(Discovery { given, files, injected, config_file, flags, ..Discovery::default() })
}

fn dialing(values: &Values) -> Result<Dialing, ConfigError> {
    let tls = process::client_tls(values, "grpc-client")?;
    Ok(Dialing { tls, info_timeout: values.duration("endpoint.info-timeout"), memory_limit: bytes_max(values) })
}

fn own_labels(values: &Values) -> Result<Labels, ConfigError> {
    let mut pairs = Vec::new();
    for text in values.list("selector-label").iter().filter(|text| !text.is_empty()) {
        let bad = || ConfigError::new("selector-label", format!("{text:?} is not name=\"value\""));
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(bad)?;
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(Labels::from_pairs(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Task};
    use crate::component::{COMPONENTS, all_in_one};

    #[test]
    fn help_names_the_features_and_others_are_told_of() {
        let given = ["--enable-feature=promql-experimental-functions, nonsense", "--enable-feature=promql-at-modifier"];
        let words = ["uru", "query"].into_iter().chain(given).map(Into::into);
        let Ok(Task::Run(found)) = cli::parse(COMPONENTS, words) else { panic!("{given:?}") };
        assert_eq!(unknown_features(&found.values, &FEATURES), ["nonsense", "promql-at-modifier"]);
        for component in [SUBCOMMAND, all_in_one::SUBCOMMAND] {
            let flag = component.flags().find(|flag| flag.name == "enable-feature").unwrap();
            assert!(FEATURES.iter().all(|name| flag.help.contains(name)), "{}: {}", component.name, flag.help);
        }
    }
}
