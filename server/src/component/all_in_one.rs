//! `uru all-in-one`: everything in one process over a folder; works with no configuration.

use std::path::{Path, PathBuf};

use super::store::{self, StoreConfig};
use crate::cli::{Subcommand, Values};
use crate::config::content;
use crate::gateway::Gateway;
use crate::objstore::BucketConfig;

/// The component as the command line knows it: it takes the flags of all that it starts.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "all-in-one",
    about: "Everything in one process, over a bucket in the folder ./data/bucket",
    flags: store::SUBCOMMAND.flags,
};

/// Runs the component until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    let environment = |name: &str| std::env::var(name).ok();
    let data_dir = PathBuf::from(values.text("data-dir").unwrap_or("./data"));
    let given = content::read(values, "objstore.config", &environment).map_err(|error| error.to_string())?;
    let bucket = match given {
        Some(text) => BucketConfig::parse("objstore.config", &text).map_err(|error| error.to_string())?,
        None => BucketConfig::filesystem(data_dir.join("bucket")),
    };
    let mut config = StoreConfig::parse(values, bucket).map_err(|error| error.to_string())?;
    config.data_dir = data_dir.join("store");
    let address = |flag: &str| values.text(flag).unwrap_or_default().replace("0.0.0.0", "127.0.0.1");
    let (http, grpc) = (address("http-address"), address("grpc-address"));
    store::serve(values, config, |gateway| print!("{}", greeting(gateway, &http, &grpc)))
}

/// What is served and where; with an empty bucket, how to put a block there.
fn greeting(gateway: &Gateway, http: &str, grpc: &str) -> String {
    let blocks = gateway.blocks.current().set.len();
    let mut text = format!(
        "uru serves {blocks} blocks of the bucket {}\n  \
         StoreAPI      grpc://{grpc}   (give it to a querier: --endpoint={grpc})\n  \
         metrics       http://{http}/metrics\n  \
         open blocks   http://{http}/api/v1/blocks\n",
        gateway.bucket.name(),
    );
    if blocks == 0 {
        let folder = gateway.bucket.folder().map_or(Path::new("<bucket>"), |folder| folder).display();
        text.push_str(&format!(
            "The bucket is empty. To put a block there, copy its folder, named after its ULID:\n  \
             cp -r <prometheus data>/01ABC… {folder}/\n\
             and start again, or wait for the next sync (--sync-block-duration).\n"
        ));
    }
    text
}
