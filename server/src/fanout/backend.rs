//! The backend of the HTTP API over endpoints.

use std::sync::Arc;

use async_trait::async_trait;
use engine::model::{Error, Labels};
use engine::promql::assemble::Merging;
use engine::promql::source::Source;
use proto::thanos::SeriesRequest;
use serde_json::Value;
use tokio::runtime::Handle;

use super::proxy::{Proxy, SeriesAsked};
use super::source::RemoteSource;
use crate::api::http::query::backend::{Backend, Federated, Found, Scope, Wanted};

/// Endpoints as a backend.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// Who asks.
    pub proxy: Proxy,
    /// How replicas become one series (`--deduplication.func`).
    pub merging: Merging,
}

#[async_trait]
impl Backend for Fanout {
    fn source(&self, scope: &Scope) -> Arc<dyn Source> {
        Arc::new(RemoteSource {
            proxy: self.proxy.clone(),
            scope: scope.clone(),
            merging: self.merging,
            runtime: Handle::current(),
        })
    }

    async fn series(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<Labels>>, Error> {
        let (mut all, mut warnings) = (Vec::new(), Vec::new());
        for matchers in &wanted.matchers {
            let request = SeriesRequest { skip_chunks: true, limit: wanted.limit as i64, ..SeriesRequest::default() };
            let asked = SeriesAsked { matchers: matchers.clone(), range: wanted.range, request };
            let mut merge = self.proxy.series(scope, asked).await?;
            while let Some(series) = merge.next().await? {
                all.push(series.labels);
            }
            warnings.extend(merge.take_warnings());
        }
        all.sort();
        all.dedup();
        Ok(Found { data: all, warnings })
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

    async fn federated(&self, scope: &Scope, what: Federated) -> Result<Found<Value>, Error> {
        super::federated::ask(&self.proxy, scope, &what).await
    }
}
