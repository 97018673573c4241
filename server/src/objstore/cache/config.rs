//! What the flags of Thanos' index cache, caching bucket and chunk pool come to: the sizes of one
//! cache of bucket bytes.
//!
//! ```text
//! --index-cache-size, or max_size of --index-cache.config          ┐ memory part
//! max_size of --store.caching-bucket.config                        ┘
//! --chunk-pool-size                                                  disk part
//! chunk_subrange_size, max_item_size                                 length of a page
//! max_chunks_get_range_requests                                      requests for one range
//! ```

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cli::Values;
use crate::cli::parse::parse_bytes;
use crate::config::{ConfigError, content, from_yaml};
use crate::objstore::config::PromDuration;

const INDEX: &str = "index-cache.config";
const BUCKET: &str = "store.caching-bucket.config";

/// Length of a page where nothing else is configured: with its key and header it fills 16 pages of
/// the disk.
const PAGE_BYTES: u64 = 65_000;

/// Least length of a page.
const PAGE_BYTES_MIN: u64 = 1024;

/// Greatest length of a page: a read plan's ranges are not much longer.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// Of the memory that requests share, the cache takes a part of this many at most.
const MEMORY_SHARE: u64 = 4;

/// Sizes of the cache of bucket bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bytes that are kept in memory; 0: nothing is cached.
    pub memory_bytes: u64,
    /// Bytes that are kept on disk; 0: none.
    pub disk_bytes: u64,
    /// Length of a page in bytes.
    pub page_bytes: u64,
    /// Longest page that is kept.
    pub item_bytes_max: u64,
    /// Requests to the bucket for one range; 0: as many as there are gaps.
    pub requests_max: usize,
}

/// A size as Thanos writes it: `250MB`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Size(u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_bytes(&text).map(Self)
    }
}

/// The key `config` of a cache in memory. What else is in it is passed over, as by Thanos.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
struct InMemory {
    max_size: Size,
    max_item_size: Size,
}

impl Default for InMemory {
    fn default() -> Self {
        Self { max_size: Size(250 << 20), max_item_size: Size(125 << 20) }
    }
}

/// What the documents of both caches have.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default)]
    kind: String,
}

/// The sizes of a cache in memory.
#[derive(Deserialize)]
struct Sizes {
    #[serde(default)]
    config: InMemory,
}

/// The keys of an index cache; those of `config` are read by themselves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexCache {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default, rename = "config")]
    _config: Option<IgnoredAny>,
    #[serde(default)]
    enabled_items: Vec<String>,
    #[serde(default, rename = "ttl")]
    _ttl: Option<PromDuration>,
}

/// The keys of a caching bucket. Blocks never change, so that of all times to live none is needed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CachingBucket {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default, rename = "config")]
    _config: Option<IgnoredAny>,
    #[serde(default)]
    chunk_subrange_size: Option<Size>,
    #[serde(default)]
    max_chunks_get_range_requests: Option<i64>,
    #[serde(default, rename = "metafile_max_size")]
    _metafile_max_size: Option<Size>,
    #[serde(default, rename = "chunk_object_attrs_ttl")]
    _chunk_object_attrs_ttl: Option<PromDuration>,
    #[serde(default, rename = "chunk_subrange_ttl")]
    _chunk_subrange_ttl: Option<PromDuration>,
    #[serde(default, rename = "blocks_iter_ttl")]
    _blocks_iter_ttl: Option<PromDuration>,
    #[serde(default, rename = "metafile_exists_ttl")]
    _metafile_exists_ttl: Option<PromDuration>,
    #[serde(default, rename = "metafile_doesnt_exist_ttl")]
    _metafile_doesnt_exist_ttl: Option<PromDuration>,
    #[serde(default, rename = "metafile_content_ttl")]
    _metafile_content_ttl: Option<PromDuration>,
}

