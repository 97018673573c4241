//! Asking another process by hand: one message, and an answer that is read as it comes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use proto::series::GRPC_PREFIX_LEN;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use crate::telemetry::causes::with_causes;

/// What a call is answered with.
#[derive(Debug)]
pub struct Asked {
    /// The messages and the trailers.
    pub body: Body,
    status: StatusCode,
    has_ended: bool,
}

/// Calls the method at `path` with the message in `framed`, and with `headers` besides those that every call has. An
/// answer that begins with a failure is that failure.
pub async fn ask<S>(mut channel: S, path: &str, (mut headers, framed): (HeaderMap, Bytes)) -> Result<Asked, Status>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: std::error::Error + 'static,
{
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let body = Body::new(Full::new(framed).map_err(|never| match never {}));
    let request = Request::post(path).version(http::Version::HTTP_2).body(body);
    let mut request = request.map_err(|error| Status::internal(error.to_string()))?;
    *request.headers_mut() = headers;
    let away = |error: S::Error| Status::unavailable(with_causes(&error));
    let response = channel.ready().await.map_err(away)?.call(request).await.map_err(away)?;
    let (parts, body) = response.into_parts();
    let mut asked = Asked { body, status: parts.status, has_ended: false };
    asked.note(&parts.headers)?;
    Ok(asked)
}

impl Asked {
    /// Takes note of headers or trailers; a failure that they tell ends the call.
    pub fn note(&mut self, headers: &HeaderMap) -> Result<(), Status> {
        match Status::from_header_map(headers) {
            Some(status) if status.code() != Code::Ok => Err(status),
            status => {
                self.has_ended |= status.is_some();
                Ok(())
            }
        }
    }

    /// Whether all of it has come: an answer that says so nowhere is none.
    pub fn end(&self) -> Result<(), Status> {
        if self.has_ended {
            return Ok(());
        }
        Err(Status::unavailable(format!("the answer has no gRPC status; HTTP status {}", self.status)))
    }
}

/// `framed`, whose prefix leaves room for the length of what follows, with that length.
pub fn sealed(mut framed: Vec<u8>) -> Bytes {
    let len = (framed.len() - GRPC_PREFIX_LEN) as u32;
    framed[1..GRPC_PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    framed.into()
}
