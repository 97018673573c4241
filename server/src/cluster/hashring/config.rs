//! The hashrings file: JSON as Thanos reads it.

use std::collections::BTreeMap;

use engine::model::Error;
use serde::{Deserialize, Deserializer};

use super::glob;

/// Port that an endpoint's Cap'n Proto address gets when none is given.
const CAPNPROTO_PORT: u16 = 19391;

/// How a ring places series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// The hash modulo the number of endpoints.
    Hashmod,
    /// Consistent hashing.
    Ketama,
}

/// How the tenants of a ring are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TenantMatcher {
    /// By equality.
    #[default]
    #[serde(rename = "exact", alias = "")]
    Exact,
    /// As file name patterns: `*`, `?`, `[a-z]`.
    #[serde(rename = "glob")]
    Glob,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "EndpointForm")]
pub struct Endpoint {
    /// Its gRPC address, `host:port`.
    pub address: String,
    /// Its Cap'n Proto address, `host:port`.
    pub capnproto_address: String,
    /// Its availability zone; empty when none is given.
    pub az: String,
}

impl Endpoint {
    /// Whether it is the receiver that calls itself `address`, by either of its addresses.
    pub fn has_address(&self, address: &str) -> bool {
        self.address == address || self.capnproto_address == address
    }
}

/// One ring.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HashringConfig {
    /// Name, for metrics and messages.
    #[serde(default, deserialize_with = "or_default")]
    pub hashring: String,
    /// Tenants that it serves; all when there is none.
    #[serde(default, deserialize_with = "list")]
    pub tenants: Vec<String>,
    /// How `tenants` are matched.
    #[serde(default, deserialize_with = "or_default")]
    pub tenant_matcher_type: TenantMatcher,
    /// Its receivers. Without any, tenants of the ring can't write, and those of other rings can.
    #[serde(default, deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// How it places series; the command line decides when absent. An unknown one is [`Algorithm::Hashmod`], as
    /// for Thanos.
    #[serde(default, deserialize_with = "algorithm")]
    pub algorithm: Option<Algorithm>,
    /// External labels that its receivers' blocks carry in addition.
    #[serde(default, deserialize_with = "map")]
    pub external_labels: BTreeMap<String, String>,
    /// Whether each tenant gets a part of the ring only.
    #[serde(default, deserialize_with = "or_default")]
    pub shuffle_sharding_config: ShuffleSharding,
}

/// How large a part of the ring a tenant gets.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ShuffleSharding {
    /// Receivers for each tenant; 0 turns shuffle sharding off.
    #[serde(default, deserialize_with = "or_default")]
    pub shard_size: usize,
    /// Tenants whose ring is remembered; 0 for as many as Thanos remembers.
    #[serde(default, deserialize_with = "or_default")]
    pub cache_size: usize,
    /// Whether zones are ignored.
    #[serde(default, deserialize_with = "or_default")]
    pub zone_awareness_disabled: bool,
    /// Tenants with another size.
    #[serde(default, deserialize_with = "list")]
    pub overrides: Vec<ShuffleShardingOverride>,
}

/// Tenants with another number of receivers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ShuffleShardingOverride {
    /// Receivers for each of the tenants.
    #[serde(default, deserialize_with = "or_default")]
    pub shard_size: usize,
    /// The tenants.
    #[serde(default, deserialize_with = "list")]
    pub tenants: Vec<String>,
    /// How `tenants` are matched; as in Thanos there is no override without it.
    #[serde(default)]
    pub tenant_matcher_type: Option<TenantMatcher>,
}

/// A value, or the default for `null`, as Go reads it.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A list; what is `null` in it is the default, as Go reads it.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<Vec<T>, D::Error> {
    let elements: Option<Vec<Option<T>>> = Option::deserialize(from)?;
    Ok(elements.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
}

