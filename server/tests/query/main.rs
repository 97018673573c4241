//! The querier and its HTTP API, over endpoints that are real, fake and hostile.

mod bad_endpoints;
mod connections;
mod decoding;
mod dedup_golden;
mod distributed;
mod encodings;
mod ending;
mod explaining;
mod federation;
mod limits;
mod proxy;
mod remote_read;
mod resolution;
mod tenancy;
mod web;
#[path = "../support/mod.rs"]
mod support;
