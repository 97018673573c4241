//! gRPC reflection: which services a process has, and what their messages look like.

use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// `routes`, and reflection over the services called `served`, in both versions of its protocol.
pub fn reflected(routes: Routes, served: &[&'static str]) -> Result<Routes, String> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        served.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    let v1 = builder().build_v1().map_err(|error| format!("gRPC reflection: {error}"))?;
    let v1alpha = builder().build_v1alpha().map_err(|error| format!("gRPC reflection: {error}"))?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}
