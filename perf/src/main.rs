//! Measures the whole program beside upstream's, over sockets, like a user, and writes the data for
//! it. What is driven is never linked: only the generator of blocks uses the engine, to write them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use settings::Settings;

/// Queries while the same process compacts.
mod beside;
/// Blocks shaped like a Kubernetes fleet.
mod blocks;
/// Processes run to their end.
mod commands;
/// Compactors over copies of a bucket.
mod compact;
/// Sides asked in turn, and what they took.
mod compare;
/// Calls over gRPC.
mod grpc;
/// Where figures are measured.
mod machine;
/// Flame graphs of scenarios.
mod profile;
/// Programs that are started.
mod program;
/// Questions in PromQL.
mod query;
/// Random numbers from a seed.
mod random;
/// Receivers fed with remote write.
mod receive;
/// All measurements on one page.
mod report;
/// How measurements are told and recorded.
mod settings;
/// Processes under measurement.
mod side;
/// Questions to store gateways.
mod store;
/// What processes use.
mod usage;
/// Protocol Buffers, as far as questions and answers need them.
mod wire;

/// Data for measurements, and measurements.
#[derive(Parser)]
#[command(name = "perf", version)]
struct Cli {
    #[command(flatten)]
    flags: settings::Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write blocks shaped like a Kubernetes fleet: counters, gauges, constants, classic and native
    /// histograms.
    Blocks(blocks::Args),
    /// Run command lines to their end, in turn, and compare what they took.
    Run(commands::Args),
    /// Measure everything and write a page with plots.
    Report(report::Args),
    /// Compact copies of the same bucket, in turn, and compare what it took.
    Compact(compact::Args),
    /// Ask an all-in-one while it compacts and when it does not.
    Beside(beside::Args),
    /// Feed receivers the same remote write requests.
    Receive(receive::Args),
    /// Ask queriers over the same blocks the same PromQL.
    Query(query::Args),
    /// Ask store gateways over the same bucket the same questions.
    Store(store::Args),
    /// Serve answers out of files over gRPC; what `store` holds answers against.
    #[command(hide = true)]
    Copy(store::copy::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match Settings::new(cli.flags).and_then(|settings| run(cli.command, &settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, settings: &Settings) -> Result<(), String> {
    match command {
        Command::Blocks(_) if settings.profile.is_some() => Err("--profile: blocks measures nothing to draw".into()),
        Command::Blocks(args) => blocks::run(&args).map_err(|error| error.to_string()),
        Command::Run(args) => commands::run(&args, settings),
        Command::Report(args) => report::run(&args, settings),
        Command::Compact(args) => compact::run(&args, settings),
        Command::Beside(args) => beside::run(&args, settings),
        Command::Receive(args) => receive::run(&args, settings),
        Command::Query(args) => query::run(&args, settings),
        Command::Store(args) => store::run(&args, settings),
        Command::Copy(args) => store::copy::run(&args),
    }
}
