//! What the API asks: local blocks, or endpoints behind a fan-out.

use std::sync::Arc;

use async_trait::async_trait;
use engine::model::matcher::Matcher;
use engine::model::{Error, Labels, TimeRange};
use engine::promql::When;
use engine::promql::source::Source;
use engine::promql::syntax::Expr;
use serde_json::Value;

use super::ending::Ending;

/// How a request wants its series.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Labels that tell replicas apart, to be merged; none when replicas stay apart.
    pub replica_labels: Vec<String>,
    /// What to do when an endpoint fails.
    pub on_failure: OnFailure,
    /// Coarsest resolution that may be read, in milliseconds.
    pub max_resolution_ms: i64,
    /// Endpoints asked: those whose labels match all of one of the lists; all when there is none.
    pub store_matchers: Vec<Vec<Matcher>>,
    /// On whose behalf.
    pub tenant: String,
}

/// What to do when an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Answer without it, with a warning.
    Warn,
    /// Fail.
    Abort,
}

/// An answer and what went wrong on the way.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The answer.
    pub data: T,
    /// Warnings of endpoints and blocks.
    pub warnings: Vec<String>,
}

/// What names, values and series are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Lists of which at least one must match as a whole; no list matches everything.
    pub matchers: Vec<Vec<Matcher>>,
    /// Times at which they must exist.
    pub range: TimeRange,
    /// How many at most; 0 for all.
    pub limit: usize,
}

/// Which things of endpoints are wanted, by HTTP parameters as they came.
#[derive(Clone, Debug)]
pub enum Federated {
    /// Rule groups: `type`, names, groups, files and matchers.
    Rules(Vec<(String, String)>),
    /// Scrape targets: `state`.
    Targets(Vec<(String, String)>),
    /// Metric metadata: `metric` and `limit`.
    Metadata(Vec<(String, String)>),
    /// Exemplars: `query`, `start` and `end`.
    Exemplars(Vec<(String, String)>),
    /// Cardinality of heads: `limit` and tenants.
    TsdbStatus(Vec<(String, String)>),
}

/// A query as a backend is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its tree.
    pub expr: &'a Expr,
    /// When it is evaluated.
    pub when: When,
    /// Milliseconds that an instant selector looks back.
    pub lookback_ms: i64,
}

/// Answers for everything below the HTTP API.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Where queries of `scope` read until `ending`; its `select` blocks and runs outside of the edge
    /// threads.
    fn source(&self, scope: &Scope, ending: &Ending) -> Arc<dyn Source>;

    /// The same for one query: what of it is left to evaluate when others have done their share, and
    /// where that reads; no expression when it is all of it.
    fn plan(&self, _: Question<'_>, scope: &Scope, ending: &Ending) -> (Option<Expr>, Arc<dyn Source>) {
        (None, self.source(scope, ending))
    }

    /// Series, by labels.
    async fn series(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<Labels>>, Error>;

    /// Label names, sorted.
    async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error>;

    /// Values of the label called `name`, sorted.
    async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error>;

    /// Endpoints by kind of component, as Thanos' `/api/v1/stores` lists them.
    fn endpoints(&self) -> Value;

    /// What endpoints know beside series, as Prometheus' API has it under `data`.
    async fn federated(&self, scope: &Scope, what: Federated) -> Result<Found<Value>, Error>;
}
