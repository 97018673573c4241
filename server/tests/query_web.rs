//! What browsers and Grafana need besides answers: other origins, preflights, prefixes.

mod support;

use support::{Uru, request};

#[test]
fn pages_of_other_origins_may_ask_unless_that_is_disabled() {
    let (open, own) = (Uru::start("query", &[]), Uru::start("query", &["--web.disable-cors"]));
    for (method, path) in [("GET", "/api/v1/labels"), ("OPTIONS", "/api/v1/query"), ("GET", "/api/v1/query?query=(")] {
        let (status, head, _) = request(&open.http, (method, path), &["Origin: http://grafana"], b"");
        assert_eq!(status, if method == "OPTIONS" { 204 } else { status }, "{head}");
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
        assert!(head.contains("access-control-allow-headers: accept, accept-encoding, authorization"), "{head}");
        let (same, head, _) = request(&own.http, (method, path), &["Origin: http://grafana"], b"");
        assert_eq!(same, status, "{head}");
        assert!(!head.contains("access-control"), "{head}");
    }
}

#[test]
fn a_header_says_below_which_path_a_browser_sees_the_pages() {
    let uru = Uru::start("query", &["--web.prefix-header=X-Forwarded-Prefix"]);
    let ask = |uru: &Uru, path: &str| {
        let (status, head, body) = request(&uru.http, ("GET", path), &["X-Forwarded-Prefix: /metrics/"], b"");
        (status, head, String::from_utf8(body).unwrap())
    };
    let (status, head, _) = ask(&uru, "/");
    assert!(status == 303 && head.contains("location: /metrics/graph"), "{head}");
    assert!(ask(&uru, "/graph").2.contains("\"/metrics/assets/app.js\""));
    let (_, body) = uru.get("/graph");
    assert!(body.contains("\"/assets/app.js\""), "without the header there is no prefix");
    // A prefix that is given stands above the header.
    let fixed = Uru::start(
        "query",
        &["--web.prefix-header=X-Forwarded-Prefix", "--web.external-prefix=/fixed", "--web.route-prefix=/"],
    );
    assert!(ask(&fixed, "/graph").2.contains("\"/fixed/assets/app.js\""));
}
