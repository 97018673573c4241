//! Bodies of requests: read up to a limit, decompressed up to a limit, whatever they claim.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use engine::head::body_room;
use engine::model::{Budget, Error, Reservation};
use flate2::read::MultiGzDecoder;
use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use tonic::Status;

use super::refusal::Refusal;

/// A body that can't be used, with the status that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
}

impl BodyError {
    fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// That not all of a body came. Senders drop what is refused with a status of their own faults, and the network
    /// may be to blame.
    fn broken(message: String) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message }
    }

    /// That a request which takes `bytes` finds no room beside others, and is to be sent again; or not even alone.
    fn no_memory(memory: &Budget, bytes: u64, error: &Error) -> Self {
        let refusal = Refusal::no_memory(memory, bytes, error);
        Self { status: refusal.status(), message: refusal.message }
    }

    fn too_large(bytes_max: u64) -> Self {
        let message = format!("write request too large: more than {bytes_max} bytes (--receive.request-bytes-max)");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message }
    }

    /// Whether it says that a body is larger than `bytes_max`, and not that there is no memory for it.
    pub fn is_too_large(&self, bytes_max: u64) -> bool {
        *self == Self::too_large(bytes_max)
    }

    /// The same for a receiver that forwards: it sends again what finds no room now, and nothing that never will.
    pub fn grpc(self) -> Status {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(self.message),
            StatusCode::PAYLOAD_TOO_LARGE => Status::resource_exhausted(self.message),
            _ => Status::internal(self.message),
        }
    }
}

/// Longest time in which nothing of a body comes: it keeps memory and a turn that others wait for.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest time in which a body that nobody needs is read.
const DRAINING_MAX: Duration = Duration::from_secs(5);

/// Most bytes of such a body.
const DRAINED_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a body that are accounted for at a time.
const BODY_STEP_BYTES: u64 = 1 << 20;

