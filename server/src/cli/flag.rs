//! What a flag is: its name, kind, default and standing, as data.

/// What a flag's value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--name` and `--no-name`.
    Switch,
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A whole number of which 0 and below is no limit.
    Limit,
    /// A number.
    Float,
    /// A duration, as Prometheus or Go writes it.
    Duration,
    /// A size in bytes, such as `250MB`.
    Bytes,
    /// A point in time: RFC 3339, or a duration relative to now.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words; the flag may come again.
    Words(&'static [&'static str]),
    /// Text; the flag may come again.
    List,
    /// `host:port`, or a name to be looked up by DNS; the flag may come again.
    Addresses,
    /// Numbers with commas between; the flag may come again.
    Numbers,
}

/// What uru does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its meaning.
    Used,
    /// It is accepted, so that a deployment's command line works as it is, and said to be without
    /// effect for this reason.
    NoEffect(&'static str),
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What its value is made of.
    pub kind: Kind,
    /// As it would be written on the command line; empty when there is none.
    pub default: &'static str,
    /// One sentence for `--help`.
    pub help: &'static str,
    /// Whether it has an effect.
    pub standing: Standing,
    /// Whether `--help` leaves it out.
    pub hidden: bool,
    /// The letter that stands for it after one dash.
    pub short: Option<char>,
    /// Whether the component can't do without it.
    pub required: bool,
}

impl Flag {
    /// A flag that has its meaning.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self { name, kind, default, help, standing: Standing::Used, hidden: false, short: None, required: false }
    }

    /// A flag that is accepted and has no effect, for the reason `why`.
    pub const fn without_effect(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Self {
        let standing = Standing::NoEffect(why);
        Self { name, kind, default, help: why, standing, hidden: false, short: None, required: false }
    }

    /// The same flag, left out of `--help`.
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same flag, without which the component isn't run.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same flag, with a letter that stands for it.
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }
}

/// A component as the command line knows it.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// The word after `uru`; several words for a command of a command.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Its flags, in groups that components share.
    pub flags: &'static [&'static [Flag]],
}

impl Subcommand {
    /// All flags of the component.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter())
    }
}

/// A command that only has commands below it.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    /// The words after `uru`.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Flags that may stand before or after the name of a command below it.
    pub flags: &'static [&'static [Flag]],
}

impl Branch {
    /// All flags of the branch.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter())
    }

    /// Whether `name` is a command below this one.
    pub fn holds(&self, name: &str) -> bool {
        name.strip_prefix(self.name).is_some_and(|rest| rest.starts_with(' '))
    }
}
