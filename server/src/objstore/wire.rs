//! The HTTP of an S3 client, with what its library leaves out: headers of uploads that it has no name for, and
//! listings that hold keys which it can't take.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
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

/// Makes the HTTP clients of a bucket.
#[derive(Debug)]
pub(super) struct Connector {
    /// Headers that every object is uploaded with.
    pub uploads: HeaderMap,
    /// Signs the uploads that carry them.
    pub credentials: AwsCredentialProvider,
    /// The region that requests are signed for.
    pub region: String,
}

#[derive(Debug)]
struct Wire {
    client: HttpClient,
    uploads: HeaderMap,
    credentials: AwsCredentialProvider,
    region: String,
    has_told: AtomicBool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.over(ReqwestConnector::default().connect(options)?)))
    }
}

impl Connector {
    fn over(&self, client: HttpClient) -> Wire {
        let (credentials, region) = (AwsCredentialProvider::clone(&self.credentials), self.region.clone());
        Wire { client, uploads: self.uploads.clone(), credentials, region, has_told: AtomicBool::new(false) }
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_listing = request.method() == Method::GET && has_parameter(&request, "list-type");
        if !self.uploads.is_empty() && begins_object(&request) {
            self.add_headers(&mut request).await?;
        }
        let response = self.client.execute(request).await?;
        self.check_region(&response)?;
        if is_listing && response.status().is_success() { self.readable(response).await } else { Ok(response) }
    }
}

impl Wire {
    /// Adds the headers of uploads, and signs anew.
    async fn add_headers(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        request.headers_mut().extend(self.uploads.clone());
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

    /// A page of a listing without the objects whose keys the client can't take, as one of them would fail all of it.
    async fn readable(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (parts, body) = response.into_parts();
        let bytes = body.bytes().await?;
        let Ok(page) = std::str::from_utf8(&bytes) else { return Ok(HttpResponse::from_parts(parts, bytes.into())) };
        if is_cut_off(page) {
            return Err(invalid("a listing says that it goes on, and not where (no NextContinuationToken)".to_owned()));
        }
        let (kept, odd) = without_odd_keys(page);
        let Some(key) = odd.first() else { return Ok(HttpResponse::from_parts(parts, bytes.into())) };
        if !self.has_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(key, "the bucket holds objects whose keys no block can have: they are passed over");
        }
        Ok(HttpResponse::from_parts(parts, kept.into()))
    }
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

    use http::{HeaderName, HeaderValue};
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
        let connector = Connector { uploads, credentials, region: "us-east-1".into() };
        let asked = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let server = Server { page: page.to_owned(), region, asked: Arc::clone(&asked) };
        (connector.over(HttpClient::new(server)), asked)
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
