//! The edge: threads that only wait for sockets and object stores. Each runs tokio-uring, or plain
//! tokio where io_uring is forbidden, and listens on the same ports.

use std::future::Future;
use std::net::{Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::io::{self, Support};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Algorithms of TLS by Go's names.
pub mod algorithms;
/// Certificates that clients present.
pub mod certificate;
/// Connections with TLS to servers.
pub mod connect;
/// Accepting connections and serving HTTP on them.
pub mod serve;
/// Targets of requests as people write them.
pub mod target;
/// TLS whose certificates are read again when their files change.
pub mod tls;
/// Whose certificates are believed.
pub mod trust;
/// Fields of certificates.
pub mod x509;

/// What drives an edge thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// tokio-uring.
    Uring,
    /// tokio alone.
    Tokio,
}

impl Runtime {
    /// What `mode` and this machine allow; fails when `mode` is what this machine does not allow.
    pub fn choose(mode: io::Mode) -> Result<Self, String> {
        Self::of(mode, io::probe())
    }

    fn of(mode: io::Mode, support: &Support) -> Result<Self, String> {
        match (mode, support) {
            (io::Mode::Pread, _) | (io::Mode::Auto, Support::Denied(_)) => Ok(Self::Tokio),
            (io::Mode::Auto | io::Mode::Uring, Support::Uring) => Ok(Self::Uring),
            (io::Mode::Uring, Support::Denied(why)) => {
                Err(format!("io_uring was asked for and does not work here, ask for auto or pread: {why}"))
            }
        }
    }

    /// Its name, for a log line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "tokio-uring",
            Self::Tokio => "tokio",
        }
    }

    /// Runs `future` on the calling thread.
    pub fn run<F: Future>(self, future: F) -> F::Output {
        match self {
            Self::Uring => tokio_uring::start(future),
            Self::Tokio => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a thread can wait for sockets and timers");
                tokio::task::LocalSet::new().block_on(&runtime, future)
            }
        }
    }

    /// Runs the future that `make` makes on a thread of its own.
    pub fn spawn<F, M>(self, name: String, make: M) -> std::io::Result<JoinHandle<()>>
    where
        F: Future<Output = ()>,
        M: FnOnce() -> F + Send + 'static,
    {
        std::thread::Builder::new().name(name).spawn(move || self.run(make()))
    }
}

/// Threads that serve and end together: a connection to another server that one of them has opened is driven by its
/// runtime, and requests of the others may be under way on it.
#[derive(Clone, Debug)]
pub struct Together {
    serves: watch::Sender<()>,
    all: watch::Receiver<()>,
}

impl Together {
    /// Of one thread, and of those that get a clone.
    pub fn new() -> Self {
        let (serves, all) = watch::channel(());
        Self { serves, all }
    }

    /// This thread has served; waits until all have.
    pub async fn served(self) {
        let Self { serves, mut all } = self;
        drop(serves);
        while all.changed().await.is_ok() {}
    }
}

impl Default for Together {
    fn default() -> Self {
        Self::new()
    }
}

/// A socket that several threads listen on: each has its own queue of new connections, which the
/// kernel fills in turn.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<std::net::TcpListener>,
    address: SocketAddr,
}

impl Listeners {
    /// Binds `address` (`host:port`) for `threads` threads. Port 0 is any free port. Every address is every one of
    /// IPv6 too, as in Go.
    pub fn bind(address: &str, threads: usize) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot listen on {address}: {error}");
        let mut named = resolve(address).map_err(failed)?;
        // Threads share the port; with another process it must not be shared, which the kernel would
        // allow, so a socket that shares nothing has to succeed first.
        let mut bound = claim(named).map_err(failed)?;
        let mut sockets = Vec::new();
        for _ in 0..threads.max(1) {
            let socket = socket(bound).map_err(failed)?;
            socket.set_reuse_port(true).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            socket.bind(&bound.into()).map_err(failed)?;
            socket.listen(1024).map_err(failed)?;
            let listener = std::net::TcpListener::from(socket);
            bound = listener.local_addr().map_err(failed)?;
            sockets.push(listener);
        }
        named.set_port(bound.port());
        Ok(Self { sockets, address: named })
    }

    /// What was asked for, with the port that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener of one more thread; to be called on that thread's runtime.
    pub fn take(&mut self) -> Option<std::net::TcpListener> {
        self.sockets.pop()
    }
}

