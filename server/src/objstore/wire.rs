//! The HTTP of an S3 client, with what its library leaves out: headers of uploads that it has no name for, the time
//! that uploads need, listings that hold keys which it can't take, and answers that don't tell their length.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path;

/// Carries the digest of what is sent.
const DIGEST: &str = "x-amz-content-sha256";

/// The digest of what is not hashed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Where AWS says in which region a bucket lies.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Bytes that go in a second at least: an upload has the time for as many, and that for the answer besides.
const UPLOAD_RATE_MIN: u64 = 64 << 10;

/// Longest answer that doesn't tell its length: it is read before it is given on.
const UNMEASURED_BYTES_MAX: usize = 64 << 20;

/// Makes the HTTP clients of a bucket.
#[derive(Debug)]
pub(super) struct Connector {
    /// Headers that every object is uploaded with.
    pub uploads: HeaderMap,
    /// Signs the uploads that carry them.
    pub credentials: AwsCredentialProvider,
    /// The region that requests are signed for.
    pub region: String,
    /// How long an answer may take once all is sent; none for as long as it takes.
    pub answer_time: Option<Duration>,
    /// After how long the client does not try an operation again; none where it never does.
    pub retry_time: Option<Duration>,
}

#[derive(Debug)]
struct Wire {
    client: HttpClient,
    /// For uploads: it waits for answers as long as it takes.
    patient: HttpClient,
    answer_time: Option<Duration>,
    retry_time: Option<Duration>,
    uploads: HeaderMap,
    credentials: AwsCredentialProvider,
    region: String,
    has_told: AtomicBool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let patient = options.clone().with_read_timeout_disabled();
        let made = |options: &ClientOptions| ReqwestConnector::default().connect(options);
        Ok(HttpClient::new(self.over(made(options)?, made(&patient)?)))
    }
}

