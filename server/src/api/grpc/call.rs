//! One call: its message read, its answer written.
//!
//! ```text
//! message  compressed? (1 byte) | length (u32 BE) | protobuf
//! answer   messages, then trailers: grpc-status, grpc-message
//! ```

use std::collections::VecDeque;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use engine::model::{Budget, Error, Reservation};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use proto::series::GRPC_PREFIX_LEN;
use tonic::body::Body;
use tonic::{Code, Status};

use super::Call;
use super::question::decoded_bytes;
use crate::api::error;

/// A message with the bytes that are known of it beforehand.
#[derive(Debug)]
pub struct Incoming<M> {
    /// The message.
    pub message: M,
    /// Who asks, for metrics and logs.
    pub tenant: String,
    /// How long the caller waits; none: as long as it takes.
    pub timeout: Option<Duration>,
    /// Headers of the request.
    pub headers: HeaderMap,
    /// What the message takes of the process' memory where it was packed.
    pub held: Option<Reservation>,
}

/// Most bytes of a request that asks for something; requests that bring samples have a limit of
/// their own.
pub const QUESTION_BYTES_MAX: usize = 64 << 20;

/// The tenant of a request that names none, as in Thanos.
const DEFAULT_TENANT: &str = "default-tenant";

/// Bytes of a packed message that are unpacked while others wait for the thread: of each come a thousand at most.
const PACKED_BYTES_INLINE: usize = 4 << 10;

/// Bytes for which there is room when nothing is unpacked yet.
const UNPACKED_BYTES_MIN: usize = 1 << 10;

/// Bytes by which what is unpacked grows where memory is little.
const UNPACKED_STEP_BYTES: usize = 1 << 20;

/// Makes room for so many bytes of what is unpacked.
pub type Room<'r> = dyn FnMut(u64) -> Result<(), Status> + 'r;

/// Reads the one message of a call, of up to `bytes_max` bytes once it is decompressed, for which there is `memory`.
pub async fn read<M: Message + Default>(
    request: Call,
    bytes_max: usize,
    memory: &Arc<Budget>,
) -> Result<Incoming<M>, Status> {
    let (parts, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, bytes_max.saturating_add(GRPC_PREFIX_LEN));
    let bytes = body.collect().await.map_err(|error| {
        Status::new(Code::ResourceExhausted, format!("cannot read a request of up to {bytes_max} bytes: {error}"))
    })?;
    let headers = parts.headers;
    let (message, held) = unpacked(&headers, bytes.to_bytes(), bytes_max, memory).await?;
    let message =
        M::decode(message).map_err(|error| Status::internal(format!("cannot decode the request: {error}")))?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let tenant = header("thanos-tenant").filter(|tenant| !tenant.is_empty()).unwrap_or(DEFAULT_TENANT).to_owned();
    let timeout = header("grpc-timeout").and_then(parse_timeout);
    Ok(Incoming { message, tenant, timeout, headers, held })
}

/// The message in the one frame of a call, and what holds its memory where it was packed. Many bytes are unpacked where
/// nobody waits for the thread.
async fn unpacked(
    headers: &HeaderMap,
    framed: Bytes,
    bytes_max: usize,
    memory: &Arc<Budget>,
) -> Result<(Bytes, Option<Reservation>), Status> {
    if framed.first().is_none_or(|compressed| *compressed == 0) {
        return Ok((unframe(headers, framed, bytes_max, &mut |_| Ok(()))?, None));
    }
    let refused = |error: Error| error::status(&error.within("unpacking the request"));
    let is_long = framed.len() > PACKED_BYTES_INLINE;
    let (headers, mut held) = (headers.clone(), memory.reserve(0).map_err(refused)?);
    let unpack = move || {
        let mut make = |bytes: u64| held.resize(bytes).map_err(refused);
        let plain = unframe(&headers, framed, bytes_max, &mut make)?;
        held.resize(decoded_bytes(&plain)).map_err(refused)?;
        Ok::<_, Status>((plain, Some(held)))
    };
    match is_long {
        false => unpack(),
        true => {
            let unpacked = tokio::task::spawn_blocking(unpack).await;
            unpacked.map_err(|_| Status::internal("unpacking the request has panicked"))?
        }
    }
}

