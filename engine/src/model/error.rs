//! What goes wrong, sorted by what the caller must do next.

use std::fmt;
use std::path::Path;

/// How to react to an error. One table in the server maps each kind to a gRPC code, an HTTP status
/// and Prometheus' `errorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will never succeed as it is.
    Invalid,
    /// A named limit ended the request.
    Limit,
    /// Something that the request needs is away; trying again may help.
    Unavailable,
    /// Stored bytes are not what their format says.
    Corrupt,
    /// The caller went away.
    Canceled,
    /// The request ran out of time.
    Deadline,
    /// An invariant of uru is broken.
    Bug,
}

/// An error with its kind and a sentence that says what, where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl ErrorKind {
    /// Whether such an error ends the request, whichever block it was met at: others are their block's own.
    pub fn ends_request(self) -> bool {
        matches!(self, Self::Limit | Self::Canceled | Self::Deadline)
    }
}

impl Error {
    /// An error of `kind`; `message` names what, where and what to change.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A request that will never succeed as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A request that the limit called `limit` ended.
    pub fn limit(limit: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Limit, format!("{limit}: {message}"))
    }

    /// What a file system did not do with the file or folder at `path`, for now.
    pub fn file(path: &Path, error: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unavailable, format!("{}: {error}", path.display()))
    }

    /// How to react.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, where and why.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with the place it happened in put before its message.
    pub fn within(self, place: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{place}: {}", self.message) }
    }
}

/// What a panic said, if it was a text.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
