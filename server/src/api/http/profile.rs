//! `/debug/pprof/profile?seconds=N`: where the process spends its CPU time, as `go tool pprof` reads
//! it: gzipped Protocol Buffers of the schema `perftools.profiles`.
//!
//! A timer over the CPU time of all threads interrupts one that runs, a hundred times a second of it;
//! its stack is noted and named afterwards.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::Query;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{StatusCode, header};
use pprof::{Frames, ProfilerGuardBuilder, Report, Symbol};
use prost::Message;
use serde::Deserialize;

/// Samples for each second of CPU time.
const FREQUENCY: i32 = 100;

/// Nanoseconds of CPU time that a sample stands for.
const PERIOD_NS: i64 = 1_000_000_000 / FREQUENCY as i64;

/// Seconds where the request says none, as in Go.
const SECONDS: u64 = 30;

/// Longest profile.
const SECONDS_MAX: u64 = 600;

/// Libraries in which a thread is not interrupted: to look at a stack there is not safe.
const LEFT_ALONE: [&str; 3] = ["libgcc", "ld-linux", "vdso"];

/// What is below `/debug/pprof/`.
const INDEX: &str = "<html><head><title>/debug/pprof/</title></head><body><p>Profiles:</p><ul>\
    <li><a href=\"profile?seconds=30\">profile</a>: CPU time; give the duration in the parameter seconds, and the \
    file to go tool pprof</li></ul></body></html>\n";

/// Whether a profile is being taken: there is one timer in the process.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

#[derive(Deserialize)]
struct Asked {
    seconds: Option<u64>,
}

/// The routes of profiles.
pub fn routes() -> Router {
    Router::new()
        .route("/debug/pprof/", get(|| async { Html(INDEX) }))
        .route("/debug/pprof/profile", get(|Query(asked): Query<Asked>| take(asked.seconds.unwrap_or(SECONDS))))
}

/// Takes a profile of so many seconds, unless one is being taken.
async fn take(seconds: u64) -> Response {
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return (StatusCode::BAD_REQUEST, format!("seconds must be from 1 to {SECONDS_MAX}\n")).into_response();
    }
    let Some(_turn) = Turn::take() else {
        let why = "Could not enable CPU profiling: cpu profiling already in use\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
    };
    let begin = SystemTime::now();
    let failed = |error: String| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("Could not enable CPU profiling: {error}\n")).into_response()
    };
    let guard = match ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&LEFT_ALONE).build() {
        Ok(guard) => guard,
        Err(error) => return failed(error.to_string()),
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // Names come from the program's debug information, which takes a while to read.
    let written = tokio::task::spawn_blocking(move || {
        let report = guard.report().build().map_err(|error| error.to_string())?;
        drop(guard);
        gzip(&profile(&report, begin).encode_to_vec()).map_err(|error| error.to_string())
    });
    match written.await.map_err(|error| error.to_string()).flatten() {
        Ok(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"profile\""),
            ];
            (headers, bytes).into_response()
        }
        Err(error) => failed(error),
    }
}

/// The only profile's turn; it ends when it is dropped, also when its caller goes away.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!IS_TAKEN.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_TAKEN.store(false, Ordering::Release);
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// A profile on the wire: stacks with their numbers of samples, and tables of what they refer to.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// What the values of samples are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Files that are mapped.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in functions.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Unix nanoseconds of the beginning.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Duration.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What the period is of.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
}

/// A kind of value and its unit, as strings of the table.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ValueType {
    /// Its kind.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Locations, the innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value of each type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What it was met in.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A name and a value, as strings of the table.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Label {
    /// The name.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The value.
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// A file that is mapped. What is known of it is in the profile, so that it need not be at hand.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Mapping {
    /// Its number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Functions have their names.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Functions have their files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Locations have their lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined functions are there.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in a function, and in those that it was inlined into.
#[derive(Clone, PartialEq, Message)]
pub struct Location {
    /// Its number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The file that is mapped there.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Functions, the innermost first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function; its names are strings of the table.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Function {
    /// Its number, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name as the linker knows it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Its file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// The tables of a profile in the making.
#[derive(Default)]
struct Tables {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Vec<(u64, i64)>, u64>,
}

/// The stacks of `report`, which begins at `begin`.
fn profile(report: &Report, begin: SystemTime) -> Profile {
    let mut tables = Tables::default();
    tables.string("");
    let mut value_type = |kind: &str, unit: &str| ValueType { r#type: tables.string(kind), unit: tables.string(unit) };
    let (samples, cpu) = (value_type("samples", "count"), value_type("cpu", "nanoseconds"));
    let program = std::env::current_exe().map_or_else(|_| "uru".into(), |path| path.display().to_string());
    let filename = tables.string(&program);
    tables.profile.mapping.push(Mapping {
        id: 1,
        filename,
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
    });
    for (stack, count) in &report.data {
        tables.add(stack, *count as i64);
    }
    let since = begin.duration_since(UNIX_EPOCH).unwrap_or_default();
    Profile {
        sample_type: vec![samples, cpu],
        time_nanos: since.as_nanos() as i64,
        duration_nanos: report.timing.duration.as_nanos() as i64,
        period_type: Some(cpu),
        period: PERIOD_NS,
        ..tables.profile
    }
}

impl Tables {
    fn add(&mut self, stack: &Frames, count: i64) {
        let location_id = stack.frames.iter().map(|frame| self.location(frame)).collect();
        let label = Label { key: self.string("thread"), str: self.string(&stack.thread_name) };
        self.profile.sample.push(Sample { location_id, value: vec![count, count * PERIOD_NS], label: vec![label] });
    }

    fn location(&mut self, frame: &[Symbol]) -> u64 {
        let lines: Vec<(u64, i64)> =
            frame.iter().map(|symbol| (self.function(symbol), i64::from(symbol.lineno()))).collect();
        if let Some(known) = self.locations.get(&lines) {
            return *known;
        }
        let id = self.locations.len() as u64 + 1;
        let line = lines.iter().map(|(function_id, line)| Line { function_id: *function_id, line: *line }).collect();
        self.profile.location.push(Location { id, mapping_id: 1, line });
        self.locations.insert(lines, id);
        id
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let (system_name, filename) = (self.string(&symbol.sys_name()), self.string(&symbol.filename()));
        if let Some(known) = self.functions.get(&(system_name, filename)) {
            return *known;
        }
        let id = self.functions.len() as u64 + 1;
        let name = self.string(&symbol.name());
        self.profile.function.push(Function { id, name, system_name, filename });
        self.functions.insert((system_name, filename), id);
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        let at = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), at);
        at
    }
}