/// Reads a body of at most `bytes_max` bytes, with the memory that it takes.
pub async fn read<B>(
    headers: &HeaderMap,
    body: B,
    (bytes_max, memory): (u64, &Arc<Budget>),
) -> Result<(Vec<u8>, Reservation), BodyError>
where
    B: http_body::Body<Data = bytes::Bytes>,
    B::Error: std::fmt::Display,
{
    let claimed = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    if claimed.is_some_and(|len| len > bytes_max) {
        return Err(BodyError::too_large(bytes_max));
    }
    // A claim alone gets no memory: as much as has come is kept, and room for a usual request.
    let room = claimed.unwrap_or(0).min(BODY_STEP_BYTES);
    let mut held = memory.reserve(room).map_err(|error| BodyError::no_memory(memory, room, &error))?;
    let mut bytes = Vec::with_capacity(room as usize);
    let mut body = std::pin::pin!(body);
    while let Some(frame) = next_frame(body.as_mut(), SILENCE_MAX).await? {
        let frame = frame.map_err(|error| BodyError::broken(format!("read compressed request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.remaining()) as u64 > bytes_max {
            return Err(BodyError::too_large(bytes_max));
        }
        if bytes.len() as u64 + data.len() as u64 > held.bytes() {
            let enough = bytes.len() as u64 + data.len() as u64;
            // Near the limit what has come is taken, and nothing ahead of it.
            let ahead = held.resize(enough.max(held.bytes() + BODY_STEP_BYTES));
            ahead.or_else(|_| resize(&mut held, enough, memory))?;
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

/// Reads what is left of the body of a request that is refused, up to some length and for some time, as senders that
/// are still sending would otherwise learn of a connection that broke, and not of the refusal.
pub async fn drain<B: http_body::Body>(body: B) {
    let draining = async {
        let mut body = std::pin::pin!(body);
        let mut left = DRAINED_BYTES_MAX;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.remaining() as u64));
        }
    };
    // What is not there by then is left to the connection.
    let _ = tokio::time::timeout(DRAINING_MAX, draining).await;
}

/// Makes what a request holds of `memory` `bytes` large.
pub fn resize(held: &mut Reservation, bytes: u64, memory: &Budget) -> Result<(), BodyError> {
    held.resize(bytes).map_err(|error| BodyError::no_memory(memory, bytes, &error))
}

/// The next frame of `body`, which is to come within `silence_max`. Most lie ready, and of these no time is taken.
async fn next_frame<B: http_body::Body>(
    mut body: Pin<&mut B>,
    silence_max: Duration,
) -> Result<Option<Result<http_body::Frame<B::Data>, B::Error>>, BodyError> {
    if let Some(ready) = body.frame().now_or_never() {
        return Ok(ready);
    }
    let next = tokio::time::timeout(silence_max, body.frame()).await;
    next.map_err(|_| BodyError::broken(format!("nothing more of the request came within {silence_max:?}")))
}

/// What each frame of zstd begins with; no body of snappy does.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a frame of zstd that is skipped begins with, behind a byte of `0x50` to `0x5f`; no body of snappy does.
const ZSTD_SKIPPED_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Bytes for which there is room when nobody knows yet what comes of a body.
const UNPACKED_BYTES_FIRST: usize = 64 << 10;

/// Bytes of gzip that are unpacked while others wait for the thread: of each come a thousand at most.
const GZIP_BYTES_INLINE: usize = 4 << 10;

/// Bytes that snappy makes of a body while others wait for the thread.
const UNPACKED_BYTES_INLINE: usize = 4 << 20;

/// What a body may become, and the memory for that.
#[derive(Debug)]
pub struct Room<'h> {
    bytes_max: usize,
    held: &'h mut Reservation,
    memory: &'h Budget,
    /// What the packed body holds.
    packed_bytes: u64,
}

impl<'h> Room<'h> {
    /// Room for `bytes_max` bytes at most, which are held of `memory` beside those that the packed body holds.
    pub fn new(bytes_max: usize, held: &'h mut Reservation, memory: &'h Budget) -> Self {
        let packed_bytes = held.bytes();
        Self { bytes_max, held, memory, packed_bytes }
    }

    fn make(&mut self, bytes: usize) -> Result<(), BodyError> {
        resize(self.held, self.packed_bytes + bytes as u64, self.memory)
    }

    fn too_large(&self) -> BodyError {
        BodyError::too_large(self.bytes_max as u64)
    }
}

/// Decompresses a remote write body: zstd if its `encoding` and its first bytes say so, otherwise snappy, as senders of
/// both versions agree on that, and some send it under another name. There is memory for all of it before it is made.
pub fn decompress(encoding: &str, bytes: &[u8], room: &mut Room<'_>) -> Result<Vec<u8>, BodyError> {
    match encoding {
        "zstd" if is_zstd(bytes) => unpack_zstd(bytes, room),
        "" | "snappy" | "zstd" => unpack_snappy(bytes, room),
        other => unpack_snappy(bytes, room).map_err(|error| match error.status {
            StatusCode::BAD_REQUEST => BodyError {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: format!("content encoding {other:?} is not known: send snappy or zstd"),
            },
            _ => error,
        }),
    }
}

/// Decompresses an OTLP body: gzip or nothing.
pub fn decompress_otlp(encoding: &str, bytes: Vec<u8>, room: &mut Room<'_>) -> Result<Vec<u8>, BodyError> {
    match encoding {
        "" | "identity" if bytes.len() <= room.bytes_max => Ok(bytes),
        "" | "identity" => Err(room.too_large()),
        "gzip" => {
            let mut plain = Vec::new();
            read_bounded(&mut MultiGzDecoder::new(&*bytes), &mut plain, "gzip", room)?;
            Ok(plain)
        }
        other => {
            Err(BodyError::bad(format!("unsupported compression: {other}. Only \"gzip\" or no compression supported")))
        }
    }
}

/// Whether it may take long to decompress a body: of some bytes zstd and gzip may make as many as there may be.
pub fn takes_long(encoding: &str, bytes: &[u8]) -> bool {
    let is_long_gzip = encoding == "gzip" && bytes.len() > GZIP_BYTES_INLINE;
    let is_streamed = is_long_gzip || encoding == "zstd" && is_zstd(bytes);
    is_streamed || snap::raw::decompress_len(bytes).is_ok_and(|len| len > UNPACKED_BYTES_INLINE)
}

/// How a body is packed, as its headers say.
pub fn encoding(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn unpack_snappy(bytes: &[u8], room: &mut Room<'_>) -> Result<Vec<u8>, BodyError> {
    let bad = |error: snap::Error| BodyError::bad(format!("snappy decode error: {error}"));
    let len = snap::raw::decompress_len(bytes).map_err(bad)?;
    if len > room.bytes_max {
        return Err(room.too_large());
    }
    // Snappy packs at most 64 bytes into 3: a claim beyond that is a lie, and gets no memory.
    if len / 22 > bytes.len() {
        return Err(BodyError::bad("snappy decode error: the claimed length can't come from so few bytes"));
    }
    room.make(len)?;
    let mut plain = body_room(len);
    let written = snap::raw::Decoder::new().decompress(bytes, &mut plain).map_err(bad)?;
    plain.truncate(written);
    Ok(plain)
}

fn is_zstd(bytes: &[u8]) -> bool {
    let is_skipped = bytes.first().is_some_and(|first| (0x50..=0x5f).contains(first));
    bytes.starts_with(&ZSTD_MAGIC) || is_skipped && bytes[1..].starts_with(&ZSTD_SKIPPED_MAGIC)
}

/// The content of all frames, one behind the other, without those that are skipped.
fn unpack_zstd(bytes: &[u8], room: &mut Room<'_>) -> Result<Vec<u8>, BodyError> {
    let (mut rest, mut plain) = (bytes, Vec::new());
    while !rest.is_empty() {
        let frame = StreamingDecoder::new(&mut rest);
        match frame.map(|mut frame| read_bounded(&mut frame, &mut plain, "zstd", room)) {
            Ok(read) => read?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let behind = rest.get(length as usize..);
                rest = behind.ok_or_else(|| BodyError::bad("zstd decode error: a skipped frame is cut off"))?;
            }
            Err(error) => return Err(BodyError::bad(format!("zstd decode error: {error}"))),
        }
    }
    Ok(plain)
}

/// Appends all that comes `from` there to `plain`, for which `room` is made step by step.
fn read_bounded(
    from: &mut dyn std::io::Read,
    plain: &mut Vec<u8>,
    what: &str,
    room: &mut Room<'_>,
) -> Result<(), BodyError> {
    let bad = |error: std::io::Error| BodyError::bad(format!("{what} decode error: {error}"));
    loop {
        if plain.len() == plain.capacity() {
            let mut len = (2 * plain.len()).max(UNPACKED_BYTES_FIRST).min(room.bytes_max + 1);
            // What is there is copied, so that both are there for a while. Near the limit they grow by little.
            if room.make(plain.len() + len).is_err() {
                len = (plain.len() + BODY_STEP_BYTES as usize).min(room.bytes_max + 1);
                room.make(plain.len() + len)?;
            }
            plain.reserve_exact(len - plain.len());
        }
        let free = plain.capacity() - plain.len();
        let read = (&mut *from).take(free as u64).read_to_end(plain).map_err(bad)?;
        if plain.len() > room.bytes_max {
            return Err(room.too_large());
        }
        if read < free {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With memory for everything.
    fn within<T>(bytes_max: usize, of: impl FnOnce(&mut Room<'_>) -> T) -> T {
        let memory = Budget::new("--store.memory-limit", 4 << 30);
        of(&mut Room::new(bytes_max, &mut memory.reserve(0).unwrap(), &memory))
    }

    fn unpacked(encoding: &str, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        within(bytes_max, |room| decompress(encoding, bytes, room))
    }

    fn unpacked_otlp(encoding: &str, bytes: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        within(bytes_max, |room| decompress_otlp(encoding, bytes, room))
    }

    #[test]
    fn bodies_of_each_encoding_are_decompressed_up_to_the_limit() {
        let plain = vec![7u8; 10_000];
        let snappy = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(&*plain, ruzstd::encoding::CompressionLevel::Fastest);
        for (name, packed) in [("snappy", &snappy), ("zstd", &zstd)] {
            assert_eq!(unpacked(name, packed, 10_000).unwrap(), plain, "{name}");
            let error = unpacked(name, packed, 9_999).unwrap_err();
            assert_eq!(error.status, 413, "{name}");
            assert_eq!(unpacked(name, &packed[..packed.len() / 2], 10_000).unwrap_err().status, 400);
        }
        let mut gzip = Vec::new();
        flate2::read::GzEncoder::new(&*plain, flate2::Compression::fast()).read_to_end(&mut gzip).unwrap();
        assert_eq!(unpacked("gzip", &gzip, 10_000).unwrap_err().status, 415);
        assert_eq!(unpacked("gzip", &snappy, 9_999).unwrap_err().status, 413);
        for name in ["gzip", "zstd", ""] {
            assert_eq!(unpacked(name, &snappy, 10_000).unwrap(), plain, "snappy named {name:?}");
        }
        assert_eq!(unpacked("zstd", b"neither", 10_000).unwrap_err().status, 400);
        assert_eq!(unpacked_otlp("", plain.clone(), 10_000).unwrap(), plain);
        assert_eq!(unpacked_otlp("", plain, 9_999).unwrap_err().status, 413);
    }

    /// Parts packed one by one and sent as one body; of two only the first was taken.
    #[test]
    fn all_members_and_frames_of_a_body_are_taken_up_to_the_limit_for_their_sum() {
        let parts = [vec![7u8; 3_000], vec![8u8; 2_000], Vec::new(), vec![9u8; 1_000]];
        let plain = parts.concat();
        let gzip = |part: &Vec<u8>| {
            let mut packed = Vec::new();
            flate2::read::GzEncoder::new(&**part, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
            packed
        };
        let zstd =
            |part: &Vec<u8>| ruzstd::encoding::compress_to_vec(&**part, ruzstd::encoding::CompressionLevel::Fastest);
        let gzip: Vec<u8> = parts.iter().flat_map(gzip).collect();
        let gzip_of = |bytes: &[u8], max| unpacked_otlp("gzip", bytes.to_vec(), max);
        assert_eq!(gzip_of(&gzip, 6_000).unwrap(), plain);
        assert_eq!(gzip_of(&gzip, 5_999).unwrap_err().status, 413);
        assert_eq!(gzip_of(&gzip[..gzip.len() - 3], 6_000).unwrap_err().status, 400);
        let skipped = [&[0x5f_u8, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
        let frames: Vec<u8> = parts.iter().flat_map(|part| [skipped.clone(), zstd(part)].concat()).collect();
        for frames in [&frames[..], &frames[skipped.len()..], &[&frames[..], &skipped[..]].concat()[..]] {
            assert_eq!(unpacked("zstd", frames, 6_000).unwrap(), plain);
            assert_eq!(unpacked("zstd", frames, 5_999).unwrap_err().status, 413);
            for behind in [&skipped[..9], &skipped[..6], &ZSTD_MAGIC, b"x"] {
                let cut = [frames, behind].concat();
                assert_eq!(unpacked("zstd", &cut, 6_000).unwrap_err().status, 400, "{behind:?}");
            }
        }
    }

    #[test]
    fn a_snappy_body_that_claims_more_than_it_can_hold_gets_no_memory() {
        // 1 GiB claimed by five bytes, then nothing.
        let bomb = [0x80, 0x80, 0x80, 0x80, 0x04];
        assert_eq!(unpacked("snappy", &bomb, 1 << 20).unwrap_err().status, 413);
        assert!(unpacked("snappy", &bomb, 2 << 30).unwrap_err().message.contains("can't come from"));
    }

    #[test]
    fn what_comes_of_a_body_is_held_before_it_is_made() {
        let plain = vec![7u8; (3 << 20) - 1];
        let snappy = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(&*plain, ruzstd::encoding::CompressionLevel::Fastest);
        let mut gzip = Vec::new();
        flate2::read::GzEncoder::new(&*plain, flate2::Compression::fast()).read_to_end(&mut gzip).unwrap();
        for (encoding, packed) in [("snappy", &snappy), ("zstd", &zstd), ("gzip", &gzip)] {
            for (limit, others, expected) in
                [(2 << 20, 0, Err(413)), (8 << 20, 7 << 20, Err(503)), (6 << 20, 0, Ok(plain.len()))]
            {
                let memory = Budget::new("--store.memory-limit", limit);
                let _others = memory.reserve(others).unwrap();
                let mut held = memory.reserve(packed.len() as u64).unwrap();
                let mut room = Room::new(64 << 20, &mut held, &memory);
                let unpacked = match encoding {
                    "gzip" => decompress_otlp(encoding, packed.clone(), &mut room),
                    _ => decompress(encoding, packed, &mut room),
                };
                let unpacked = unpacked.map(|plain| plain.len()).map_err(|error| error.status.as_u16());
                assert_eq!(unpacked, expected, "{encoding} within {limit}");
                assert!(expected.is_err() || memory.usage().used >= others + plain.len() as u64, "{encoding}");
            }
            assert!(takes_long(encoding, packed) == (encoding != "snappy"), "{encoding}: {} bytes", packed.len());
        }
        assert!(!takes_long("gzip", &gzip[..1_000]));
    }

    #[test]
    fn a_body_that_breaks_off_is_to_be_sent_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pieces = [Ok(http_body::Frame::data(bytes::Bytes::from_static(b"half"))), Err("gone")];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        let memory = Budget::new("--store.memory-limit", 10 << 20);
        let error = runtime.block_on(read(&HeaderMap::new(), body, (100, &memory))).unwrap_err();
        assert_eq!(
            (error.status, &*error.message),
            (StatusCode::SERVICE_UNAVAILABLE, "read compressed request body: gone")
        );
    }

    #[test]
    fn a_body_longer_than_allowed_is_refused_whether_it_says_so_or_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = || http_body_util::Full::new(bytes::Bytes::from_static(b"0123456789"));
        let honest = HeaderMap::from_iter([(header::CONTENT_LENGTH, "10".parse().unwrap())]);
        let memory = Budget::new("--store.memory-limit", 10 << 20);
        for headers in [HeaderMap::new(), honest] {
            assert_eq!(runtime.block_on(read(&headers, body(), (10, &memory))).unwrap().0, b"0123456789");
            assert_eq!(runtime.block_on(read(&headers, body(), (9, &memory))).unwrap_err().status, 413);
        }
        assert_eq!(memory.usage().used, 0);
    }

    #[test]
    fn bodies_that_take_more_memory_than_there_is_for_them_are_to_be_sent_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = Budget::new("--store.memory-limit", 5 << 20);
        let body = || http_body_util::Full::new(bytes::Bytes::from(vec![0; 3 << 20]));
        let headers = HeaderMap::new();
        let first = runtime.block_on(read(&headers, body(), (100 << 20, &memory))).unwrap();
        let second = runtime.block_on(read(&headers, body(), (100 << 20, &memory))).unwrap_err();
        assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(second.message.contains("a quarter of --store.memory-limit: "), "{}", second.message);
        let alone =
            runtime.block_on(read(&headers, body(), (100 << 20, &Budget::new("--store.memory-limit", 1 << 20))));
        assert_eq!(alone.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE, "another time is no better");
        drop(first);
        assert!(runtime.block_on(read(&headers, body(), (100 << 20, &memory))).is_ok());
    }

    #[test]
    fn a_body_of_which_nothing_comes_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let silent = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>,
        >());
        let next = async { next_frame(std::pin::pin!(silent), Duration::from_millis(1)).await };
        let error = runtime.block_on(next).unwrap_err();
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE, "to be sent again: {}", error.message);
    }
}
