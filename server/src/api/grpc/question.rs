//! Questions: what calls ask for is read whole before anything answers them, and accounted for until the answer begins.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::model::Budget;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use proto::series::GRPC_PREFIX_LEN;
use proto::wire::Fields;
use tonic::{Code, Status};

use super::call::QUESTION_BYTES_MAX;
use super::reflection;
use crate::api::arriving::{Holding, Unread, whole};
use crate::api::error;

/// A question of up to this many bytes that lies ready is not accounted for, as nearly all are.
const FREE_BYTES: u64 = 1 << 10;

/// Bytes that a field of a message becomes besides its own, such as a matcher of two bytes.
const FIELD_BYTES: u64 = 128;

/// How often a byte of a message is there: as it came, and in what is made of it.
const QUESTION_COPIES: u64 = 2;

/// Most bytes of a question that has next to nothing to say.
pub const SHORT_BYTES_MAX: usize = 16 << 10;

/// The services of such questions.
const SHORT: [&str; 2] = ["/thanos.info.Info/", "/grpc.health.v1.Health/"];

/// The service whose calls bring samples, which are accounted for by who takes them.
const WRITES: &str = "/thanos.WriteableStore/";

/// The body of a call as a service gets it.
#[derive(Debug)]
pub enum Question<B> {
    /// All of it; nothing once that was taken.
    Whole(Option<Bytes>),
    /// A body that the service reads itself.
    Coming(B),
}

impl<B: Body<Data = Bytes> + Unpin> Body for Question<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Coming(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Coming(body) => body.size_hint(),
        }
    }
}

/// `request` with all that it asks for, and what holds the memory of that.
pub async fn heard<B>(request: Request<B>, memory: &Arc<Budget>) -> Result<(Request<Question<B>>, Holding), Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let mut holding = Holding::default();
    let path = request.uri().path();
    if path.starts_with(WRITES) || reflection::PATHS.contains(&path) {
        return Ok((request.map(Question::Coming), holding));
    }
    let is_short = SHORT.iter().any(|service| path.starts_with(service));
    let bytes_max = if is_short { SHORT_BYTES_MAX } else { QUESTION_BYTES_MAX };
    let (parts, mut body) = request.into_parts();
    let limits = (bytes_max + GRPC_PREFIX_LEN, FREE_BYTES);
    let bytes = whole(&mut body, limits, (&mut holding, memory)).await.map_err(|unread| match unread {
        Unread::NoMemory(error) => error::status(&error.within("reading the request")),
        Unread::TooLarge => Status::resource_exhausted(format!("the request is larger than {bytes_max} bytes")),
        Unread::Broken(_) => Status::new(Code::Cancelled, format!("cannot read the request: {unread}")),
        Unread::Silent(_) => Status::deadline_exceeded(format!("cannot read the request: {unread}")),
    })?;
    if bytes.len() as u64 > FREE_BYTES {
        let message = bytes.get(GRPC_PREFIX_LEN..).unwrap_or_default();
        let held = holding.resize(decoded_bytes(message), memory);
        held.map_err(|error| error::status(&error.within("reading the request")))?;
    }
    Ok((Request::from_parts(parts, Question::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))), holding))
}

/// Bytes of `message` and of what is made of it.
pub fn decoded_bytes(message: &[u8]) -> u64 {
    let (mut fields, mut count) = (Fields::new("question", message), 0);
    // What is no message is refused soon.
    while let Ok(Some(_)) = fields.next() {
        count += 1;
    }
    QUESTION_COPIES * message.len() as u64 + FIELD_BYTES * count
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn call<B>(path: &str, body: B) -> Request<B> {
        Request::post(path).body(body).unwrap()
    }

    #[tokio::test]
    async fn a_question_is_whole_before_it_is_answered_and_one_that_is_long_is_accounted_for() {
        let memory = Budget::new("--store.memory-limit", 64 << 20);
        for (len, is_held) in [(0, false), (100, false), (10_000, true), (1 << 20, true)] {
            let asked = call("/thanos.Store/Series", Full::new(Bytes::from(vec![b'a'; len])));
            let (request, holding) = heard(asked, &memory).await.unwrap();
            let used = || memory.usage().used + memory.aside().usage().used;
            let least = if is_held { 2 * len as u64 } else { 0 };
            assert!(used() >= least && (used() > 0) == is_held, "{len}: {}", used());
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes().len(), len);
            drop(holding);
            assert_eq!(used(), 0);
        }
        let many = call("/thanos.Store/Series", Full::new(Bytes::from(vec![0; QUESTION_BYTES_MAX + 6])));
        assert_eq!(heard(many, &memory).await.unwrap_err().code(), Code::ResourceExhausted);
        let many = call("/thanos.info.Info/Info", Full::new(Bytes::from(vec![0; SHORT_BYTES_MAX + 6])));
        assert_eq!(heard(many, &memory).await.unwrap_err().code(), Code::ResourceExhausted);
        let much = call("/thanos.Store/Series", Full::new(Bytes::from([0x1a, 0].repeat(1 << 20))));
        let refused = heard(much, &memory).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "a million matchers");
        assert!(refused.message().starts_with("reading the request: --store.memory-limit: "), "{refused}");
    }

    #[tokio::test]
    async fn a_call_without_end_is_waited_for_with_memory_and_what_brings_samples_is_not_read() {
        let memory = Budget::new("--store.memory-limit", 64 << 20);
        let silent = || StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        {
            let mut hearing = std::pin::pin!(heard(call("/thanos.Store/Series", silent()), &memory));
            for _ in 0..2 {
                assert!(hearing.as_mut().now_or_never().is_none());
            }
            assert!(memory.aside().usage().used > 0);
        }
        assert_eq!(memory.aside().usage().used, 0);
        for path in ["/thanos.WriteableStore/RemoteWrite", reflection::PATHS[0]] {
            let (request, _) = heard(call(path, silent()), &memory).await.unwrap();
            assert!(matches!(request.body(), Question::Coming(_)), "{path}");
        }
    }
}
