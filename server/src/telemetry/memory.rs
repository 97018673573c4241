//! The process' memory budget at /metrics, and what is told of its mappings.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Once};

use engine::io::mmap;
use engine::model::Budget;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Publishes how `budget` is used.
pub fn register(registry: &mut Registry, budget: &Arc<Budget>) {
    registry.register_collector(Box::new(Usage(Arc::clone(budget))));
}

/// Tells once that files are read into memory which would be mapped if the process could have more mappings.
pub fn tell_of_mappings() {
    static TOLD: Once = Once::new();
    if let Some(mapped) = mmap::used_up() {
        TOLD.call_once(|| {
            tracing::warn!(
                mapped,
                "half of the mappings of vm.max_map_count are in use: further column indexes are held in memory; raise \
                 it with sysctl and start again if that takes too much"
            );
        });
    }
}

/// A budget, looked at when metrics are asked for.
#[derive(Debug)]
struct Usage(Arc<Budget>);

impl Collector for Usage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let usage = self.0.usage();
        for (name, help, value) in [
            ("uru_memory_limit_bytes", "Bytes that all requests may hold together", usage.limit),
            ("uru_memory_used_bytes", "Bytes that requests hold now", usage.used),
            ("uru_memory_peak_bytes", "Most bytes that requests have held at once", usage.peak),
            ("uru_memory_waiting_requests", "Requests that wait for memory now", usage.waiting as u64),
        ] {
            let gauge: Gauge<f64, AtomicU64> = Gauge::default();
            gauge.set(value as f64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in [
            ("uru_memory_waited_requests", "Requests that had to wait for memory", usage.waited),
            ("uru_memory_refused_requests", "Requests that were refused for want of memory", usage.refused),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
