//! The components: what each of Thanos' subcommands starts. Wiring only.

/// Everything in one process over a folder.
pub mod all_in_one;
/// The compactor.
pub mod compact;
/// The querier.
pub mod query;
/// Serving HTTP and gRPC until the signal to end.
pub mod process;
/// The receiver.
pub mod receive;
/// The store gateway.
pub mod store;
/// The tools.
pub mod tools;
/// The block viewer.
mod viewer;

use crate::cli::{Invocation, Subcommand};

/// Every component, as the command line knows it.
pub const COMPONENTS: &[Subcommand] = &[
    all_in_one::SUBCOMMAND,
    compact::SUBCOMMAND,
    tools::downsample::COMPONENT,
    query::SUBCOMMAND,
    receive::SUBCOMMAND,
    store::SUBCOMMAND,
    tools::CLEANUP,
    tools::downsample::SUBCOMMAND,
    tools::INSPECT,
    tools::LS,
    tools::MARK,
    tools::replicate::SUBCOMMAND,
    tools::RETENTION,
    tools::mend::REWRITE,
    tools::UPLOAD,
    tools::mend::VERIFY,
    tools::web::SUBCOMMAND,
    tools::RULES_CHECK,
];

/// Runs a component until it is told to end. The error is a sentence for whoever started it.
pub fn run(invocation: &Invocation) -> Result<(), String> {
    match invocation.component {
        "all-in-one" => all_in_one::run(&invocation.values),
        "compact" => compact::run(&invocation.values),
        "query" => query::run(&invocation.values),
        "receive" => receive::run(&invocation.values),
        "store" => store::run(&invocation.values),
        other => match tools::run(other, &invocation.values) {
            Some(outcome) => outcome,
            None => unreachable!("the command line knows no component {other}"),
        },
    }
}
