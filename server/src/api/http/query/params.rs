//! Parameters of a request: from the address and, of a POST, from its form.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::IntErrorKind;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use engine::model::matcher::Matcher;
use engine::model::{Allowance, Error, Reservation, TimeRange};
use engine::promql::syntax::{self, ParseError};
use engine::select::ShardInfo;
use futures_util::stream;
use http::{HeaderMap, Method, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Api;
use super::backend::{OnFailure, Scope};
use super::body::{RequestMemory, collected, hold};
use super::ending::compute;
use super::respond::Failure;
use super::times::{parse_duration_ms, parse_time};
use super::tree::narrow_matchers;
use crate::api::grpc::wire::parse_shard;
use crate::api::http::coding::{Coding, unpack};
use crate::edge::certificate::ClientCertificate;
use crate::upkeep::now_ms;

/// Largest form in bytes (`ParseForm` of Go's net/http).
const FORM_BYTES_MAX: usize = 10 << 20;

/// Most parameters of an address, and of a form (`ParseQuery` of Go's net/url).
const PARAMETERS_MAX: usize = 10_000;

/// Most parts of a form (`ReadForm` of Go's mime/multipart).
const PARTS_MAX: usize = 1000;

/// How often a byte of a form is held: as it comes, with the room beside it, as a value, and as what is made of that.
const FORM_COPIES: usize = 4;

/// Bytes that a parameter takes beside its text: a name of its own, a list, and a value.
const PARAMETER_BYTES: usize = 384;

/// All parameters of a request, of its address and its form.
#[derive(Debug)]
pub struct Params {
    values: BTreeMap<String, Vec<String>>,
    headers: HeaderMap,
    certificate: Option<ClientCertificate>,
    /// Memory of the values.
    held: Reservation,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        let mut params = Self::of_head(&head)?;
        if head.method == Method::POST {
            params.take_form(body).await?;
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

/// How the body of a request is a form.
enum Form {
    /// As an address has parameters.
    Text,
    /// In parts with this boundary between them.
    Parts(String),
}

impl Form {
    /// The form that the headers of a request name; `None` when its body is something else, which is not read.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = String::from_utf8_lossy(headers.get(header::CONTENT_TYPE)?.as_bytes());
        match kind.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Text),
            "multipart/form-data" => multer::parse_boundary(&kind).ok().map(Self::Parts),
            _ => None,
        }
    }
}

impl Params {
    /// The parameters of a request whose body is not a form.
    pub fn of_head(head: &http::request::Parts) -> Result<Self, Failure> {
        let certificate = head.extensions.get::<ClientCertificate>().cloned();
        let held = RequestMemory::of(&head.extensions)?;
        let mut params = Self { values: BTreeMap::new(), headers: head.headers.clone(), certificate, held };
        let own = params.held.split(0);
        params.take_text(head.uri.query().unwrap_or_default().as_bytes(), own)?;
        Ok(params)
    }

    /// Takes the parameters of an address or a form, for which `held` is to answer.
    fn take_text(&mut self, text: &[u8], mut held: Reservation) -> Result<(), Failure> {
        let parameters = 1 + text.iter().filter(|byte| **byte == b'&').count();
        if parameters > PARAMETERS_MAX {
            let why = "number of URL query parameters exceeded limit";
            return Err(Failure::bad_data(format!("error parsing form values: {why}")));
        }
        check_escapes(text)?;
        hold(&mut held, (FORM_COPIES * text.len() + PARAMETER_BYTES * parameters) as u64)?;
        self.held.join(held);
        for (name, value) in form_urlencoded::parse(text) {
            self.push(name.into_owned(), value.into_owned());
        }
        Ok(())
    }

    /// Takes the values of a form: before those of the address, and behind them those of several parts, as
    /// Go has it.
    async fn take_form(&mut self, body: Body) -> Result<(), Failure> {
        let Some(kind) = Form::of(&self.headers) else { return Ok(()) };
        let mut held = self.held.split(0);
        let mut form = collected(body, ("a form", FORM_BYTES_MAX), &mut held).await?;
        if let Some(coding) = Coding::of_request(&self.headers) {
            let unpacked = compute(move |_| {
                let plain = unpack(coding, &form, FORM_BYTES_MAX, &mut held)?;
                Ok((plain, held))
            });
            let (plain, plain_held) = unpacked.await?;
            (form, held) = (Bytes::from(plain), plain_held);
        }
        match kind {
            Form::Parts(boundary) => {
                hold(&mut held, (FORM_COPIES * form.len()) as u64)?;
                self.held.join(held);
                self.take_parts(form, boundary).await
            }
            Form::Text => {
                let of_address = std::mem::take(&mut self.values);
                self.take_text(&form, held)?;
                for (name, values) in of_address {
                    self.values.entry(name).or_default().extend(values);
                }
                Ok(())
            }
        }
    }

