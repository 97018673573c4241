//! Targets of requests as people write them: `curl -g 'host/api/v1/query?query=up{a="b"}'` sends quotes as
//! they are, which Go's server takes and the HTTP library here does not. They are written as HTTP has
//! them before the library sees them.
//!
//! ```text
//! GET /api/v1/query?query=up{a="b"} HTTP/1.1     GET /api/v1/query?query=up{a=%22b%22} HTTP/1.1
//! └┬─┘└────────── target ──────────┘         ─▶
//!  start
//! ```
//! Only the first line of a GET is looked at, where a request may begin: at the start of a connection and
//! behind an answer. A body cannot be taken for one, as bodies come before their answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const START: &[u8] = b"GET ";

/// A connection whose requests are forgiven such targets.
#[derive(Debug)]
pub struct Forgiving<T> {
    inner: T,
    state: State,
    /// Bytes that were rewritten and are not taken yet.
    waiting: Vec<u8>,
    taken: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request may begin; so many bytes of its start have come.
    Start(usize),
    /// Within the target of a GET.
    Target,
    /// A `P` has come: `PRI` begins HTTP/2, other methods go on otherwise.
    Letter,
    /// HTTP/2, whose targets the library does take: whatever comes is passed on for good.
    Http2,
    /// Whatever comes is passed on.
    Passing,
}

/// What the bytes of a connection on which nothing was answered yet are to be, which come in these pieces.
pub fn forgiven<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut state, mut out) = (State::Start(0), Vec::new());
    pieces.into_iter().for_each(|piece| state.rewrite(piece, &mut out));
    out
}

impl<T> Forgiving<T> {
    /// A connection on which nothing has come yet.
    pub fn new(inner: T) -> Self {
        Self { inner, state: State::Start(0), waiting: Vec::new(), taken: 0 }
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.waiting[self.taken..];
        let len = rest.len().min(out.remaining());
        out.put_slice(&rest[..len]);
        self.taken += len;
        if self.taken == self.waiting.len() {
            self.waiting.clear();
            self.taken = 0;
        }
    }
}

impl State {
    /// Appends to `out` what `bytes` are to be.
    fn rewrite(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            let (kept, rest) = bytes.split_at(self.pass(bytes));
            out.extend_from_slice(kept);
            let Some((byte, rest)) = rest.split_first() else { return };
            out.extend_from_slice(match byte {
                b'"' => b"%22",
                b'<' => b"%3C",
                _ => b"%3E",
            });
            bytes = rest;
        }
    }

    /// How many of `bytes` stay as they are before one that doesn't; the state is as behind them.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().copied().enumerate() {
            match *self {
                Self::Passing | Self::Http2 => return bytes.len(),
                Self::Letter => *self = if byte == b'R' { Self::Http2 } else { Self::Passing },
                Self::Start(seen) => {
                    *self = match START.get(seen) {
                        Some(_) if seen == 0 && byte == b'P' => Self::Letter,
                        Some(expected) if *expected != byte => Self::Passing,
                        _ if seen + 1 == START.len() => Self::Target,
                        _ => Self::Start(seen + 1),
                    };
                }
                Self::Target => match byte {
                    b'"' | b'<' | b'>' => return at,
                    b' ' | b'\r' | b'\n' => *self = Self::Passing,
                    _ => {}
                },
            }
        }
        bytes.len()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Forgiving<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.waiting.is_empty() {
            this.give(out);
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, out))?;
        let came = &out.filled()[before..];
        let kept = this.state.pass(came);
        if kept < came.len() {
            this.state.rewrite(&came[kept..], &mut this.waiting);
            out.set_filled(before + kept);
            this.give(out);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Forgiving<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<T> Forgiving<T> {
    /// Something is answered: the next request may begin.
    fn answered(&mut self) {
        if self.state == State::Passing {
            self.state = State::Start(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn rewritten(pieces: &[&str]) -> String {
        String::from_utf8(forgiven(pieces.iter().map(|piece| piece.as_bytes()))).unwrap()
    }

    #[test]
    fn quotes_in_a_target_are_written_as_http_has_them_and_nothing_else_is() {
        let head = " HTTP/1.1\r\nHost: \"<a>\"\r\n\r\n\"body\"";
        let expected = format!("GET /q?a=%22%3C%3E{{}}{head}");
        assert_eq!(rewritten(&[&format!("GET /q?a=\"<>{{}}{head}")]), expected);
        assert_eq!(rewritten(&["G", "ET /q?a", "=\"", "<>{}", head]), expected);
        for other in ["POST /q?a=\"\" HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\n\"", "GE", ""] {
            assert_eq!(rewritten(&[other]), other);
        }
    }

    #[test]
    fn the_next_request_on_the_connection_is_forgiven_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(64);
            let mut server = Forgiving::new(server);
            for _ in 0..2 {
                client.write_all(b"GET /\"\" \"").await.unwrap();
                let mut bytes = [0; 13];
                server.read_exact(&mut bytes).await.unwrap();
                assert_eq!(&bytes, b"GET /%22%22 \"");
                server.write_all(b"answer").await.unwrap();
            }
        });
    }
}
