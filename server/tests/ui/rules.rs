//! Alerts and rules in headless Chromium: many of them, equal ones, broken ones and long ones.

use proto::thanos::{Alert, AlertInstance, Rule, RuleGroup, RulesResponse, ZLabelSet, rule, rules_response};

use crate::pages::page;
use crate::support::Uru;
use crate::support::browser::{Browser, Screen, key};
use crate::support::endpoint::{Answers, Endpoint, Step, label, series_frame};

/// The state of what fires, on the wire.
const FIRING: i32 = 3;

fn set(pairs: &[(&str, &str)]) -> Option<ZLabelSet> {
    Some(ZLabelSet { labels: pairs.iter().map(|(name, value)| label(name, value)).collect() })
}

/// A firing alert with these labels and annotations.
fn instance(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> AlertInstance {
    let (labels, annotations) = (set(labels), set(annotations));
    AlertInstance { labels, annotations, state: FIRING, value: "0".into(), ..AlertInstance::default() }
}

/// A healthy alerting rule.
fn alerting(name: &str, query: &str, alerts: Vec<AlertInstance>) -> Alert {
    let (name, query, health) = (name.into(), query.into(), "ok".into());
    Alert { state: FIRING, name, query, health, alerts, ..Alert::default() }
}

/// An endpoint with groups of these names, files and rules, and what asks it.
fn ruled(groups: Vec<(&str, &str, Vec<Alert>)>) -> (Endpoint, Uru) {
    let groups = groups.into_iter().map(|(name, file, alerts)| {
        let rules = alerts.into_iter().map(|alert| Rule { result: Some(rule::Result::Alert(alert)) }).collect();
        RuleGroup { name: name.into(), file: file.into(), rules, interval: 30.0, ..RuleGroup::default() }
    });
    let answers = groups.map(|group| RulesResponse { result: Some(rules_response::Result::Group(group)) }).collect();
    let frame = series_frame(&[("__name__", "up"), ("prometheus", "a")], &[(0, 1.0)]);
    let store = Answers::store(&[("prometheus", "a")], vec![Step::Send(frame)]).with_federation();
    let endpoint = Endpoint::start(Answers { rules: answers, ..store });
    let uru = Uru::start("query", &[&format!("--endpoint={}", endpoint.address)]);
    (endpoint, uru)
}

/// Replaces what the list is filtered by.
fn filter(browser: &Browser, text: &str) {
    browser.click(".filter");
    browser.press(&[key::CONTROL, 'a']);
    browser.press(&[key::BACKSPACE]);
    browser.type_into(".filter", text);
}

/// Waits until the list has these many rows.
fn wait_for_rows(browser: &Browser, count: usize) {
    browser.wait(&format!("document.querySelectorAll('tbody tr').length === {count}"));
}

#[test]
fn alerts_of_equal_labels_lead_each_to_the_expression_of_its_own_rule() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let same = |query: &str, value: &str| {
        let alert = AlertInstance { value: value.into(), ..instance(&[("alertname", "Same")], &[]) };
        alerting("Same", query, vec![alert])
    };
    let (_endpoint, uru) = ruled(vec![
        ("one", "same.yaml", vec![same("vector(1)", "1"), same("vector(2)", "2")]),
        ("two", "same.yaml", vec![same("vector(3)", "3")]),
    ]);
    browser.open(&page(&uru, "/alerts"));
    browser.wait("document.querySelectorAll('tbody a.mono').length === 3");
    assert_eq!(browser.texts("tbody a.mono"), ["vector(1)", "vector(2)", "vector(3)"]);
    assert_eq!(browser.texts("tbody td.num"), ["1", "2", "3"]);
    browser.click_text("tbody a.mono", "vector(2)");
    browser.wait_for_text(".cm-content", "vector(2)");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn of_many_alerts_the_first_are_drawn_and_those_of_a_rule_once_it_is_opened() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let many = (0..1200).map(|at| {
        let node = format!("node-{at}");
        instance(&[("alertname", "Many"), ("node", node.as_str())], &[])
    });
    let (_endpoint, uru) = ruled(vec![("many", "many.yaml", vec![alerting("Many", "up == 0", many.collect())])]);
    browser.open(&page(&uru, "/rules"));
    browser.wait("document.querySelector('details.rule') !== null");
    assert_eq!(browser.count("tbody tr"), 0, "alerts are drawn unseen");
    browser.click("details.rule summary");
    wait_for_rows(&browser, 1000);
    browser.click_text("button", "Show all 1200");
    wait_for_rows(&browser, 1200);
    browser.click("details.rule summary");
    wait_for_rows(&browser, 0);

    browser.open(&page(&uru, "/alerts"));
    wait_for_rows(&browser, 1000);
    browser.wait_for_text("main", "1200 alerts, the first 1000 shown");
    // The filter looks at those that are not drawn too.
    filter(&browser, "node-1199");
    wait_for_rows(&browser, 1);
    assert_eq!(browser.count("main p"), 0, "{}", browser.text("main"));
    filter(&browser, "node");
    browser.click_text("button", "Show all 1200");
    wait_for_rows(&browser, 1200);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn filters_look_at_groups_health_and_annotations_of_which_those_that_are_addresses_are_links() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let annotations = [("runbook_url", "https://runbooks.example/full"), ("summary", "the disk \"sda\" is full")];
    let full = instance(&[("alertname", "Full"), ("severity", "page")], &annotations);
    let annotations = [("script", "javascript:alert(1)"), ("summary", "see http://runbooks.example/down")];
    let down = instance(&[("alertname", "Down")], &annotations);
    let template = "https://runbooks.example/{{$labels.alertname}}";
    let full = Alert {
        labels: set(&[("severity", "page")]),
        annotations: set(&[("runbook_url", template)]),
        ..alerting("Full", "free < 1", vec![full])
    };
    let down = Alert {
        health: "err".into(),
        last_error: "found duplicate series".into(),
        ..alerting("Down", "link == 0", vec![down])
    };
    let (_endpoint, uru) =
        ruled(vec![("disks", "/etc/rules/a.yaml", vec![full]), ("network", "/etc/rules/b.yaml", vec![down])]);
    browser.open(&page(&uru, "/rules"));
    for (text, name) in [
        ("disks", "Full"),
        ("rules/B.yaml", "Down"),
        ("severity=page", "Full"),
        ("err", "Down"),
        ("free", "Full"),
        ("duplicate series", "Down"),
    ] {
        filter(&browser, text);
        let names = "[...document.querySelectorAll('details.rule summary b')].map((name) => name.innerText).join()";
        browser.wait(&format!("{names} === '{name}'"));
    }
    filter(&browser, "disks");
    browser.click_text("details.rule summary b", "Full");
    browser.wait_for_text("details.rule[open] > div", template);
    assert_eq!(browser.count("details.rule > div > a"), 0, "a template is no address yet");

    browser.open(&page(&uru, "/alerts"));
    wait_for_rows(&browser, 2);
    let links = "return [...document.querySelectorAll('td:nth-child(3) a')].map((link) => [link.href, link.rel])";
    assert_eq!(browser.run(links), serde_json::json!([["https://runbooks.example/full", "noopener"]]));
    for (text, name) in [("\"SDA\"", "Full"), ("javascript", "Down"), ("runbook_url", "Full")] {
        filter(&browser, text);
        wait_for_rows(&browser, 1);
        browser.wait_for_text("tbody tr", &format!("alertname={name}"));
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn long_words_of_rules_do_not_widen_a_phone() {
    let Some(browser) = Browser::start(Screen::Phone) else { return };
    let long = "x".repeat(300);
    let (word, file, address) = (long.as_str(), format!("/etc/{long}"), format!("https://runbooks.example/{long}"));
    let rule = Alert {
        last_error: word.into(),
        annotations: set(&[("runbook_url", address.as_str())]),
        ..alerting(word, &format!("sum({word})"), vec![instance(&[("alertname", word)], &[("summary", word)])])
    };
    let (_endpoint, uru) = ruled(vec![(word, file.as_str(), vec![rule])]);
    for path in ["/rules", "/alerts"] {
        browser.open(&page(&uru, path));
        browser.wait("document.querySelector('details.rule, tbody tr') !== null");
        browser.run("document.querySelectorAll('details.rule').forEach((rule) => { rule.open = true; })");
        wait_for_rows(&browser, 1);
        let [page, screen] = ["document.documentElement.scrollWidth", "innerWidth"]
            .map(|width| browser.run(&format!("return {width}")).as_u64().unwrap());
        assert!(page <= screen && screen == 390, "{path} is {page} wide on a screen of {screen}");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}
