//! What one endpoint answers to one query over `thanos.Query`, and whose fault it is when it doesn't.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use engine::model::{Error, Reservation};
use engine::promql::annotations::Mix;
use engine::promql::remarks::{self, JOINT};
use prost::Message;
use proto::prometheus_copy::TimeSeries;
use proto::thanos::{QueryRangeResponse, QueryResponse, QueryStats, query_range_response, query_response};
use tonic::{Code, Request, Status, Streaming};

use super::endpoints::Peer;
use super::stream::{RawCodec, WARNING_BYTES_MAX, silence};
use super::weighed::{self, RESULTS};

/// How much larger series are than their messages, at most, where samples and labels are none that are short.
const DECODED_BYTES: u64 = 4;

/// Errors of what endpoints are asked to evaluate that every evaluation ends with.
const OF_EVALUATION: [&str; 3] =
    ["vector cannot contain metrics with the same labelset", "invalid smoothing factor", "invalid trend factor"];

/// What Thanos says of a query that is not to be evaluated there.
const OF_PARSING: [&str; 3] = ["parse error", "unsupported expression", "expression not implemented"];

/// What stands before the name of an endpoint in words of uru and of Thanos.
const NAMING: [&str; 4] = ["endpoint ", "receive series from ", "fetch series for ", "Addr: "];

/// Why an endpoint has no share.
#[derive(Debug)]
pub enum Failed {
    /// What ends the query, whoever is asked: it can't be evaluated, or the querier itself lacks something.
    Here(Error),
    /// The endpoint does not evaluate such a query, which others may.
    NotUnderstood(Status),
    /// Anything else that the endpoint says.
    There(Status),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| status.message().contains(*text));
        match status.code() {
            Code::FailedPrecondition => Self::Here(Error::invalid(status.message())),
            // Whatever goes wrong with an evaluation, Thanos calls that so.
            Code::Aborted if says(&OF_EVALUATION) => Self::Here(Error::invalid(status.message())),
            Code::Unknown if says(&OF_PARSING) => Self::NotUnderstood(status),
            Code::InvalidArgument | Code::Unimplemented => Self::NotUnderstood(status),
            _ => Self::There(status),
        }
    }
}

/// What an endpoint says beside series.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Remarks of PromQL.
    remarks: Vec<String>,
    /// What it could not read: texts of which each may be several that were joined, in any order.
    gaps: Vec<String>,
    /// What has met in an aggregation that has no sum, as any text says, also one that was left out.
    met: Option<Mix>,
    /// Bytes of the texts so far.
    bytes: usize,
    /// Whether texts were left out.
    is_cut: bool,
}

impl Notes {
    /// Whether a text of so many bytes may be added.
    fn has_room(&self, bytes: usize) -> bool {
        !self.is_cut && self.bytes.saturating_add(bytes) <= WARNING_BYTES_MAX
    }

    /// Leaves out `text` and all texts from now on, and says so; what a text decides counts all the same.
    fn cut(&mut self, text: &str) {
        let (remarks, rest) = remarks::take_out(text);
        remarks.into_iter().chain([rest.as_str()]).for_each(|text| self.meet(Mix::of_warning(text)));
        if !std::mem::replace(&mut self.is_cut, true) {
            self.gaps.push(format!("warnings beyond {WARNING_BYTES_MAX} bytes are left out"));
        }
    }

    /// Takes in a text of the endpoint.
    pub fn add(&mut self, text: &str) {
        self.bytes += text.len();
        let (remarks, rest) = remarks::take_out(text);
        for remark in remarks {
            self.meet(Mix::of_warning(remark));
            self.remarks.push(remark.to_owned());
        }
        self.meet(Mix::of_warning(&rest));
        if !rest.is_empty() {
            self.gaps.push(rest);
        }
    }

    /// What could not be read.
    pub fn lacks(&self) -> BTreeSet<&str> {
        self.gaps.iter().flat_map(|text| text.split(JOINT)).collect()
    }

    /// Takes in what is said of another query, by which the same could not be read.
    pub fn join(&mut self, other: Self) {
        self.meet(other.met);
        self.remarks.extend(other.remarks);
    }

    fn meet(&mut self, other: Option<Mix>) {
        if self.met != Some(Mix::Kinds) {
            self.met = other.or(self.met);
        }
    }

    /// What has met in an aggregation that has no sum.
    pub fn mix(&self) -> Option<Mix> {
        self.met
    }

    /// Why the query can't be evaluated, where that was said.
    fn failure(&self) -> Option<&str> {
        let ends = |gap: &&String| OF_EVALUATION.iter().any(|text| gap.contains(*text));
        self.gaps.iter().find(ends).map(String::as_str)
    }

    /// All of it as warnings, which name an endpoint unless they are remarks. What could not be read is never taken for
    /// one, whatever it begins with.
    pub fn into_warnings(self, address: &str) -> Vec<String> {
        let names = |text: &str| text.contains(address) || NAMING.iter().any(|words| text.contains(*words));
        let said = |text: String| match names(&text) && !text.starts_with("PromQL ") {
            true => text,
            false => format!("endpoint {address}: {text}"),
        };
        self.remarks.into_iter().chain(self.gaps.into_iter().map(said)).collect()
    }
}

