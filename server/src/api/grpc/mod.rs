//! gRPC: calls read and answered by hand, so that frames made on shards go out untouched, and
//! services built on them.

/// Asking another process.
pub mod ask;
/// Reading a request and writing its answer.
pub mod call;
/// thanos.info.Info.
pub mod info;
/// Counting calls; a panic fails its own call alone.
pub mod measure;
/// What calls ask for, read before it is answered.
pub mod question;
/// What a process serves, told to those who ask.
pub mod reflection;
/// How much Series calls were answered with.
pub mod requested;
/// Labels and matchers on the wire.
pub mod wire;

use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use tonic::body::Body;

/// An answer in the making.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>>;

/// A request as it comes from the connection.
pub type Call = Request<Body>;

/// Makes `$service` a gRPC service called `$name`: `$self.call(path, request)` answers.
macro_rules! grpc_service {
    ($service:ty, $name:literal) => {
        impl tonic::server::NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl tower::Service<$crate::api::grpc::Call> for $service {
            type Response = http::Response<tonic::body::Body>;
            type Error = std::convert::Infallible;
            type Future = $crate::api::grpc::Answer;

            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), std::convert::Infallible>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: $crate::api::grpc::Call) -> Self::Future {
                let service = self.clone();
                Box::pin(async move { Ok(service.answer(request).await) })
            }
        }
    };
}

pub(crate) use grpc_service;
