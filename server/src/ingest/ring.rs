//! The hashrings file, read again while the process runs: a file that can't be used leaves the rings
//! as they were.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::model::Error;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ring::digest::{SHA256, digest};

use crate::cluster::hashring::{Algorithm, Hashrings, ShuffleMetrics, parse};
use crate::config::ConfigError;
use crate::telemetry::metrics::{Counters, FloatGauge, Gauges};

/// Least time between two looks at the file: a change is seen after this, whatever the refresh
/// interval, as upstream is told of changes by the system.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Where the rings come from.
#[derive(Clone, Debug)]
pub enum RingSource {
    /// A file (`--receive.hashrings-file`), read again on this interval and when it changes.
    File(PathBuf, Duration),
    /// The command line (`--receive.hashrings`).
    Text(String),
    /// None: there is this receiver alone.
    Alone,
}

/// The rings now.
pub struct Rings {
    source: RingSource,
    algorithm: Algorithm,
    replication_factor: usize,
    current: RwLock<Option<Loaded>>,
    metrics: RingMetrics,
}

/// Rings and the text that they were read from.
struct Loaded {
    text: String,
    rings: Arc<Hashrings>,
}

#[derive(Clone, Debug, Default)]
struct RingMetrics {
    refreshes: Counters,
    changes: Counters,
    errors: Counters,
    nodes: Gauges,
    tenants: Gauges,
    hash: FloatGauge,
    successful: Gauge,
    success_time: FloatGauge,
    shuffled: ShuffleMetrics,
}

impl RingMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self { shuffled: ShuffleMetrics::register(registry), ..Self::default() };
        for (name, help, counter) in [
            (
                "hashrings_file_refreshes",
                "The number of refreshes of the hashrings configuration file",
                &metrics.refreshes,
            ),
            (
                "hashrings_file_changes",
                "The number of times the hashrings configuration file has changed",
                &metrics.changes,
            ),
            (
                "hashrings_file_errors",
                "The number of errors watching the hashrings configuration file",
                &metrics.errors,
            ),
        ] {
            counter.get_or_create(&Vec::new()).inc_by(0);
            registry.register(format!("thanos_receive_{name}"), help, counter.clone());
        }
        registry.register("thanos_receive_hashring_nodes", "The number of nodes per hashring", metrics.nodes.clone());
        registry.register(
            "thanos_receive_hashring_tenants",
            "The number of tenants per hashring",
            metrics.tenants.clone(),
        );
        registry.register(
            "thanos_receive_config_hash",
            "Hash of the currently loaded hashring configuration file",
            metrics.hash.clone(),
        );
        registry.register(
            "thanos_receive_config_last_reload_successful",
            "Whether the last hashring configuration file reload attempt was successful",
            metrics.successful.clone(),
        );
        registry.register(
            "thanos_receive_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful hashring configuration file reload",
            metrics.success_time.clone(),
        );
        metrics
    }

    fn loaded(&self, text: &str, rings: &Hashrings) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.successful.set(1);
        self.success_time.set(since.as_secs_f64());
        self.hash.set(content_hash(text));
        self.nodes.clear();
        self.tenants.clear();
        for config in rings.configs() {
            let labels = vec![("name", config.hashring.clone())];
            self.nodes.get_or_create(&labels).set(config.endpoints.len() as i64);
            self.tenants.get_or_create(&labels).set(config.tenants.len() as i64);
        }
    }
}

impl Rings {
    /// Reads the rings for the first time. As with Thanos, a file that is not there yet is an error too: who is
    /// ready could place nothing.
    pub fn open(
        source: RingSource,
        (algorithm, replication_factor): (Algorithm, usize),
        registry: &mut Registry,
    ) -> Result<Self, ConfigError> {
        let rings = Self {
            source,
            algorithm,
            replication_factor,
            current: RwLock::default(),
            metrics: RingMetrics::register(registry),
        };
        let (flag, loaded) = match &rings.source {
            RingSource::Alone => return Ok(rings),
            RingSource::Text(text) => ("receive.hashrings", rings.load(text)),
            RingSource::File(..) => ("receive.hashrings-file", rings.read().and_then(|text| rings.load(&text))),
        };
        loaded.map_err(|why| ConfigError::new(flag, why))?;
        Ok(rings)
    }