/// What an endpoint answers to a query.
#[derive(Debug)]
pub struct Answer {
    /// Results.
    pub series: Vec<TimeSeries>,
    /// What it says besides.
    pub notes: Notes,
    /// Samples that it has looked at.
    pub samples: u64,
    /// The memory that they take.
    pub held: Reservation,
}

/// What a message of an answer has.
pub enum Part {
    /// A series.
    One(TimeSeries),
    /// Several of them.
    Several(Vec<TimeSeries>),
    /// Warnings and infos.
    Note(String),
    /// What the query cost there.
    Stats(QueryStats),
    /// Nothing that is known.
    Nothing,
}

impl From<QueryResponse> for Part {
    fn from(message: QueryResponse) -> Self {
        match message.result {
            Some(query_response::Result::Timeseries(one)) => Self::One(one),
            Some(query_response::Result::TimeseriesBatch(batch)) => Self::Several(batch.series),
            Some(query_response::Result::Warnings(text)) => Self::Note(text),
            Some(query_response::Result::Stats(stats)) => Self::Stats(stats),
            None => Self::Nothing,
        }
    }
}

impl From<QueryRangeResponse> for Part {
    fn from(message: QueryRangeResponse) -> Self {
        match message.result {
            Some(query_range_response::Result::Timeseries(one)) => Self::One(one),
            Some(query_range_response::Result::TimeseriesBatch(batch)) => Self::Several(batch.series),
            Some(query_range_response::Result::Warnings(text)) => Self::Note(text),
            Some(query_range_response::Result::Stats(stats)) => Self::Stats(stats),
            None => Self::Nothing,
        }
    }
}

/// Calls `peer` at a path of `thanos.Query`; messages of the answer have at most so many bytes.
pub async fn call<Q: Message + 'static>(
    peer: &Peer,
    (path, bytes_max): (&'static str, usize),
    request: Request<Q>,
) -> Result<Streaming<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(peer.channel.clone()).max_decoding_message_size(bytes_max);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    client.server_streaming(request, path, RawCodec::default()).await.map(tonic::Response::into_inner)
}

impl Answer {
    /// Reads an answer of messages `M`; `timeout` is the longest time between two of them. That there is no memory for
    /// it is the endpoint's fault where it takes more than `share` bytes by itself.
    pub async fn read<M: Message + Default + Into<Part>>(
        (held, share): (Reservation, u64),
        mut stream: Streaming<Bytes>,
        timeout: Option<Duration>,
    ) -> Result<Self, Failed> {
        let mut answer = Self { series: Vec::new(), notes: Notes::default(), samples: 0, held };
        // An endpoint evaluates before it says anything, for as long as the query may take.
        let mut next = stream.message().await?;
        while let Some(message) = next {
            answer.take::<M>(message, share)?;
            next = match timeout {
                None => stream.message().await?,
                Some(timeout) => {
                    let late = |_| Status::deadline_exceeded(silence(timeout));
                    tokio::time::timeout(timeout, stream.message()).await.map_err(late).and_then(|next| next)?
                }
            };
        }
        // Under partial response Thanos ends well whatever an instant query fails with, and only warns of it.
        match answer.notes.failure().filter(|_| answer.series.is_empty()) {
            Some(text) => Err(Failed::Here(Error::invalid(text))),
            None => Ok(answer),
        }
    }

    /// Takes in a message, for which there is to be memory before it is decoded.
    fn take<M: Message + Default + Into<Part>>(&mut self, message: Bytes, share: u64) -> Result<(), Failed> {
        let unread = |error: String| Failed::There(Status::internal(error));
        let (bytes, lists) = (message.len() as u64, weighed::weigh(&message, RESULTS));
        let lists = lists.map_err(|error| unread(error.to_string()))?;
        // A text is no larger than its message, and may be left out.
        if lists > 0 {
            self.make_room((bytes + lists).max(DECODED_BYTES * bytes), share)?;
        }
        let part: Part = M::decode(message).map_err(|error| unread(error.to_string()))?.into();
        match part {
            Part::One(series) => self.series.push(series),
            Part::Several(series) => self.series.extend(series),
            Part::Note(text) if !self.notes.has_room(text.len()) => self.notes.cut(&text),
            Part::Note(text) => {
                self.make_room(DECODED_BYTES * bytes, share)?;
                self.notes.add(&text);
            }
            Part::Stats(stats) => {
                self.samples = self.samples.saturating_add(u64::try_from(stats.samples_total).unwrap_or(0));
            }
            Part::Nothing => {}
        }
        Ok(())
    }

    /// Makes room for so many bytes.
    fn make_room(&mut self, bytes: u64, share: u64) -> Result<(), Failed> {
        self.held.grow(bytes).map_err(|refusal| match self.held.bytes().saturating_add(bytes) > share {
            true => Failed::There(Status::resource_exhausted(refusal.message())),
            false => Failed::Here(refusal),
        })
    }
}

