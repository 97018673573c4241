//! Parameters of a request: from the address and, of a POST, from its form.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use engine::model::duration::parse_duration;
use engine::model::matcher::Matcher;
use engine::model::{Error, TimeRange};
use engine::promql::syntax;
use engine::select::ShardInfo;
use futures_util::stream;
use http::{HeaderMap, Method, header};
use serde::Deserialize;

use super::Api;
use super::backend::{OnFailure, Scope};
use super::respond::Failure;
use super::tree::narrow_matchers;
use crate::api::grpc::wire::parse_shard;
use crate::edge::certificate::ClientCertificate;
use crate::upkeep::now_ms;

/// Largest form in bytes (`ParseForm` of Go's net/http).
const FORM_BYTES_MAX: usize = 10 << 20;

/// All parameters of a request, of its address and its form.
#[derive(Clone, Debug, Default)]
pub struct Params {
    values: HashMap<String, Vec<String>>,
    headers: HeaderMap,
    certificate: Option<ClientCertificate>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        check_escapes(head.uri.query().unwrap_or_default().as_bytes())?;
        let mut params = Self::of_head(&head);
        if head.method == Method::POST {
            let form = to_bytes(body, FORM_BYTES_MAX).await.map_err(|error| unread(&error))?;
            params.take_form(form).await?;
        }
        Ok(params)
    }
}

fn unread(error: &dyn std::fmt::Display) -> Failure {
    Failure::bad_data(format!("cannot read a form of up to {FORM_BYTES_MAX} bytes: {error}"))
}

/// Refuses a form in which a `%` is no escape: Go would leave the parameter out.
fn check_escapes(form: &[u8]) -> Result<(), Failure> {
    for (at, _) in form.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let escape = &form[at..form.len().min(at + 3)];
        if !matches!(escape, [_, high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            let text = String::from_utf8_lossy(escape);
            return Err(Failure::bad_data(format!("error parsing form values: invalid URL escape {text:?}")));
        }
    }
    Ok(())
}

impl Params {
    /// The parameters of a request whose body is not a form.
    pub fn of_head(head: &http::request::Parts) -> Self {
        let certificate = head.extensions.get::<ClientCertificate>().cloned();
        let mut params = Self { headers: head.headers.clone(), certificate, ..Self::default() };
        params.extend(head.uri.query().unwrap_or_default().as_bytes());
        params
    }

    fn extend(&mut self, form: &[u8]) {
        for (name, value) in form_urlencoded::parse(form) {
            self.push(name.into_owned(), value.into_owned());
        }
    }

    /// Takes the values of a form: before those of the address, and behind them those of several parts, as
    /// Go has it.
    async fn take_form(&mut self, form: Bytes) -> Result<(), Failure> {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if let Some(boundary) = kind.and_then(|kind| multer::parse_boundary(kind).ok()) {
            return self.take_parts(form, boundary).await.map_err(|error| unread(&error));
        }
        check_escapes(&form)?;
        let of_address = std::mem::take(&mut self.values);
        self.extend(&form);
        for (name, values) in of_address {
            self.values.entry(name).or_default().extend(values);
        }
        Ok(())
    }

    async fn take_parts(&mut self, form: Bytes, boundary: String) -> Result<(), multer::Error> {
        let mut parts = multer::Multipart::new(stream::iter([Ok::<_, Infallible>(form)]), boundary);
        while let Some(part) = parts.next_field().await? {
            // Files among them are left out.
            let name = part.name().filter(|_| part.file_name().is_none()).map(str::to_owned);
            let value = part.bytes().await?;
            if let Some(name) = name {
                self.push(name, String::from_utf8_lossy(&value).into_owned());
            }
        }
        Ok(())
    }

    fn push(&mut self, name: String, value: String) {
        self.values.entry(name).or_default().push(value);
    }

