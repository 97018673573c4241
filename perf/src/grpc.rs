//! Calls over gRPC on one connection of HTTP/2, with the answer's bytes as they come.

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Bytes of one stream that may be under way; the same for a connection.
const WINDOW_BYTES: u32 = 16 << 20;

/// Bytes of a frame of HTTP/2.
const FRAME_BYTES: u32 = 256 << 10;

/// A connection to a server.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: String,
}

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot connect to {address}: {error}");
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        // The connection ends with its last sender, or the next call tells.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, address: address.to_owned() })
    }

    /// Calls `path` (`/package.Service/Method`) and gives the answer's bytes to `each`, prefixes of
    /// messages included. An error when the status is not OK.
    pub async fn call(
        &mut self,
        path: &str,
        headers: &[(&'static str, String)],
        message: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{path} at {}: {error}", self.address);
        let mut framed = Vec::with_capacity(5 + message.len());
        framed.push(0);
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(framed))).map_err(|error| failed(&error))?;
        self.sender.ready().await.map_err(|error| failed(&why(&error)))?;
        let response = self.sender.send_request(request).await.map_err(|error| failed(&why(&error)))?;
        let (parts, mut body) = response.into_parts();
        let mut trailers = parts.headers;
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| failed(&why(&error)))?.into_data() {
                Ok(data) => each(data.chunk()),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        match status(&trailers) {
            Some("0") => Ok(()),
            status => {
                let message = trailers.get("grpc-message").and_then(|message| message.to_str().ok());
                Err(failed(&format!("status {}: {}", status.unwrap_or("missing"), message.unwrap_or_default())))
            }
        }
    }
}

/// An error with what caused it, which hyper's own text leaves out.
fn why(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn status(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

/// The messages of an answer that came whole.
pub fn messages(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = answer;
    std::iter::from_fn(move || {
        let (prefix, after) = rest.split_at_checked(5)?;
        let len = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
        let (message, after) = after.split_at_checked(len)?;
        rest = after;
        Some(message)
    })
}