#[cfg(test)]
mod tests {
    use engine::model::Budget;
    use proto::prometheus_copy::Sample;

    use super::*;

    fn notes(texts: &[&str]) -> Notes {
        let mut notes = Notes::default();
        texts.iter().for_each(|text| notes.add(text));
        notes
    }

    /// Two bytes of a message once became a sample of many before anybody asked for memory.
    #[test]
    fn an_answer_takes_memory_before_it_is_decoded() {
        let samples = vec![Sample::default(); 10_000];
        let series = TimeSeries { samples, ..TimeSeries::default() };
        let message = QueryResponse { result: Some(query_response::Result::Timeseries(series)) }.encode_to_vec();
        let bytes = message.len() as u64;
        let memory = Budget::new("--query.memory-limit", 2 * DECODED_BYTES * bytes);
        let take = |share: u64| {
            let held = memory.reserve(0).unwrap();
            let mut answer = Answer { series: Vec::new(), notes: Notes::default(), samples: 0, held };
            answer.take::<QueryResponse>(message.clone().into(), share)
        };
        assert!(matches!(take(memory.limit()), Err(Failed::There(status)) if status.code() == Code::ResourceExhausted));
        assert!(matches!(take(u64::MAX), Err(Failed::Here(_))));
        assert_eq!(memory.usage().used, 0);
        let cut = Bytes::from(message).slice(..bytes as usize - 1);
        let held = memory.reserve(0).unwrap();
        let mut answer = Answer { series: Vec::new(), notes: Notes::default(), samples: 0, held };
        assert!(matches!(answer.take::<QueryResponse>(cut, 1), Err(Failed::There(_))), "it is cut off");
    }

    #[test]
    fn what_could_not_be_read_is_the_same_in_whatever_order_it_is_said() {
        let remark = "PromQL info: ignored histogram in max aggregation";
        let one = notes(&[&format!("{remark}, from a: no, from b: no")]);
        let other = notes(&[&format!("from b: no, {remark}, from a: no")]);
        assert_eq!(one.lacks(), other.lacks());
        assert_eq!(one.lacks(), notes(&["from b: no", "from a: no"]).lacks());
        assert_ne!(one.lacks(), notes(&["from b: no"]).lacks());
        assert!(notes(&[remark]).lacks().is_empty());
        assert_eq!(one.into_warnings("a:1"), [remark, "endpoint a:1: from a: no, from b: no"]);
    }

    /// Whether counts are asked for, and which results are left out, hangs on it.
    #[test]
    fn what_has_met_is_known_also_of_texts_that_are_left_out() {
        let mixed = "PromQL warning: encountered a mix of histograms and floats for aggregation (1:1)";
        let met = notes(&[mixed]).mix();
        assert!(met.is_some());
        let mut cut = notes(&["from a: no"]);
        cut.cut(&format!("{}, {mixed}, from b: no", "x".repeat(WARNING_BYTES_MAX)));
        assert_eq!((cut.mix(), cut.remarks.len(), cut.gaps.len()), (met, 0, 2));
    }

    #[test]
    fn what_could_not_be_read_is_no_remark_whatever_it_begins_with() {
        let text = "PromQL info: something new, from a: no";
        assert_eq!(notes(&[text]).into_warnings("a:1"), [format!("endpoint a:1: {text}")]);
    }

    #[test]
    fn what_could_not_be_read_names_an_endpoint() {
        for text in ["receive series from b: no", "fetch series for {x} Addr: b: no", "a:1 is away", "endpoint b: no"] {
            assert_eq!(notes(&[text]).into_warnings("a:1"), [text]);
        }
        assert_eq!(notes(&["no more"]).into_warnings("a:1"), ["endpoint a:1: no more"]);
    }

    #[test]
    fn what_an_endpoint_fails_with_tells_whether_others_would() {
        let same = "vector cannot contain metrics with the same labelset";
        for (code, text, expected) in [
            (Code::FailedPrecondition, "counts and sums do not fit", "here"),
            (Code::Aborted, same, "here"),
            (Code::Aborted, "expanding series: context deadline exceeded", "there"),
            (Code::Unknown, "1:5: parse error: unknown function with name \"max_of\"", "not understood"),
            (Code::Unknown, "something else", "there"),
            (Code::InvalidArgument, "1:5: parse error: unexpected \"</\"", "not understood"),
            (Code::Unimplemented, "", "not understood"),
            (Code::Unavailable, same, "there"),
        ] {
            let found = match Failed::from(Status::new(code, text)) {
                Failed::Here(error) => {
                    assert_eq!((error.kind(), error.message()), (engine::model::ErrorKind::Invalid, text));
                    "here"
                }
                Failed::NotUnderstood(_) => "not understood",
                Failed::There(_) => "there",
            };
            assert_eq!(found, expected, "{code:?}: {text}");
        }
    }
}
