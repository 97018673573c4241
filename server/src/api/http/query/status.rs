//! What runs: build, run time, flags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Api;
use super::respond::{for_origins, success};
use crate::api::http::blocks::Origins;

/// What a component that answers no queries says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Flags as given or by default.
    pub flags: BTreeMap<String, String>,
    /// When the process started.
    pub started: SystemTime,
}

/// The routes below `/api/v1/status` of a component that answers no queries, for pages of `origins`.
pub fn routes(status: Arc<Status>, origins: Origins) -> Router {
    let routes = Router::new()
        .route("/api/v1/status/buildinfo", get(build))
        .route("/api/v1/status/runtimeinfo", get(|State(own): State<Arc<Status>>| async move { running(own.started) }))
        .route("/api/v1/status/flags", get(|State(own): State<Arc<Status>>| async move { listed(&own.flags) }))
        .with_state(status);
    for_origins(routes, origins)
}

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
    running(api.settings.started)
}

pub(super) async fn flags(State(api): State<Arc<Api>>) -> Response {
    listed(&api.settings.flags)
}

fn running(started: SystemTime) -> Response {
    let started = OffsetDateTime::from(started).format(&Rfc3339).unwrap_or_default();
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    success(&json!({ "startTime": started, "CWD": directory, "cores": cores }), &[])
}

fn listed(flags: &BTreeMap<String, String>) -> Response {
    success(&json!(flags), &[])
}

pub(super) async fn config(State(api): State<Arc<Api>>) -> Response {
    success(&json!({ "yaml": commented(&api.backend.configuration()) }), &[])
}

/// An empty configuration of Prometheus, for which whoever asks takes it, with that of the endpoints in comments.
fn commented(endpoints: &str) -> String {
    let mut text = String::from("# uru has no configuration of Prometheus. What its endpoints are found by:\n");
    for line in endpoints.lines() {
        text.push_str("# ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("{}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_an_empty_one_of_prometheus_that_shows_the_endpoints() {
        let text = commented("endpoints:\n- address: \"a:1\"\n");
        assert!(text.ends_with("\n# endpoints:\n# - address: \"a:1\"\n{}\n"), "{text}");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["{}"]);
    }
}
