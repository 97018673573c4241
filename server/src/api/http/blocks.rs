//! `/api/v1/blocks`: blocks as Thanos' block viewer reads them, and marking them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use engine::bucket::Meta;
use engine::bucket::marker::reason;
use engine::model::BlockId;
use http::StatusCode;
use serde::Serialize;

use super::query::Params;
use super::query::respond::{Failure, for_origins, success};
use crate::cli::parse::format_rfc3339;
use crate::objstore::Bucket;
use crate::sync::SyncedBlock;
use crate::upkeep::{mark, now_ms};

/// Whether blocks may be marked over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// They may.
    Allowed,
    /// `--disable-admin-operations`: they may not.
    Disabled,
}

/// Whether pages of other origins may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// They may.
    All,
    /// `--web.disable-cors`: they may not.
    Own,
}

/// One of the two views of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What the component works on.
    Loaded,
    /// Everything.
    Global,
}

/// What a viewer shows; clones share it.
#[derive(Clone)]
pub struct BlockViewer(Arc<Viewer>);

struct Viewer {
    label: String,
    bucket: Bucket,
    admin: Admin,
    loaded: RwLock<Shown>,
    global: RwLock<Shown>,
}

#[derive(Default)]
struct Shown {
    blocks: Vec<Row>,
    refreshed: i64,
    error: Option<String>,
}

/// A block: its meta.json, and which markers lie beside it.
struct Row {
    meta: Arc<Meta>,
    marks: Vec<&'static str>,
}

#[derive(Serialize)]
struct Block<'a> {
    #[serde(flatten)]
    meta: &'a Meta,
    marks: &'a [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    label: &'a str,
    blocks: Vec<Block<'a>>,
    refreshed_at: String,
    err: Option<&'a str>,
    admin_operations: bool,
}

impl BlockViewer {
    /// A viewer of `bucket` that has seen nothing; `label` is the external label by which it groups.
    pub fn new(bucket: Bucket, label: &str, admin: Admin) -> Self {
        let (loaded, global) = Default::default();
        Self(Arc::new(Viewer { label: label.to_owned(), bucket, admin, loaded, global }))
    }

    /// Shows `blocks` in a view.
    pub fn show(&self, view: View, blocks: &BTreeMap<BlockId, SyncedBlock>) {
        let blocks = blocks.values().map(Row::of).collect();
        *self.shown(view).write().unwrap_or_else(PoisonError::into_inner) =
            Shown { blocks, refreshed: now_ms(), error: None };
    }

    /// Says that looking at the bucket failed; what was seen before stays.
    pub fn show_error(&self, view: View, error: &str) {
        let mut shown = self.shown(view).write().unwrap_or_else(PoisonError::into_inner);
        (shown.refreshed, shown.error) = (now_ms(), Some(error.to_owned()));
    }

    /// The routes.
    pub fn routes(&self, origins: Origins) -> Router {
        let routes = Router::new()
            .route("/api/v1/blocks", get(blocks))
            .route("/api/v1/blocks/mark", post(mark_block))
            .with_state(self.clone());
        for_origins(routes, origins)
    }

    fn shown(&self, view: View) -> &RwLock<Shown> {
        match view {
            View::Loaded => &self.0.loaded,
            View::Global => &self.0.global,
        }
    }
}

impl Row {
    fn of(block: &SyncedBlock) -> Self {
        Self { meta: Arc::clone(&block.meta), marks: block.marks() }
    }
}

async fn blocks(State(viewer): State<BlockViewer>, params: Params) -> Response {
    let view = if params.first("view") == "loaded" { View::Loaded } else { View::Global };
    let shown = viewer.shown(view).read().unwrap_or_else(PoisonError::into_inner);
    let data = Data {
        label: &viewer.0.label,
        blocks: shown.blocks.iter().map(|row| Block { meta: &row.meta, marks: &row.marks }).collect(),
        refreshed_at: format_rfc3339(shown.refreshed),
        err: shown.error.as_deref(),
        admin_operations: viewer.0.admin == Admin::Allowed,
    };
    success(&data, &[])
}

async fn mark_block(State(viewer): State<BlockViewer>, params: Params) -> Result<Response, Failure> {
    if viewer.0.admin == Admin::Disabled {
        return Err(Failure::bad_data("Admin operations are disabled"));
    }
    let (id, action, detail) = (params.first("id"), params.first("action"), params.first("detail"));
    if id.is_empty() {
        return Err(Failure::bad_data("ID cannot be empty"));
    }
    if action.is_empty() {
        return Err(Failure::bad_data("Action cannot be empty"));
    }
    let id: BlockId = id.parse().map_err(|error| Failure::bad_data(format!("ULID {id:?} is not valid: {error}")))?;
    let bucket = &viewer.0.bucket;
    let marked = match action {
        "DELETION" => mark::for_deletion(bucket, id, detail).await,
        "NO_COMPACTION" => mark::for_no_compaction(bucket, id, (reason::MANUAL, detail)).await,
        other => return Err(Failure::bad_data(format!("not supported marker {other}"))),
    };
    marked.map_err(|error| Failure::bad_data(error.to_string()))?;
    // As Thanos says that it has nothing to tell.
    Ok(StatusCode::NO_CONTENT.into_response())
}