impl Connector {
    fn over(&self, client: HttpClient, patient: HttpClient) -> Wire {
        Wire {
            client,
            patient,
            answer_time: self.answer_time,
            retry_time: self.retry_time,
            uploads: self.uploads.clone(),
            credentials: AwsCredentialProvider::clone(&self.credentials),
            region: self.region.clone(),
            has_told: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_reading = request.method() == Method::GET;
        let is_listing = is_reading && has_parameter(&request, "list-type");
        if !self.uploads.is_empty() && begins_object(&request) {
            self.add_headers(&mut request).await?;
        }
        let token = parameter(&request, "continuation-token").filter(|_| is_listing);
        let is_upload = request.method() == Method::PUT && request.body().content_length() > 0;
        let response = if is_upload { self.upload(request).await } else { self.client.execute(request).await }?;
        self.check_region(&response)?;
        if !is_reading || !response.status().is_success() {
            return Ok(response);
        }
        if is_listing { self.readable(response, token.as_deref()).await } else { measured(response).await }
    }
}

impl Wire {
    /// Sends what has a body; once more where that took so long that the client would not try it again.
    async fn upload(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut again, begin) = (request.clone(), Instant::now());
        let sent = self.upload_once(request).await;
        let may_pass = match &sent {
            Ok(response) => response.status().is_server_error(),
            Err(error) => !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown),
        };
        if !may_pass || self.retry_time.is_none_or(|time| begin.elapsed() < time) {
            return sent;
        }
        tracing::info!("an upload to the bucket failed after a long time, trying it once more");
        // The first signature may be too old by now.
        self.sign(&mut again).await?;
        self.upload_once(again).await
    }

    /// Sends what has a body, and waits as long for the answer as the bytes may need on their way and the answer then.
    async fn upload_once(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(answer_time) = self.answer_time else { return self.patient.execute(request).await };
        let len = request.body().content_length() as u64;
        let within = answer_time + Duration::from_millis(len.saturating_mul(1000) / UPLOAD_RATE_MIN);
        let sent = async {
            let (parts, body) = self.patient.execute(request).await?.into_parts();
            Ok::<_, HttpError>(HttpResponse::from_parts(parts, body.bytes().await?.into()))
        };
        tokio::time::timeout(within, sent).await.unwrap_or_else(|_| {
            let why = format!("{len} bytes were not sent and answered within {within:?}");
            Err(HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, why)))
        })
    }

    /// Adds the headers of uploads, and signs anew.
    async fn add_headers(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        request.headers_mut().extend(self.uploads.clone());
        self.sign(request).await
    }

    /// Signs anew what is signed.
    async fn sign(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        if !request.headers().contains_key(AUTHORIZATION) {
            return Ok(());
        }
        let failed = |error: object_store::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let credential = self.credentials.get_credential().await.map_err(failed)?;
        let digest = request.headers().get(DIGEST).and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        let bytes = digest.as_deref().and_then(unhexed);
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(digest.is_none_or(|digest| digest != UNSIGNED));
        authorizer.try_authorize(request, bytes.as_deref()).map_err(failed)
    }

    /// An answer that names another region than the configured one is an error that names both.
    fn check_region(&self, response: &HttpResponse) -> Result<(), HttpError> {
        let refused = [StatusCode::MOVED_PERMANENTLY, StatusCode::TEMPORARY_REDIRECT, StatusCode::BAD_REQUEST];
        let named = response.headers().get(BUCKET_REGION).and_then(|region| region.to_str().ok());
        let Some(region) = named.filter(|region| *region != self.region && refused.contains(&response.status())) else {
            return Ok(());
        };
        Err(invalid(format!("the bucket lies in region {region}, not in {}: give it as config.region", self.region)))
    }

    /// The page of a listing that was asked for with `token`, without the objects whose keys the client can't take, as
    /// one of them would fail all of it.
    async fn readable(&self, response: HttpResponse, token: Option<&str>) -> Result<HttpResponse, HttpError> {
        let (parts, body) = response.into_parts();
        let bytes = body.bytes().await?;
        let Ok(page) = std::str::from_utf8(&bytes) else { return Ok(HttpResponse::from_parts(parts, bytes.into())) };
        if is_cut_off(page) {
            return Err(invalid("a listing says that it goes on, and not where (no NextContinuationToken)".to_owned()));
        }
        let next = text_of(page, "NextContinuationToken").map(unescaped);
        if next.is_some() && next.as_deref() == token {
            let why = "a listing goes on where it was (its NextContinuationToken is that of the page before), for ever";
            return Err(invalid(why.to_owned()));
        }
        let (kept, odd) = without_odd_keys(page);
        let Some(key) = odd.first() else { return Ok(HttpResponse::from_parts(parts, bytes.into())) };
        if !self.has_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(key, "the bucket holds objects whose keys no block can have: they are passed over");
        }
        Ok(HttpResponse::from_parts(parts, kept.into()))
    }
}

/// An answer that tells its length, as the client wants it: what comes in chunks, as some proxies send it, has it in
/// its range or is read whole.
async fn measured(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    if response.headers().contains_key(CONTENT_LENGTH) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let range = parts.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    if let Some(len) = range.and_then(range_len) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        return Ok(HttpResponse::from_parts(parts, body));
    }
    let (mut stream, mut bytes) = (body.bytes_stream(), Vec::<u8>::new());
    while let Some(piece) = stream.try_next().await? {
        if bytes.len() + piece.len() > UNMEASURED_BYTES_MAX {
            return Err(invalid(format!(
                "an answer of more than {UNMEASURED_BYTES_MAX} bytes has no Content-Length: have what lies between \
                 here and the bucket pass it on"
            )));
        }
        bytes.extend_from_slice(&piece);
    }
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(HttpResponse::from_parts(parts, Bytes::from(bytes).into()))
}

/// Bytes of a Content-Range such as `bytes 0-99/1000`.
fn range_len(range: &str) -> Option<u64> {
    let (first, last) = range.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
    last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
}

