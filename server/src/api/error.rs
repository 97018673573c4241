//! The one table from kinds of errors to gRPC codes, HTTP statuses and Prometheus' error types.

use engine::model::{Error, ErrorKind};
use http::StatusCode;
use tonic::{Code, Status};

/// What each protocol calls a kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// gRPC code.
    pub code: Code,
    /// HTTP status.
    pub status: StatusCode,
    /// `errorType` of Prometheus' HTTP API.
    pub error_type: &'static str,
}

/// What each protocol calls `kind`.
pub fn names(kind: ErrorKind) -> Names {
    let (code, status, error_type) = match kind {
        ErrorKind::Invalid => (Code::InvalidArgument, StatusCode::BAD_REQUEST, "bad_data"),
        ErrorKind::Limit => (Code::ResourceExhausted, StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        ErrorKind::Unavailable => (Code::Unavailable, StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        ErrorKind::Corrupt => (Code::Aborted, StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        ErrorKind::Canceled => (Code::Cancelled, StatusCode::SERVICE_UNAVAILABLE, "canceled"),
        ErrorKind::Deadline => (Code::DeadlineExceeded, StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        ErrorKind::Bug => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    };
    Names { code, status, error_type }
}

/// The error as a gRPC status.
pub fn status(error: &Error) -> Status {
    Status::new(names(error.kind()).code, error.message())
}

/// The error of a block as a gRPC status: `fallback` is what Thanos' store answers when a block
/// can't be read, whatever the reason. A block that lacks an aggregate is no fault of the request's
/// form, and Unknown there.
pub fn block_status(error: &Error, fallback: Code) -> Status {
    match error.kind() {
        ErrorKind::Invalid => Status::unknown(error.message()),
        ErrorKind::Unavailable | ErrorKind::Corrupt => Status::new(fallback, error.message()),
        _ => status(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_blocks_that_fail_are_those_of_thanos() {
        let code = |kind| block_status(&Error::new(kind, "why"), Code::Aborted).code();
        assert_eq!(code(ErrorKind::Invalid), Code::Unknown, "an aggregate that a block lacks");
        assert_eq!(code(ErrorKind::Corrupt), Code::Aborted);
        assert_eq!(code(ErrorKind::Unavailable), Code::Aborted);
        assert_eq!(code(ErrorKind::Limit), Code::ResourceExhausted);
    }
}