/// The answer of a call that has one message.
pub fn reply<M: Message>(result: Result<M, Status>) -> Response<Body> {
    reply_encoded(result.map(|message| ([message.encode_to_vec(), Vec::new()], ())))
}

/// The same of a message whose parts are encoded; `held`, what they hold of the process' memory, is
/// dropped when they were sent.
pub fn reply_encoded<H: Send + Unpin + 'static>(result: Result<([Vec<u8>; 2], H), Status>) -> Response<Body> {
    match result {
        Ok((parts, held)) => {
            let len = parts.iter().map(Vec::len).sum::<usize>();
            let Ok(wire_len) = u32::try_from(len) else {
                return Status::resource_exhausted(format!("an answer of {len} bytes is more than a message can be"))
                    .into_http();
            };
            let mut prefix = BytesMut::with_capacity(GRPC_PREFIX_LEN);
            prefix.put_u8(0);
            prefix.put_u32(wire_len);
            let [strings, rest] = parts.map(Bytes::from);
            let parts = [prefix.freeze(), strings, rest].into_iter().filter(|part| !part.is_empty());
            respond(Once { parts: parts.collect(), is_done: false, _held: held })
        }
        Err(status) => status.into_http(),
    }
}

/// Runs a call for at most the time that its caller waits.
pub async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match timeout {
        None => work.await,
        Some(timeout) => tokio::time::timeout(timeout, work)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("not done within {timeout:?}")))),
    }
}

/// A response with `body`, which ends with trailers.
pub fn respond(body: impl http_body::Body<Data = Bytes, Error = Status> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The message in the one frame of a call, decompressed to at most `bytes_max` bytes, for which there is `room` before
/// they are made.
pub fn unframe(headers: &HeaderMap, mut bytes: Bytes, bytes_max: usize, room: &mut Room<'_>) -> Result<Bytes, Status> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<GRPC_PREFIX_LEN>() else {
        return Err(Status::internal("the request holds no message"));
    };
    let [compressed, len @ ..] = *prefix;
    if u32::from_be_bytes(len) as usize != rest.len() {
        return Err(Status::internal("the request holds half a message or more than one"));
    }
    let message = bytes.split_off(GRPC_PREFIX_LEN);
    if compressed == 0 {
        return Ok(message);
    }
    let encoding = headers.get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or("");
    let packed = &*message;
    match encoding {
        "gzip" => unpack(&mut flate2::read::GzDecoder::new(packed), packed.len(), bytes_max, room),
        "snappy" => unpack(&mut snap::read::FrameDecoder::new(packed), packed.len(), bytes_max, room),
        other => {
            let mut status = Status::unimplemented(format!("compression {other:?} is not known"));
            let known = "identity,gzip,snappy".parse().expect("a list of names is a header");
            status.metadata_mut().insert("grpc-accept-encoding", known);
            Err(status)
        }
    }
}

/// All that comes `from` there, where it has `packed_bytes`: `bytes_max` bytes at most, for which `room` is made first.
fn unpack(from: &mut dyn Read, packed_bytes: usize, bytes_max: usize, room: &mut Room<'_>) -> Result<Bytes, Status> {
    let mut plain = Vec::new();
    // What is forwarded among receivers becomes four times as long, or a little more.
    let mut len = packed_bytes.saturating_mul(5).max(UNPACKED_BYTES_MIN);
    loop {
        len = len.min(bytes_max.saturating_add(1));
        // What is there is copied, so that both are there for a while. Near the limit they grow by little.
        if room((plain.len() + len) as u64).is_err() {
            len = len.min(plain.len() + UNPACKED_STEP_BYTES);
            room((plain.len() + len) as u64)?;
        }
        plain.reserve_exact(len - plain.len());
        let free = plain.capacity() - plain.len();
        let read = (&mut *from).take(free as u64).read_to_end(&mut plain);
        let read = read.map_err(|error| Status::internal(format!("cannot decompress the request: {error}")))?;
        if plain.len() > bytes_max {
            return Err(Status::resource_exhausted(format!("the request is larger than {bytes_max} bytes")));
        }
        if read < free {
            return Ok(plain.into());
        }
        len = plain.len().saturating_mul(2);
    }
}

