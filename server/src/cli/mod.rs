//! The command line: Thanos' flags, in kingpin's manner of writing, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What a flag is.
pub mod flag;
/// The flags of everything in one process.
pub mod all_in_one;
/// The flags of the compactor.
pub mod compact;
/// The flags that components share.
pub mod flags;
/// The completion script for fish.
mod fish;
/// Headings of `--help`.
mod heading;
/// Completion scripts and manual pages.
mod pages;
/// Values of flags.
pub mod parse;
/// The flags of the querier.
pub mod query;
/// The flags of the receiver.
pub mod receive;
/// The flags of the store gateway.
pub mod store;
/// The flags of the tools.
pub mod tools;
/// The words of a command line.
mod words;

pub use flag::{Branch, Flag, Kind, Standing, Subcommand};
pub use parse::TimeOrDuration;

/// The values of one component's flags; each has passed the check of its kind.
#[derive(Clone, Debug, Default)]
pub struct Values {
    values: BTreeMap<&'static str, Vec<String>>,
    /// Names of those that stand on the command line.
    given: BTreeSet<&'static str>,
    no_effect: Vec<(&'static str, &'static str)>,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The component.
    pub component: &'static str,
    /// Its flags.
    pub values: Values,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// A component is to run.
    Run(Invocation),
    /// This page is to be printed.
    Print(Vec<u8>),
}

/// Components of Thanos' that are not there yet.
const TO_COME: [&str; 3] = ["sidecar", "rule", "query-frontend"];

/// The command line's grammar, made of the components' flags.
pub fn command(components: &'static [Subcommand]) -> Command {
    let mut command = Command::new("uru")
        .about("Metrics in object storage, stored and queried as columns; a drop-in for Thanos")
        .version(version(option_env!("URU_REVISION")))
        .propagate_version(true)
        .subcommand_required(true)
        .arg_required_else_help(true);
    for arg in flags::GLOBAL.iter().flat_map(|flag| args("", flag)) {
        command = command.arg(arg.global(true));
    }
    pages::with_pages(branch(command, components, ""))
}

/// The version as it is printed, with the commit where the build knows it.
fn version(revision: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match revision.filter(|revision| !revision.is_empty()) {
        Some(revision) => format!("{version} (revision {revision})"),
        None => version.to_owned(),
    }
}

/// `command` with all commands whose names begin with `path`, which is empty or ends in a space.
fn branch(mut command: Command, components: &'static [Subcommand], path: &str) -> Command {
    let mut known: Vec<&str> = Vec::new();
    for component in components {
        let Some(rest) = component.name.strip_prefix(path) else { continue };
        let Some((word, _)) = rest.split_once(' ') else {
            let leaf = Command::new(rest).about(component.about);
            // What all have in common is here too, so that it stands under its headings.
            let mut flags: Vec<_> = component.flags().chain(shared(component.name)).collect();
            flags.sort_by_key(|flag| heading::place(component.name, flag));
            let args = flags.into_iter().flat_map(|flag| args(component.name, flag));
            command = command.subcommand(args.fold(leaf, Command::arg));
            continue;
        };
        if known.contains(&word) {
            continue;
        }
        known.push(word);
        let name = format!("{path}{word}");
        let mut below = Command::new(word).subcommand_required(true).arg_required_else_help(true);
        if let Some(found) = tools::BRANCHES.iter().find(|branch| branch.name == name) {
            below = below.about(found.about);
            let args = found.flags().flat_map(|flag| args(found.name, flag));
            below = args.fold(below, |below, arg| below.arg(arg.global(true)));
        }
        command = command.subcommand(branch(below, components, &format!("{name} ")));
    }
    command
}

/// Flags that the component called `name` has in common with others, and that may stand before its name.
fn shared(name: &str) -> impl Iterator<Item = &'static Flag> {
    let above = tools::BRANCHES.iter().filter(move |branch| branch.holds(name)).flat_map(Branch::flags);
    flags::GLOBAL.iter().chain(above)
}

