//! Forwarding over gRPC to other receivers, with upstream's framing and compression, and back-off
//! from those that are away.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use proto::series::GRPC_PREFIX_LEN;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::refusal::Refusal;
use crate::api::grpc::ask::{ask, sealed};
use crate::edge::connect::{self, PING_INTERVAL, PING_TIMEOUT, TlsClient, host};
use crate::telemetry::rpc::{Counted, RpcMetrics};

const PATH: &str = "/thanos.WriteableStore/RemoteWrite";

/// Names, in its metadata, a request that is forwarded for the second time.
const AGAIN: &str = "uru-forwarded-again";

/// Longest time that it takes to connect to a receiver.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// First pause after a receiver was away.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// How often a request is forwarded. Receivers whose rings differ for a moment would send it to each other without
/// end: what was forwarded twice is kept where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// By the receiver that placed it.
    First,
    /// By one that holds another ring.
    Again,
}

impl Hop {
    /// That of a request with such metadata.
    pub fn of(metadata: &HeaderMap) -> Self {
        if metadata.contains_key(AGAIN) { Self::Again } else { Self::First }
    }
}

/// How requests are compressed (`--receive.grpc-compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As a stream of snappy frames.
    Snappy,
    /// Not at all.
    None,
}

/// How connections to receivers are made.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// TLS; none for plain text.
    pub tls: Option<Arc<TlsClient>>,
    /// How requests are compressed.
    pub compression: Compression,
    /// Requests to one receiver that are under way at once for each [`Hop`] (`--receive.forward.async-workers`).
    pub workers: usize,
    /// Longest pause after a receiver was away.
    pub pause_max: Duration,
}

/// Connections to receivers, made when first used.
pub struct Peers {
    options: ForwardOptions,
    calls: RpcMetrics,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

struct Peer {
    channel: Counted<Channel>,
    workers: Workers,
    away: Mutex<Away>,
    /// Bytes that are on their way to it, or wait for that.
    pending: Arc<AtomicU64>,
}

/// Bytes on their way to a receiver, for as long as this lives.
#[derive(Debug)]
pub struct Pending {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Turns of requests to one receiver, apart for each hop: two receivers whose rings differ would wait for each
/// other if what they forward again took turns of what the other waits for to be forwarded again.
struct Workers {
    first: Semaphore,
    again: Semaphore,
}

impl Workers {
    fn new(count: usize) -> Self {
        Self { first: Semaphore::new(count), again: Semaphore::new(count) }
    }

    fn of(&self, hop: Hop) -> &Semaphore {
        match hop {
            Hop::First => &self.first,
            Hop::Again => &self.again,
        }
    }
}

/// How often in a row a receiver was away, since when the last time, and until when it is left alone.
#[derive(Clone, Copy, Debug, Default)]
struct Away {
    attempts: u32,
    pause: Option<(Instant, Instant)>,
}

impl Peers {
    /// No connection yet; `calls` counts what goes over them.
    pub fn new(options: ForwardOptions, calls: RpcMetrics) -> Self {
        Self { options, calls, peers: Mutex::default() }
    }

    /// Forgets receivers that `keeps` doesn't name, and every back-off.
    pub fn reset(&self, keeps: impl Fn(&str) -> bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|address, _| keeps(address));
        for peer in peers.values() {
            *peer.away.lock().unwrap_or_else(PoisonError::into_inner) = Away::default();
        }
    }

    /// Lets `bytes` more be on their way to a receiver, unless there are `bytes_max` with them and others are: one that
    /// hangs would otherwise take the memory of requests that can do without it.
    pub fn admit(&self, address: &str, (bytes, bytes_max): (u64, u64)) -> Result<Pending, Refusal> {
        let all = Arc::clone(&self.peer(address)?.pending);
        let with = |others: u64| (others == 0 || others + bytes <= bytes_max).then_some(others + bytes);
        match all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with) {
            Ok(_) => Ok(Pending { all, bytes }),
            Err(others) => {
                let message = format!("endpoint {address}: {others} bytes are on their way and not answered");
                Err(Refusal::unavailable(message))
            }
        }
    }

    /// Sends an encoded `thanos.WriteRequest`. One that is in its pause is not asked.
    pub async fn send(&self, address: &str, message: Vec<u8>, hop: Hop) -> Result<(), Refusal> {
        let (peer, asked) = (self.peer(address)?, Instant::now());
        if peer.is_in_pause() {
            return Err(Refusal::unavailable(format!("backing off forward request for endpoint {address}")));
        }
        let framed = frame(&message, self.options.compression);
        drop(message);
        let _turn = peer.workers.of(hop).acquire().await.expect("the semaphore is never closed");
        match call(peer.channel.clone(), framed, (self.options.compression, hop)).await {
            Ok(()) => {
                *peer.away.lock().unwrap_or_else(PoisonError::into_inner) = Away::default();
                Ok(())
            }
            Err(status) => {
                if status.code() == Code::Unavailable {
                    peer.note_away(asked, self.options.pause_max);
                }
                Err(Refusal::from_grpc(&status, address))
            }
        }
    }

