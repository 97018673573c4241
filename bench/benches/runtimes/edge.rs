//! A request over a socket: the edge reads it, sends it to a shard in one hop, and sends the frames that the
//! shard made. One thread serves; the bench is its client. Requests come one after the other: what is
//! measured is the way there and back, with a large answer and with a small one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;

use criterion::{BenchmarkId, Criterion, Throughput};
use engine::shard::{Options, Pool, gather};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::has_uring;

/// Bytes of a request: its answer's length.
const REQUEST_BYTES: usize = 8;

/// Bytes of a piece that is written at once: a frame of HTTP/2, about.
const PIECE_BYTES: usize = 128 << 10;

/// Compares the runtimes.
pub fn compare(criterion: &mut Criterion) {
    let pool = Pool::start(&Options::default()).expect("the shards start");
    let mut servers = vec![("tokio", serve(&pool, plain)), ("a blocking thread", serve(&pool, blocking))];
    if has_uring() {
        servers.push(("tokio-uring", serve(&pool, with_uring)));
        servers.push(("glommio", serve(&pool, with_glommio)));
    }
    let mut group = criterion.benchmark_group("edge: frames of a shard over a socket");
    group.sample_size(20);
    for len in [1 << 10, 4 << 20] {
        group.throughput(Throughput::Bytes(len as u64));
        for (name, address) in &servers {
            let mut stream = TcpStream::connect(address).expect("a server listens");
            stream.set_nodelay(true).expect("a socket");
            let mut answer = vec![0; len];
            group.bench_function(BenchmarkId::new(*name, len), |bencher| {
                bencher.iter(|| {
                    stream.write_all(&(len as u64).to_le_bytes()).expect("a server reads");
                    stream.read_exact(&mut answer).expect("a server answers");
                });
            });
        }
    }
    group.finish();
}

/// Tells where a server listens.
type Listening = mpsc::Sender<SocketAddr>;

/// Starts a server on a thread of its own, which ends with the process.
fn serve(pool: &Arc<Pool>, server: fn(Arc<Pool>, Listening)) -> SocketAddr {
    let (listening, address) = mpsc::channel();
    let pool = Arc::clone(pool);
    std::thread::spawn(move || server(pool, listening));
    address.recv().expect("a server that listens")
}

fn bind(listening: &Listening) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listening.send(listener.local_addr().expect("a bound socket")).expect("somebody waits for it");
    listener
}

/// What a shard makes of a request.
fn frames(request: [u8; REQUEST_BYTES]) -> Vec<u8> {
    vec![7; u64::from_le_bytes(request) as usize]
}

async fn hop(pool: &Pool, request: [u8; REQUEST_BYTES]) -> Vec<u8> {
    let called = gather::call(pool, move |_| frames(request)).expect("a mailbox with room");
    called.into_recv_async().await.expect("the shard answers")
}

async fn accept(pool: Arc<Pool>, listening: Listening) {
    let listener = bind(&listening);
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    while let Ok((mut stream, _)) = listener.accept().await {
        let pool = Arc::clone(&pool);
        stream.set_nodelay(true).expect("a socket");
        tokio::task::spawn_local(async move {
            let mut request = [0; REQUEST_BYTES];
            while stream.read_exact(&mut request).await.is_ok() {
                for piece in hop(&pool, request).await.chunks(PIECE_BYTES) {
                    if stream.write_all(piece).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn plain(pool: Arc<Pool>, listening: Listening) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, accept(pool, listening));
}

fn with_uring(pool: Arc<Pool>, listening: Listening) {
    tokio_uring::start(accept(pool, listening));
}

fn with_glommio(pool: Arc<Pool>, listening: Listening) {
    use futures_util::io::{AsyncReadExt, AsyncWriteExt};
    glommio::LocalExecutor::default().run(async move {
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listening.send(listener.local_addr().expect("a bound socket")).expect("somebody waits for it");
        while let Ok(mut stream) = listener.accept().await {
            let pool = Arc::clone(&pool);
            stream.set_nodelay(true).expect("a socket");
            let serving = glommio::spawn_local(async move {
                let mut request = [0; REQUEST_BYTES];
                while stream.read_exact(&mut request).await.is_ok() {
                    for piece in hop(&pool, request).await.chunks(PIECE_BYTES) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                }
            });
            serving.detach();
        }
    });
}

fn blocking(pool: Arc<Pool>, listening: Listening) {
    let listener = bind(&listening);
    while let Ok((mut stream, _)) = listener.accept() {
        let pool = Arc::clone(&pool);
        stream.set_nodelay(true).expect("a socket");
        std::thread::spawn(move || {
            let mut request = [0; REQUEST_BYTES];
            while stream.read_exact(&mut request).is_ok() {
                let frames = engine::shard::block_on(hop(&pool, request));
                if frames.chunks(PIECE_BYTES).any(|piece| stream.write_all(piece).is_err()) {
                    return;
                }
            }
        });
    }
}
