//! Rules of endpoints: groups of one file and name are one, replicas of a rule are one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use engine::model::Labels;
use engine::model::matcher::Matcher;
use proto::thanos::{Alert, RecordingRule, Rule, RuleGroup, RulesRequest, ZLabelSet, rule};
use serde_json::{Value, json};

use super::answers::{instant, kept, labels_json, number_json, time_json};
use crate::api::http::query::backend::RulesWanted;

/// What endpoints are asked; those that know nothing of filters answer with more, so [`answer`]
/// filters too.
pub fn request(wanted: &RulesWanted) -> RulesRequest {
    RulesRequest {
        r#type: wanted.kind as i32,
        partial_response_strategy: 0,
        matcher_string: wanted.selectors.clone(),
        rule_name: wanted.names.clone(),
        rule_group: wanted.groups.clone(),
        file: wanted.files.clone(),
    }
}

/// The wanted rules of `groups` as JSON, replicas, which differ in labels of `dropped`, made one.
pub fn answer(groups: Vec<RuleGroup>, wanted: &RulesWanted, dropped: &[String]) -> Value {
    let filters = !(wanted.selectors.is_empty()
        && wanted.names.is_empty()
        && wanted.groups.is_empty()
        && wanted.files.is_empty());
    let mut files: BTreeMap<String, (RuleGroup, Vec<Known>)> = BTreeMap::new();
    for mut group in groups {
        if !(is_among(&wanted.groups, &group.name) && is_among(&wanted.files, &group.file)) {
            continue;
        }
        let rules = std::mem::take(&mut group.rules).into_iter().filter_map(|rule| Known::new(rule, dropped));
        let rules: Vec<Known> = rules.filter(|rule| rule.is_wanted(wanted)).collect();
        if rules.is_empty() && filters {
            continue;
        }
        let key = format!("{};{}", group.file, group.name);
        files.entry(key).or_insert_with(|| (group, Vec::new())).1.extend(rules);
    }
    let groups = files.into_values().map(|(group, mut rules)| {
        // Of replicas the firing one counts, of those the one that was evaluated last.
        rules.sort_by(|left, right| left.identity(right).then_with(|| right.urgency().cmp(&left.urgency())));
        rules.dedup_by(|other, first| other.identity(first) == Ordering::Equal);
        json!({
            "name": group.name,
            "file": group.file,
            "rules": rules.iter().map(Known::json).collect::<Vec<_>>(),
            "interval": number_json(group.interval),
            "evaluationTime": number_json(group.evaluation_duration_seconds),
            "lastEvaluation": time_json(group.last_evaluation.as_ref()),
            "limit": group.limit,
            "partialResponseStrategy": strategy(group.partial_response_strategy),
        })
    });
    json!({ "groups": groups.collect::<Vec<_>>() })
}

fn is_among(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)
}

/// A rule and its labels without those of replicas.
struct Known {
    rule: rule::Result,
    labels: Labels,
    /// Labels as the endpoint has them.
    all_labels: Labels,
}

impl Known {
    fn new(rule: Rule, dropped: &[String]) -> Option<Self> {
        let rule = rule.result?;
        let set: Option<&ZLabelSet> = match &rule {
            rule::Result::Alert(alert) => alert.labels.as_ref(),
            rule::Result::Recording(recording) => recording.labels.as_ref(),
        };
        let (labels, all_labels) = (kept(set, dropped), kept(set, &[]));
        Some(Self { rule, labels, all_labels })
    }

    fn name(&self) -> &str {
        match &self.rule {
            rule::Result::Alert(alert) => &alert.name,
            rule::Result::Recording(recording) => &recording.name,
        }
    }

    /// Whether the names and matchers that are wanted are its own; labels that are templates match as
    /// if they were not there.
    fn is_wanted(&self, wanted: &RulesWanted) -> bool {
        let value = |name: &str| self.all_labels.get(name).filter(|value| !value.contains("{{")).unwrap_or("");
        let matches = |matcher: &Matcher| matcher.matches(value(matcher.name()));
        is_among(&wanted.names, self.name()) && wanted.matchers.iter().flatten().all(matches)
    }

    /// The order of rules; those of which it says they are equal are replicas of one.
    fn identity(&self, other: &Self) -> Ordering {
        let rank = |known: &Self| matches!(known.rule, rule::Result::Recording(_));
        let query = |known: &Self| match &known.rule {
            rule::Result::Alert(alert) => alert.query.clone(),
            rule::Result::Recording(recording) => recording.query.clone(),
        };
        let duration = |known: &Self| match &known.rule {
            rule::Result::Alert(alert) => alert.duration_seconds,
            rule::Result::Recording(_) => 0.0,
        };
        let by_name = (rank(self), self.name(), &self.labels).cmp(&(rank(other), other.name(), &other.labels));
        by_name.then_with(|| query(self).cmp(&query(other))).then_with(|| duration(self).total_cmp(&duration(other)))
    }

    /// What decides between replicas.
    fn urgency(&self) -> (i32, (i64, i32)) {
        match &self.rule {
            rule::Result::Alert(alert) => (alert.state, instant(alert.last_evaluation.as_ref())),
            rule::Result::Recording(recording) => (0, instant(recording.last_evaluation.as_ref())),
        }
    }

    fn json(&self) -> Value {
        let mut json = match &self.rule {
            rule::Result::Alert(alert) => alerting(alert),
            rule::Result::Recording(rule) => recording(rule),
        };
        json["labels"] = labels_json(&self.labels);
        json
    }
}

fn alerting(alert: &Alert) -> Value {
    let alerts = alert.alerts.iter().map(|instance| {
        let mut json = json!({
            "labels": labels_json(&kept(instance.labels.as_ref(), &[])),
            "annotations": labels_json(&kept(instance.annotations.as_ref(), &[])),
            "state": state(instance.state),
            "value": instance.value,
            "partialResponseStrategy": strategy(instance.partial_response_strategy),
        });
        if let Some(time) = &instance.active_at {
            json["activeAt"] = time_json(Some(time));
        }
        json
    });
    let json = json!({
        "state": state(alert.state),
        "name": alert.name,
        "query": alert.query,
        "duration": number_json(alert.duration_seconds),
        "keepFiringFor": number_json(alert.keep_firing_for_seconds),
        "annotations": labels_json(&kept(alert.annotations.as_ref(), &[])),
        "alerts": alerts.collect::<Vec<_>>(),
        "health": alert.health,
        "evaluationTime": number_json(alert.evaluation_duration_seconds),
        "lastEvaluation": time_json(alert.last_evaluation.as_ref()),
        "type": "alerting",
    });
    with_error(json, &alert.last_error)
}

fn recording(rule: &RecordingRule) -> Value {
    let json = json!({
        "name": rule.name,
        "query": rule.query,
        "health": rule.health,
        "evaluationTime": number_json(rule.evaluation_duration_seconds),
        "lastEvaluation": time_json(rule.last_evaluation.as_ref()),
        "type": "recording",
    });
    with_error(json, &rule.last_error)
}

fn with_error(mut json: Value, error: &str) -> Value {
    if !error.is_empty() {
        json["lastError"] = Value::from(error);
    }
    json
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
