//! `thanos_shuffle_shard_cache_*`: how the rings of tenants are remembered that get a part of a ring only.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{Counters, Gauges};

/// The metrics of all hashrings; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ShuffleMetrics {
    requests: Counters,
    hits: Counters,
    items: Gauges,
    max_items: Gauges,
    evicted: Counters,
}

/// The metrics of one hashring.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheMetrics {
    /// Rings that were asked for.
    pub(super) requests: Counter,
    /// Of these, those that were remembered.
    pub(super) hits: Counter,
    /// Rings that are remembered.
    pub(super) items: Gauge,
    /// How many may be.
    pub(super) max_items: Gauge,
    /// Rings that were forgotten for others.
    pub(super) evicted: Counter,
}

impl ShuffleMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let name = |name: &str| format!("thanos_shuffle_shard_cache_{name}");
        let help = "Total number of cache requests for shuffle shard subrings";
        registry.register(name("requests"), help, metrics.requests.clone());
        let help = "Total number of cache hits for shuffle shard subrings";
        registry.register(name("hits"), help, metrics.hits.clone());
        registry.register(name("items"), "Total number of cached items", metrics.items.clone());
        let help = "Maximum number of items that can be cached";
        registry.register(name("max_items"), help, metrics.max_items.clone());
        let help = "Total number of items evicted from the cache";
        registry.register(name("evicted"), help, metrics.evicted.clone());
        metrics
    }

    /// Forgets all hashrings, as others come in their place.
    pub(super) fn clear(&self) {
        for counters in [&self.requests, &self.hits, &self.evicted] {
            counters.clear();
        }
        for gauges in [&self.items, &self.max_items] {
            gauges.clear();
        }
    }

    /// Those of the hashring called `name`.
    pub(super) fn of(&self, name: &str) -> CacheMetrics {
        let labels = vec![("hashring", name.to_owned())];
        let counter = |counters: &Counters| counters.get_or_create(&labels).clone();
        let gauge = |gauges: &Gauges| gauges.get_or_create(&labels).clone();
        CacheMetrics {
            requests: counter(&self.requests),
            hits: counter(&self.hits),
            items: gauge(&self.items),
            max_items: gauge(&self.max_items),
            evicted: counter(&self.evicted),
        }
    }
}
