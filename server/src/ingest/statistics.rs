//! `thanos.status.Status` over what this process keeps: which labels of a tenant have how many series.

use std::collections::HashMap;
use std::pin::Pin;

use engine::head::cardinality::{Cardinality, Count};
use engine::model::Matcher;
use futures_util::Stream;
use proto::thanos::status_server::{Status as StatusApi, StatusServer};
use proto::thanos::{
    HeadStatistics, Statistic, TsdbStatistics, TsdbStatisticsEntry, TsdbStatisticsRequest, TsdbStatisticsResponse,
    tsdb_statistics_response,
};
use tonic::{Request, Response, Status};

use super::Held;
use crate::api::error;
use crate::api::grpc::wire::parse_matchers;
use crate::api::parsing::Parsing;

/// Rows of each table where the request does not say.
const LIMIT: usize = 10;

/// The service.
#[derive(Clone)]
pub struct StatisticsService {
    held: Held,
    parsing: Parsing,
}

impl StatisticsService {
    /// Answers for what `held` keeps, to requests that `parsing` parses.
    pub fn new(held: Held, parsing: Parsing) -> Self {
        Self { held, parsing }
    }

    /// As a gRPC service.
    pub fn into_server(self) -> StatusServer<Self> {
        StatusServer::new(self).max_encoding_message_size(usize::MAX)
    }
}

#[tonic::async_trait]
impl StatusApi for StatisticsService {
    type TSDBStatisticsStream = Pin<Box<dyn Stream<Item = Result<TsdbStatisticsResponse, Status>> + Send>>;

    /// Counts of every tenant whose external labels match; a label that they do not have is empty.
    async fn tsdb_statistics(
        &self,
        request: Request<TsdbStatisticsRequest>,
    ) -> Result<Response<Self::TSDBStatisticsStream>, Status> {
        let request = request.into_inner();
        let Some(ingest) = self.held.get() else { return Err(Status::unavailable("the heads are not open yet")) };
        let matchers = request.matchers.as_slice();
        let matchers = self.parsing.parse(matchers, &mut self.parsing.allowance(), parse_matchers).await;
        let matchers = matchers.map_err(|error| error::status(&error.within("failed to convert matchers")))?;
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(LIMIT);
        let mut statistics = HashMap::new();
        for tenant in ingest.tenants() {
            let labels = ingest.external_labels(&tenant);
            let is_met = |matcher: &Matcher| matcher.matches(labels.get(matcher.name()).unwrap_or(""));
            let is_named = request.tenant.is_empty() || request.tenant == *tenant;
            if is_named && matchers.iter().all(is_met) {
                let counts = ingest.cardinality(&tenant, limit).await.map_err(|error| error::status(&error))?;
                statistics.insert(tenant.to_string(), entry(counts));
            }
        }
        let result = tsdb_statistics_response::Result::Statistics(TsdbStatistics { statistics });
        let frame = TsdbStatisticsResponse { result: Some(result) };
        Ok(Response::new(Box::pin(futures_util::stream::iter([Ok(frame)]))))
    }
}

fn entry(counts: Cardinality) -> TsdbStatisticsEntry {
    let table = |rows: Vec<Count>| -> Vec<Statistic> {
        rows.into_iter().map(|row| Statistic { name: row.name, value: row.value }).collect()
    };
    TsdbStatisticsEntry {
        head_statistics: Some(HeadStatistics {
            num_series: counts.series,
            num_label_pairs: counts.label_pairs as i64,
            chunk_count: counts.chunks as i64,
            min_time: counts.min_time,
            max_time: counts.max_time,
        }),
        series_count_by_metric_name: table(counts.series_by_metric_name),
        label_value_count_by_label_name: table(counts.values_by_label_name),
        memory_in_bytes_by_label_name: table(counts.bytes_by_label_name),
        series_count_by_label_value_pair: table(counts.series_by_label_pair),
    }
}
