//! Rules, targets, metadata, exemplars and cardinalities of all endpoints over gRPC: a querier is asked
//! for them as the endpoints themselves are.

use std::pin::Pin;

use engine::model::{Error, TimeRange};
use futures_util::{Stream, stream};
use proto::thanos::exemplars_server::{Exemplars, ExemplarsServer};
use proto::thanos::metadata_server::{Metadata, MetadataServer};
use proto::thanos::rules_server::{Rules, RulesServer};
use proto::thanos::status_server::{Status as StatusApi, StatusServer};
use proto::thanos::targets_server::{Targets, TargetsServer};
use proto::thanos::{
    ExemplarsRequest, ExemplarsResponse, MetricMetadataRequest, MetricMetadataResponse, RulesRequest, RulesResponse,
    TargetsRequest, TargetsResponse, TsdbStatisticsRequest, TsdbStatisticsResponse, exemplars_response,
    metric_metadata_response, rules_response, targets_response, tsdb_statistics_response,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::proxy::Proxy;
use super::serve::scope;
use crate::api::error;
use crate::api::http::query::backend::Found;

/// Adds the services to `routes`.
pub fn add_to(routes: Routes, proxy: &Proxy) -> Routes {
    let relay = Relay { proxy: proxy.clone() };
    routes
        .add_service(RulesServer::new(relay.clone()))
        .add_service(TargetsServer::new(relay.clone()))
        .add_service(MetadataServer::new(relay.clone()))
        .add_service(ExemplarsServer::new(relay.clone()))
        .add_service(StatusServer::new(relay))
}

/// Answers with what all endpoints say.
#[derive(Clone, Debug)]
struct Relay {
    proxy: Proxy,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Frames of warnings and of what was found.
fn frames<P, R: Send + 'static>(
    found: Result<Found<Vec<P>>, Error>,
    part: impl Fn(P) -> R,
    warning: impl Fn(String) -> R,
) -> Result<Response<Frames<R>>, Status> {
    let found = found.map_err(|error| error::status(&error))?;
    let mut frames: Vec<Result<R, Status>> = found.warnings.into_iter().map(|text| Ok(warning(text))).collect();
    frames.extend(found.data.into_iter().map(|found| Ok(part(found))));
    Ok(Response::new(Box::pin(stream::iter(frames))))
}

/// One service that asks `$self.proxy.$method` and answers in frames of `$module`.
macro_rules! relay {
    ($service:ident, $stream:ident, $method:ident, $ask:ident, $request:ty, $response:ident, $module:ident::$part:ident) => {
        #[tonic::async_trait]
        impl $service for Relay {
            type $stream = Frames<$response>;

            async fn $method(&self, request: Request<$request>) -> Result<Response<Self::$stream>, Status> {
                let scope = scope(&request, request.get_ref().partial_response_strategy, &[]);
                let found = self.proxy.$ask(&scope, request.get_ref()).await;
                let frame = |result| $response { result: Some(result) };
                frames(found, |part| frame($module::Result::$part(part)), |text| frame($module::Result::Warning(text)))
            }
        }
    };
}

relay!(Rules, RulesStream, rules, rules, RulesRequest, RulesResponse, rules_response::Group);
relay!(Targets, TargetsStream, targets, targets, TargetsRequest, TargetsResponse, targets_response::Targets);
relay!(
    Metadata,
    MetricMetadataStream,
    metric_metadata,
    metadata,
    MetricMetadataRequest,
    MetricMetadataResponse,
    metric_metadata_response::Metadata
);
relay!(
    StatusApi,
    TSDBStatisticsStream,
    tsdb_statistics,
    statistics,
    TsdbStatisticsRequest,
    TsdbStatisticsResponse,
    tsdb_statistics_response::Statistics
);

#[tonic::async_trait]
impl Exemplars for Relay {
    type ExemplarsStream = Frames<ExemplarsResponse>;

    async fn exemplars(&self, request: Request<ExemplarsRequest>) -> Result<Response<Self::ExemplarsStream>, Status> {
        let asked = request.get_ref();
        let selectors = self.proxy.parsing.selectors(&asked.query).await.map_err(|error| error::status(&error))?;
        let scope = scope(&request, asked.partial_response_strategy, &[]);
        let range = TimeRange::new(asked.start, asked.end);
        let found = self.proxy.exemplars(&scope, &selectors, range).await;
        let frame = |result| ExemplarsResponse { result: Some(result) };
        frames(
            found,
            |data| frame(exemplars_response::Result::Data(data)),
            |text| frame(exemplars_response::Result::Warning(text)),
        )
    }
}
