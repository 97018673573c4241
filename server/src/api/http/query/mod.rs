//! Prometheus' HTTP API with Thanos' extra parameters.

/// Queries that have their turn, in a file.
pub mod active;
/// What answers: local blocks, or endpoints.
pub mod backend;
pub(crate) mod body;
/// When requests end.
pub mod ending;
pub(crate) mod evaluate;
mod federated;
/// Turns of queries.
pub mod gate;
mod json;
mod labels;
/// How far back selectors look.
pub mod lookback;
mod params;
mod read;
mod read_frames;
mod read_samples;
pub(crate) mod respond;
/// What runs: build, run time, flags.
pub mod status;
mod times;
/// What queries take.
pub mod timings;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use backend::{Backend, FailureDefaults};
use engine::model::{Budget, Error, ErrorKind};
use engine::promql::Engine;
use engine::promql::syntax;
use gate::Gate;
use lookback::Lookback;
use respond::Failure;

pub use labels::unescape;
pub(crate) use params::Params;
pub use read::is_request;
pub(crate) use tree::selectors_of;

use super::blocks::Origins;
use super::coding;
use super::health::Health;
use super::measure::{CountedTenant, begin_for};
use crate::api::parsing::Parsing;
use crate::edge::certificate::ClientCertificate;
use crate::ingest::tenant::Tenancy;

/// What the API needs to answer.
pub struct Api {
    /// Where series come from.
    pub backend: Arc<dyn Backend>,
    /// What evaluates queries.
    pub engine: Engine,
    /// Which experimental syntax is understood.
    pub syntax: syntax::Options,
    /// Limits and defaults.
    pub settings: Settings,
    /// Queries at work (`--query.max-concurrent`).
    pub gate: Gate,
    /// Parses requests.
    pub parsing: Parsing,
    /// The process' memory, which answers take until they are sent.
    pub memory: Arc<Budget>,
}

/// Limits and defaults of the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest time of a query.
    pub timeout: Duration,
    /// Labels that tell replicas apart.
    pub replica_labels: Vec<String>,
    /// What to do when endpoints fail, by default.
    pub on_failure: FailureDefaults,
    /// Whether queries read downsampled data by themselves.
    pub auto_downsampling: bool,
    /// Coarsest resolution that instant queries read where downsampling is automatic, in milliseconds.
    pub instant_resolution_ms: i64,
    /// How far back instant selectors look when a request does not say it.
    pub lookback: Lookback,
    /// Whether pages of other origins may read the API.
    pub origins: Origins,
    /// Step of a range query that says none, at least.
    pub default_step: Duration,
    /// How far back labels and series are looked up by default; zero for all time.
    pub metadata_range: Duration,
    /// Flags as given or by default, for the status page.
    pub flags: BTreeMap<String, String>,
    /// When the process started.
    pub started: SystemTime,
    /// How the tenant of a request is found.
    pub tenancy: Tenancy,
    /// Label that every selector is narrowed to the tenant by; none when tenancy is not enforced.
    pub tenant_label: Option<String>,
}

impl Default for Settings {
    /// The defaults of Thanos' querier.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2 * 60),
            replica_labels: Vec::new(),
            on_failure: FailureDefaults::default(),
            auto_downsampling: false,
            instant_resolution_ms: 0,
            lookback: Lookback::Dynamic,
            default_step: Duration::from_secs(1),
            metadata_range: Duration::ZERO,
            flags: BTreeMap::new(),
            started: SystemTime::now(),
            tenancy: Tenancy { header: "THANOS-TENANT".to_owned(), default: "default-tenant".to_owned(), field: None },
            origins: Origins::All,
            tenant_label: None,
        }
    }
}

impl Api {
    /// What `work` gives within the time that a query may take: endpoints that hang don't hold a
    /// request for ever.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let timeout = self.settings.timeout;
        let late = |_| Err(Error::new(ErrorKind::Deadline, format!("no answer within {timeout:?} (--query.timeout)")));
        Ok(tokio::time::timeout(timeout, work).await.unwrap_or_else(late)?)
    }
}