    async fn take_parts(&mut self, form: Bytes, boundary: String) -> Result<(), Failure> {
        let mut parts = multer::Multipart::new(stream::iter([Ok::<_, Infallible>(form)]), boundary);
        let mut count = 0;
        while let Some(part) = parts.next_field().await.map_err(|error| unread(&error))? {
            count += 1;
            if count > PARTS_MAX {
                return Err(unread(&format_args!("it has more than {PARTS_MAX} parts")));
            }
            // Files among them are left out.
            let name = part.name().filter(|_| part.file_name().is_none()).map(str::to_owned);
            let value = part.bytes().await.map_err(|error| unread(&error))?;
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
                Err(error) => {
                    let why = match error.kind() {
                        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                        _ => "invalid syntax",
                    };
                    let why = format!("invalid parameter \"limit\": strconv.Atoi: parsing {text:?}: {why}");
                    Err(Failure::bad_data(why))
                }
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
    pub async fn matchers(&self, api: &Api, told: Told) -> Result<Vec<Vec<Matcher>>, Failure> {
        let mut sets = selectors(api, self.all("match[]"), told).await?;
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
        let shard = Shard::parse(text)
            .map_err(|error| Failure::bad_data(format!("could not unmarshal parameter shard_info: {error}")))?;
        Ok(parse_shard(&proto::thanos::ShardInfo {
            shard_index: shard.shard_index.unwrap_or_default(),
            total_shards: shard.total_shards.unwrap_or_default(),
            by: shard.by.unwrap_or_default(),
            labels: shard.labels.unwrap_or_default(),
        }))
    }

    /// Labels that tell replicas apart: those that the request names or the querier knows, unless replicas are to
    /// stay apart.
    pub fn replica_labels(&self, api: &Api) -> Result<Vec<String>, Failure> {
        let given = self.all("replicaLabels[]");
        self.unless_apart(if given.is_empty() { &api.settings.replica_labels } else { given })
    }

    /// `labels`, unless replicas are to stay apart.
    pub fn unless_apart(&self, labels: &[String]) -> Result<Vec<String>, Failure> {
        Ok(match self.flag("dedup", Flag::On)? {
            Flag::On => labels.to_vec(),
            Flag::Off => Vec::new(),
        })
    }

    /// What to do when an endpoint fails, `by_default` where the request does not say it.
    pub fn on_failure(&self, by_default: OnFailure) -> Result<OnFailure, Failure> {
        let fallback = if by_default == OnFailure::Warn { Flag::On } else { Flag::Off };
        Ok(match self.flag("partial_response", fallback)? {
            Flag::On => OnFailure::Warn,
            Flag::Off => OnFailure::Abort,
        })
    }

    fn max_resolution_ms(&self, api: &Api, auto_resolution_ms: i64) -> Result<i64, Failure> {
        let max_resolution_ms = match self.first("max_source_resolution") {
            "auto" => auto_resolution_ms,
            "" if api.settings.auto_downsampling => auto_resolution_ms,
            _ => self.duration("max_source_resolution", 0)?,
        };
        if max_resolution_ms < 0 {
            let text = "negative 'max_source_resolution' is not accepted. Try a positive integer";
            return Err(Failure::bad_data(text));
        }
        Ok(max_resolution_ms)
    }

    /// How a query wants its series; automatic downsampling reads data of `auto_resolution_ms`.
    pub async fn scope(&self, api: &Api, auto_resolution_ms: i64) -> Result<Scope, Failure> {
        Ok(Scope {
            max_resolution_ms: self.max_resolution_ms(api, auto_resolution_ms)?,
            shard: self.shard()?,
            ..self.series_scope(api).await?
        })
    }

    /// How a request for series without samples wants them.
    pub async fn series_scope(&self, api: &Api) -> Result<Scope, Failure> {
        Ok(Scope { replica_labels: self.replica_labels(api)?, ..self.labels_scope(api).await? })
    }

    /// How a request for names or values of labels wants them: those that there are, labels of replicas among them, as
    /// in Thanos.
    pub async fn labels_scope(&self, api: &Api) -> Result<Scope, Failure> {
        let store_matchers = selectors(api, self.all("storeMatch[]"), Told::Bare).await?;
        let on_failure = self.on_failure(api.settings.on_failure.queries)?;
        Ok(Scope { store_matchers, ..self.plain_scope(api, on_failure)? })
    }

    /// The scope of a request that can't say how it wants what it asks for.
    pub fn plain_scope(&self, api: &Api, on_failure: OnFailure) -> Result<Scope, Failure> {
        Ok(Scope {
            replica_labels: Vec::new(),
            on_failure,
            max_resolution_ms: 0,
            store_matchers: Vec::new(),
            shard: None,
            tenant: self.tenant(api)?,
        })
    }
}

/// A share of the series as Thanos' query-frontend writes it; what is absent or null is Go's zero value.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Shard {
    shard_index: Option<i64>,
    total_shards: Option<i64>,
    by: Option<bool>,
    labels: Option<Vec<String>>,
}

impl Shard {
    /// The share that `text`, an object or null, says, whose names may be written in any letters.
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let said: Option<Map<String, Value>> = serde_json::from_str(text)?;
        let fields = said.unwrap_or_default().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        serde_json::from_value(Value::Object(fields.collect()))
    }
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

/// How a parameter that is not understood is told: Prometheus names it to some requests, and not to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// With its name.
    Named(&'static str),
    /// What is wrong alone.
    Bare,
}

impl Told {
    /// What is wrong with the parameter, or that there is no room for it.
    pub fn failure(self, error: ParseError) -> Failure {
        let error = Error::from(error);
        match self {
            Self::Named(name) => error.within(format_args!("invalid parameter {name:?}")).into(),
            Self::Bare => error.into(),
        }
    }
}

/// The matchers of each of the selectors `texts`, which are of one parameter.
pub async fn selectors(api: &Api, texts: &[String], told: Told) -> Result<Vec<Vec<Matcher>>, Failure> {
    let parse = move |texts: &[String], allowance: &mut Allowance| {
        let parse = |text: &String| syntax::parse_match(text, allowance).map_err(|error| told.failure(error));
        texts.iter().map(parse).collect::<Result<Vec<_>, Failure>>()
    };
    api.parsing.parse(texts, &mut api.parsing.allowance(), parse).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::model::Budget;

    use super::*;

    fn request(content_type: &str) -> http::request::Builder {
        Request::builder().method(Method::POST).header(header::CONTENT_TYPE, content_type)
    }

    async fn of_form(content_type: &str, form: &[u8]) -> Result<Params, Failure> {
        Params::from_request(request(content_type).body(Body::from(form.to_vec())).unwrap(), &()).await
    }

    fn why<T>(refused: Result<T, Failure>) -> String {
        format!("{:?}", refused.map(|_| ()).unwrap_err())
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
    async fn forms_that_are_broken_or_have_too_many_parts_are_refused() {
        let whole = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nup\r\n--b--";
        let kind = "multipart/form-data; boundary=b";
        assert_eq!(of_form(kind, whole.as_bytes()).await.unwrap().first("a"), "up");
        for len in 0..whole.len() - 2 {
            assert!(of_form(kind, &whole.as_bytes()[..len]).await.is_err(), "{len}");
        }
        let many = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".repeat(PARTS_MAX + 1);
        let refused = why(of_form(kind, format!("{many}--b--").as_bytes()).await);
        assert!(refused.contains("it has more than 1000 parts"), "{refused}");
    }

    #[tokio::test]
    async fn a_body_is_a_form_where_its_type_says_so() {
        for (kind, found) in [
            ("application/x-www-form-urlencoded", "form"),
            (" Application/X-WWW-Form-URLEncoded ; charset=utf-8", "form"),
            ("", "address"),
            ("bad/;;", "address"),
            ("text/plain", "address"),
            ("application/json", "address"),
            ("multipart/form-data", "address"),
            ("multipart/form-data; boundary=\"a", "address"),
        ] {
            let request = request(kind).uri("/?a=address").body(Body::from("a=form")).unwrap();
            assert_eq!(Params::from_request(request, &()).await.unwrap().first("a"), found, "{kind:?}");
        }
        let untyped = Request::builder().method(Method::POST).uri("/?a=address").body(Body::from("a=form")).unwrap();
        assert_eq!(Params::from_request(untyped, &()).await.unwrap().all("a"), ["address"]);
        let both = request("application/x-www-form-urlencoded").uri("/?a=address").body(Body::from("a=form")).unwrap();
        assert_eq!(Params::from_request(both, &()).await.unwrap().all("a"), ["form", "address"]);
        assert!(of_form("application/json", b"{\"query\":\"100%\"}").await.is_ok(), "what is no form is not read");
    }

    #[tokio::test]
    async fn as_many_parameters_are_taken_as_go_takes() {
        let kind = "application/x-www-form-urlencoded";
        let form = |count: usize| vec!["a=b"; count].join("&");
        assert_eq!(of_form(kind, form(PARAMETERS_MAX).as_bytes()).await.unwrap().all("a").len(), PARAMETERS_MAX);
        let refused = why(of_form(kind, form(PARAMETERS_MAX + 1).as_bytes()).await);
        let said = "error parsing form values: number of URL query parameters exceeded limit";
        assert!(refused.contains(said), "{refused}");
        let address = format!("/?{}", "&".repeat(PARAMETERS_MAX));
        let refused =
            why(Params::from_request(Request::builder().uri(address).body(Body::empty()).unwrap(), &()).await);
        assert!(refused.contains(said), "{refused}");
    }

    #[tokio::test]
    async fn forms_are_accounted_for_while_their_requests_last() {
        let memory = Budget::new("--query.memory-limit", 8 << 20);
        let take = async |form: Vec<u8>, coding: &str| {
            let request = request("application/x-www-form-urlencoded").header(header::CONTENT_ENCODING, coding);
            let request = request.extension(RequestMemory(Arc::clone(&memory))).body(Body::from(form)).unwrap();
            Params::from_request(request, &()).await
        };
        let form = |bytes: usize| format!("query={}", "1".repeat(bytes)).into_bytes();
        let small = take(form(1000), "").await.unwrap();
        assert_eq!((small.first("query").len(), memory.usage().used), (1000, 0));
        let large = take(form(1 << 20), "").await.unwrap();
        assert_eq!(memory.usage().used, ((FORM_COPIES * ((1 << 20) + 6)) + PARAMETER_BYTES) as u64);
        assert!(why(take(form(2 << 20), "").await).contains("--query.memory-limit"));
        drop(large);
        assert_eq!(memory.usage().used, 0);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &form(9 << 20)).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(why(take(bomb, "gzip").await).contains("--query.memory-limit"));
        assert_eq!(memory.usage().used, 0);
    }

    #[tokio::test]
    async fn packed_forms_are_no_larger_than_others() {
        let take = async |bytes: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, format!("a={}", "b".repeat(bytes)).as_bytes()).unwrap();
            let body = Body::from(encoder.finish().unwrap());
            let request = request("application/x-www-form-urlencoded").header(header::CONTENT_ENCODING, "gzip");
            Params::from_request(request.body(body).unwrap(), &()).await
        };
        assert_eq!(take(5 << 20).await.unwrap().first("a").len(), 5 << 20);
        let refused = why(take(FORM_BYTES_MAX).await);
        assert!(refused.contains("it is larger than 10485760 bytes"), "{refused}");
    }

    #[tokio::test]
    async fn a_limit_that_is_none_is_refused_in_the_words_of_go() {
        for (limit, words) in [("99999999999999999999", "value out of range"), ("1.5", "invalid syntax")] {
            let request = Request::builder().uri(format!("/?limit={limit}")).body(Body::empty()).unwrap();
            let refused = why(Params::from_request(request, &()).await.unwrap().limit());
            assert!(refused.contains(words), "{refused}");
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
    fn a_share_is_what_go_reads_of_it() {
        let read = |text: &str| Shard::parse(text).ok().map(|shard| (shard.shard_index, shard.labels));
        for text in ["null", "{}", "{\"labels\":null}", "{\"total_shards\":null,\"other\":[]}"] {
            assert_eq!(read(text), Some((None, None)), "{text}");
        }
        let named = "{\"Shard_Index\":1,\"shard_index\":2,\"labels\":[\"a\"]}";
        assert_eq!(read(named), Some((Some(2), Some(vec!["a".to_owned()]))));
        for text in ["[]", "1", "\"x\"", "{", "{\"shard_index\":1.0}", "{\"by\":1}", "{\"labels\":{}}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
