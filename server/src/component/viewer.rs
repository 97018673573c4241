//! The block viewer as components serve it: its API, what the process is, and its pages.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;

use super::query::{Prefixes, listed, origins};
use crate::api::http::blocks::BlockViewer;
use crate::api::http::coding::with_codings;
use crate::api::http::query::status::{self, Status};
use crate::api::ui;
use crate::cli::Values;

/// What a browser sees of a component whose pages show blocks.
pub fn routes(viewer: &BlockViewer, values: &Values, component: &'static str) -> Router {
    let prefixes = Prefixes::of(values);
    let (status, origins) = (Status { flags: listed(values), started: SystemTime::now() }, origins(values));
    let routes = viewer
        .routes(origins)
        .merge(status::routes(Arc::new(status), origins))
        .merge(ui::routes(prefixes.pages(), component));
    prefixes.nest(routes.layer(axum::middleware::from_fn(with_codings)), component)
}
