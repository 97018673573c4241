//! Log lines, one for each event, in logfmt or JSON, as Thanos writes them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::cli::parse::format_rfc3339;

/// Where requests to object stores are tried again: what fails in the end has taken seconds by then.
const RETRIES: &str = "object_store::client::retry";

/// Shortest time between two lines about requests that are tried again.
const RETRIES_PAUSE: Duration = Duration::from_secs(1);

/// Where the cache on disk tells of each batch of pages that it can't write or read.
const CACHE: &str = "foyer";

/// Shortest time between two lines of one place in it.
const CACHE_PAUSE: Duration = Duration::from_secs(60);

/// What errors of libraries write before where they come from. To find the names of that takes hundreds of megabytes.
const BACKTRACE: &str = "Backtrace:\n";

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ts=… caller=… level=… msg=… key=value`.
    Logfmt,
    /// The same fields as a JSON object.
    Json,
}

/// Sends every event of at least `level` to standard error. `level` and `format` are words that the
/// command line knows.
pub fn start(level: &str, format: &str) {
    let filter = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    let format = if format == "json" { Format::Json } else { Format::Logfmt };
    let subscriber = tracing_subscriber::registry().with(Lines::new(format).with_filter(Ours(filter)));
    // A second start in one process keeps the first; tests do that.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Our events from `0` on, and retries; those of libraries only when they are at least warnings.
struct Ours(LevelFilter);

impl<S: Subscriber> tracing_subscriber::layer::Filter<S> for Ours {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: &Context<'_, S>) -> bool {
        let target = metadata.target();
        let ours = target.starts_with("server") || target.starts_with("uru") || target == RETRIES;
        *metadata.level() <= if ours { self.0 } else { self.0.min(LevelFilter::WARN) }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }
}

/// A line of the source: its module and number.
type Place = (&'static str, Option<u32>);

struct Lines {
    format: Format,
    /// When a request that is tried again was last told of.
    retried: Mutex<Option<Instant>>,
    /// When each place in the cache on disk last told something.
    cached: Mutex<BTreeMap<Place, Instant>>,
}

impl Lines {
    fn new(format: Format) -> Self {
        Self { format, retried: Mutex::default(), cached: Mutex::default() }
    }

    /// Whether a line says what the cache on disk tells at `place`: now and then while it does.
    fn tells_of_cache(&self, place: Place, now: Instant) -> bool {
        let mut last = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = last.get(&place).is_none_or(|last| now - *last >= CACHE_PAUSE);
        if is_told {
            last.insert(place, now);
        }
        is_told
    }

    /// Whether a line says that a request is tried again: the first time, and now and then while many are.
    fn tells_retry(&self, message: &str, now: Instant) -> bool {
        let mut last = self.retried.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = message.contains("retry 1 of") && last.is_none_or(|last| now - last >= RETRIES_PAUSE);
        if is_told {
            *last = Some(now);
        }
        is_told
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let place = (metadata.target(), metadata.line());
        if place.0.starts_with(CACHE) && !self.tells_of_cache(place, Instant::now()) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if metadata.target() == RETRIES && !self.tells_retry(&fields.message, Instant::now()) {
            return;
        }
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or("");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let head = [
            ("ts", format_rfc3339(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))),
            ("caller", format!("{file}:{}", metadata.line().unwrap_or(0))),
            ("level", metadata.level().as_str().to_ascii_lowercase()),
            ("msg", fields.message),
        ];
        let all = head.iter().map(|(key, value)| (*key, value.as_str()));
        let all = all.chain(fields.pairs.iter().map(|(key, value)| (*key, value.as_str())));
        let line = match self.format {
            Format::Logfmt => logfmt(all),
            Format::Json => json(all),
        };
        // A log that can't be written has nowhere else to go.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Text::default();
        // It ends early where a backtrace begins.
        let text = match write!(text, "{value:?}") {
            Ok(()) => text.0.as_str(),
            Err(_) => text.0.trim_end(),
        };
        self.record_str(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.pairs.push((name, value.to_owned())),
        }
    }
}

/// What a value writes, up to a backtrace.
#[derive(Default)]
struct Text(String);

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if part == BACKTRACE {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

fn logfmt<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut line = String::new();
    for (key, value) in fields {
        let space = if line.is_empty() { "" } else { " " };
        let plain = !value.is_empty() && value.chars().all(|c| c > ' ' && c != '=' && c != '"' && c != '\u{7f}');
        // Writing to a string can't fail.
        let _ = if plain { write!(line, "{space}{key}={value}") } else { write!(line, "{space}{key}={value:?}") };
    }
    line.push('\n');
    line
}

fn json<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let object: serde_json::Map<_, _> = fields.map(|(key, value)| (key.to_owned(), value.into())).collect();
    format!("{}\n", serde_json::Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_spaces_or_quotes_are_quoted() {
        let line = logfmt([("level", "info"), ("msg", "a \"b\""), ("empty", "")].into_iter());
        assert_eq!(line, "level=info msg=\"a \\\"b\\\"\" empty=\"\"\n");
    }

    #[test]
    fn of_requests_that_are_tried_again_the_first_tries_are_told_now_and_then() {
        let lines = Lines::new(Format::Logfmt);
        let begin = Instant::now();
        let tells = |retry: usize, ms: u64| {
            let message = format!("Encountered server error with status 503, backing off, retry {retry} of 9");
            lines.tells_retry(&message, begin + Duration::from_millis(ms))
        };
        assert_eq!(
            [(1, 0), (2, 200), (1, 300), (9, 2000), (1, 2000)].map(|(retry, ms)| tells(retry, ms)),
            [true, false, false, false, true]
        );
    }

    #[test]
    fn what_the_cache_on_disk_can_not_do_is_told_once_a_minute_for_each_place() {
        let lines = Lines::new(Format::Logfmt);
        let begin = Instant::now();
        let tells = |line: u32, seconds: u64| {
            lines.tells_of_cache(("foyer_storage", Some(line)), begin + Duration::from_secs(seconds))
        };
        assert_eq!(
            [(1, 0), (1, 1), (2, 1), (1, 59), (1, 60), (2, 60), (2, 61)].map(|(line, seconds)| tells(line, seconds)),
            [true, false, true, false, true, false, true]
        );
    }

    #[test]
    fn a_value_is_written_without_its_backtrace_which_is_not_even_looked_up() {
        struct Failed;
        impl fmt::Debug for Failed {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                writeln!(f, "no space left\n")?;
                writeln!(f, "Backtrace:")?;
                panic!("names are looked up")
            }
        }
        let mut text = Text::default();
        assert!(write!(text, "{:?}", Err::<(), _>(Failed)).is_err());
        assert_eq!(text.0.trim_end(), "Err(no space left");
    }
}
