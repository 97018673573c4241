//! Which receivers a series of a tenant belongs to, byte for byte as Thanos decides it, so that
//! routers and receivers of both kinds agree within one ring.
//!
//! A hashrings file is an ordered list of rings; the first whose tenants match serves a tenant, and
//! a ring without tenants matches all. Within a ring the series' hash ([`series_hash`]) picks the
//! receiver for each replica.

mod config;
/// File name patterns.
pub mod glob;
mod go_rand;
mod hash;
mod ketama;
mod metrics;
mod shuffle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use engine::model::{Error, Labels};

pub use config::{Algorithm, Endpoint, HashringConfig, ShuffleSharding, ShuffleShardingOverride, TenantMatcher, parse};
pub use hash::{SeriesHasher, series_hash};
use ketama::Ketama;
pub use metrics::ShuffleMetrics;
use shuffle::Shuffle;

/// Tenants of which it is remembered which ring serves them; the memory is emptied when full.
const TENANTS_REMEMBERED_MAX: usize = 10_000;

/// All rings of a hashrings file.
#[derive(Debug)]
pub struct Hashrings {
    rings: Vec<(HashringConfig, Ring)>,
    /// Which ring serves a tenant, by its place in the list.
    remembered: Mutex<HashMap<String, usize>>,
}

/// The receivers of one tenant.
#[derive(Clone, Debug)]
pub enum Placement {
    /// Endpoints by address; replica `n` of hash `h` is endpoint `(h + n) mod endpoints`.
    Hashmod(Arc<[Endpoint]>),
    /// Consistent hashing over sections of the endpoints.
    Ketama(Arc<Ketama>),
}

/// Where on a ring a series is: its hash, or the number of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot(u64);

#[derive(Debug)]
enum Ring {
    Fixed(Placement),
    Shuffled(Box<Shuffle>),
}

impl Hashrings {
    /// The rings of `configs`; `algorithm` where a ring names none. Errors name the ring and what to
    /// change.
    pub fn new(algorithm: Algorithm, replication_factor: usize, configs: Vec<HashringConfig>) -> Result<Self, Error> {
        let rings = configs
            .into_iter()
            .map(|config| {
                let ring = Ring::new(&config, algorithm, replication_factor)
                    .map_err(|error| error.within(format_args!("hashring {:?}", config.hashring)))?;
                Ok((config, ring))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { rings, remembered: Mutex::default() })
    }

    /// The same; `metrics` count what these rings remember from now on, and no longer what others do.
    pub fn counted(mut self, metrics: &ShuffleMetrics) -> Self {
        metrics.clear();
        for (config, ring) in &mut self.rings {
            if let Ring::Shuffled(shuffle) = ring {
                shuffle.count(metrics.of(&config.hashring));
            }
        }
        self
    }

    /// The receivers of `tenant`. Invalid when no ring takes it.
    pub fn placement(&self, tenant: &str) -> Result<Placement, Error> {
        match &self.rings[self.number_of(tenant)?].1 {
            Ring::Fixed(placement) => Ok(placement.clone()),
            Ring::Shuffled(shuffle) => Ok(Placement::Ketama(shuffle.ring_of(tenant)?)),
        }
    }

    /// The place in the list of the ring that serves `tenant`.
    fn number_of(&self, tenant: &str) -> Result<usize, Error> {
        let remembered = || self.remembered.lock().expect("no code panics while it holds this lock");
        if let Some(number) = remembered().get(tenant) {
            return Ok(*number);
        }
        let number = self
            .rings
            .iter()
            .position(|(config, _)| config.takes(tenant))
            .ok_or_else(|| Error::invalid(format!("no matching hashring to handle tenant {tenant:?}")))?;
        let mut remembered = remembered();
        if remembered.len() >= TENANTS_REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(tenant.to_owned(), number);
        Ok(number)
    }

    /// External labels that rings give to tenants which they name, each the first that names it. As in
    /// Thanos a pattern names nobody.
    pub fn added_labels(&self) -> HashMap<String, Labels> {
        let mut added = HashMap::new();
        for config in self.configs() {
            for tenant in &config.tenants {
                added.entry(tenant.clone()).or_insert_with(|| Labels::from_pairs(config.external_labels.clone()));
            }
        }
        added
    }

    /// The rings as configured.
    pub fn configs(&self) -> impl Iterator<Item = &HashringConfig> {
        self.rings.iter().map(|(config, _)| config)
    }
}

impl Ring {
    fn new(config: &HashringConfig, fallback: Algorithm, replication_factor: usize) -> Result<Self, Error> {
        let shuffled = config.shuffle_sharding_config.shard_size > 0;
        match config.algorithm.unwrap_or(fallback) {
            Algorithm::Hashmod if shuffled => Err(Error::invalid(
                "hashmod does not support shuffle sharding: use ketama or remove shuffle_sharding_config",
            )),
            Algorithm::Hashmod if config.endpoints.iter().any(|endpoint| !endpoint.az.is_empty()) => {
                Err(Error::invalid("hashmod does not support availability zones: use ketama or remove az"))
            }
            Algorithm::Hashmod => {
                let mut endpoints = config.endpoints.clone();
                endpoints.sort_by(|left, right| left.address.cmp(&right.address));
                Ok(Self::Fixed(Placement::Hashmod(endpoints.into())))
            }
            Algorithm::Ketama => {
                let ring = Ketama::new(config.endpoints.clone(), replication_factor)?;
                if !shuffled {
                    return Ok(Self::Fixed(Placement::Ketama(Arc::new(ring))));
                }
                let shuffle = Shuffle::new(ring, config.shuffle_sharding_config.clone(), replication_factor)?;
                Ok(Self::Shuffled(Box::new(shuffle)))
            }
        }
    }
}

impl Placement {
    /// Where on the ring a series with `hash` is.
    pub fn spot(&self, hash: u64) -> Spot {
        match self {
            Self::Hashmod(_) => Spot(hash),
            Self::Ketama(ring) => Spot(ring.section(hash) as u64),
        }
    }

