//! Requests on their way: for what has come of one memory is held as long as more of it is waited for, and afterwards
//! where it is large.
//!
//! ```text
//! all of it lies ready ──> up to some bytes: nothing is held, and nothing is copied
//! more is waited for ────> what has come, and a little for who waits: of what lies aside, or of the rest when that is
//!                          given out or the request is large
//! ```

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine::model::{Budget, Error, Reservation};
use http_body::Frame;
use http_body_util::BodyExt as _;

/// Longest time in which nothing of a request comes: it keeps memory that others wait for.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A request of up to this many bytes is heard however little memory is left.
pub const SMALL_BYTES: u64 = 64 << 10;

/// Bytes that a request takes which is waited for, besides those that have come of it.
const WAITING_BYTES: u64 = 4 << 10;

/// Why a request could not be read.
#[derive(Debug)]
pub enum Unread {
    /// It broke off.
    Broken(String),
    /// Nothing more of it came for so long.
    Silent(Duration),
    /// It has more bytes than it may.
    TooLarge,
    /// There is no memory for it.
    NoMemory(Error),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) => f.write_str(why),
            Self::Silent(silence) => write!(f, "nothing more of it came within {silence:?}"),
            Self::TooLarge => f.write_str("length limit exceeded"),
            Self::NoMemory(error) => write!(f, "{error}"),
        }
    }
}

/// What a request holds of the process' memory; nothing yet by default.
#[derive(Debug, Default)]
pub struct Holding {
    /// Of what lies aside.
    aside: Option<Reservation>,
    /// Of what all requests share.
    shared: Option<Reservation>,
}

impl Holding {
    /// Holds `bytes` of `memory` from now on, of what lies aside where they are few and there are some.
    pub fn resize(&mut self, bytes: u64, memory: &Arc<Budget>) -> Result<(), Error> {
        if bytes <= SMALL_BYTES && self.shared.is_none() && self.resize_aside(bytes, memory) {
            return Ok(());
        }
        match &mut self.shared {
            Some(shared) => shared.resize(bytes)?,
            None => self.shared = Some(memory.reserve(bytes)?),
        }
        self.aside = None;
        Ok(())
    }

    fn resize_aside(&mut self, bytes: u64, memory: &Budget) -> bool {
        match &mut self.aside {
            Some(aside) => aside.resize(bytes).is_ok(),
            None => {
                self.aside = memory.aside().reserve(bytes).ok();
                self.aside.is_some()
            }
        }
    }

    /// What is held of what all requests share, if any.
    pub fn into_shared(self) -> Option<Reservation> {
        self.shared
    }
}

/// All of `body`, `bytes_max` bytes at most; in the end `holding` answers for it where that is more than `free_bytes`.
pub async fn whole<B>(
    body: &mut B,
    (bytes_max, free_bytes): (usize, u64),
    (holding, memory): (&mut Holding, &Arc<Budget>),
) -> Result<Bytes, Unread>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = match ready_soon(body).await {
            Some(frame) => frame,
            None => {
                // A piece keeps the buffer that the connection has read it into, so that it is copied.
                rest.extend_from_slice(&std::mem::take(&mut first));
                let bytes = WAITING_BYTES + rest.capacity() as u64;
                holding.resize(bytes, memory).map_err(Unread::NoMemory)?;
                next_within(body, SILENCE_MAX).await?
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Unread::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let enough = first.len() + rest.len() + data.len();
        if enough > bytes_max {
            return Err(Unread::TooLarge);
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if enough > rest.capacity() {
            let room = enough.max(2 * rest.capacity());
            // What is there is copied, so that both are there for a while.
            let bytes = (room + rest.len()) as u64;
            if bytes > free_bytes {
                holding.resize(bytes, memory).map_err(Unread::NoMemory)?;
            }
            rest.reserve(room - rest.len());
        }
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&data);
    }
    let (bytes, taken) = match rest.capacity() {
        0 => (first.len(), first),
        room => (room, rest.freeze()),
    };
    match bytes as u64 > free_bytes {
        true => holding.resize(bytes as u64, memory).map_err(Unread::NoMemory)?,
        false => *holding = Holding::default(),
    }
    Ok(taken)
}

