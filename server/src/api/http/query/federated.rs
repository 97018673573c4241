//! What endpoints know beside series: rules, alerts, targets, metadata, exemplars, and themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::backend::Federated;
use super::params::Params;
use super::respond::{Failure, success};

pub(super) async fn stores(State(api): State<Arc<Api>>) -> Response {
    success(&api.backend.endpoints(), &[])
}

pub(super) async fn rules(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let kind = params.first("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(Failure::bad_data(format!("invalid rules parameter type='{kind}'")));
    }
    let wanted = Federated::Rules(params.pairs());
    answer(&api, &params, wanted).await
}

pub(super) async fn alerts(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let wanted = Federated::Rules(vec![("type".to_owned(), "alert".to_owned())]);
    let scope = params.scope(&api, 0)?;
    let found = api.within(api.backend.federated(&scope, wanted)).await?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let rules = list(&found.data, "groups").into_iter().flat_map(|group| list(&group, "rules"));
    let alerts: Vec<Value> = rules.flat_map(|rule| list(&rule, "alerts")).collect();
    Ok(success(&json!({ "alerts": alerts }), &found.warnings))
}

pub(super) async fn targets(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let state = params.first("state").to_lowercase();
    if !matches!(state.as_str(), "" | "any" | "active" | "dropped") {
        return Err(Failure::bad_data(format!("invalid targets parameter state='{state}'")));
    }
    let wanted = Federated::Targets(params.pairs());
    answer(&api, &params, wanted).await
}

pub(super) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let limit = params.first("limit");
    if !limit.is_empty() && limit.parse::<i32>().is_err() {
        return Err(Failure::bad_data(format!("invalid metric metadata limit='{limit}'")));
    }
    let wanted = Federated::Metadata(params.pairs());
    answer(&api, &params, wanted).await
}

pub(super) async fn exemplars(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    engine::promql::syntax::parse(params.first("query"), api.syntax)
        .map_err(|error| Failure::bad_data(format!("invalid parameter \"query\": {error}")))?;
    params.range(api.settings.metadata_range)?;
    let wanted = Federated::Exemplars(params.pairs());
    answer(&api, &params, wanted).await
}

async fn answer(api: &Api, params: &Params, wanted: Federated) -> Result<Response, Failure> {
    let scope = params.scope(api, 0)?;
    let found = api.within(api.backend.federated(&scope, wanted)).await?;
    Ok(success(&found.data, &found.warnings))
}
