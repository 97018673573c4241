//! What every component has, and what people and scripts see of the program.

mod all_in_one;
mod command_line;
mod dashboards;
mod deploy;
mod metrics;
mod profile;
#[path = "../support/mod.rs"]
mod support;
