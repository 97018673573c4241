//! Paths that are written oddly lead to those that are served, as with Go's routers: `//a`, `/./a` and
//! `/b/../a`, and `/a/` where only `/a` is there. Clients that append a path to an address which ends
//! with a slash depend on it. A `%` that is no escape is refused. OPTIONS is answered with the methods of a
//! path: proxies ask so whether somebody is there. HEAD is none of them but where probes and scrapers look,
//! as in Thanos: it would do all the work of GET.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tower::ServiceExt;

use super::measure::{self, Watch};

/// A method that nothing is served by: a path that is there answers it with 405, and none with 404.
const NO_METHOD: &[u8] = b"ROUTE";

/// A path of the API that there is wherever there is one.
const API_PATH: &str = "/api/v1/status/buildinfo";

/// Routes that are served, and what watches their requests.
struct Served {
    known: Router,
    watch: Watch,
}

/// `routes`, and redirects to them, all of which are watched.
pub fn forgiving(routes: Router, watch: Watch) -> Router {
    let known = routes.clone();
    let served = Arc::new(Served { known: known.clone(), watch });
    let otherwise = move |request: Request| otherwise(known.clone(), request);
    routes.fallback(otherwise).layer(axum::middleware::from_fn_with_state(served, watched))
}

/// Both in one: every layer of a router makes a service of each request, which small queries feel.
async fn watched(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    measure::watched(&served.watch, request, |request| cleaned(&served.known, request, next)).await
}

/// Answers a path that could be shorter with that one, and what asks for methods with those that there are.
async fn cleaned(known: &Router, request: Request, next: Next) -> Response {
    if !has_whole_escapes(request.uri().path()) {
        return (StatusCode::BAD_REQUEST, "400 Bad Request").into_response();
    }
    if let Some(path) = clean(request.uri().path()) {
        return redirect(StatusCode::TEMPORARY_REDIRECT, &path, request.uri());
    }
    // Neither copies text.
    let (asked, uri) = (request.method().clone(), request.uri().clone());
    if asked == Method::HEAD
        && !takes_head(uri.path())
        && let Some(methods) = methods(known.clone(), uri.path()).await
    {
        return refused(methods);
    }
    let mut response = next.run(request).await;
    let is_refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    if !is_refused && asked != Method::OPTIONS {
        return response;
    }
    let Some(methods) = methods(known.clone(), uri.path()).await else { return response };
    if asked != Method::OPTIONS {
        return refused(methods);
    }
    if is_refused {
        *response.status_mut() = StatusCode::OK;
    }
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// Whether probes and scrapers look at `path`; no prefix goes before theirs.
fn takes_head(path: &str) -> bool {
    path == "/metrics" || path.starts_with("/-/") || path.starts_with("/debug/pprof/")
}

fn refused(methods: HeaderValue) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, methods)], "Method Not Allowed\n").into_response()
}

/// The methods of a path as Go's routers list them; `None` where nothing is served.
async fn methods(known: Router, path: &str) -> Option<HeaderValue> {
    let response = probe(known, path).await?;
    let listed = response.headers().get(header::ALLOW).and_then(|methods| methods.to_str().ok()).unwrap_or_default();
    let mut methods: Vec<&str> = listed.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
    methods.retain(|method| *method != "HEAD" || takes_head(path));
    methods.push("OPTIONS");
    methods.sort_unstable();
    methods.dedup();
    HeaderValue::from_str(&methods.join(", ")).ok()
}

/// Answers a path that is not there: with the one that differs by a slash at its end, if that is.
async fn otherwise(known: Router, request: Request) -> Response {
    let path = request.uri().path();
    if request.method() == Method::OPTIONS
        && let Some(answer) = preflight(known.clone(), path).await
    {
        return answer;
    }
    let other = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => format!("{path}/"),
    };
    if probe(known, &other).await.is_none() {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let code = if request.method() == Method::GET {
        StatusCode::MOVED_PERMANENTLY
    } else {
        // The method and the body come again.
        StatusCode::TEMPORARY_REDIRECT
    };
    redirect(code, &other, request.uri())
}

