//! Bodies of requests, accounted for as they come.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use engine::model::{Budget, Error, Reservation};
use http::Extensions;

use super::respond::Failure;
use crate::api::arriving::{Holding, SMALL_BYTES, Unread, whole};

/// What a request is accounted for with.
#[derive(Clone, Debug)]
pub struct RequestMemory(pub Arc<Budget>);

impl RequestMemory {
    /// Memory for a request with these extensions; without a limit where none is named.
    pub fn of(extensions: &Extensions) -> Result<Reservation, Error> {
        let named = extensions.get::<Self>().map(|Self(memory)| Arc::clone(memory));
        named.unwrap_or_else(|| Budget::new("request", u64::MAX)).reserve(0)
    }
}

/// Has `held` answer for `bytes` of a request, unless they are few.
pub fn hold(held: &mut Reservation, bytes: u64) -> Result<(), Error> {
    if bytes <= SMALL_BYTES {
        return Ok(());
    }
    held.resize(bytes).map_err(|error| error.within("reading the request"))
}

/// The bytes of `body`, `bytes_max` at most, for which `held` answers as they come; `what` they are said to be.
pub async fn collected(
    mut body: Body,
    (what, bytes_max): (&str, usize),
    held: &mut Reservation,
) -> Result<Bytes, Failure> {
    let (memory, mut holding) = (Arc::clone(held.budget()), Holding::default());
    let read = whole(&mut body, (bytes_max, SMALL_BYTES), (&mut holding, &memory)).await;
    let bytes = read.map_err(|unread| match unread {
        Unread::NoMemory(error) => Failure::from(error.within("reading the request")),
        unread => Failure::bad_data(format!("cannot read {what} of up to {bytes_max} bytes: {unread}")),
    })?;
    if let Some(shared) = holding.into_shared() {
        held.join(shared);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_is_accounted_for_as_far_as_it_has_come() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        let collect = async |len: usize, bytes_max: usize| {
            let mut held = memory.reserve(0).unwrap();
            let body = collected(Body::from(vec![b'a'; len]), ("a form", bytes_max), &mut held).await;
            body.map(|body| (body.len(), held.bytes())).map_err(|failure| format!("{failure:?}"))
        };
        assert_eq!(collect(1000, 2000).await, Ok((1000, 0)), "what is small is not counted");
        let (len, held) = collect(500_000, 1 << 30).await.unwrap();
        assert!(len == 500_000 && held >= 500_000, "{held}");
        let refused = collect(2 << 20, 1 << 30).await.unwrap_err();
        assert!(refused.contains("reading the request: --query.memory-limit: "), "{refused}");
        let refused = collect(2000, 1000).await.unwrap_err();
        assert!(refused.contains("cannot read a form of up to 1000 bytes: length limit exceeded"), "{refused}");
        assert_eq!(memory.usage().used, 0);
    }

    #[tokio::test]
    async fn a_body_that_is_waited_for_is_accounted_for_however_small_it_is() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        let piece = Ok::<_, Infallible>(Bytes::from_static(b"query="));
        let body = Body::from_stream(stream::iter([piece]).chain(stream::pending()));
        let mut held = memory.reserve(0).unwrap();
        let mut reading = std::pin::pin!(collected(body, ("a form", 1000), &mut held));
        for _ in 0..2 {
            assert!(reading.as_mut().now_or_never().is_none());
        }
        assert!(memory.aside().usage().used > 0);
    }
}
