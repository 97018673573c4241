//! Reads: views of the heads beside the local blocks, as one set of blocks.
//!
//! Views are made before the local blocks are listed: samples that leave a head meanwhile are in a
//! block that is listed, and what is in both is the same chunk.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Ingest, Tenant};
use crate::block::set::strip_external;
use crate::block::{BlockSet, Detail, OpenedBlock};
use crate::codec::StringList;
use crate::head::cardinality::{Cardinality, LabelCounts};
use crate::head::{OwnedMetadata, SeriesExemplars, view};
use crate::model::{Budget, Error, Labels, LabelsBuilder, Matcher, Patience, TimeRange, Waiting};
use crate::select::{LabelAnswer, LabelRequest, Limits, held_bytes};
use crate::shard::gather::{Selector, answer};

/// Which part of the heads and local blocks is wanted.
#[derive(Clone, Debug)]
pub struct ViewRequest {
    /// Tenants; `None` for all.
    pub tenants: Option<Vec<Arc<str>>>,
    /// What series must match, external labels among them.
    pub matchers: Vec<Matcher>,
    /// Chunks that share a millisecond with this range.
    pub range: TimeRange,
    /// Whether chunks are wanted or labels alone.
    pub detail: Detail,
    /// The memory that the view of the heads takes as long as it is there.
    pub memory: Arc<Budget>,
    /// When and by whom the work for it is ended.
    pub patience: Patience,
}

impl Ingest {
    /// Heads and local blocks as they are now, for requests with these matchers and a range within this
    /// one alone.
    pub async fn view(&self, request: &ViewRequest) -> Result<BlockSet, Error> {
        let (mut waiting, caller) = (Vec::new(), Waiting::new(request.patience.clone()));
        let tenants = self.wanted(request.tenants.as_deref());
        for (tenant, matchers) in with_own_matchers(&tenants, &request.matchers) {
            // As in Thanos: without a matcher on the series' own labels none is found.
            if matchers.is_empty() {
                continue;
            }
            let matchers: Arc<[Matcher]> = matchers.into();
            for partition in tenant.partitions_in(request.range) {
                let (tenant, matchers, range) = (Arc::clone(tenant), Arc::clone(&matchers), request.range);
                let (detail, memory, wanted) = (request.detail, Arc::clone(&request.memory), caller.wanted());
                waiting.push(self.ask(partition, move |own| -> Result<Option<Arc<OpenedBlock>>, Error> {
                    let Some(head) = own.look(&tenant.name) else { return Ok(None) };
                    let (excerpt, held) = head.excerpt_within(&matchers, range, (detail, &memory), &wanted)?;
                    Ok((!excerpt.is_empty()).then(|| view::open((excerpt, held), (*tenant.labels()).clone())))
                })?);
            }
        }
        let mut blocks = Vec::new();
        for receiver in waiting {
            blocks.extend(answer(receiver.recv_async().await)???);
        }
        blocks.extend(local_blocks(&tenants));
        Ok(BlockSet::new(blocks))
    }

    /// Names of labels, or values of one, in heads and local blocks.
    pub async fn labels(
        &self,
        selector: &Selector,
        request: LabelRequest,
        limits: Limits,
    ) -> Result<LabelAnswer, Error> {
        let tenants = self.wanted(None);
        let mut strings = BTreeSet::new();
        let (mut waiting, caller) = (Vec::new(), Waiting::default());
        for (tenant, matchers) in with_own_matchers(&tenants, &request.matchers) {
            let matchers: Arc<[Matcher]> = matchers.into();
            for partition in tenant.partitions_in(request.range) {
                let (tenant, matchers) = (Arc::clone(tenant), Arc::clone(&matchers));
                let (name, wanted) = (request.name.clone(), caller.wanted());
                waiting.push(self.ask(partition, move |own| -> Result<BTreeSet<String>, Error> {
                    let Some(head) = own.look(&tenant.name) else { return Ok(BTreeSet::new()) };
                    let found = match &name {
                        None => head.label_names(&matchers, &wanted)?,
                        Some(name) => head.label_values(name, &matchers, &wanted)?,
                    };
                    Ok(with_external(found, name.as_deref(), &tenant.labels(), || {
                        head.label_names(&matchers, &wanted).is_ok_and(|names| !names.is_empty())
                    }))
                })?);
            }
        }
        for receiver in waiting {
            strings.extend(answer(receiver.recv_async().await)???);
        }
        match &request.name {
            None => strings.retain(|name| !request.without_labels.contains(name)),
            Some(name) if request.without_labels.contains(name) => strings.clear(),
            Some(_) => {}
        }
        let set = BlockSet::new(local_blocks(&tenants));
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let strings: StringList = strings.iter().map(String::as_str).collect();
        let LabelAnswer { strings: of_blocks, failures, mut held } = selector.labels(&set, request, limits).await?;
        held.push(selector.budget.reserve(held_bytes(&strings))?);
        let mut strings = StringList::merge(vec![strings, of_blocks]);
        strings.truncate(limit);
        Ok(LabelAnswer { strings, failures, held })
    }