/// Reads `words`, the first of which is the program's name.
pub fn parse(
    components: &'static [Subcommand],
    words: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Task, clap::Error> {
    let mut grammar = command(components);
    let words = words::expand(words).map_err(|why| grammar.error(clap::error::ErrorKind::Io, why))?;
    if let Some(page) = pages::flagged(&grammar, &words) {
        return page.map(Task::Print);
    }
    let all = grammar.try_get_matches_from_mut(words).map_err(|error| of_component_to_come(&mut grammar, error))?;
    let (first, below) = all.subcommand().expect("the grammar requires a subcommand");
    if let Some(page) = pages::asked(&grammar, first, below) {
        return page.map(Task::Print);
    }
    let (mut name, mut matches) = (String::new(), &all);
    while let Some((word, below)) = matches.subcommand() {
        name = if name.is_empty() { word.to_owned() } else { format!("{name} {word}") };
        matches = below;
    }
    let component = components.iter().find(|known| known.name == name).expect("the grammar knows these components");
    let mut values = Values::default();
    let mut failed = |kind, message| below_of(&mut grammar, component.name).error(kind, message);
    for flag in shared(component.name).chain(component.flags()) {
        let taken = values.take(flag, matches).map_err(|why| format!("--{}: {why}", flag.name));
        taken.map_err(|message| failed(clap::error::ErrorKind::ValueValidation, message))?;
    }
    let is_missing = |flag: &&Flag| flag.required && values.list(flag.name).iter().all(String::is_empty);
    let missing: Vec<String> = component.flags().filter(is_missing).map(|flag| format!("'--{}'", flag.name)).collect();
    if !missing.is_empty() {
        let message = format!("required flag(s) {} not provided", missing.join(", "));
        return Err(failed(clap::error::ErrorKind::MissingRequiredArgument, message));
    }
    Ok(Task::Run(Invocation { component: component.name, values }))
}

/// The command below `grammar` that is called `name`, in as many words as that has.
fn below_of<'a>(grammar: &'a mut Command, name: &str) -> &'a mut Command {
    let below = |above: &'a mut Command, word| above.find_subcommand_mut(word).expect("the grammar knows this command");
    name.split(' ').fold(grammar, below)
}

/// The error of a command line, or what is to be said where that asks for a component of Thanos' that is not there.
fn of_component_to_come(grammar: &mut Command, error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if TO_COME.contains(&name.as_str()) => {
            let message = format!("{name} is not there yet: see What works in README.md");
            grammar.error(ErrorKind::InvalidSubcommand, message)
        }
        _ => error,
    }
}

/// The exit code of a process whose command line has this error, or asks for a page: 1 for words that nobody
/// knows and flags without the value that they need, 2 for what can't be used otherwise, as of Thanos.
pub fn exit_code(error: &clap::Error) -> u8 {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let has_no_value = || error.get(ContextKind::InvalidValue) == Some(&ContextValue::String(String::new()));
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => 1,
        ErrorKind::InvalidValue if has_no_value() => 1,
        _ => 2,
    }
}

/// Kingpin's form of a flag of `component`: `--name=value`, `--name value`; a switch is `--name` or
/// `--no-name`.
fn args(component: &str, flag: &'static Flag) -> Vec<Arg> {
    let arg = Arg::new(flag.name).long(flag.name).help(help(flag)).hide(flag.hidden);
    let arg = heading::of(component, flag).into_iter().fold(arg, Arg::help_heading);
    let arg = flag.short.map_or(arg.clone(), |letter| arg.short(letter));
    match flag.kind {
        Kind::Switch => {
            let negated = Arg::new(format!("no-{}", flag.name))
                .long(format!("no-{}", flag.name))
                .hide(true)
                .action(ArgAction::SetTrue)
                .overrides_with(flag.name);
            let arg = arg
                .num_args(0..=1)
                .require_equals(true)
                .value_name("true|false")
                .hide_possible_values(true)
                .default_missing_value("true")
                .value_parser(["true", "false"])
                .overrides_with(format!("no-{}", flag.name));
            vec![arg, negated]
        }
        Kind::List | Kind::Addresses | Kind::Numbers => vec![arg.action(ArgAction::Append).value_name("VALUE")],
        Kind::Words(words) => {
            vec![arg.action(ArgAction::Append).value_name("WORD").value_parser(words.to_vec())]
        }
        Kind::Word(words) => vec![with_default(arg.value_name("WORD").value_parser(words.to_vec()), flag)],
        _ => vec![with_default(arg.value_name("VALUE").allow_hyphen_values(true), flag)],
    }
}