    /// The receiver of replica `n` (from 0) of a series at a spot of this ring, by its place in
    /// [`Placement::endpoints`]. Unavailable when the ring has too few receivers.
    pub fn endpoint(&self, Spot(spot): Spot, n: usize) -> Result<usize, Error> {
        let found = match self {
            Self::Hashmod(endpoints) if n >= endpoints.len() => None,
            Self::Hashmod(endpoints) => Some((spot.wrapping_add(n as u64) % endpoints.len() as u64) as usize),
            Self::Ketama(ring) => ring.endpoint(spot as usize, n),
        };
        found.ok_or_else(|| {
            let message = format!("insufficient nodes; have {}, want {}", self.endpoints().len(), n + 1);
            Error::new(engine::model::ErrorKind::Unavailable, message)
        })
    }

    /// All receivers of the ring.
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Hashmod(endpoints) => endpoints,
            Self::Ketama(ring) => ring.endpoints(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(json: &str, algorithm: Algorithm, replication_factor: usize) -> Result<Hashrings, Error> {
        Hashrings::new(algorithm, replication_factor, parse(json.as_bytes())?)
    }

    #[test]
    fn the_first_ring_that_takes_a_tenant_serves_it() {
        let json = r#"[{"tenants": ["a"], "endpoints": ["x:1"]},
                       {"tenants": ["team-*"], "tenant_matcher_type": "glob", "endpoints": ["y:1"]},
                       {"endpoints": ["z:1"]}]"#;
        let rings = rings(json, Algorithm::Hashmod, 1).unwrap();
        for (tenant, address) in [("a", "x:1"), ("team-b", "y:1"), ("b", "z:1")] {
            let placement = rings.placement(tenant).unwrap();
            assert_eq!(placement.endpoints()[placement.endpoint(placement.spot(0), 0).unwrap()].address, address);
        }
    }

    #[test]
    fn a_tenant_has_the_labels_of_the_first_ring_that_names_it() {
        let json = r#"[{"tenants": ["a"], "endpoints": ["x:1"], "external_labels": {"ring": "one"}},
                       {"tenants": ["a", "b", "c*"], "endpoints": ["x:1"], "external_labels": {"ring": "two"}}]"#;
        let added = rings(json, Algorithm::Hashmod, 1).unwrap().added_labels();
        let of = |tenant: &str| added.get(tenant).and_then(|labels| labels.get("ring"));
        assert_eq!((of("a"), of("b"), of("cc")), (Some("one"), Some("two"), None));
    }

