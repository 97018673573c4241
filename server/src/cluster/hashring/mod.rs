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
mod shuffle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use engine::model::{Error, Labels};

pub use config::{Algorithm, Endpoint, HashringConfig, ShuffleSharding, ShuffleShardingOverride, TenantMatcher, parse};
pub use hash::{SeriesHasher, series_hash};
use ketama::Ketama;
use shuffle::Shuffle;

/// Tenants whose ring is remembered; the memory is emptied when full.
const TENANTS_REMEMBERED_MAX: usize = 10_000;

/// All rings of a hashrings file.
#[derive(Debug)]
pub struct Hashrings {
    rings: Vec<(HashringConfig, Ring)>,
    remembered: Mutex<HashMap<String, Placement>>,
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
    Shuffled(Shuffle),
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

    /// The receivers of `tenant`. Invalid when no ring takes it.
    pub fn placement(&self, tenant: &str) -> Result<Placement, Error> {
        let mut remembered = self.remembered.lock().expect("no code panics while it holds this lock");
        if let Some(placement) = remembered.get(tenant) {
            return Ok(placement.clone());
        }
        let (_, ring) = self
            .rings
            .iter()
            .find(|(config, _)| config.takes(tenant))
            .ok_or_else(|| Error::invalid(format!("no matching hashring to handle tenant {tenant:?}")))?;
        let placement = match ring {
            Ring::Fixed(placement) => placement.clone(),
            Ring::Shuffled(shuffle) => Placement::Ketama(Arc::new(shuffle.ring_of(tenant)?)),
        };
        if remembered.len() >= TENANTS_REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(tenant.to_owned(), placement.clone());
        Ok(placement)
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
                Ok(Self::Shuffled(Shuffle::new(ring, config.shuffle_sharding_config.clone(), replication_factor)?))
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

    #[test]
    fn what_hashmod_cannot_do_is_refused_with_a_way_out() {
        let zones =
            rings(r#"[{"hashring": "r", "endpoints": [{"address": "x:1", "az": "a"}]}]"#, Algorithm::Hashmod, 1);
        assert!(zones.unwrap_err().message().contains("hashring \"r\": hashmod does not support availability zones"));
        let few = rings(r#"[{"endpoints": ["x:1"]}]"#, Algorithm::Ketama, 2);
        assert!(few.unwrap_err().message().contains("fewer endpoints (1) than the replication factor (2)"));
    }
}
