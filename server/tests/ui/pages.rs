//! Every page in headless Chromium: what a person does there and what the page shows then.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::thanos::{
    ActiveTarget, Alert, AlertInstance, RecordingRule, Rule, RuleGroup, RulesResponse, TargetDiscovery,
    TargetsResponse, ZLabelSet, rule, rules_response, targets_response,
};

use crate::support;
use crate::support::browser::{Browser, Screen, key};
use crate::support::endpoint::{Answers, Endpoint, Step, label, series_frame};
use crate::support::{Uru, write_block};

/// Pages of a process that serves everything.
const PAGES: [&str; 8] = ["/graph", "/alerts", "/rules", "/targets", "/stores", "/blocks", "/status", "/flags"];

/// Whether the graph shows anything in the colour of the first series.
pub const IS_DRAWN: &str = "(() => {
    const canvas = document.querySelector('.graph canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] > 100 && data[at] - data[at + 2] > 60) return true;
    }
    return false;
})()";

/// Everything in one process over a block of the last hour: `up` of three instances.
pub fn all_in_one() -> (Uru, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 - 3_600_000;
    write_block(&folder.path().join("bucket"), 1, (3, hour_ago - hour_ago % 60_000));
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &format!("--data-dir={}", folder.path().display())]);
    (uru, folder)
}

/// The address of a page.
pub fn page(uru: &Uru, path: &str) -> String {
    format!("http://{}{path}", uru.http)
}

/// Replaces what is in the editor.
pub fn write(browser: &Browser, query: &str) {
    browser.click(".cm-content");
    browser.press(&[key::CONTROL, 'a']);
    browser.press(&[key::BACKSPACE]);
    browser.type_into(".cm-content", query);
    browser.wait("document.querySelector('.cm-content').innerText.trim() !== ''");
}

#[test]
fn the_editor_completes_highlights_and_lints_and_enter_runs_the_query() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph"));
    write(&browser, "u");
    browser.wait_for_text(".cm-tooltip-autocomplete li", "up");
    browser.click_text(".cm-tooltip-autocomplete .cm-completionLabel", "up");
    browser.wait("document.querySelector('.cm-content').innerText === 'up'");

    write(&browser, "up{inst");
    browser.wait_for_text(".cm-tooltip-autocomplete li", "instance");
    write(&browser, "up{instance=\"i-00");
    browser.wait_for_text(".cm-tooltip-autocomplete li", "i-0002");

    write(&browser, "sum by (instance) (rate(up[5m])) + 1");
    let colours = browser.wait(
        "(() => { const found = new Set([...document.querySelectorAll('.cm-line span')].map((e) => getComputedStyle(e).color));
           return found.size >= 4 && found.size })()",
    );
    assert!(colours.as_u64() >= Some(4), "{colours}");

    write(&browser, "rate(up)");
    browser.wait("document.querySelector('.cm-lintRange-error') !== null");
    browser.press(&[key::ESCAPE]);
    browser.press(&[key::ENTER]);
    browser.wait_for_text(".message.error", "1:6: parse error: expected type range vector");

    write(&browser, "up");
    browser.press(&[key::ESCAPE]);
    browser.press(&[key::ENTER]);
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    browser.click_text("[role=tab]", "Table");
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    assert!(browser.text("tbody tr").contains("instance=i-0000"), "{}", browser.text("tbody"));
    assert_eq!(browser.text("tbody tr td.num"), "59");
    // The refused query is the only error.
    let errors = browser.errors();
    assert!(errors.iter().all(|error| error.contains("400 (Bad Request)")), "{errors:?}");
}