    #[test]
    fn a_tenant_that_no_ring_takes_and_a_replica_too_many_are_errors() {
        let rings = rings(r#"[{"tenants": ["a"], "endpoints": ["x:1"]}]"#, Algorithm::Hashmod, 1).unwrap();
        let error = rings.placement("b").unwrap_err();
        assert_eq!(error.message(), "no matching hashring to handle tenant \"b\"");
        let placement = rings.placement("a").unwrap();
        let error = placement.endpoint(placement.spot(7), 1).unwrap_err();
        assert_eq!(error.message(), "insufficient nodes; have 1, want 2");
    }

    /// The rings of `tenants` out of shuffled ones, asked for in turn.
    fn shuffled(rings: &Hashrings, tenants: &[&str]) -> Vec<Arc<Ketama>> {
        let ring = |tenant: &&str| match rings.placement(tenant).unwrap() {
            Placement::Ketama(ring) => ring,
            Placement::Hashmod(_) => panic!("it is shuffled"),
        };
        tenants.iter().map(ring).collect()
    }

    #[test]
    fn as_many_rings_are_remembered_as_the_file_says_of_the_tenants_that_came_last() {
        let json = r#"[{"endpoints": ["x:1", "y:1"], "shuffle_sharding_config": {"shard_size": 1, "cache_size": 2}}]"#;
        let rings = rings(json, Algorithm::Ketama, 1).unwrap();
        let found = shuffled(&rings, &["a", "b", "a", "c", "a", "b"]);
        let is_kept = |one: usize, other: usize| Arc::ptr_eq(&found[one], &found[other]);
        // There was no place for b beside a, which had come again, and c.
        assert_eq!([is_kept(0, 2), is_kept(0, 4), is_kept(1, 5)], [true, true, false]);
        assert_eq!(found[1].endpoints(), found[5].endpoints());
    }

    #[test]
    fn what_is_remembered_is_counted_for_each_hashring_until_others_come_in_its_place() {
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = ShuffleMetrics::register(&mut registry);
        let json = r#"[{"hashring": "r", "endpoints": ["x:1", "y:1"],
                        "shuffle_sharding_config": {"shard_size": 1, "cache_size": 2}}]"#;
        let mut before = None;
        for expected in [[4, 1, 2, 2, 1]; 2] {
            let rings = rings(json, Algorithm::Ketama, 1).unwrap().counted(&metrics);
            shuffled(&rings, &["a", "b", "a", "c"]);
            // Those before may still be asked, and are no longer counted.
            if let Some(before) = before.replace(rings) {
                shuffled(&before, &["a"]);
            }
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let of = |name: &str| {
                let start = format!("thanos_shuffle_shard_cache_{name}{{hashring=\"r\"}} ");
                text.lines().find_map(|line| line.strip_prefix(start.as_str())?.parse::<i32>().ok())
            };
            let names = ["requests_total", "hits_total", "items", "max_items", "evicted_total"];
            assert_eq!(names.map(of), expected.map(Some), "{text}");
        }
    }

    #[test]
    fn so_many_rings_are_remembered_where_the_file_does_not_say_how_many() {
        for size in ["", r#", "cache_size": 0"#] {
            let json =
                format!(r#"[{{"endpoints": ["x:1", "y:1"], "shuffle_sharding_config": {{"shard_size": 1{size}}}}}]"#);
            let rings = rings(&json, Algorithm::Ketama, 1).unwrap();
            let names: Vec<String> = (0..=shuffle::CACHE_SIZE).map(|at| format!("tenant-{at}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let all = shuffled(&rings, &names);
            let again = shuffled(&rings, &[names[1], names[0]]);
            assert!(Arc::ptr_eq(&all[1], &again[0]) && !Arc::ptr_eq(&all[0], &again[1]));
        }
    }

    #[test]
    fn what_hashmod_cannot_do_is_refused_with_a_way_out() {
        let zones =
            rings(r#"[{"hashring": "r", "endpoints": [{"address": "x:1", "az": "a"}]}]"#, Algorithm::Hashmod, 1);
        assert!(zones.unwrap_err().message().contains("hashring \"r\": hashmod does not support availability zones"));
        let few = rings(r#"[{"endpoints": ["x:1"]}]"#, Algorithm::Ketama, 2);
        assert!(few.unwrap_err().message().contains("fewer endpoints (1) than the replication factor (2)"));
    }
}
