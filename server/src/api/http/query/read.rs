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
use engine::model::{Error, ErrorKind, TimeRange};
use engine::promql::source::{BatchSink, Files, Hints, Part, SelectRequest, Source};
use futures_util::{StreamExt, stream};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use prost::Message;
use proto::prometheus_copy::read_request::ResponseType;
use proto::prometheus_copy::{Query, ReadRequest, label_matcher};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Api;
use super::backend::{OnFailure, Scope};
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

/// Frames that wait for the one who reads.
const FRAMES_WAITING: usize = 4;

/// The media type of samples.
const SAMPLES_TYPE: &str = "application/x-protobuf";

/// The media type of a stream of chunks.
const CHUNKS_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// One query that is understood.
struct Asked {
    matchers: Vec<Matcher>,
    range: TimeRange,
    hints: Hints,
}

pub(super) async fn read(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::of_head(&parts);
    let scope = scope(&params, &api)?;
    let limited = http_body_util::Limited::new(body, REQUEST_BYTES_MAX);
    let body = limited.collect().await.map_err(|error| {
        Failure::bad_data(format!("cannot read a request of up to {REQUEST_BYTES_MAX} bytes: {error}"))
    })?;
    let request = decode(&body.to_bytes())?;
    let kind = accepted(&request)?;
    let tenant = params.tenant_matcher(&api)?;
    let mut asked = request.queries.iter().map(Asked::parse).collect::<Result<Vec<_>, _>>()?;
    if let Some(tenant) = &tenant {
        asked.iter_mut().for_each(|asked| narrow_matchers(&mut asked.matchers, tenant));
    }
    let deadline = Instant::now() + api.settings.timeout;
    let (ending, caller) = Ending::at(deadline);
    let turn = api.gate.enter(&noted(&asked), deadline).await?;
    let bounds = Bounds { scope, ending, caller, turn };
    match kind {
        ResponseType::Samples => as_samples(api, asked, bounds).await,
        ResponseType::StreamedXorChunks => as_chunks(api, asked, bounds).await,
    }
}

/// How the request wants its series. Its protocol has no place for warnings, so that nothing may be missing
/// unless the request itself says that it may.
fn scope(params: &Params, api: &Api) -> Result<Scope, Failure> {
    let scope = params.scope(api, 0)?;
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
    let understood = |request: ReadRequest| {
        accepted(&request)?;
        request.queries.iter().map(Asked::parse).collect::<Result<Vec<_>, _>>()
    };
    decode(packed).and_then(understood).is_ok()
}

fn decode(packed: &[u8]) -> Result<ReadRequest, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_data(format!("remote read request: {error}"));
    let len = snap::raw::decompress_len(packed).map_err(|error| bad(&error))?;
    if len > REQUEST_BYTES_MAX {
        return Err(bad(&format!("it decodes to {len} bytes, the limit is {REQUEST_BYTES_MAX}")));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| bad(&error))?;
    ReadRequest::decode(plain.as_slice()).map_err(|error| bad(&error))
}

/// The first kind of answer that the request accepts and that there is; samples when it says none.
fn accepted(request: &ReadRequest) -> Result<ResponseType, Failure> {
    if request.accepted_response_types.is_empty() {
        return Ok(ResponseType::Samples);
    }
    let mut known = request.accepted_response_types.iter().filter_map(|kind| ResponseType::try_from(*kind).ok());
    known.next().ok_or_else(|| Failure::bad_data("server does not support any of the requested response types"))
}

impl Asked {
    fn parse(query: &Query) -> Result<Self, Failure> {
        let matcher = |matcher: &proto::prometheus_copy::LabelMatcher| {
            let kind = match label_matcher::Type::try_from(matcher.r#type) {
                Ok(label_matcher::Type::Eq) => MatchKind::Eq,
                Ok(label_matcher::Type::Neq) => MatchKind::NotEq,
                Ok(label_matcher::Type::Re) => MatchKind::Re,
                Ok(label_matcher::Type::Nre) => MatchKind::NotRe,
                Err(_) => return Err(Error::invalid(format!("invalid matcher type {}", matcher.r#type))),
            };
            Matcher::new(kind, matcher.name.as_str(), matcher.value.clone())
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
        let range = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
        Ok(Self { matchers, range, hints: hints.unwrap_or_default() })
    }

    fn select(&self, source: &dyn Source, sink: &mut BatchSink<'_>) -> Result<(), Error> {
        let Self { matchers, range, hints } = self;
        let (part, files) = (Part::WHOLE, Files::default());
        let request = SelectRequest { matchers, range: *range, extent: *range, hints, part, files };
        let selected = source.select(&request, sink)?;
        for warning in &selected.warnings {
            tracing::warn!(warning, "remote read answers what is left");
        }
        Ok(())
    }
}

/// What a request is answered within.
struct Bounds {
    scope: Scope,
    ending: Ending,
    caller: Caller,
    turn: Turn,
}

fn failed(error: Error) -> Error {
    error.within("remote read failed")
}

async fn as_samples(api: Arc<Api>, asked: Vec<Asked>, bounds: Bounds) -> Result<Response, Failure> {
    let Bounds { scope, ending, caller: _caller, turn } = bounds;
    let samples_max = api.engine.options().samples_max;
    let running = turn.spend(move |_| {
        let source = api.backend.source(&scope, &ending);
        let patience = ending.patience();
        let (mut results, mut count) = (Results::new(&api.memory)?, 0);
        for asked in &asked {
            asked.select(source.as_ref(), &mut |batch: &mut SampleBatch| {
                patience.check()?;
                for series in batch.iter() {
                    let _held = api.memory.reserve(samples_bytes(&series))?;
                    let series = samples(&series, asked.range);
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
    let Bounds { scope, ending, caller, turn } = bounds;
    let (sender, frames) = mpsc::channel::<Bytes>(FRAMES_WAITING);
    let runtime = Handle::current();
    let running = turn.spend(move |_| {
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
    use super::*;

    #[test]
    fn requests_that_decode_to_too_much_are_refused() {
        let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; REQUEST_BYTES_MAX + 1]).unwrap();
        let refused = decode(&bomb).unwrap_err();
        assert!(format!("{refused:?}").contains("the limit is 33554432"), "{refused:?}");
        assert!(decode(b"\xff\xff\xff").is_err());
    }

    #[test]
    fn the_first_kind_that_there_is_is_answered() {
        let asks = |kinds: &[i32]| accepted(&ReadRequest { accepted_response_types: kinds.to_vec(), queries: vec![] });
        assert_eq!(asks(&[]).unwrap(), ResponseType::Samples);
        assert_eq!(asks(&[7, 1, 0]).unwrap(), ResponseType::StreamedXorChunks);
        assert!(asks(&[7]).is_err());
    }
}