impl CacheConfig {
    /// The sizes of no cache.
    pub const NONE: Self =
        Self { memory_bytes: 0, disk_bytes: 0, page_bytes: PAGE_BYTES, item_bytes_max: 0, requests_max: 0 };

    /// Reads the flags; `memory_limit` is what requests share.
    pub fn given(values: &Values, memory_limit: u64) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        let read = |flag: &str| -> Result<Option<String>, ConfigError> {
            Ok(content::read(values, flag, &environment)?.filter(|text| !text.trim().is_empty()))
        };
        let sizes = (values.bytes("index-cache-size"), values.bytes("chunk-pool-size"));
        Self::parse(sizes, (read(INDEX)?.as_deref(), read(BUCKET)?.as_deref()), memory_limit)
    }

    /// Reads the two documents; `index_bytes` and `disk_bytes` are the sizes that flags give.
    pub fn parse(
        (index_bytes, disk_bytes): (u64, u64),
        (index, bucket): (Option<&str>, Option<&str>),
        memory_limit: u64,
    ) -> Result<Self, ConfigError> {
        let mut config = Self {
            memory_bytes: index_bytes,
            disk_bytes,
            page_bytes: PAGE_BYTES,
            item_bytes_max: InMemory::default().max_item_size.0,
            requests_max: 0,
        };
        if let Some(text) = index {
            let memory = parse_index(text)?;
            config.memory_bytes = memory.map_or(index_bytes, |memory| memory.max_size.0);
            config.item_bytes_max = memory.unwrap_or_default().max_item_size.0;
        }
        if let Some(text) = bucket {
            config.add_bucket(text)?;
        }
        config.page_bytes = config.page_bytes.clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
        if config.item_bytes_max >= PAGE_BYTES_MIN {
            config.page_bytes = config.page_bytes.min(config.item_bytes_max);
        }
        let share = memory_limit / MEMORY_SHARE;
        if config.memory_bytes > share {
            tracing::info!(
                wanted = config.memory_bytes,
                memory = share,
                "the cache of bucket bytes takes a quarter of --store.memory-limit at most"
            );
            config.memory_bytes = share;
        }
        Ok(config)
    }

    fn add_bucket(&mut self, text: &str) -> Result<(), ConfigError> {
        let document: CachingBucket = from_yaml(BUCKET, text)?;
        if let Some(memory) = sizes(BUCKET, text, &["MEMCACHED", "REDIS", "GROUPCACHE"])? {
            self.memory_bytes = self.memory_bytes.saturating_add(memory.max_size.0);
            self.item_bytes_max = self.item_bytes_max.min(memory.max_item_size.0);
        }
        if let Some(size) = document.chunk_subrange_size {
            self.page_bytes = size.0;
        }
        // Thanos' default, where there is a caching bucket.
        self.requests_max = usize::try_from(document.max_chunks_get_range_requests.unwrap_or(3)).unwrap_or(0);
        Ok(())
    }
}

/// Items that Thanos' index cache holds; here all are pages.
const ITEMS: [&str; 3] = ["Postings", "Series", "ExpandedPostings"];

/// The sizes in the document of an index cache; `None` where it names a server.
fn parse_index(text: &str) -> Result<Option<InMemory>, ConfigError> {
    let memory = sizes(INDEX, text, &["MEMCACHED", "REDIS"])?;
    let document: IndexCache = from_yaml(INDEX, text)?;
    if let Some(other) = document.enabled_items.iter().find(|item| !ITEMS.contains(&item.as_str())) {
        return Err(ConfigError::new(INDEX, format!("unsupported item type {other}")));
    }
    Ok(memory)
}

