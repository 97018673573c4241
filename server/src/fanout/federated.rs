//! Targets, metadata, exemplars and cardinalities of endpoints, merged, as Prometheus' JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::model::{Error, Labels};
use futures_util::future::join_all;
use proto::thanos::exemplars_client::ExemplarsClient;
use proto::thanos::metadata_client::MetadataClient;
use proto::thanos::status_client::StatusClient;
use proto::thanos::targets_client::TargetsClient;
use proto::thanos::{
    ActiveTarget, ExemplarData, ExemplarsRequest, MetricMetadataRequest, TargetsRequest, TsdbStatisticsRequest,
    ZLabelSet, exemplars_response, metric_metadata_response, targets_response, tsdb_statistics_response,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::{Status, Streaming};

use super::endpoints::{Api, Peer, labels};
use super::proxy::{Proxy, with_tenant};
use super::rules;
use super::stream::failure;
use crate::api::http::query::backend::{Federated, Found, OnFailure, Scope};

/// Asks every endpoint that serves `what`.
pub async fn ask(proxy: &Proxy, scope: &Scope, what: &Federated) -> Result<Found<Value>, Error> {
    match what {
        Federated::Rules(params) => rules::ask(proxy, scope, params).await,
        Federated::Targets(params) => targets(proxy, scope, params).await,
        Federated::Metadata(params) => metadata(proxy, scope, params).await,
        Federated::Exemplars(params) => exemplars(proxy, scope, params).await,
        Federated::TsdbStatus(params) => statistics(proxy, scope, params).await,
    }
}

/// The first value of a parameter.
pub fn first<'a>(params: &'a [(String, String)], name: &str) -> &'a str {
    params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// All values of a parameter.
pub fn all(params: &[(String, String)], name: &str) -> Vec<String> {
    params.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
}

/// What every endpoint that serves `api` streams, in the order of their addresses; `split` tells
/// warnings from parts.
pub async fn gather<M, P, F, A>(
    proxy: &Proxy,
    scope: &Scope,
    (api, call): (Api, F),
    split: impl Fn(M) -> Option<Result<P, String>>,
) -> Result<Found<Vec<P>>, Error>
where
    M: prost::Message,
    F: Fn(Arc<Peer>) -> A,
    A: Future<Output = Result<Streaming<M>, Status>>,
{
    let peers = proxy.endpoints.serving(api);
    let calls = peers.into_iter().map(|peer| {
        let answer = call(Arc::clone(&peer));
        async move {
            let read = async {
                let mut stream = answer.await?;
                let (mut messages, mut held) = (Vec::new(), 0);
                while let Some(message) = stream.message().await? {
                    held += message.encoded_len() as u64;
                    if held > proxy.bytes_max {
                        let text = format!("the answer is larger than {} bytes (query.memory-limit)", proxy.bytes_max);
                        return Err(Status::resource_exhausted(text));
                    }
                    messages.push(message);
                }
                Ok(messages)
            };
            let answer = match proxy.frame_timeout {
                None => read.await,
                Some(timeout) => tokio::time::timeout(timeout, read)
                    .await
                    .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {timeout:?}")))),
            };
            answer.map_err(|status| failure(&peer.address, &status))
        }
    });
    let mut found = Found { data: Vec::new(), warnings: Vec::new() };
    for answer in join_all(calls).await {
        match (answer, scope.on_failure) {
            (Ok(messages), _) => {
                for part in messages.into_iter().filter_map(&split) {
                    match part {
                        Ok(part) => found.data.push(part),
                        Err(warning) => found.warnings.push(warning),
                    }
                }
            }
            (Err(error), OnFailure::Warn) => found.warnings.push(error.to_string()),
            (Err(error), OnFailure::Abort) => return Err(error),
        }
    }
    Ok(found)
}

/// Labels of the wire as a JSON object, without those of `dropped`.
pub fn labels_json(set: Option<&ZLabelSet>, dropped: &[String]) -> Value {
    let kept = set.map(labels).unwrap_or_default();
    let pairs = kept.iter().filter(|(name, _)| !dropped.iter().any(|dropped| dropped == name));
    Value::Object(pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Map<_, _>>())
}

/// A time of the wire as RFC 3339.
pub fn time_json(time: Option<&prost_types::Timestamp>) -> Value {
    let nanos = time.map_or(0, |time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos));
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Value::from(time.format(&Rfc3339).unwrap_or_default())
}

