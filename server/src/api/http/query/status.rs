//! What runs: build, run time, flags.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Api;
use super::backend::Federated;
use super::params::Params;
use super::respond::{Failure, success};

pub(super) async fn build() -> Response {
    let build = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("URU_REVISION").unwrap_or("unknown"),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "uru",
    });
    success(&build, &[])
}

pub(super) async fn runtime(State(api): State<Arc<Api>>) -> Response {
    let started = OffsetDateTime::from(api.settings.started).format(&Rfc3339).unwrap_or_default();
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = json!({ "startTime": started, "CWD": directory, "cores": cores });
    success(&runtime, &[])
}

pub(super) async fn flags(State(api): State<Arc<Api>>) -> Response {
    success(&json!(api.settings.flags), &[])
}

pub(super) async fn config() -> Response {
    success(&json!({ "yaml": "" }), &[])
}

pub(super) async fn tsdb(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let found = api.backend.federated(&params.scope(&api, 0)?, Federated::TsdbStatus(params.pairs())).await?;
    Ok(success(&found.data, &found.warnings))
}
