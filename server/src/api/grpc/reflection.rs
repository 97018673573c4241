//! gRPC reflection: which services a process has, and what their messages look like.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// The service of health, which every process has.
const HEALTH: &str = "grpc.health.v1.Health";

/// The paths of reflection, where one call asks for many things, one after the other.
pub const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Most bytes of what is asked for at a time.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// `routes`, and reflection over the services called `served`, in both versions of its protocol.
pub fn reflected(routes: Routes, served: &[&'static str]) -> Result<Routes, String> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(HEALTH);
        served.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    let v1 = builder().build_v1().map_err(|error| format!("gRPC reflection: {error}"))?;
    let v1alpha = builder().build_v1alpha().map_err(|error| format!("gRPC reflection: {error}"))?;
    let (v1, v1alpha) =
        (v1.max_decoding_message_size(REQUEST_BYTES_MAX), v1alpha.max_decoding_message_size(REQUEST_BYTES_MAX));
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// The paths of the methods of the services called `served`, and of that of health.
pub fn paths(served: &[&str]) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    for described in [proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        let files = FileDescriptorSet::decode(described).map_err(|error| format!("schemas of gRPC: {error}"))?;
        for file in &files.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                if name == HEALTH || served.contains(&name.as_str()) {
                    paths.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
                }
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_what_is_served_are_found_in_the_schemas() {
        let mut paths = paths(&["thanos.Store", "thanos.info.Info"]).unwrap();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch",
                "/thanos.Store/LabelNames",
                "/thanos.Store/LabelValues",
                "/thanos.Store/Series",
                "/thanos.info.Info/Info",
            ]
        );
    }
}