async fn targets(proxy: &Proxy, scope: &Scope, params: &[(String, String)]) -> Result<Found<Value>, Error> {
    let state = match first(params, "state").to_lowercase().as_str() {
        "active" => 1,
        "dropped" => 2,
        _ => 0,
    };
    let bytes_max = proxy.frame_bytes_max();
    let call = |peer: Arc<Peer>| {
        let request = with_tenant(TargetsRequest { state, ..TargetsRequest::default() }, &scope.tenant);
        async move {
            Ok(TargetsClient::new(peer.channel.clone())
                .max_decoding_message_size(bytes_max)
                .targets(request)
                .await?
                .into_inner())
        }
    };
    let found = gather(proxy, scope, (Api::Targets, call), |message: proto::thanos::TargetsResponse| {
        message.result.map(|result| match result {
            targets_response::Result::Targets(part) => Ok(part),
            targets_response::Result::Warning(text) => Err(text),
        })
    })
    .await?;
    let dropped = &scope.replica_labels;
    let mut active: BTreeMap<String, (Option<prost_types::Timestamp>, Value)> = BTreeMap::new();
    let mut inactive: BTreeMap<String, Value> = BTreeMap::new();
    for part in &found.data {
        for target in &part.active_targets {
            let json = active_target(target, dropped);
            let key = format!("{} {} {}", target.scrape_pool, target.scrape_url, json["labels"]);
            let newer = active
                .get(&key)
                .is_none_or(|(known, _)| seconds(known.as_ref()) < seconds(target.last_scrape.as_ref()));
            if newer {
                active.insert(key, (target.last_scrape, json));
            }
        }
        for target in &part.dropped_targets {
            let labels = labels_json(target.discovered_labels.as_ref(), dropped);
            inactive.insert(labels.to_string(), json!({ "discoveredLabels": labels }));
        }
    }
    let active: Vec<Value> = active.into_values().map(|(_, json)| json).collect();
    let inactive: Vec<Value> = inactive.into_values().collect();
    Ok(Found { data: json!({ "activeTargets": active, "droppedTargets": inactive }), warnings: found.warnings })
}