#[test]
fn the_graph_zooms_stacks_and_hides_series_and_its_address_shows_the_same() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph?g0.expr=up&g0.tab=0&g0.range_input=1h"));
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    let drawing = "document.querySelector('.graph canvas')?.toDataURL()";
    let is_shown = "return [...document.querySelectorAll('.legend button')].map((e) => e.getAttribute('aria-pressed'))";
    let lines = browser.wait(drawing);

    browser.click_text("label.check", "stacked");
    browser.wait("location.search.includes('g0.stacked=1')");
    let stacked = browser.wait(drawing);
    assert_ne!(stacked, lines);

    browser.click(".legend li:nth-child(2) button");
    browser.wait("document.querySelectorAll('.legend [aria-pressed=true]').length === 1");
    assert_eq!(browser.run(is_shown), serde_json::json!(["false", "true", "false"]));
    assert_ne!(browser.wait(drawing), stacked);
    browser.control_click(".legend li:nth-child(1) button");
    browser.wait("document.querySelectorAll('.legend [aria-pressed=true]').length === 2");
    assert_eq!(browser.run(is_shown), serde_json::json!(["true", "true", "false"]));

    browser.drag(".u-over", 0.25, 0.75);
    browser.wait("/range_input=(29|30|31)m/.test(location.search) && location.search.includes('end_input=')");
    browser.click("[aria-label='Longer range']");
    browser.wait("/range_input=(58m|59m|1h)/.test(location.search)");

    browser.click_text("button", "Add panel");
    browser.wait("document.querySelectorAll('.panel').length === 2");
    browser.type_into(".panel:nth-of-type(2) .cm-content", "count(up)");
    browser.press(&[key::ESCAPE]);
    browser.click(".panel:nth-of-type(2) .run");
    browser.wait("document.querySelectorAll('.panel .graph canvas').length === 2");

    let address = browser.url();
    browser.open("about:blank");
    browser.open(&address);
    browser.wait("document.querySelectorAll('.panel .graph canvas').length === 2");
    assert_eq!(browser.texts(".cm-content"), ["up", "count(up)"]);
    assert_eq!(browser.run("return document.querySelector('.check input').checked"), true);
    browser.click("[aria-label='Remove panel']");
    browser.wait("document.querySelectorAll('.panel').length === 1");
    assert_eq!(browser.texts(".cm-content"), ["count(up)"]);
    browser.wait("document.activeElement.innerText === 'count(up)'");

    // Names are written as PromQL takes them.
    let query =
        "label_replace(label_replace(vector(1), \"a.b\", \"x\", \"\", \"\"), \"__name__\", \"c.d\", \"\", \"\")";
    let parameters = [("g0.expr", query), ("g0.tab", "0")];
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    browser.open(&page(&uru, &format!("/graph?{query}")));
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    assert_eq!(browser.texts(".legend button"), ["{\"c.d\", \"a.b\"=\"x\"}"]);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn addresses_of_prometheus_show_here_what_they_show_there() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    // Of the table of the new pages and of the old ones.
    for tab in ["table", "1"] {
        let more = "g0.moment_input=2026-01-31+12%3A00%3A00&g0.end_input=2025-01-31+12%3A00%3A00&g0.range_input=1h";
        browser.open(&page(&uru, &format!("/graph?g0.expr=time()&g0.tab={tab}&g0.show_tree=0&{more}")));
        browser.wait("document.querySelectorAll('tbody tr').length === 1");
        assert_eq!(browser.text("tbody tr td.num"), "1769860800", "{tab}");
    }
    let more = "g0.range_input=1h&g0.res_type=fixed&g0.res_step=60&g0.display_mode=stacked&g0.show_exemplars=0";
    browser.open(&page(&uru, &format!("/graph?g0.expr=up&g0.tab=graph&{more}")));
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    assert_eq!(browser.run("return document.querySelector('.check input').checked"), true);
    assert_eq!(browser.run("return document.querySelector('[aria-label=Step]').value"), "60");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn values_as_large_as_there_are_have_a_graph() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    let query = "vector(1.7e308) or label_replace(vector(-1.7e308), \"sign\", \"minus\", \"\", \"\")";
    for stacked in ["0", "1"] {
        let parameters = [("g0.expr", query), ("g0.tab", "0"), ("g0.stacked", stacked)];
        let parameters = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        browser.open(&page(&uru, &format!("/graph?{parameters}")));
        browser.wait("document.querySelectorAll('.legend button').length === 2");
        browser.wait(IS_DRAWN);
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_panel_asks_the_stores_that_are_chosen_and_its_address_says_which() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let store = |name: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let frame = series_frame(&[("__name__", "up"), ("store", name)], &[(now - 1000, 1.0)]);
        Endpoint::start(Answers::store(&[("store", name)], vec![Step::Send(frame)]))
    };
    let (one, two) = (store("one"), store("two"));
    let endpoints = [&one, &two].map(|store| format!("--endpoint={}", store.address));
    let uru = Uru::start("query", &[&endpoints[0], &endpoints[1]]);
    browser.open(&page(&uru, "/graph?g0.expr=up&g0.tab=1"));
    browser.wait("document.querySelectorAll('tbody tr').length === 2");
    browser.click_text("summary", "All stores");
    browser.click_text(".choice label", &two.address);
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert!(browser.text("tbody tr").contains("store=two"));
    browser.wait_for_text("summary", "1 store");
    let address = browser.url();
    assert!(address.contains("g0.store_matches="), "{address}");
    browser.open("about:blank");
    browser.open(&address);
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.click_text("summary", "1 store");
    browser.wait("document.querySelectorAll('.choice input:checked').length === 1");
    browser.click_text(".choice label", &one.address);
    browser.wait("document.querySelectorAll('tbody tr').length === 2");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn queries_that_were_answered_are_remembered_and_run_again() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph?g0.expr=count(up)&g0.tab=1"));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.open(&page(&uru, "/graph?g0.expr=up&g0.tab=1"));
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    browser.click_text("summary", "History");
    browser.wait("document.querySelectorAll('.choice li').length === 2");
    assert_eq!(browser.texts(".choice li"), ["up", "count(up)"]);
    browser.click_text(".choice li button", "count(up)");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.text(".cm-content"), "count(up)");
    browser.click_text(".choice button", "Forget all");
    browser.wait("document.querySelectorAll('.choice li').length === 0");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn times_are_shown_and_typed_in_utc_or_where_the_browser_is() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    let end = "2023-11-14 22:13:20".replace(' ', "+");
    browser.open(&page(&uru, &format!("/graph?g0.expr=vector(1)&g0.tab=1&g0.end_input={end}")));
    let shown = "return document.querySelector('input.wide').value";
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.run(shown), "2023-11-14 22:13:20");
    browser.click("[aria-label='Switch to local time']");
    browser.wait("document.querySelector('input.wide').ariaLabel === 'End (local)'");
    assert_eq!(browser.run(shown), "2023-11-15 03:43:20");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    // Links are the same for everybody, and the choice stays.
    browser.click("[aria-label=Later]");
    browser.wait("location.search.includes('end_input=2023-11-14+22%3A43%3A20')");
    browser.open(&page(&uru, "/blocks"));
    browser.click(".lane .block");
    browser.wait_for_text("[aria-label=Block] .facts", "From (local)");
    browser.click("[aria-label='Switch to UTC']");
    browser.wait("localStorage.getItem('uru-zone') === 'utc'");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn explain_shows_operators_with_what_each_cost() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph?g0.expr=sum(rate(up[5m]))&g0.tab=2&g0.range_input=30m"));
    browser.wait("document.querySelectorAll('.plan tbody tr').length >= 2");
    let rows = browser.texts(".plan tbody tr");
    assert!(rows[0].contains("sum"), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("rate over up[")), "{rows:?}");
    let samples = browser.texts(".plan tbody tr td:nth-child(3)");
    assert!(samples.iter().any(|text| text.replace(',', "").parse::<u64>().is_ok_and(|n| n >= 90)), "{samples:?}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_theme_is_switched_and_stays() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph"));
    browser.wait("document.querySelector('.cm-content') !== null");
    let back = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.run(back);
    browser.click("[aria-label='Switch to dark theme']");
    browser.wait("document.documentElement.dataset.theme === 'dark'");
    let dark = browser.run(back);
    assert_ne!(light, dark);
    browser.open(&page(&uru, "/stores"));
    browser.wait("document.documentElement.dataset.theme === 'dark'");
    assert_eq!(browser.run(back), dark);
    browser.click("[aria-label='Switch to light theme']");
    browser.wait("document.documentElement.dataset.theme === 'light'");
    assert_eq!(browser.run(back), light);
}

