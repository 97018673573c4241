//! What browsers and Grafana need besides answers: other origins, preflights, prefixes.

use crate::support::{Uru, request, write_block};

#[test]
fn pages_of_other_origins_may_ask_unless_that_is_disabled() {
    let (open, own) = (Uru::start("query", &[]), Uru::start("query", &["--web.disable-cors"]));
    for (method, path) in [
        ("GET", "/api/v1/labels"),
        ("OPTIONS", "/api/v1/query"),
        ("OPTIONS", "/api/v1/nope"),
        ("GET", "/api/v1/query?query=("),
    ] {
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
fn blocks_and_the_status_of_components_that_show_them_are_packed_and_shown_to_pages_of_other_origins() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    for seed in 1..=6 {
        write_block(&bucket, seed, (2, seed as i64 * 86_400_000));
    }
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let store = Uru::start("store", &[&config, &data]);
    let web = Uru::start_http(&["tools", "bucket", "web", &config]);
    for uru in [&store, &web] {
        uru.wait_for("/api/v1/blocks", "ulid");
        for path in ["/api/v1/blocks", "/api/v1/status/flags", "/api/v1/status/buildinfo"] {
            let lines = ["Accept-Encoding: gzip", "Origin: http://grafana"];
            let (status, head, _) = request(&uru.http, ("GET", path), &lines, b"");
            assert!(status == 200 && head.contains("access-control-allow-origin: *"), "{path}: {head}");
            assert_eq!(head.matches("vary: accept-encoding").count(), 1, "{path}: {head}");
            assert!(path.contains("status") || head.contains("content-encoding: gzip"), "{path}: {head}");
        }
        let (_, flags) = uru.get("/api/v1/status/flags");
        assert!(flags.contains(r#""objstore.config":"<secret>""#) && !flags.contains("FILESYSTEM"), "{flags}");
    }
}

#[test]
fn the_first_of_several_parameters_counts_for_blocks_and_forms_may_have_parts() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let [first, second, third] = [1, 2, 3].map(|seed| write_block(&bucket, seed, (2, seed as i64 * 86_400_000)));
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let web = Uru::start_http(&["tools", "bucket", "web", "--no-disable-admin-operations", &config]);
    assert_eq!(web.get("/api/v1/blocks?view=x&view=loaded").0, 200);
    let id = |block: &std::path::Path| block.file_name().unwrap().to_str().unwrap().to_owned();
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let parts = format!("{}{}--b--\r\n", part("id", &id(&first)), part("action", "DELETION"));
    let form = format!("id={}&id={}&action=NO_COMPACTION", id(&second), id(&third));
    for (kind, body) in [("multipart/form-data; boundary=b", parts), ("application/x-www-form-urlencoded", form)] {
        let kind = format!("Content-Type: {kind}");
        let (status, _, body) = request(&web.http, ("POST", "/api/v1/blocks/mark"), &[&kind], body.as_bytes());
        assert_eq!(status, 204, "{kind}: {}", String::from_utf8_lossy(&body));
    }
    assert!(first.join("deletion-mark.json").exists());
    assert!(second.join("no-compact-mark.json").exists() && !third.join("no-compact-mark.json").exists());
}

#[test]
fn a_cache_is_told_that_there_are_packed_answers_of_all_that_is_asked() {
    let uru = Uru::start("query", &[]);
    for (path, accepted, is_packed) in [
        ("/api/v1/status/flags", "Accept-Encoding: gzip", true),
        ("/api/v1/status/flags", "Accept-Encoding: identity", false),
        ("/api/v1/labels", "Accept-Encoding: gzip", false),
        ("/api/v1/query?query=(", "Accept: */*", false),
        ("/api/v1/labels", "Content-Encoding: gzip", false),
        ("/metrics", "Accept-Encoding: gzip", true),
        ("/metrics", "Accept: */*", false),
    ] {
        let (_, head, _) = request(&uru.http, ("GET", path), &[accepted], b"");
        assert_eq!(head.contains("content-encoding: gzip"), is_packed, "{path}: {head}");
        assert_eq!(head.matches("vary: accept-encoding").count(), 1, "{path}: {head}");
    }
}

#[test]
fn parameters_may_come_in_a_form_of_several_parts_and_in_a_large_one() {
    let uru = Uru::start("query", &[]);
    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let parts = format!("{}{}--b--\r\n", part("query", "1 + time()"), part("time", "41"));
    let large = format!("query={}42&time=0", "+".repeat(3 << 20));
    for (kind, body) in [("multipart/form-data; boundary=b", parts), ("application/x-www-form-urlencoded", large)] {
        let kind = format!("Content-Type: {kind}");
        let (status, _, body) = request(&uru.http, ("POST", "/api/v1/query"), &[&kind], body.as_bytes());
        let body = String::from_utf8(body).unwrap();
        assert!(status == 200 && body.contains("\"42\""), "{kind}: {body}");
    }
    let torn = ["Content-Type: multipart/form-data; boundary=b"];
    let (status, _, body) = request(&uru.http, ("POST", "/api/v1/query"), &torn, b"--b\r\n");
    let body = String::from_utf8(body).unwrap();
    assert!(status == 400 && body.contains("\"errorType\":\"bad_data\""), "{body}");
}

#[test]
fn a_label_name_that_is_not_text_or_empty_is_bad_data() {
    let uru = Uru::start("query", &[]);
    let (status, body) = uru.get("/api/v1/label/%FF/values");
    assert!(status == 400 && body.contains("\"errorType\":\"bad_data\""), "{body}");
    // The empty name, escaped.
    let (status, body) = uru.get("/api/v1/label/U__/values");
    assert!(status == 400 && body.contains(r#""error":"invalid label name: \"\"""#), "{body}");
}

#[test]
fn a_percent_in_a_path_that_is_no_escape_is_a_bad_request() {
    let uru = Uru::start("query", &[]);
    for path in ["/api/v1/label/a%zz/values", "/api/v1/label/a%/values", "/%4"] {
        assert_eq!(uru.get(path), (400, "400 Bad Request".to_owned()), "{path}");
    }
    assert_eq!(uru.get("/api/v1/label/a%62/values").0, 200);
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
    for header in ["X-Forwarded-Prefix: http://evil.example/x/", "X-Forwarded-Prefix: //evil.example/x"] {
        let (status, head, _) = request(&uru.http, ("GET", "/"), &[header], b"");
        assert!(status == 303 && head.contains("location: /x/graph"), "{header}: {head}");
    }
    let (_, body) = uru.get("/graph");
    assert!(body.contains("\"/assets/app.js\""), "without the header there is no prefix");
    // A prefix that is given stands above the header.
    let fixed = Uru::start(
        "query",
        &["--web.prefix-header=X-Forwarded-Prefix", "--web.external-prefix=/fixed", "--web.route-prefix=/"],
    );
    assert!(ask(&fixed, "/graph").2.contains("\"/fixed/assets/app.js\""));
}

#[test]
fn a_store_shows_blocks_where_its_flags_say_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let start = |name: &str, flags: &[&str]| {
        let data = format!("--data-dir={}", folder.path().join(name).display());
        Uru::start("store", &[&[config.as_str(), data.as_str()][..], flags].concat())
    };
    let none = start("none", &["--web.disable"]);
    for path in ["/", "/blocks", "/loaded", "/api/v1/blocks", "/api/v1/status/flags"] {
        assert_eq!(none.get(path).0, 404, "{path}");
    }
    let external = start("external", &["--web.external-prefix=/p", "--web.disable-cors"]);
    assert_eq!(led(&external, "GET", "/"), (303, "/p/blocks".to_owned()));
    // As with Thanos, a proxy takes the prefix away.
    assert!(external.get("/blocks").1.contains("\"/p/assets/app.js\""));
    let (status, head, _) = request(&external.http, ("GET", "/api/v1/blocks"), &["Origin: http://grafana"], b"");
    assert!(status == 200 && !head.contains("access-control"), "{head}");
    let behind = start("behind", &["--web.prefix-header=X-Forwarded-Prefix"]);
    let (status, head, _) = request(&behind.http, ("GET", "/"), &["X-Forwarded-Prefix: /q"], b"");
    assert!(status == 303 && head.contains("location: /q/blocks"), "{head}");
}

#[test]
fn pages_say_which_methods_they_have() {
    let uru = Uru::start("query", &[]);
    for (path, methods) in [
        ("/", "get, options"),
        ("/graph", "get, options"),
        ("/metrics", "get, head, options"),
        ("/-/ready", "get, head, options"),
        ("/-/healthy", "get, head, options"),
    ] {
        let allow = format!("allow: {methods}\r\n");
        let (status, head, body) = request(&uru.http, ("OPTIONS", path), &[], b"");
        assert!(status == 200 && head.contains(&allow) && body.is_empty(), "{path}: {head}");
        let (status, head, body) = request(&uru.http, ("DELETE", path), &[], b"");
        assert!(status == 405 && head.contains(&allow) && body == b"Method Not Allowed\n", "{path}: {head}");
    }
    assert_eq!(request(&uru.http, ("OPTIONS", "/nothing"), &[], b"").0, 404);
}

#[test]
fn head_is_taken_where_operators_look_and_nowhere_else() {
    let uru = Uru::start("query", &[]);
    for (path, status) in [
        ("/-/healthy", 200),
        ("/-/ready", 200),
        ("/metrics", 200),
        ("/debug/pprof/", 200),
        ("/", 405),
        ("/graph", 405),
        ("/api/v1/labels", 405),
        ("/api/v1/metadata", 405),
        ("/api/v1/label/metrics/values", 405),
        ("/api/v1/label/-/values", 405),
        ("/nothing", 404),
    ] {
        assert_eq!(request(&uru.http, ("HEAD", path), &[], b"").0, status, "{path}");
    }
    let (status, head, _) = request(&uru.http, ("HEAD", "/api/v1/query?query=1"), &[], b"");
    assert!(status == 405 && head.contains("allow: get, options, post\r\n"), "{head}");
}

/// Status and `Location` of what is asked.
fn led(uru: &Uru, method: &str, path: &str) -> (u16, String) {
    let (status, head, _) = request(&uru.http, (method, path), &[], b"");
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
    (status, location.trim().to_owned())
}

#[test]
fn paths_with_a_slash_too_many_lead_to_those_that_are_served() {
    let uru = Uru::start("query", &[]);
    for (method, path, status, location) in [
        ("GET", "//api/v1/query?query=1", 307, "/api/v1/query?query=1"),
        ("POST", "//api/v1/query", 307, "/api/v1/query"),
        ("GET", "/api//v1/labels", 307, "/api/v1/labels"),
        ("GET", "/api/./v1/../v1/labels", 307, "/api/v1/labels"),
        ("GET", "/api/v1/query/?query=1", 301, "/api/v1/query?query=1"),
        ("POST", "/api/v1/query/", 307, "/api/v1/query"),
        ("GET", "/api/v1/label/job/values/", 301, "/api/v1/label/job/values"),
        ("GET", "/graph/", 301, "/graph"),
        ("GET", "//metrics", 307, "/metrics"),
        ("GET", "//evil.example/..", 307, "/"),
        ("GET", "/nothing/", 404, ""),
        ("GET", "/api/v1/nothing", 404, ""),
        ("GET", "/tsdb-status", 303, "/status"),
        ("GET", "/config", 303, "/status"),
        ("GET", "/service-discovery", 303, "/targets"),
    ] {
        assert_eq!(led(&uru, method, path), (status, location.to_owned()), "{method} {path}");
    }
    assert_eq!(uru.get("/api/v1/query?query=1").0, 200);
}

#[test]
fn what_is_neither_true_nor_false_is_refused_in_the_words_of_thanos() {
    let uru = Uru::start("query", &[]);
    let range = "query_range?query=1&start=0&end=1&step=1";
    let exemplars = "query_exemplars?query=up";
    for (name, paths) in [
        ("dedup", vec!["query?query=1", range, "series?match[]=up", "rules", "targets", exemplars]),
        ("partial_response", vec!["query?query=1", range, "series?match[]=up", "labels", "rules"]),
    ] {
        for path in paths {
            let joined = if path.contains('?') { '&' } else { '?' };
            let (status, text) = uru.get(&format!("/api/v1/{path}{joined}{name}=x"));
            let error = format!("'{name}' parameter: strconv.ParseBool: parsing \\\"x\\\": invalid syntax");
            assert!(status == 400 && text.contains(&error), "{path}: {text}");
            assert_eq!(uru.get(&format!("/api/v1/{path}{joined}{name}=T")).0, 200, "{path}");
        }
    }
}

#[test]
fn what_is_not_understood_is_named_where_prometheus_names_it() {
    let uru = Uru::start("query", &[]);
    let (selector, query) = (r#"invalid parameter \"match[]\": "#, r#"invalid parameter \"query\": "#);
    for (path, named) in [
        ("series?match[]=%7B", selector),
        ("labels?match[]=%7B", ""),
        ("label/a/values?match[]=%7B", ""),
        ("rules?match[]=%7B", ""),
        ("query_exemplars?query=%7B", ""),
        // As Thanos tells it, which alone has it.
        ("query?query=up&storeMatch[]=%7B", ""),
        ("labels?storeMatch[]=%7B", ""),
        ("query?query=%7B", query),
        ("format_query?query=%7B", query),
    ] {
        let (status, text) = uru.get(&format!("/api/v1/{path}"));
        assert!(status == 400 && text.contains(&format!("\"error\":\"{named}1:")), "{path}: {text}");
    }
    for of in ["up%5B5m%5D", "%22a%22"] {
        let (status, text) = uru.get(&format!("/api/v1/query_range?query={of}&start=0&end=1&step=1"));
        assert!(status == 400 && text.contains(&format!("\"error\":\"{query}invalid expression type")), "{text}");
    }
}

#[test]
fn parameters_that_a_path_does_not_have_are_not_looked_at() {
    let uru = Uru::start("query", &[]);
    for path in [
        "labels?dedup=x&max_source_resolution=x&shard_info=1",
        "label/a/values?dedup=x&max_source_resolution=x&shard_info=1",
        "series?match[]=up&max_source_resolution=-1&shard_info=1",
        "rules?max_source_resolution=-1&storeMatch[]=(",
        "alerts?shard_info=1&storeMatch[]=(",
        "targets?partial_response=x&storeMatch[]=(",
        "metadata?dedup=x&partial_response=x&storeMatch[]=(",
        "query_exemplars?query=up&partial_response=x&shard_info=1",
        "status/tsdb?dedup=on&partial_response=x",
    ] {
        let (status, text) = uru.get(&format!("/api/v1/{path}"));
        assert_eq!(status, 200, "{path}: {text}");
    }
}

#[test]
fn numbers_and_times_are_written_as_go_takes_them() {
    let uru = Uru::start("query", &[]);
    for (time, value) in
        [("0x1p4", "16"), ("1_000", "1000"), ("1970-01-01T9:00:00Z", "32400"), ("1970-01-01T00:00:01,5Z", "1.5")]
    {
        let (status, text) = uru.get(&format!("/api/v1/query?query=time()&time={time}"));
        assert!(status == 200 && text.contains(&format!("\"{value}\"]")), "{time}: {text}");
    }
    for (step, said) in [
        ("0.0001", "exceeded maximum resolution"),
        ("NaN", "zero or negative query resolution"),
        ("1e400", "cannot parse \\\"1e400\\\" to a valid duration\""),
    ] {
        let (status, text) = uru.get(&format!("/api/v1/query_range?query=1&start=0&end=3600&step={step}"));
        assert!(status == 400 && text.contains(said), "{step}: {text}");
    }
    for (share, status) in [("%7B%22labels%22:null%7D", 200), ("null", 200), ("[]", 400)] {
        assert_eq!(uru.get(&format!("/api/v1/query?query=1&shard_info={share}")).0, status, "{share}");
    }
}

#[test]
fn a_body_that_is_no_form_is_not_read() {
    let uru = Uru::start("query", &[]);
    for (kind, body) in [("bad/;;", "query=1"), ("application/json", "{\"query\":\"100%\"}"), ("text/plain", "query=1")]
    {
        let kind = format!("Content-Type: {kind}");
        let ask = |path: &str| request(&uru.http, ("POST", path), &[&kind], body.as_bytes());
        let (status, _, text) = ask("/api/v1/query?query=3&time=0");
        let text = String::from_utf8(text).unwrap();
        assert!(status == 200 && text.contains("[0,\"3\"]"), "{kind}: {text}");
        assert_eq!(ask("/api/v1/query").0, 400, "{kind}");
    }
    assert_eq!(request(&uru.http, ("POST", "/api/v1/query"), &[], b"query=1").0, 400, "without a type");
}

#[test]
fn what_is_not_there_is_said_in_words() {
    let uru = Uru::start("query", &[]);
    for path in ["/nope", "/api/v1/nope"] {
        assert_eq!(uru.get(path), (404, "404 page not found\n".to_owned()), "{path}");
    }
}

#[test]
fn quotes_in_a_target_are_taken_as_people_write_them() {
    use std::io::{Read, Write};
    let uru = Uru::start("query", &[]);
    let mut stream = std::net::TcpStream::connect(&uru.http).unwrap();
    let target = "/api/v1/format_query?query=up{a=\"b\"}";
    for end in ["", "Connection: close\r\n"] {
        write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n{end}\r\n").unwrap();
        let mut answer = vec![0; 2000];
        let mut len = 0;
        let expected = br#""data":"up{a=\"b\"}""#;
        while !answer[..len].windows(expected.len()).any(|part| part == expected) {
            let more = stream.read(&mut answer[len..]).unwrap();
            assert!(more > 0, "{}", String::from_utf8_lossy(&answer));
            len += more;
        }
    }
}

#[test]
fn the_path_above_a_prefix_leads_below_it() {
    let external = Uru::start("query", &["--web.external-prefix=/p"]);
    let address = Uru::start("query", &["--web.external-prefix=http://x.example//p/"]);
    let route = Uru::start("query", &["--web.route-prefix=/r"]);
    // Of a proxy that shows it below another path.
    let behind = Uru::start("query", &["--web.route-prefix=/bar", "--web.external-prefix=/ext"]);
    for (uru, path, status, location) in [
        (&external, "/", 302, "/p/graph"),
        (&external, "/p/", 303, "/p/graph"),
        (&external, "/p", 303, "/p/graph"),
        (&external, "/p/api/v1/labels/", 301, "/p/api/v1/labels"),
        (&external, "/api/v1/labels", 404, ""),
        (&address, "/", 302, "/p/graph"),
        (&address, "/p/", 303, "/p/graph"),
        (&route, "/", 302, "/r/graph"),
        (&route, "/r", 303, "/r/graph"),
        (&behind, "/bar/", 303, "/ext/graph"),
        (&behind, "/bar", 303, "/ext/graph"),
    ] {
        assert_eq!(led(uru, "GET", path), (status, location.to_owned()), "{path}");
    }
    assert!(route.get("/r/graph").1.contains("\"/r/assets/app.js\""), "pages find what they need");
}
