//! What of a request goes to each receiver.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::router::Routed;
use crate::cluster::hashring::{Endpoint, Placement, Spot};
use crate::ingest::refusal::Refusal;

/// A receiver, and the number from 0 of the replica that it gets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    /// Its address; this receiver's own is the one that it calls itself.
    pub(super) address: String,
    /// Which replica.
    pub(super) replica: u64,
}

/// What goes to one receiver.
#[derive(Debug)]
pub(super) struct Group {
    /// Whom it goes to.
    pub(super) to: Destination,
    /// Which series of the request they are.
    pub(super) ids: Vec<u32>,
    /// The series of each tenant.
    pub(super) bodies: Vec<Body>,
}

/// What goes to one receiver of one tenant.
#[derive(Debug)]
pub(super) struct Body {
    /// The tenant, by its place in the request's list.
    pub(super) tenant: usize,
    /// Its series, encoded; where this receiver is alone also what is said of metric families.
    pub(super) series: Vec<u8>,
}

/// Where a body is among the groups.
#[derive(Clone, Copy, Debug)]
struct BodyPlace {
    group: usize,
    body: usize,
}

/// Sorts the series of a request by receiver.
pub(super) struct Placer<'r> {
    /// What this receiver calls itself.
    local: &'r str,
    replicas: Range<u64>,
    groups: Vec<Group>,
    /// Which of `groups` has a destination.
    places: BTreeMap<Destination, usize>,
    /// Which body of a group a tenant has.
    bodies: HashMap<(usize, usize), usize>,
}

/// The receivers of one tenant, and where its series for each of them go.
struct TenantPlaces {
    /// None where this receiver keeps everything.
    placement: Option<Placement>,
    /// The body for each endpoint of the ring and replica, once there is one.
    bodies: Vec<Option<BodyPlace>>,
}

impl<'r> Placer<'r> {
    /// Places `replicas` of each series, as seen from the receiver that calls itself `local`.
    pub(super) fn new(local: &'r str, replicas: Range<u64>) -> Self {
        Self { local, replicas, groups: Vec::new(), places: BTreeMap::new(), bodies: HashMap::new() }
    }

    /// Places all series; `placements` are the rings of the request's tenants, of which those without series need none.
    pub(super) fn place(mut self, routed: &Routed, placements: Vec<Option<Placement>>) -> Result<Vec<Group>, Refusal> {
        let (first, copies) = (self.replicas.start, self.replicas.clone().count());
        let mut tenants: Vec<TenantPlaces> =
            placements.into_iter().map(|ring| TenantPlaces::new(ring, copies)).collect();
        let tenant_count = routed.shares.iter().filter(|(series, _)| *series > 0).count();
        for (id, series) in routed.series.iter().enumerate() {
            let tenant = &mut tenants[series.tenant];
            let spot = tenant.placement.as_ref().map(|ring| ring.spot(series.hash));
            for replica in self.replicas.clone() {
                let endpoint = tenant.endpoint(spot, replica)?;
                let at = endpoint * copies + (replica - first) as usize;
                let place = match tenant.bodies[at] {
                    Some(found) => found,
                    None => {
                        let address = tenant.address(endpoint, self.local).to_owned();
                        let opened = self.open(Destination { address, replica }, series.tenant);
                        // As much as it gets when tenants send alike, of which each receiver of a ring gets the same.
                        let share = routed.bytes.len() * copies / (tenant.bodies.len() * tenant_count);
                        self.body(opened).series.reserve(share + share / 8);
                        *tenant.bodies[at].insert(opened)
                    }
                };
                self.groups[place.group].ids.push(id as u32);
                self.body(place).series.extend_from_slice(&routed.bytes[series.range.clone()]);
            }
        }
        Ok(self.groups)
    }

    fn body(&mut self, place: BodyPlace) -> &mut Body {
        &mut self.groups[place.group].bodies[place.body]
    }

    /// Opens a body for series of `tenant`.
    fn open(&mut self, to: Destination, tenant: usize) -> BodyPlace {
        let group = *self.places.entry(to).or_insert_with_key(|to| {
            self.groups.push(Group { to: to.clone(), ids: Vec::new(), bodies: Vec::new() });
            self.groups.len() - 1
        });
        let bodies = &mut self.groups[group].bodies;
        // Two endpoints of a ring may be this receiver.
        let body = *self.bodies.entry((group, tenant)).or_insert_with(|| {
            bodies.push(Body { tenant, series: Vec::new() });
            bodies.len() - 1
        });
        BodyPlace { group, body }
    }
}

impl TenantPlaces {
    fn new(placement: Option<Placement>, copies: usize) -> Self {
        let endpoints = placement.as_ref().map_or(1, |ring| ring.endpoints().len());
        Self { placement, bodies: vec![None; endpoints * copies] }
    }

    /// Which endpoint of the ring gets a replica.
    fn endpoint(&self, spot: Option<Spot>, replica: u64) -> Result<usize, Refusal> {
        let Some((ring, spot)) = self.placement.as_ref().zip(spot) else { return Ok(0) };
        // As with Thanos: it's the ring's fault, and the next one may have more receivers.
        ring.endpoint(spot, replica as usize).map_err(|error| Refusal::internal(error.message()))
    }

    fn address<'a>(&'a self, endpoint: usize, local: &'a str) -> &'a str {
        let endpoint: Option<&Endpoint> = self.placement.as_ref().and_then(|ring| ring.endpoints().get(endpoint));
        endpoint.filter(|endpoint| !endpoint.has_address(local)).map_or(local, |endpoint| &endpoint.address)
    }
}

#[cfg(test)]
mod tests {
    use super::super::router::RoutedSeries;
    use super::*;

    /// Each tenant was looked for among all others, when it was first named and for each receiver.
    #[test]
    fn a_request_of_very_many_tenants_is_placed_in_about_as_many_steps_as_it_has_series() {
        const TENANTS: usize = 200_000;
        let bytes: Vec<u8> = (0..TENANTS).map(|at| at as u8).collect();
        let mut routed = Routed { bytes: bytes.into(), ..Routed::of("none") };
        for at in 0..TENANTS {
            let tenant = routed.tenant_number(&format!("tenant-{at}"));
            assert_eq!((tenant, routed.tenant_number(&format!("tenant-{at}"))), (at + 1, at + 1));
            routed.shares[tenant].0 += 1;
            routed.series.push(RoutedSeries { tenant, hash: 0, range: at..at + 1 });
        }
        let placements = routed.tenants.iter().map(|_| None).collect();
        let groups = Placer::new("here:1", 0..1).place(&routed, placements).unwrap();
        assert_eq!((groups.len(), groups[0].ids.len(), groups[0].bodies.len()), (1, TENANTS, TENANTS));
        for (at, body) in groups[0].bodies.iter().enumerate() {
            assert_eq!((body.tenant, body.series.as_slice()), (at + 1, &[at as u8][..]));
        }
        assert_eq!(routed.shares().len(), TENANTS);
    }
}
