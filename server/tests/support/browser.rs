//! A headless Chromium that tests drive as a person would: it opens pages, clicks, types, drags, and
//! says what is shown. Spoken to through chromedriver, WebDriver over plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// Longest time that [`Browser::wait`] waits for a page.
const WAIT_MS_MAX: u64 = 30_000;

/// How Chromium is started: nothing of it may reach outside of this machine.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The key under which WebDriver names elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys without a character, as WebDriver writes them.
pub mod key {
    /// Enter.
    pub const ENTER: char = '\u{e007}';
    /// Tab.
    pub const TAB: char = '\u{e004}';
    /// Escape.
    pub const ESCAPE: char = '\u{e00c}';
    /// Shift, held until the end of the keys.
    pub const SHIFT: char = '\u{e008}';
    /// Control, held until the end of the keys.
    pub const CONTROL: char = '\u{e009}';
    /// Home.
    pub const HOME: char = '\u{e011}';
    /// Arrow down.
    pub const DOWN: char = '\u{e015}';
    /// Arrow right.
    pub const RIGHT: char = '\u{e014}';
    /// Backspace.
    pub const BACKSPACE: char = '\u{e003}';
}

/// What a browser looks like to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// A window of 1280 by 900.
    Desktop,
    /// A telephone of 390 by 844, touched.
    Phone,
}