fn invalid(why: String) -> HttpError {
    HttpError::new(HttpErrorKind::Decode, io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Whether the request uploads an object, or begins to do so in parts.
fn begins_object(request: &HttpRequest) -> bool {
    match *request.method() {
        Method::PUT => request.uri().query().is_none_or(str::is_empty),
        Method::POST => has_parameter(request, "uploads"),
        _ => false,
    }
}

fn has_parameter(request: &HttpRequest, name: &str) -> bool {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    pairs.any(|pair| pair.split('=').next() == Some(name))
}

/// The value of a parameter of the query.
fn parameter(request: &HttpRequest, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn unhexed(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    text.as_bytes().chunks(2).map(|pair| Some(((digit(pair[0])? << 4) | digit(pair[1])?) as u8)).collect()
}

/// Whether a page says that there are more, and not where they begin.
fn is_cut_off(page: &str) -> bool {
    text_of(page, "IsTruncated") == Some("true") && text_of(page, "NextContinuationToken").is_none_or(str::is_empty)
}

/// The page without the objects whose keys the client can't take, and those keys.
fn without_odd_keys(page: &str) -> (String, Vec<String>) {
    const END: &str = "</Contents>";
    let (mut kept, mut odd, mut rest) = (String::with_capacity(page.len()), Vec::new(), page);
    while let Some(start) = rest.find("<Contents>") {
        let Some(len) = rest[start..].find(END) else { break };
        let (object, behind) = rest.split_at(start + len + END.len());
        match text_of(&object[start..], "Key").map(unescaped).filter(|key| !is_taken(key)) {
            Some(key) => {
                kept.push_str(&object[..start]);
                odd.push(key);
            }
            None => kept.push_str(object),
        }
        rest = behind;
    }
    kept.push_str(rest);
    (kept, odd)
}

/// Whether the client can take the key, and takes it for what it is.
fn is_taken(key: &str) -> bool {
    Path::parse(key).is_ok_and(|path| path.as_ref() == key.strip_suffix('/').unwrap_or(key))
}

/// What stands in the first element `name` of `xml`, which has no attributes.
fn text_of<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = xml.split_once(&format!("<{name}>"))?;
    Some(behind.split_once(&format!("</{name}>"))?.0)
}

fn unescaped(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once('&') {
        plain.push_str(before);
        let named = behind.split_once(';').and_then(|(name, behind)| Some((character(name)?, behind)));
        let (character, behind) = named.unwrap_or(('&', behind));
        plain.push(character);
        rest = behind;
    }
    plain + rest
}

/// The character of an entity of XML.
fn character(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code =
                number.strip_prefix('x').map_or_else(|| number.parse::<u32>(), |hex| u32::from_str_radix(hex, 16));
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::HeaderName;
    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use object_store::client::HttpRequestBody;

    use super::*;

    /// Answers everything with one page, and keeps the headers of what it was asked.
    #[derive(Debug)]
    struct Server {
        page: String,
        region: &'static str,
        asked: Arc<Mutex<Vec<HeaderMap>>>,
    }

    /// Fails the first request after a while, and answers the others after as long.
    #[derive(Debug)]
    struct Slow(Duration, Arc<Mutex<Vec<HeaderMap>>>);

    #[async_trait]
    impl HttpService for Slow {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let count = {
                let mut asked = self.1.lock().unwrap();
                asked.push(request.headers().clone());
                asked.len()
            };
            tokio::time::sleep(self.0).await;
            let response = http::Response::builder().status(if count == 1 { 503u16 } else { 200 });
            Ok(response.body(String::new().into()).unwrap())
        }
    }

    #[async_trait]
    impl HttpService for Server {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.asked.lock().unwrap().push(request.headers().clone());
            let status = if self.region == "us-east-1" { 200u16 } else { 301 };
            let response = http::Response::builder().status(status).header(BUCKET_REGION, self.region);
            Ok(response.body(self.page.clone().into()).unwrap())
        }
    }

    fn wire(page: &str, region: &'static str) -> (Wire, Arc<Mutex<Vec<HeaderMap>>>) {
        let credential = AwsCredential { key_id: "key".into(), secret_key: "secret".into(), token: None };
        let credentials: AwsCredentialProvider = Arc::new(StaticCredentialProvider::new(credential));
        let uploads =
            HeaderMap::from_iter([(HeaderName::from_static("x-amz-acl"), HeaderValue::from_static("private"))]);
        let (answer_time, retry_time) = (None, None);
        let connector = Connector { uploads, credentials, region: "us-east-1".into(), answer_time, retry_time };
        let asked = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let client = HttpClient::new(Server { page: page.to_owned(), region, asked: Arc::clone(&asked) });
        (connector.over(client.clone(), client), asked)
    }

    fn upload(len: usize) -> HttpRequest {
        let request = http::Request::builder().method(Method::PUT).uri("http://s3/metrics/a/index?partNumber=1");
        let request = request.header(AUTHORIZATION, "before").header(DIGEST, "00ff");
        request.body(vec![7u8; len].into()).unwrap()
    }

    #[tokio::test]
    async fn an_upload_that_fails_after_the_time_of_retries_is_tried_once_more_and_signed_anew() {
        for (retry_time, status, count) in
            [(None, 503u16, 1), (Some(Duration::from_secs(60)), 503, 1), (Some(Duration::ZERO), 200, 2)]
        {
            let asked = Arc::<Mutex<Vec<HeaderMap>>>::default();
            let patient = HttpClient::new(Slow(Duration::from_millis(1), Arc::clone(&asked)));
            let wire = Wire { patient, retry_time, ..wire("", "us-east-1").0 };
            assert_eq!(wire.call(upload(10)).await.unwrap().status(), status, "{retry_time:?}");
            let asked = asked.lock().unwrap();
            assert_eq!(asked.len(), count, "{retry_time:?}");
            assert!(asked.iter().skip(1).all(|headers| headers[AUTHORIZATION] != "before"));
        }
    }

    #[tokio::test]
    async fn an_upload_has_the_time_that_its_bytes_take() {
        let (answer_time, second) = (Some(Duration::from_millis(10)), UPLOAD_RATE_MIN as usize);
        for (len, is_sent) in [(1, false), (5 * second, true)] {
            let patient = HttpClient::new(Slow(Duration::from_millis(100), Arc::default()));
            let wire = Wire { patient, answer_time, ..wire("", "us-east-1").0 };
            let sent = wire.call(upload(len)).await;
            assert_eq!(sent.is_ok(), is_sent, "{sent:?}");
            assert!(sent.is_ok() || sent.unwrap_err().kind() == HttpErrorKind::Timeout);
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_length_gets_one() {
        for (range, expected) in [(Some("bytes 100-103/1000"), "4"), (Some("bytes */1000"), "5"), (None, "5")] {
            let mut response = HttpResponse::new("whole".to_owned().into());
            if let Some(range) = range {
                response.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_static(range));
            }
            let response = measured(response).await.unwrap();
            assert_eq!(response.headers()[CONTENT_LENGTH], expected, "{range:?}");
            assert_eq!(response.into_body().bytes().await.unwrap(), "whole");
        }
        let (wire, _) = wire("a meta.json", "us-east-1");
        let request = http::Request::builder().uri("http://s3/metrics/a/meta.json").body(HttpRequestBody::empty());
        let response = wire.call(request.unwrap()).await.unwrap();
        assert_eq!(response.headers()[CONTENT_LENGTH], "11");
        let longer = HttpResponse::new(vec![0u8; UNMEASURED_BYTES_MAX + 1].into());
        assert!(measured(longer).await.unwrap_err().to_string().contains("Content-Length"));
    }

    fn ask(wire: &Wire, method: &str, target: &str) -> Result<String, HttpError> {
        let request = http::Request::builder().method(method).uri(format!("http://s3/metrics{target}"));
        let request = request.header(AUTHORIZATION, "before").header(DIGEST, "00ff");
        let request = request.body(HttpRequestBody::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(async { wire.call(request).await?.into_body().bytes().await })?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn objects_whose_keys_no_path_has_are_left_out_of_a_listing_and_no_others() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let kept = ["a/index", "a &amp; b/&lt;c", "folder/", "a..b/.x"].map(object).concat();
        let odd =
            ["debug//x.json", "a/../b", "./x", "a\tb", "a&#x9;b", "a&#9;b", "/a/index", ".."].map(object).concat();
        let listing = |objects: &str| format!("<ListBucketResult>{objects}</ListBucketResult>");
        for page in [format!("{odd}{kept}"), format!("{kept}{odd}"), kept.clone()] {
            let (wire, _) = wire(&listing(&page), "us-east-1");
            assert_eq!(ask(&wire, "GET", "?list-type=2&prefix=a%2F").unwrap(), listing(&kept));
            assert_eq!(ask(&wire, "GET", "/list-type").unwrap(), listing(&page), "an object is given as it is");
        }
    }

    #[test]
    fn a_listing_that_goes_on_and_not_where_is_an_error() {
        let page = |more: &str| format!("<ListBucketResult><IsTruncated>true</IsTruncated>{more}</ListBucketResult>");
        let (whole, _) = wire(&page("<NextContinuationToken>a</NextContinuationToken>"), "us-east-1");
        assert!(ask(&whole, "GET", "?list-type=2").is_ok());
        let (cut_off, _) = wire(&page(""), "us-east-1");
        let error = ask(&cut_off, "GET", "?list-type=2").unwrap_err();
        assert!(error.to_string().contains("NextContinuationToken"), "{error}");
    }

    /// The client once asked for the same page for ever.
    #[test]
    fn a_listing_that_goes_on_where_it_was_is_an_error() {
        let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                    <NextContinuationToken>a+b/&amp;=</NextContinuationToken></ListBucketResult>";
        for (token, is_repeated) in [("a", false), ("a%2Bb%2F%26%3D", true)] {
            let (wire, _) = wire(page, "us-east-1");
            assert!(ask(&wire, "GET", "?list-type=2").is_ok());
            let answer = ask(&wire, "GET", &format!("?continuation-token={token}&list-type=2"));
            assert_eq!(answer.is_err(), is_repeated, "{token}: {answer:?}");
        }
    }

    #[test]
    fn another_region_than_the_configured_one_is_named() {
        let (wire, _) = wire("", "eu-west-1");
        let error = ask(&wire, "GET", "/a").unwrap_err().to_string();
        assert!(error.contains("eu-west-1") && error.contains("config.region"), "{error}");
    }

    #[test]
    fn what_begins_an_object_carries_the_headers_of_uploads_and_is_signed_with_them() {
        for (method, target, is_upload) in [
            ("PUT", "/a/index", true),
            ("POST", "/a/index?uploads=", true),
            ("PUT", "/a/index?partNumber=1&uploadId=x", false),
            ("POST", "/a/index?uploadId=x", false),
            ("GET", "/a/index", false),
            ("DELETE", "/a/index", false),
        ] {
            let (wire, asked) = wire("", "us-east-1");
            ask(&wire, method, target).unwrap();
            let headers = asked.lock().unwrap().remove(0);
            assert_eq!(headers.contains_key("x-amz-acl"), is_upload, "{method} {target}");
            let signature = headers[AUTHORIZATION].to_str().unwrap();
            assert_eq!(signature.contains("x-amz-acl"), is_upload, "{signature}");
            assert_eq!(headers[DIGEST], "00ff", "the digest stays");
        }
    }
}
