//! Shuffle sharding: each tenant gets a few receivers of the ring, chosen by its name, as Cortex
//! and Thanos choose them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use engine::model::Error;
use md5::{Digest, Md5};

use super::config::{Endpoint, ShuffleSharding};
use super::go_rand::GoRand;
use super::ketama::{Ketama, Section, section_at};
use super::metrics::CacheMetrics;

/// Tenants whose ring is remembered where the file does not say how many: some 100 KB each for three receivers.
/// Thanos remembers a hundred, and makes the others anew for each request.
pub const CACHE_SIZE: usize = 1000;

/// A ring that gives each tenant a part of itself.
#[derive(Debug)]
pub struct Shuffle {
    ring: Ketama,
    config: ShuffleSharding,
    replication_factor: usize,
    remembered: Mutex<Remembered>,
    metrics: CacheMetrics,
}

/// The rings of the tenants that were asked for last.
#[derive(Debug, Default)]
struct Remembered {
    /// Each with the question that it was asked for by.
    rings: HashMap<Arc<str>, (u64, Arc<Ketama>)>,
    /// The tenants by these questions.
    tenants: BTreeMap<u64, Arc<str>>,
    /// Number of the next question.
    next: u64,
}

impl Remembered {
    /// The ring of `tenant`, which is then the one asked for last.
    fn get(&mut self, tenant: &str) -> Option<Arc<Ketama>> {
        let (asked, ring) = self.rings.get_mut(tenant)?;
        let name = self.tenants.remove(&*asked)?;
        *asked = self.next;
        self.tenants.insert(self.next, name);
        self.next += 1;
        Some(Arc::clone(ring))
    }

    /// Takes the ring of `tenant` and forgets the one that was asked for first, where there would be more than `max`;
    /// whether it did.
    fn insert(&mut self, tenant: &str, ring: Arc<Ketama>, max: usize) -> bool {
        let name: Arc<str> = tenant.into();
        if let Some((asked, _)) = self.rings.insert(Arc::clone(&name), (self.next, ring)) {
            self.tenants.remove(&asked);
        }
        self.tenants.insert(self.next, name);
        self.next += 1;
        let first = if self.rings.len() > max { self.tenants.pop_first() } else { None };
        first.is_some_and(|(_, first)| self.rings.remove(&first).is_some())
    }
}

impl Shuffle {
    /// Parts of `ring` as `config` says.
    pub fn new(ring: Ketama, config: ShuffleSharding, replication_factor: usize) -> Result<Self, Error> {
        let endpoints = ring.endpoints().len();
        if config.shard_size > endpoints {
            return Err(Error::invalid(format!(
                "shuffle_sharding_config: shard_size {} is larger than the number of endpoints ({endpoints})",
                config.shard_size
            )));
        }
        let (remembered, metrics) = Default::default();
        Ok(Self { ring, config, replication_factor, remembered, metrics })
    }

    /// Counts what is remembered from now on with `metrics`; nothing is yet.
    pub(super) fn count(&mut self, metrics: CacheMetrics) {
        metrics.max_items.inc_by(i64::try_from(self.cache_size()).unwrap_or(i64::MAX));
        self.metrics = metrics;
    }

    /// Tenants whose ring is remembered.
    fn cache_size(&self) -> usize {
        if self.config.cache_size == 0 { CACHE_SIZE } else { self.config.cache_size }
    }

    /// The ring of `tenant`'s receivers: remembered, or made where nobody waits for it.
    pub fn ring_of(&self, tenant: &str) -> Result<Arc<Ketama>, Error> {
        self.metrics.requests.inc();
        if let Some(known) = self.remembered().get(tenant) {
            self.metrics.hits.inc();
            return Ok(known);
        }
        let ring = Arc::new(self.make_ring(tenant)?);
        let mut remembered = self.remembered();
        let before = remembered.rings.len();
        let has_forgotten = remembered.insert(tenant, Arc::clone(&ring), self.cache_size());
        // Another request may have made it meanwhile.
        self.metrics.items.inc_by(remembered.rings.len() as i64 - before as i64);
        self.metrics.evicted.inc_by(u64::from(has_forgotten));
        Ok(ring)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no code panics while it holds this lock")
    }

    fn make_ring(&self, tenant: &str) -> Result<Ketama, Error> {
        let mut zones: BTreeMap<&str, BTreeSet<&Endpoint>> = BTreeMap::new();
        for endpoint in self.ring.endpoints() {
            zones.entry(self.zone_of(endpoint)).or_default().insert(endpoint);
        }
        let size = self.config.shard_size_of(tenant);
        let of_each_zone = size.div_ceil(zones.len());
        let mut chosen = Vec::new();
        for (zone, endpoints) in zones {
            if of_each_zone > endpoints.len() {
                return Err(Error::invalid(format!(
                    "shard size {size} is larger than number of nodes in AZ {zone} ({})",
                    endpoints.len()
                )));
            }
            self.choose(tenant, zone, of_each_zone, &mut chosen);
        }
        Ketama::new(chosen, self.replication_factor)
    }

    fn zone_of<'a>(&self, endpoint: &'a Endpoint) -> &'a str {
        if self.config.zone_awareness_disabled { "" } else { &endpoint.az }
    }

    /// Appends `count` endpoints of `zone`: from random points of the ring on, the next that is not
    /// chosen yet.
    fn choose(&self, tenant: &str, zone: &str, count: usize, chosen: &mut Vec<Endpoint>) {
        let endpoint_of = |section: &Section| &self.ring.endpoints()[section.endpoint as usize];
        let in_zone = |section: &&Section| self.zone_of(endpoint_of(section)) == zone;
        let sections: Vec<Section> = self.ring.sections().iter().filter(in_zone).copied().collect();
        let mut random = GoRand::new(seed(tenant, zone));
        let mut taken = BTreeSet::new();
        for _ in 0..count {
            let start = section_at(&sections, random.next_u64());
            let mut onwards = sections.iter().cycle().skip(start).take(sections.len());
            if let Some(section) = onwards.find(|section| taken.insert(section.endpoint)) {
                chosen.push(endpoint_of(section).clone());
            }
        }
    }
}

/// The first eight bytes of the MD5 of the tenant and, after a zero byte, its zone if it has one.
fn seed(tenant: &str, zone: &str) -> i64 {
    let mut hash = Md5::new();
    hash.update(tenant.as_bytes());
    if !zone.is_empty() {
        hash.update([0]);
        hash.update(zone.as_bytes());
    }
    let digest: [u8; 16] = hash.finalize().into();
    (u128::from_be_bytes(digest) >> 64) as i64
}