/// How preflights of the API are answered, where `path` is below it.
async fn preflight(known: Router, path: &str) -> Option<Response> {
    let (before, _) = path.split_once("/api/v1/")?;
    let request = Request::builder().method(Method::OPTIONS).uri(format!("{before}{API_PATH}"));
    let answered = known.oneshot(request.body(Body::empty()).ok()?).await.ok();
    answered.filter(|response| response.status() == StatusCode::NO_CONTENT)
}

/// How a path that is served refuses a method that there is not.
async fn probe(known: Router, path: &str) -> Option<Response> {
    let method = Method::from_bytes(NO_METHOD).ok()?;
    let request = Request::builder().method(method).uri(path).body(Body::empty()).ok()?;
    known.oneshot(request).await.ok().filter(|response| response.status() != StatusCode::NOT_FOUND)
}

fn redirect(code: StatusCode, path: &str, from: &Uri) -> Response {
    let query = from.query().map_or_else(String::new, |query| format!("?{query}"));
    (code, [(header::LOCATION, format!("{path}{query}"))]).into_response()
}

/// Whether each `%` of `path` begins an escape; Go's server takes no others.
fn has_whole_escapes(path: &str) -> bool {
    let mut escaped = path.as_bytes().split(|byte| *byte == b'%').skip(1);
    escaped.all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// `path` without empty parts, `.` and `..`; `None` where it has none of them.
fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && !parts.is_empty() {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// The path of `text`, a path or an address, as a prefix of others: it begins with a slash, ends with none, and is
/// empty for `/`. As in Thanos the host of an address is left out, so that nobody is led to another one, and what has
/// control characters, which browsers leave out, is none.
pub fn prefix(text: &str) -> String {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return String::new();
    }
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let path = match text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        // As of `mailto:a`, which has no path.
        Some((_, rest)) if !rest.starts_with('/') => "",
        Some((_, rest)) => rest,
        None => text,
    };
    let path = match path.strip_prefix("//") {
        Some(address) => address.find('/').map_or("", |at| &address[at..]),
        None => path,
    };
    // Browsers take a backslash for a slash.
    let path = format!("/{}/", path.replace('\\', "/"));
    clean(&path).unwrap_or(path).trim_end_matches('/').to_owned()
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_path_of_what_is_given() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("foo", "/foo"),
            ("/foo/", "/foo"),
            ("/foo//bar/../baz", "/foo/baz"),
            ("/a:b", "/a:b"),
            ("http://x.y/foo", "/foo"),
            ("https://x.y:9090//foo/bar/?a=b#c", "/foo/bar"),
            ("http://x.y", ""),
            ("//host/x", "/x"),
            ("//host", ""),
            ("///host/x", "/host/x"),
            ("/\\host/x", "/host/x"),
            ("http:\\\\host/x", ""),
            ("javascript:alert(1)", ""),
            ("/\t/host/x", ""),
        ] {
            assert_eq!(prefix(text), path, "{text}");
        }
    }

    #[test]
    fn paths_are_cleaned_and_stay_below_this_process() {
        for (path, cleaned) in [
            ("//", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a/./b/", "/a/b/"),
            ("/a/../b", "/b"),
            ("/../b//", "/b/"),
            ("//evil.example/", "/evil.example/"),
        ] {
            assert_eq!(clean(path).as_deref(), Some(cleaned), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a.b/..c", "*"] {
            assert_eq!(clean(path), None, "{path}");
        }
    }

    #[test]
    fn each_percent_begins_an_escape() {
        for path in ["/", "/%41", "/a%2f%2F/b", "*"] {
            assert!(has_whole_escapes(path), "{path}");
        }
        for path in ["/%", "/a%zz/b", "/%4", "/%41%4/", "/%%41"] {
            assert!(!has_whole_escapes(path), "{path}");
        }
    }
}
