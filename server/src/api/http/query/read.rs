//! Remote read: series over Prometheus' protocol, as samples or as a stream of chunks.
//!
//! ```text
//! request   snappy block of ReadRequest
//! samples   snappy block of ReadResponse
//! chunks    frame after frame: length (uvarint) | CRC-32C of the message (u32 BE) | ChunkedReadResponse
//! ```

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use engine::batch::SampleBatch;
use engine::model::matcher::{MatchKind, Matcher};
use engine::model::{Allowance, Budget, Error, ErrorKind, Reservation, TimeRange};
use engine::promql::source::{BatchSink, Files, Hints, Part, SelectRequest, Source};
use futures_util::{StreamExt, stream};
use http::{StatusCode, header};
use prost::Message;
use proto::prometheus_copy::read_request::ResponseType;
use proto::prometheus_copy::{Query, ReadHints, ReadRequest, label_matcher};
use proto::wire::{Fields, Malformed};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Api;
use super::backend::{OnFailure, Scope};
use super::body::{collected, hold};
use super::ending::{Caller, Ending};
use super::gate::Turn;
use super::params::Params;
use super::read_frames::{Frames, samples, samples_bytes};
use super::read_samples::Results;
use super::respond::Failure;
use super::tree::narrow_matchers;
use crate::threads::Running;

/// Most bytes of a request, compressed and not, as in Prometheus.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// Most queries of a request; Prometheus asks one.
const QUERIES_MAX: usize = 1000;

/// The field of a request that is a query.
const QUERIES: u32 = 1;

/// The field of a query that is its hints.
const HINTS: u32 = 4;

/// How often a byte of a request is held, in texts and numbers, until it is understood.
const PLAIN_COPIES: usize = 16;

/// Bytes that a matcher, the largest of what a request has many of, takes beside its texts, with lists that grow.
const FIELD_BYTES: usize = 512;

/// Frames that wait for the one who reads.
const FRAMES_WAITING: usize = 4;

/// The media type of samples.
const SAMPLES_TYPE: &str = "application/x-protobuf";

/// The media type of a stream of chunks.
const CHUNKS_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// The function that hints name where labels alone are wanted. As in Prometheus series have no samples then, and all
/// their chunks.
const LABELS_ALONE: &str = "series";

/// One query that is understood.
struct Asked {
    matchers: Vec<Matcher>,
    /// Times wanted.
    range: TimeRange,
    /// Those of the query that the one who asks evaluates.
    extent: TimeRange,
    hints: Hints,
}

pub(super) async fn read(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::of_head(&parts)?;
    let scope = scope(&params, &api).await?;
    let tenant = params.tenant_matcher(&api)?;
    let (mut held, mut allowance) = (api.memory.reserve(0)?, api.parsing.allowance());
    let packed = collected(body, ("a request", REQUEST_BYTES_MAX), &mut held).await?;
    let understood = api.parsing.run(move || {
        let (kind, asked) = understand(&packed, tenant.as_ref(), (&mut held, &mut allowance))?;
        Ok((kind, asked, held))
    });
    let (kind, asked, held) = understood.await?;
    let deadline = Instant::now() + api.settings.timeout;
    let (ending, caller) = Ending::at(deadline);
    let turn = api.gate.enter(&noted(&asked), deadline).await?;
    let bounds = Bounds { scope, ending, caller, turn, held };
    match kind {
        ResponseType::Samples => as_samples(api, asked, bounds).await,
        ResponseType::StreamedXorChunks => as_chunks(api, asked, bounds).await,
    }
}

/// How the request wants its series. Its protocol has no place for warnings, so that nothing may be missing
/// unless the request itself says that it may.
async fn scope(params: &Params, api: &Api) -> Result<Scope, Failure> {
    let scope = params.scope(api, 0).await?;
    let on_failure = if params.first("partial_response").is_empty() { OnFailure::Abort } else { scope.on_failure };
    Ok(Scope { on_failure, ..scope })
}

/// What is read, as the file of active queries has it.
fn noted(asked: &[Asked]) -> String {
    let Some(first) = asked.first() else { return "remote read of nothing".to_owned() };
    let matchers: Vec<String> = first.matchers.iter().map(Matcher::to_string).collect();
    let more = if asked.len() > 1 { format!(" and {} more", asked.len() - 1) } else { String::new() };
    format!("remote read of {{{}}}{more}", matchers.join(","))
}

/// Whether `packed` is the body of a request that can be answered.
pub fn is_request(packed: &[u8]) -> bool {
    let held = Budget::new("query.memory-limit", u64::MAX).reserve(0);
    held.is_ok_and(|mut held| understand(packed, None, (&mut held, &mut Allowance::default())).is_ok())
}

