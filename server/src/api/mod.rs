//! What the process answers: gRPC and HTTP.

/// From kinds of errors to what each protocol calls them.
pub mod error;
/// Parsing of what requests say.
pub mod parsing;
/// gRPC.
pub mod grpc;
/// HTTP.
pub mod http;
/// The web interface.
pub mod ui;
