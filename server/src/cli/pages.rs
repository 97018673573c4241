//! What the command line's grammar prints of itself: completion for shells, and manual pages.

use std::ffi::OsString;
use std::io;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{self, Roff};

/// The subcommand that prints a shell's completion script.
const COMPLETION: &str = "completion";

/// The subcommand that prints a manual page.
const MANUAL: &str = "man";

/// The grammar with the subcommands that print pages.
pub fn with_pages(command: Command) -> Command {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    let page = Arg::new("component").value_name("COMPONENT").num_args(0..);
    let page = page.help("The component, such as store or tools bucket ls; without one the page of uru.");
    command
        .subcommand(Command::new(COMPLETION).about("Prints the completion script of a shell").arg(shell))
        .subcommand(Command::new(MANUAL).about("Prints a manual page, as roff").arg(page))
}

/// The page that `matches` of the subcommand `name` ask for; `None` when it prints none.
pub fn asked(grammar: &Command, name: &str, matches: &ArgMatches) -> Option<Result<Vec<u8>, clap::Error>> {
    match name {
        COMPLETION => Some(Ok(completion(grammar, *matches.get_one::<Shell>("shell").expect("it is required")))),
        MANUAL => {
            let words = matches.get_many::<String>("component").unwrap_or_default();
            Some(manual(grammar, &words.map(String::as_str).collect::<Vec<_>>().join(" ")))
        }
        _ => None,
    }
}

/// The page that a flag of kingpin's asks for: `--help-long`, the help of every command, or `--help-man`, the
/// manual page of all.
pub fn flagged(grammar: &Command, words: &[OsString]) -> Option<Result<Vec<u8>, clap::Error>> {
    let mut flags = words.iter().take_while(|word| *word != "--");
    match flags.find_map(|word| word.to_str().filter(|word| ["--help-long", "--help-man"].contains(word)))? {
        "--help-man" => Some(manual(grammar, "")),
        _ => {
            let mut grammar = grammar.clone();
            grammar.build();
            let mut page = String::new();
            push_help(&mut grammar, &mut page);
            Some(Ok(page.into_bytes()))
        }
    }
}

/// The help of `command` and of all commands below it, one after the other.
fn push_help(command: &mut Command, page: &mut String) {
    page.push_str(&command.render_long_help().to_string());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        page.push('\n');
        push_help(below, page);
    }
}

fn completion(grammar: &Command, shell: Shell) -> Vec<u8> {
    let mut grammar = grammar.clone();
    if shell == Shell::Fish {
        grammar.build();
        return super::fish::script(&grammar);
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut grammar, "uru", &mut script);
    if shell == Shell::Bash {
        return values_behind_signs(&String::from_utf8_lossy(&script)).into_bytes();
    }
    script
}

/// The `script` for bash, where values are also completed behind `--flag=`: readline gives the sign as the word before.
fn values_behind_signs(script: &str) -> String {
    const BEFORE: &str = "prev=\"$3\"\n";
    const BEHIND: &str = "prev=\"$3\"\n    [[ \"$prev\" == \"=\" ]] && prev=\"${COMP_WORDS[COMP_CWORD-2]}\"\n";
    script.replace(BEFORE, BEHIND)
}

fn manual(grammar: &Command, component: &str) -> Result<Vec<u8>, clap::Error> {
    let mut grammar = grammar.clone();
    // Commands know what all have in common only then.
    grammar.build();
    let command = match component {
        "" => grammar,
        name => {
            let found = name.split(' ').try_fold(&grammar, |above, word| above.find_subcommand(word));
            let Some(found) = found else {
                let message = format!("no component is called {name:?}; uru --help lists them");
                return Err(grammar.error(clap::error::ErrorKind::InvalidValue, message));
            };
            let found = found.clone().version(env!("CARGO_PKG_VERSION"));
            found.name(format!("uru-{}", name.replace(' ', "-"))).bin_name(format!("uru {name}"))
        }
    };
    Ok(sections(command)?)
}

/// The sections of a manual page. What is called with is what `--help` says: a line that names each flag, of
/// which some components have a hundred, tells nobody anything.
fn sections(mut command: Command) -> io::Result<Vec<u8>> {
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let has_commands = command.has_subcommands();
    // That one has no page of its own.
    if command.find_subcommand("help").is_some() {
        command = command.mut_subcommand("help", |help| help.hide(true));
    }
    let page = Man::new(command);
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    Roff::new().control("SH", ["SYNOPSIS"]).text([roff::roman(usage)]).to_writer(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if has_commands {
        page.render_subcommands_section(&mut out)?;
    }
    page.render_version_section(&mut out)?;
    Ok(out)
}
