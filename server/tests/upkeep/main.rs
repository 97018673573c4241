//! Work on a bucket: the compactor and the tools.

mod compact_faults;
mod contradictions;
mod tools;
#[path = "../support/mod.rs"]
mod support;
