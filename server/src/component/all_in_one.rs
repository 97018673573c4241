//! `uru all-in-one`: everything in one process over a folder; works with no configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use engine::model::Labels;

use super::query::{self, Prefixes};
use super::store::{self, Companion, StoreConfig};
use crate::cli::{Subcommand, Values, flags, query as query_flags, store as store_flags};
use crate::config::content;
use crate::fanout::discovery::{Discovery, Presence, Source};
use crate::fanout::endpoints::Dialing;
use crate::fanout::{EndpointSet, Proxy};
use crate::gateway::Gateway;
use crate::gateway::query::GatewayBackend;
use crate::objstore::BucketConfig;

/// Time between two looks at what the store holds.
const INFO_INTERVAL: Duration = Duration::from_secs(5);

/// The component as the command line knows it: it takes the flags of all that it starts.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "all-in-one",
    about: "Everything in one process, over a bucket in the folder ./data/bucket",
    flags: &[
        store_flags::STORE,
        query_flags::EVALUATION,
        flags::HTTP_SERVER,
        flags::GRPC_SERVER,
        flags::OBJSTORE,
        flags::SELECTOR,
        flags::STORE_LIMITS,
        flags::REQUEST_LOGGING,
    ],
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
    store::serve(values, config, &Querier { values, http, grpc, endpoints: OnceLock::new() })
}

/// The querier beside the store: queries read its blocks, all else its StoreAPI.
struct Querier<'a> {
    values: &'a Values,
    http: String,
    grpc: String,
    endpoints: OnceLock<Arc<EndpointSet>>,
}

impl Companion for Querier<'_> {
    fn routes(&self, grpc: SocketAddr, gateway: &Arc<Gateway>) -> Router {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, grpc.port())).to_string();
        let given = vec![Source { address, presence: Presence::WhenHealthy }];
        let dialing = Dialing { tls: None, info_timeout: INFO_INTERVAL };
        let endpoints = EndpointSet::new(Discovery { given, ..Discovery::default() }, dialing);
        let endpoints = Arc::clone(self.endpoints.get_or_init(|| Arc::new(endpoints)));
        let proxy = Proxy { endpoints, frame_timeout: None, own_labels: Labels::default() };
        let fanout = query::fanout(self.values, proxy);
        let backend = GatewayBackend { gateway: Arc::clone(gateway), fanout };
        let api = Arc::new(query::api(self.values, Arc::new(backend)));
        query::http_routes(&api, &Prefixes::of(self.values), "all-in-one")
    }

    fn started(&self, gateway: &Gateway) {
        print!("{}", greeting(gateway, &self.http, &self.grpc));
    }

    async fn work(&self) {
        let Some(endpoints) = self.endpoints.get() else { return std::future::pending().await };
        query::report(&endpoints.refresh().await);
        query::keep_refreshed(endpoints, INFO_INTERVAL).await;
    }
}

/// What is served and where; with an empty bucket, how to put a block there.
fn greeting(gateway: &Gateway, http: &str, grpc: &str) -> String {
    let blocks = gateway.blocks.current().set.len();
    let mut text = format!(
        "uru serves {blocks} blocks of the bucket {}\n  \
         StoreAPI      grpc://{grpc}   (give it to a querier: --endpoint={grpc})\n  \
         queries, UI   http://{http}/\n  \
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