#[test]
fn the_keyboard_alone_reaches_pages_editor_and_views() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph"));
    browser.wait("document.querySelector('.cm-content') !== null");
    let focused = "return document.activeElement.innerText || document.activeElement.ariaLabel";
    browser.press(&[key::TAB]);
    assert_eq!(browser.run(focused), "Skip to content");
    let mut seen = Vec::new();
    let is_in_editor = "return document.activeElement.classList.contains('cm-content')";
    while browser.run(is_in_editor) != true {
        browser.press(&[key::TAB]);
        seen.push(browser.run(focused).as_str().unwrap_or_default().to_owned());
        assert!(seen.len() < 30, "the editor is not reached: {seen:?}");
    }
    for page in ["Query", "Alerts", "Stores", "Flags"] {
        assert!(seen.iter().any(|name| name == page), "{page} is not reached: {seen:?}");
    }
    // Typing right where the focus is, running, then on to the views.
    for letter in "up".chars() {
        browser.press(&[letter]);
    }
    browser.press(&[key::ESCAPE]);
    browser.press(&[key::ENTER]);
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    while browser.run("return document.activeElement.getAttribute('role')") != "tab" {
        browser.press(&[key::TAB]);
    }
    browser.press(&[key::RIGHT]);
    browser.wait("document.activeElement.innerText === 'Table'");
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_ne!(outline, "none", "what has the focus is marked");
}

