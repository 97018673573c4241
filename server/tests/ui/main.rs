//! The web interface in headless Chromium.

mod blocks;
mod pages;
#[path = "../support/mod.rs"]
mod support;
