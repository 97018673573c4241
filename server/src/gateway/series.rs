//! Series: an answer whose frames shards make; the edge passes them on as they come.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::model::{Allowance, BlockId, Error, ErrorKind, Matcher};
use engine::select::{Failure, Limits, Request, Stats};
use engine::shard::{SeriesStream, Setting};
use http::{HeaderMap, Response};
use http_body::Frame;
use prost::{Message, Name};
use proto::hintspb::{Block, QueryStats, SeriesRequestHints, SeriesResponseHints};
use proto::series::FrameWriter;
use proto::thanos::{LabelMatcher, SeriesRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

use super::Gateway;
use super::fetch::BucketFetcher;
use super::frames::Frames;
use super::metrics::SeriesRun;
use super::request::{self, Partial};
use crate::api::error::block_status;
use crate::api::grpc::call::{self, Incoming};
use crate::api::grpc::requested::Pending;
use crate::api::grpc::wire::parse_matchers;
use crate::telemetry::metrics::UnderWay;

/// What a receiver says of a request that only names a tenant.
pub(super) const ONLY_TENANT: &str = "no matchers specified (excluding external labels)";

impl Gateway {
    /// Answers a Series request.
    pub async fn series(self: &Arc<Self>, incoming: Incoming<SeriesRequest>) -> Response<Body> {
        let timeout = incoming.timeout;
        match call::within(timeout, self.begin_series(incoming)).await {
            Ok(body) => call::respond(body),
            Err(status) => status.into_http(),
        }
    }

    async fn begin_series(self: &Arc<Self>, incoming: Incoming<SeriesRequest>) -> Result<SeriesBody, Status> {
        let Incoming { message, tenant, timeout, .. } = incoming;
        let pending = self.metrics.requested.begin();
        // Before it has a turn: those whose parsing takes long keep none from others.
        let (request, hints) = self.parse(&message).await.map_err(|error| self.refuse_said(&error, &tenant))?;
        let waiting = Instant::now();
        let permit = match &self.gate {
            Some(gate) => Some(Arc::clone(gate).acquire_owned().await.expect("the gate is never closed")),
            None => None,
        };
        let turn = Turn { _permit: permit, _in_flight: self.metrics.gate_passed(waiting.elapsed()) };
        let only_tenant = self.only_names_a_tenant(&request.matchers, request.range);
        let partial = Partial::parse(message.partial_response_strategy, message.partial_response_disabled);
        if only_tenant && partial == Partial::Abort {
            return Err(Status::aborted(ONLY_TENANT));
        }
        let refuse = |error: Error| self.refuse(&error, &tenant);
        // What is kept here holds memory from the look at it on, so that this is the time to wait for more.
        let room = match self.kept() {
            Some(_) => Some(self.selector.room(&request).await.map_err(refuse)?),
            None => None,
        };
        let blocks = self.holding(&request).await.map_err(refuse)?;
        let setting = Setting {
            limits: self.request_limits(),
            sinks: Arc::new(Frames {
                batch_series_max: request.batch_series_max,
                sent: self.metrics.sent_sizes(&tenant),
            }),
            fetcher: Some(Arc::new(BucketFetcher::new(self.ranges.clone(), Arc::clone(&blocks)))),
        };
        let started = Instant::now();
        let stream = match room {
            Some(room) => self.selector.select_within(room, &blocks, (request, setting)).await,
            None => self.selector.select(&blocks, request, setting).await,
        };
        let stream = stream.map_err(refuse)?;
        let mut body = SeriesBody {
            gateway: Arc::clone(self),
            stream,
            tenant,
            partial,
            hints,
            failed: HashSet::new(),
            ready: FrameWriter::new(0),
            deadline: timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout.saturating_sub(waiting.elapsed())))),
            state: State::Streaming,
            prepare: started.elapsed(),
            started: Instant::now(),
            pending,
            _turn: turn,
        };
        if only_tenant {
            body.ready.warning(ONLY_TENANT);
        }
        let failures = body.stream.failures().to_vec();
        body.note_failures(&failures)?;
        Ok(body)
    }

    /// The engine's request for the series of `message`, and the hints that it was sent with.
    async fn parse(&self, message: &SeriesRequest) -> Result<(Request, Option<SeriesRequestHints>), Error> {
        let hints: Option<SeriesRequestHints> = request::parse_hints(message.hints.as_ref(), "series")?;
        let block_matchers = hints.as_ref().map_or(&[][..], |hints| &hints.block_matchers);
        let mut allowance = self.parsing.allowance();
        let block_matchers = self.parse_block_matchers(block_matchers, &mut allowance).await?;
        let matchers = self.parsing.parse(message.matchers.as_slice(), &mut allowance, parse_matchers).await?;
        let request = request::parse_series(message, self.times(), (matchers, block_matchers));
        self.refuse_unselective(&request.matchers)?;
        Ok((request, hints))
    }

    /// The matchers of hints.
    pub(super) async fn parse_block_matchers(
        &self,
        matchers: &[LabelMatcher],
        allowance: &mut Allowance,
    ) -> Result<Vec<Matcher>, Error> {
        let parsed = self.parsing.parse(matchers, allowance, parse_matchers).await;
        parsed.map_err(|error| error.within("translate request hints labels matchers"))
    }

    /// The status of a request that is not understood.
    pub(super) fn refuse_said(&self, error: &Error, tenant: &str) -> Status {
        match error.kind() {
            ErrorKind::Invalid => Status::invalid_argument(error.message()),
            _ => self.refuse(error, tenant),
        }
    }

    /// The status of a request that an error ends.
    pub(super) fn refuse(&self, error: &Error, tenant: &str) -> Status {
        if error.kind() == ErrorKind::Limit {
            let limit = error.message();
            let reason = ["samples", "series", "bytes"].into_iter().find(|reason| limit.contains(reason));
            self.metrics.query_dropped(
                if limit.contains("sample-limit") { "chunks" } else { reason.unwrap_or("memory") },
                tenant,
            );
        }
        block_status(error, Code::Aborted)
    }

    pub(super) fn request_limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.series_max = self.limits.series;
        limits.samples_max = self.limits.samples;
        limits.touched_series_max = self.limits.touched_series;
        limits.chunk_samples_max = self.limits.chunk_samples;
        limits.bytes_max = self.limits.downloaded_bytes;
        limits
    }
}

