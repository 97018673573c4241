//! Receivers: what they take, keep, forward and ship.

mod forms;
mod hashring;
mod limits;
mod prometheus;
mod ring;
mod ship;
mod writes;
#[path = "../support/mod.rs"]
mod support;
