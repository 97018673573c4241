//! thanos.Store and thanos.info.Info over a gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::model::{Labels, TimeRange};
use http::Response;
use proto::thanos::ZLabelSet;
use proto::thanos::info::{
    ExemplarsInfo, InfoResponse, MetricMetadataInfo, QueryApiInfo, StatusInfo, StoreInfo, TsdbInfo,
};
use tonic::Status;
use tonic::body::Body;

use super::Gateway;
use crate::api::grpc::info::Describe;
use crate::api::grpc::wire::label_set;
use crate::api::grpc::{Call, call, grpc_service};
use crate::api::http::health::Health;
use crate::upkeep::now_ms;

/// thanos.Store.
#[derive(Clone)]
pub struct StoreService {
    gateway: Arc<Gateway>,
}

impl StoreService {
    /// Answers for `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    async fn answer(&self, request: Call) -> Response<Body> {
        let gateway = &self.gateway;
        let (max, memory) = (call::QUESTION_BYTES_MAX, &gateway.selector.budget);
        match request.uri().path() {
            "/thanos.Store/Series" => match call::read(request, max, memory).await {
                Ok(incoming) => gateway.series(incoming).await,
                Err(status) => status.into_http(),
            },
            "/thanos.Store/LabelNames" => call::reply_encoded(
                async {
                    let incoming = call::read(request, max, memory).await?;
                    call::within(incoming.timeout, gateway.label_names(incoming)).await
                }
                .await,
            ),
            "/thanos.Store/LabelValues" => call::reply_encoded(
                async {
                    let incoming = call::read(request, max, memory).await?;
                    call::within(incoming.timeout, gateway.label_values(incoming)).await
                }
                .await,
            ),
            path => Status::unimplemented(format!("{path} is not known")).into_http(),
        }
    }
}

grpc_service!(StoreService, "thanos.Store");

impl Gateway {
    /// The times that are served now.
    pub fn times(&self) -> TimeRange {
        let now = now_ms();
        TimeRange::new(self.min_time.resolve(now), self.max_time.resolve(now))
    }

    /// What the endpoint says of its blocks.
    pub fn store_info(&self) -> (Vec<ZLabelSet>, StoreInfo) {
        let mut whole = TimeRange::new(i64::MAX, i64::MIN);
        let mut groups: BTreeMap<Labels, Vec<TimeRange>> = self.kept_ranges();
        // Looked at last: what is no longer kept here is among them by then.
        let current = self.blocks.current();
        for range in groups.values().flatten() {
            whole = whole.hull(*range);
        }
        for info in current.set.blocks().map(|block| block.info()) {
            let range = TimeRange::new(info.min_time, info.max_time);
            // A block of which nothing is known may hold samples of any time: whoever asks for one is to be told.
            whole = whole.hull(range);
            if !info.is_known() {
                continue;
            }
            match groups.get_mut(&info.external_labels) {
                Some(ranges) => ranges.push(range),
                None => drop(groups.insert(info.external_labels.clone(), vec![range])),
            }
        }
        let (mut label_sets, mut tsdb_infos) = (Vec::new(), Vec::new());
        for (labels, ranges) in groups {
            label_sets.push(label_set(&labels));
            // One range for all: a Thanos querier that pushes queries down asks only for what lies behind
            // the latest start that it is told of, and blocks have gaps of seconds between them.
            let min_time = ranges.iter().map(|range| range.min_time).min().unwrap_or(i64::MAX);
            let max_time = ranges.iter().map(|range| range.max_time).max().unwrap_or(i64::MIN);
            tsdb_infos.push(TsdbInfo { labels: Some(label_set(&labels)), min_time, max_time });
        }
        let served = super::request::clamp(whole, self.times());
        let store = StoreInfo {
            min_time: served.min_time,
            max_time: served.max_time,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos,
            supports_projections: true,
        };
        (label_sets, store)
    }
}

/// The Info answer of a store gateway.
pub struct GatewayInfo {
    gateway: Arc<Gateway>,
    health: Health,
    component: &'static str,
}

impl GatewayInfo {
    /// Describes `gateway`, which is part of a `component`, once it is ready.
    pub fn new(gateway: Arc<Gateway>, health: Health, component: &'static str) -> Self {
        Self { gateway, health, component }
    }
}

impl Describe for GatewayInfo {
    fn describe(&self) -> Result<InfoResponse, Status> {
        if !self.health.is_ready() {
            return Err(Status::unknown("Not ready"));
        }
        let (label_sets, store) = self.gateway.store_info();
        Ok(InfoResponse {
            label_sets,
            component_type: self.component.into(),
            store: Some(store),
            query: Some(QueryApiInfo {}),
            exemplars: self.gateway.ingest.as_ref().map(|_| ExemplarsInfo { min_time: i64::MIN, max_time: i64::MAX }),
            metric_metadata: self.gateway.ingest.as_ref().map(|_| MetricMetadataInfo {}),
            status: self.gateway.ingest.as_ref().map(|_| StatusInfo {}),
            ..InfoResponse::default()
        })
    }
}