    /// The rings; `None` while there are none.
    pub fn current(&self) -> Option<Arc<Hashrings>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|loaded| Arc::clone(&loaded.rings))
    }

    /// Follows the file for ever; `changed` is told of new rings.
    pub async fn watch(&self, mut changed: impl FnMut()) {
        let RingSource::File(path, interval) = &self.source else { return std::future::pending().await };
        let mut last = self.loaded_text();
        // The first look reads: the file may have changed since it was loaded.
        let (mut stamp, mut waited) = (None, Duration::ZERO);
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            waited += LOOK_INTERVAL;
            let now = modified(path);
            if now == stamp && waited < *interval {
                continue;
            }
            (stamp, waited) = (now, Duration::ZERO);
            self.metrics.refreshes.get_or_create(&Vec::new()).inc();
            match self.read() {
                Ok(text) if text == last && self.current().is_some() => {}
                Ok(text) => {
                    self.metrics.changes.get_or_create(&Vec::new()).inc();
                    match self.load(&text) {
                        Ok(()) => {
                            tracing::info!(file = %path.display(), "took changed hashrings");
                            changed();
                        }
                        Err(error) => self.failed(&error),
                    }
                    last = text;
                }
                Err(error) => {
                    self.failed(&error);
                    // What comes back is taken, and told, also when it is the same.
                    last.clear();
                }
            }
        }
    }

    /// What the rings were read from; empty while there are none.
    fn loaded_text(&self) -> String {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|loaded| loaded.text.clone()).unwrap_or_default()
    }

    fn failed(&self, error: &str) {
        self.metrics.errors.get_or_create(&Vec::new()).inc();
        self.metrics.successful.set(0);
        tracing::error!(error, "cannot use the hashrings file, keeping the old rings");
    }

    fn read(&self) -> Result<String, String> {
        let RingSource::File(path, _) = &self.source else { return Ok(String::new()) };
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path:?}: {error}"))
    }

    fn load(&self, text: &str) -> Result<(), String> {
        let why = |error: Error| match &self.source {
            RingSource::File(path, _) => format!("{path:?}: {}", error.message()),
            RingSource::Text(_) | RingSource::Alone => error.message().to_owned(),
        };
        let configs = parse(text.as_bytes()).map_err(why)?;
        let rings = Hashrings::new(self.algorithm, self.replication_factor, configs).map_err(why)?;
        let rings = rings.counted(&self.metrics.shuffled);
        self.metrics.loaded(text, &rings);
        let loaded = Loaded { text: text.to_owned(), rings: Arc::new(rings) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(())
    }
}

/// The first six bytes of the SHA-256 as a little-endian number, as Thanos has it: receivers of both kinds
/// with one file show one number.
fn content_hash(text: &str) -> f64 {
    let digest = digest(&SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter().take(6).enumerate();
    bytes.fold(0u64, |hash, (at, byte)| hash | u64::from(*byte) << (8 * at)) as f64
}

fn modified(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(source: RingSource) -> Result<Rings, ConfigError> {
        Rings::open(source, (Algorithm::Hashmod, 1), &mut Registry::default())
    }

    /// Rings of one endpoint, of a file that is looked at so often, and where that is.
    fn of_file(folder: &tempfile::TempDir, interval: Duration) -> (Rings, std::path::PathBuf) {
        let path = folder.path().join("rings.json");
        std::fs::write(&path, r#"[{"endpoints": ["a:1"]}]"#).unwrap();
        (open(RingSource::File(path.clone(), interval)).unwrap(), path)
    }

    #[test]
    fn a_file_that_breaks_leaves_the_rings_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (rings, _) = of_file(&folder, Duration::from_secs(60));
        assert!(rings.load("[]").is_err());
        assert_eq!(rings.current().unwrap().configs().count(), 1);
        rings.load(r#"[{"tenants": ["a"], "endpoints": ["a:1"]}, {"endpoints": ["b:1"]}]"#).unwrap();
        assert_eq!(rings.current().unwrap().configs().count(), 2);
    }

    #[test]
    fn one_file_has_one_hash_in_receivers_of_both_kinds() {
        // What Thanos' receiver shows for this text.
        assert_eq!(content_hash(r#"[{"endpoints": ["127.0.0.1:1"]}]"#), 83_303_746_022_035.0);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_the_name_of_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rings.json");
        let source = RingSource::File(path.clone(), Duration::from_secs(60));
        let refused = |source: &RingSource| open(source.clone()).err().unwrap().to_string();
        // The receiver said that it was ready, and no write ever succeeded.
        let read = format!("--receive.hashrings-file: cannot read {path:?}: ");
        assert!(refused(&source).starts_with(&read), "{}", refused(&source));
        for bad in ["", "{", "[]"] {
            std::fs::write(&path, bad).unwrap();
            let why = refused(&source);
            assert!(why.starts_with(&format!("--receive.hashrings-file: {path:?}: ")), "{bad:?}: {why}");
        }
        let why = refused(&RingSource::Text("[{".into()));
        assert!(why.starts_with("--receive.hashrings: ") && !why.contains("file"), "{why}");
        assert!(open(RingSource::Alone).unwrap().current().is_none());
    }

    /// It was never taken: what was there when following began was held to be what had been loaded.
    #[test]
    fn a_file_that_changes_before_it_is_followed_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (rings, path) = of_file(&folder, Duration::from_secs(600));
        // As while heads are replayed.
        std::fs::write(&path, r#"[{"endpoints": ["b:1"]}]"#).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let told = tokio::sync::Notify::new();
        let is_told = runtime.block_on(async {
            tokio::select! {
                () = rings.watch(|| told.notify_one()) => false,
                () = told.notified() => true,
                () = tokio::time::sleep(Duration::from_secs(10)) => false,
            }
        });
        assert!(is_told);
        assert_eq!(rings.current().unwrap().configs().next().unwrap().endpoints[0].address, "b:1");
    }

    #[test]
    fn a_file_that_stays_as_it_was_loaded_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let (rings, _) = of_file(&folder, Duration::from_millis(100));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let looks = || rings.metrics.refreshes.get_or_create(&Vec::new()).get();
        runtime.block_on(async {
            let looked_twice = async {
                while looks() < 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let watched = async {
                tokio::select! {
                    () = rings.watch(|| panic!("it has not changed")) => {}
                    () = looked_twice => {}
                }
            };
            tokio::time::timeout(Duration::from_secs(10), watched).await.unwrap();
        });
        assert_eq!(rings.metrics.changes.get_or_create(&Vec::new()).get(), 0);
    }
}
