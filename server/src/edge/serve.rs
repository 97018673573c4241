//! Accepting connections and serving HTTP/1 and HTTP/2 on them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower::Service;

use super::Shutdown;
use super::certificate::{Certified, ClientCertificate};
use super::target::Forgiving;
use super::tls::TlsServer;

/// Bytes that a stream may have in flight before its sender waits for the peer: with less, a
/// stream of large frames idles for a round trip now and then.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same for a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Time of silence after which a peer is asked whether it is there: one that is gone or stopped holds turns and memory
/// of answers that it does not read.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of one stream that wait to be sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Requests that a connection may have under way.
const STREAMS_MAX: u32 = 1000;

/// A connection that doesn't finish its TLS handshake in this time is closed.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Time of silence after which the kernel asks whether the other end is there, and how often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How often an accepting thread wakes on its own. A timer that is set before any other wakes the thread's
/// runtime through the kernel, and a connection sets one for each request when it has been answered: with one
/// that always comes earlier no request does that.
const TICK: Duration = Duration::from_secs(10);

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// TLS; none for plain TCP.
    pub tls: Option<Arc<TlsServer>>,
    /// A connection is asked to end when it is this old; zero: never.
    pub connection_age_max: Duration,
    /// How long requests may go on after the signal to end.
    pub grace: Duration,
}

/// Serves `service` on every connection that `listener` accepts, until the signal to end; returns
/// when all requests have ended or the grace period is over.
pub async fn serve<S, B>(listener: TcpListener, service: S, options: ServeOptions, mut shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Each connection holds a sender; the channel closes when the last has ended.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tick.tick() => continue,
            () = shutdown.begun() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without this a small frame waits for the acknowledgement of the one before, up to 40 ms.
        let _ = stream.set_nodelay(true);
        // A client that vanished without a word would keep its connection for ever.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let (service, options, shutdown, open) = (service.clone(), options.clone(), shutdown.clone(), open.clone());
        tokio::spawn(async move {
            connection(stream, service, options, shutdown).await;
            drop(open);
        });
    }
    drop((listener, open));
    if tokio::time::timeout(options.grace, all_closed.recv()).await.is_err() {
        tracing::warn!(grace = ?options.grace, "requests were cut off at the end of the grace period");
    }
}

async fn connection<S, B>(stream: TcpStream, service: S, options: ServeOptions, mut shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let age_max = options.connection_age_max;
    let Some(tls) = &options.tls else { return drive(stream, service, age_max, shutdown).await };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)) => accepted,
        () = shutdown.begun() => return,
    };
    match accepted {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let service = Certified { inner: service, certificate: certificate.map(ClientCertificate::new) };
            drive(stream, service, age_max, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// Serves one connection; asks it to end at its greatest age or at the signal, after which requests
/// under way go on and no new ones come.
async fn drive<T, S, B>(stream: T, service: S, age_max: Duration, mut shutdown: Shutdown)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let service = TowerToHyperService::new(service);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(Forgiving::new(stream)), service));
    let mut age = std::pin::pin!(tokio::time::sleep(age_max));
    let mut is_ending = false;
    let ended = loop {
        tokio::select! {
            ended = served.as_mut() => break ended,
            () = &mut age, if !is_ending && !age_max.is_zero() => {}
            () = shutdown.begun(), if !is_ending => {}
        }
        is_ending = true;
        served.as_mut().graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
