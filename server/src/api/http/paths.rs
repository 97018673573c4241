//! Paths that are written oddly lead to those that are served, as with Go's routers: `//a`, `/./a` and
//! `/b/../a`, and `/a/` where only `/a` is there. Clients that append a path to an address which ends
//! with a slash depend on it. OPTIONS is answered with the methods of a path: proxies ask so whether
//! somebody is there.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri, header};
use tower::ServiceExt;

/// A method that nothing is served by: a path that is there answers it with 405, and none with 404.
const NO_METHOD: &[u8] = b"ROUTE";

/// `routes`, and redirects to them.
pub fn forgiving(routes: Router) -> Router {
    let known = routes.clone();
    let otherwise = move |request: Request| otherwise(known.clone(), request);
    routes.fallback(otherwise).layer(axum::middleware::from_fn(cleaned))
}

/// Answers a path that could be shorter with that one, and what asks for methods with those that there are.
async fn cleaned(request: Request, next: Next) -> Response {
    if let Some(path) = clean(request.uri().path()) {
        return redirect(StatusCode::TEMPORARY_REDIRECT, &path, request.uri());
    }
    let asks_for_methods = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if asks_for_methods && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// Answers a path that is not there: with the one that differs by a slash at its end, if that is.
async fn otherwise(known: Router, request: Request) -> Response {
    let path = request.uri().path();
    let other = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => format!("{path}/"),
    };
    if !is_served(known, &other).await {
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

async fn is_served(known: Router, path: &str) -> bool {
    let Ok(method) = Method::from_bytes(NO_METHOD) else { return false };
    let Ok(request) = Request::builder().method(method).uri(path).body(Body::empty()) else { return false };
    known.oneshot(request).await.is_ok_and(|response| response.status() != StatusCode::NOT_FOUND)
}

fn redirect(code: StatusCode, path: &str, from: &Uri) -> Response {
    let query = from.query().map_or_else(String::new, |query| format!("?{query}"));
    (code, [(header::LOCATION, format!("{path}{query}"))]).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
