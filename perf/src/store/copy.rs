//! A server that answers every call with the bytes of a file: what the bytes of an answer cost when
//! nothing has to be found or read. It serves on the stack that uru serves on: hyper, one thread.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// The header that names the file with the answer.
pub const ANSWER_HEADER: &str = "answer";

/// Bytes that are given to the connection at once.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of one stream that wait to be sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Where to serve what.
#[derive(clap::Args)]
pub struct Args {
    /// Address to serve on.
    #[arg(long)]
    address: String,
    /// Folder of the answers.
    #[arg(long)]
    answers: PathBuf,
}

/// Serves until the process is ended.
pub fn run(args: &Args) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot serve on {}: {error}", args.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let answers = Arc::new(Answers { folder: args.answers.clone(), read: Mutex::default() });
    runtime.block_on(async {
        let listener = TcpListener::bind(&args.address).await.map_err(failed)?;
        loop {
            let (stream, _) = listener.accept().await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let answers = Arc::clone(&answers);
                    async move {
                        let (parts, mut body) = request.into_parts();
                        // A stream that is answered before its request was read is reset, and a connection
                        // with many of those is closed.
                        while let Some(Ok(_)) = body.frame().await {}
                        answers.answer(&parts.headers)
                    }
                });
                let mut server = http2::Builder::new(TokioExecutor::new());
                server.max_send_buf_size(SEND_BUFFER_BYTES);
                // A connection that breaks tells its other end.
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

struct Answers {
    folder: PathBuf,
    read: Mutex<HashMap<String, Bytes>>,
}

impl Answers {
    fn answer(&self, headers: &HeaderMap) -> Result<Response<Pieces>, Infallible> {
        let name = headers.get(ANSWER_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = read.entry(name.to_owned()).or_insert_with(|| {
            // An answer that can't be read is empty, which the asker sees.
            Bytes::from(std::fs::read(self.folder.join(name)).unwrap_or_default())
        });
        let mut response = Response::new(Pieces { rest: bytes.clone(), is_done: false });
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}

/// An answer, piece by piece, each copied as an answer that is made is written once; then the trailers.
struct Pieces {
    rest: Bytes,
    is_done: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            self.is_done = true;
            let status = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                "0".parse().expect("0 is a value"),
            )]);
            return Poll::Ready(Some(Ok(Frame::trailers(status))));
        }
        let len = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(len).to_vec();
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}
