//! The web interface: its bundle, embedded in the binary.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderMap, HeaderName, StatusCode, header};
use rust_embed::RustEmbed;

use crate::api::http::paths;

/// The bundle that `server/ui` builds.
#[derive(RustEmbed)]
#[folder = "ui/dist"]
struct Bundle;

/// Addresses at which the pages are found; the page chooses by the address.
const PAGES: [&str; 9] =
    ["/graph", "/query", "/alerts", "/rules", "/targets", "/stores", "/blocks", "/status", "/flags"];

/// Where the path is known below which a browser sees the process.
#[derive(Clone, Debug)]
pub enum Prefix {
    /// It is this one, without a slash at its end.
    Fixed(String),
    /// Each request names it in this header (`--web.prefix-header`).
    OfHeader(HeaderName),
}

impl Prefix {
    /// The process is seen where it is.
    pub fn none() -> Self {
        Self::Fixed(String::new())
    }

    /// The prefix of a request, without a slash at its end; empty where there is none.
    fn of(&self, headers: &HeaderMap) -> String {
        match self {
            Self::Fixed(prefix) => prefix.clone(),
            Self::OfHeader(name) => {
                let named = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
                paths::prefix(named)
            }
        }
    }
}

/// Addresses of Thanos' pages and of those that show the same here.
const MOVED: [(&str, &str); 5] = [
    ("/tsdb-status", "/status"),
    ("/config", "/status"),
    ("/service-discovery", "/targets"),
    ("/loaded", "/blocks"),
    ("/global", "/blocks"),
];

/// The page that `component` begins with.
pub fn first_page(component: &str) -> &'static str {
    match component {
        "store" | "compact" | "bucket" => "/blocks",
        "receive" => "/status",
        _ => "/graph",
    }
}

/// What leads a browser to the first page of `component`.
pub fn start(prefix: &Prefix, component: &'static str) -> MethodRouter {
    let (own, first) = (prefix.clone(), first_page(component));
    get(move |headers: HeaderMap| async move { Redirect::to(&format!("{}{first}", own.of(&headers))) })
}

/// The pages and their assets. `component` is what the process is.
pub fn routes(prefix: Prefix, component: &'static str) -> Router {
    let page = Bundle::get("index.html").map_or_else(String::new, |file| String::from_utf8_lossy(&file.data).into());
    let page = page.replace("__URU_COMPONENT__", component);
    let mut router = Router::new().route("/", start(&prefix, component)).route("/assets/{file}", get(asset));
    for path in PAGES {
        let (page, prefix) = (page.clone(), prefix.clone());
        let html = move |headers: HeaderMap| async move {
            let page = page.replace("__URU_PREFIX__", &escaped(&prefix.of(&headers)));
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page)
        };
        router = router.route(path, get(html));
    }
    for (path, to) in MOVED {
        let own = prefix.clone();
        let moved = move |headers: HeaderMap| async move { Redirect::to(&format!("{}{to}", own.of(&headers))) };
        router = router.route(path, get(moved));
    }
    router
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let kind = match file.rsplit('.').next() {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let Some(found) = Bundle::get(&file) else { return StatusCode::NOT_FOUND.into_response() };
    let tag = tag(&found.metadata.sha256_hash());
    let is_known = knows(&headers, &tag);
    let caching = [(header::CACHE_CONTROL, "no-cache".to_owned()), (header::ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    ([(header::CONTENT_TYPE, kind)], caching, found.data.into_owned()).into_response()
}

/// The tag of a file with this hash; a weak one, for the file is sent in more than one coding.
fn tag(hash: &[u8]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{digits}\"")
}

/// Whether the sender of a request has what `tag` names.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let own = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|one| one.trim() == "*" || own(one) == own(tag))
}

/// `text` for an attribute of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn what_has_blocks_alone_begins_with_them() {
        assert_eq!(["store", "compact", "bucket"].map(first_page), ["/blocks"; 3]);
        assert_eq!(first_page("query"), "/graph");
    }

    #[test]
    fn what_answers_no_queries_begins_with_what_it_is() {
        assert_eq!(first_page("receive"), "/status");
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let pages = routes(Prefix::none(), "query");
        let ask = |known: String| {
            let request = http::Request::get("/assets/app.css").header(header::IF_NONE_MATCH, known);
            tower::ServiceExt::oneshot(pages.clone(), request.body(Body::empty()).unwrap())
        };
        let first = ask("\"other\"".to_owned()).await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/css");
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with("W/\"") && tag.len() == 68, "{tag}");
        let strong = tag.trim_start_matches("W/").to_owned();
        for known in [tag.clone(), format!("\"other\", {tag}"), strong, "*".to_owned()] {
            let again = ask(known.clone()).await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[header::ETAG], tag);
            assert_eq!(again.headers()[header::CACHE_CONTROL], "no-cache");
        }
    }

    #[test]
    fn the_bundle_is_embedded() {
        assert!(Bundle::get("app.js").is_some_and(|file| file.data.len() > 10_000));
        assert!(Bundle::get("app.css").is_some());
        let page = String::from_utf8(Bundle::get("index.html").unwrap().data.into_owned()).unwrap();
        assert!(page.contains("__URU_PREFIX__/assets/app.js"));
    }

    #[test]
    fn a_prefix_cannot_leave_its_attribute() {
        assert_eq!(escaped("/a\"><script>"), "/a&quot;>&lt;script>");
    }
}
