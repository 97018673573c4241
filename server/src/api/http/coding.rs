//! Bodies that are compressed: requests and answers in gzip or zstd, answers as the
//! client accepts them.

use std::io::{self, Read};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::model::{Error, ErrorKind};
use engine::promql::budget::Patience;
use flate2::Compression;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};

use super::query::ending::compute;
use super::query::respond::account;

/// Most bytes of a compressed request, plain.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Answers below this many bytes are sent as they are: a packet is a packet.
const ANSWER_BYTES_MIN: u64 = 1400;

/// Answers of this many bytes and more are compressed on a thread of their own.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

/// Reads compressed requests plain and compresses answers for those who accept it.
pub async fn with_codings(request: Request, next: Next) -> Response {
    let accepted = accepted(request.headers());
    let mut response = match plain(request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    // Also where it is not packed: to a cache it is one of two answers.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    match accepted {
        Some(coding) => packed(response, coding).await,
        None => response,
    }
}

async fn plain(request: Request) -> Result<Request, Response> {
    let named = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let coding = match named {
        Some("gzip") => Coding::Gzip,
        Some("zstd") => Coding::Zstd,
        // Remote read and write pack themselves; their own readers unpack them.
        _ => return Ok(request),
    };
    let (mut parts, body) = request.into_parts();
    let refuse = |error: &dyn std::fmt::Display| {
        let text = format!("cannot read a compressed request of up to {REQUEST_BYTES_MAX} bytes: {error}");
        (StatusCode::BAD_REQUEST, text).into_response()
    };
    let bytes = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map_err(|error| refuse(&error))?.to_bytes();
    let bytes = unpack(coding, &bytes, REQUEST_BYTES_MAX).map_err(|error| refuse(&error))?;
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn packed(response: Response, coding: Coding) -> Response {
    let size = response.body().size_hint();
    // A body of unknown length is a stream, which is passed on as it comes.
    let is_whole = size.exact().is_some_and(|bytes| bytes >= ANSWER_BYTES_MIN);
    if !is_whole || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let packed = if bytes.len() < INLINE_BYTES_MAX {
        pack(coding, &bytes, &Patience::default())
    } else {
        let shared = bytes.clone();
        compute(move |patience| pack(coding, &shared, patience)).await
    };
    let Ok(packed) = packed else { return Response::from_parts(parts, Body::from(bytes)) };
    let name = if coding == Coding::Gzip { "gzip" } else { "zstd" };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    parts.headers.remove(header::CONTENT_LENGTH);
    account(Response::from_parts(parts, Body::from(packed)))
}

/// The best coding that a client accepts.
fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let values = || headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepts = |wanted: &str| {
        values().flat_map(|value| value.split(',')).any(|one| {
            let (name, rest) = one.split_once(';').unwrap_or((one, ""));
            let is_refused = rest.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0));
            name.trim().eq_ignore_ascii_case(wanted) && !is_refused
        })
    };
    // Browsers and Grafana accept both; gzip is the one whose speed here is worth its ratio.
    if accepts("gzip") {
        Some(Coding::Gzip)
    } else if accepts("zstd") {
        Some(Coding::Zstd)
    } else {
        None
    }
}

/// Bytes that end as soon as nobody waits for them packed: one of the encoders takes a failed read for a
/// bug.
struct Watched<'b> {
    bytes: &'b [u8],
    patience: &'b Patience,
}

/// Bytes that are packed between two looks at the caller.
const UNWATCHED_BYTES: usize = 64 << 10;

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.patience.check().is_err() {
            return Ok(0);
        }
        let wanted = into.len().min(UNWATCHED_BYTES);
        self.bytes.read(&mut into[..wanted])
    }
}

fn pack(coding: Coding, bytes: &[u8], patience: &Patience) -> Result<Vec<u8>, Error> {
    let mut watched = Watched { bytes, patience };
    let packed = match coding {
        Coding::Gzip => {
            let failed = |error: io::Error| Error::new(ErrorKind::Bug, format!("packing an answer: {error}"));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
            io::copy(&mut watched, &mut encoder).map_err(failed)?;
            encoder.finish().map_err(failed)?
        }
        Coding::Zstd => ruzstd::encoding::compress_to_vec(watched, ruzstd::encoding::CompressionLevel::Fastest),
    };
    patience.check().map(|()| packed)
}

fn unpack(coding: Coding, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let reader: Box<dyn Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Coding::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|error| error.to_string())?;
            Box::new(decoder)
        }
    };
    let mut plain = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    if plain.len() > bytes_max { Err(format!("it is larger than {bytes_max} bytes")) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> Option<Coding> {
        accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_client_says_what_it_accepts() {
        assert_eq!(accepting("gzip, deflate, br, zstd"), Some(Coding::Gzip));
        assert_eq!(accepting("gzip;q=0, zstd"), Some(Coding::Zstd));
        assert_eq!(accepting("identity, br"), None);
        assert_eq!(accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_packed_is_the_same_unpacked_and_bombs_are_refused() {
        let plain: Vec<u8> = (0..200_000u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Zstd] {
            let patience = Patience::default();
            let packed = pack(coding, &plain, &patience).unwrap();
            assert!(packed.len() < plain.len());
            assert_eq!(unpack(coding, &packed, plain.len()).unwrap(), plain);
            assert!(unpack(coding, &packed, plain.len() - 1).unwrap_err().contains("larger than"));
            assert!(unpack(coding, b"no such thing", 100).is_err());
            patience.canceled.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(pack(coding, &plain, &patience).unwrap_err().kind(), ErrorKind::Canceled);
        }
    }
}
