//! Targets, metadata, exemplars and cardinalities of endpoints, replicas made one, as the JSON that
//! Prometheus and Thanos have for them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use engine::model::{Error, Labels};
use proto::thanos::{
    ActiveTarget, Exemplar, ExemplarData, MetricMetadata, MetricMetadataRequest, Statistic, TargetDiscovery,
    TargetsRequest, TsdbStatistics, TsdbStatisticsRequest, ZLabelSet,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::endpoints::labels;
use super::proxy::{Proxy, wire_matcher};
use super::rules;
use crate::api::http::query::backend::{Federated, Found, Scope, StatisticsWanted, TargetState};
use crate::api::http::query::ending::compute;

/// Rows of a table of cardinalities where the request says nothing.
const STATISTICS_ROWS: i32 = 10;

/// Go's zero time, in Unix seconds: January 1st of the year 1.
const ZERO_TIME: i128 = -62_135_596_800;

/// Asks every endpoint that serves `what`. A long list takes seconds to be made, so that it is made on a thread that
/// may compute.
pub async fn ask(proxy: &Proxy, scope: &Scope, what: &Federated) -> Result<Found<Value>, Error> {
    let dropped = scope.replica_labels.clone();
    match what {
        Federated::Rules(wanted) => {
            let (found, wanted) = (proxy.rules(scope, &rules::request(wanted)).await?, wanted.clone());
            compute(move |_| Ok(found.map(|groups| rules::answer(groups, &wanted, &dropped)))).await
        }
        Federated::Targets(state) => ask_for_targets(proxy, scope, *state, None).await,
        Federated::Metadata { metric, limit } => {
            let request = MetricMetadataRequest { metric: metric.clone(), limit: *limit, ..Default::default() };
            let found = proxy.metadata(scope, &request).await?;
            let limit = *limit;
            compute(move |_| Ok(found.map(|said| metadata(said, limit)))).await
        }
        Federated::Exemplars { selectors, range } => {
            let found = proxy.exemplars(scope, selectors, *range).await?;
            compute(move |_| Ok(found.map(|data| exemplars(&data, &dropped)))).await
        }
        Federated::TsdbStatus(wanted) => {
            let limit = if wanted.limit < 1 { STATISTICS_ROWS } else { wanted.limit };
            let matchers = wanted.matchers.iter().map(wire_matcher).collect();
            let request = TsdbStatisticsRequest { limit, matchers, ..TsdbStatisticsRequest::default() };
            let found = proxy.statistics(scope, &request).await?;
            let data = statistics(&found.data, wanted, limit as usize)?;
            Ok(found.map(|_| data))
        }
    }
}

/// Targets of every endpoint that has some, and this process' own.
pub async fn ask_for_targets(
    proxy: &Proxy,
    scope: &Scope,
    state: TargetState,
    own: Option<TargetDiscovery>,
) -> Result<Found<Value>, Error> {
    let request = TargetsRequest { state: state as i32, ..TargetsRequest::default() };
    let mut found = proxy.targets(scope, &request).await?;
    found.data.extend(own);
    let dropped = scope.replica_labels.clone();
    compute(move |_| Ok(found.map(|data| targets(&data, &dropped)))).await
}

/// The labels of the wire without those of `dropped`.
pub fn kept(set: Option<&ZLabelSet>, dropped: &[String]) -> Labels {
    let all = set.map(labels).unwrap_or_default();
    let kept = all.iter().filter(|(name, _)| !dropped.iter().any(|dropped| dropped == name));
    Labels::from_sorted(kept)
}

/// Labels as a JSON object.
pub fn labels_json(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// A time of the wire as RFC 3339; none is Go's zero time.
pub fn time_json(time: Option<&prost_types::Timestamp>) -> Value {
    let (seconds, nanos) = time.map_or((ZERO_TIME, 0), |time| (i128::from(time.seconds), i128::from(time.nanos)));
    let time = OffsetDateTime::from_unix_timestamp_nanos(seconds * 1_000_000_000 + nanos);
    Value::from(time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default())
}

/// A number as Go writes it: whole ones without a fraction.
pub fn number_json(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { Value::from(number as i64) } else { Value::from(number) }
}

/// What tells times apart.
pub fn instant(time: Option<&prost_types::Timestamp>) -> (i64, i32) {
    time.map_or((i64::MIN, 0), |time| (time.seconds, time.nanos))
}

/// What tells active targets apart, in the order in which they are answered.
type TargetKey<'a> = (&'a str, &'a str, Labels, Labels);

fn targets(parts: &[TargetDiscovery], dropped: &[String]) -> Value {
    let mut active: BTreeMap<TargetKey<'_>, &ActiveTarget> = BTreeMap::new();
    let mut inactive: Vec<Labels> = Vec::new();
    // Of replicas a failing one is shown, of those the one scraped last.
    let rank = |target: &ActiveTarget| (target.health, Reverse(instant(target.last_scrape.as_ref())));
    for part in parts {
        for target in &part.active_targets {
            let discovered = kept(target.discovered_labels.as_ref(), dropped);
            let key = (
                target.scrape_url.as_str(),
                target.scrape_pool.as_str(),
                discovered,
                kept(target.labels.as_ref(), dropped),
            );
            let known = active.entry(key).or_insert(target);
            if rank(target) < rank(known) {
                *known = target;
            }
        }
        inactive.extend(part.dropped_targets.iter().map(|target| kept(target.discovered_labels.as_ref(), dropped)));
    }
    inactive.sort();
    inactive.dedup();
    let active = active.iter().map(|((_, _, discovered, labels), target)| {
        json!({
            "discoveredLabels": labels_json(discovered),
            "labels": labels_json(labels),
            "scrapePool": target.scrape_pool,
            "scrapeUrl": target.scrape_url,
            "globalUrl": target.global_url,
            "lastError": target.last_error,
            "lastScrape": time_json(target.last_scrape.as_ref()),
            "lastScrapeDuration": number_json(target.last_scrape_duration),
            "health": match target.health { 0 => "down", 1 => "up", _ => "unknown" },
        })
    });
    let inactive = inactive.iter().map(|labels| json!({ "discoveredLabels": labels_json(labels) }));
    json!({ "activeTargets": active.collect::<Vec<_>>(), "droppedTargets": inactive.collect::<Vec<_>>() })
}

fn metadata(parts: Vec<MetricMetadata>, limit: i32) -> Value {
    let mut metrics: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, entry) in parts.into_iter().flat_map(|part| part.metadata) {
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
    json!(metrics)
}

/// Exemplars by series without replica labels, in order of time, each once.
fn exemplars(parts: &[ExemplarData], dropped: &[String]) -> Value {
    let mut series: BTreeMap<Labels, Vec<&Exemplar>> = BTreeMap::new();
    for part in parts.iter().filter(|part| !part.exemplars.is_empty()) {
        series.entry(kept(part.series_labels.as_ref(), dropped)).or_default().extend(&part.exemplars);
    }
    let list = series.into_iter().map(|(labels, exemplars)| {
        let mut exemplars: Vec<(i64, Labels, f64)> =
            exemplars.iter().map(|one| (one.ts, kept(one.labels.as_ref(), &[]), one.value)).collect();
        exemplars.sort_by(|left, right| {
            (left.0, &left.1).cmp(&(right.0, &right.1)).then_with(|| left.2.total_cmp(&right.2))
        });
        exemplars.dedup();
        let exemplars = exemplars.iter().map(|(ts, labels, value)| {
            json!({
                "labels": labels_json(labels),
                "timestamp": number_json(*ts as f64 / 1000.0),
                "value": engine::model::float_text::format_float(*value),
            })
        });
        json!({ "seriesLabels": labels_json(&labels), "exemplars": exemplars.collect::<Vec<_>>() })
    });
    Value::Array(list.collect())
}

/// What becomes of two counts of one thing.
type Merge = fn(u64, u64) -> u64;

/// One table of cardinalities out of several, the largest first.
fn table(tables: &[&[Statistic]], rows: usize, merge: Merge) -> Vec<Value> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for count in tables.iter().copied().flatten() {
        counts.entry(&count.name).and_modify(|known| *known = merge(*known, count.value)).or_insert(count.value);
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(name, value)| (Reverse(*value), *name));
    counts.into_iter().take(rows).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// The heads of all tenants as one, or the wanted tenant's.
fn statistics(parts: &[TsdbStatistics], wanted: &StatisticsWanted, rows: usize) -> Result<Value, Error> {
    let of_tenant = |tenant: &String| wanted.tenant.as_ref().is_none_or(|wanted| wanted == tenant);
    let entries: Vec<_> = parts
        .iter()
        .flat_map(|part| &part.statistics)
        .filter(|(tenant, _)| of_tenant(tenant))
        .map(|(_, entry)| entry)
        .collect();
    if let (Some(tenant), true) = (&wanted.tenant, entries.is_empty()) {
        let message = format!("retrieving tsdb statistics: {tenant} tenant not found");
        return Err(Error::new(engine::model::ErrorKind::Unavailable, message));
    }
    let heads: Vec<_> = entries.iter().map(|entry| entry.head_statistics.unwrap_or_default()).collect();
    let (sum, max): (Merge, Merge) = (u64::saturating_add, u64::max);
    let all = |of: fn(&proto::thanos::TsdbStatisticsEntry) -> &Vec<Statistic>, merge| {
        let tables: Vec<&[Statistic]> = entries.iter().map(|entry| of(entry).as_slice()).collect();
        table(&tables, rows, merge)
    };
    Ok(json!({
        "headStats": {
            "numSeries": heads.iter().map(|head| head.num_series).sum::<u64>(),
            "numLabelPairs": heads.iter().map(|head| head.num_label_pairs).sum::<i64>(),
            "chunkCount": heads.iter().map(|head| head.chunk_count).sum::<i64>(),
            "minTime": heads.iter().map(|head| head.min_time).min().unwrap_or(0),
            "maxTime": heads.iter().map(|head| head.max_time).max().unwrap_or(0),
        },
        "seriesCountByMetricName": all(|entry| &entry.series_count_by_metric_name, sum),
        // Endpoints may have the same values, so the most of one is nearer than the sum.
        "labelValueCountByLabelName": all(|entry| &entry.label_value_count_by_label_name, max),
        "memoryInBytesByLabelName": all(|entry| &entry.memory_in_bytes_by_label_name, sum),
        "seriesCountByLabelValuePair": all(|entry| &entry.series_count_by_label_value_pair, sum),
    }))
}