    /// The first value of `name`; empty when there is none.
    pub fn first(&self, name: &str) -> &str {
        self.values.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// All values of `name`.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The time called `name` in Unix milliseconds; `fallback` when absent.
    pub fn time(&self, name: &str, fallback: i64) -> Result<i64, Failure> {
        match self.first(name) {
            "" => Ok(fallback),
            text => parsed_time(text).map_err(|why| {
                Failure::bad_data(format!("invalid parameter {name:?}: invalid time value for '{name}': {why}"))
            }),
        }
    }

    /// The same where there is no range without it.
    pub fn required_time(&self, name: &str) -> Result<i64, Failure> {
        let time = parsed_time(self.first(name));
        time.map_err(|why| Failure::bad_data(format!("invalid parameter {name:?}: {why}")))
    }

    /// The duration called `name` in milliseconds; `fallback` when absent.
    pub fn duration(&self, name: &str, fallback: i64) -> Result<i64, Failure> {
        let found = self.parsed_duration(name);
        let failed = |why| Failure::bad_data(format!("invalid parameter {name:?}: {why}"));
        Ok(found.map_err(failed)?.unwrap_or(fallback))
    }

    /// The lookback delta in milliseconds; 0 when absent.
    pub fn lookback(&self) -> Result<i64, Failure> {
        let found = self.parsed_duration("lookback_delta");
        let failed = |why| Failure::bad_data(format!("error parsing lookback delta duration: {why}"));
        Ok(found.map_err(failed)?.unwrap_or(0))
    }

    fn parsed_duration(&self, name: &str) -> Result<Option<i64>, String> {
        match self.first(name) {
            "" => Ok(None),
            text => {
                let parsed = parse_duration_ms(text).map(Some);
                parsed.map_err(|why| format!("cannot parse {text:?} to a valid duration{why}"))
            }
        }
    }

    /// The truth value called `name`; `fallback` when absent.
    pub fn flag(&self, name: &str, fallback: Flag) -> Result<Flag, Failure> {
        match self.first(name) {
            "" => Ok(fallback),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Flag::On),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Flag::Off),
            text => {
                let why = format!("'{name}' parameter: strconv.ParseBool: parsing {text:?}: invalid syntax");
                Err(Failure::bad_data(why))
            }
        }
    }

    /// The number called `limit`; 0 for none.
    pub fn limit(&self) -> Result<usize, Failure> {
        match self.first("limit") {
            "" => Ok(0),
            text => match text.parse::<i64>() {
                Ok(limit) => usize::try_from(limit)
                    .map_err(|_| Failure::bad_data("invalid parameter \"limit\": limit must be non-negative")),
                Err(_) => Err(Failure::bad_data(format!(
                    "invalid parameter \"limit\": strconv.Atoi: parsing {text:?}: invalid syntax"
                ))),
            },
        }
    }

    /// `start` and `end`; without them the last `back`, or all time.
    pub fn range(&self, back: Duration) -> Result<TimeRange, Failure> {
        let now = now_ms();
        match back.is_zero() {
            true => self.range_within(TimeRange::ASKED),
            false => self.range_within(TimeRange::new(now - back.as_millis() as i64, now)),
        }
    }

    /// `start` and `end`; those of `whole` where they are absent.
    pub fn range_within(&self, whole: TimeRange) -> Result<TimeRange, Failure> {
        let range = TimeRange::new(self.time("start", whole.min_time)?, self.time("end", whole.max_time)?);
        if range.max_time < range.min_time {
            return Err(Failure::bad_data("end timestamp must not be before start time"));
        }
        Ok(range)
    }

    /// The tenant of the request.
    pub fn tenant(&self, api: &Api) -> Result<String, Failure> {
        let found = api.settings.tenancy.tenant(&self.headers, self.certificate.as_ref());
        found.map_err(Failure::bad_data)
    }

    /// The selectors of `match[]`, narrowed to the tenant where tenancy is enforced.
    pub fn matchers(&self, api: &Api) -> Result<Vec<Vec<Matcher>>, Failure> {
        let mut sets = selectors(self.all("match[]"), "match[]")?;
        if let Some(tenant) = self.tenant_matcher(api)? {
            if sets.is_empty() {
                sets.push(Vec::new());
            }
            sets.iter_mut().for_each(|set| narrow_matchers(set, &tenant));
        }
        Ok(sets)
    }

    /// The matcher that every selector gets where tenancy is enforced.
    pub fn tenant_matcher(&self, api: &Api) -> Result<Option<Matcher>, Failure> {
        let Some(label) = &api.settings.tenant_label else { return Ok(None) };
        Ok(Some(Matcher::equal(label.as_str(), self.tenant(api)?.as_str())))
    }

    /// The share of the series that a query-frontend wants, which asks for every share by itself.
    fn shard(&self) -> Result<Option<ShardInfo>, Failure> {
        let text = self.first("shard_info");
        if text.is_empty() {
            return Ok(None);
        }
        let parsed: Option<Shard> = serde_json::from_str(text)
            .map_err(|error| Failure::bad_data(format!("could not unmarshal parameter shard_info: {error}")))?;
        let Some(Shard { shard_index, total_shards, by, labels }) = parsed else { return Ok(None) };
        Ok(parse_shard(&proto::thanos::ShardInfo { shard_index, total_shards, by, labels }))
    }

    /// How the request wants its series; automatic downsampling reads data of `auto_resolution_ms`.
    pub fn scope(&self, api: &Api, auto_resolution_ms: i64) -> Result<Scope, Failure> {
        let settings = &api.settings;
        let given = self.all("replicaLabels[]");
        let replica_labels = if given.is_empty() { settings.replica_labels.clone() } else { given.to_vec() };
        let partial = if settings.partial_response { Flag::On } else { Flag::Off };
        let max_resolution_ms = match self.first("max_source_resolution") {
            "auto" => auto_resolution_ms,
            "" if settings.auto_downsampling => auto_resolution_ms,
            _ => self.duration("max_source_resolution", 0)?,
        };
        if max_resolution_ms < 0 {
            let text = "negative 'max_source_resolution' is not accepted. Try a positive integer";
            return Err(Failure::bad_data(text));
        }
        Ok(Scope {
            replica_labels: if self.flag("dedup", Flag::On)? == Flag::On { replica_labels } else { Vec::new() },
            on_failure: match self.flag("partial_response", partial)? {
                Flag::On => OnFailure::Warn,
                Flag::Off => OnFailure::Abort,
            },
            max_resolution_ms,
            store_matchers: selectors(self.all("storeMatch[]"), "storeMatch[]")?,
            shard: self.shard()?,
            tenant: self.tenant(api)?,
        })
    }
}

