//! A process' own metrics, scraped and kept by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use prometheus_client::registry::Registry;

use super::intake::{Protocol, take};
use super::scrape::OwnTarget;
use super::{Receiver, scrape};
use crate::telemetry::metrics;
use crate::upkeep::now_ms;

/// Whose the process' own metrics are. Were they the default tenant's, a clock that was a day ahead at one scrape would
/// have all that others send refused for a day, as it were behind the latest sample.
const TENANT: &str = "uru";

/// Scrapes the process it runs in.
pub struct SelfScrape {
    /// Keeps what is found.
    pub receiver: Arc<Receiver>,
    /// How the last scrape went.
    pub target: OwnTarget,
    /// Where the process serves HTTP.
    pub http: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl SelfScrape {
    /// Scrapes the page that shows `registry`, for ever. Over HTTP it would need what the file of `--http.config` asks
    /// of others.
    pub async fn work(&self, registry: &Registry) {
        let instance = self.http.to_string();
        let url = format!("{}://{instance}/metrics", self.scheme);
        let target = [("job", "uru"), ("instance", instance.as_str())];
        loop {
            let (time, begin) = (SystemTime::now(), Instant::now());
            let (_, text) = metrics::render(registry, "");
            self.target.scraped((&url, &target), (time, begin.elapsed()));
            self.keep(&text, &target).await;
            tokio::time::sleep(scrape::INTERVAL).await;
        }
    }

    async fn keep(&self, text: &str, target: &[(&str, &str)]) {
        let request = scrape::to_request(text, target, now_ms());
        let receiver = &self.receiver;
        let taken = receiver
            .hold(request.len() as u64)
            .and_then(|held| take(Protocol::V1, request, held).map_err(|untaken| receiver.untaken(untaken)));
        let kept = match taken {
            Ok(taken) => receiver.append(TENANT, taken.batch).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = kept {
            tracing::warn!(error = refusal.message, "keeping the process' own metrics failed");
        }
    }
}
