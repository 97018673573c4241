//! Placing series on receivers: each series of a request goes to as many receivers as the
//! replication factor says, and the request succeeds when enough of them have each.
//!
//! Series are kept encoded, as they are forwarded; what this receiver keeps itself it reads again.

mod quorum;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use engine::codec::LabelFault;
use engine::model::Labels;
use engine::model::relabel::{Rule, relabel};
use proto::wire::put_varint;
use proto::write::{self, Exemplar, LabelPairs, Sample, Sink, put_double, put_label, put_message, put_sample};
use tokio::sync::mpsc;

use super::forward::Hop;
use super::intake::{Counts, Protocol, take};
use super::metrics::Stage;
use super::refusal::{Refusal, RefusalKind, judge};
use super::{Mode, Receiver, tenant};
use crate::cluster::hashring::{Placement, series_hash};
use quorum::Quorum;

/// A request whose series are to be placed.
#[derive(Debug, Default)]
pub struct Routed {
    /// Encoded series, each with its key and length.
    bytes: Vec<u8>,
    series: Vec<RoutedSeries>,
    tenants: Vec<String>,
    /// Series and floats of each tenant that are to be placed.
    shares: Vec<(u64, u64)>,
    /// What the request held.
    pub counts: Counts,
    /// Series and exemplars whose labels can't be told, which are placed nowhere.
    pub unresolved: u64,
    problem: Option<Refusal>,
}

impl Routed {
    /// Series and floats of each tenant that has any.
    pub fn shares(&self) -> Vec<(String, (u64, u64))> {
        let shares = self.tenants.iter().cloned().zip(self.shares.iter().copied());
        shares.filter(|(_, (series, _))| *series > 0).collect()
    }
}

#[derive(Clone, Debug)]
struct RoutedSeries {
    tenant: usize,
    hash: u64,
    range: Range<usize>,
}

/// Reads series, applies the rules of relabelling and splitting, and encodes them again.
struct Router<'r> {
    rules: &'r [Rule],
    split_label: Option<&'r str>,
    /// The tenant of series that name none.
    tenant: usize,
    routed: Routed,
    /// The current series without its key and length.
    message: Vec<u8>,
    is_open: bool,
    place: (usize, u64),
}

impl Receiver {
    /// Whether requests can be kept as they come, without placing their series.
    pub fn keeps_all(&self) -> bool {
        self.options.mode == Mode::Ingestor && self.relabel.is_empty() && self.options.split_label.is_none()
    }

    /// Reads a request of one tenant for placing.
    pub fn route(&self, tenant: &str, protocol: Protocol, request: &[u8]) -> Result<Routed, Refusal> {
        let mut router = Router::new(self, tenant);
        protocol.scan(request, &mut router).map_err(|error| Refusal::invalid(error.to_string()))?;
        router.finish()
    }