/// A share of the series as Thanos' query-frontend writes it; what is absent is Go's zero value.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Shard {
    shard_index: i64,
    total_shards: i64,
    by: bool,
    labels: Vec<String>,
}

/// A truth value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// True.
    On,
    /// False.
    Off,
}

fn parsed_time(text: &str) -> Result<i64, String> {
    parse_time(text).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))
}

/// The matchers of each selector of the parameter called `name`.
pub fn selectors(texts: &[String], name: &str) -> Result<Vec<Vec<Matcher>>, Failure> {
    let parse = |text: &String| {
        syntax::parse_match(text)
            .map_err(|error| Failure::bad_data(format!("invalid parameter {name:?}: {}", Error::from(error))))
    };
    texts.iter().map(parse).collect()
}

/// The first and last time of Prometheus' API as Go writes them, which no parser takes for their years.
const BOUNDARIES: [(&str, i64); 2] = [
    ("-292273086-05-16T16:47:06Z", TimeRange::ASKED.min_time),
    ("292277025-08-18T07:12:54.999999999Z", TimeRange::ASKED.max_time),
];

/// Unix milliseconds of a number of seconds or an RFC 3339 time, in the letters that Go takes.
fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let whole = seconds.trunc();
        let fraction = ((seconds - whole) * 1000.0).round();
        let ms = whole * 1000.0 + fraction;
        return (ms.abs() < i64::MAX as f64).then_some(ms as i64);
    }
    if let Some((_, time)) = BOUNDARIES.iter().find(|(boundary, _)| *boundary == text) {
        return Some(*time);
    }
    let text = text.replacen(' ', "+", 1);
    let (separator, second) = (text.get(10..11), text.get(17..19));
    if separator != Some("T") || text.ends_with('z') || second == Some("60") {
        return None;
    }
    let time = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(time.unix_timestamp_nanos().div_euclid(1_000_000) as i64)
}

