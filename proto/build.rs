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

/// Strings that need not be UTF-8, as in Go: PromQL's escapes (`"\xff"`) make such ones. Package, message and field.
const BYTE_STRINGS: [(&str, &str, &str); 2] =
    [("thanos", "LabelMatcher", "value"), ("prometheus_copy", "LabelMatcher", "value")];

/// The number of the type of fields of bytes (`google.protobuf.FieldDescriptorProto.TYPE_BYTES`), which are the same on
/// the wire.
const TYPE_BYTES: i32 = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    // What others are told of the schemas stays as it is.
    for (package, message, field) in BYTE_STRINGS {
        let found = files.file.iter_mut().filter(|file| file.package() == package);
        let found = found.flat_map(|file| &mut file.message_type).filter(|known| known.name() == message);
        let found = found.flat_map(|known| &mut known.field).filter(|known| known.name() == field);
        found.for_each(|known| known.r#type = Some(TYPE_BYTES));
    }
    let mut config = prost_build::Config::new();
    config.bytes([".thanos.Chunk.data"]);
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure().compile_fds_with_config(files, config)?;
    Ok(())
}
