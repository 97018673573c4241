//! `thanos.WriteableStore`: what other receivers forward.

use std::sync::Arc;

use bytes::Bytes;
use engine::model::Reservation;
use http::{HeaderMap, Response};
use proto::series::GRPC_PREFIX_LEN;
use proto::thanos::WriteResponse;
use proto::write::scan_forwarded;
use tonic::Status;
use tonic::body::Body;

use super::body::{self, BodyError};
use super::forward::Hop;
use super::intake::take_forwarded;
use super::refusal::{Refusal, judge};
use super::{Mode, Receiver};
use crate::api::grpc::{Call, call, grpc_service};

/// The service.
#[derive(Clone)]
pub struct WriteableStore {
    receiver: Arc<Receiver>,
}

impl WriteableStore {
    /// Writes to `receiver`.
    pub fn new(receiver: Arc<Receiver>) -> Self {
        Self { receiver }
    }

    async fn answer(&self, request: Call) -> Response<Body> {
        match request.uri().path() {
            "/thanos.WriteableStore/RemoteWrite" => {
                let receiver = &self.receiver;
                let read = receiver.read_forwarded(request).await;
                receiver.metrics.pending.inc();
                let written = match read {
                    Ok((message, metadata, _held)) => {
                        let written = receiver.write_forwarded(message, Hop::of(&metadata)).await;
                        written.map_err(|refusal| refusal.grpc())
                    }
                    Err(status) => Err(status),
                };
                receiver.metrics.pending.dec();
                call::reply(written.map(|()| WriteResponse {}))
            }
            path => Status::unimplemented(format!("{path} is not known")).into_http(),
        }
    }
}

grpc_service!(WriteableStore, "thanos.WriteableStore");

impl Receiver {
    /// The message and the headers of a call, with the memory that the message takes.
    async fn read_forwarded(&self, request: Call) -> Result<(Bytes, HeaderMap, Reservation), Status> {
        let bytes_max = self.options.request_bytes_max;
        let (parts, body) = request.into_parts();
        let framed_max = bytes_max.saturating_add(GRPC_PREFIX_LEN) as u64;
        let (framed, mut held) =
            body::read(&parts.headers, body, (framed_max, &self.memory)).await.map_err(BodyError::grpc)?;
        let message = call::unframe(&parts.headers, framed.into(), bytes_max)?;
        body::resize(&mut held, message.len() as u64, &self.memory).map_err(BodyError::grpc)?;
        Ok((message, parts.headers, held))
    }

    /// Writes what another receiver forwarded; keeps here what had been forwarded before.
    async fn write_forwarded(self: &Arc<Self>, message: Bytes, hop: Hop) -> Result<(), Refusal> {
        let (tenants, replica) = scan_forwarded(&message).map_err(|error| Refusal::invalid(error.to_string()))?;
        if tenants.is_empty() {
            return Ok(());
        }
        if self.options.mode == Mode::Router || self.options.mode == Mode::RouterIngestor && hop == Hop::First {
            let replica = u64::try_from(replica).map_err(|_| Refusal::invalid("bad replica"))?;
            let routed = self.route_forwarded(&message, &tenants, self.hold(0)?)?;
            return self.write_routed(routed, replica).await;
        }
        let mut refusals = Vec::new();
        for series in tenants {
            let tenant = match self.forwarded_tenant(series.tenant) {
                Ok(tenant) => tenant,
                Err(refusal) => {
                    refusals.push(refusal);
                    continue;
                }
            };
            let held = self.hold(series.bytes().len() as u64)?;
            let taken = take_forwarded(series, held).map_err(|untaken| self.untaken(untaken))?;
            match self.append(&tenant, taken.batch).await {
                Ok(report) => refusals.extend(judge(taken.bad, &report)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Refusal::merge(refusals).map_or(Ok(()), |refusal| Err(refusal.of_series()))
    }
}
