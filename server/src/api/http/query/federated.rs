//! What endpoints know beside series: rules, alerts, targets, metadata, exemplars, and themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::model::TimeRange;
use serde_json::{Value, json};

use super::Api;
use super::backend::{Federated, OnFailure, RuleKind, RulesWanted, Scope, StatisticsWanted, TargetState};
use super::ending::compute;
use super::params::{Params, Told, selectors};
use super::respond::{Failure, success};
use super::tree::{made_of_query, narrow_matchers, selectors_of};

pub(super) async fn stores(State(api): State<Arc<Api>>) -> Response {
    success(&api.backend.endpoints(), &[])
}

pub(super) async fn rules(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let kind = match params.first("type").to_lowercase().as_str() {
        "" | "all" => RuleKind::All,
        "alert" => RuleKind::Alerting,
        "record" => RuleKind::Recording,
        other => return Err(Failure::bad_data(format!("invalid rules parameter type='{other}'"))),
    };
    let wanted = RulesWanted {
        kind,
        matchers: selectors(&api, params.all("match[]"), Told::Bare).await?,
        selectors: params.all("match[]").to_vec(),
        names: params.all("rule_name[]").to_vec(),
        groups: params.all("rule_group[]").to_vec(),
        files: params.all("file[]").to_vec(),
    };
    answer(&api, &rules_scope(&api, &params)?, Federated::Rules(wanted)).await
}

pub(super) async fn alerts(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let wanted = Federated::Rules(RulesWanted { kind: RuleKind::Alerting, ..RulesWanted::default() });
    let scope = rules_scope(&api, &params)?;
    let found = api.within(api.backend.federated(&scope, wanted)).await?;
    let answered = compute(move |_| {
        let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let rules = list(&found.data, "groups").into_iter().flat_map(|group| list(&group, "rules"));
        let alerts: Vec<Value> = rules.flat_map(|rule| list(&rule, "alerts")).collect();
        Ok(success(&json!({ "alerts": alerts }), &found.warnings))
    });
    Ok(answered.await?)
}

pub(super) async fn targets(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let state = match params.first("state").to_lowercase().as_str() {
        "" | "any" => TargetState::Any,
        "active" => TargetState::Active,
        "dropped" => TargetState::Dropped,
        other => return Err(Failure::bad_data(format!("invalid targets parameter state='{other}'"))),
    };
    let scope = deduplicated_scope(&api, &params, api.settings.on_failure.targets)?;
    answer(&api, &scope, Federated::Targets(state)).await
}

pub(super) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let limit = match params.first("limit") {
        "" => -1,
        text => text.parse().map_err(|_| Failure::bad_data(format!("invalid metric metadata limit='{text}'")))?,
    };
    let metric = params.first("metric").to_owned();
    let scope = params.plain_scope(&api, api.settings.on_failure.metadata)?;
    answer(&api, &scope, Federated::Metadata { metric, limit }).await
}

pub(super) async fn exemplars(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let mut selectors = made_of_query(&api, (&params, Told::Bare), |query| Ok(selectors_of(&query))).await?;
    if let Some(tenant) = params.tenant_matcher(&api)? {
        selectors.iter_mut().for_each(|matchers| narrow_matchers(matchers, &tenant));
    }
    let range = params.range_within(TimeRange::ASKED)?;
    let scope = deduplicated_scope(&api, &params, api.settings.on_failure.exemplars)?;
    answer(&api, &scope, Federated::Exemplars { selectors, range }).await
}

pub(super) async fn tsdb(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let limit = i32::try_from(params.limit()?)
        .map_err(|_| Failure::bad_data(format!("limit {} overflows int32", params.first("limit"))))?;
    let mut matchers = selectors(&api, params.all("match[]"), Told::Bare).await?.concat();
    let tenant = params.tenant_matcher(&api)?;
    matchers.extend(tenant.clone());
    let tenant = match tenant {
        Some(_) => Some(params.tenant(&api)?),
        None => None,
    };
    let scope = params.plain_scope(&api, api.settings.on_failure.cardinalities)?;
    answer(&api, &scope, Federated::TsdbStatus(StatisticsWanted { limit, matchers, tenant })).await
}

/// How a request for rules and alerts wants them.
fn rules_scope(api: &Api, params: &Params) -> Result<Scope, Failure> {
    let on_failure = params.on_failure(api.settings.on_failure.rules)?;
    Ok(Scope { replica_labels: params.replica_labels(api)?, ..params.plain_scope(api, on_failure)? })
}

/// How a request wants what it asks for that says of it only whether replicas are to stay apart.
fn deduplicated_scope(api: &Api, params: &Params, on_failure: OnFailure) -> Result<Scope, Failure> {
    let replica_labels = params.unless_apart(&api.settings.replica_labels)?;
    Ok(Scope { replica_labels, ..params.plain_scope(api, on_failure)? })
}

async fn answer(api: &Api, scope: &Scope, wanted: Federated) -> Result<Response, Failure> {
    let found = api.within(api.backend.federated(scope, wanted)).await?;
    Ok(compute(move |_| Ok(success(&found.data, &found.warnings))).await?)
}