    /// Exemplars in `range` of the series that all matchers of one of `selectors` match, with the external
    /// labels of their tenants.
    pub async fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<SeriesExemplars>, Error> {
        let (mut waiting, caller) = (Vec::new(), Waiting::default());
        for tenant in self.wanted(None) {
            let labels = tenant.labels();
            let own: Vec<Vec<Matcher>> =
                selectors.iter().filter_map(|matchers| strip_external(matchers, &labels)).collect();
            for partition in 0..self.partitions() {
                let (tenant, labels, own) = (Arc::clone(&tenant), Arc::clone(&labels), own.clone());
                let wanted = caller.wanted();
                waiting.push(self.ask(partition, move |partition| -> Result<Vec<SeriesExemplars>, Error> {
                    let Some(head) = partition.look(&tenant.name) else { return Ok(Vec::new()) };
                    let mut found = head.exemplars(&own, range, &wanted)?;
                    found.iter_mut().for_each(|series| series.series = joined(&series.series, &labels));
                    Ok(found)
                })?);
            }
        }
        let mut all = Vec::new();
        for receiver in waiting {
            all.extend(answer(receiver.recv_async().await)???);
        }
        all.sort_by(|left, right| left.series.cmp(&right.series));
        Ok(all)
    }

    /// The greatest counts of the series of `tenant` by their labels, `limit` of each kind.
    pub async fn cardinality(&self, tenant: &str, limit: usize) -> Result<Cardinality, Error> {
        let Some(tenant) = self.known(tenant) else { return Ok(Cardinality::default()) };
        let mut counts = LabelCounts::default();
        for partition in 0..self.partitions() {
            let name = Arc::clone(&tenant.name);
            let part = self.ask(partition, move |own| {
                let mut counts = LabelCounts::default();
                if let Some(head) = own.look(&name) {
                    head.count_labels(&mut counts);
                }
                counts
            })?;
            counts.add(answer(part.recv_async().await)??);
        }
        let stats = tenant.stats();
        let (series, chunks) = (stats.series, stats.chunks);
        let (min_time, max_time) = (stats.min_time, stats.max_time);
        Ok(Cardinality { series, chunks, min_time, max_time, ..counts.greatest(limit) })
    }

    /// What is said of the metrics of `tenant`, by name; of one alone when `metric` names it.
    pub async fn metadata(&self, tenant: &str, metric: Option<&str>) -> Result<Vec<(String, OwnedMetadata)>, Error> {
        let mut all = Vec::new();
        for partition in 0..self.partitions() {
            let (tenant, metric) = (tenant.to_owned(), metric.map(str::to_owned));
            let part = self.ask(partition, move |own| {
                let said = own.look(&tenant).map(|head| {
                    let wanted = head.metadata().filter(|(name, _)| metric.as_deref().is_none_or(|own| own == *name));
                    wanted.map(|(name, said)| (name.to_owned(), said.clone())).collect::<Vec<_>>()
                });
                said.unwrap_or_default()
            })?;
            all.extend(answer(part.recv_async().await)??);
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all.dedup();
        Ok(all)
    }

    fn wanted(&self, names: Option<&[Arc<str>]>) -> Vec<Arc<Tenant>> {
        match names {
            Some(names) => names.iter().filter_map(|name| self.known(name)).collect(),
            None => self.tenants().iter().filter_map(|name| self.known(name)).collect(),
        }
    }
}

/// The tenants whose external labels match, with the matchers that are about other labels.
fn with_own_matchers<'t>(
    tenants: &'t [Arc<Tenant>],
    matchers: &[Matcher],
) -> impl Iterator<Item = (&'t Arc<Tenant>, Vec<Matcher>)> {
    tenants.iter().filter_map(move |tenant| Some((tenant, strip_external(matchers, &tenant.labels())?)))
}

fn local_blocks(tenants: &[Arc<Tenant>]) -> impl Iterator<Item = Arc<OpenedBlock>> {
    tenants.iter().flat_map(|tenant| tenant.blocks.all()).map(|block| Arc::clone(block.opened()))
}

/// Names or values of a head's series with those of its external labels, when there are series.
fn with_external(
    mut found: BTreeSet<String>,
    name: Option<&str>,
    external: &Labels,
    has_series: impl Fn() -> bool,
) -> BTreeSet<String> {
    match name {
        None if !found.is_empty() => found.extend(external.iter().map(|(name, _)| name.to_owned())),
        None => {}
        Some(name) => {
            if let Some(value) = external.get(name).filter(|_| has_series()) {
                found = BTreeSet::from([value.to_owned()]);
            }
        }
    }
    found
}

/// `own` labels with `external` ones, which win.
fn joined(own: &Labels, external: &Labels) -> Labels {
    let mut labels = LabelsBuilder::from_labels(own);
    for (name, value) in external.iter() {
        labels.set(name, value);
    }
    labels.build()
}
