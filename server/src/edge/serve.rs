//! Accepting connections and serving HTTP/1 and HTTP/2 on them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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

/// Bytes of the head of a request, for which nothing accounts while it comes; an address has half of them at most. Over
/// HTTP/1 as many bytes of a body are read at a time.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// Bytes that a connection takes besides what its requests are accounted for with: most have no head that is half
/// there.
const CONNECTION_BYTES: u64 = 64 << 10;

/// The share of a process' memory that the connections of a port may take.
const CONNECTIONS_SHARE: u64 = 4;

/// Connections that a port may have however little memory there is.
const CONNECTIONS_MIN: u64 = 2048;

/// How often it is logged that there are as many connections as there may be.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A connection that doesn't finish its TLS handshake in this time is closed.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection on which nothing comes in this time is closed: it keeps a place that others may wait for.
const FIRST_BYTES_TIME_MAX: Duration = Duration::from_secs(30);

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
    /// The connections that there may be.
    pub places: Places,
}

/// Places of the connections of a port; its threads share them. There are any number of them by default.
#[derive(Clone, Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    max: usize,
    /// How often a connection had to wait for one.
    waited: Counter,
    /// When that was logged last.
    logged: Arc<Mutex<Option<Instant>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(Semaphore::MAX_PERMITS, Counter::default())
    }
}

impl Places {
    /// As many as a process has memory for that may use `memory_bytes`; `waited` counts connections that had to wait.
    pub fn within(memory_bytes: u64, waited: Counter) -> Self {
        let places = (memory_bytes / CONNECTIONS_SHARE / CONNECTION_BYTES).max(CONNECTIONS_MIN);
        Self::new(usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS), waited)
    }

    fn new(max: usize, waited: Counter) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max, waited, logged: Arc::default() }
    }

    /// A place for a connection. Until there is one it waits, and those behind it where the kernel keeps them.
    async fn next(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return place;
        }
        self.waited.inc();
        self.log();
        Arc::clone(&self.free).acquire_owned().await.expect("places are never closed")
    }

    fn log(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| last.elapsed() > FULL_LOG_INTERVAL) {
            *logged = Some(Instant::now());
            let max = self.max;
            tracing::warn!(max, "a port has as many connections as it may: new ones wait until others end");
        }
    }
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
        let place = tokio::select! {
            place = options.places.next() => place,
            () = shutdown.begun() => break,
        };
        // Without this a small frame waits for the acknowledgement of the one before, up to 40 ms.
        let _ = stream.set_nodelay(true);
        // A client that vanished without a word would keep its connection for ever.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let (service, options, shutdown, open) = (service.clone(), options.clone(), shutdown.clone(), open.clone());
        tokio::spawn(async move {
            connection(stream, service, options, shutdown).await;
            drop((open, place));
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
    let speaks = tokio::select! {
        speaks = speaks(&stream, FIRST_BYTES_TIME_MAX) => speaks,
        () = shutdown.begun() => return,
    };
    if !speaks {
        tracing::debug!("nothing came on a connection");
        return;
    }
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

/// Whether something comes on `stream` within `silence_max`.
async fn speaks(stream: &TcpStream, silence_max: Duration) -> bool {
    tokio::time::timeout(silence_max, stream.peek(&mut [0])).await.is_ok()
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
    builder.http1().timer(TokioTimer::new()).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers with the length of the body.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let len = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        Ok(Response::new(Full::new(Bytes::from(len.to_string()))))
    }

    /// All that is answered on a connection on which `asked` is sent.
    async fn answered(asked: String) -> String {
        let (mut client, server) = tokio::io::duplex(4 << 20);
        let (_trigger, shutdown) = crate::edge::shutdown();
        let serving = tokio::spawn(drive(server, tower::service_fn(answer), Duration::ZERO, shutdown));
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        serving.await.unwrap();
        text
    }

    #[tokio::test]
    async fn addresses_and_heads_have_a_length_at_most_and_bodies_and_further_requests_come_behind_them() {
        let get = |path: usize, cookie: usize| {
            let (path, cookie) = ("a".repeat(path), "b".repeat(cookie));
            format!("GET /{path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n")
        };
        for (path, cookie, status) in [(60_000, 60_000, 200), (70_000, 10, 414), (10, 200_000, 431), (200_000, 10, 431)]
        {
            let text = answered(get(path, cookie)).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {cookie}: {text}");
        }
        let body = "c".repeat(1 << 20);
        let post = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let text = answered([post.as_str(), &post, &get(1, 1)].concat()).await;
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 3, "{text}");
        assert_eq!(text.matches("\r\n\r\n1048576").count(), 2, "{text}");
    }

    #[tokio::test]
    async fn a_connection_for_which_there_is_no_place_waits_until_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = crate::edge::shutdown();
        let waited = Counter::default();
        let places = Places::new(1, waited.clone());
        let options = ServeOptions { tls: None, connection_age_max: Duration::ZERO, grace: Duration::ZERO, places };
        let serving = tokio::spawn(serve(listener, tower::service_fn(answer), options, shutdown));
        let connect = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream
        };
        let mut start = [0; 12];
        let mut first = connect().await;
        first.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        let mut second = connect().await;
        let early = tokio::time::timeout(Duration::from_millis(50), second.read_exact(&mut start)).await;
        assert!(early.is_err(), "it waits");
        assert_eq!(waited.get(), 1);
        drop(first);
        second.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        trigger.begin();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_comes_keeps_no_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(!speaks(&server, Duration::from_millis(10)).await);
        client.write_all(b"G").await.unwrap();
        assert!(speaks(&server, Duration::from_secs(30)).await);
    }

    #[test]
    fn a_port_has_as_many_places_as_there_is_memory_for() {
        let places = |memory_bytes| Places::within(memory_bytes, Counter::default()).max;
        assert_eq!([100 << 20, 1 << 30, 16 << 30].map(places), [2048, 4096, 65_536]);
    }
}
