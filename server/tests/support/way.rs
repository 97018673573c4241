//! The way to an endpoint, which can be closed while its connections stay open.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What becomes of what comes while a way is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is lost in both directions, as with a process that is stopped or a host behind a network that drops
    /// everything.
    Loses,
    /// What the endpoint answers waits until the way is open again.
    HoldsAnswers,
}

/// The way to an endpoint.
pub struct Way {
    /// Where it begins.
    pub address: String,
    is_closed: Arc<AtomicBool>,
}

impl Way {
    /// An open way to `address`.
    pub fn to(address: &str, closed: Closed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let (is_closed, address) = (Arc::new(AtomicBool::new(false)), address.to_owned());
        let state = Arc::clone(&is_closed);
        // Its threads end with the connections, and it with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                let asked = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let never = Arc::new(AtomicBool::new(false));
                let of_requests = if closed == Closed::Loses { Arc::clone(&state) } else { never };
                let of_answers = Arc::clone(&state);
                std::thread::spawn(move || pass(asked, &of_requests, closed));
                std::thread::spawn(move || pass((server, client), &of_answers, closed));
            }
        });
        Self { address: own, is_closed }
    }

    /// Closes the way.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Opens it again.
    pub fn open(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
    }
}

/// Hands on what comes.
fn pass((mut from, mut to): (TcpStream, TcpStream), is_closed: &AtomicBool, closed: Closed) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if closed == Closed::Loses && is_closed.load(Ordering::Relaxed) {
            continue;
        }
        while is_closed.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
}
