//! The web interface in headless Chromium.

mod blocks;
mod completion;
mod pages;
mod panels;
mod rules;
#[path = "../support/mod.rs"]
mod support;
