//! Bodies that are compressed: requests and answers in gzip or zstd, answers as the
//! client accepts them. Requests are unpacked by whoever reads them, who knows how large they may be.

use std::io::{self, Read};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::model::{Error, ErrorKind, Reservation};
use engine::promql::budget::Patience;
use flate2::Compression;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::query::body::hold;
use super::query::ending::compute;
use super::query::respond::account;

/// Answers below this many bytes are sent as they are. It is Thanos' bound: a query-frontend that does not split
/// writes an answer anew under the length that the answer came with, unless it came compressed.
const ANSWER_BYTES_MIN: u64 = 1024;

/// Answers of this many bytes and more are compressed on a thread of their own.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As gzip does.
    Gzip,
    /// As Zstandard does.
    Zstd,
}

impl Coding {
    /// That of a request with these headers, if any; remote read and write pack themselves, in others.
    pub fn of_request(headers: &HeaderMap) -> Option<Self> {
        match headers.get(header::CONTENT_ENCODING)?.to_str().ok()? {
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Compresses answers for those who accept it.
pub async fn with_codings(request: Request, next: Next) -> Response {
    let accepted = accepted(request.headers());
    encoded(next.run(request).await, accepted).await
}

/// `response` as somebody gets it who accepts this coding.
pub async fn encoded(mut response: Response, accepted: Option<Coding>) -> Response {
    // Also where it is not packed: to a cache it is one of two answers.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    match accepted {
        Some(coding) => packed(response, coding).await,
        None => response,
    }
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
    // What it was accounted for with is there for what is sent in its place.
    drop(bytes);
    let name = if coding == Coding::Gzip { "gzip" } else { "zstd" };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    parts.headers.remove(header::CONTENT_LENGTH);
    account(Response::from_parts(parts, Body::from(packed)))
}

/// The best coding that a client accepts.
pub fn accepted(headers: &HeaderMap) -> Option<Coding> {
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

/// The plain bytes of `packed`, `bytes_max` at most, for which `held` answers as they come.
pub fn unpack(coding: Coding, packed: &[u8], bytes_max: usize, held: &mut Reservation) -> Result<Vec<u8>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("cannot unpack a compressed request: {error}"));
    let mut reader: Box<dyn Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Coding::Zstd => Box::new(ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| failed(&error))?),
    };
    let mut plain = Vec::new();
    loop {
        let mut some = reader.by_ref().take(UNWATCHED_BYTES as u64);
        if some.read_to_end(&mut plain).map_err(|error| failed(&error))? == 0 {
            return Ok(plain);
        }
        if plain.len() > bytes_max {
            return Err(failed(&format_args!("it is larger than {bytes_max} bytes")));
        }
        hold(held, plain.capacity() as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use engine::model::Budget;

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

    /// With a larger bound than Thanos', answers between the two came cut out of its query-frontend.
    #[tokio::test]
    async fn answers_are_packed_from_the_size_on_from_which_thanos_packs_them() {
        for (bytes, is_packed) in [(1023, false), (1024, true), (1399, true)] {
            let response = packed(Response::new(Body::from(vec![b'x'; bytes])), Coding::Gzip).await;
            assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), is_packed, "{bytes}");
        }
    }

    #[test]
    fn what_is_packed_is_the_same_unpacked_and_bombs_are_refused() {
        let plain: Vec<u8> = (0..200_000u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        let memory = Budget::new("--query.memory-limit", 4 << 20);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let patience = Patience::default();
            let packed = pack(coding, &plain, &patience).unwrap();
            assert!(packed.len() < plain.len());
            let mut held = memory.reserve(0).unwrap();
            assert_eq!(unpack(coding, &packed, plain.len(), &mut held).unwrap(), plain);
            assert!(held.bytes() >= plain.len() as u64, "{}", held.bytes());
            let refused = unpack(coding, &packed, plain.len() - 1, &mut held).unwrap_err();
            assert!(refused.message().contains("larger than"), "{refused}");
            assert!(unpack(coding, b"no such thing", 100, &mut held).is_err());
            let _others = memory.reserve(memory.limit() - held.bytes()).unwrap();
            let refused = unpack(coding, &pack(coding, &vec![0; 8 << 20], &patience).unwrap(), 16 << 20, &mut held);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Limit);
            patience.canceled.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(pack(coding, &plain, &patience).unwrap_err().kind(), ErrorKind::Canceled);
        }
    }
}
