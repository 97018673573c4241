//! `thanos.Exemplars` over what this process keeps.

use std::pin::Pin;

use engine::model::{Labels, TimeRange};
use futures_util::Stream;
use proto::thanos::exemplars_server::{Exemplars, ExemplarsServer};
use proto::thanos::{Exemplar, ExemplarData, ExemplarsRequest, ExemplarsResponse, exemplars_response};
use tonic::{Request, Response, Status};

use super::Held;
use crate::api::error;
use crate::api::grpc::wire::label_set;
use crate::api::parsing::Parsing;

/// The service.
#[derive(Clone)]
pub struct ExemplarsService {
    held: Held,
    parsing: Parsing,
}

impl ExemplarsService {
    /// Answers for what `held` keeps, to requests that `parsing` parses.
    pub fn new(held: Held, parsing: Parsing) -> Self {
        Self { held, parsing }
    }

    /// As a gRPC service.
    pub fn into_server(self) -> ExemplarsServer<Self> {
        ExemplarsServer::new(self).max_encoding_message_size(usize::MAX)
    }
}

#[tonic::async_trait]
impl Exemplars for ExemplarsService {
    type ExemplarsStream = Pin<Box<dyn Stream<Item = Result<ExemplarsResponse, Status>> + Send>>;

    async fn exemplars(&self, request: Request<ExemplarsRequest>) -> Result<Response<Self::ExemplarsStream>, Status> {
        let request = request.into_inner();
        let sets = self.parsing.selectors(&request.query).await.map_err(|error| error::status(&error))?;
        let Some(ingest) = self.held.get() else { return Err(Status::unavailable("the heads are not open yet")) };
        let range = TimeRange::new(request.start, request.end);
        let found = ingest.exemplars(&sets, range).await.map_err(|error| error::status(&error))?;
        let frames = found.into_iter().map(|series| {
            let set = |labels: &Labels| Some(label_set(labels));
            let exemplars = series.exemplars.iter().map(|exemplar| Exemplar {
                labels: set(&exemplar.labels),
                value: exemplar.value,
                ts: exemplar.time,
            });
            let data = ExemplarData { series_labels: set(&series.series), exemplars: exemplars.collect() };
            Ok(ExemplarsResponse { result: Some(exemplars_response::Result::Data(data)) })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(frames.collect::<Vec<_>>()))))
    }
}