/// The next frame of `body` if it lies ready or does once whoever reads from the connection had a turn. Most do, and
/// for these no time is taken and nothing is held.
async fn ready_soon<B: http_body::Body + Unpin>(body: &mut B) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
    let mut is_asked_again = false;
    poll_fn(move |context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if is_asked_again => Poll::Ready(None),
        Poll::Pending => {
            is_asked_again = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// The next frame of `body`, which is to come within `silence_max`.
async fn next_within<B: http_body::Body + Unpin>(
    body: &mut B,
    silence_max: Duration,
) -> Result<Option<Result<Frame<B::Data>, B::Error>>, Unread> {
    let next = tokio::time::timeout(silence_max, body.frame()).await;
    next.map_err(|_| Unread::Silent(silence_max))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Piece = Result<Frame<Bytes>, Infallible>;

    fn piece(bytes: usize) -> Piece {
        Ok(Frame::data(vec![b'a'; bytes].into()))
    }

    /// Reads `body` as far as it comes at once: what it held of what lies aside and of the rest, and its length if it
    /// ended.
    async fn read(
        mut body: impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin,
        memory: &Arc<Budget>,
    ) -> (Result<Option<usize>, Unread>, u64, u64) {
        let mut holding = Holding::default();
        let read = {
            let mut reading = std::pin::pin!(whole(&mut body, (1 << 20, 1000), (&mut holding, memory)));
            // As the task is asked again that has been woken.
            let first = reading.as_mut().now_or_never();
            first.or_else(|| reading.as_mut().now_or_never())
        };
        let read = read.transpose().map(|bytes| bytes.map(|bytes| bytes.len()));
        let held = |held: &Option<Reservation>| held.as_ref().map_or(0, Reservation::bytes);
        (read, held(&holding.aside), held(&holding.shared))
    }

    #[tokio::test]
    async fn what_lies_ready_holds_nothing_where_it_is_little() {
        let memory = Budget::new("--store.memory-limit", 64 << 20);
        let (length, aside, shared) = read(Full::new(Bytes::from(vec![0; 1000])), &memory).await;
        assert_eq!((length.unwrap(), aside, shared), (Some(1000), 0, 0));
        let (length, aside, shared) = read(Full::new(Bytes::from(vec![0; 5000])), &memory).await;
        assert_eq!((length.unwrap(), aside, shared), (Some(5000), 5000, 0));
        let pieces = StreamBody::new(stream::iter([piece(60_000), piece(60_000)]));
        let (length, aside, shared) = read(pieces, &memory).await;
        assert!(length.unwrap() == Some(120_000) && aside == 0 && shared >= 120_000, "{aside} {shared}");
        let (refused, ..) = read(Full::new(Bytes::from(vec![0; (1 << 20) + 1])), &memory).await;
        assert!(matches!(refused, Err(Unread::TooLarge)), "{refused:?}");
        assert_eq!((memory.usage().used, memory.aside().usage().used), (0, 0));
    }

    #[tokio::test]
    async fn what_is_waited_for_is_held_however_little_has_come() {
        let memory = Budget::new("--store.memory-limit", 64 << 20);
        let unfinished = |bytes| StreamBody::new(stream::iter([piece(bytes)]).chain(stream::pending::<Piece>()));
        let (length, aside, shared) = read(unfinished(5), &memory).await;
        assert!(length.unwrap().is_none() && aside > WAITING_BYTES && shared == 0, "{aside} {shared}");
        let (length, aside, shared) = read(unfinished(100_000), &memory).await;
        assert!(length.unwrap().is_none() && aside == 0 && shared > 100_000, "{aside} {shared}");
        // Others hold all of what is shared: a small one is heard all the same, a large one is not.
        let _others = memory.reserve(64 << 20).unwrap();
        assert!(read(unfinished(5), &memory).await.0.unwrap().is_none());
        let (refused, ..) = read(unfinished(100_000), &memory).await;
        assert!(matches!(refused, Err(Unread::NoMemory(_))), "{refused:?}");
        // And as many small ones as there may be.
        let _small = memory.aside().reserve(2 << 20).unwrap();
        let (refused, ..) = read(unfinished(5), &memory).await;
        assert!(matches!(refused, Err(Unread::NoMemory(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_request_of_which_nothing_comes_ends_and_one_that_has_come_is_not_waited_for() {
        let mut silent = StreamBody::new(stream::pending::<Piece>());
        let silence = next_within(&mut silent, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(silence.to_string(), "nothing more of it came within 1ms");
        let mut ended = Full::new(Bytes::new());
        assert!(next_within(&mut ended, Duration::ZERO).await.unwrap().is_none());
    }
}
