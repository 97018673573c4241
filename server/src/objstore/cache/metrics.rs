//! The cache under the names that Thanos has for its caching bucket, its cache in memory and its
//! index cache. An item is a page; of the index cache those of indexes, of the caching bucket those of
//! segments.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::bucket::BlockObject;
use foyer::{Event, EventListener, HybridCache, Source};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::config::CacheConfig;
use super::pages::{KEY_BYTES, Page, PageKey};
use crate::telemetry::metrics::{Counters, Gauges, Histograms, MetricLabels};

/// Upper bounds of the sizes of what is in the index cache, as in Thanos.
const INDEX_SIZES: [f64; 13] = [
    32.0,
    256.0,
    512.0,
    1024.0,
    32.0 * 1024.0,
    256.0 * 1024.0,
    512.0 * 1024.0,
    1024.0 * 1024.0,
    32.0 * 1024.0 * 1024.0,
    64.0 * 1024.0 * 1024.0,
    128.0 * 1024.0 * 1024.0,
    256.0 * 1024.0 * 1024.0,
    512.0 * 1024.0 * 1024.0,
];

type FloatCounters = Family<MetricLabels, Counter<f64, AtomicU64>>;

/// The metrics of a cache; clones share them.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    operation_requests: Counters,
    operation_hits: FloatCounters,
    requested_bytes: Counters,
    fetched_bytes: Counters,
    refetched_bytes: Counters,
    memory_requests: Counters,
    memory_hits: Counters,
    memory_added: Counters,
    memory_evicted: Counters,
    memory_overflowed: Counters,
    disk_hits: Counter,
    index_requests: Counters,
    index_hits: Counters,
    index_added: Counters,
    index_evicted: Counters,
    index_overflowed: Counters,
    index_sizes: Histograms,
    index_pages: Arc<IndexPages>,
}

/// The pages of indexes that are in memory, counted when it is asked for.
#[derive(Debug, Default)]
struct IndexPages {
    items: AtomicU64,
    bytes: AtomicU64,
}

/// A page of an index, which counts as one in memory for as long as this is there.
#[derive(Debug)]
pub(super) struct HeldPage {
    among: Arc<IndexPages>,
    len: u64,
}

impl Default for CacheMetrics {
    fn default() -> Self {
        let index_sizes = Histograms::new_with_constructor(|| Histogram::new(INDEX_SIZES));
        let (operation_requests, operation_hits, requested_bytes, fetched_bytes, refetched_bytes) = Default::default();
        let (memory_requests, memory_hits, memory_added, memory_evicted, memory_overflowed) = Default::default();
        let (disk_hits, index_requests, index_hits, index_added, index_evicted) = Default::default();
        let (index_overflowed, index_pages) = Default::default();
        Self {
            operation_requests,
            operation_hits,
            requested_bytes,
            fetched_bytes,
            refetched_bytes,
            memory_requests,
            memory_hits,
            memory_added,
            memory_evicted,
            memory_overflowed,
            disk_hits,
            index_requests,
            index_hits,
            index_added,
            index_evicted,
            index_overflowed,
            index_sizes,
            index_pages,
        }
    }
}

/// What reading one range took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeTally {
    /// Pages that it consists of.
    pub pages: u64,
    /// Pages that were cached.
    pub hits: u64,
    /// Bytes that were asked for.
    pub requested_bytes: u64,
    /// Bytes of cached pages.
    pub cached_bytes: u64,
    /// Bytes that came from the bucket.
    pub downloaded_bytes: u64,
    /// Bytes that came from the bucket although they were cached, as one request is less than two.
    pub refetched_bytes: u64,
}

/// Thanos' name of the configuration that is about an object: segments are "chunks".
fn config_of(object: BlockObject) -> &'static str {
    if object == BlockObject::Index { "index" } else { "chunks" }
}

fn cache_name() -> MetricLabels {
    vec![("name", "caching-bucket".to_owned())]
}

fn item_type() -> MetricLabels {
    vec![("item_type", "Page".to_owned())]
}

impl CacheMetrics {
    /// Registers the metrics of a cache that `config` describes.
    pub fn register(registry: &mut Registry, config: &CacheConfig) -> Self {
        let metrics = Self::default();
        metrics.register_ranges(registry.sub_registry_with_prefix("thanos_store_bucket_cache"));
        metrics.register_memory(registry.sub_registry_with_prefix("thanos_cache_inmemory"), config);
        metrics.register_index(registry.sub_registry_with_prefix("thanos_store_index_cache"), config);
        let help = "Total number of pages that were read from the disk part of the cache";
        registry.register("uru_cache_disk_hits", help, metrics.disk_hits.clone());
        metrics
    }

