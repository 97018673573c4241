//! The heads and local blocks of a process that ingests, seen together with the blocks of its bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::block::BlockSet;
use engine::codec::StringList;
use engine::model::{Error, Labels, Matcher, Patience, TimeRange};
use engine::select::{LabelAnswer, LabelRequest, Request};
use engine::shard::Ingest;
use engine::shard::ingest::ViewRequest;

use super::Gateway;

impl Gateway {
    /// The heads and local blocks, where they are open.
    pub fn kept(&self) -> Option<&Arc<Ingest>> {
        self.ingest.as_ref()?.get()
    }

    /// The blocks that a request must ask: the bucket's, and what is kept here as it is now. The bucket's are looked at
    /// last: samples that are no longer kept here are among them by then.
    pub async fn holding(&self, asked: &Request) -> Result<Arc<BlockSet>, Error> {
        let Some(ingest) = self.kept() else { return Ok(Arc::clone(&self.blocks.current().set)) };
        let memory = Arc::clone(&self.selector.budget);
        let (matchers, range, detail) = (asked.matchers.clone(), asked.range, asked.detail);
        let patience = Patience::default();
        let request = ViewRequest { tenants: None, matchers, range, detail, memory, patience };
        let kept = ingest.view(&request).await?;
        Ok(Arc::new(kept.with(&self.blocks.current().set)))
    }

    /// Why a request for series is refused that would be answered with all series of a tenant, in
    /// Thanos' words; a store of blocks alone takes it.
    pub(super) fn refuse_unselective(&self, matchers: &[Matcher]) -> Result<(), Error> {
        if self.ingest.is_some() && matchers.is_empty() {
            return Err(Error::invalid("no matchers specified (excluding selector labels)"));
        }
        Ok(())
    }

    /// Whether `matchers` say nothing of a tenant that is kept but its external labels: it answers
    /// nothing, and says so.
    pub(super) fn only_names_a_tenant(&self, matchers: &[Matcher], range: TimeRange) -> bool {
        let is_of = |labels: &Labels| {
            matchers.iter().all(|matcher| labels.get(matcher.name()).is_some_and(|value| matcher.matches(value)))
        };
        let meets = |own: &TimeRange| own.min_time <= range.max_time && own.max_time >= range.min_time;
        let Some(ingest) = self.kept() else { return false };
        let mut tenants = ingest.tenants().into_iter();
        // Times only of tenants that are named: hardly a request names one, and there may be many blocks.
        tenants.any(|tenant| is_of(&ingest.external_labels(&tenant)) && kept_times(ingest, &tenant).iter().any(meets))
    }

    /// Names or values of labels in what is kept.
    pub(super) async fn kept_labels(&self, request: LabelRequest) -> Result<Option<LabelAnswer>, Error> {
        let Some(ingest) = self.kept() else { return Ok(None) };
        ingest.labels(&self.selector, request, self.request_limits()).await.map(Some)
    }

    /// The external labels of what is kept and the times that it covers.
    pub(super) fn kept_ranges(&self) -> BTreeMap<Labels, Vec<TimeRange>> {
        let mut ranges: BTreeMap<Labels, Vec<TimeRange>> = BTreeMap::new();
        let Some(ingest) = self.kept() else { return ranges };
        for tenant in ingest.tenants() {
            ranges.entry(ingest.external_labels(&tenant)).or_default().extend(kept_times(ingest, &tenant));
        }
        ranges
    }
}

/// Adds names or values of what is kept to those of the bucket's blocks, up to `limit` of them; 0 for all.
pub(super) fn add_labels(found: &mut LabelAnswer, kept: LabelAnswer, limit: usize) {
    found.failures.extend(kept.failures);
    found.held.extend(kept.held);
    found.strings = StringList::merge(vec![std::mem::take(&mut found.strings), kept.strings]);
    if limit > 0 {
        found.strings.truncate(limit);
    }
}

/// The times of the heads and local blocks of `tenant`.
fn kept_times(ingest: &Ingest, tenant: &str) -> Vec<TimeRange> {
    let heads = ingest.stats(tenant).filter(|stats| stats.min_time <= stats.max_time);
    let heads = heads.map(|stats| TimeRange::new(stats.min_time, i64::MAX));
    let blocks = ingest.local_blocks(tenant);
    let blocks = blocks.iter().map(|block| TimeRange::new(block.meta.min_time, block.meta.max_time));
    heads.into_iter().chain(blocks).collect()
}