/// As [`list`], of texts by name.
fn map<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let elements: Option<BTreeMap<String, Option<String>>> = Option::deserialize(from)?;
    Ok(elements.unwrap_or_default().into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

fn algorithm<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Algorithm>, D::Error> {
    let name: String = or_default(from)?;
    Ok(match name.as_str() {
        "" => None,
        "ketama" => Some(Algorithm::Ketama),
        "hashmod" => Some(Algorithm::Hashmod),
        _ => {
            tracing::warn!(algorithm = name, "unknown algorithm in the hashrings file: taking hashmod, as Thanos does");
            Some(Algorithm::Hashmod)
        }
    })
}

/// The rings of a hashrings file. Errors name line and column, or the ring.
pub fn parse(json: &[u8]) -> Result<Vec<HashringConfig>, Error> {
    let configs: Vec<Option<HashringConfig>> =
        serde_json::from_slice(json).map_err(|error| Error::invalid(error.to_string()))?;
    let configs: Vec<HashringConfig> = configs.into_iter().map(Option::unwrap_or_default).collect();
    if configs.is_empty() {
        return Err(Error::invalid("it lists no hashring; add one with its endpoints"));
    }
    for config in &configs {
        let patterns = config.tenants.iter().filter(|_| config.tenant_matcher_type == TenantMatcher::Glob);
        for pattern in patterns {
            glob::matches(pattern, "").ok_or_else(|| {
                let message = format!("hashring {:?}: bad pattern {pattern:?}", config.hashring);
                Error::invalid(message)
            })?;
        }
    }
    Ok(configs)
}

impl HashringConfig {
    /// Whether the ring serves `tenant`.
    pub fn takes(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenant_matcher_type.matches(&self.tenants, tenant)
    }
}

impl ShuffleSharding {
    /// Receivers that `tenant` gets.
    pub fn shard_size_of(&self, tenant: &str) -> usize {
        let special = self.overrides.iter().find(|special| special.takes(tenant));
        special.map_or(self.shard_size, |special| special.shard_size)
    }
}

impl ShuffleShardingOverride {
    fn takes(&self, tenant: &str) -> bool {
        self.tenant_matcher_type.is_some_and(|matcher| matcher.matches(&self.tenants, tenant))
    }
}

impl TenantMatcher {
    fn matches(self, tenants: &[String], tenant: &str) -> bool {
        tenants.iter().any(|known| match self {
            Self::Exact => known == tenant,
            Self::Glob => glob::matches(known, tenant) == Some(true),
        })
    }
}

/// An endpoint as it may stand in the file: its address alone or an object.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an endpoint is \"host:port\" or {\"address\": \"host:port\", …}")]
enum EndpointForm {
    Address(String),
    Object {
        address: String,
        #[serde(default, deserialize_with = "or_default")]
        capnproto_address: String,
        #[serde(default, deserialize_with = "or_default")]
        az: String,
    },
}

impl TryFrom<EndpointForm> for Endpoint {
    type Error = &'static str;

    fn try_from(form: EndpointForm) -> Result<Self, Self::Error> {
        let (address, capnproto_address, az) = match form {
            EndpointForm::Address(address) => (address, String::new(), String::new()),
            EndpointForm::Object { address, capnproto_address, az } => (address, capnproto_address, az),
        };
        if address.is_empty() {
            return Err("endpoint address must be set");
        }
        let host = address.split(':').next().unwrap_or_default();
        let capnproto_address =
            if capnproto_address.is_empty() { format!("{host}:{CAPNPROTO_PORT}") } else { capnproto_address };
        Ok(Self { address, capnproto_address, az })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_be_addresses_or_objects() {
        let json = r#"[{"endpoints": ["h:1", {"address": "i:2", "capnproto_address": "i:3", "az": "z"}]}]"#;
        let endpoints = parse(json.as_bytes()).unwrap().remove(0).endpoints;
        assert_eq!((endpoints[0].capnproto_address.as_str(), endpoints[0].az.as_str()), ("h:19391", ""));
        assert_eq!((endpoints[1].capnproto_address.as_str(), endpoints[1].az.as_str()), ("i:3", "z"));
    }

    #[test]
    fn what_is_null_is_as_if_it_was_not_there() {
        let json = r#"[{"hashring": null, "tenants": null, "tenant_matcher_type": null, "endpoints": null,
                        "algorithm": null, "external_labels": null, "shuffle_sharding_config": null},
                       {"endpoints": []}, {}]"#;
        for config in parse(json.as_bytes()).unwrap() {
            assert!(config.endpoints.is_empty() && config.takes("anybody"));
            assert_eq!(config.algorithm, None);
        }
    }

    #[test]
    fn what_is_null_within_a_ring_is_as_if_it_was_not_there() {
        let json = r#"[{"endpoints": [{"address": "h:1", "capnproto_address": null, "az": null}],
                        "shuffle_sharding_config": {"shard_size": null, "cache_size": null,
                            "zone_awareness_disabled": null, "overrides": null}},
                       {"endpoints": ["h:1"], "shuffle_sharding_config": {"shard_size": 2, "overrides": [
                            {"shard_size": null, "tenants": ["a"], "tenant_matcher_type": "exact"},
                            {"shard_size": 5, "tenants": null, "tenant_matcher_type": null}]}}]"#;
        let configs = parse(json.as_bytes()).unwrap();
        let endpoint = &configs[0].endpoints[0];
        assert_eq!((endpoint.capnproto_address.as_str(), endpoint.az.as_str()), ("h:19391", ""));
        let sharding = &configs[0].shuffle_sharding_config;
        assert_eq!((sharding.shard_size, sharding.cache_size, sharding.zone_awareness_disabled), (0, 0, false));
        assert!(sharding.overrides.is_empty());
        assert_eq!(["a", "b"].map(|tenant| configs[1].shuffle_sharding_config.shard_size_of(tenant)), [0, 2]);
        assert!(parse(br#"[{"endpoints": [{"address": null}]}]"#).is_err(), "an endpoint has an address");
    }

    /// Such a file was refused.
    #[test]
    fn what_is_null_in_a_list_is_what_go_makes_of_it() {
        let json = r#"[null, {"tenants": [null, "a"], "endpoints": ["h:1"], "external_labels": {"ring": null},
                        "shuffle_sharding_config": {"shard_size": 2, "overrides": [null,
                            {"shard_size": 5, "tenants": [null], "tenant_matcher_type": "exact"}]}}]"#;
        let configs = parse(json.as_bytes()).unwrap();
        assert!(configs[0].endpoints.is_empty() && configs[0].takes("anybody"));
        assert_eq!(["", "a", "b"].map(|tenant| configs[1].takes(tenant)), [true, true, false]);
        assert_eq!(configs[1].external_labels["ring"], "");
        let sharding = &configs[1].shuffle_sharding_config;
        assert_eq!(["", "a"].map(|tenant| sharding.shard_size_of(tenant)), [5, 2]);
        assert!(parse(br#"[{"endpoints": [null]}]"#).is_err(), "an endpoint has an address");
    }

    #[test]
    fn an_unknown_algorithm_is_hashmod_and_an_empty_one_is_that_of_the_command_line() {
        let algorithms = [("", None), ("ketama", Some(Algorithm::Ketama)), ("Ketama", Some(Algorithm::Hashmod))];
        for (name, algorithm) in algorithms {
            let json = format!(r#"[{{"endpoints": ["h:1"], "algorithm": "{name}"}}]"#);
            assert_eq!(parse(json.as_bytes()).unwrap()[0].algorithm, algorithm, "{name}");
        }
    }

    #[test]
    fn what_is_no_hashrings_file_is_refused() {
        for json in ["", "[]", "{}", r#"[{"endpoints": [""]}]"#] {
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
        let glob = r#"[{"tenants": ["[a"], "tenant_matcher_type": "glob", "endpoints": ["h:1"]}]"#;
        assert!(parse(glob.as_bytes()).unwrap_err().message().contains("bad pattern"));
    }

    #[test]
    fn tenants_have_another_shard_size_where_it_is_said_how_they_are_matched() {
        let overrides = r#"[{"shard_size": 5, "tenants": ["a"]},
                            {"shard_size": 4, "tenants": ["a", "b"], "tenant_matcher_type": "exact"},
                            {"shard_size": 3, "tenants": ["c*"], "tenant_matcher_type": "glob"}]"#;
        let json = format!(
            r#"[{{"endpoints": ["h:1"], "shuffle_sharding_config": {{"shard_size": 2, "overrides": {overrides}}}}}]"#
        );
        let config = parse(json.as_bytes()).unwrap().remove(0).shuffle_sharding_config;
        assert_eq!(["a", "b", "cc", "d"].map(|tenant| config.shard_size_of(tenant)), [4, 4, 3, 2]);
    }

    #[test]
    fn an_endpoint_that_is_none_is_told_what_one_is() {
        let error = parse(br#"[{"endpoints": [{"az": "a"}]}]"#).unwrap_err();
        assert!(error.message().contains(r#"{"address": "host:port""#), "{}", error.message());
    }
}
