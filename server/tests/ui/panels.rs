//! Panels of the query page in headless Chromium, the way back from them, and pages where something is missing: an
//! answer, storage, queries.

use std::time::{Duration, Instant};

use crate::pages::{IS_DRAWN, all_in_one, page, write};
use crate::support::browser::{Browser, Screen, key};
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{READY_TIME_MAX, Uru, write as writing};

/// The address of a panel.
fn panel(uru: &Uru, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    page(uru, &format!("/graph?{query}"))
}

/// Runs what is in the editor, as Control and Enter do.
fn run(browser: &Browser) {
    browser.press(&[key::CONTROL, key::ENTER]);
}

/// What the first editor holds.
fn wait_for_query(browser: &Browser, query: &str) {
    browser.wait(&format!("document.querySelector('.cm-content')?.innerText === '{query}'"));
}

/// Has every page keep in `told` what `telling` pushes of each request, of `url` and `how`.
fn telling(browser: &Browser, telling: &str) {
    browser.before_each_page(&format!(
        "window.told = [];
         const allowed = window.fetch;
         window.fetch = (url, how) => {{
           {telling}
           return allowed(url, how);
         }};"
    ));
}

#[test]
fn samples_without_neighbours_are_drawn() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    let query = "vector(1) and (vector(time() % 600) < 14)";
    browser.open(&panel(&uru, &[("g0.expr", query), ("g0.tab", "0"), ("g0.range_input", "1h")]));
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    browser.wait(IS_DRAWN);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn ticks_and_the_value_pointed_at_have_the_digits_that_tell_them_apart() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "window.drawn = new Set();
         const fill = CanvasRenderingContext2D.prototype.fillText;
         CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
           drawn.add(text);
           return fill.call(this, text, ...place);
         };",
    );
    let end = ("g0.end_input", "2026-01-31 12:00:00");
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "0"), ("g0.range_input", "1h"), end]));
    browser.wait("[...drawn].filter((text) => /^1\\.7698\\d+G$/.test(text)).length >= 4");
    browser.point_at(".u-over");
    browser.wait("/\\n17698\\d{5}(\\.\\d+)?$/.test(document.querySelector('.tooltip').innerText)");
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "0"), ("g0.range_input", "2s"), end]));
    browser.wait("[...drawn].some((text) => /^11:59:59\\.[1-9]00$/.test(text))");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_page_without_an_answer_says_why_alone_and_one_that_had_an_answer_keeps_it() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "window.allowed = window.fetch;
         window.fetch = () => Promise.reject(new TypeError('Failed to fetch'));",
    );
    browser.open(&page(&uru, "/alerts"));
    browser.wait_for_text(".message.error", "Failed to fetch");
    assert!(!browser.text("main").contains("No alert"), "{}", browser.text("main"));
    browser.run("window.fetch = window.allowed");
    browser.click_text("button", "Reload");
    browser.wait_for_text("main", "No alert is pending or firing.");
    assert_eq!(browser.count(".message.error"), 0);
    browser.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))");
    browser.click_text("button", "Reload");
    browser.wait_for_text(".message.error", "Failed to fetch");
    assert!(browser.text("main").contains("No alert is pending or firing."), "{}", browser.text("main"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_query_that_runs_marks_the_old_result_and_can_be_canceled_or_cleared() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], vec![Step::Hang]));
    let uru = Uru::start("query", &[&format!("--endpoint={}", endpoint.address)]);
    browser.open(&panel(&uru, &[("g0.expr", "vector(7)"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.count(".old") + browser.count(".running"), 0);
    write(&browser, "up");
    run(&browser);
    browser.wait_for_text(".running", "Running…");
    browser.wait("getComputedStyle(document.querySelector('.old')).opacity === '0.5'");
    endpoint.wait_for_a_call();
    browser.click_text(".running button", "Cancel");
    browser.wait("document.querySelector('[aria-busy=true], .old') === null");
    browser.wait("document.activeElement.matches('.cm-content')");
    endpoint.wait_for_the_end_of_calls();
    assert_eq!(browser.text("tbody tr td.num"), "7");

    browser.click_text(".run", "Run");
    browser.wait("document.querySelector('.panel[aria-busy=true]') !== null");
    browser.click(".cm-content");
    browser.press(&[key::CONTROL, 'a']);
    browser.press(&[key::BACKSPACE]);
    browser.click_text(".run", "Run");
    browser.wait("document.querySelector('[aria-busy=true]') === null");
    assert_eq!(browser.text(".result"), "No query has run yet.");
    endpoint.wait_for_the_end_of_calls();
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_panel_asks_as_its_tenant_where_tenants_are_kept_apart() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let up = || Step::Send(series_frame(&[("__name__", "up"), ("tenant_id", "team-a")], &[(1_769_860_790_000, 1.0)]));
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], vec![up()]));
    let flag = format!("--endpoint={}", endpoint.address);
    let parameters =
        [("g0.expr", "up"), ("g0.tab", "1"), ("g0.moment_input", "2026-01-31 12:00:00"), ("g0.tenant", "team-a")];
    let uru = Uru::start("query", &[&flag, "--query.enforce-tenancy", "--query.tenant-header=X-Team"]);
    telling(&browser, "told.push(`${url} ${new Headers(how?.headers).get('X-Team')}`);");
    browser.open(&panel(&uru, &parameters));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.run("return document.querySelector('[aria-label=Tenant]').value"), "team-a");
    let (asked, _) = endpoint.requests().pop().unwrap();
    let tenant = asked.matchers.iter().find(|matcher| matcher.name == "tenant_id").unwrap();
    assert_eq!(tenant.value, b"team-a");

    browser.type_into("[aria-label=Tenant]", "b\u{e007}");
    browser.wait("location.search.includes('g0.tenant=team-ab')");
    browser.wait("told.some((one) => /query\\?.* team-ab$/.test(one))");
    write(&browser, "u");
    browser.wait("told.some((one) => /(__name__|metadata).* team-ab$/.test(one))");

    let open = Uru::start("query", &[&flag]);
    browser.open(&panel(&open, &parameters));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.count("[aria-label=Tenant]"), 0);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_receiver_shows_the_pages_that_it_answers() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let uru = writing::start(folder.path(), &[]);
    let series = writing::float_series(&[("__name__", "up")], &[(writing::NOW, 1.0)]);
    assert_eq!(writing::write(&uru, "team-a", &[series]).status, 200);
    browser.open(&page(&uru, "/"));
    browser.wait_for_text(".facts", env!("CARGO_PKG_VERSION"));
    browser.wait_for_text(".facts", "startTime");
    browser.wait_for_text("h1", "Head of team-a");
    browser.wait_for_text(".facts", "minTime\t2026-09-21 14:13:20");
    assert!(browser.url().ends_with("/status"), "{}", browser.url());
    assert_eq!(browser.texts("header nav a"), ["Status", "Flags"]);
    browser.click_text("header nav a", "Flags");
    browser.wait_for_text(".facts", "--tsdb.path");
    browser.run(
        "const allowed = window.fetch;
         const gone = () => Promise.reject(new TypeError('gone'));
         window.fetch = (url, how) => (url.includes('tsdb') ? gone() : allowed(url, how));",
    );
    browser.click_text("header nav a", "Status");
    browser.wait_for_text(".message.error", "gone");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_way_back_undoes_a_zoom_and_a_query_and_not_letters() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "0"), ("g0.range_input", "1h")]));
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    let steps = || browser.run("return history.length").as_u64().unwrap();
    let before = steps();
    write(&browser, "count(up)");
    assert_eq!(steps(), before);
    run(&browser);
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    browser.wait("location.search.includes('count')");
    assert_eq!(steps(), before + 1);
    browser.drag(".u-over", 0.25, 0.75);
    browser.wait("location.search.includes('end_input=')");
    // The same again is no step.
    browser.click(".run");
    assert_eq!(steps(), before + 2);
    browser.back();
    browser.wait("document.querySelector('[aria-label=Range]').value === '1h'");
    wait_for_query(&browser, "count(up)");
    browser.back();
    wait_for_query(&browser, "up");
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_way_back_asks_for_what_has_changed_alone_and_hidden_series_stay_hidden() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    telling(&browser, "if (url.includes('/query')) told.push(url);");
    let graph = [("g0.expr", "up"), ("g0.tab", "0"), ("g0.range_input", "1h")];
    browser.open(&panel(&uru, &[&graph[..], &[("g1.expr", "count(up)"), ("g1.tab", "1")]].concat()));
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    let is_one_shown = "document.querySelectorAll('.legend [aria-pressed=true]').length === 1";
    browser.click(".legend li:nth-child(2) button");
    browser.wait(is_one_shown);
    browser.click_text("[role=tab]", "Table");
    browser.wait("document.querySelector('.legend') === null && document.querySelector('[aria-busy=true]') === null");
    browser.click_text("[role=tab]", "Graph");
    browser.wait(is_one_shown);
    browser.drag(".u-over", 0.25, 0.75);
    browser.wait("location.search.includes('end_input=') && document.querySelector('[aria-busy=true]') === null");
    browser.run("told.length = 0");
    browser.back();
    browser.wait("document.querySelector('[aria-label=Range]').value === '1h'");
    browser.wait("told.length > 0 && document.querySelector('[aria-busy=true]') === null");
    browser.wait(is_one_shown);
    assert_eq!(browser.run("return told.length"), 1, "{}", browser.run("return told"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn what_is_typed_is_found_again_when_the_page_is_loaded_again() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    browser.run("window.steps = history.length");
    write(&browser, "count(up)");
    browser.wait("location.search.includes('expr=count%28up%29')");
    assert_eq!(browser.run("return history.length === window.steps"), true);
    browser.open(&browser.url());
    wait_for_query(&browser, "count(up)");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn what_is_typed_beside_the_query_outlasts_an_answer_and_an_end_has_milliseconds() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "const allowed = window.fetch;
         window.fetch = async (url, how) => {
           if (url.includes('/query?')) await new Promise((done) => void (window.answer = done));
           return allowed(url, how);
         };",
    );
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "1")]));
    browser.wait("window.answer !== undefined");
    browser.type_into("[aria-label^=End]", "2026-01-31 11:59:58.0");
    browser.run("window.answer(); window.answer = undefined");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    let end = "return document.querySelector('[aria-label^=End]').value";
    assert_eq!(browser.run(end), "2026-01-31 11:59:58.0");
    browser.type_into("[aria-label^=End]", "01\u{e007}");
    browser.wait("window.answer !== undefined");
    browser.run("window.answer()");
    browser.wait("document.querySelector('tbody tr td.num').innerText === '1769860798.001'");
    assert_eq!(browser.run(end), "2026-01-31 11:59:58.001");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn flags_that_are_not_answered_hold_up_a_query_for_seconds_alone() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "const allowed = window.fetch;
         const hang = (signal) => new Promise((_, gone) => (signal.onabort = () => gone(signal.reason)));
         window.fetch = (url, how) => (url.includes('status/flags') ? hang(how.signal) : allowed(url, how));",
    );
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "1")]));
    browser.wait_for_text(".running", "Running…");
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_age_of_an_answer_that_a_cache_kept_is_not_held_for_a_wrong_clock() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "const allowed = window.fetch;
         window.fetch = async (url, how) => {
           const answer = await allowed(url, how);
           const headers = { Age: '300', Date: new Date(Date.now() - 300_000).toUTCString() };
           return new Response(await answer.text(), { status: answer.status, headers });
         };",
    );
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.count(".message"), 0, "{}", browser.text(".message"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn panels_are_left_as_they_are_for_another_page_and_found_again() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    write(&browser, "count(up)");
    browser.press(&[key::ESCAPE]);
    browser.click_text("header nav a", "Stores");
    browser.wait("location.pathname === '/stores'");
    browser.click_text("header nav a", "Query");
    wait_for_query(&browser, "count(up)");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.back();
    browser.wait("location.pathname === '/stores'");
    browser.back();
    wait_for_query(&browser, "count(up)");
    // The page that is shown already is not opened again.
    browser.run("window.steps = history.length");
    write(&browser, "sum(up)");
    browser.press(&[key::ESCAPE]);
    browser.click_text("header nav a", "Query");
    browser.click("[aria-label='Switch to local time']");
    browser.wait("document.querySelector('input.wide').ariaLabel === 'End (local)'");
    wait_for_query(&browser, "sum(up)");
    assert_eq!(browser.run("return history.length === window.steps"), true);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_browser_that_stores_nothing_shows_the_pages() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });",
    );
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    browser.click("[aria-label='Switch to dark theme']");
    browser.wait("document.documentElement.dataset.theme === 'dark'");
    browser.click("[aria-label='Switch to local time']");
    browser.wait("document.querySelector('input.wide').ariaLabel === 'End (local)'");
    browser.click_text("summary", "History");
    browser.wait_for_text(".choice", "No query has been answered yet.");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_long_table_shows_its_beginning_until_it_is_asked_for_all() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    let query = "vector(time())[2s:1ms]";
    browser.open(&panel(&uru, &[("g0.expr", query), ("g0.tab", "1"), ("g0.end_input", "1769860800")]));
    browser.wait("document.querySelectorAll('tbody td.num div').length === 1000");
    assert!(browser.text("tbody td.num").contains("2026-01-31 11:59:58.001"), "{}", browser.text("tbody td.num"));
    browser.click_text("button", "Show all 2000");
    browser.wait("document.querySelectorAll('tbody td.num div').length === 2000");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn times_with_a_zone_and_unix_times_are_understood_and_wrong_clocks_are_said() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    for end in ["2026-01-31T12:00:00Z", "2026-01-31 14:00:00+02:00", "1769860800"] {
        // A range that is not shown does not matter.
        let parameters = [("g0.expr", "time()"), ("g0.tab", "1"), ("g0.end_input", end), ("g0.range_input", "x")];
        browser.open(&panel(&uru, &parameters));
        browser.wait("document.querySelectorAll('tbody tr').length === 1");
        assert_eq!(browser.text("tbody tr td.num"), "1769860800", "{end}");
        assert_eq!(browser.count(".message"), 0);
    }
    browser.before_each_page("const now = Date.now; Date.now = () => now() - 90_000;");
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "1")]));
    browser.wait_for_text(".message.warning", "behind the server's");
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "1"), ("g0.end_input", "1769860800")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.count(".message"), 0, "the clock does not matter to an end that is named");
    browser.open(&panel(&uru, &[("g0.expr", "time()"), ("g0.tab", "1"), ("g0.end_input", "1769860800000")]));
    browser.wait_for_text(".message.error", "\"1769860800000\" is not a time");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_query_too_long_for_an_address_is_sent_beside_it_and_hidden_series_stay_hidden() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    telling(&browser, "told.push(`${how?.method} ${url.length}`);");
    let query = format!("up{{instance=~\"{}|i-.*\"}}", "a".repeat(9000));
    browser.open(&panel(&uru, &[("g0.expr", query.as_str()), ("g0.tab", "0")]));
    browser.wait("document.querySelectorAll('.legend button').length === 3");
    browser.wait("told.some((one) => one.startsWith('POST') && one.length < 10)");
    browser.click(".legend li:nth-child(2) button");
    browser.wait("document.querySelectorAll('.legend [aria-pressed=true]').length === 1");
    browser.run("told.length = 0");
    browser.click(".run");
    browser.wait("told.length > 0 && document.querySelector('[aria-busy=true]') === null");
    assert_eq!(browser.count(".legend [aria-pressed=true]"), 1);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_finger_selects_a_range_sideways_and_scrolls_the_page_upwards() {
    let Some(browser) = Browser::start(Screen::Phone) else { return };
    let (uru, _folder) = all_in_one();
    // The second panel makes the page a long one.
    let graphs = [("g0.expr", "up"), ("g0.tab", "0"), ("g0.range_input", "1h"), ("g1.expr", "up"), ("g1.tab", "0")];
    browser.open(&panel(&uru, &graphs));
    browser.wait("document.querySelectorAll('.legend button').length === 6");
    let address = browser.url();
    // Less than a finger is wide.
    browser.swipe(".u-over", (0.5, 0.5), (0.53, 0.5));
    assert_eq!(browser.run("return document.querySelector('.u-select').clientWidth"), 0);
    assert_eq!(browser.url(), address);
    browser.swipe(".u-over", (0.25, 0.5), (0.75, 0.5));
    browser.wait("/range_input=(29|30|31)m/.test(location.search) && location.search.includes('end_input=')");
    browser.wait("document.querySelector('[aria-busy=true]') === null");
    assert_eq!(browser.run("return scrollY"), 0);
    let address = browser.url();
    browser.swipe(".u-over", (0.5, 0.9), (0.5, -0.6));
    browser.wait("scrollY > 50");
    assert_eq!(browser.url(), address);
    assert_eq!(browser.run("return document.querySelector('.u-select').clientWidth"), 0);
    browser.back();
    browser.wait("document.querySelector('[aria-label=Range]').value === '1h'");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn an_axis_from_zero_is_drawn_and_its_address_shows_the_same() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    let drawing = "document.querySelector('.graph canvas')?.toDataURL()";
    let (end, graph) = (("g0.end_input", "2026-01-31 12:00:00"), ("g0.tab", "0"));
    browser.open(&panel(&uru, &[("g0.expr", "time()"), graph, end]));
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    browser.wait_for_text(".result", "1 series · step 14s");
    let near = browser.wait(drawing);
    browser.click_text("label.check", "from zero");
    browser.wait("location.search.includes('g0.y_axis_min=0')");
    browser.wait(&format!("{drawing} !== {near}"));
    let from_zero = browser.wait(drawing);
    browser.open(&browser.url());
    browser.wait("document.querySelectorAll('.legend button').length === 1");
    browser.wait(&format!("{drawing} === {from_zero}"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_query_is_laid_out_by_the_server_and_not_run() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    write(&browser, "sum by(instance)(rate(up[5m]))");
    browser.press(&[key::ESCAPE]);
    browser.click_text("button", "Format");
    wait_for_query(&browser, "sum by (instance) (rate(up[5m]))");
    assert_eq!(browser.text("tbody tr td.num"), "59");
    write(&browser, "sum(");
    browser.press(&[key::ESCAPE]);
    browser.click_text("button", "Format");
    browser.wait_for_text(".message.error", "parse error");
    wait_for_query(&browser, "sum()");
}

/// What the server lays out has no comments: they were gone for good.
#[test]
fn a_query_that_was_laid_out_can_be_had_back() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.open(&page(&uru, "/graph"));
    write(&browser, "sum(up)/2 # all of them");
    browser.press(&[key::ESCAPE]);
    browser.click_text("button", "Format");
    wait_for_query(&browser, "sum(up) / 2");
    browser.wait("new URLSearchParams(location.search).get('g0.expr') === 'sum(up) / 2'");
    browser.click(".cm-content");
    browser.press(&[key::CONTROL, 'z']);
    wait_for_query(&browser, "sum(up)/2 # all of them");
    browser.wait("new URLSearchParams(location.search).get('g0.expr') === 'sum(up)/2 # all of them'");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// It once put the address of the query in place of that of the page that was shown by then.
#[test]
fn a_query_that_is_laid_out_once_another_page_is_shown_is_forgotten() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    telling(
        &browser,
        "if (url.includes('/format_query')) return new Promise((answer) => {
           window.answer = () => answer(Response.json({ status: 'success', data: 'sum(up)' }));
         });",
    );
    browser.open(&panel(&uru, &[("g0.expr", "sum( up )"), ("g0.tab", "1")]));
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.click_text("button", "Format");
    browser.wait("window.answer !== undefined");
    browser.click_text("nav a", "Alerts");
    browser.wait("document.querySelector('.cm-content') === null");
    let address = browser.url();
    browser.run("answer()");
    // Longer than until what is typed is in the address.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(browser.url(), address);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_view_that_an_address_names_by_number_or_word_is_shown_and_stays_in_it() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    telling(&browser, "if (url.includes('/query')) told.push(new URL(url).pathname.slice('/api/v1/'.length));");
    let views = [
        ("Graph", "0", "query_range", ["0", "graph", "9"]),
        ("Table", "1", "query", ["1", "table", "table"]),
        ("Explain", "2", "query_range_explain", ["2", "explain", "explain"]),
    ];
    for (title, number, asked, tabs) in views {
        for tab in tabs {
            browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", tab)]));
            browser.wait("told.length > 0 && document.querySelector('[aria-busy=true]') === null");
            assert_eq!(browser.texts("[role=tab][aria-selected=true]"), [title], "{tab}");
            assert_eq!(browser.run("return told[0]"), asked, "{tab}");
            browser.click_text("label.check", "de-duplicate");
            browser.wait(&format!("location.search.includes('g0.tab={number}&')"));
        }
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// Waits until so many answers are held; fails when they never are.
fn wait_for_kept(browser: &Browser, count: u64) {
    let kept = || browser.run("return answers.filter((answer) => answer.deref()).length").as_u64();
    let begin = Instant::now();
    loop {
        browser.collect_garbage();
        if kept() == Some(count) {
            return;
        }
        assert!(begin.elapsed() < READY_TIME_MAX, "{:?} answers are held instead of {count}", kept());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn answers_that_are_shown_no_longer_are_let_go() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let (uru, _folder) = all_in_one();
    browser.before_each_page(
        "window.answers = [];
         const read = Response.prototype.json;
         Response.prototype.json = async function () {
           const found = await read.call(this);
           if (this.url.includes('/query')) answers.push(new WeakRef(found.data));
           return found;
         };",
    );
    // Not by clicks of the driver, which would hold what it has clicked.
    let click = |css: &str| browser.run(&format!("document.querySelector(\"{css}\").click()"));
    for tab in ["0", "1"] {
        let mut answers = 1;
        let mut wait = |more: u64| {
            answers += more;
            let is_idle = "document.querySelector('[aria-busy=true]') === null";
            browser.wait(&format!("answers.length === {answers} && {is_idle}"));
        };
        browser.open(&panel(&uru, &[("g0.expr", "up"), ("g0.tab", tab)]));
        wait(0);
        for _ in 0..3 {
            click(".run");
            wait(1);
        }
        wait_for_kept(&browser, 1);
        click("[role=tab][aria-selected=false]");
        wait(1);
        wait_for_kept(&browser, 1);
        click(".choice:last-of-type summary");
        browser.wait("document.querySelectorAll('.choice li button').length > 0");
        click(".choice li button");
        wait(1);
        wait_for_kept(&browser, 1);
        click("[aria-label='Remove panel']");
        wait_for_kept(&browser, 0);
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}
