//! How many series tenants have over all receivers, as meta-monitoring says.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;

use super::MetaMonitoring;

/// The series of each tenant at the last answer.
#[derive(Debug, Default)]
pub struct ActiveSeries {
    of: RwLock<BTreeMap<String, u64>>,
}

impl ActiveSeries {
    /// The tenant's series; `None` while nothing is known of it.
    pub fn series(&self, tenant: &str) -> Option<u64> {
        self.of.read().unwrap_or_else(PoisonError::into_inner).get(tenant).copied()
    }

    /// Takes an answer.
    pub fn set(&self, found: impl IntoIterator<Item = (String, u64)>) {
        self.of.write().unwrap_or_else(PoisonError::into_inner).extend(found);
    }
}

impl MetaMonitoring {
    /// The series of each tenant now.
    pub async fn ask(&self) -> Result<Vec<(String, u64)>, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &self.query)
            .append_pair("dedup", "true")
            .append_pair("partial_response", "true")
            .finish();
        let url = format!("{}/api/v1/query?{form}", self.url.trim_end_matches('/'));
        let failed = |error: reqwest::Error| format!("meta-monitoring {}: {error}", self.url);
        let answer = self.client.get(&url)?.send().await.map_err(failed)?;
        let text = answer.error_for_status().map_err(failed)?.bytes().await.map_err(failed)?;
        parse_series(&text).ok_or_else(|| format!("meta-monitoring {}: the answer is no vector", self.url))
    }
}

/// The tenants and values of an instant vector in Prometheus' JSON.
pub fn parse_series(json: &[u8]) -> Option<Vec<(String, u64)>> {
    let answer: Value = serde_json::from_slice(json).ok()?;
    let found = answer.pointer("/data/result")?.as_array()?;
    let series = found.iter().filter_map(|series| {
        let tenant = series.pointer("/metric/tenant")?.as_str()?;
        let value: f64 = series.pointer("/value/1")?.as_str()?.parse().ok()?;
        Some((tenant.to_owned(), value as u64))
    });
    Some(series.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_vector_says_what_each_tenant_has() {
        let json = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"tenant":"a"},"value":[1,"12.0"]},{"metric":{},"value":[1,"5"]}]}}"#;
        assert_eq!(parse_series(json), Some(vec![("a".to_owned(), 12)]));
        assert_eq!(parse_series(b"{}"), None);
    }
}