/// An API that is asked.
pub struct Asked {
    /// It.
    pub api: Arc<Api>,
    /// Whether the process is ready, where there is an API before it is.
    pub health: Option<Health>,
}

impl Asked {
    /// Whether a request can be answered: what is asked of samples once the process is ready, as in Prometheus, since
    /// before an answer would be without those that are not open yet; what the process is at any time.
    fn is_ready_for(&self, path: &str) -> bool {
        let asked = path.split_once("/api/v1/").map(|(_, asked)| asked);
        self.health.as_ref().is_none_or(Health::is_ready) || asked.is_none_or(|asked| asked.starts_with("status/"))
    }

    /// The tenant that a request is counted for.
    fn tenant_of(&self, request: &Request) -> String {
        let tenancy = &self.api.settings.tenancy;
        let tenant = tenancy.tenant(request.headers(), request.extensions().get::<ClientCertificate>());
        tenant.unwrap_or_else(|_| tenancy.default.clone())
    }
}

/// Counts a request for its tenant and accounts for its answer.
async fn counted(asked: &Asked, request: Request, next: Next) -> Response {
    if !asked.is_ready_for(request.uri().path()) {
        let why = "the process is starting or ending: ask again when /-/ready says OK";
        return Failure::unavailable(why).into_response();
    }
    let tenant = asked.tenant_of(&request);
    begin_for(request.extensions(), &tenant);
    let mut response = respond::accounted(State(Arc::clone(&asked.api.memory)), request, next).await;
    response.extensions_mut().insert(CountedTenant(tenant));
    response
}

/// All that is done about each request and its answer, in one: every layer of a router makes a service of each request,
/// which small queries feel.
async fn about(State(asked): State<Arc<Asked>>, request: Request, next: Next) -> Response {
    let accepted = coding::accepted(request.headers());
    let mut response = match respond::preflight(&request) {
        Some(answer) => answer,
        None => counted(&asked, request, next).await,
    };
    respond::allow(&mut response, asked.api.settings.origins);
    coding::encoded(response, accepted).await
}

/// The routes below `/api/v1`.
pub fn routes(asked: Asked) -> Router {
    let both: [(&str, MethodRouter<Arc<Api>>); 9] = [
        ("/query", get(evaluate::instant).post(evaluate::instant)),
        ("/query_range", get(evaluate::range).post(evaluate::range)),
        ("/query_explain", get(evaluate::explain_instant).post(evaluate::explain_instant)),
        ("/query_range_explain", get(evaluate::explain_range).post(evaluate::explain_range)),
        ("/parse_query", get(tree::parsed_tree).post(tree::parsed_tree)),
        ("/format_query", get(tree::format).post(tree::format)),
        ("/series", get(labels::series).post(labels::series)),
        ("/labels", get(labels::names).post(labels::names)),
        ("/query_exemplars", get(federated::exemplars).post(federated::exemplars)),
    ];
    let mut router = Router::new()
        .route("/label/{name}/values", get(labels::values))
        .route("/read", post(read::read))
        .route("/stores", get(federated::stores))
        .route("/rules", get(federated::rules))
        .route("/alerts", get(federated::alerts))
        .route("/targets", get(federated::targets))
        .route("/metadata", get(federated::metadata))
        .route("/status/buildinfo", get(status::build))
        .route("/status/runtimeinfo", get(status::runtime))
        .route("/status/flags", get(status::flags))
        .route("/status/config", get(status::config))
        .route("/status/tsdb", get(federated::tsdb));
    for (path, methods) in both {
        router = router.route(path, methods);
    }
    let asked = Arc::new(asked);
    let router = router.with_state(Arc::clone(&asked.api));
    Router::new().nest("/api/v1", router).layer(from_fn_with_state(asked, about))
}