    fn register_ranges(&self, registry: &mut Registry) {
        for object in [BlockObject::Index, BlockObject::Segment(0)] {
            let of = |more: (&'static str, &str)| {
                vec![("config", config_of(object).to_owned()), (more.0, more.1.to_owned())]
            };
            let operation = of(("operation", "get_range"));
            drop((self.operation_requests.get_or_create(&operation), self.operation_hits.get_or_create(&operation)));
            drop(self.requested_bytes.get_or_create(&vec![("config", config_of(object).to_owned())]));
            for origin in ["bucket", "cache"] {
                drop(self.fetched_bytes.get_or_create(&of(("origin", origin))));
            }
            drop(self.refetched_bytes.get_or_create(&of(("origin", "bucket"))));
        }
        let mut family = |name: &str, help: &str, family: &Counters| registry.register(name, help, family.clone());
        family("operation_requests", "Number of ranges that were asked for", &self.operation_requests);
        family("getrange_requested_bytes", "Total number of bytes requested via GetRange", &self.requested_bytes);
        let help = "Total number of bytes fetched because of GetRange operation, from the bucket or the cache";
        family("getrange_fetched_bytes", help, &self.fetched_bytes);
        let help = "Total number of bytes fetched from the bucket despite being in cache already";
        family("getrange_refetched_bytes", help, &self.refetched_bytes);
        let help = "Number of ranges served from cache; a part of a range counts as that part";
        registry.register("operation_hits", help, self.operation_hits.clone());
    }

    fn register_memory(&self, registry: &mut Registry, config: &CacheConfig) {
        let mut family = |name: &str, help: &str, family: &Counters| {
            drop(family.get_or_create(&cache_name()));
            registry.register(name, help, family.clone());
        };
        family("requests", "Total number of requests to the cache", &self.memory_requests);
        family("hits", "Total number of requests to the cache that were a hit", &self.memory_hits);
        family("items_added", "Total number of items that were added to the cache", &self.memory_added);
        family("items_evicted", "Total number of items that were evicted from memory", &self.memory_evicted);
        let help = "Total number of items that could not be added to the cache due to being too big";
        family("items_overflowed", help, &self.memory_overflowed);
        for (name, help, value) in [
            ("max_size_bytes", "Maximum number of bytes to be held in memory", config.memory_bytes),
            ("max_item_size_bytes", "Maximum number of bytes for single entry", config.item_bytes_max),
        ] {
            let gauges = Gauges::default();
            gauges.get_or_create(&cache_name()).set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauges);
        }
    }

    fn register_index(&self, registry: &mut Registry, config: &CacheConfig) {
        let mut family = |name: &str, help: &str, family: &Counters| {
            drop(family.get_or_create(&item_type()));
            registry.register(name, help, family.clone());
        };
        family("requests", "Total number of items requests to the cache", &self.index_requests);
        family("hits", "Total number of items requests to the cache that were a hit", &self.index_hits);
        family("items_added", "Total number of items that were added to the index cache", &self.index_added);
        family("items_evicted", "Total number of items that were evicted from memory", &self.index_evicted);
        let help = "Total number of items that could not be added to the cache due to being too big";
        family("items_overflowed", help, &self.index_overflowed);
        drop(self.index_sizes.get_or_create(&item_type()));
        let help = "Histogram to track item data size stored in index cache";
        registry.register("stored_data_size_bytes", help, self.index_sizes.clone());
        // It shares its room with all else that is cached.
        for (name, help, value) in [
            ("max_size_bytes", "Maximum number of bytes to be held in memory", config.memory_bytes),
            ("max_item_size_bytes", "Maximum number of bytes for single entry", config.item_bytes_max),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        registry.register_collector(Box::new(HeldIndexes(Arc::clone(&self.index_pages))));
    }

    /// What the page `key` of `len` bytes is to keep as long as it is in memory; of other objects than indexes
    /// nothing is counted.
    pub(super) fn held(&self, key: &PageKey, len: usize) -> Option<HeldPage> {
        (key.object == BlockObject::Index).then(|| HeldPage::new(&self.index_pages, len as u64))
    }

    /// Pages of indexes that are in memory, and their bytes.
    #[cfg(test)]
    pub(super) fn index_pages(&self) -> (u64, u64) {
        self.index_pages.count()
    }

    /// A range of `object` was read.
    pub fn range_read(&self, object: BlockObject, tally: &RangeTally) {
        let config = || ("config", config_of(object).to_owned());
        let operation = vec![config(), ("operation", "get_range".to_owned())];
        self.operation_requests.get_or_create(&operation).inc();
        self.operation_hits.get_or_create(&operation).inc_by(tally.hits as f64 / tally.pages.max(1) as f64);
        self.requested_bytes.get_or_create(&vec![config()]).inc_by(tally.requested_bytes);
        let origin = |origin: &str| vec![config(), ("origin", origin.to_owned())];
        self.fetched_bytes.get_or_create(&origin("cache")).inc_by(tally.cached_bytes);
        self.fetched_bytes.get_or_create(&origin("bucket")).inc_by(tally.downloaded_bytes);
        self.refetched_bytes.get_or_create(&origin("bucket")).inc_by(tally.refetched_bytes);
        self.memory_requests.get_or_create(&cache_name()).inc_by(tally.pages);
        self.memory_hits.get_or_create(&cache_name()).inc_by(tally.hits);
        if object == BlockObject::Index {
            self.index_requests.get_or_create(&item_type()).inc_by(tally.pages);
            self.index_hits.get_or_create(&item_type()).inc_by(tally.hits);
        }
    }

    /// A page was found.
    pub(super) fn found(&self, source: Source) {
        if source == Source::Disk {
            self.disk_hits.inc();
        }
    }

    /// A page was kept.
    pub(super) fn added(&self, key: &PageKey, len: usize) {
        self.memory_added.get_or_create(&cache_name()).inc();
        if key.object == BlockObject::Index {
            self.index_added.get_or_create(&item_type()).inc();
            self.index_sizes.get_or_create(&item_type()).observe(len as f64);
        }
    }

    /// A page was too long to be kept.
    pub(super) fn overflowed(&self, key: &PageKey) {
        self.memory_overflowed.get_or_create(&cache_name()).inc();
        if key.object == BlockObject::Index {
            self.index_overflowed.get_or_create(&item_type()).inc();
        }
    }
}

