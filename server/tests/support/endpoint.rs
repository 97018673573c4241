//! An endpoint in this process that answers what it is told to, truthfully or not: it can hang, send
//! half a frame or far too much, and it knows who asked and whether anybody still waits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use proto::thanos::info::info_server::{Info, InfoServer};
use proto::thanos::info::{
    ExemplarsInfo, InfoRequest, InfoResponse, MetricMetadataInfo, QueryApiInfo, RulesInfo, StatusInfo,
};
use proto::thanos::info::{StoreInfo, TargetsInfo};
use proto::thanos::{
    ExemplarsRequest, ExemplarsResponse, LabelValuesResponse, MetricMetadataRequest, MetricMetadataResponse,
    QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse, RulesRequest, RulesResponse, SeriesRequest,
    SeriesResponse, TargetsRequest, TargetsResponse, TsdbStatisticsRequest, TsdbStatisticsResponse, ZLabelSet,
    exemplars_server, metadata_server, query_server, rules_server, series_response, status_server, targets_server,
};
use server::edge::serve::{Places, ServeOptions, serve};
use server::edge::{self, Listeners, Runtime, ShutdownTrigger};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};

/// Longest time that a test waits for calls to come or go.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One step of an answer to Series.
#[derive(Clone, Debug)]
pub enum Step {
    /// Not even headers, for ever.
    Mute,
    /// A message.
    Send(SeriesResponse),
    /// Bytes in place of a message.
    Bytes(Bytes),
    /// Bytes again and again, for ever.
    Flood(Bytes),
    /// Gives a turn back, once all before it has been taken.
    Free(Arc<Semaphore>),
    /// Waits for a turn; as the first step even with the headers.
    Take(Arc<Semaphore>),
    /// Nothing more, and no end.
    Hang,
    /// The stream breaks without an end.
    Break,
    /// The end, with a status.
    End(Code, &'static str),
}

/// What an endpoint answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What it says of itself.
    pub info: InfoResponse,
    /// Series, step by step; a script without an end ends well.
    pub series: Vec<Step>,
    /// Values of every label.
    pub values: Vec<String>,
    /// How long these take to be answered.
    pub values_time: Duration,
    /// Rules.
    pub rules: Vec<RulesResponse>,
    /// Targets.
    pub targets: Vec<TargetsResponse>,
    /// Metadata.
    pub metadata: Vec<MetricMetadataResponse>,
    /// Exemplars.
    pub exemplars: Vec<ExemplarsResponse>,
    /// Cardinalities.
    pub statistics: Vec<TsdbStatisticsResponse>,
    /// Range queries.
    pub ranges: Vec<QueryRangeResponse>,
    /// Whether nothing comes behind these, not even an end.
    pub ranges_hang: bool,
    /// What instant queries end with.
    pub instant: Option<(Code, &'static str)>,
    /// What these instant queries are answered with instead.
    pub results: Vec<(&'static str, Vec<QueryResponse>)>,
    /// How long these take to be answered.
    pub results_time: Duration,
}

impl Answers {
    /// The answers of a store of all times below one external label set.
    pub fn store(labels: &[(&str, &str)], series: Vec<Step>) -> Self {
        let labels = labels.iter().map(|(name, value)| label(name, value)).collect();
        let store = StoreInfo {
            min_time: i64::MIN,
            max_time: i64::MAX,
            supports_without_replica_labels: true,
            ..StoreInfo::default()
        };
        let info = InfoResponse {
            label_sets: vec![ZLabelSet { labels }],
            component_type: "store".into(),
            store: Some(store),
            ..InfoResponse::default()
        };
        Self { info, series, ..Self::default() }
    }

    /// The same endpoint, which says that it evaluates queries and answers those over ranges with these
    /// messages.
    pub fn with_ranges(mut self, ranges: Vec<QueryRangeResponse>) -> Self {
        self.info.query = Some(QueryApiInfo {});
        Self { ranges, ..self }
    }

    /// The same endpoint, which says that it evaluates queries and ends instant ones with this status.
    pub fn with_failing_queries(mut self, code: Code, message: &'static str) -> Self {
        self.info.query = Some(QueryApiInfo {});
        Self { instant: Some((code, message)), ..self }
    }

    /// The same endpoint, which answers these instant queries with these messages.
    pub fn with_results(self, results: Vec<(&'static str, Vec<QueryResponse>)>) -> Self {
        Self { results, ..self }
    }

    /// The same endpoint, which says that it serves the APIs beside series too.
    pub fn with_federation(mut self) -> Self {
        self.info.component_type = "sidecar".into();
        self.info.rules = Some(RulesInfo {});
        self.info.targets = Some(TargetsInfo {});
        self.info.metric_metadata = Some(MetricMetadataInfo {});
        self.info.exemplars = Some(ExemplarsInfo { min_time: i64::MIN, max_time: i64::MAX });
        self.info.status = Some(StatusInfo {});
        self
    }
}

/// A label on the wire.
pub fn label(name: &str, value: &str) -> proto::thanos::Label {
    proto::thanos::Label { name: name.into(), value: value.into() }
}

/// A frame of one series with one raw chunk of these samples.
pub fn series_frame(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesResponse {
    let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let mut data = Vec::new();
    engine::chunk::xor::encode(&times, &values, &mut data);
    let raw = proto::thanos::Chunk { r#type: 0, data: data.into(), hash: 0 };
    let chunk = proto::thanos::AggrChunk {
        min_time: times[0],
        max_time: times[times.len() - 1],
        raw: Some(raw),
        ..proto::thanos::AggrChunk::default()
    };
    let series = proto::thanos::Series {
        labels: labels.iter().map(|(name, value)| label(name, value)).collect(),
        chunks: vec![chunk],
    };
    SeriesResponse { result: Some(series_response::Result::Series(series)) }
}

/// A message with its gRPC prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(bytes.len() as u32);
    frame.extend_from_slice(&bytes);
    frame.freeze()
}

/// A running endpoint, ended when dropped.
pub struct Endpoint {
    /// Where it answers, `127.0.0.1:port`.
    pub address: String,
    seen: Arc<Seen>,
    trigger: ShutdownTrigger,
    thread: Option<JoinHandle<()>>,
}

/// Who asked.
#[derive(Debug, Default)]
struct Seen {
    state: Mutex<Calls>,
    changed: Condvar,
}

impl Seen {
    fn begin_values(&self) {
        let mut calls = self.state.lock().unwrap();
        let ValuesCalls { all, open, most } = calls.values;
        calls.values = ValuesCalls { all: all + 1, open: open + 1, most: most.max(open + 1) };
    }
}

#[derive(Debug, Default)]
struct Calls {
    open: usize,
    series: Vec<(SeriesRequest, HeaderMap)>,
    asked: Asked,
    values: ValuesCalls,
}

/// How often values were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValuesCalls {
    /// So far.
    pub all: usize,
    /// Now.
    pub open: usize,
    /// At once, at most.
    pub most: usize,
}

/// Requests for what endpoints know beside series.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Rules.
    pub rules: Vec<RulesRequest>,
    /// Targets.
    pub targets: Vec<TargetsRequest>,
    /// Metadata.
    pub metadata: Vec<MetricMetadataRequest>,
    /// Exemplars.
    pub exemplars: Vec<ExemplarsRequest>,
    /// Cardinalities.
    pub statistics: Vec<TsdbStatisticsRequest>,
}

impl Endpoint {
    /// Starts an endpoint on a free port.
    pub fn start(answers: Answers) -> Self {
        Self::start_on("127.0.0.1", answers)
    }

    /// Starts an endpoint on a free port of `ip`. Once it is gone, none of another test comes to listen there
    /// where nobody else uses that address.
    pub fn start_on(ip: &str, answers: Answers) -> Self {
        let mut listeners = Listeners::bind(&format!("{ip}:0"), 1).unwrap();
        let address = listeners.address().to_string();
        let socket = listeners.take().unwrap();
        let (trigger, shutdown) = edge::shutdown();
        let seen = Arc::new(Seen::default());
        let service = Service { answers: Arc::new(answers), seen: Arc::clone(&seen) };
        let body = move || async move {
            let routes = Routes::new(InfoServer::new(service.clone()))
                .add_service(rules_server::RulesServer::new(service.clone()))
                .add_service(targets_server::TargetsServer::new(service.clone()))
                .add_service(metadata_server::MetadataServer::new(service.clone()))
                .add_service(exemplars_server::ExemplarsServer::new(service.clone()))
                .add_service(status_server::StatusServer::new(service.clone()))
                .add_service(query_server::QueryServer::new(service.clone()))
                .add_service(service)
                .prepare();
            let (tls, places) = (None, Places::default());
            let options = ServeOptions { tls, connection_age_max: Duration::ZERO, grace: Duration::ZERO, places };
            serve(edge::listener(socket).unwrap(), routes, options, shutdown).await;
        };
        let thread = Runtime::Tokio.spawn("endpoint".into(), body).unwrap();
        Self { address, seen, trigger, thread: Some(thread) }
    }

    /// Waits until a Series call is under way.
    pub fn wait_for_a_call(&self) {
        self.wait_until("a call comes", |calls| calls.open > 0);
    }

    /// Waits until no Series call is under way any more: whoever asked has ended it.
    pub fn wait_for_the_end_of_calls(&self) {
        self.wait_until("all calls end", |calls| calls.open == 0);
    }

    /// Series requests so far, with their metadata.
    pub fn requests(&self) -> Vec<(SeriesRequest, HeaderMap)> {
        self.seen.state.lock().unwrap().series.clone()
    }

    /// How often values were asked for.
    pub fn values_calls(&self) -> ValuesCalls {
        self.seen.state.lock().unwrap().values
    }

    /// Requests for what is not series so far.
    pub fn asked(&self) -> Asked {
        self.seen.state.lock().unwrap().asked.clone()
    }

    fn wait_until(&self, what: &str, is_true: impl Fn(&Calls) -> bool) {
        let calls = self.seen.state.lock().unwrap();
        let waited = self.seen.changed.wait_timeout_while(calls, WAIT_MAX, |calls| !is_true(calls)).unwrap();
        assert!(!waited.1.timed_out(), "{what}: never");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.trigger.begin();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Service {
    answers: Arc<Answers>,
    seen: Arc<Seen>,
}

/// A Series call under way.
struct Open(Arc<Seen>);

impl Open {
    fn begin(seen: &Arc<Seen>, request: SeriesRequest, headers: HeaderMap) -> Self {
        let mut calls = seen.state.lock().unwrap();
        calls.open += 1;
        calls.series.push((request, headers));
        seen.changed.notify_all();
        Self(Arc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().open -= 1;
        self.0.changed.notify_all();
    }
}

impl tonic::server::NamedService for Service {
    const NAME: &'static str = "thanos.Store";
}

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path().ends_with("/LabelValues") {
                service.seen.begin_values();
                tokio::time::sleep(service.answers.values_time).await;
                service.seen.state.lock().unwrap().values.open -= 1;
                let values = service.answers.values.clone();
                let message = framed(&LabelValuesResponse { values, ..LabelValuesResponse::default() });
                return Ok(scripted(VecDeque::from([Step::Bytes(message)]), None));
            }
            if !request.uri().path().ends_with("/Series") {
                return Ok(Status::unimplemented("only Series and LabelValues are answered").into_http());
            }
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let request = SeriesRequest::decode(bytes.get(5..).unwrap_or_default()).unwrap();
            let open = Open::begin(&service.seen, request, parts.headers);
            let mut steps: VecDeque<Step> = service.answers.series.iter().cloned().collect();
            if let Some(Step::Take(turns)) = steps.front().cloned() {
                turns.acquire().await.unwrap().forget();
                steps.pop_front();
            }
            if matches!(steps.front(), Some(Step::Mute)) {
                std::future::pending::<()>().await;
            }
            Ok(scripted(steps, Some(open)))
        })
    }
}

fn scripted(steps: VecDeque<Step>, open: Option<Open>) -> Response<Body> {
    let mut response = Response::new(Body::new(Script { steps, taking: None, is_done: false, _open: open }));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// An answer, step by step.
struct Script {
    steps: VecDeque<Step>,
    /// The turn that is waited for.
    taking: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_done: bool,
    _open: Option<Open>,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if let Some(taking) = &mut self.taking {
            std::task::ready!(taking.as_mut().poll(context));
            self.taking = None;
        }
        let end = |code: Code, text: &str| {
            let mut trailers = HeaderMap::new();
            Status::new(code, text).add_header(&mut trailers).unwrap();
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        };
        match self.steps.pop_front() {
            Some(Step::Send(message)) => Poll::Ready(Some(Ok(Frame::data(framed(&message))))),
            Some(Step::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Step::Flood(bytes)) => {
                self.steps.push_front(Step::Flood(bytes.clone()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Step::Free(turns)) => {
                turns.add_permits(1);
                self.poll_frame(context)
            }
            Some(Step::Take(turns)) => {
                self.taking = Some(Box::pin(async move { turns.acquire().await.unwrap().forget() }));
                self.poll_frame(context)
            }
            // Nobody wakes this body again: it is dropped when the caller goes away.
            Some(Step::Hang | Step::Mute) => {
                self.steps.push_front(Step::Hang);
                Poll::Pending
            }
            Some(Step::Break) => {
                self.is_done = true;
                Poll::Ready(Some(Err(Status::internal("broken on purpose"))))
            }
            Some(Step::End(code, text)) => {
                self.is_done = true;
                end(code, text)
            }
            None => {
                self.is_done = true;
                end(Code::Ok, "")
            }
        }
    }
}

#[tonic::async_trait]
impl Info for Service {
    async fn info(&self, _: tonic::Request<InfoRequest>) -> Result<tonic::Response<InfoResponse>, Status> {
        Ok(tonic::Response::new(self.answers.info.clone()))
    }
}

/// A stream of recorded messages.
type Recorded<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

fn recorded<T: Clone + Send + 'static>(messages: &[T]) -> Result<tonic::Response<Recorded<T>>, Status> {
    let messages: Vec<Result<T, Status>> = messages.iter().cloned().map(Ok).collect();
    Ok(tonic::Response::new(Box::pin(futures_util::stream::iter(messages))))
}

/// The same without an end.
fn unending<T: Clone + Send + 'static>(messages: &[T]) -> Result<tonic::Response<Recorded<T>>, Status> {
    let messages = recorded(messages)?.into_inner();
    let silence = futures_util::stream::pending();
    Ok(tonic::Response::new(Box::pin(futures_util::StreamExt::chain(messages, silence))))
}

#[tonic::async_trait]
impl rules_server::Rules for Service {
    type RulesStream = Recorded<RulesResponse>;

