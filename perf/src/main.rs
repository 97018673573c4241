//! Measures the whole program beside upstream's, over sockets, like a user, and writes the data for
//! it. What is driven is never linked: only the generator of blocks uses the engine, to write them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Blocks shaped like a Kubernetes fleet.
mod blocks;
/// Random numbers from a seed.
mod random;

/// Data for measurements, and measurements.
#[derive(Parser)]
#[command(name = "perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write blocks shaped like a Kubernetes fleet: counters, gauges, constants, classic and native
    /// histograms.
    Blocks(blocks::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Blocks(args) => blocks::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}
