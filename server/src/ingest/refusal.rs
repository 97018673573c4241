//! Why a request is refused, and what its sender is told, in HTTP and in gRPC.

use std::collections::BTreeMap;

use engine::head::{BadLabels, Reason, WriteReport};
use engine::model::{Budget, Error, ErrorKind};
use http::StatusCode;
use tonic::{Code, Status};

/// What the sender should do; what every sender sends again comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// Send again later: a receiver is away or its disk fails.
    Unavailable,
    /// Send again later: a bug here, or rings that take no such tenant.
    Internal,
    /// Send less or wait: a limit of the tenant. Prometheus sends it again only when it is told to.
    Limit,
    /// Do not send again: other samples are there, or they are too old.
    Conflict,
    /// Do not send again: it will never be taken.
    Invalid,
    /// Do not send again: it is larger than all the memory there is for requests.
    TooLarge,
}

/// A refused request. Of several reasons, the one that asks for another attempt is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the sender should do.
    pub kind: RefusalKind,
    /// What was wrong with what.
    pub message: String,
}

impl Refusal {
    /// A request that will never be taken.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Invalid, message: message.into() }
    }

    /// A request that may be taken later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Unavailable, message: message.into() }
    }

    /// A request that can't be taken as this receiver is set up; it may be taken once that has changed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Internal, message: message.into() }
    }

    /// A request that takes `bytes` of `memory`, which has no room for them beside others, or not even for them alone.
    pub fn no_memory(memory: &Budget, bytes: u64, error: &Error) -> Self {
        let kind = if bytes > memory.limit() { RefusalKind::TooLarge } else { RefusalKind::Unavailable };
        Self { kind, message: format!("write requests under way share a quarter of {}", error.message()) }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Limit => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The status of a call between receivers, as Thanos' receivers read it.
    pub fn grpc(&self) -> Status {
        let code = match self.kind {
            RefusalKind::Unavailable => Code::Unavailable,
            RefusalKind::Limit | RefusalKind::TooLarge => Code::ResourceExhausted,
            RefusalKind::Conflict => Code::AlreadyExists,
            RefusalKind::Invalid => Code::InvalidArgument,
            RefusalKind::Internal => Code::Internal,
        };
        Status::new(code, self.message.as_str())
    }

    /// What is wrong with series or tenants themselves, to the receiver that forwarded them: a conflict, as Thanos'
    /// routers let their senders send again what is refused in any other way.
    pub fn of_series(self) -> Self {
        let kind = if self.kind == RefusalKind::Invalid { RefusalKind::Conflict } else { self.kind };
        Self { kind, ..self }
    }

    /// What another receiver refused. That a call is no valid one is a fault of how receivers were set up, not of
    /// what was sent, which is to be sent again.
    pub fn from_grpc(status: &Status, endpoint: &str) -> Self {
        let kind = match status.code() {
            Code::AlreadyExists => RefusalKind::Conflict,
            Code::ResourceExhausted => RefusalKind::Limit,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => RefusalKind::Unavailable,
            _ => RefusalKind::Internal,
        };
        let message = format!("forwarding request to endpoint {endpoint}: {}: {}", status.code(), status.message());
        Self { kind, message }
    }

    /// One refusal of several: the kind that comes first in [`RefusalKind`], and every message once.
    pub fn merge(refusals: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut messages: BTreeMap<String, ()> = BTreeMap::new();
        let mut kind = None;
        for refusal in refusals {
            kind = Some(kind.map_or(refusal.kind, |kind: RefusalKind| kind.min(refusal.kind)));
            messages.insert(refusal.message, ());
        }
        let count = messages.len();
        let text = messages.into_keys().collect::<Vec<_>>().join("; ");
        let message = if count > 1 { format!("{count} errors: {text}") } else { text };
        kind.map(|kind| Self { kind, message })
    }
}

/// An error of the engine: nothing was acknowledged.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Invalid => RefusalKind::Invalid,
            ErrorKind::Limit => RefusalKind::Limit,
            ErrorKind::Unavailable | ErrorKind::Canceled | ErrorKind::Deadline => RefusalKind::Unavailable,
            ErrorKind::Corrupt | ErrorKind::Bug => RefusalKind::Internal,
        };
        Self { kind, message: error.message().to_owned() }
    }
}

/// What the sender is told of series with such labels.
fn refusals(bad: BadLabels) -> impl Iterator<Item = Refusal> {
    use RefusalKind::{Conflict, Invalid};
    let kinds = [
        (bad.out_of_order, Conflict, "out of order labels"),
        (bad.duplicate, Conflict, "label set contains multiple label with the same name"),
        (bad.empty, Conflict, "label set contains a label with empty name or value"),
        (bad.not_utf8, Invalid, "label set contains a label that is not UTF-8"),
        (bad.too_many, Invalid, "label set contains more than 10000 labels"),
        (
            bad.unresolved,
            Invalid,
            "labels_refs name what is no symbol, or a label without a value; or help_ref or unit_ref do",
        ),
    ];
    kinds
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, kind, what)| Refusal { kind, message: format!("add {count} series: {what}") })
}