/// What is said of a flag, with its default where the grammar does not know that.
fn help(flag: &Flag) -> String {
    let Flag { name, default, help, .. } = flag;
    match flag.kind {
        Kind::Switch if *default == "true" => format!("{help} [default: true; --no-{name} turns it off]"),
        Kind::List | Kind::Addresses | Kind::Numbers | Kind::Words(_) if !default.is_empty() => {
            format!("{help} [default: {default}]")
        }
        _ => (*help).to_owned(),
    }
}

fn with_default(arg: Arg, flag: &'static Flag) -> Arg {
    if flag.default.is_empty() { arg } else { arg.default_value(flag.default) }
}

impl Values {
    /// The text of a flag; `None` when it was not given and has no default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.list(name).last().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether the component has such a flag.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// All texts of a flag that may come again.
    pub fn list(&self, name: &str) -> &[String] {
        self.values.get(name).unwrap_or_else(|| panic!("the component declares a flag --{name}"))
    }

    /// All words of a flag that may come again and whose texts may be several words with commas between.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.list(name).iter().flat_map(|text| text.split(','))
    }

    /// Whether a flag, or its negation, stands on the command line.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Every flag with its texts.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.values.iter().map(|(name, texts)| (*name, texts.as_slice()))
    }

    /// A whole number; 0 for one below.
    pub fn integer(&self, name: &str) -> u64 {
        match self.checked(name) {
            text if text.starts_with('-') => 0,
            text => text.parse().expect("whole numbers are checked when flags are parsed"),
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Duration {
        parse::parse_duration(self.checked(name)).expect("durations are checked when flags are parsed")
    }

    /// A size in bytes.
    pub fn bytes(&self, name: &str) -> u64 {
        parse::parse_bytes(self.checked(name)).expect("sizes are checked when flags are parsed")
    }

    /// A point in time.
    pub fn time(&self, name: &str) -> TimeOrDuration {
        parse::parse_time(self.checked(name)).expect("times are checked when flags are parsed")
    }

    /// The flags that were given and have no effect, each with the reason.
    pub fn no_effect(&self) -> &[(&'static str, &'static str)] {
        &self.no_effect
    }

    fn checked(&self, name: &str) -> &str {
        self.text(name).unwrap_or_else(|| panic!("the flag --{name} has a default"))
    }

    fn take(&mut self, flag: &'static Flag, matches: &ArgMatches) -> Result<(), String> {
        let is_negated = matches!(flag.kind, Kind::Switch) && matches.get_flag(&format!("no-{}", flag.name));
        let mut values: Vec<String> = match flag.kind {
            Kind::Switch if is_negated => vec!["false".into()],
            _ => matches.get_many::<String>(flag.name).map(|all| all.cloned().collect()).unwrap_or_default(),
        };
        if values.is_empty() && !flag.default.is_empty() {
            values.push(flag.default.to_owned());
        }
        // Where nothing is the default, an empty value is as good as none, but as an address.
        let is_none = |value: &str| value.is_empty() && flag.default.is_empty() && flag.kind != Kind::Addresses;
        for value in values.iter().filter(|value| !is_none(value)) {
            check(flag.kind, value)?;
        }
        let given = is_negated || matches.value_source(flag.name) == Some(ValueSource::CommandLine);
        if given {
            self.given.insert(flag.name);
        }
        if let (true, Standing::NoEffect(why)) = (given, flag.standing) {
            self.no_effect.push((flag.name, why));
        }
        self.values.insert(flag.name, values);
        Ok(())
    }
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    match kind {
        Kind::Switch | Kind::Text | Kind::Word(_) | Kind::Words(_) | Kind::List => Ok(()),
        Kind::Integer => value.parse::<u64>().map(drop).map_err(|_| format!("{value:?} is not a whole number")),
        Kind::Limit => check(Kind::Integer, value.strip_prefix('-').unwrap_or(value)),
        Kind::Float => value.parse::<f64>().map(drop).map_err(|_| format!("{value:?} is not a number")),
        Kind::Duration => parse::parse_duration(value).map(drop),
        Kind::Bytes => parse::parse_bytes(value).map(drop),
        Kind::Time => parse::parse_time(value).map(drop),
        Kind::Addresses => parse::check_address(value),
        Kind::Numbers => value.split(',').try_for_each(|number| check(Kind::Float, number.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENTS: &[Subcommand] = &[Subcommand {
        name: "store",
        about: "",
        flags: &[
            &[
                Flag::new("on", Kind::Switch, "true", ""),
                Flag::new("off", Kind::Switch, "false", ""),
                Flag::without_effect("old", Kind::Text, "x", "it is old"),
                Flag::new("label", Kind::List, "", ""),
            ],
            flags::SELECTOR,
        ],
    }];

    fn values(line: &str) -> Result<Values, clap::Error> {
        parse(COMPONENTS, line.split(' ').map(Into::into)).map(|task| match task {
            Task::Run(invocation) => invocation.values,
            Task::Print(page) => panic!("a page of {} bytes", page.len()),
        })
    }

    fn page(line: &str) -> String {
        match parse(COMPONENTS, line.split(' ').map(Into::into)).unwrap() {
            Task::Print(page) => String::from_utf8(page).unwrap(),
            Task::Run(invocation) => panic!("{} was to run", invocation.component),
        }
    }

    #[test]
    fn completion_and_manual_pages_know_every_component_and_flag() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = page(&format!("uru completion {shell}"));
            assert!(script.contains("store") && script.contains("label"), "{shell}");
        }
        assert!(page("uru man").contains("uru\\-store"));
        let all = page("uru --help-long");
        assert!(all.contains("Usage: uru [OPTIONS] <COMMAND>") && all.contains("--min-time <VALUE>"), "{all}");
        assert_eq!(page("uru store --help-man"), page("uru man"));
        let store = page("uru man store");
        assert!(store.contains("\\-\\-min\\-time") && store.contains(".SH SYNOPSIS\nuru store [OPTIONS]\n"), "{store}");
        assert!(store.contains("log.level"), "what all components have: {store}");
        assert!(!page("uru man").contains("uru\\-help"), "it is no component");
        let usage = parse(COMPONENTS, ["uru", "store", "--help"].map(Into::into)).unwrap_err().to_string();
        assert!(usage.contains("[default: true; --no-on turns it off]"), "{usage}");
        assert_eq!(parse(COMPONENTS, ["uru", "store", "--version"].map(Into::into)).unwrap_err().exit_code(), 0);
        let error = parse(COMPONENTS, ["uru", "man", "nonsense"].map(Into::into)).unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }

    #[test]
    fn switches_are_negated_and_lists_repeat() {
        let found = values("uru --log.level=debug store --no-on --off --label a --label=b --min-time=-2w").unwrap();
        assert!(!found.is_on("on") && found.is_on("off"));
        assert_eq!(found.list("label"), ["a", "b"]);
        assert_eq!(found.text("log.level"), Some("debug"));
        assert_eq!(found.time("min-time"), TimeOrDuration::FromNow(-14 * 86_400_000));
        assert!(found.no_effect().is_empty());
    }

    #[test]
    fn exit_codes_are_those_of_thanos() {
        let code = |line: &str| {
            let words = line.split(' ').map(std::ffi::OsString::from);
            parse(crate::component::COMPONENTS, words).map_or_else(|error| exit_code(&error), |_| 0)
        };
        for (line, expected) in [
            ("uru --help", 0),
            ("uru compact --help", 0),
            ("uru --version", 0),
            ("uru nothing", 1),
            ("uru tools bucket nothing", 1),
            ("uru compact nothing", 1),
            ("uru compact --nothing", 1),
            ("uru compact --wait-interval", 1),
            ("uru compact --wait-interval=x", 2),
            ("uru compact --hash-func=MD5", 2),
            ("uru tools rules-check", 2),
            ("uru tools bucket mark", 2),
            ("uru tools bucket mark --id=01ARZ3NDEKTSV4RRFFQ69G5FAV", 2),
            ("uru tools bucket rewrite", 2),
            ("uru tools bucket", 2),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
        let words = ["uru", "tools", "bucket", "mark"].map(std::ffi::OsString::from);
        let error = parse(crate::component::COMPONENTS, words).unwrap_err().to_string();
        assert!(error.contains("required flag(s) '--id', '--marker' not provided"), "{error}");
    }

    #[test]
    fn a_component_that_is_not_there_yet_is_told_of_as_such() {
        for line in ["uru sidecar --tsdb.path=a", "uru --log.level=debug rule", "uru query-frontend"] {
            let words = line.split(' ').map(std::ffi::OsString::from);
            let error = parse(crate::component::COMPONENTS, words).unwrap_err();
            assert!(error.to_string().contains("is not there yet: see What works in README.md"), "{line}: {error}");
            assert_eq!(exit_code(&error), 1, "{line}");
        }
        let words = ["uru", "tools", "sidecars"].map(std::ffi::OsString::from);
        let error = parse(crate::component::COMPONENTS, words).unwrap_err().to_string();
        assert!(!error.contains("not there yet"), "{error}");
    }

    #[test]
    fn a_bad_value_comes_with_the_usage_of_its_component() {
        for (line, usage) in [
            ("uru store --sync-block-duration=5", "Usage: uru store [OPTIONS]"),
            ("uru tools bucket mark", "Usage: uru tools bucket mark [OPTIONS]"),
        ] {
            let words = line.split(' ').map(std::ffi::OsString::from);
            let error = parse(crate::component::COMPONENTS, words).unwrap_err().to_string();
            assert!(error.contains(usage), "{line}: {error}");
        }
    }

    #[test]
    fn the_version_tells_the_commit_where_it_is_known() {
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(version(Some("abc")), format!("{own} (revision abc)"));
        assert_eq!([version(None), version(Some(""))], [own, own]);
    }

    #[test]
    fn what_all_have_may_stand_before_a_name_and_behind_it() {
        for line in ["uru --log.level=debug store", "uru store --log.level=debug"] {
            assert_eq!(values(line).unwrap().text("log.level"), Some("debug"), "{line}");
        }
        for line in ["uru tools bucket --objstore.config=a ls", "uru tools bucket ls --objstore.config=a"] {
            let words = line.split(' ').map(std::ffi::OsString::from);
            let Ok(Task::Run(found)) = parse(crate::component::COMPONENTS, words) else { panic!("{line}") };
            assert_eq!(found.values.text("objstore.config"), Some("a"), "{line}");
            assert!(found.values.is_given("objstore.config"), "{line}");
        }
    }

    #[test]
    fn a_flag_without_effect_is_accepted_and_named() {
        assert_eq!(values("uru store --old=y").unwrap().no_effect(), [("old", "it is old")]);
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        let error = values("uru store --max-time=yesterday").unwrap_err().to_string();
        assert!(error.contains("--max-time") && error.contains("yesterday"), "{error}");
        let error = values("uru store --max-time=").unwrap_err().to_string();
        assert!(error.contains("--max-time"), "{error}");
        assert!(values("uru store --nonsense").is_err());
        let limits = "uru query --query.max-concurrent=-1";
        let words = limits.split(' ').map(std::ffi::OsString::from);
        let Ok(Task::Run(found)) = parse(crate::component::COMPONENTS, words) else { panic!("{limits}") };
        assert_eq!(found.values.integer("query.max-concurrent"), 0);
        let error = |line: &str| {
            let words = line.split(' ').map(std::ffi::OsString::from);
            parse(crate::component::COMPONENTS, words).unwrap_err().to_string()
        };
        for (flag, words) in [
            ("--endpoint=", "--endpoint: Address is empty."),
            ("--endpoint-strict=", "--endpoint-strict: Address is empty."),
            ("--endpoint=http://host:10901", "give host:port without a scheme"),
            ("--endpoint-group=host", "Address host is not of <host>:<port> format or a valid DNS query."),
            ("--query.max-concurrent=--1", "\"-1\" is not a whole number"),
            ("--query.conn-metric.label=x", "external_labels, store_type, ip_port"),
            ("--query.telemetry.request-samples-quantiles=1,x", "\"x\" is not a number"),
        ] {
            let found = error(&format!("uru query {flag}"));
            assert!(found.contains(words), "{flag}: {found}");
        }
    }
}
