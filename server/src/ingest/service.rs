//! `thanos.WriteableStore`: what other receivers forward.

use std::sync::Arc;

use bytes::Bytes;
use engine::head::{BadLabels, WriteReport};
use engine::model::Reservation;
use http::{HeaderMap, Response};
use proto::series::GRPC_PREFIX_LEN;
use proto::thanos::WriteResponse;
use proto::write::{TenantSeries, scan_forwarded};
use tonic::Status;
use tonic::body::Body;

use super::body::{self, BodyError};
use super::forward::Hop;
use super::intake::{Taken, Untaken, take_forwarded};
use super::refusal::{Refusal, judge};
use super::room::hold_tenants;
use super::route::Writes;
use super::{Mode, Receiver};
use crate::api::grpc::{Call, call, grpc_service};
use crate::telemetry::metrics::UnderWay;

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
                let written = match receiver.read_forwarded(request).await {
                    Ok((message, metadata, _held)) => {
                        let _pending = UnderWay::begin(&receiver.metrics.pending);
                        let written = receiver.write_forwarded(message, Hop::of(&metadata)).await;
                        written.map_err(|refusal| refusal.grpc())
                    }
                    Err(status) => Err(status),
                };
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
        let packed_bytes = held.bytes();
        let mut room =
            |bytes: u64| body::resize(&mut held, packed_bytes + bytes, &self.memory).map_err(BodyError::grpc);
        let message = call::unframe(&parts.headers, framed.into(), bytes_max, &mut room)?;
        body::resize(&mut held, message.len() as u64, &self.memory).map_err(BodyError::grpc)?;
        Ok((message, parts.headers, held))
    }

    /// Writes what another receiver forwarded; keeps here what had been forwarded before.
    async fn write_forwarded(self: &Arc<Self>, message: Bytes, hop: Hop) -> Result<(), Refusal> {
        let mut held = self.hold(0)?;
        let scanned = scan_forwarded(&message, |tenants| hold_tenants(&mut held, tenants).map_err(Untaken::NoRoom));
        let (tenants, replica) = scanned.map_err(|untaken| self.untaken(untaken))?;
        if tenants.is_empty() {
            return Ok(());
        }
        if self.options.mode == Mode::Router || self.options.mode == Mode::RouterIngestor && hop == Hop::First {
            let replica = u64::try_from(replica).map_err(|_| Refusal::invalid("bad replica"))?;
            // That a request goes round in circles is no fault of its series.
            self.replica(replica)?;
            let routed = self.route_forwarded(&message, &tenants, held)?;
            let bad = BadLabels { too_many: routed.0.too_many, ..BadLabels::default() };
            let refused = self.write_routed(routed, replica).await.err();
            let refusal = Refusal::merge(refused.into_iter().chain(judge(bad, &WriteReport::default())));
            return refusal.map_or(Ok(()), |refusal| Err(refusal.of_series()));
        }
        let mut writes = Writes::new(&self.memory);
        for series in tenants {
            writes.room().await;
            let taken = self.take_tenant(series);
            writes.add(taken.map(move |(tenant, taken)| async move {
                self.write_taken(&tenant, taken).await.map_err(Refusal::of_series)
            }));
        }
        writes.end().await.map_or(Ok(()), Err)
    }

    /// What one tenant of a forwarded request sent, with its name.
    fn take_tenant(&self, series: TenantSeries<'_>) -> Result<(String, Taken), Refusal> {
        let tenant = self.forwarded_tenant(series.tenant).map_err(Refusal::of_series)?;
        let held = self.hold(series.bytes().len() as u64)?;
        let taken = take_forwarded(series, held).map_err(|untaken| self.untaken(untaken))?;
        Ok((tenant, taken))
    }
}