/// What the bytes of a request ask for, and how; `held` answers for them and for what is made of them, and what is left
/// of the allowance for what its regexps compile to.
fn understand(
    packed: &[u8],
    tenant: Option<&Matcher>,
    (held, allowance): (&mut Reservation, &mut Allowance),
) -> Result<(ResponseType, Vec<Asked>), Error> {
    let request = decode(packed, held)?;
    let kind = accepted(&request)?;
    let parse = |query| Asked::parse(query, allowance);
    let mut asked = request.queries.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if let Some(tenant) = tenant {
        asked.iter_mut().for_each(|asked| narrow_matchers(&mut asked.matchers, tenant));
    }
    Ok((kind, asked))
}

fn decode(packed: &[u8], held: &mut Reservation) -> Result<ReadRequest, Error> {
    let bad = |error: &dyn std::fmt::Display| Error::invalid(format!("remote read request: {error}"));
    let len = snap::raw::decompress_len(packed).map_err(|error| bad(&error))?;
    if len > REQUEST_BYTES_MAX {
        return Err(bad(&format_args!("it decodes to {len} bytes, the limit is {REQUEST_BYTES_MAX}")));
    }
    hold(held, (packed.len() + PLAIN_COPIES * len) as u64)?;
    let plain = snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| bad(&error))?;
    let (queries, fields) = counted(&plain).map_err(|error| bad(&error))?;
    if queries > QUERIES_MAX {
        return Err(bad(&format_args!("it has {queries} queries, the limit is {QUERIES_MAX}")));
    }
    hold(held, (packed.len() + PLAIN_COPIES * len + FIELD_BYTES * fields) as u64)?;
    ReadRequest::decode(plain.as_slice()).map_err(|error| bad(&error))
}

/// How many queries a request has, and how many fields altogether that may become something of its own: a query, a
/// matcher, a hint.
fn counted(request: &[u8]) -> Result<(usize, usize), Malformed> {
    let (mut queries, mut count) = (0, 0);
    let mut fields = Fields::new("request", request);
    while let Some((number, value)) = fields.next()? {
        count += 1;
        if number == QUERIES {
            queries += 1;
            count += fields_of_query(value.bytes())?;
        }
    }
    Ok((queries, count))
}