    async fn rules(&self, request: tonic::Request<RulesRequest>) -> Result<tonic::Response<Self::RulesStream>, Status> {
        self.seen.state.lock().unwrap().asked.rules.push(request.into_inner());
        recorded(&self.answers.rules)
    }
}

#[tonic::async_trait]
impl targets_server::Targets for Service {
    type TargetsStream = Recorded<TargetsResponse>;

    async fn targets(
        &self,
        request: tonic::Request<TargetsRequest>,
    ) -> Result<tonic::Response<Self::TargetsStream>, Status> {
        self.seen.state.lock().unwrap().asked.targets.push(request.into_inner());
        recorded(&self.answers.targets)
    }
}

#[tonic::async_trait]
impl metadata_server::Metadata for Service {
    type MetricMetadataStream = Recorded<MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: tonic::Request<MetricMetadataRequest>,
    ) -> Result<tonic::Response<Self::MetricMetadataStream>, Status> {
        self.seen.state.lock().unwrap().asked.metadata.push(request.into_inner());
        recorded(&self.answers.metadata)
    }
}

#[tonic::async_trait]
impl exemplars_server::Exemplars for Service {
    type ExemplarsStream = Recorded<ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: tonic::Request<ExemplarsRequest>,
    ) -> Result<tonic::Response<Self::ExemplarsStream>, Status> {
        self.seen.state.lock().unwrap().asked.exemplars.push(request.into_inner());
        recorded(&self.answers.exemplars)
    }
}

