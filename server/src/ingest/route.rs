//! Placing series on receivers: each series of a request goes to as many receivers as the
//! replication factor says, and the request succeeds when enough of them have each.
//!
//! Series are kept encoded, as they are forwarded, and where nothing changes them in the request's own bytes;
//! what this receiver keeps itself it reads again.

mod passing;
mod place;
mod quorum;
mod router;
mod writes;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use engine::model::Reservation;
use proto::wire::put_varint;
use proto::write;
use tokio::sync::mpsc;

use super::forward::{Hop, Pending};
use super::intake::{Protocol, Taken, Untaken, take};
use super::metrics::Stage;
use super::refusal::{Refusal, RefusalKind, judge};
use super::room::{Keeps, NoRoom, Roomed, hold_tenants};
use super::{Mode, Receiver, tenant};
use crate::cluster::hashring::Placement;
use passing::Passing;
use place::{Body, Destination, Group, Placer};
use quorum::Quorum;
pub use router::Routed;
use router::{Families, Router};
pub use writes::Writes;

/// Which part of the memory of write requests what is on its way to one receiver may take once half of it is in use.
const PEER_SHARE: u64 = 8;

impl Receiver {
    /// Whether requests can be kept as they come, without placing their series.
    pub fn keeps_all(&self) -> bool {
        self.options.mode == Mode::Ingestor && self.relabel.is_empty() && self.options.split_label.is_none()
    }

    /// Reads a request of one tenant for placing.
    /// `held` answers for its bytes, and for what becomes of them.
    pub fn route(
        &self,
        tenant: &str,
        (protocol, request, held): (Protocol, Vec<u8>, Reservation),
    ) -> Result<(Routed, Reservation), Refusal> {
        let no_room = |error| self.untaken(Untaken::NoRoom(error));
        let bytes = held.bytes();
        if protocol == Protocol::V1 && self.relabel.is_empty() && self.options.split_label.is_none() {
            let mut passing = Roomed::new((Passing::new(tenant), Keeps::Places), held);
            protocol.scan(&request, &mut passing).map_err(malformed)?;
            let (passing, held) = passing.finish().map_err(no_room)?;
            return Ok((Routed { bytes: request.into(), ..passing.finish() }, held));
        }
        let families = if self.options.mode == Mode::Ingestor { Families::Kept } else { Families::LeftOut };
        let router = Router::new(&self.relabel, self.options.split_label.as_deref(), tenant).with(families);
        let mut router = Roomed::new((router, Keeps::All), held);
        protocol.scan(&request, &mut router).map_err(malformed)?;
        let (router, mut held) = router.finish().map_err(no_room)?;
        held.shrink(bytes);
        Ok((router.finish()?, held))
    }

    /// `bytes` of the memory of write requests.
    pub fn hold(&self, bytes: u64) -> Result<Reservation, Refusal> {
        self.memory.reserve(bytes).map_err(|error| Refusal::no_memory(&self.memory, bytes, &error))
    }

    /// Why a request is not taken.
    pub fn untaken(&self, untaken: Untaken) -> Refusal {
        match untaken {
            Untaken::Malformed(error) => malformed(error),
            Untaken::NoRoom(NoRoom { bytes, error }) => Refusal::no_memory(&self.memory, bytes, &error),
        }
    }

