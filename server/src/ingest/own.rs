//! A process' own metrics, scraped and kept by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::intake::{Protocol, take};
use super::scrape::OwnTarget;
use super::{Receiver, scrape};

/// Scrapes the process it runs in.
pub struct SelfScrape {
    /// Keeps what is found.
    pub receiver: Arc<Receiver>,
    /// How the last scrape went.
    pub target: OwnTarget,
    /// Where the process serves HTTP.
    pub http: SocketAddr,
}

/// What the page at `url` says; an error where it answers with one.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, reqwest::Error> {
    client.get(url).send().await?.error_for_status()?.text().await
}

impl SelfScrape {
    /// Scrapes, for ever.
    pub async fn work(&self) {
        let instance = self.http.to_string();
        let url = format!("http://{instance}/metrics");
        let client = reqwest::Client::new();
        let target = [("job", "uru"), ("instance", instance.as_str())];
        loop {
            let (time, begin) = (SystemTime::now(), Instant::now());
            let text = fetch(&client, &url).await;
            let outcome = text.as_ref().map(drop).map_err(ToString::to_string);
            self.target.scraped((&url, &target), (time, begin.elapsed()), outcome);
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
        if let Err(refusal) = self.receiver.append(&self.receiver.options.tenancy.default, taken.batch).await {
            tracing::warn!(error = refusal.message, "keeping the process' own metrics failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;

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
