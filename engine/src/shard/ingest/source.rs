//! Heads and local blocks, also beside a bucket's, as the source of one PromQL query.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Ingest, ViewRequest};
use crate::block::{BlockSet, Detail};
use crate::model::matcher::Matcher;
use crate::model::{Error, TimeRange};
use crate::promql::assemble::Merging;
use crate::promql::blocks::{BlockSource, Fetch, Scope};
use crate::promql::source::{BatchSink, SelectRequest, Selected, Shares, Source, Types};
use crate::shard::gather::block_on;

/// The source of one query. Each of the query's selections gets one view, made where the query is cut
/// into parts: a shard must not be the first to ask.
pub struct HeadSource {
    ingest: Arc<Ingest>,
    scope: Scope,
    tenants: Option<Vec<Arc<str>>>,
    bucket: Option<Box<BucketBlocks>>,
    /// Few, as a query has few selections.
    views: Mutex<Vec<View>>,
}

/// Gives the blocks of a bucket as they are now, and what gets their bytes where that is not the scope's.
type BucketBlocks = dyn Fn() -> (Arc<BlockSet>, Option<Arc<Fetch>>) + Send + Sync;

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
        HeadSource { ingest: Arc::clone(self), scope, tenants, bucket: None, views: Mutex::default() }
    }
}

impl HeadSource {
    /// The same source, which also reads the blocks of `bucket`.
    pub fn beside(self, bucket: Arc<BlockSet>) -> Self {
        self.beside_current(move || (Arc::clone(&bucket), None))
    }

    /// The same source, which also reads the blocks that `bucket` gives: it is asked after each look at what is kept
    /// here, so that what is no longer is in the bucket by then.
    pub fn beside_current(
        self,
        bucket: impl Fn() -> (Arc<BlockSet>, Option<Arc<Fetch>>) + Send + Sync + 'static,
    ) -> Self {
        Self { bucket: Some(Box::new(bucket)), ..self }
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
        let (mut set, mut scope) = (block_on(self.ingest.view(&wanted))?, self.scope.clone());
        if let Some(bucket) = &self.bucket {
            let (blocks, fetch) = bucket();
            set = set.with(&blocks);
            scope.fetch = fetch.or(scope.fetch);
        }
        let source = Arc::new(BlockSource::new(Arc::new(set), scope));
        views.push(View { matchers: wanted.matchers, range, source: Arc::clone(&source) });
        Ok(source)
    }
}

impl Source for HeadSource {
    /// Makes the view, so that no shard has to wait for it.
    fn cores(&self, request: &SelectRequest<'_>) -> Result<Option<Shares>, Error> {
        self.view(request)?.cores(request)
    }

    fn types(&self, request: &SelectRequest<'_>) -> Result<Types, Error> {
        self.view(request)?.types(request)
    }

    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        self.view(request)?.select(request, sink)
    }
}