/// A request's place among those that run at once.
struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _in_flight: UnderWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    Trailers,
    Done,
}

/// The body of a Series answer: frames as shards make them, warnings between them, hints after
/// them, then the trailers.
struct SeriesBody {
    gateway: Arc<Gateway>,
    stream: SeriesStream,
    tenant: String,
    partial: Partial,
    hints: Option<SeriesRequestHints>,
    /// Blocks of which it was said that they failed.
    failed: HashSet<BlockId>,
    /// Frames that the edge itself makes.
    ready: FrameWriter,
    deadline: Option<Pin<Box<Sleep>>>,
    state: State,
    prepare: Duration,
    started: Instant,
    pending: Pending,
    _turn: Turn,
}

impl SeriesBody {
    /// Turns failed blocks into warnings, or the first of them into the end of the request.
    fn note_failures(&mut self, failures: &[Failure]) -> Result<(), Status> {
        for failure in failures {
            // Each range that reads of the block finds it anew.
            if !self.failed.insert(failure.block) {
                continue;
            }
            tracing::warn!(block = %failure.block, error = %failure.error, "a block failed to answer");
            if self.partial == Partial::Abort {
                return Err(self.gateway.refuse(&failure.error, &self.tenant));
            }
            self.ready.warning(failure.error.message());
        }
        Ok(())
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.state = State::Done;
        let run = SeriesRun { stats: *self.stream.stats(), prepare: self.prepare, merge: self.started.elapsed() };
        (self.pending.series, self.pending.chunks) = (run.stats.merged_series, run.stats.merged_chunks);
        self.gateway.metrics.series_done(&run, &self.tenant);
        let trailers: HeaderMap = call::trailers(status);
        Frame::trailers(trailers)
    }

    /// The frame after all series: only for those who sent hints themselves, as Thanos' store sends
    /// none.
    fn write_hints(&mut self) {
        let Some(asked) = &self.hints else { return };
        let stats =
            asked.enable_query_stats.then(|| to_hints(self.stream.stats(), (self.prepare, self.started.elapsed())));
        let queried_blocks = self.stream.blocks().map(|id| Block { id: id.to_string() }).collect();
        let hints = SeriesResponseHints { queried_blocks, query_stats: stats };
        self.ready.hints(&SeriesResponseHints::type_url(), &hints.encode_to_vec());
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl http_body::Body for SeriesBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(this.ready.take().into()))));
            }
            match this.state {
                State::Done => return Poll::Ready(None),
                State::Trailers => return Poll::Ready(Some(Ok(this.end(&Status::ok(""))))),
                State::Streaming => {}
            }
            if this.is_late(context) {
                return Poll::Ready(Some(Ok(this.end(&Status::deadline_exceeded("the caller's time is over")))));
            }
            match std::task::ready!(this.stream.poll_next(context)) {
                Some(Ok(answer)) => {
                    if let Err(status) = this.note_failures(&answer.failures) {
                        return Poll::Ready(Some(Ok(this.end(&status))));
                    }
                    if !answer.frames.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(answer.frames.into()))));
                    }
                }
                Some(Err(error)) => {
                    let status = this.gateway.refuse(&error, &this.tenant);
                    return Poll::Ready(Some(Ok(this.end(&status))));
                }
                None => {
                    this.write_hints();
                    this.state = State::Trailers;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }
}

/// The engine's counters under the names of Thanos' hints: touched is what the answer was made of,
/// fetched what was read from the bucket for it. A column index is local, and nothing of it is fetched.
fn to_hints(stats: &Stats, (prepare, merge): (Duration, Duration)) -> QueryStats {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let duration = |time: Duration| {
        Some(prost_types::Duration { seconds: count(time.as_secs()), nanos: time.subsec_nanos() as i32 })
    };
    QueryStats {
        blocks_queried: count(stats.blocks_queried),
        merged_series_count: count(stats.merged_series),
        merged_chunks_count: count(stats.merged_chunks),
        postings_touched: count(stats.postings_touched),
        postings_touched_size_sum: count(stats.postings_touched_bytes),
        postings_to_fetch: count(stats.postings_fetched),
        postings_fetched: count(stats.postings_fetched),
        postings_fetched_size_sum: count(stats.postings_fetched_bytes),
        postings_fetch_count: count(stats.postings_fetches),
        series_touched: count(stats.series_touched),
        series_touched_size_sum: count(stats.series_touched_bytes),
        series_fetched: count(stats.series_fetched),
        series_fetched_size_sum: count(stats.series_fetched_bytes),
        series_fetch_count: count(stats.series_fetches),
        chunks_touched: count(stats.chunks_touched),
        chunks_touched_size_sum: count(stats.chunks_touched_bytes),
        chunks_fetched: count(stats.chunks_fetched),
        chunks_fetched_size_sum: count(stats.chunks_fetched_bytes),
        chunks_fetch_count: count(stats.chunks_fetches),
        data_downloaded_size_sum: count(
            stats.postings_fetched_bytes + stats.series_fetched_bytes + stats.chunks_fetched_bytes,
        ),
        get_all_duration: duration(prepare),
        merge_duration: duration(merge),
    }
}
