//! Completion of names that PromQL takes in quotes alone, in headless Chromium.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::pages::{all_in_one, page, write};
use crate::support::browser::{Browser, Screen, key};
use crate::support::{Uru, write as writing};

/// Names of completions in the list.
const NAMES: &str = ".cm-tooltip-autocomplete .cm-completionLabel";

/// Everything in one process with `up` and a series whose names are no identifiers.
fn dotted() -> (Uru, tempfile::TempDir) {
    let (uru, folder) = all_in_one();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let labels = [("__name__", "http.server.duration"), ("http/route", "/a"), ("service.name", "shop")];
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let body = writing::body(&[writing::float_series(&labels, &[(now, 1.0)])]);
    assert_eq!(writing::post(&uru.http, "/api/v1/receive", &headers, &body).unwrap().status, 200);
    uru.wait_for("/api/v1/label/__name__/values", "http.server.duration");
    uru.wait_for("/api/v1/labels", "service.name");
    (uru, folder)
}

/// Takes the completion called `name`; what the editor holds then.
fn complete(browser: &Browser, name: &str) -> String {
    browser.click_text(NAMES, name);
    browser.wait("document.querySelector('.cm-tooltip-autocomplete') === null");
    browser.text(".cm-content")
}

#[test]
fn names_that_are_no_identifiers_are_completed_in_quotes() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = dotted();
    browser.open(&page(&uru, "/graph"));
    let (metric, label) = ("http.server.duration", "service.name");
    let cases = [
        // The labels of one metric are not held for those of all.
        ("up{inst", "instance", "up{instance}"),
        ("http", metric, "{\"http.server.duration\"}"),
        ("rate(http.server.d", metric, "rate({\"http.server.duration\"})"),
        ("{\"http.s", metric, "{\"http.server.duration\"}"),
        ("{serv", label, "{\"service.name\"}"),
        ("up{service.n", label, "up{\"service.name\"}"),
        ("up{\"serv", label, "up{\"service.name\"}"),
        ("sum by (serv", label, "sum by (\"service.name\")"),
        ("count without (job, service.", label, "count without (job, \"service.name\")"),
        ("up * on(\"serv", label, "up * on(\"service.name\")"),
        ("sum by (inst", "instance", "sum by (instance)"),
        ("up", "up", "up"),
    ];
    for (typed, name, expected) in cases {
        write(&browser, typed);
        assert_eq!(complete(&browser, name), expected, "{typed}");
    }
    // The name comes before matchers that are there.
    write(&browser, "ttp{service=\"x\"}");
    browser.press(&[key::HOME]);
    browser.press(&['h']);
    assert_eq!(complete(&browser, metric), "{\"http.server.duration\", service=\"x\"}");
    write(&browser, "{\"http/route\"=\"");
    browser.wait_for_text(".cm-tooltip-autocomplete li", "/a");

    write(&browser, "http.server");
    complete(&browser, metric);
    browser.press(&[key::ENTER]);
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    assert!(browser.text(".legend button").starts_with("{\"http.server.duration\", \"http/route\"=\"/a\""));
    assert_eq!(browser.errors(), Vec::<String>::new());
}