    /// Reads what another receiver forwarded; labels were changed there.
    pub fn route_forwarded(&self, tenants: &[write::TenantSeries<'_>]) -> Result<Routed, Refusal> {
        let mut router = Router::new(self, &self.options.tenancy.default);
        router.rules = &[];
        for series in tenants {
            let name = self.forwarded_tenant(series.tenant).map_err(Refusal::of_series)?;
            router.tenant = router.tenant_number(&name);
            series.read(&mut router).map_err(|error| Refusal::invalid(error.to_string()))?;
            router.close();
        }
        router.finish()
    }

    /// The tenant of forwarded series.
    pub fn forwarded_tenant(&self, name: &[u8]) -> Result<String, Refusal> {
        let name = std::str::from_utf8(name).map_err(|_| Refusal::invalid("tenant name not valid"))?;
        let name = if name.is_empty() { self.options.tenancy.default.as_str() } else { name };
        tenant::check(name).map_err(Refusal::invalid)?;
        Ok(name.to_owned())
    }

    /// Writes a request to the receivers of its series; `replica` is 0 when it is not replicated yet,
    /// else its number from 1.
    pub async fn write_routed(self: &Arc<Self>, routed: Routed, replica: u64) -> Result<(), Refusal> {
        let factor = self.options.replication_factor.max(1) as u64;
        // A replica's number shows cycles between receivers that both place and keep; where a
        // receiver does one of them there is no cycle.
        let replica = if self.options.mode == Mode::RouterIngestor { replica } else { 0 };
        if replica > factor {
            return Err(Refusal::invalid("request replica exceeds receiver replication factor"));
        }
        let replicas = if replica == 0 { 0..factor } else { replica - 1..replica };
        let begin = Instant::now();
        let series = routed.series.len();
        let groups = self.place(&routed, replicas.clone())?;
        self.metrics.stage(Stage::Route, begin);
        let begin = Instant::now();
        let (sender, mut answers) = mpsc::unbounded_channel();
        let tenants: Arc<[String]> = routed.tenants.into();
        for (destination, group) in groups {
            let (receiver, tenants, sender) = (Arc::clone(self), Arc::clone(&tenants), sender.clone());
            let hop = if replica == 0 { Hop::First } else { Hop::Again };
            tokio::spawn(async move {
                let written = receiver.write_group((&destination, hop), &tenants, &group.bodies);
                let outcome = tokio::time::timeout(receiver.options.forward_timeout, written).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    if !receiver.is_here(&destination) {
                        receiver.peers.note_silent(&destination.address, begin);
                    }
                    Err(Refusal::unavailable(format!("endpoint {} did not answer in time", destination.address)))
                });
                receiver.count_forward(&destination, &outcome, hop == Hop::First);
                // Who waited may have its quorum already.
                let _ = sender.send((group.ids, outcome));
            });
        }
        drop(sender);
        let mut quorum = Quorum::new(series, replicas.count(), factor as usize, replica != 0);
        while let Some((ids, outcome)) = answers.recv().await {
            quorum.note(&ids, outcome);
            if quorum.is_decided() {
                break;
            }
        }
        self.metrics.stage(Stage::Forward, begin);
        quorum.outcome()
    }

    /// What goes to each receiver.
    fn place(&self, routed: &Routed, replicas: Range<u64>) -> Result<BTreeMap<Destination, Group>, Refusal> {
        let mut groups: BTreeMap<Destination, Group> = BTreeMap::new();
        let rings = self.rings.current();
        if rings.is_none() && self.options.mode != Mode::Ingestor {
            return Err(Refusal::unavailable("hashring is not ready: waiting for --receive.hashrings-file"));
        }
        let mut placements: Vec<Option<Placement>> = Vec::with_capacity(routed.tenants.len());
        for tenant in &routed.tenants {
            let placement = rings.as_ref().map(|rings| rings.placement(tenant)).transpose();
            // The rings may take the tenant after their next change: as with Thanos, senders try again.
            placements.push(placement.map_err(|error| Refusal::internal(error.message()))?);
        }
        for (id, series) in routed.series.iter().enumerate() {
            for replica in replicas.clone() {
                let local = &*self.options.local_endpoint;
                let address = match &placements[series.tenant] {
                    Some(placement) => {
                        let endpoint = placement.endpoint(series.hash, replica as usize);
                        // As with Thanos: it's the ring's fault, and the next one may have more receivers.
                        let endpoint = endpoint.map_err(|error| Refusal::internal(error.message()))?;
                        if endpoint.has_address(local) { local } else { &*endpoint.address }
                    }
                    None => local,
                };
                let destination = Destination { address: address.to_owned(), replica };
                let group = groups.entry(destination).or_default();
                group.ids.push(id as u32);
                let body = group.bodies.entry(series.tenant).or_default();
                body.extend_from_slice(&routed.bytes[series.range.clone()]);
            }
        }
        Ok(groups)
    }

    async fn write_group(
        &self,
        (to, hop): (&Destination, Hop),
        tenants: &[String],
        bodies: &BTreeMap<usize, Vec<u8>>,
    ) -> Result<(), Refusal> {
        if self.is_here(to) {
            let mut refusals = Vec::new();
            for (tenant, body) in bodies {
                refusals.extend(self.write_local(&tenants[*tenant], body).await.err());
            }
            return Refusal::merge(refusals).map_or(Ok(()), Err);
        }
        let mut message = Vec::with_capacity(bodies.values().map(|body| body.len() + 64).sum());
        for (tenant, body) in bodies {
            let mut name = Vec::new();
            write::put_text(&mut name, 2, &tenants[*tenant]);
            message.push(4 << 3 | 2);
            put_varint(&mut message, (body.len() + name.len()) as u64);
            message.extend_from_slice(body);
            message.extend_from_slice(&name);
        }
        message.push(3 << 3);
        put_varint(&mut message, to.replica + 1);
        self.peers.send(&to.address, &message, hop).await
    }

    /// Writes the series of one tenant here.
    async fn write_local(&self, tenant: &str, body: &[u8]) -> Result<(), Refusal> {
        let taken = take(Protocol::V1, body.to_vec()).map_err(|error| Refusal::invalid(error.to_string()))?;
        let bad = taken.bad;
        let report = self.append(tenant, taken.batch).await?;
        judge(bad, &report).map_or(Ok(()), Err)
    }

    fn is_here(&self, destination: &Destination) -> bool {
        destination.address == self.options.local_endpoint && self.options.mode.ingests()
    }

    /// Counts a group as Thanos does: conflicts here are errors, those of other receivers are not counted.
    fn count_forward(&self, to: &Destination, outcome: &Result<(), Refusal>, counts_replication: bool) {
        let result = match outcome {
            Ok(()) => "success",
            Err(refusal) if refusal.kind == RefusalKind::Conflict && !self.is_here(to) => return,
            Err(_) => "error",
        };
        let labels = vec![("result", result.to_owned())];
        self.metrics.forward_requests.get_or_create(&labels).inc();
        if counts_replication {
            self.metrics.replications.get_or_create(&labels).inc();
        }
    }
}