    /// Reads what another receiver forwarded, the series of `tenants` in `message`; labels were changed there.
    /// `held` grows by what it becomes.
    pub fn route_forwarded(
        &self,
        message: &Bytes,
        tenants: &[write::TenantSeries<'_>],
        held: Reservation,
    ) -> Result<(Routed, Reservation), Refusal> {
        let no_room = |error| self.untaken(Untaken::NoRoom(error));
        let default = self.options.tenancy.default.as_str();
        let name_of =
            |series: &write::TenantSeries<'_>| self.forwarded_tenant(series.tenant).map_err(Refusal::of_series);
        if let Some(split_label) = self.options.split_label.as_deref() {
            let mut router = Roomed::new((Router::new(&[], Some(split_label), default), Keeps::All), held);
            for series in tenants {
                router.sink().set_tenant(&name_of(series)?);
                series.read(&mut router).map_err(malformed)?;
            }
            let (router, held) = router.finish().map_err(no_room)?;
            return Ok((router.finish().map_err(Refusal::of_series)?, held));
        }
        let mut passing = Roomed::new((Passing::new(default), Keeps::Places), held);
        for series in tenants {
            passing.sink().set_tenant(&name_of(series)?);
            series.read(&mut passing).map_err(malformed)?;
        }
        let (passing, held) = passing.finish().map_err(no_room)?;
        Ok((Routed { bytes: message.clone(), ..passing.finish() }, held))
    }

    /// The tenant of forwarded series.
    pub fn forwarded_tenant(&self, name: &[u8]) -> Result<String, Refusal> {
        let name = std::str::from_utf8(name).map_err(|_| Refusal::invalid("tenant name not valid"))?;
        let name = if name.is_empty() { self.options.tenancy.default.as_str() } else { name };
        tenant::check(name).map_err(Refusal::invalid)?;
        Ok(name.to_owned())
    }

    /// Which replica a request is here that says it is `replica`: 0 when it is not replicated yet, else its number
    /// from 1.
    pub fn replica(&self, replica: u64) -> Result<u64, Refusal> {
        // A replica's number shows cycles between receivers that both place and keep; where a
        // receiver does one of them there is no cycle.
        let replica = if self.options.mode == Mode::RouterIngestor { replica } else { 0 };
        if replica > self.factor() {
            return Err(Refusal::invalid("request replica exceeds receiver replication factor"));
        }
        Ok(replica)
    }

    /// Receivers that each series goes to.
    fn factor(&self) -> u64 {
        self.options.replication_factor.max(1) as u64
    }

    /// Writes a request to the receivers of its series, as the replica that it says it is. What it holds becomes what
    /// its copies for them hold.
    pub async fn write_routed(
        self: &Arc<Self>,
        (mut routed, held): (Routed, Reservation),
        replica: u64,
    ) -> Result<(), Refusal> {
        let (factor, replica) = (self.factor(), self.replica(replica)?);
        let replicas = if replica == 0 { 0..factor } else { replica - 1..replica };
        let begin = Instant::now();
        let series = routed.series.len();
        let bytes = routed.bytes.len() + routed.families.values().map(Vec::len).sum::<usize>();
        let mut held = self.hold_copies(held, (bytes, replicas.clone().count()))?;
        let mut of_tenants = self.hold(0)?;
        hold_tenants(&mut of_tenants, routed.tenants.len()).map_err(|none| self.untaken(Untaken::NoRoom(none)))?;
        let mut groups = self.place(&routed, replicas.clone())?;
        self.keep_families(&mut groups, std::mem::take(&mut routed.families));
        let tenants: Arc<[Arc<str>]> = routed.tenants.into();
        // The copies stay.
        drop(routed.bytes);
        let copied = groups.iter().map(|group| bytes_of(&group.bodies)).sum();
        held.shrink(held.bytes().saturating_sub(copied));
        self.metrics.stage(Stage::Route, begin);
        let begin = Instant::now();
        let (sender, mut answers) = mpsc::unbounded_channel();
        for Group { to, ids, bodies } in groups {
            let bytes = bytes_of(&bodies);
            let held = held.split(bytes);
            let pending = match self.admit(&to, bytes) {
                Ok(pending) => pending,
                Err(refusal) => {
                    self.count_forward(&to, &Err(refusal.clone()), replica == 0);
                    let _ = sender.send((ids, Err(refusal)));
                    continue;
                }
            };
            let (receiver, tenants, sender) = (Arc::clone(self), Arc::clone(&tenants), sender.clone());
            let hop = if replica == 0 { Hop::First } else { Hop::Again };
            tokio::spawn(async move {
                let written = receiver.write_group((&to, hop), &tenants, (bodies, held));
                let outcome = tokio::time::timeout(receiver.options.forward_timeout, written).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    if !receiver.is_here(&to) {
                        receiver.peers.note_silent(&to.address, begin);
                    }
                    Err(Refusal::unavailable(format!("endpoint {} did not answer in time", to.address)))
                });
                receiver.count_forward(&to, &outcome, hop == Hop::First);
                drop(pending);
                // Who waited may have its quorum already.
                let _ = sender.send((ids, outcome));
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

    /// Makes room for `copies` of a request of so many bytes beside itself; receivers that are late have theirs beyond
    /// its answer.
    fn hold_copies(&self, mut held: Reservation, (bytes, copies): (usize, usize)) -> Result<Reservation, Refusal> {
        let all = bytes as u64 * (1 + copies as u64);
        held.resize(all).map_err(|error| Refusal::no_memory(&self.memory, all, &error))?;
        Ok(held)
    }

    /// Lets `bytes` more be on their way to a receiver, unless that is this one.
    fn admit(&self, to: &Destination, bytes: u64) -> Result<Option<Pending>, Refusal> {
        if self.is_here(to) {
            return Ok(None);
        }
        let (limit, usage) = (self.memory.limit(), self.memory.usage());
        let bytes_max = if usage.used > limit / 2 { limit / PEER_SHARE } else { limit };
        self.peers.admit(&to.address, (bytes, bytes_max)).map(Some)
    }

    /// What goes to each receiver.
    fn place(&self, routed: &Routed, replicas: Range<u64>) -> Result<Vec<Group>, Refusal> {
        let rings = self.rings.current();
        let mut placements: Vec<Option<Placement>> = Vec::with_capacity(routed.tenants.len());
        for (tenant, (series, _)) in routed.tenants.iter().zip(&routed.shares) {
            // As with Thanos, nobody need take a tenant that has no series here, as that of a request whose series name
            // others.
            let rings = rings.as_ref().filter(|_| *series > 0);
            let placement = rings.map(|rings| rings.placement(tenant)).transpose();
            // The rings may take the tenant after their next change: as with Thanos, senders try again.
            placements.push(placement.map_err(|error| Refusal::internal(error.message()))?);
        }
        Placer::new(&self.options.local_endpoint, replicas).place(routed, placements)
    }

    /// Adds what is said of metric families to what goes to this receiver, which is all where it is kept.
    fn keep_families(&self, groups: &mut Vec<Group>, families: BTreeMap<usize, Vec<u8>>) {
        if families.is_empty() {
            return;
        }
        if groups.is_empty() {
            let to = Destination { address: self.options.local_endpoint.clone(), replica: 0 };
            groups.push(Group { to, ids: Vec::new(), bodies: Vec::new() });
        }
        let bodies = &mut groups[0].bodies;
        let places: HashMap<usize, usize> = bodies.iter().enumerate().map(|(at, body)| (body.tenant, at)).collect();
        for (tenant, said) in families {
            match places.get(&tenant) {
                Some(at) => bodies[*at].series.extend_from_slice(&said),
                None => bodies.push(Body { tenant, series: said }),
            }
        }
    }

    async fn write_group(
        &self,
        (to, hop): (&Destination, Hop),
        tenants: &[Arc<str>],
        (bodies, mut held): (Vec<Body>, Reservation),
    ) -> Result<(), Refusal> {
        if self.is_here(to) {
            let mut writes = Writes::new(&self.memory);
            for Body { tenant, series } in bodies {
                writes.room().await;
                let held = held.split(series.len() as u64);
                let taken = take(Protocol::V1, series, held).map_err(|untaken| self.untaken(untaken));
                let tenant: &str = &tenants[tenant];
                writes.add(taken.map(move |taken| self.write_taken(tenant, taken)));
            }
            return writes.end().await.map_or(Ok(()), Err);
        }
        let mut message = Vec::with_capacity(bodies.iter().map(|body| body.series.len() + 64).sum());
        for Body { tenant, series } in bodies {
            let mut name = Vec::new();
            write::put_text(&mut name, 2, &tenants[tenant]);
            message.push(4 << 3 | 2);
            put_varint(&mut message, (series.len() + name.len()) as u64);
            message.extend_from_slice(&series);
            message.extend_from_slice(&name);
        }
        message.push(3 << 3);
        put_varint(&mut message, to.replica + 1);
        self.peers.send(&to.address, message, hop).await
    }

    /// Writes the series of one tenant here.
    pub async fn write_taken(&self, tenant: &str, taken: Taken) -> Result<(), Refusal> {
        let Taken { batch, bad, .. } = taken;
        let report = self.append(tenant, batch).await?;
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

fn bytes_of(bodies: &[Body]) -> u64 {
    bodies.iter().map(|body| body.series.len() as u64).sum()
}

fn malformed(error: write::Malformed) -> Refusal {
    Refusal::invalid(error.to_string())
}