/// gRPC's form of a timeout: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text.get(..text.len() - unit.len_utf8()).filter(|digits| digits.len() <= 8)?.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The trailers of a call that ends with `status`.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A message that can't be a header: the code alone is better than nothing.
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// One message and its trailers.
struct Once<H> {
    parts: VecDeque<Bytes>,
    is_done: bool,
    _held: H,
}

impl<H: Unpin> http_body::Body for Once<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(part) = self.parts.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if self.is_done {
            return Poll::Ready(None);
        }
        self.is_done = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&Status::ok(""))))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(compressed: u8, bytes: &[u8]) -> Bytes {
        let mut framed = vec![compressed];
        framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        framed.extend_from_slice(bytes);
        framed.into()
    }

    #[test]
    fn snappy_requests_are_read_and_bombs_are_refused() {
        let plain = vec![7u8; 100_000];
        let mut writer = snap::write::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut writer, &plain).unwrap();
        let packed = writer.into_inner().unwrap();
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-encoding"),
            HeaderValue::from_static("snappy"),
        )]);
        let unframe = |bytes_max| unframe(&headers, framed(1, &packed), bytes_max, &mut |_| Ok(()));
        assert_eq!(unframe(200_000).unwrap(), plain);
        assert_eq!(unframe(99_999).unwrap_err().code(), Code::ResourceExhausted);
    }

    /// 60 kB of gzip once took 120 MB that nobody knew of.
    #[tokio::test]
    async fn what_comes_of_a_packed_message_is_held_before_it_is_made() {
        let plain = vec![b'a'; 3 << 20];
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(&*plain, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        assert!(packed.len() > PACKED_BYTES_INLINE, "unpacked aside: {}", packed.len());
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-encoding"), HeaderValue::from_static("gzip"))]);
        let unpacked = async |limit: u64, bytes_max: usize| {
            let memory = Budget::new("--store.memory-limit", limit);
            let unpacked = unpacked(&headers, framed(1, &packed), bytes_max, &memory).await;
            unpacked.map(|(plain, held)| (plain, held.map(|held| held.bytes())))
        };
        let (bytes, held) = unpacked(1 << 30, 64 << 20).await.unwrap();
        assert!(bytes == plain && held.is_some_and(|held| held >= 3 << 20), "{held:?}");
        let refused = unpacked(2 << 20, 64 << 20).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("unpacking the request: --store.memory-limit: "), "{refused}");
        assert!(unpacked(1 << 30, (3 << 20) - 1).await.unwrap_err().message().contains("is larger than"));
        let whole = super::unpacked(&headers, framed(0, b"as it is"), 100, &Budget::new("none", 0)).await;
        assert!(whole.is_ok_and(|(bytes, held)| bytes == b"as it is"[..] && held.is_none()));
    }

    #[test]
    fn broken_frames_are_errors() {
        let headers = HeaderMap::new();
        for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 2, 1], &[0, 0, 0, 0, 1, 1, 1], &[1, 0, 0, 0, 0]] {
            assert!(unframe(&headers, Bytes::copy_from_slice(bytes), 100, &mut |_| Ok(())).is_err());
        }
        let unknown = unframe(&headers, framed(1, &[1]), 100, &mut |_| Ok(()));
        assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    }

    #[test]
    fn timeouts_have_units() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("2M"), Some(Duration::from_secs(120)));
        for text in ["", "m", "1x", "999999999S"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
