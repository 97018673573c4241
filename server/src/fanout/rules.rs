//! Rules of endpoints: groups of one file and name are one, replicas of a rule are one.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::model::Error;
use proto::thanos::rules_client::RulesClient;
use proto::thanos::{Alert, RecordingRule, RuleGroup, RulesRequest, rule, rules_response};
use serde_json::{Value, json};

use super::endpoints::{Api, Peer};
use super::federated::{all, first, gather, labels_json, time_json};
use super::proxy::{Proxy, with_tenant};
use crate::api::http::query::backend::{Found, Scope};

/// Rule groups of every endpoint that has some.
pub async fn ask(proxy: &Proxy, scope: &Scope, params: &[(String, String)]) -> Result<Found<Value>, Error> {
    let request = RulesRequest {
        r#type: match first(params, "type").to_lowercase().as_str() {
            "alert" => 1,
            "record" => 2,
            _ => 0,
        },
        partial_response_strategy: 0,
        matcher_string: all(params, "match[]"),
        rule_name: all(params, "rule_name[]"),
        rule_group: all(params, "rule_group[]"),
        file: all(params, "file[]"),
    };
    let bytes_max = proxy.frame_bytes_max();
    let call = |peer: Arc<Peer>| {
        let request = with_tenant(request.clone(), &scope.tenant);
        async move {
            Ok(RulesClient::new(peer.channel.clone())
                .max_decoding_message_size(bytes_max)
                .rules(request)
                .await?
                .into_inner())
        }
    };
    let found = gather(proxy, scope, (Api::Rules, call), |message: proto::thanos::RulesResponse| {
        message.result.map(|result| match result {
            rules_response::Result::Group(group) => Ok(group),
            rules_response::Result::Warning(text) => Err(text),
        })
    })
    .await?;
    Ok(Found { data: json!({ "groups": merged(&found.data, &scope.replica_labels) }), warnings: found.warnings })
}

/// Rules of a group, by what tells them apart: the better replica of each.
type Rules = BTreeMap<String, (Urgency, Value)>;

/// What decides between replicas of a rule: a firing alert before a pending one, then the younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    state: i32,
    evaluated: (i64, i32),
}

fn merged(groups: &[RuleGroup], dropped: &[String]) -> Vec<Value> {
    let mut files: BTreeMap<(&str, &str), (&RuleGroup, Rules)> = BTreeMap::new();
    for group in groups {
        let (_, rules) = files.entry((&group.file, &group.name)).or_insert_with(|| (group, Rules::new()));
        for rule in group.rules.iter().filter_map(|rule| rule.result.as_ref()) {
            let (key, urgency, json) = match rule {
                rule::Result::Alert(alert) => alerting(alert, dropped),
                rule::Result::Recording(recording) => self::recording(recording, dropped),
            };
            if rules.get(&key).is_none_or(|(known, _)| *known < urgency) {
                rules.insert(key, (urgency, json));
            }
        }
    }
    let list = files.into_values().map(|(group, rules)| {
        json!({
            "name": group.name,
            "file": group.file,
            "rules": rules.into_values().map(|(_, json)| json).collect::<Vec<_>>(),
            "interval": group.interval,
            "evaluationTime": group.evaluation_duration_seconds,
            "lastEvaluation": time_json(group.last_evaluation.as_ref()),
            "limit": group.limit,
            "partialResponseStrategy": strategy(group.partial_response_strategy),
        })
    });
    list.collect()
}

fn alerting(alert: &Alert, dropped: &[String]) -> (String, Urgency, Value) {
    let labels = labels_json(alert.labels.as_ref(), dropped);
    let key = format!("1 {} {labels} {} {}", alert.name, alert.query, alert.duration_seconds);
    let alerts = alert.alerts.iter().map(|instance| {
        json!({
            "labels": labels_json(instance.labels.as_ref(), dropped),
            "annotations": labels_json(instance.annotations.as_ref(), &[]),
            "state": state(instance.state),
            "activeAt": time_json(instance.active_at.as_ref()),
            "value": instance.value,
            "partialResponseStrategy": strategy(instance.partial_response_strategy),
        })
    });
    let json = json!({
        "state": state(alert.state),
        "name": alert.name,
        "query": alert.query,
        "duration": alert.duration_seconds,
        "keepFiringFor": alert.keep_firing_for_seconds,
        "labels": labels,
        "annotations": labels_json(alert.annotations.as_ref(), &[]),
        "alerts": alerts.collect::<Vec<_>>(),
        "health": alert.health,
        "lastError": alert.last_error,
        "evaluationTime": alert.evaluation_duration_seconds,
        "lastEvaluation": time_json(alert.last_evaluation.as_ref()),
        "type": "alerting",
    });
    (key, Urgency { state: alert.state, evaluated: evaluated(alert.last_evaluation.as_ref()) }, json)
}

fn recording(rule: &RecordingRule, dropped: &[String]) -> (String, Urgency, Value) {
    let labels = labels_json(rule.labels.as_ref(), dropped);
    let key = format!("0 {} {labels} {}", rule.name, rule.query);
    let json = json!({
        "name": rule.name,
        "query": rule.query,
        "labels": labels,
        "health": rule.health,
        "lastError": rule.last_error,
        "evaluationTime": rule.evaluation_duration_seconds,
        "lastEvaluation": time_json(rule.last_evaluation.as_ref()),
        "type": "recording",
    });
    (key, Urgency { state: 0, evaluated: evaluated(rule.last_evaluation.as_ref()) }, json)
}

fn evaluated(time: Option<&prost_types::Timestamp>) -> (i64, i32) {
    time.map_or((0, 0), |time| (time.seconds, time.nanos))
}

fn state(state: i32) -> &'static str {
    match state {
        1 => "inactive",
        2 => "pending",
        3 => "firing",
        _ => "unknown",
    }
}

fn strategy(strategy: i32) -> &'static str {
    if strategy == 1 { "ABORT" } else { "WARN" }
}
