//! How many series tenants have over all receivers, as meta-monitoring says.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::MetaMonitoring;

/// Most bytes of an answer: some hundred thousand tenants.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Whole answers in a row that name a tenant no more until nothing is known of it, those of five minutes: a server that
/// was just started does not know all receivers yet.
const ANSWERS_WITHOUT_MAX: u32 = 20;

/// Tenants that are known at most however few of the answers are whole.
const TENANTS_MAX: usize = 1_000_000;

/// The series of each tenant at the last answer that named it.
#[derive(Debug, Default)]
pub struct ActiveSeries {
    of: RwLock<BTreeMap<String, Known>>,
}

/// What is known of a tenant.
#[derive(Debug)]
struct Known {
    series: u64,
    /// Whole answers since that didn't name it.
    answers_without: u32,
}

/// What meta-monitoring says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The series of tenants.
    pub series: Vec<(String, u64)>,
    /// Whether it was sent without a warning, as one of endpoints that did not answer.
    pub is_whole: bool,
}

impl ActiveSeries {
    /// The tenant's series; `None` while nothing is known of it.
    pub fn series(&self, tenant: &str) -> Option<u64> {
        let of = self.of.read().unwrap_or_else(PoisonError::into_inner);
        of.get(tenant).map(|known| known.series)
    }

    /// Takes an answer. Tenants that it doesn't name have what they had, but not for ever.
    pub fn set(&self, found: Found) {
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        if found.is_whole || of.len() > TENANTS_MAX {
            of.values_mut().for_each(|known| known.answers_without += 1);
        }
        let known = |series: u64| Known { series, answers_without: 0 };
        of.extend(found.series.into_iter().map(|(tenant, series)| (tenant, known(series))));
        of.retain(|_, known| known.answers_without < ANSWERS_WITHOUT_MAX);
    }

    /// A tenant is gone.
    pub fn forget(&self, tenant: &str) {
        self.of.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }
}

impl MetaMonitoring {
    /// The series of each tenant now.
    pub async fn ask(&self) -> Result<Found, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &self.query)
            .append_pair("dedup", "true")
            .append_pair("partial_response", "true")
            .finish();
        let url = format!("{}/api/v1/query?{form}", self.url.trim_end_matches('/'));
        let failed = |error: reqwest::Error| format!("meta-monitoring {}: {error}", self.url);
        let answer = self.client.get(&url)?.send().await.map_err(failed)?;
        let mut answer = answer.error_for_status().map_err(failed)?;
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if text.len() + piece.len() > ANSWER_BYTES_MAX {
                let why = "has more than 16 MiB: have meta_monitoring_limit_query name fewer tenants, each once";
                return Err(format!("meta-monitoring {}: the answer {why}", self.url));
            }
            text.extend_from_slice(&piece);
        }
        parse_series(&text).ok_or_else(|| format!("meta-monitoring {}: the answer is no vector", self.url))
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
    #[serde(default)]
    warnings: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    metric: Named,
    value: Option<(IgnoredAny, String)>,
}

#[derive(Deserialize)]
struct Named {
    tenant: Option<String>,
}

/// The tenants and values of an instant vector in Prometheus' JSON.
pub fn parse_series(json: &[u8]) -> Option<Found> {
    let Answer { data, warnings } = serde_json::from_slice(json).ok()?;
    let series = data.result.into_iter().filter_map(|Element { metric, value }| {
        let value: f64 = value?.1.parse().ok()?;
        Some((metric.tenant?, value as u64))
    });
    Some(Found { series: series.collect(), is_whole: warnings.is_none_or(|warnings| warnings.is_empty()) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn found(series: &[(&str, u64)], is_whole: bool) -> Found {
        let series = series.iter().map(|(tenant, series)| ((*tenant).to_owned(), *series));
        Found { series: series.collect(), is_whole }
    }

    #[test]
    fn an_instant_vector_says_what_each_tenant_has() {
        let json = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"tenant":"a","x":"y"},"value":[1,"12.0"]},{"metric":{},"value":[1,"5"]}]}}"#;
        assert_eq!(parse_series(json), Some(found(&[("a", 12)], true)));
        let json = br#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["gone"]}"#;
        assert_eq!(parse_series(json), Some(found(&[], false)));
        assert_eq!(parse_series(b"{}"), None);
    }

    /// What a tenant once had was held against it for ever, though it had long been gone.
    #[test]
    fn a_tenant_that_is_named_no_more_is_forgotten_after_some_answers_or_once_it_is_gone() {
        let active = ActiveSeries::default();
        active.set(found(&[("a", 1), ("b", 2)], true));
        for _ in 0..100 {
            active.set(found(&[("b", 3)], false));
        }
        for _ in 1..ANSWERS_WITHOUT_MAX {
            active.set(found(&[("b", 3)], true));
            assert_eq!(active.series("a"), Some(1));
        }
        active.set(found(&[("b", 3)], true));
        assert_eq!((active.series("a"), active.series("b")), (None, Some(3)));
        active.forget("b");
        assert_eq!(active.series("b"), None);
    }

    #[test]
    fn an_answer_that_does_not_end_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endless = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b' '; 64 << 10]).is_ok() {}
        });
        let asked = MetaMonitoring { url, query: "up".to_owned(), client: super::super::client::HttpClient::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(asked.ask()).unwrap_err();
        assert!(refused.contains("16 MiB"), "{refused}");
        drop(runtime);
        endless.join().unwrap();
    }
}
