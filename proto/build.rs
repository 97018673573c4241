//! Compiles the schemas under `proto/` without a system protoc.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 13] = [
    "api/query/querypb/query.proto",
    "exemplars/exemplarspb/rpc.proto",
    "info/infopb/rpc.proto",
    "io/prometheus/write/v2/types.proto",
    "metadata/metadatapb/rpc.proto",
    "otlp/metrics.proto",
    "rules/rulespb/rpc.proto",
    "status/statuspb/rpc.proto",
    "store/hintspb/hints.proto",
    "store/storepb/prompb/remote.proto",
    "store/storepb/prompb/types.proto",
    "store/storepb/rpc.proto",
    "targets/targetspb/rpc.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.bytes([".thanos.Chunk.data"]);
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure().compile_fds_with_config(files, config)?;
    Ok(())
}