/// What became of a request whose good samples are durable: nothing to say, or what was left out.
pub fn judge(mut bad: BadLabels, report: &WriteReport) -> Option<Refusal> {
    bad.add(report.bad_labels);
    let mut counts: BTreeMap<&'static str, (RefusalKind, &'static str, u64)> = BTreeMap::new();
    for (rejected, of) in report
        .rejected
        .iter()
        .map(|found| (found, "samples"))
        .chain(report.rejected_exemplars.iter().map(|found| (found, "exemplars")))
    {
        // Exemplars that are not kept are no fault of the sender.
        if let Some((kind, what)) = words(rejected.reason) {
            counts.entry(what).or_insert((kind, of, 0)).2 += 1;
        }
    }
    let rejected = counts
        .into_iter()
        .map(|(what, (kind, of, count))| Refusal { kind, message: format!("add {count} {of}: {what}") });
    let no_memory = report.no_memory.clone().map(Refusal::from);
    Refusal::merge(refusals(bad).chain(rejected).chain(no_memory))
}

/// The kind of a rejection and Thanos' words for it.
fn words(reason: Reason) -> Option<(RefusalKind, &'static str)> {
    use RefusalKind::{Conflict, Invalid, Limit, Unavailable};
    Some(match reason {
        Reason::OutOfOrder => (Conflict, "out of order sample"),
        Reason::OutOfBounds => (Conflict, "out of bounds"),
        Reason::TooOld => (Conflict, "too old sample"),
        Reason::DuplicateTimestamp => (Conflict, "duplicate sample for timestamp"),
        Reason::TooFarInFuture => (Conflict, "out of bounds: later than --tsdb.too-far-in-future.time-window allows"),
        Reason::BeyondAllTime => (Conflict, "out of bounds: later than all times that can be asked for"),
        Reason::SeriesLimit => {
            (Limit, "tenant is above active series limit: head_series_limit of the tenant in --receive.limits-config")
        }
        Reason::NoMemory => (Unavailable, "no memory for new series"),
        Reason::InvalidHistogram => (Invalid, "invalid native histogram"),
        Reason::ExemplarOutOfOrder => (Conflict, "out of order exemplar"),
        Reason::ExemplarTooLong => (Conflict, "label length for exemplar exceeds maximum of 128 UTF-8 characters"),
        // As in Thanos, who sends exemplars in disorder is told nothing of those that are left out.
        Reason::ExemplarOvertaken | Reason::ExemplarWithoutSeries => return None,
    })
}

#[cfg(test)]
mod tests {
    use engine::head::{Rejected, RejectedKind};

    use super::*;

    #[test]
    fn of_several_reasons_the_one_that_asks_for_another_attempt_is_told() {
        let conflict = Refusal { kind: RefusalKind::Conflict, message: "b".into() };
        let merged = Refusal::merge([conflict.clone(), Refusal::unavailable("a"), conflict]).unwrap();
        assert_eq!((merged.status().as_u16(), merged.message.as_str()), (503, "2 errors: a; b"));
        assert_eq!(Refusal::merge([]), None);
    }

    /// Senders drop what they are told of a conflict for, the series of other tenants among them.
    #[test]
    fn an_error_of_one_tenant_is_told_before_what_is_refused_of_others_for_good() {
        use RefusalKind::{Conflict, Internal, Invalid, Limit, TooLarge, Unavailable};
        let of = |kind| Refusal { kind, message: String::new() };
        for kind in [Limit, Conflict, Invalid, TooLarge] {
            assert_eq!(Refusal::merge([of(kind), of(Internal)]).unwrap().status(), 500, "{kind:?}");
        }
        assert_eq!(Refusal::merge([of(Internal), of(Unavailable)]).unwrap().status(), 503);
    }

    #[test]
    fn series_without_good_labels_are_conflicts_and_without_utf8_invalid() {
        let report = WriteReport::default();
        let bad = BadLabels { out_of_order: 2, ..BadLabels::default() };
        let refusal = judge(bad, &report).unwrap();
        assert_eq!((refusal.status().as_u16(), &*refusal.message), (409, "add 2 series: out of order labels"));
        let bad = BadLabels { not_utf8: 1, ..BadLabels::default() };
        assert_eq!(judge(bad, &report).unwrap().status(), 400);
        assert_eq!(judge(BadLabels::default(), &report), None);
    }

    /// Senders drop what they are told of a limit for.
    #[test]
    fn series_without_memory_are_sent_again_whatever_else_is_wrong_with_a_request() {
        let of = |reason| Rejected { kind: RejectedKind::Float, series: 0, time: 5, reason };
        let rejected = vec![of(Reason::NoMemory), of(Reason::NoMemory), of(Reason::SeriesLimit), of(Reason::TooOld)];
        let no_memory = Some(Error::new(ErrorKind::Unavailable, "--tsdb.memory-limit: 7 bytes"));
        let refusal = judge(BadLabels::default(), &WriteReport { rejected, no_memory, ..Default::default() }).unwrap();
        assert_eq!((refusal.status().as_u16(), refusal.grpc().code()), (503, Code::Unavailable));
        for told in ["--tsdb.memory-limit: 7 bytes", "add 2 samples: no memory for new series"] {
            assert!(refusal.message.contains(told), "{}", refusal.message);
        }
    }

    #[test]
    fn receivers_understand_each_other() {
        let understood = |kind| Refusal::from_grpc(&Refusal { kind, message: String::new() }.grpc(), "a:1").kind;
        for kind in [RefusalKind::Unavailable, RefusalKind::Limit, RefusalKind::Conflict, RefusalKind::Internal] {
            assert_eq!(understood(kind), kind);
        }
        // Receivers that differ in what they were told, as during a rollout: no reason to drop samples.
        assert_eq!(understood(RefusalKind::Invalid), RefusalKind::Internal);
    }
}
