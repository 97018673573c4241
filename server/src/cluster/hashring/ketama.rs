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
    /// The first section that ends at or after each of equal parts of the ring, a power of two of them.
    heads: Vec<u32>,
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
        let heads = heads(&sections);
        let mut ring = Self { endpoints, sections, heads, replicas: Vec::new(), replication_factor };
        for section in 0..ring.sections.len() {
            let replicas = ring.replicas_of(section);
            ring.replicas.extend(replicas);
        }
        Ok(ring)
    }

    /// The endpoint of replica `n` of a series in `section`, by its place in the list.
    pub fn endpoint(&self, section: usize, n: usize) -> Option<usize> {
        if n >= self.replication_factor {
            return None;
        }
        self.replicas.get(section * self.replication_factor + n).map(|endpoint| *endpoint as usize)
    }

    /// The section of a series with `hash`: [`section_at`], from the head of the part of the ring that `hash` is in.
    pub fn section(&self, hash: u64) -> usize {
        let part = (hash >> (u64::BITS - self.heads.len().ilog2())) as usize;
        let head = self.heads[part] as usize;
        let ends_before = self.sections[head..].iter().take_while(|section| section.hash < hash).count();
        if head + ends_before == self.sections.len() { 0 } else { head + ends_before }
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

/// The first of `sections` at or after the beginning of each part of the ring; there are two parts at least, and
/// as many as sections.
fn heads(sections: &[Section]) -> Vec<u32> {
    let parts = sections.len().next_power_of_two().max(2);
    let begin = |part: usize| (part as u64) << (u64::BITS - parts.ilog2());
    (0..parts).map(|part| sections.partition_point(|section| section.hash < begin(part)) as u32).collect()
}

/// The section that `hash` falls into: the first that ends at or after it, else the first of all.
pub fn section_at(sections: &[Section], hash: u64) -> usize {
    let found = sections.partition_point(|section| section.hash < hash);
    if found == sections.len() { 0 } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_as_by_halving() {
        for endpoints in [0, 1, 3, 10] {
            let endpoint = |at: usize| Endpoint {
                address: format!("receive-{at}:10901"),
                capnproto_address: String::new(),
                az: String::new(),
            };
            let ring = Ketama::new((0..endpoints).map(endpoint).collect(), endpoints.min(2)).unwrap();
            let near = ring.sections.iter().flat_map(|section| [section.hash - 1, section.hash, section.hash + 1]);
            let spread = (0..2000_u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for hash in near.chain(spread).chain([0, u64::MAX]) {
                assert_eq!(ring.section(hash), section_at(&ring.sections, hash), "{endpoints} {hash}");
            }
        }
    }
}
