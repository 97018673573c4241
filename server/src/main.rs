//! The process `uru`: reads the command line and runs one component.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use server::{cli, component, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = match cli::parse(component::COMPONENTS, std::env::args_os()) {
        Ok(cli::Task::Run(invocation)) => invocation,
        Ok(cli::Task::Print(page)) => return print(&page),
        Err(error) => {
            // Whoever closed the output doesn't want to read it.
            let _ = error.print();
            return ExitCode::from(cli::exit_code(&error));
        }
    };
    let word = |flag: &str| invocation.values.text(flag).unwrap_or_default();
    telemetry::log::start(word("log.level"), word("log.format"));
    for (flag, why) in invocation.values.no_effect() {
        tracing::warn!(flag = %format_args!("--{flag}"), why, "flag accepted, without effect");
    }
    // Two crates of this process could each bring a provider; this one is for all.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::warn!("a TLS provider was installed before");
    }
    match component::run(&invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!(error = why, "exiting");
            ExitCode::FAILURE
        }
    }
}

/// Writes `page` to the standard output.
fn print(page: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