    /// Takes note that a receiver did not answer in time what it was `asked` then: it is in a pause from now on.
    pub fn note_silent(&self, address: &str, asked: Instant) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            peer.note_away(asked, self.options.pause_max);
        }
    }

    fn peer(&self, address: &str) -> Result<Arc<Peer>, Refusal> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            return Ok(Arc::clone(peer));
        }
        let bad = |error: &dyn std::fmt::Display| Refusal::unavailable(format!("endpoint {address:?}: {error}"));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| bad(&error))?
            .initial_connection_window_size(16 << 20)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let server = (host(address), CONNECT_TIME_MAX);
        let channel = connect::channel(endpoint, self.options.tls.as_ref(), server).map_err(|error| bad(&error))?;
        let peer = Arc::new(Peer {
            channel: Counted::new(channel, self.calls.clone()),
            workers: Workers::new(self.options.workers.max(1)),
            away: Mutex::default(),
            pending: Arc::default(),
        });
        peers.insert(address.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }
}

impl Peer {
    fn is_in_pause(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.pause.is_some_and(|(_, until)| Instant::now() < until)
    }

    /// Doubles the pause, up to `pause_max`; of what was `asked` before the last pause began, that one came of it.
    fn note_away(&self, asked: Instant, pause_max: Duration) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.pause.is_some_and(|(since, _)| asked <= since) {
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << away.attempts.min(16)).min(pause_max);
        let now = Instant::now();
        *away = Away { attempts: away.attempts + 1, pause: Some((now, now + pause)) };
    }
}

fn frame(message: &[u8], compression: Compression) -> Bytes {
    let mut framed = Vec::with_capacity(message.len() + GRPC_PREFIX_LEN);
    framed.extend_from_slice(&[u8::from(compression == Compression::Snappy), 0, 0, 0, 0]);
    match compression {
        Compression::None => framed.extend_from_slice(message),
        Compression::Snappy => {
            let mut encoder = snap::write::FrameEncoder::new(&mut framed);
            encoder.write_all(message).and_then(|()| encoder.flush()).expect("a vector takes every byte");
        }
    }
    sealed(framed)
}

/// One call without an answer besides its status.
async fn call(channel: Counted<Channel>, framed: Bytes, (compression, hop): (Compression, Hop)) -> Result<(), Status> {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    if compression == Compression::Snappy {
        headers.insert("grpc-encoding", HeaderValue::from_static("snappy"));
    }
    if hop == Hop::Again {
        headers.insert(AGAIN, HeaderValue::from_static("1"));
    }
    let mut asked = ask(channel, PATH, (headers, framed)).await?;
    while let Some(frame) = asked.body.frame().await {
        let frame = frame.map_err(|error| Status::unavailable(error.to_string()))?;
        frame.trailers_ref().map_or(Ok(()), |trailers| asked.note(trailers))?;
    }
    asked.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_does_not_answer_gets_so_many_bytes_and_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options =
                ForwardOptions { tls: None, compression: Compression::None, workers: 1, pause_max: Duration::ZERO };
            let peers = Peers::new(options, RpcMetrics::default());
            let admit = |bytes| peers.admit("a:1", (bytes, 100));
            let large = admit(1000).expect("it is the only one");
            assert!(admit(1).unwrap_err().message.contains("1000 bytes are on their way"));
            drop(large);
            let some = [60, 40].map(|bytes| admit(bytes).unwrap());
            assert!(admit(1).is_err());
            assert!(peers.admit("b:1", (1, 100)).is_ok(), "another has its own");
            drop(some);
            assert!(admit(100).is_ok());
        });
    }

    #[test]
    fn a_receiver_that_is_away_is_left_alone_for_a_while() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            drop(listener);
            let options = ForwardOptions {
                tls: None,
                compression: Compression::Snappy,
                workers: 1,
                pause_max: Duration::from_secs(60),
            };
            let peers = Peers::new(options, RpcMetrics::default());
            let refused = peers.send(&address, Vec::new(), Hop::First).await.unwrap_err();
            assert_eq!(refused.status(), 503);
            assert!(!refused.message.contains("backing off"), "{refused:?}");
            assert!(peers.send(&address, Vec::new(), Hop::First).await.unwrap_err().message.contains("backing off"));
            peers.reset(|_| true);
            assert!(!peers.send(&address, Vec::new(), Hop::First).await.unwrap_err().message.contains("backing off"));
        });
    }

    #[test]
    fn requests_that_fail_together_lengthen_the_pause_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let pause_max = Duration::from_secs(60);
        let options = ForwardOptions { tls: None, compression: Compression::None, workers: 1, pause_max };
        let peers = Peers::new(options, RpcMetrics::default());
        let peer = peers.peer("127.0.0.1:1").unwrap();
        for attempts in 1..4 {
            let asked = Instant::now();
            (0..5).for_each(|_| peers.note_silent("127.0.0.1:1", asked));
            let away = *peer.away.lock().unwrap();
            let (since, until) = away.pause.unwrap();
            assert_eq!((away.attempts, until - since), (attempts, PAUSE_MIN * (1 << (attempts - 1))));
        }
    }

    #[test]
    fn frames_carry_their_length_and_whether_they_are_compressed() {
        assert_eq!(&frame(b"abc", Compression::None)[..], b"\0\0\0\0\x03abc");
        let packed = frame(&[7; 1000], Compression::Snappy);
        assert_eq!((packed[0], packed.len() < 200), (1, true));
    }
}