/// Milliseconds of a number of seconds or a Prometheus duration; otherwise what else is to be said of it.
fn parse_duration_ms(text: &str) -> Result<i64, &'static str> {
    if let Ok(seconds) = text.parse::<f64>() {
        // Upstream counts nanoseconds, and cuts off what is less than one and then less than a millisecond.
        let nanoseconds = seconds * 1e9;
        let fits = nanoseconds.abs() < i64::MAX as f64;
        return if fits { Ok(nanoseconds as i64 / 1_000_000) } else { Err(". It overflows int64") };
    }
    parse_duration(text).map(|duration| duration.as_millis()).map_err(|_| "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1789984800.5"), Some(1_789_984_800_500));
        assert_eq!(parse_time("-1.001"), Some(-1001));
        assert_eq!(parse_time("2026-09-21T10:00:00Z"), Some(1_789_984_800_000));
        assert_eq!(parse_time("2026-09-21T12:00:00.25+02:00"), Some(1_789_984_800_250));
        assert_eq!(parse_time("2026-09-21T12:00:00 02:00"), Some(1_789_984_800_000));
        assert_eq!(parse_time("-292273086-05-16T16:47:06Z"), Some(TimeRange::ASKED.min_time));
        assert_eq!(parse_time("292277025-08-18T07:12:54.999999999Z"), Some(TimeRange::ASKED.max_time));
        for text in ["", "now", "1e400", "2026-09-21"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn times_that_go_does_not_take_are_refused() {
        for text in [
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01_00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01ä00:00:00Z",
            "2016-12-31T23:59:60Z",
        ] {
            assert_eq!(parsed_time(text), Err(format!("cannot parse {text:?} to a valid timestamp")));
        }
    }

    async fn of_form(content_type: &'static str, form: &[u8]) -> Result<Params, Failure> {
        let mut params = Params::default();
        params.headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        params.take_form(Bytes::copy_from_slice(form)).await.map(|()| params)
    }

    #[tokio::test]
    async fn fields_of_several_parts_are_found_and_files_are_left_out() {
        let form = "preamble\r\n--a;b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=\"a b\"\r\n\r\n\
                    up\r\n--a;\r\n--a;b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nfile\r\n\
                    --a;b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--a;b--\r\n";
        let kind = "Multipart/Form-Data; charset=utf-8; boundary=\"a;b\"";
        let params = of_form(kind, form.as_bytes()).await.unwrap();
        assert_eq!((params.all("a b"), params.all("empty")), (&["up\r\n--a;".to_owned()][..], &[String::new()][..]));
        assert_eq!(params.values.len(), 2);
    }

    #[tokio::test]
    async fn other_forms_have_no_parts_and_broken_ones_are_refused() {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=\"a"] {
            assert_eq!(of_form(kind, b"a=up").await.unwrap().first("a"), "up", "{kind}");
        }
        let whole = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nup\r\n--b--";
        let kind = "multipart/form-data; boundary=b";
        assert_eq!(of_form(kind, whole.as_bytes()).await.unwrap().first("a"), "up");
        for len in 0..whole.len() - 2 {
            assert!(of_form(kind, &whole.as_bytes()[..len]).await.is_err(), "{len}");
        }
    }

    #[test]
    fn a_percent_that_is_no_escape_is_refused() {
        for form in ["", "query=1%2B1&x=%ff", "%41"] {
            assert!(check_escapes(form.as_bytes()).is_ok(), "{form}");
        }
        for (form, escape) in [("query=1%zz", "%zz"), ("a=%41%", "%"), ("a=%4", "%4"), ("%4&b=%41", "%4&")] {
            let failure = format!("{:?}", check_escapes(form.as_bytes()).unwrap_err());
            assert!(failure.contains(&format!("invalid URL escape \\\"{escape}\\\"")), "{failure}");
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        assert_eq!(parse_duration_ms("1.5"), Ok(1500));
        // Of 8.402 s a float has less, by less than a nanosecond.
        assert_eq!(["8.402", "16.464", "8.403"].map(parse_duration_ms), [8401, 16_463, 8403].map(Ok));
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("1x"), Err(""));
        for text in ["1e30", "1e300", "-1e30", "Inf"] {
            assert_eq!(parse_duration_ms(text), Err(". It overflows int64"), "{text}");
        }
    }
}
