//! thanos.info.Info: what this endpoint serves.

use std::sync::Arc;

use engine::model::Budget;
use http::Response;
use proto::thanos::info::{InfoRequest, InfoResponse};
use tonic::Status;
use tonic::body::Body;

use super::question::SHORT_BYTES_MAX;
use super::{Call, call, grpc_service};

/// Memory for requests that are packed.
const PACKED_BYTES_MAX: u64 = 1 << 20;

/// Says what an endpoint serves now.
pub trait Describe: Send + Sync {
    /// The answer to an Info request.
    fn describe(&self) -> Result<InfoResponse, Status>;
}

/// The service.
#[derive(Clone)]
pub struct InfoService {
    endpoint: Arc<dyn Describe>,
    memory: Arc<Budget>,
}

impl InfoService {
    /// Describes `endpoint`.
    pub fn new(endpoint: Arc<dyn Describe>) -> Self {
        Self { endpoint, memory: Budget::new("requests for Info", PACKED_BYTES_MAX) }
    }

    async fn answer(&self, request: Call) -> Response<Body> {
        match request.uri().path() {
            "/thanos.info.Info/Info" => {
                let read = call::read::<InfoRequest>(request, SHORT_BYTES_MAX, &self.memory).await;
                call::reply(read.and_then(|_| self.endpoint.describe()))
            }
            path => Status::unimplemented(format!("{path} is not known")).into_http(),
        }
    }
}

grpc_service!(InfoService, "thanos.info.Info");