fn seconds(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

fn active_target(target: &ActiveTarget, dropped: &[String]) -> Value {
    json!({
        "discoveredLabels": labels_json(target.discovered_labels.as_ref(), dropped),
        "labels": labels_json(target.labels.as_ref(), dropped),
        "scrapePool": target.scrape_pool,
        "scrapeUrl": target.scrape_url,
        "globalUrl": target.global_url,
        "lastError": target.last_error,
        "lastScrape": time_json(target.last_scrape.as_ref()),
        "lastScrapeDuration": target.last_scrape_duration,
        "health": match target.health { 0 => "down", 1 => "up", _ => "unknown" },
    })
}

async fn metadata(proxy: &Proxy, scope: &Scope, params: &[(String, String)]) -> Result<Found<Value>, Error> {
    let limit = first(params, "limit").parse().unwrap_or(-1);
    let metric = first(params, "metric").to_owned();
    let bytes_max = proxy.frame_bytes_max();
    let call = |peer: Arc<Peer>| {
        let request = MetricMetadataRequest { metric: metric.clone(), limit, ..MetricMetadataRequest::default() };
        let request = with_tenant(request, &scope.tenant);
        async move {
            Ok(MetadataClient::new(peer.channel.clone())
                .max_decoding_message_size(bytes_max)
                .metric_metadata(request)
                .await?
                .into_inner())
        }
    };
    let found = gather(proxy, scope, (Api::Metadata, call), |message: proto::thanos::MetricMetadataResponse| {
        message.result.map(|result| match result {
            metric_metadata_response::Result::Metadata(part) => Ok(part),
            metric_metadata_response::Result::Warning(text) => Err(text),
        })
    })
    .await?;
    let mut metrics: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, entry) in found.data.into_iter().flat_map(|part| part.metadata) {
        let known = metrics.entry(name).or_default();
        for meta in entry.metas {
            let json = json!({ "type": meta.r#type, "help": meta.help, "unit": meta.unit });
            if !known.contains(&json) {
                known.push(json);
            }
        }
    }
    if let Ok(limit) = usize::try_from(limit) {
        metrics = metrics.into_iter().take(limit).collect();
    }
    Ok(Found { data: json!(metrics), warnings: found.warnings })
}

async fn exemplars(proxy: &Proxy, scope: &Scope, params: &[(String, String)]) -> Result<Found<Value>, Error> {
    let ms = |name: &str, fallback: i64| first(params, name).parse::<f64>().map_or(fallback, |at| (at * 1000.0) as i64);
    let (start, end) = (ms("start", i64::MIN), ms("end", i64::MAX));
    let query = first(params, "query").to_owned();
    let bytes_max = proxy.frame_bytes_max();
    let call = |peer: Arc<Peer>| {
        let request = ExemplarsRequest { query: query.clone(), start, end, ..ExemplarsRequest::default() };
        let request = with_tenant(request, &scope.tenant);
        async move {
            Ok(ExemplarsClient::new(peer.channel.clone())
                .max_decoding_message_size(bytes_max)
                .exemplars(request)
                .await?
                .into_inner())
        }
    };
    let found = gather(proxy, scope, (Api::Exemplars, call), |message: proto::thanos::ExemplarsResponse| {
        message.result.map(|result| match result {
            exemplars_response::Result::Data(part) => Ok(part),
            exemplars_response::Result::Warning(text) => Err(text),
        })
    })
    .await?;
    Ok(Found { data: merged_exemplars(&found.data, &scope.replica_labels), warnings: found.warnings })
}

/// Exemplars by series without replica labels, in order of time, each once.
fn merged_exemplars(parts: &[ExemplarData], dropped: &[String]) -> Value {
    let mut series: BTreeMap<Labels, BTreeMap<(i64, String), Value>> = BTreeMap::new();
    for part in parts {
        let set = part.series_labels.as_ref().map(labels).unwrap_or_default();
        let kept = set.iter().filter(|(name, _)| !dropped.iter().any(|dropped| dropped == name));
        let known = series.entry(Labels::from_sorted(kept)).or_default();
        for exemplar in &part.exemplars {
            let json = json!({
                "labels": labels_json(exemplar.labels.as_ref(), &[]),
                "value": engine::model::float_text::format_float(exemplar.value),
                "timestamp": exemplar.ts as f64 / 1000.0,
            });
            known.insert((exemplar.ts, json.to_string()), json);
        }
    }
    let list = series.into_iter().map(|(labels, exemplars)| {
        let pairs = labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        json!({
            "seriesLabels": pairs.collect::<Map<_, _>>(),
            "exemplars": exemplars.into_values().collect::<Vec<_>>(),
        })
    });
    Value::Array(list.collect())
}

async fn statistics(proxy: &Proxy, scope: &Scope, params: &[(String, String)]) -> Result<Found<Value>, Error> {
    let limit = first(params, "limit").parse().unwrap_or(10);
    let bytes_max = proxy.frame_bytes_max();
    let call = |peer: Arc<Peer>| {
        let request = TsdbStatisticsRequest { limit, ..TsdbStatisticsRequest::default() };
        let request = with_tenant(request, &scope.tenant);
        async move {
            Ok(StatusClient::new(peer.channel.clone())
                .max_decoding_message_size(bytes_max)
                .tsdb_statistics(request)
                .await?
                .into_inner())
        }
    };
    let found = gather(proxy, scope, (Api::Status, call), |message: proto::thanos::TsdbStatisticsResponse| {
        message.result.map(|result| match result {
            tsdb_statistics_response::Result::Statistics(part) => Ok(part),
            tsdb_statistics_response::Result::Warning(text) => Err(text),
        })
    })
    .await?;
    let counts = |list: &[proto::thanos::Statistic]| -> Vec<Value> {
        list.iter().map(|count| json!({ "name": count.name, "value": count.value })).collect()
    };
    let heads = found.data.iter().flat_map(|part| &part.statistics).map(|(tenant, entry)| {
        let head = entry.head_statistics.unwrap_or_default();
        json!({
            "tenant": tenant,
            "headStats": {
                "numSeries": head.num_series,
                "numLabelPairs": head.num_label_pairs,
                "chunkCount": head.chunk_count,
                "minTime": head.min_time,
                "maxTime": head.max_time,
            },
            "seriesCountByMetricName": counts(&entry.series_count_by_metric_name),
            "labelValueCountByLabelName": counts(&entry.label_value_count_by_label_name),
            "memoryInBytesByLabelName": counts(&entry.memory_in_bytes_by_label_name),
            "seriesCountByLabelValuePair": counts(&entry.series_count_by_label_value_pair),
        })
    });
    Ok(Found { data: Value::Array(heads.collect()), warnings: found.warnings })
}
