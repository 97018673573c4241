//! Reads: views of the heads beside the local blocks, as one set of blocks.
//!
//! Views are made before the local blocks are listed: samples that leave a head meanwhile are in a
//! block that is listed, and what is in both is the same chunk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{Ingest, Tenant};
use crate::block::set::strip_external;
use crate::block::{BlockSet, Detail, OpenedBlock};
use crate::codec::StringList;
use crate::head::cardinality::{Cardinality, LabelCounts};
use crate::head::{Head, OwnedMetadata, SeriesExemplars, view};
use crate::model::{Budget, Error, IsWanted, Labels, LabelsBuilder, Matcher, Patience, TimeRange, Waiting};
use crate::select::{LabelAnswer, LabelRequest, Limits, held_bytes};
use crate::shard::gather::{Selector, answer};
use crate::shard::pool::SLICE;

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
        let (tenants, caller) = (self.wanted(request.tenants.as_deref()), Waiting::new(request.patience.clone()));
        // As in Thanos: without a matcher on the series' own labels none is found.
        let asked = with_own_matchers(&tenants, &request.matchers).filter(|(_, matchers)| !matchers.is_empty());
        let lists = self.by_partition(asked, request.range);
        let (range, detail, memory) = (request.range, request.detail, Arc::clone(&request.memory));
        let found = self.look_at(lists, &caller, move |head, (tenant, matchers), wanted, blocks: &mut Vec<_>| {
            let (excerpt, held) = head.excerpt_within(&matchers, range, (detail, &memory), wanted)?;
            if !excerpt.is_empty() {
                blocks.push(view::open((excerpt, held), (*tenant.labels()).clone()));
            }
            Ok(())
        });
        let mut blocks: Vec<Arc<OpenedBlock>> = found.await?.into_iter().flatten().collect();
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
        let (tenants, caller) = (self.wanted(None), Waiting::default());
        let lists = self.by_partition(with_own_matchers(&tenants, &request.matchers), request.range);
        let name = request.name.clone();
        let found = self.look_at(lists, &caller, move |head, (tenant, matchers), wanted, all: &mut BTreeSet<_>| {
            let found = match &name {
                None => head.label_names(&matchers, wanted)?,
                Some(name) => head.label_values(name, &matchers, wanted)?,
            };
            all.extend(with_external(found, name.as_deref(), &tenant.labels(), || {
                head.label_names(&matchers, wanted).is_ok_and(|names| !names.is_empty())
            }));
            Ok(())
        });
        let mut strings: BTreeSet<String> = found.await?.into_iter().flatten().collect();
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
        let (mut asked, caller) = (Vec::new(), Waiting::default());
        for tenant in self.wanted(None) {
            let labels = tenant.labels();
            let own: Arc<[Vec<Matcher>]> =
                selectors.iter().filter_map(|matchers| strip_external(matchers, &labels)).collect();
            if !own.is_empty() {
                asked.push((tenant, (labels, own)));
            }
        }
        let lists = vec![asked; self.partitions()];
        let found = self.look_at(lists, &caller, move |head, (_, (labels, own)), wanted, all: &mut Vec<_>| {
            let mut found = head.exemplars(&own, range, wanted)?;
            found.iter_mut().for_each(|series| series.series = joined(&series.series, &labels));
            all.append(&mut found);
            Ok(())
        });
        let mut all: Vec<SeriesExemplars> = found.await?.into_iter().flatten().collect();
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

    /// What `look` finds in the heads of the tenants that `lists` names for each partition, which are given to it with
    /// what is asked of them. However many tenants there are, a partition has one job in its shard's mailbox, which
    /// lets others go first after a [`SLICE`].
    async fn look_at<W, T>(
        &self,
        lists: Vec<Vec<(Arc<Tenant>, W)>>,
        caller: &Waiting,
        look: impl Fn(&Head, (&Tenant, W), IsWanted<'_>, &mut T) -> Result<(), Error> + Clone + Send + 'static,
    ) -> Result<Vec<T>, Error>
    where
        W: Send + 'static,
        T: Default + Send + 'static,
    {
        let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).enumerate().collect();
        let mut all = Vec::new();
        loop {
            let (mut waiting, to_do) = (Vec::new(), lists.drain(..).filter(|(_, left)| !left.as_slice().is_empty()));
            for (partition, mut left) in to_do {
                let (look, wanted) = (look.clone(), caller.wanted());
                let part = self.ask(partition, move |own| -> Result<_, Error> {
                    let (begin, mut found) = (Instant::now(), T::default());
                    for (tenant, asked) in left.by_ref() {
                        wanted()?;
                        if let Some(head) = own.look(&tenant.name) {
                            look(head, (&*tenant, asked), &wanted, &mut found)?;
                        }
                        if begin.elapsed() >= SLICE {
                            break;
                        }
                    }
                    Ok((found, left))
                })?;
                waiting.push((partition, part));
            }
            if waiting.is_empty() {
                return Ok(all);
            }
            for (partition, part) in waiting {
                let (found, left) = answer(part.recv_async().await)???;
                all.push(found);
                lists.push((partition, left));
            }
        }
    }

    /// Of each partition the tenants of `asked` whose heads there may have samples in `range`.
    fn by_partition<W: Clone>(
        &self,
        asked: impl Iterator<Item = (Arc<Tenant>, W)>,
        range: TimeRange,
    ) -> Vec<Vec<(Arc<Tenant>, W)>> {
        let mut lists: Vec<Vec<_>> = (0..self.partitions()).map(|_| Vec::new()).collect();
        for (tenant, own) in asked {
            for partition in tenant.partitions_in(range) {
                lists[partition].push((Arc::clone(&tenant), own.clone()));
            }
        }
        lists
    }

    fn wanted(&self, names: Option<&[Arc<str>]>) -> Vec<Arc<Tenant>> {
        match names {
            Some(names) => names.iter().filter_map(|name| self.known(name)).collect(),
            None => self.tenants().iter().filter_map(|name| self.known(name)).collect(),
        }
    }
}

/// The tenants whose external labels match, with the matchers that are about other labels.
fn with_own_matchers(
    tenants: &[Arc<Tenant>],
    matchers: &[Matcher],
) -> impl Iterator<Item = (Arc<Tenant>, Arc<[Matcher]>)> {
    tenants.iter().filter_map(move |tenant| {
        let own: Arc<[Matcher]> = strip_external(matchers, &tenant.labels())?.into();
        Some((Arc::clone(tenant), own))
    })
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
