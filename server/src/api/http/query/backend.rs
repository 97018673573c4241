//! What the API asks: local blocks, or endpoints behind a fan-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use engine::model::matcher::Matcher;
use engine::model::{Error, Labels, Reservation, TimeRange};
use engine::promql::explain::Explained;
use engine::promql::source::Source;
use engine::promql::syntax::Expr;
use engine::promql::{QueryResult, When, remarks};
use engine::select::ShardInfo;
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
    /// The only share of the series; none for all.
    pub shard: Option<ShardInfo>,
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

/// What to do when an endpoint fails where a request does not say it, by what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureDefaults {
    /// Queries, series and labels.
    pub queries: OnFailure,
    /// Rules and alerts.
    pub rules: OnFailure,
    /// Targets.
    pub targets: OnFailure,
    /// Metadata of metrics.
    pub metadata: OnFailure,
    /// Exemplars.
    pub exemplars: OnFailure,
    /// Cardinality of heads.
    pub cardinalities: OnFailure,
}

impl Default for FailureDefaults {
    /// The defaults of Thanos' querier.
    fn default() -> Self {
        let warn = OnFailure::Warn;
        Self { queries: warn, rules: warn, targets: warn, metadata: warn, exemplars: warn, cardinalities: warn }
    }
}

/// An answer and what went wrong on the way.
#[derive(Debug)]
pub struct Found<T> {
    /// The answer.
    pub data: T,
    /// Warnings of endpoints and blocks.
    pub warnings: Vec<String>,
    /// The memory that both take, until they are answered.
    pub held: Reservation,
}

impl<T> Found<T> {
    /// The same with what `change` makes of the answer.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { data: change(self.data), warnings: self.warnings, held: self.held }
    }
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

/// Which things of endpoints are wanted.
#[derive(Clone, Debug)]
pub enum Federated {
    /// Rule groups.
    Rules(RulesWanted),
    /// Scrape targets.
    Targets(TargetState),
    /// Metadata of metrics.
    Metadata {
        /// The only metric; empty for all.
        metric: String,
        /// Metrics at most; negative for all.
        limit: i32,
    },
    /// Exemplars.
    Exemplars {
        /// Series must match one of these.
        selectors: Vec<Vec<Matcher>>,
        /// Times of the exemplars.
        range: TimeRange,
    },
    /// Cardinality of heads.
    TsdbStatus(StatisticsWanted),
}

/// Which rules are wanted; an empty list is any.
#[derive(Clone, Debug, Default)]
pub struct RulesWanted {
    /// Their kind.
    pub kind: RuleKind,
    /// All must match the labels of a rule.
    pub matchers: Vec<Vec<Matcher>>,
    /// The same as text.
    pub selectors: Vec<String>,
    /// Names of rules.
    pub names: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
    /// Files of groups.
    pub files: Vec<String>,
}

/// Kinds of rules, as the wire numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleKind {
    /// Any.
    #[default]
    All = 0,
    /// Alerting rules.
    Alerting = 1,
    /// Recording rules.
    Recording = 2,
}

/// States of targets, as the wire numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Any.
    Any = 0,
    /// Those that are scraped.
    Active = 1,
    /// Those that relabelling dropped.
    Dropped = 2,
}

/// Which cardinalities are wanted.
#[derive(Clone, Debug)]
pub struct StatisticsWanted {
    /// Rows of each table at most; 0 for the default.
    pub limit: i32,
    /// What external labels must match.
    pub matchers: Vec<Matcher>,
    /// The only tenant; none for all of them together.
    pub tenant: Option<String>,
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

/// How a query is evaluated.
pub struct Planned {
    /// What of it is left when others have done their share; nothing when it is all of it.
    pub left: Option<Left>,
    /// Where that reads.
    pub source: Arc<dyn Source>,
}

/// What is left of a query.
#[derive(Debug)]
pub struct Left {
    /// Its tree.
    pub expr: Expr,
    /// Selectors that stand for what others do, as they are printed, each with what that is.
    pub stand_ins: Vec<(String, String)>,
    /// What others tell meanwhile.
    pub others: Arc<Others>,
}

/// What others tell while they do their share of a query.
#[derive(Debug, Default)]
pub struct Others {
    gave_up: AtomicBool,
    samples: AtomicU64,
}

impl Left {
    /// An explanation that tells what others do in place of the selectors that stand for it.
    pub fn explain(&self, explained: &mut Explained) {
        let name = &mut explained.name;
        if let Some((_, share)) = self.stand_ins.iter().find(|(selector, _)| name.contains(selector.as_str())) {
            name.clone_from(share);
        }
        explained.children.iter_mut().for_each(|child| self.explain(child));
    }

    /// The result with what others did for it.
    pub fn complete(&self, mut result: QueryResult) -> QueryResult {
        let samples = &mut result.stats.samples_queried;
        *samples = samples.saturating_add(self.others.samples.load(Ordering::Relaxed));
        self.explain(&mut result.explained);
        remarks::take_out_repeats(&mut result.warnings);
        remarks::take_out_repeats(&mut result.infos);
        result
    }
}

impl Others {
    /// Says that one of them does not understand its share, so that the whole is to be evaluated without them.
    pub fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// Whether one of them did not.
    pub fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Counts samples that they have looked at.
    pub fn count(&self, samples: u64) {
        let more = |counted: u64| Some(counted.saturating_add(samples));
        // It always gives a number.
        let _ = self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// Answers for everything below the HTTP API.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Where queries of `scope` read until `ending`; its `select` blocks and runs outside of the edge
    /// threads.
    fn source(&self, scope: &Scope, ending: &Ending) -> Arc<dyn Source>;

    /// The same for one query, of which others may do a share.
    fn plan(&self, _: Question<'_>, scope: &Scope, ending: &Ending) -> Planned {
        Planned { left: None, source: self.source(scope, ending) }
    }

    /// Series, by labels.
    async fn series(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<Labels>>, Error>;

    /// Label names, sorted.
    async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error>;

    /// Values of the label called `name`, sorted.
    async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error>;

    /// Endpoints by kind of component, as Thanos' `/api/v1/stores` lists them.
    fn endpoints(&self) -> Value;

    /// What endpoints are found by, as YAML.
    fn configuration(&self) -> String;

    /// What endpoints know beside series, as Prometheus' API has it under `data`.
    async fn federated(&self, scope: &Scope, what: Federated) -> Result<Found<Value>, Error>;
}