impl EventListener for CacheMetrics {
    type Key = PageKey;
    type Value = Page;

    fn on_leave(&self, reason: Event, key: &PageKey, _: &Page) {
        if reason == Event::Evict {
            self.memory_evicted.get_or_create(&cache_name()).inc();
            if key.object == BlockObject::Index {
                self.index_evicted.get_or_create(&item_type()).inc();
            }
        }
    }
}

impl IndexPages {
    /// How many there are, and their bytes.
    fn count(&self) -> (u64, u64) {
        (self.items.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl HeldPage {
    fn new(among: &Arc<IndexPages>, len: u64) -> Self {
        among.items.fetch_add(1, Ordering::Relaxed);
        among.bytes.fetch_add(len, Ordering::Relaxed);
        Self { among: Arc::clone(among), len }
    }
}

impl Drop for HeldPage {
    fn drop(&mut self) {
        self.among.items.fetch_sub(1, Ordering::Relaxed);
        self.among.bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct HeldIndexes(Arc<IndexPages>);

impl Collector for HeldIndexes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (items, bytes) = self.0.count();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(value as i64);
            let mut metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric.encode_family(&item_type())?)
        };
        gauge("items", "Current number of items in the index cache", items)?;
        gauge("items_size_bytes", "Current byte size of items in the index cache", bytes)?;
        let help = "Current byte size of items and their keys in the index cache";
        gauge("total_size_bytes", help, bytes + items * KEY_BYTES as u64)
    }
}

/// What the memory part holds, read when it is asked for.
pub(super) struct Held(pub HybridCache<PageKey, Page>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let memory = self.0.memory();
        let mut gauge = |name: &str, help: &str, value: usize| {
            let gauge = ConstGauge::new(value as i64);
            let mut metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric.encode_family(&cache_name())?)
        };
        gauge("thanos_cache_inmemory_items", "Current number of items in memory.", memory.entries())?;
        gauge("thanos_cache_inmemory_total_size_bytes", "Current byte size of items and their keys.", memory.usage())
    }
}
