//! Command lines run to their end, in turn: what each took.

use crate::compare::{self, Row};
use crate::settings::Settings;
use crate::side::{CommandLine, Side, run_to_end};

/// What to run.
#[derive(clap::Args)]
pub struct Args {
    /// Command lines, each in quotes; the others are held against the first.
    #[arg(required = true)]
    commands: Vec<String>,
    /// How often each is run.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Runs the commands and prints the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let scratch = Side::scratch()?;
    let mut commands = args.commands.iter().map(|text| CommandLine::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut drawn = Vec::new();
    let runs = compare::interleave(&mut commands, args.rounds, |command| {
        let name = command.to_string();
        // One drawing of each is enough.
        let profile = settings.profile.as_ref().filter(|_| !drawn.contains(&name));
        let finished = run_to_end(&name, command, scratch.path(), profile.map(|profile| (profile, name.as_str())))?;
        drawn.push(name);
        Ok((finished.wall, finished.usage.cpu, finished.usage.peak_bytes))
    })?;
    let sides = commands.iter().map(ToString::to_string).zip(runs).collect();
    let rows = [Row { question: "run".into(), answer: "ended".into(), sides }];
    settings.tell("run", &compare::lines(&rows), &compare::table(&rows))
}