/// A running browser with one window, ended when dropped.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser whose clock is five and a half hours ahead of UTC; `None`, said loudly, where chromedriver
    /// isn't installed. With URU_REQUIRE_ALL=1 its absence is a failure.
    pub fn start(screen: Screen) -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .env("TZ", "Asia/Kolkata")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match started {
            Ok(driver) => driver,
            Err(error) => {
                assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "chromedriver is required: {error}");
                eprintln!("SKIPPED: chromedriver cannot be started: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let profile = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", port.expect("chromedriver says its port"));
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", browser._profile.path().display()));
        flags.push("--window-size=1280,900".to_owned());
        let mut options = json!({ "args": flags });
        if screen == Screen::Phone {
            let metrics = json!({ "width": 390, "height": 844, "pixelRatio": 2.0, "touch": true, "mobile": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": WAIT_MS_MAX + 5_000 },
        }}});
        let session = browser.call("POST", "", &wanted).unwrap_or_else(|error| panic!("no session: {error}"));
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.told("POST", "url", &json!({ "url": url }));
    }

    /// Goes back to where the browser was before.
    pub fn back(&self) {
        self.told("POST", "back", &json!({}));
    }

    /// Runs a script in every page that is opened from now on, before anything of the page runs.
    pub fn before_each_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Frees all memory that nothing in the page refers to.
    pub fn collect_garbage(&self) {
        self.devtools("HeapProfiler.collectGarbage", json!({}));
    }

    /// The address of the page.
    pub fn url(&self) -> String {
        self.told("GET", "url", &Value::Null).as_str().unwrap().to_owned()
    }

    /// What a function body returns in the page.
    pub fn run(&self, body: &str) -> Value {
        self.told("POST", "execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Waits until the expression is true in the page; fails with what the page shows when it never is.
    pub fn wait(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0], end = Date.now() + {WAIT_MS_MAX};
             const look = () => {{
               let found = null, wrong = null;
               try {{ found = ({expression}); }} catch (error) {{ wrong = String(error); }}
               if (found || Date.now() > end) done([found, wrong]); else setTimeout(look, 20);
             }};
             look();"
        );
        let answer = self.told("POST", "execute/async", &json!({ "script": script, "args": [] }));
        let is_true = !matches!(&answer[0], Value::Null | Value::Bool(false)) && answer[0] != 0 && answer[0] != "";
        assert!(is_true, "never came true: {expression} ({})\n{}", answer[1], self.text("body"));
        answer[0].clone()
    }

    /// Waits until an element that `css` selects shows `text`.
    pub fn wait_for_text(&self, css: &str, text: &str) {
        let (css, text) = (json!(css), json!(text));
        self.wait(&format!("[...document.querySelectorAll({css})].some((found) => found.innerText.includes({text}))"));
    }

    /// What the first element that `css` selects shows.
    pub fn text(&self, css: &str) -> String {
        let found = self.run(&format!("return document.querySelector({})?.innerText", json!(css)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// What all elements that `css` selects show.
    pub fn texts(&self, css: &str) -> Vec<String> {
        let found = self.run(&format!("return [...document.querySelectorAll({})].map((e) => e.innerText)", json!(css)));
        found.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// How many elements `css` selects.
    pub fn count(&self, css: &str) -> u64 {
        self.run(&format!("return document.querySelectorAll({}).length", json!(css))).as_u64().unwrap()
    }

    /// Clicks the middle of the first element that `css` selects, once it is there.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.told("POST", &format!("element/{element}/click"), &json!({}));
    }

    /// Clicks the first button, link or choice below `css` that shows `text`, once it is there.
    pub fn click_text(&self, css: &str, text: &str) {
        let (all, text) = (json!(css), json!(text));
        let which = format!("[...document.querySelectorAll({all})].find((e) => e.innerText.trim() === {text})");
        self.wait(&format!("{which} !== undefined"));
        self.run(&format!("const found = {which}; found.setAttribute('data-test-click', ''); return true"));
        self.click("[data-test-click]");
        self.run("document.querySelectorAll('[data-test-click]').forEach((e) => e.removeAttribute('data-test-click'))");
    }

    /// Types into the first element that `css` selects, after what is there.
    pub fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.told("POST", &format!("element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys one after the other, wherever the focus is; those of [`key`] that are held down
    /// are let go at the end.
    pub fn press(&self, keys: &[char]) {
        let held = |key: &char| [key::SHIFT, key::CONTROL].contains(key);
        let down = |key: &char| json!({ "type": "keyDown", "value": key.to_string() });
        let up = |key: &char| json!({ "type": "keyUp", "value": key.to_string() });
        let mut actions = Vec::new();
        for key in keys {
            actions.push(down(key));
            if !held(key) {
                actions.push(up(key));
            }
        }
        actions.extend(keys.iter().filter(|key| held(key)).map(up));
        self.perform(&json!({ "type": "key", "id": "keyboard", "actions": actions }));
    }

    /// Drags the mouse across the first element that `css` selects, between two shares of its width, at half of
    /// its height.
    pub fn drag(&self, css: &str, from: f64, to: f64) {
        self.draw("mouse", css, [(from, 0.5), (to, 0.5)]);
    }

    /// Moves a finger over the first element that `css` selects, between two places that are shares of its width and
    /// of its height.
    pub fn swipe(&self, css: &str, from: (f64, f64), to: (f64, f64)) {
        self.draw("touch", css, [from, to]);
    }

    /// Presses the pointer at the first place, moves it to the second and lifts it there.
    fn draw(&self, pointer: &str, css: &str, [from, to]: [(f64, f64); 2]) {
        self.element(css);
        let place = self.run(&format!(
            "const box = document.querySelector({}).getBoundingClientRect();
             return [box.left, box.top, box.width, box.height]",
            json!(css)
        ));
        let [left, top, width, height] = [0, 1, 2, 3].map(|at| place[at].as_f64().unwrap());
        let go = |(across, down): (f64, f64), ms: u64| {
            let (x, y) = ((left + across * width).round() as i64, (top + down * height).round() as i64);
            json!({ "type": "pointerMove", "duration": ms, "origin": "viewport", "x": x, "y": y })
        };
        let actions = [
            go(from, 0),
            json!({ "type": "pointerDown", "button": 0 }),
            go(((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0), 50),
            go(to, 50),
            json!({ "type": "pointerUp", "button": 0 }),
        ];
        let parameters = json!({ "pointerType": pointer });
        self.perform(&json!({ "type": "pointer", "id": pointer, "parameters": parameters, "actions": actions }));
    }

    /// Moves the pointer to the middle of the first element that `css` selects, once it is there.
    pub fn point_at(&self, css: &str) {
        let element = self.element(css);
        let actions = [json!({ "type": "pointerMove", "origin": { ELEMENT: element }, "x": 0, "y": 0 })];
        self.perform(&json!({ "type": "pointer", "id": "mouse", "actions": actions }));
    }

    /// Clicks the first element that `css` selects while Control is held.
    pub fn control_click(&self, css: &str) {
        let element = self.element(css);
        let pause = || json!({ "type": "pause" });
        let (down, up) = ("keyDown", "keyUp");
        let of_key = |kind: &str| json!({ "type": kind, "value": key::CONTROL.to_string() });
        let keys = json!({ "type": "key", "id": "keyboard", "actions":
            [pause(), of_key(down), pause(), pause(), of_key(up)] });
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": [
            { "type": "pointerMove", "origin": { ELEMENT: element }, "x": 0, "y": 0 },
            pause(),
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
            pause(),
        ]});
        self.told("POST", "actions", &json!({ "actions": [keys, mouse] }));
    }

    /// Answers the question that the page asks in a dialogue: yes.
    pub fn accept(&self) {
        self.told("POST", "alert/accept", &json!({}));
    }

    /// Errors that the page has written to the console since the last call.
    pub fn errors(&self) -> Vec<String> {
        let entries = self.told("POST", "se/log", &json!({ "type": "browser" }));
        let severe = entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn element(&self, css: &str) -> String {
        self.wait(&format!("document.querySelector({}) !== null", json!(css)));
        let found = self.told("POST", "element", &json!({ "using": "css selector", "value": css }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn devtools(&self, command: &str, parameters: Value) {
        self.told("POST", "goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    fn perform(&self, source: &Value) {
        self.told("POST", "actions", &json!({ "actions": [source] }));
    }

    fn told(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, &format!("/{}/{path}", self.session), body);
        answer.unwrap_or_else(|error| panic!("{method} {path} {body}: {error}"))
    }

    /// One command; the error that chromedriver gives, in its words.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        let patience = std::time::Duration::from_millis(WAIT_MS_MAX + 10_000);
        stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        let head = format!(
            "{method} /session{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).map_err(|error| error.to_string())?;
        // The connection stays open after the answer, whatever it was asked for.
        let mut answer = BufReader::new(stream);
        let (mut head, mut len) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            let read = answer.read_line(&mut head).map_err(|error| error.to_string())?;
            if let Some(text) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
                len = text.trim().parse().map_err(|_| format!("no length: {text}"))?;
            }
            if read == 0 {
                return Err(format!("half an answer: {head}"));
            }
        }
        let mut body = vec![0; len];
        answer.read_exact(&mut body).map_err(|error| error.to_string())?;
        let mut body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(body["value"]["message"].to_string());
        }
        Ok(body["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.session.is_empty() {
            eprintln!("{}", self.call("GET", &format!("/{}/url", self.session), &Value::Null).unwrap_or_default());
        }
        // The window first: without its driver it would stay.
        let _ = self.call("DELETE", &format!("/{}", self.session), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