/// Gives a bound listener to the runtime of the calling thread.
pub fn listener(socket: std::net::TcpListener) -> std::io::Result<TcpListener> {
    TcpListener::from_std(socket)
}

/// The address to bind for `named`, which no other process listens on: where that is every address of IPv4, every one
/// of IPv6, as that takes connections to both.
fn claim(named: SocketAddr) -> std::io::Result<SocketAddr> {
    let listen = |address: SocketAddr| {
        let socket = socket(address)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    if named.is_ipv4() && named.ip().is_unspecified() {
        let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), named.port());
        match listen(both) {
            Ok(()) => return Ok(both),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
            // There is no IPv6 here.
            Err(_) => {}
        }
    }
    listen(named).map(|()| named)
}

/// A socket that can listen on `address`; on every one of IPv6 it does so on every one of IPv4 too, whatever the
/// machine's default is.
fn socket(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// The address that `host:port` names, of IPv4 where a name has both, as with Go's servers; an empty host is every
/// address.
fn resolve(address: &str) -> std::io::Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let none = || std::io::Error::other("the name has no address");
    let found: Vec<SocketAddr> = full.to_socket_addrs()?.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(none)
}

/// A signal that the process is to end; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Gives the signal.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// A signal and the hand that gives it.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// The process is to end.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits for the signal.
    pub async fn begun(&mut self) {
        // A trigger that is gone is an end too.
        let _ = self.0.wait_for(|ends| *ends).await;
    }

    /// Whether the signal was given.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Sleeps; whether the time passed before the signal came.
    pub async fn sleep(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.begun() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_that_is_asked_for_and_forbidden_is_an_error_in_every_component() {
        let denied = Support::Denied("operation not permitted".to_owned());
        let error = Runtime::of(io::Mode::Uring, &denied).unwrap_err();
        assert!(error.contains("io_uring was asked for") && error.ends_with("operation not permitted"), "{error}");
        for (mode, support, chosen) in [
            (io::Mode::Auto, &denied, Runtime::Tokio),
            (io::Mode::Pread, &denied, Runtime::Tokio),
            (io::Mode::Pread, &Support::Uring, Runtime::Tokio),
            (io::Mode::Auto, &Support::Uring, Runtime::Uring),
            (io::Mode::Uring, &Support::Uring, Runtime::Uring),
        ] {
            assert_eq!(Runtime::of(mode, support), Ok(chosen), "{mode} {support:?}");
        }
    }

    #[test]
    fn a_port_that_is_served_already_is_refused() {
        let first = Listeners::bind("127.0.0.1:0", 2).unwrap();
        let error = Listeners::bind(&first.address().to_string(), 2).unwrap_err();
        assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
        let every = format!("0.0.0.0:{}", first.address().port());
        let error = Listeners::bind(&every, 2).unwrap_err();
        assert!(error.contains("cannot listen on 0.0.0.0:"), "{error}");
    }

    #[test]
    fn of_a_name_with_addresses_of_both_kinds_that_of_ipv4_is_listened_on() {
        assert_eq!(resolve("localhost:1").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(resolve("[::1]:1").unwrap(), "[::1]:1".parse().unwrap());
    }

    #[test]
    fn every_address_is_listened_on_over_ipv6_too_and_told_as_it_was_given() {
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        for (given, told) in [("0.0.0.0:0", "0.0.0.0:"), (":0", "0.0.0.0:"), ("[::]:0", "[::]:")] {
            if !has_ipv6 && given.starts_with('[') {
                continue;
            }
            let listeners = Listeners::bind(given, 2).unwrap();
            let (address, port) = (listeners.address(), listeners.address().port());
            assert!(port != 0 && address.to_string().starts_with(told), "{given}: {address}");
            std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            if has_ipv6 {
                std::net::TcpStream::connect(("::1", port)).unwrap();
            }
        }
    }
}