#[tonic::async_trait]
impl status_server::Status for Service {
    type TSDBStatisticsStream = Recorded<TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: tonic::Request<TsdbStatisticsRequest>,
    ) -> Result<tonic::Response<Self::TSDBStatisticsStream>, Status> {
        self.seen.state.lock().unwrap().asked.statistics.push(request.into_inner());
        recorded(&self.answers.statistics)
    }
}

#[tonic::async_trait]
impl query_server::Query for Service {
    type QueryStream = Recorded<QueryResponse>;
    type QueryRangeStream = Recorded<QueryRangeResponse>;

    async fn query(&self, request: tonic::Request<QueryRequest>) -> Result<tonic::Response<Self::QueryStream>, Status> {
        let text = request.into_inner().query;
        if let Some((_, messages)) = self.answers.results.iter().find(|(query, _)| *query == text) {
            tokio::time::sleep(self.answers.results_time).await;
            return recorded(messages);
        }
        match self.answers.instant {
            Some((code, message)) => Err(Status::new(code, message)),
            None => recorded(&[]),
        }
    }

    async fn query_range(
        &self,
        _: tonic::Request<QueryRangeRequest>,
    ) -> Result<tonic::Response<Self::QueryRangeStream>, Status> {
        if self.answers.ranges_hang {
            return unending(&self.answers.ranges);
        }
        recorded(&self.answers.ranges)
    }
}