#[test]
fn every_page_fits_a_phone() {
    let Some(browser) = Browser::start(Screen::Phone) else { return };
    let (uru, _folder) = all_in_one();
    for path in PAGES {
        let question = if path == "/graph" { "?g0.expr=up&g0.tab=0" } else { "" };
        browser.open(&page(&uru, &format!("{path}{question}")));
        browser.wait("document.querySelector('h1') !== null && document.querySelector('[aria-busy=true]') === null");
        let [page, screen] = ["document.documentElement.scrollWidth", "innerWidth"]
            .map(|width| browser.run(&format!("return {width}")).as_u64().unwrap());
        assert!(page <= screen && screen == 390, "{path} is {page} wide on a screen of {screen}");
        let size = browser.run("return parseFloat(getComputedStyle(document.body).fontSize)");
        assert!(size.as_f64() >= Some(14.0), "{path}: letters of {size}");
        let facts = "[...document.querySelectorAll('.facts td')].map(fact => fact.clientWidth)";
        let narrowest = browser.run(&format!("return Math.min(innerWidth, ...{facts})")).as_u64().unwrap();
        assert!(narrowest >= 150, "{path}: {narrowest} pixels for a fact");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn stores_blocks_status_and_flags_say_what_runs() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, folder) = all_in_one();
    let block = std::fs::read_dir(folder.path().join("bucket")).unwrap().next().unwrap().unwrap().file_name();
    browser.open(&page(&uru, "/"));
    browser.click_text("header nav a", "Stores");
    browser.wait_for_text("tbody tr", "127.0.0.1:");
    browser.wait_for_text("tbody tr", "cluster=c1");
    browser.wait_for_text(".badge", "up");
    assert!(browser.url().ends_with("/stores"));

    browser.click_text("header nav a", "Blocks");
    browser.click(".lane .block");
    browser.wait_for_text("[aria-label=Block]", block.to_str().unwrap());
    browser.wait_for_text("[aria-label=Block] .facts", "Series\t3");

    browser.click_text("header nav a", "Status");
    browser.wait_for_text(".facts", "startTime");
    browser.wait_for_text(".facts", env!("CARGO_PKG_VERSION"));

    browser.click_text("header nav a", "Flags");
    browser.type_into(".filter", "--Query.lookback");
    browser.wait("document.querySelectorAll('.facts tr').length === 1");
    assert_eq!(browser.text(".facts"), "--query.lookback-delta\t5m");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn an_endpoint_that_holds_nothing_yet_and_one_that_refuses_connections_say_so() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let tsdb = format!("--tsdb.path={}", folder.path().display());
    let receiver = Uru::start("receive", &["--label=receive=\"a\"", &tsdb, "--remote-write.address=127.0.0.1:0"]);
    let endpoint = format!("--endpoint={}", receiver.grpc);
    let absent = format!("--endpoint={}", support::free_address());
    let uru = Uru::start("query", &[&endpoint, &absent]);
    browser.open(&page(&uru, "/stores"));
    browser.wait_for_text("main", "nothing yet");
    browser.wait_for_text(".reason", "Connection refused");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn alerts_rules_and_targets_of_an_endpoint_are_shown() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let endpoint = Endpoint::start(sidecar());
    let uru = Uru::start("query", &[&format!("--endpoint={}", endpoint.address)]);
    browser.open(&page(&uru, "/alerts"));
    browser.wait_for_text(".badge", "firing");
    browser.wait_for_text("tbody tr", "disk full on node-7");
    browser.type_into("[aria-label=State]", "pending");
    browser.wait_for_text("main", "No alert matches the filter.");
    browser.press(&[key::HOME]);
    browser.wait("document.querySelectorAll('tbody tr').length === 1");

    browser.click_text("header nav a", "Rules");
    browser.wait_for_text("h2", "disks");
    browser.click_text("details.rule summary b", "DiskFull");
    browser.wait_for_text("details.rule[open] pre", "disk_free < 1");
    for text in ["summary: the disk of {{ $labels.node }}", "for 5m · keeps firing for 10m"] {
        browser.wait_for_text("details.rule[open]", text);
    }
    browser.wait_for_text("details.rule[open] p a", "ALERTS{alertname=\"DiskFull\"}");
    for (filter, count) in [("severity", 1), ("x", 0)] {
        browser.type_into(".filter", filter);
        browser.wait(&format!("document.querySelectorAll('details.rule').length === {count}"));
    }
    browser.wait_for_text("main", "No rule matches the filter.");
    browser.press(&[key::CONTROL, 'a']);
    browser.press(&[key::BACKSPACE]);
    browser.type_into(".filter", "recorded");
    browser.wait("document.querySelectorAll('details.rule').length === 1");
    browser.wait_for_text("details.rule", "job:recorded:sum");
    browser.click("details.rule summary");
    browser.click("details.rule pre a");
    browser.wait_for_text(".cm-content", "sum by (job) (up)");

    browser.click_text("header nav a", "Targets");
    browser.wait_for_text("h2", "node 1/2 up");
    browser.wait_for_text(".reason", "connection refused");
    browser.click_text("label.check", "only unhealthy");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert!(browser.text("tbody tr").contains("http://node-8:9100/metrics"));
    assert_eq!(browser.count("td details span"), 0, "discovered labels are drawn unseen");
    browser.click("td details summary");
    browser.wait("document.querySelectorAll('td details[open] span').length > 0");

    browser.click_text("header nav a", "Stores");
    browser.wait_for_text("h2", "sidecar");
    browser.wait_for_text("tbody tr", &endpoint.address);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// What a sidecar beside a Prometheus with an alert, a recording rule and two targets answers.
fn sidecar() -> Answers {
    let set = |pairs: &[(&str, &str)]| {
        Some(ZLabelSet { labels: pairs.iter().map(|(name, value)| label(name, value)).collect() })
    };
    let now = Some(prost_types::Timestamp::from(SystemTime::now()));
    let instance = AlertInstance {
        labels: set(&[("alertname", "DiskFull"), ("node", "node-7")]),
        annotations: set(&[("summary", "disk full on node-7")]),
        state: 3,
        active_at: now,
        value: "0.5".into(),
        ..AlertInstance::default()
    };
    let alert = Alert {
        state: 3,
        name: "DiskFull".into(),
        query: "disk_free < 1".into(),
        duration_seconds: 300.0,
        keep_firing_for_seconds: 600.0,
        labels: set(&[("severity", "page")]),
        annotations: set(&[("summary", "the disk of {{ $labels.node }}")]),
        alerts: vec![instance],
        health: "ok".into(),
        last_evaluation: now,
        ..Alert::default()
    };
    let recording = RecordingRule {
        name: "job:recorded:sum".into(),
        query: "sum by (job) (up)".into(),
        health: "ok".into(),
        last_evaluation: now,
        ..RecordingRule::default()
    };
    let rules = [rule::Result::Alert(alert), rule::Result::Recording(recording)];
    let group = RuleGroup {
        name: "disks".into(),
        file: "disks.yaml".into(),
        rules: rules.map(|rule| Rule { result: Some(rule) }).to_vec(),
        interval: 30.0,
        ..RuleGroup::default()
    };
    let target = |node: &str, health: i32, error: &str| ActiveTarget {
        labels: set(&[("instance", node)]),
        scrape_pool: "node".into(),
        scrape_url: format!("http://{node}:9100/metrics"),
        last_error: error.into(),
        last_scrape: now,
        last_scrape_duration: 0.01,
        health,
        ..ActiveTarget::default()
    };
    let found = TargetDiscovery {
        active_targets: vec![target("node-7", 1, ""), target("node-8", 0, "connection refused")],
        dropped_targets: Vec::new(),
    };
    let frame = series_frame(&[("__name__", "up"), ("prometheus", "a")], &[(0, 1.0)]);
    Answers {
        rules: vec![RulesResponse { result: Some(rules_response::Result::Group(group)) }],
        targets: vec![TargetsResponse { result: Some(targets_response::Result::Targets(found)) }],
        ..Answers::store(&[("prometheus", "a")], vec![Step::Send(frame)]).with_federation()
    }
}
