//! What the process answers: gRPC and HTTP.

/// From kinds of errors to what each protocol calls them.
pub mod error;
/// Requests of which more is yet to come.
pub mod arriving;
/// Parsing of what requests say.
pub mod parsing;
/// gRPC.
pub mod grpc;
/// HTTP.
pub mod http;
/// The web interface.
pub mod ui;