fn fields_of_query(query: &[u8]) -> Result<usize, Malformed> {
    let (mut count, mut fields) = (0, Fields::new("query", query));
    while let Some((number, value)) = fields.next()? {
        count += 1;
        if number == HINTS {
            let mut hints = Fields::new("hints", value.bytes());
            while hints.next()?.is_some() {
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The first kind of answer that the request accepts and that there is; samples when it says none.
fn accepted(request: &ReadRequest) -> Result<ResponseType, Error> {
    if request.accepted_response_types.is_empty() {
        return Ok(ResponseType::Samples);
    }
    let mut known = request.accepted_response_types.iter().filter_map(|kind| ResponseType::try_from(*kind).ok());
    known.next().ok_or_else(|| Error::invalid("server does not support any of the requested response types"))
}

impl Asked {
    fn parse(query: &Query, allowance: &mut Allowance) -> Result<Self, Error> {
        let matcher = |matcher: &proto::prometheus_copy::LabelMatcher| {
            let kind = match label_matcher::Type::try_from(matcher.r#type) {
                Ok(label_matcher::Type::Eq) => MatchKind::Eq,
                Ok(label_matcher::Type::Neq) => MatchKind::NotEq,
                Ok(label_matcher::Type::Re) => MatchKind::Re,
                Ok(label_matcher::Type::Nre) => MatchKind::NotRe,
                Err(_) => return Err(Error::invalid(format!("invalid matcher type {}", matcher.r#type))),
            };
            Matcher::new_within(kind, (matcher.name.as_str(), matcher.value.clone()), allowance)
        };
        let matchers = query.matchers.iter().map(matcher).collect::<Result<Vec<_>, _>>()?;
        let hints = query.hints.as_ref().map(|hints| Hints {
            function: hints.func.clone(),
            range_ms: hints.range_ms,
            step_ms: hints.step_ms,
            grouping: hints.grouping.clone(),
            by: hints.by,
            ..Hints::default()
        });
        let extent = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
        let range = query.hints.as_ref().map_or(extent, |hints| narrowed(extent, hints));
        Ok(Self { matchers, range, extent, hints: hints.unwrap_or_default() })
    }

    fn select(&self, source: &dyn Source, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let Self { matchers, range, extent, hints } = self;
        if range.min_time > range.max_time {
            return Ok(());
        }
        let (part, files) = (Part::WHOLE, Files::default());
        let request = SelectRequest { matchers, range: *range, extent: *extent, hints, part, files };
        let selected = source.select(&request, sink)?;
        for warning in &selected.warnings {
            tracing::warn!(warning, "remote read answers what is left");
        }
        Ok(())
    }

    /// Times of the samples that are answered with.
    fn sample_range(&self) -> TimeRange {
        if self.hints.function == LABELS_ALONE { TimeRange::new(0, -1) } else { self.range }
    }
}

/// The part of `extent` that one selector needs: Prometheus asks for the times of its whole query, says in the hints
/// which of them the selector needs, and keeps to these where it answers itself.
fn narrowed(extent: TimeRange, hints: &ReadHints) -> TimeRange {
    if (hints.start_ms, hints.end_ms) == (0, 0) {
        return extent;
    }
    TimeRange::new(extent.min_time.max(hints.start_ms), extent.max_time.min(hints.end_ms))
}

/// What a request is answered within.
struct Bounds {
    scope: Scope,
    ending: Ending,
    caller: Caller,
    turn: Turn,
    /// Memory of what is asked.
    held: Reservation,
}

fn failed(error: Error) -> Error {
    error.within("remote read failed")
}

async fn as_samples(api: Arc<Api>, asked: Vec<Asked>, bounds: Bounds) -> Result<Response, Failure> {
    let Bounds { scope, ending, caller: _caller, turn, held } = bounds;
    let samples_max = api.engine.options().samples_max;
    let running = turn.spend(move |_| {
        let _held = held;
        let source = api.backend.source(&scope, &ending);
        let patience = ending.patience();
        let (mut results, mut count) = (Results::new(&api.memory)?, 0);
        for asked in &asked {
            asked.select(source.as_ref(), &mut |batch: &mut SampleBatch| {
                patience.check()?;
                for series in batch.iter() {
                    let _held = api.memory.reserve(samples_bytes(&series))?;
                    let series = samples(&series, asked.sample_range());
                    count += (series.samples.len() + series.histograms.len()) as u64;
                    if count > samples_max {
                        let message = format!("exceeded sample limit ({samples_max})");
                        return Err(Error::limit("query.max-samples", message));
                    }
                    results.push(&series)?;
                }
                Ok(())
            })?;
            results.finish()?;
        }
        results.into_block()
    });
    let packed = running.await.map_err(failed)??;
    let headers = [(header::CONTENT_TYPE, SAMPLES_TYPE), (header::CONTENT_ENCODING, "snappy")];
    Ok((StatusCode::OK, headers, packed).into_response())
}

/// Frames on their way, and the work that makes them, which ends when nobody waits for them any more.
struct Sending {
    frames: mpsc::Receiver<Bytes>,
    running: Running<Result<(), Error>>,
    _caller: Caller,
}

/// Streams frames as they are made. An error after the first frame breaks the stream off, as the
/// status has gone out by then.
async fn as_chunks(api: Arc<Api>, asked: Vec<Asked>, bounds: Bounds) -> Result<Response, Failure> {
    let Bounds { scope, ending, caller, turn, held } = bounds;
    let (sender, frames) = mpsc::channel::<Bytes>(FRAMES_WAITING);
    let runtime = Handle::current();
    let running = turn.spend(move |_| {
        let _held = held;
        let source = api.backend.source(&scope, &ending);
        let patience = ending.patience();
        let gone = "whoever read by remote read has gone";
        let send = |frame: Bytes| {
            let frame = match sender.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(frame) | TrySendError::Closed(frame)) => frame,
            };
            let sent = async { sender.send(frame).await.map_err(|_| Error::new(ErrorKind::Canceled, gone)) };
            // One who does not read is waited for until the time of the query is over.
            runtime.block_on(ending.race(sent))
        };
        asked.iter().enumerate().try_for_each(|(index, asked)| {
            let mut frames = Frames::new(index as i64, asked.range, &api.memory);
            asked.select(source.as_ref(), &mut |batch: &mut SampleBatch| {
                patience.check()?;
                batch.iter().try_for_each(|series| frames.push(&series, &send))
            })
        })
    });
    let (first, rest) = match next_frame(Some(Sending { frames, running, _caller: caller })).await {
        Some((first, rest)) => (Some(first?), rest),
        None => (None, None),
    };
    let sent = stream::iter(first.map(Ok)).chain(stream::unfold(rest, next_frame));
    Ok(([(header::CONTENT_TYPE, CHUNKS_TYPE)], Body::from_stream(sent)).into_response())
}

/// The next frame, or why there is none.
async fn next_frame(state: Option<Sending>) -> Option<(Result<Bytes, Error>, Option<Sending>)> {
    let mut sending = state?;
    if let Some(frame) = sending.frames.recv().await {
        return Some((Ok(frame), Some(sending)));
    }
    let error = sending.running.await.map_err(failed).flatten().err()?;
    tracing::warn!(%error, "remote read failed");
    Some((Err(error), None))
}

#[cfg(test)]
mod tests {
    use engine::model::Budget;

    use super::*;

    fn decoded(memory: &Arc<Budget>, packed: &[u8]) -> Result<ReadRequest, Error> {
        decode(packed, &mut memory.reserve(0).unwrap())
    }

    fn packed(plain: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(plain).unwrap()
    }

    #[test]
    fn requests_that_decode_to_too_much_are_refused() {
        let memory = Budget::new("--query.memory-limit", 1 << 30);
        let refused = decoded(&memory, &packed(&vec![0; REQUEST_BYTES_MAX + 1])).unwrap_err();
        assert!(refused.message().contains("the limit is 33554432"), "{refused}");
        assert!(decoded(&memory, b"\xff\xff\xff").is_err());
        // Each a query of one matcher.
        let queries = |count: usize| packed(&[0x0au8, 2, 0x1a, 0].repeat(count));
        assert_eq!(decoded(&memory, &queries(QUERIES_MAX)).unwrap().queries.len(), QUERIES_MAX);
        let refused = decoded(&memory, &queries(4_000_000)).unwrap_err();
        assert!(refused.message().ends_with("it has 4000000 queries, the limit is 1000"), "{refused}");
    }

    #[test]
    fn what_a_request_becomes_is_accounted_for_before_it_is_decoded() {
        let memory = Budget::new("--query.memory-limit", 32 << 20);
        let one = |query: Vec<u8>| {
            let mut plain = vec![0x0au8];
            prost::encoding::encode_varint(query.len() as u64, &mut plain);
            packed(&[plain, query].concat())
        };
        let hints = |count: usize| {
            let mut hints = vec![0x22u8];
            prost::encoding::encode_varint(2 * count as u64, &mut hints);
            [hints, [0x2au8, 0].repeat(count)].concat()
        };
        assert_eq!(decoded(&memory, &one([0x1au8, 0].repeat(1000))).unwrap().queries[0].matchers.len(), 1000);
        assert!(decoded(&memory, &one(hints(1000))).unwrap().queries[0].hints.is_some());
        for many in [[0x1au8, 0].repeat(100_000), hints(100_000)] {
            let refused = decoded(&memory, &one(many)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Limit, "{refused}");
        }
        let long = one([vec![0x1a, 0x80, 0x80, 0x80, 1], vec![0; 2 << 20]].concat());
        assert_eq!(decoded(&memory, &long).unwrap_err().kind(), ErrorKind::Limit, "a text is held more than once");
        assert_eq!(memory.usage().used, 0);
    }

    #[test]
    fn of_the_times_of_a_query_those_are_asked_for_that_its_hints_name() {
        let range = |hints: Option<(i64, i64)>| {
            let hints = hints.map(|(start_ms, end_ms)| ReadHints { start_ms, end_ms, ..ReadHints::default() });
            let query = Query { start_timestamp_ms: 100, end_timestamp_ms: 200, hints, ..Query::default() };
            let asked = Asked::parse(&query, &mut Allowance::default()).unwrap();
            assert_eq!(asked.extent, TimeRange::new(100, 200));
            (asked.range.min_time, asked.range.max_time)
        };
        assert_eq!(range(None), (100, 200));
        assert_eq!(range(Some((0, 0))), (100, 200), "hints without times");
        assert_eq!(range(Some((120, 130))), (120, 130));
        assert_eq!(range(Some((50, 130))), (100, 130));
        assert_eq!(range(Some((150, 300))), (150, 200));
        let (min_time, max_time) = range(Some((300, 400)));
        assert!(min_time > max_time);
    }

    #[test]
    fn the_first_kind_that_there_is_is_answered() {
        let asks = |kinds: &[i32]| accepted(&ReadRequest { accepted_response_types: kinds.to_vec(), queries: vec![] });
        assert_eq!(asks(&[]).unwrap(), ResponseType::Samples);
        assert_eq!(asks(&[7, 1, 0]).unwrap(), ResponseType::StreamedXorChunks);
        assert!(asks(&[7]).is_err());
    }
}
