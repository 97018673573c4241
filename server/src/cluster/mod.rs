//! What a process knows of its peers.

/// Which receivers a series belongs to.
pub mod hashring;