/// A receiver, and the number from 0 of the replica that it gets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Destination {
    address: String,
    replica: u64,
}

/// What goes to one receiver: encoded series by tenant, and which series of the request they are.
#[derive(Debug, Default)]
struct Group {
    ids: Vec<u32>,
    bodies: BTreeMap<usize, Vec<u8>>,
}

impl<'r> Router<'r> {
    fn new(receiver: &'r Receiver, tenant: &str) -> Self {
        Self {
            rules: &receiver.relabel,
            split_label: receiver.options.split_label.as_deref(),
            tenant: 0,
            routed: Routed { tenants: vec![tenant.to_owned()], shares: vec![(0, 0)], ..Routed::default() },
            message: Vec::new(),
            is_open: false,
            place: (0, 0),
        }
    }

    fn finish(mut self) -> Result<Routed, Refusal> {
        self.close();
        match self.routed.problem.take() {
            Some(problem) => Err(problem),
            None => Ok(self.routed),
        }
    }

    fn tenant_number(&mut self, name: &str) -> usize {
        let tenants = &mut self.routed.tenants;
        tenants.iter().position(|known| known == name).unwrap_or_else(|| {
            tenants.push(name.to_owned());
            self.routed.shares.push((0, 0));
            tenants.len() - 1
        })
    }

    /// The current series is complete.
    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let start = self.routed.bytes.len();
            put_message(&mut self.routed.bytes, 1, &self.message);
            let (tenant, hash) = self.place;
            self.routed.shares[tenant].0 += 1;
            self.routed.series.push(RoutedSeries { tenant, hash, range: start..self.routed.bytes.len() });
        }
    }

    /// Opens a series with these labels; the one that names its tenant is left out.
    fn open(&mut self, labels: &LabelPairs<'_>) {
        let mut tenant = self.tenant;
        let split = self.split_label.map(str::as_bytes);
        let named = labels.iter().find(|(name, value)| Some(*name) == split && !value.is_empty());
        if let Some((_, value)) = named {
            let checked = std::str::from_utf8(value).map_err(|_| "tenant name not valid".to_owned());
            match checked.and_then(|name| tenant::check(name).map(|()| name)) {
                Ok(name) => tenant = self.tenant_number(name),
                Err(why) => self.routed.problem = Some(Refusal::invalid(why)),
            }
        }
        let kept = || labels.iter().filter(|(name, _)| named.is_none() || Some(*name) != split);
        let pairs = kept().map(|(name, value)| (*name, *value));
        self.place = (tenant, series_hash(&self.routed.tenants[tenant], pairs));
        self.message.clear();
        kept().for_each(|(name, value)| put_label(&mut self.message, name, value));
        self.is_open = true;
    }

    /// The labels after the rules; `None` when the series is dropped.
    fn relabelled(&self, labels: &LabelPairs<'_>) -> Option<Labels> {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (text(name), text(value))));
        relabel(self.rules, &labels)
    }
}

impl<'a> Sink<'a> for Router<'_> {
    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.close();
        self.routed.counts.series += 1;
        if self.rules.is_empty() {
            return self.open(labels);
        }
        if let Some(changed) = self.relabelled(labels) {
            let found = LabelFault::of(labels.iter().copied().filter(|(_, value)| !value.is_empty()));
            if found.is_some_and(|fault| fault != LabelFault::Empty) {
                // Its receiver refuses it, as without rules; a set of labels would have repaired it.
                return self.open(labels);
            }
            let pairs: Vec<(&[u8], &[u8])> =
                changed.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            self.open(&pairs);
        }
    }

    fn unresolved(&mut self, what: write::Unresolved) {
        self.routed.unresolved += 1;
        match what {
            write::Unresolved::Series => {
                self.close();
                self.routed.counts.series += 1;
            }
            write::Unresolved::Exemplar => self.routed.counts.exemplars += 1,
        }
    }

    fn sample(&mut self, sample: Sample) {
        self.routed.counts.samples += 1;
        if self.is_open {
            self.routed.shares[self.place.0].1 += 1;
        }
        put_sample(&mut self.message, sample);
    }

    fn histogram(&mut self, histogram: write::Histogram) {
        self.routed.counts.histograms += 1;
        let mut bytes = Vec::new();
        write::put_histogram(&mut bytes, &histogram);
        put_message(&mut self.message, 4, &bytes);
    }

    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.routed.counts.exemplars += 1;
        let mut bytes = Vec::new();
        labels.iter().for_each(|(name, value)| put_label(&mut bytes, name, value));
        put_double(&mut bytes, 2, exemplar.value);
        bytes.push(3 << 3);
        put_varint(&mut bytes, exemplar.time as u64);
        put_message(&mut self.message, 3, &bytes);
    }

    /// Receivers forward no metadata, as upstream's message has no place for it.
    fn metadata(&mut self, _: write::Metadata<'a>) {}
}
