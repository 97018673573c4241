//! `/api/v1/blocks`: the open blocks, as Thanos' block viewer reads them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use engine::bucket::Meta;
use http::header;
use serde::Serialize;

use super::Gateway;
use crate::cli::parse::format_rfc3339;

/// The routes of a gateway. `label` is the external label by which a viewer groups blocks.
pub fn routes(gateway: Arc<Gateway>, label: String) -> Router {
    Router::new().route("/api/v1/blocks", get(blocks)).with_state(Viewed { gateway, label })
}

#[derive(Clone)]
struct Viewed {
    gateway: Arc<Gateway>,
    label: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    status: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    label: &'a str,
    blocks: Vec<&'a Meta>,
    refreshed_at: String,
    err: Option<&'a str>,
}

/// Both views, `loaded` and `global`, are the same here: what was seen is what is open.
async fn blocks(State(viewed): State<Viewed>) -> ([(header::HeaderName, &'static str); 1], String) {
    let current = viewed.gateway.blocks.current();
    let data = Data {
        label: &viewed.label,
        blocks: current.metas.values().map(|meta| &**meta).collect(),
        refreshed_at: format_rfc3339(current.refreshed),
        err: current.error.as_deref(),
    };
    let text = serde_json::to_string(&Envelope { status: "success", data }).expect("a meta.json is JSON");
    ([(header::CONTENT_TYPE, "application/json")], text)
}
