//! Heads and local blocks, also beside a bucket's, as the source of one PromQL query.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Ingest, ViewRequest};
use crate::block::{BlockSet, Detail};
use crate::model::matcher::Matcher;
use crate::model::{Error, TimeRange};
use crate::promql::assemble::Merging;
use crate::promql::blocks::{BlockSource, Scope};
use crate::promql::source::{BatchSink, SelectRequest, Selected, Shares, Source};
use crate::shard::gather::block_on;

/// The source of one query. Each of the query's selections gets one view, made where the query is cut
/// into parts: a shard must not be the first to ask.
pub struct HeadSource {
    ingest: Arc<Ingest>,
    scope: Scope,
    tenants: Option<Vec<Arc<str>>>,
    bucket: Arc<BlockSet>,
    /// Few, as a query has few selections.
    views: Mutex<Vec<View>>,
}

/// A view and what it depends on.
struct View {
    matchers: Vec<Matcher>,
    range: TimeRange,
    source: Arc<BlockSource>,
}

impl Ingest {
    /// The heads and local blocks of `tenants`, or of all, as `scope` shows them.
    pub fn source(self: &Arc<Self>, tenants: Option<Vec<Arc<str>>>, mut scope: Scope) -> HeadSource {
        if scope.merging == Merging::Nothing {
            // Blocks of late samples overlap the others.
            scope.merging = Merging::Chain;
        }
        HeadSource { ingest: Arc::clone(self), scope, tenants, bucket: Arc::default(), views: Mutex::default() }
    }
}

impl HeadSource {
    /// The same source, which also reads the blocks of `bucket`.
    pub fn beside(self, bucket: Arc<BlockSet>) -> Self {
        Self { bucket, ..self }
    }

    fn view(&self, request: &SelectRequest<'_>) -> Result<Arc<BlockSource>, Error> {
        let (matchers, range) = (request.matchers, request.range);
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.iter().find(|view| view.range == range && view.matchers == matchers) {
            return Ok(Arc::clone(&view.source));
        }
        let (tenants, memory) = (self.tenants.clone(), Arc::clone(&self.scope.budget));
        let (matchers, patience) = (matchers.to_vec(), self.scope.patience.clone());
        let wanted = ViewRequest { tenants, matchers, range, detail: Detail::Chunks, memory, patience };
        let set = block_on(self.ingest.view(&wanted))?.with(&self.bucket);
        let source = Arc::new(BlockSource::new(Arc::new(set), self.scope.clone()));
        views.push(View { matchers: wanted.matchers, range, source: Arc::clone(&source) });
        Ok(source)
    }
}

impl Source for HeadSource {
    /// Makes the view, so that no shard has to wait for it.
    fn cores(&self, request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        self.view(request)?.cores(request)
    }

    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        self.view(request)?.select(request, sink)
    }
}
