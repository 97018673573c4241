//! Queries over a gateway's own blocks, decoded where the chunks are; what else the API asks goes
//! over the StoreAPI.

use std::sync::Arc;

use async_trait::async_trait;
use engine::block::BlockSet;
use engine::model::{Error, ErrorKind, Labels, Resolution};
use engine::promql::assemble::Merging;
use engine::promql::blocks::{self, BlockSource};
use engine::promql::source::{BatchSink, SelectRequest, Selected, Shares, Source, Types};
use engine::select::{Fetched, RemoteRange};
use engine::shard::Fetcher;
use serde_json::Value;
use tokio::runtime::Handle;

use super::Gateway;
use super::fetch::BucketFetcher;
use super::request::clamp;
use super::series::ONLY_TENANT;
use crate::api::http::query::backend::{Backend, Federated, Found, OnFailure, Scope, TargetState, Wanted};
use crate::api::http::query::ending::Ending;
use crate::fanout::{Fanout, answers};
use crate::ingest::scrape::OwnTarget;

/// A gateway as the backend of queries.
#[derive(Clone)]
pub struct GatewayBackend {
    /// Whose blocks are read.
    pub gateway: Arc<Gateway>,
    /// What answers everything but queries, and queries that choose endpoints.
    pub fanout: Fanout,
    /// What this process scrapes itself, which is a target beside those of endpoints.
    pub scraped: Option<OwnTarget>,
}

/// Makes of a set of blocks what gets their bytes.
type Fetching = dyn Fn(&Arc<BlockSet>) -> Arc<blocks::Fetch> + Send + Sync;

/// Blocks whose failures end the query or only warn.
struct LocalSource<S> {
    gateway: Arc<Gateway>,
    blocks: S,
    on_failure: OnFailure,
}

impl<S> LocalSource<S> {
    /// What is wanted of the times that are served; `None` when that is nothing.
    fn served<'a>(&self, request: &SelectRequest<'a>) -> Option<SelectRequest<'a>> {
        let range = clamp(request.range, self.gateway.times());
        (range.min_time <= range.max_time).then(|| SelectRequest { range, ..request.clone() })
    }
}

impl<S: Source> Source for LocalSource<S> {
    /// A single part is so little that whoever asks has read it before a core would have woken up.
    fn cores(&self, request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        let Some(request) = self.served(request) else { return Ok(None) };
        Ok(self.blocks.cores(&request)?.filter(|(_, parts)| *parts > 1))
    }

    fn types(&self, request: &SelectRequest<'_>) -> Result<Types, Error> {
        self.served(request).map_or(Ok(Types::Same), |request| self.blocks.types(&request))
    }

    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let Some(request) = &self.served(request) else { return Ok(Selected::default()) };
        let mut selected = self.blocks.select(request, sink)?;
        // What a Series request is told too.
        if self.gateway.only_names_a_tenant(request.matchers, request.range) {
            selected.warnings.push(ONLY_TENANT.to_owned());
        }
        match (selected.warnings.first(), self.on_failure) {
            (Some(warning), OnFailure::Abort) => Err(Error::new(ErrorKind::Unavailable, warning.as_str())),
            _ => Ok(selected),
        }
    }
}

impl GatewayBackend {
    /// What makes of a set of blocks what gets their bytes for one query.
    fn fetching(&self, ending: &Ending) -> Box<Fetching> {
        let all = BucketFetcher::new(self.gateway.ranges.clone(), Arc::default());
        let (runtime, ending) = (Handle::current(), ending.clone());
        Box::new(move |set: &Arc<BlockSet>| -> Arc<blocks::Fetch> {
            let (fetcher, runtime, end) = (all.about(Arc::clone(set)), runtime.clone(), ending.clone());
            Arc::new(move |ranges: &[RemoteRange]| -> Vec<Fetched> {
                let fetched = runtime.block_on(end.race(async { Ok(fetcher.fetch(ranges.to_vec()).await) }));
                let failed =
                    |error: &Error| Fetched { bytes: Err(error.clone()), downloaded_bytes: 0, downloads: 0, moment: 0 };
                fetched.unwrap_or_else(|error| ranges.iter().map(|_| failed(&error)).collect())
            })
        })
    }

    /// What asks endpoints. Where there is one, it is this process, which knows what it holds by now: what it said of
    /// that last may be seconds old, and who is new is not among it.
    fn asking(&self) -> &Fanout {
        for own in self.fanout.proxy.endpoints.all() {
            let (label_sets, store) = self.gateway.store_info();
            own.holds(label_sets, store);
        }
        &self.fanout
    }

    /// What a query sees of blocks; the scope gets no bytes yet.
    fn scope(&self, scope: &Scope, ending: &Ending) -> blocks::Scope {
        blocks::Scope {
            replica_labels: scope.replica_labels.clone(),
            merging: if scope.replica_labels.is_empty() { Merging::Nothing } else { self.fanout.merging },
            max_resolution: Resolution(scope.max_resolution_ms),
            shard: scope.shard.clone(),
            limits: self.gateway.request_limits(),
            patience: ending.patience(),
            budget: Arc::clone(&self.gateway.selector.budget),
            cores: Some(self.gateway.selector.pool.clone()),
            fetch: None,
        }
    }
}

#[async_trait]
impl Backend for GatewayBackend {
    fn source(&self, scope: &Scope, ending: &Ending) -> Arc<dyn Source> {
        if !scope.store_matchers.is_empty() {
            return self.asking().source(scope, ending);
        }
        let (local, fetching) = (self.scope(scope, ending), self.fetching(ending));
        let (gateway, on_failure) = (Arc::clone(&self.gateway), scope.on_failure);
        let own = Arc::clone(&self.gateway);
        let current = move || {
            let set = Arc::clone(&own.blocks.current().set);
            let fetch = fetching(&set);
            (set, Some(fetch))
        };
        if let Some(ingest) = self.gateway.kept() {
            let blocks = ingest.source(None, local).beside_current(current);
            return Arc::new(LocalSource { gateway, blocks, on_failure });
        }
        let (set, fetch) = current();
        let blocks = BlockSource::new(set, blocks::Scope { fetch, ..local });
        Arc::new(LocalSource { gateway, blocks, on_failure })
    }

    async fn series(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<Labels>>, Error> {
        self.asking().series(scope, wanted).await
    }

    async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.asking().label_names(scope, wanted).await
    }

    async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.asking().label_values(scope, name, wanted).await
    }

    fn endpoints(&self) -> Value {
        self.fanout.endpoints()
    }

    fn configuration(&self) -> String {
        self.fanout.configuration()
    }

    async fn federated(&self, scope: &Scope, what: Federated) -> Result<Found<Value>, Error> {
        match (&self.scraped, &what) {
            (Some(own), Federated::Targets(state)) => {
                let own = if *state == TargetState::Dropped { None } else { Some(own.discovery()) };
                answers::ask_for_targets(&self.fanout.proxy, scope, *state, own).await
            }
            _ => self.fanout.federated(scope, what).await,
        }
    }
}
