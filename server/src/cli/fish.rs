//! The completion script for fish. That of clap does not know commands of commands, and reads flags with
//! points in their names, which fish's `argparse` refuses, so that it completes nothing.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// What finds the command that is being written: the known words, from the left.
const FUNCTIONS: &str = r#"function __uru_command
    set -l path
    for word in (commandline -opc)[2..-1]
        if contains -- (string join ' ' -- $path $word) $__uru_commands
            set -a path $word
        end
    end
    string join ' ' -- $path
end

function __uru_at
    set -l at (__uru_command)
    test "$at" = "$argv"
end

complete -c uru -f
"#;

/// The script for `grammar`, which is built.
pub fn script(grammar: &Command) -> Vec<u8> {
    let (mut paths, mut lines) = (String::new(), String::new());
    below(grammar, "", &mut paths, &mut lines);
    format!("set -g __uru_commands{paths}\n\n{FUNCTIONS}{lines}").into_bytes()
}

/// Adds what may follow the words of `path`, and the commands below them.
fn below(command: &Command, path: &str, paths: &mut String, lines: &mut String) {
    let at = format!("complete -c uru -n {}", quoted(format!("__uru_at {path}").trim_end()));
    for arg in command.get_arguments() {
        let is_negation = arg.get_id().as_str().starts_with("no-");
        if !arg.is_hide_set() || is_negation {
            let _ = writeln!(lines, "{at}{}", argument(arg));
        }
    }
    for found in command.get_subcommands() {
        let about = found.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(lines, "{at} -a {} -d {}", found.get_name(), quoted(&about));
        if found.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", found.get_name());
        let _ = write!(paths, " {}", quoted(path.trim_start()));
        below(found, path.trim_start(), paths, lines);
    }
}

/// The options of `complete` for a flag or a word.
fn argument(arg: &Arg) -> String {
    let mut text = String::new();
    if let Some(long) = arg.get_long() {
        let _ = write!(text, " -l {long}");
    }
    if let Some(letter) = arg.get_short() {
        let _ = write!(text, " -s {letter}");
    }
    let needs_value = arg.get_num_args().is_some_and(|count| count.min_values() > 0);
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if needs_value && values.is_empty() {
        text.push_str(" -r -F");
    } else if needs_value {
        let values: Vec<&str> = values.iter().map(String::as_str).filter(|value| !value.is_empty()).collect();
        let _ = write!(text, "{} -a {}", if arg.is_positional() { "" } else { " -x" }, quoted(&values.join(" ")));
    }
    if let Some(help) = arg.get_help() {
        let _ = write!(text, " -d {}", quoted(&help.to_string()));
    }
    text
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
