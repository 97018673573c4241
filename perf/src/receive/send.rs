//! Requests over HTTP/1.1 connections that stay open, each sent when the one before was acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Sends all requests to `path` at `address`, over several connections; the time that each took.
pub fn send((address, path): (&str, &str), connections: usize, bodies: &[Vec<u8>]) -> Result<Vec<Duration>, String> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let connection = || -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(failed)?);
        let mut stream = stream;
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begin = Instant::now();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-protobuf\r\n\
                 Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
            answer(&mut reader).map_err(|why| format!("{address}: {why}"))?;
            times.lock().expect("no code panics while it holds this lock").push(begin.elapsed());
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections.max(1)).map(|_| scope.spawn(connection)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a sender panicked".to_owned())?)
    })?;
    Ok(times.into_inner().expect("no code panics while it holds this lock"))
}

/// Reads an answer to its end; one that is no success is an error.
fn answer(reader: &mut BufReader<TcpStream>) -> Result<(), String> {
    let (mut line, mut len, mut status) = (String::new(), 0usize, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(|error| error.to_string())?;
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if status.is_empty() {
            status = text.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).map_err(|error| error.to_string())?;
    if status.starts_with('2') { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&body))) }
}
