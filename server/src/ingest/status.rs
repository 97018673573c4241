//! `/api/v1/status/tsdb`: which labels have how many series, by tenant.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::head::cardinality::{Cardinality, Count};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::Held;
use super::tenant::Tenancy;
use crate::api::http::blocks::Origins;
use crate::api::http::coding::with_codings;
use crate::api::http::query::respond::for_origins;

/// Rows of each table unless the request says otherwise.
const LIMIT: usize = 10;

/// The route.
pub fn routes(held: &Held, tenancy: &Tenancy) -> Router {
    let routes = Router::new().route("/api/v1/status/tsdb", get(tsdb).with_state((held.clone(), tenancy.clone())));
    for_origins(routes, Origins::All).layer(axum::middleware::from_fn(with_codings))
}

fn answer(status: StatusCode, json: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

fn failure(status: StatusCode, kind: &str, why: &str) -> Response {
    let answer = answer(status, &json!({ "status": "error", "errorType": kind, "error": why }));
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

async fn tsdb(
    State((held, tenancy)): State<(Held, Tenancy)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(ingest) = held.get() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the heads are not open yet");
    };
    let query = query.unwrap_or_default();
    // As with Thanos, what is empty is not given.
    let param = |name: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
    };
    let limit = match param("limit").map(|text| text.parse()) {
        None => LIMIT,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return failure(StatusCode::BAD_REQUEST, "bad_data", "unable to parse 'limit' parameter"),
    };
    let asks_all = param("all_tenants").as_deref() == Some("true");
    let named = headers.get(&tenancy.header).filter(|value| !value.is_empty());
    let Ok(named) = named.map(|value| std::str::from_utf8(value.as_bytes()).map(str::to_owned)).transpose() else {
        return failure(StatusCode::BAD_REQUEST, "bad_data", "tenant name not valid");
    };
    if asks_all && named.is_some() {
        let why = format!("using both the all_tenants parameter and the {} header is not supported", tenancy.header);
        return failure(StatusCode::BAD_REQUEST, "bad_data", &why);
    }
    let wanted = named.or_else(|| param("tenant")).unwrap_or_else(|| tenancy.default.clone());
    let mut found = Vec::new();
    for tenant in ingest.tenants().into_iter().filter(|tenant| asks_all || **tenant == *wanted) {
        match ingest.cardinality(&tenant, limit).await {
            Ok(counts) => found.push(to_json(&tenant, &counts)),
            Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.message()),
        }
    }
    answer(StatusCode::OK, &json!({ "status": "success", "data": found }))
}

/// As Prometheus' own status has it, with the tenant before it.
fn to_json(tenant: &str, counts: &Cardinality) -> Value {
    let table =
        |rows: &[Count]| -> Value { rows.iter().map(|row| json!({ "name": row.name, "value": row.value })).collect() };
    json!({
        "tenant": tenant,
        "headStats": {
            "numSeries": counts.series,
            "numLabelPairs": counts.label_pairs,
            "chunkCount": counts.chunks,
            "minTime": counts.min_time,
            "maxTime": counts.max_time,
        },
        "seriesCountByMetricName": table(&counts.series_by_metric_name),
        "labelValueCountByLabelName": table(&counts.values_by_label_name),
        "memoryInBytesByLabelName": table(&counts.bytes_by_label_name),
        "seriesCountByLabelValuePair": table(&counts.series_by_label_pair),
    })
}
