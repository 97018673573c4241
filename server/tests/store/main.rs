//! StoreAPI over blocks, and every implementation of it.

mod acceptance;
mod behaviour;
mod blocks;
mod cache;
mod golden;
mod indexes;
mod s3;
mod tls;
#[path = "../support/mod.rs"]
mod support;
