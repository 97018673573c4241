//! `thanos_store_index_cache_*`: what is kept of indexes between requests. A column index lies on the
//! local disk as a whole, so that nothing is ever asked of such a cache; dashboards find its names all
//! the same.

use prometheus_client::registry::Registry;

use crate::telemetry::metrics::Counters;

/// Kinds of items, as Thanos names them.
const ITEM_TYPES: [&str; 3] = ["Postings", "Series", "ExpandedPostings"];

/// The metrics of an index cache; clones share them.
#[derive(Clone, Debug, Default)]
pub struct IndexCacheMetrics {
    /// Items that were asked for, by type and tenant.
    pub requests: Counters,
    /// Items that were there, by type and tenant.
    pub hits: Counters,
    /// Items that were added, by type.
    pub added: Counters,
    /// Items that had to go, by type.
    pub evicted: Counters,
}

impl IndexCacheMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for item_type in ITEM_TYPES {
            let labels = vec![("item_type", item_type.to_owned())];
            drop((metrics.added.get_or_create(&labels), metrics.evicted.get_or_create(&labels)));
            let labels = vec![("item_type", item_type.to_owned()), ("tenant", "default-tenant".to_owned())];
            drop((metrics.requests.get_or_create(&labels), metrics.hits.get_or_create(&labels)));
        }
        let registry = registry.sub_registry_with_prefix("thanos_store_index_cache");
        let mut family = |name: &str, help: &str, family: &Counters| registry.register(name, help, family.clone());
        family("requests", "Total number of items requests to the cache", &metrics.requests);
        family("hits", "Total number of items requests to the cache that were a hit", &metrics.hits);
        family("items_added", "Total number of items that were added to the index cache", &metrics.added);
        family("items_evicted", "Total number of items that were evicted from the index cache", &metrics.evicted);
        metrics
    }
}
