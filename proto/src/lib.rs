//! Wire messages: upstream's packages and field numbers, compiled at build time from the schemas
//! beside this crate, and hand-written encoders and scanners for the messages that are hot.

#![forbid(unsafe_code)]

/// Reading protobuf fields from borrowed bytes.
pub mod wire;

/// Remote write: both versions, and what receivers forward to each other.
pub mod write;

/// gRPC frames of the StoreAPI's `SeriesResponse`, written from and read as borrowed parts.
pub mod series;

/// Package `thanos`: Store, WriteableStore, Query, Rules, Targets, Metadata, Exemplars, Status.
#[allow(missing_docs, clippy::all)]
pub mod thanos {
    tonic::include_proto!("thanos");

    /// Package `thanos.info`.
    pub mod info {
        tonic::include_proto!("thanos.info");
    }
}

/// Package `hintspb`: hints that travel as `Any` beside StoreAPI requests and answers.
#[allow(missing_docs, clippy::all)]
pub mod hintspb {
    tonic::include_proto!("hintspb");
}

/// Package `prometheus_copy`: remote write version 1 and remote read.
#[allow(missing_docs, clippy::all)]
pub mod prometheus_copy {
    tonic::include_proto!("prometheus_copy");
}

/// Package `io.prometheus.write.v2`.
#[allow(missing_docs, clippy::all)]
pub mod write_v2 {
    tonic::include_proto!("io.prometheus.write.v2");
}

/// OTLP metrics.
#[allow(missing_docs, clippy::all)]
pub mod otlp {
    tonic::include_proto!("otlp");
}

/// The encoded `FileDescriptorSet` of every schema, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
