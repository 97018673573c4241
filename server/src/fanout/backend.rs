//! The backend of the HTTP API over endpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use engine::model::{Error, Labels};
use engine::promql::assemble::Merging;
use engine::promql::source::Source;
use proto::thanos::SeriesRequest;
use serde_json::Value;
use tokio::runtime::Handle;

use super::distributed::distribute;
use super::proxy::{Proxy, SeriesAsked};
use super::source::RemoteSource;
use crate::api::http::query::backend::{Backend, Federated, Found, Planned, Question, Scope, Wanted};
use crate::api::http::query::ending::Ending;

/// Endpoints as a backend.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// Who asks.
    pub proxy: Proxy,
    /// How replicas become one series (`--deduplication.func`).
    pub merging: Merging,
    /// Who evaluates (`--query.mode`).
    pub mode: Mode,
}

/// Who evaluates queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The querier, over series.
    Local,
    /// Endpoints do their share of aggregations.
    Distributed,
}

impl Fanout {
    fn remote(&self, scope: &Scope, ending: &Ending) -> RemoteSource {
        RemoteSource {
            proxy: self.proxy.clone(),
            scope: scope.clone(),
            ending: ending.clone(),
            merging: self.merging,
            runtime: Handle::current(),
        }
    }
}

/// Bytes of the labels of a series in a list: where they lie, in the room for as many again, and where they were before
/// that or are put in order.
const LISTED_BYTES: u64 = 3 * size_of::<Labels>() as u64;

#[async_trait]
impl Backend for Fanout {
    fn source(&self, scope: &Scope, ending: &Ending) -> Arc<dyn Source> {
        Arc::new(self.remote(scope, ending))
    }

    fn plan(&self, asked: Question<'_>, scope: &Scope, ending: &Ending) -> Planned {
        let remote = self.remote(scope, ending);
        if self.mode == Mode::Local || scope.shard.is_some() {
            return Planned { left: None, source: Arc::new(remote) };
        }
        match distribute(remote, (asked.expr, asked.when, asked.lookback_ms)) {
            Ok((left, source)) => Planned { left: Some(left), source: Arc::new(source) },
            Err(remote) => Planned { left: None, source: Arc::from(remote as Box<dyn Source>) },
        }
    }

    async fn series(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<Labels>>, Error> {
        // A warning that several lists are answered with is one.
        let (mut all, mut warnings, mut held) = (Vec::new(), BTreeSet::new(), self.proxy.memory.reserve(0)?);
        for matchers in &wanted.matchers {
            // A series counts whatever its samples are: of old ones there may be downsampled blocks alone.
            let (limit, max_resolution_window) = (wanted.limit as i64, i64::MAX);
            let request = SeriesRequest { skip_chunks: true, limit, max_resolution_window, ..Default::default() };
            let asked = SeriesAsked { matchers: matchers.clone(), range: wanted.range, request };
            let mut merge = self.proxy.series(scope, asked).await?;
            while let Some(series) = merge.next().await? {
                held.grow(series.labels.heap_bytes() as u64 + LISTED_BYTES)?;
                all.push(Arc::unwrap_or_clone(series.labels));
            }
            warnings.extend(merge.take_warnings());
        }
        all.sort();
        all.dedup();
        Ok(Found { data: all, warnings: warnings.into_iter().collect(), held })
    }

    async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.proxy.label_names(scope, wanted).await
    }

    async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.proxy.label_values(scope, name, wanted).await
    }

    fn endpoints(&self) -> Value {
        self.proxy.endpoints.listing()
    }

    fn configuration(&self) -> String {
        self.proxy.endpoints.to_yaml()
    }

    async fn federated(&self, scope: &Scope, what: Federated) -> Result<Found<Value>, Error> {
        super::answers::ask(&self.proxy, scope, &what).await
    }
}