/// The sizes of a cache in memory. A server beside the process is not asked, which is said: then there
/// are none.
fn sizes(flag: &str, text: &str, elsewhere: &[&str]) -> Result<Option<InMemory>, ConfigError> {
    let kind: Kind = from_yaml(flag, text)?;
    let kind = kind.kind.to_ascii_uppercase();
    if elsewhere.contains(&kind.as_str()) {
        let message =
            "caches outside of the process are not used: the cache is in its memory and in --data-dir instead";
        tracing::warn!(flag, r#type = kind, "{message}");
        return Ok(None);
    }
    if kind != "IN-MEMORY" {
        return Err(ConfigError::new(flag, format!("cache with type {kind:?} is not supported: use IN-MEMORY")));
    }
    let Sizes { config } = from_yaml(flag, text)?;
    if config.max_item_size.0 > config.max_size.0 {
        let (item, all) = (config.max_item_size.0, config.max_size.0);
        let why = format!("max item size ({item}) cannot be bigger than overall cache size ({all})");
        return Err(ConfigError::new(flag, why));
    }
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn parse(index: Option<&str>, bucket: Option<&str>) -> Result<CacheConfig, ConfigError> {
        CacheConfig::parse((250 * MB, 2048 * MB), (index, bucket), 8192 * MB)
    }

    #[test]
    fn the_flags_alone_make_memory_and_disk() {
        let config = parse(None, None).unwrap();
        assert_eq!((config.memory_bytes, config.disk_bytes, config.requests_max), (250 * MB, 2048 * MB, 0));
        let little = CacheConfig::parse((250 * MB, 0), (None, None), 64 * MB).unwrap();
        assert_eq!(little.memory_bytes, 16 * MB);
    }

    #[test]
    fn caches_in_memory_are_read_in_full() {
        let index =
            "{type: IN-MEMORY, config: {max_size: 100MB, max_item_size: 1MiB}, enabled_items: [Postings], ttl: 24h}";
        let config = parse(Some(index), None).unwrap();
        assert_eq!((config.memory_bytes, config.item_bytes_max), (100 * MB, MB));
        let bucket = "
type: in-memory
config: {max_size: 200MB, max_item_size: 8KB}
chunk_subrange_size: 16000
max_chunks_get_range_requests: 5
metafile_max_size: 1MiB
chunk_object_attrs_ttl: 24h
chunk_subrange_ttl: 24h
blocks_iter_ttl: 5m
metafile_exists_ttl: 2h
metafile_doesnt_exist_ttl: 15m
metafile_content_ttl: 24h
";
        let config = parse(Some(index), Some(bucket)).unwrap();
        assert_eq!((config.memory_bytes, config.page_bytes, config.requests_max), (300 * MB, 8192, 5));
        assert_eq!(parse(None, Some("type: IN-MEMORY")).unwrap().memory_bytes, 500 * MB);
        let unknown = "{type: IN-MEMORY, config: {size: 1MB, max_size: 300MB}}";
        assert_eq!(parse(Some(unknown), None).unwrap().memory_bytes, 300 * MB);
        assert!(parse(None, Some("{type: IN-MEMORY, chunk_subrange: 1}")).is_err());
    }

    #[test]
    fn caches_elsewhere_leave_what_the_flags_say() {
        let index = "{type: MEMCACHED, config: {addresses: ['a:11211'], timeout: 1s}}";
        let bucket = "{type: REDIS, config: {addr: 'a:6379'}, chunk_subrange_size: 32000}";
        let config = parse(Some(index), Some(bucket)).unwrap();
        assert_eq!((config.memory_bytes, config.page_bytes, config.requests_max), (250 * MB, 32_000, 3));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("type: FLOPPY", "FLOPPY"),
            ("{}", "not supported"),
            ("{type: IN-MEMORY, config: {max_size: 1MB, max_item_size: 2MB}}", "cannot be bigger"),
            ("{type: IN-MEMORY, config: {max_size: much}}", "much"),
            ("{type: IN-MEMORY, size: 1MB}", "size"),
            ("{type: IN-MEMORY, enabled_items: [Chunks]}", "unsupported item type Chunks"),
        ] {
            let error = parse(Some(text), None).unwrap_err().to_string();
            assert!(error.starts_with("--index-cache.config: ") && error.contains(word), "{text}: {error}");
        }
    }
}
