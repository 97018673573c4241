//! Ingestion as a part of another component: remote write at its HTTP port, and its own metrics scraped.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use engine::model::Labels;
use engine::shard::{Ingest, IngestOptions, Pool};
use prometheus_client::registry::Registry;

use super::forward::{Compression, ForwardOptions, Peers};
use super::heads::{Beside, HeadMetrics};
use super::intake::{Protocol, take};
use super::limits::{Limiter, LimitsConfig};
use super::metrics::ReceiveMetrics;
use super::noted::Noted;
use super::otlp::Translation;
use super::ring::{RingSource, Rings};
use super::scrape::OwnTarget;
use super::ship::{Retention, ShipMetrics, Shipper};
use super::tenant::Tenancy;
use super::{Held, Mode, ReceiveOptions, Receiver, scrape};
use crate::cluster::hashring::Algorithm;
use crate::gateway::Gateway;
use crate::objstore::Bucket;
use crate::upkeep::transfer::Transfer;

/// The tenant of requests that name none.
const TENANT: &str = "default-tenant";

/// Time between two looks for blocks that are due and blocks to ship.
const SHIP_INTERVAL: Duration = Duration::from_secs(30);

/// How long local blocks stay after they are in the bucket.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Ingestion that runs beside a store.
pub struct Ingesting {
    /// What is kept, once it is open.
    pub held: Held,
    /// Where it lies and how it is kept.
    pub options: IngestOptions,
    /// Whether the process' own metrics are kept.
    pub scrapes_itself: bool,
    /// How the last scrape of them went.
    pub target: OwnTarget,
    /// What was started with the routes.
    pub started: OnceLock<Started>,
}

/// Ingestion that takes requests.
pub struct Started {
    receiver: Arc<Receiver>,
    pool: Arc<Pool>,
    bucket: Bucket,
    ship_metrics: ShipMetrics,
    http: SocketAddr,
}

impl Ingesting {
    /// Where requests are taken.
    pub fn routes(&self, http: SocketAddr, gateway: &Arc<Gateway>, registry: &mut Registry) -> Router {
        let tenancy = Tenancy { header: "THANOS-TENANT".into(), default: TENANT.into(), field: None };
        let rings = Rings::open(RingSource::Alone, (Algorithm::Ketama, 1), registry);
        let forward =
            ForwardOptions { tls: None, compression: Compression::None, workers: 1, pause_max: Duration::ZERO };
        let metrics = ReceiveMetrics::register(registry, 1);
        let receiver = Arc::new(Receiver {
            options: ReceiveOptions {
                mode: Mode::Ingestor,
                tenancy,
                split_label: None,
                replica_header: "THANOS-REPLICA".into(),
                replication_factor: 1,
                local_endpoint: String::new(),
                request_bytes_max: 128 << 20,
                forward_timeout: Duration::from_secs(5),
                translation: Translation::default(),
            },
            ingest: Arc::clone(&self.held),
            limiter: Limiter::new(LimitsConfig::default(), registry),
            relabel: Vec::new(),
            rings: rings.expect("no ring is no file that could be wrong"),
            peers: Peers::new(forward, metrics.calls.clone()),
            metrics,
            noted: Noted::default(),
        });
        HeadMetrics::register(registry, &self.held, Beside::Compactor);
        let routes = super::http::routes(&receiver);
        self.started.get_or_init(|| Started {
            receiver,
            pool: Arc::clone(&gateway.selector.pool),
            bucket: gateway.bucket.clone(),
            ship_metrics: ShipMetrics::register(registry),
            http,
        });
        routes
    }

    /// Opens what the last process left, then scrapes, cuts and ships, for ever.
    pub async fn work(&self) {
        let Some(started) = self.started.get() else { return std::future::pending().await };
        let options = IngestOptions {
            external_labels: Labels::from_pairs([("receive", "all-in-one")]),
            tenant_label: "tenant_id".into(),
            ..self.options.clone()
        };
        let pool = Arc::clone(&started.pool);
        let ingest = match tokio::task::spawn_blocking(move || Ingest::open(&pool, options)).await {
            Ok(Ok(ingest)) => ingest,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot open what was ingested; nothing is taken");
                return std::future::pending().await;
            }
            Err(error) => {
                tracing::error!(%error, "opening what was ingested failed; nothing is taken");
                return std::future::pending().await;
            }
        };
        super::unread::tell(&ingest, &self.options.data_dir);
        let ingest = self.held.get_or_init(|| ingest);
        if self.scrapes_itself {
            tokio::join!(started.scrape(&self.target), started.ship(ingest, &self.options.data_dir));
        } else {
            started.ship(ingest, &self.options.data_dir).await;
        }
    }

    /// Keeps the heads for the next start.
    pub async fn close(&self) {
        if let Some(ingest) = self.held.get()
            && let Err(error) = ingest.close().await
        {
            tracing::error!(%error, "closing the heads failed; the WAL keeps their samples");
        }
    }
}

/// What the page at `url` says; an error where it answers with one.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, reqwest::Error> {
    client.get(url).send().await?.error_for_status()?.text().await
}

impl Started {
    async fn scrape(&self, own: &OwnTarget) {
        let instance = format!("127.0.0.1:{}", self.http.port());
        let url = format!("http://{instance}/metrics");
        let client = reqwest::Client::new();
        let target = [("job", "uru"), ("instance", instance.as_str())];
        loop {
            let (time, begin) = (SystemTime::now(), Instant::now());
            let text = fetch(&client, &url).await;
            let outcome = text.as_ref().map(drop).map_err(ToString::to_string);
            own.scraped((&url, &target), (time, begin.elapsed()), outcome);
            match text {
                Ok(text) => self.keep(&text, &target).await,
                Err(error) => tracing::warn!(%error, "scraping the process' own metrics failed"),
            }
            tokio::time::sleep(scrape::INTERVAL).await;
        }
    }

    async fn keep(&self, text: &str, target: &[(&str, &str)]) {
        let request = scrape::to_request(text, target, scrape::now());
        let taken = take(Protocol::V1, request).expect("the scraper writes requests that can be read");
        if let Err(refusal) = self.receiver.append(TENANT, taken.batch).await {
            tracing::warn!(error = refusal.message, "keeping the process' own metrics failed");
        }
    }

    async fn ship(&self, ingest: &Arc<Ingest>, data_dir: &std::path::Path) {
        let retention = Retention { age: KEPT, bytes_max: 0 };
        let more = (retention, self.ship_metrics.clone());
        let shipper =
            Shipper::new(Arc::clone(ingest), data_dir, Some((self.bucket.clone(), Transfer::default())), more);
        shipper.work(SHIP_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_that_answers_with_an_error_is_no_page() {
        for (status, is_page) in [(200, true), (401, false), (500, false)] {
            let answer = move || async move { (axum::http::StatusCode::from_u16(status).unwrap(), "up 1") };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/metrics", listener.local_addr().unwrap());
            let serving = axum::serve(listener, Router::new().route("/metrics", axum::routing::get(answer)));
            let serving = tokio::spawn(serving.into_future());
            let page = fetch(&reqwest::Client::new(), &url).await;
            assert_eq!(
                page.map_err(|error| error.status().map(|status| status.as_u16())),
                match is_page {
                    true => Ok("up 1".to_owned()),
                    false => Err(Some(status)),
                }
            );
            serving.abort();
        }
    }
}
