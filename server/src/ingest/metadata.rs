//! `thanos.Metadata` over what this process keeps.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, stream};
use proto::thanos::metadata_server::{Metadata, MetadataServer};
use proto::thanos::{
    Meta, MetricMetadata, MetricMetadataEntry, MetricMetadataRequest, MetricMetadataResponse, metric_metadata_response,
};
use tonic::{Request, Response, Status};

use super::Held;
use crate::api::error;

/// The service.
#[derive(Clone)]
pub struct MetadataService {
    held: Held,
}

impl MetadataService {
    /// Answers for what `held` keeps.
    pub fn new(held: Held) -> Self {
        Self { held }
    }

    /// As a gRPC service.
    pub fn into_server(self) -> MetadataServer<Self> {
        MetadataServer::new(self).max_encoding_message_size(usize::MAX)
    }
}

#[tonic::async_trait]
impl Metadata for MetadataService {
    type MetricMetadataStream = Pin<Box<dyn Stream<Item = Result<MetricMetadataResponse, Status>> + Send>>;

    async fn metric_metadata(
        &self,
        request: Request<MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        let MetricMetadataRequest { metric, limit, .. } = request.into_inner();
        let Some(ingest) = self.held.get() else { return Err(Status::unavailable("the heads are not open yet")) };
        let wanted = (!metric.is_empty()).then_some(metric.as_str());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut metadata: HashMap<String, MetricMetadataEntry> = HashMap::new();
        for tenant in ingest.tenants() {
            let said = ingest.metadata(&tenant, wanted).await.map_err(|error| error::status(&error))?;
            for (name, said) in said {
                if metadata.len() >= limit && !metadata.contains_key(&name) {
                    continue;
                }
                let meta = Meta { r#type: said.kind.name().to_owned(), help: said.help, unit: said.unit };
                let known = &mut metadata.entry(name).or_default().metas;
                if !known.contains(&meta) {
                    known.push(meta);
                }
            }
        }
        let frame = metric_metadata_response::Result::Metadata(MetricMetadata { metadata });
        Ok(Response::new(Box::pin(stream::iter([Ok(MetricMetadataResponse { result: Some(frame) })]))))
    }
}
