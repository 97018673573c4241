//! Consistent hashing: each endpoint owns a thousand sections of the ring, each section knows the
//! endpoints of its replicas, spread over availability zones.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::Error;
use xxhash_rust::xxh64::xxh64;

use super::config::Endpoint;

/// Sections of each endpoint.
const SECTIONS_PER_ENDPOINT: usize = 1000;

/// A ring of sections.
#[derive(Debug)]
pub struct Ketama {
    endpoints: Vec<Endpoint>,
    sections: Vec<Section>,
    /// `replication_factor` endpoints for each section, in order.
    replicas: Vec<u32>,
    replication_factor: usize,
}

/// A point of the ring that belongs to an endpoint, by its place in the list.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where on the ring the section ends.
    pub hash: u64,
    /// Its owner.
    pub endpoint: u32,
}

impl Ketama {
    /// A ring of `endpoints`, at least as many as `replication_factor`.
    pub fn new(endpoints: Vec<Endpoint>, replication_factor: usize) -> Result<Self, Error> {
        if endpoints.len() < replication_factor {
            return Err(Error::invalid(format!(
                "ketama: fewer endpoints ({}) than the replication factor ({replication_factor})",
                endpoints.len()
            )));
        }
        let mut sections: Vec<Section> = endpoints
            .iter()
            .enumerate()
            .flat_map(|(at, endpoint)| {
                (1..=SECTIONS_PER_ENDPOINT).map(move |section| {
                    let key = format!("{}:{section}", endpoint.address);
                    Section { hash: xxh64(key.as_bytes(), 0), endpoint: at as u32 }
                })
            })
            .collect();
        sections.sort_by_key(|section| section.hash);
        let mut ring = Self { endpoints, sections, replicas: Vec::new(), replication_factor };
        for section in 0..ring.sections.len() {
            let replicas = ring.replicas_of(section);
            ring.replicas.extend(replicas);
        }
        Ok(ring)
    }

    /// The endpoint of replica `n` of a series with `hash`.
    pub fn endpoint(&self, hash: u64, n: usize) -> Option<&Endpoint> {
        if n >= self.replication_factor {
            return None;
        }
        let section = section_at(&self.sections, hash);
        let endpoint = self.replicas.get(section * self.replication_factor + n)?;
        self.endpoints.get(*endpoint as usize)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// All sections in the order of the ring.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The endpoints that keep what falls into section `start`: the next different ones along the
    /// ring, none in a zone that already has more than the zone with the fewest.
    fn replicas_of(&self, start: usize) -> Vec<u32> {
        let mut in_zone: BTreeMap<&str, usize> =
            self.endpoints.iter().map(|endpoint| (endpoint.az.as_str(), 0)).collect();
        let mut chosen = BTreeSet::new();
        let mut replicas = Vec::with_capacity(self.replication_factor);
        let mut at = start;
        while replicas.len() < self.replication_factor {
            let endpoint = self.sections[at].endpoint;
            at = (at + 1) % self.sections.len();
            let zone = self.endpoints[endpoint as usize].az.as_str();
            let fewest = in_zone.values().min().copied().unwrap_or(0);
            let crowded = in_zone.len() > 1 && in_zone[zone] > 0 && in_zone[zone] > fewest;
            if crowded && self.zone_can_grow(&in_zone, &chosen) || !chosen.insert(endpoint) {
                continue;
            }
            *in_zone.entry(zone).or_default() += 1;
            replicas.push(endpoint);
        }
        replicas
    }

    /// Whether a zone with the fewest replicas still has an endpoint that is not chosen; without one
    /// the search for an even spread would never end.
    fn zone_can_grow(&self, in_zone: &BTreeMap<&str, usize>, chosen: &BTreeSet<u32>) -> bool {
        let fewest = in_zone.values().min().copied().unwrap_or(0);
        self.endpoints
            .iter()
            .enumerate()
            .any(|(at, endpoint)| in_zone[endpoint.az.as_str()] == fewest && !chosen.contains(&(at as u32)))
    }
}

/// The section that `hash` falls into: the first that ends at or after it, else the first of all.
pub fn section_at(sections: &[Section], hash: u64) -> usize {
    let found = sections.partition_point(|section| section.hash < hash);
    if found == sections.len() { 0 } else { found }
}
