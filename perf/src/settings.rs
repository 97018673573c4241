//! What holds for every measurement: how its figures are told, whether they are recorded, and whether
//! flame graphs are drawn instead.
//!
//! A record is a line of JSON in `<folder>/<measurement>.jsonl` for each figure:
//!
//! ```text
//! {"date": …, "commit": …, "changed": …, "machine": {…}, "command": "perf store …", "figures": {…}}
//! ```
//! The commit is that which the measured uru says it is of, and only where it says none that of the sources in the
//! folder that this runs in.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::machine::{self, Machine};
use crate::profile::Profile;
use crate::side::get;

/// Flags of every measurement.
#[derive(Default, clap::Args)]
pub struct Flags {
    /// Print JSON lines instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Append the figures, with commit and machine, to the records in this folder.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "perf/record",
        conflicts_with = "profile"
    )]
    record: Option<PathBuf>,
    /// Draw a flame graph of uru in each scenario into this folder, with Linux' perf. Figures of such a run
    /// are no record.
    #[arg(long, global = true, value_name = "FOLDER")]
    profile: Option<PathBuf>,
}

/// What the flags come to.
pub struct Settings {
    json: bool,
    record: Option<PathBuf>,
    /// Draws flame graphs, if that was asked for.
    pub profile: Option<Profile>,
    /// As it was at the start, with the commit of the sources in this folder.
    machine: Machine,
    /// The same with the commit of the uru that is measured, once it has said that.
    measuring: OnceCell<Machine>,
    command: String,
}

impl Settings {
    /// Looks at the machine, before anything is started on it.
    pub fn new(flags: Flags) -> Result<Self, String> {
        if flags.record.is_some() && cfg!(debug_assertions) {
            return Err("--record: figures of a debug build are no record: build perf and uru with --release".into());
        }
        let machine = Machine::this();
        if flags.record.is_some() && machine.is_busy() {
            eprintln!("the machine is busy, which the record will say: load {:.2}", machine.load);
        }
        let quoted = |word: String| if word.contains(' ') { format!("\"{word}\"") } else { word };
        let words: Vec<String> = std::env::args().skip(1).map(quoted).collect();
        Ok(Self {
            json: flags.json,
            record: flags.record,
            profile: flags.profile.as_deref().map(Profile::into_folder).transpose()?,
            machine,
            measuring: OnceCell::new(),
            command: format!("perf {}", without_folders(&words.join(" "))),
        })
    }

    /// Asks the uru that is measured, which answers at `address`, of which commit it is.
    pub fn ask_revision(&self, address: &str) {
        let said = get(address, "/metrics").and_then(|(_, metrics)| machine::revision(&metrics));
        said.iter().for_each(|commit| self.note_revision(commit));
    }

    /// The uru that is measured is of `commit`; the first that says so counts.
    pub fn note_revision(&self, commit: &str) {
        let is_first = self.measuring.set(self.machine.measuring(commit)).is_ok();
        if is_first && self.machine.commit != commit {
            eprintln!("uru is of {commit}, which is told, and not of {:?}, as the sources here", self.machine.commit);
        }
    }

    /// The machine, and the commit of what is measured on it.
    pub fn machine(&self) -> &Machine {
        self.measuring.get().unwrap_or(&self.machine)
    }

    /// A line with the commit, where uru has said that.
    fn with_commit(&self, line: &Value) -> Value {
        let mut line = line.clone();
        if let (Some(machine), Some(line)) = (self.measuring.get(), line.as_object_mut()) {
            line.insert("commit".to_owned(), json!(machine.commit));
        }
        line
    }

    /// Prints figures, and records them if that was asked for.
    pub fn tell(&self, measurement: &str, lines: &[Value], table: &str) -> Result<(), String> {
        if self.json {
            lines.iter().for_each(|line| println!("{}", self.with_commit(line)));
        } else {
            print!("{table}");
        }
        let Some(folder) = &self.record else { return Ok(()) };
        let path = folder.join(format!("{measurement}.jsonl"));
        self.append(folder, &path, lines).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("recorded: {}", path.display());
        Ok(())
    }

    /// Prints where `page` is, or as JSON lines the `results` that it is made of.
    pub fn tell_page(&self, page: &Path, results: &Path) -> Result<(), String> {
        if self.json {
            let lines = fs::read_to_string(results).map_err(|error| format!("{}: {error}", results.display()))?;
            print!("{lines}");
        } else {
            println!("{}", page.display());
        }
        Ok(())
    }

    /// The flags with which this program, run again over so many series, records where this run does, and
    /// draws into a folder of that size's own.
    pub fn flags_again(&self, series: usize) -> Vec<String> {
        let record = self.record.iter().map(|folder| format!("--record={}", folder.display()));
        let profile = self.profile.iter().map(|profile| {
            let folder = profile.folder.join(format!("{series}-series"));
            format!("--profile={}", folder.display())
        });
        record.chain(profile).collect()
    }

    fn append(&self, folder: &Path, path: &Path, lines: &[Value]) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let (mut file, machine) = (File::options().create(true).append(true).open(path)?, self.machine());
        for figures in lines {
            let line = json!({
                "date": machine.date, "commit": machine.commit, "changed": machine.changed,
                "machine": machine.json(), "command": self.command, "figures": figures,
            });
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// A count of which none would measure nothing.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("nothing would be measured; give at least 1".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("not a whole number".into()),
    }
}

/// A command line with only the last part of every path: a record is read on other machines.
fn without_folders(command: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '=');
    let mut text = String::new();
    for piece in command.split_inclusive(is_end) {
        let (word, end) = match piece.chars().next_back().filter(|c| is_end(*c)) {
            Some(end) => (&piece[..piece.len() - end.len_utf8()], &piece[piece.len() - end.len_utf8()..]),
            None => (piece, ""),
        };
        let word = word.trim_end_matches('/');
        text.push_str(if word.contains("://") { word } else { word.rsplit('/').next().unwrap_or(word) });
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(record: PathBuf) -> Settings {
        let machine = Machine { commit: "abc".into(), changed: Some(true), cores: 2, ..Machine::default() };
        let (record, command, measuring) = (Some(record), "perf run a".into(), OnceCell::new());
        Settings { json: false, record, profile: None, machine, measuring, command }
    }

    #[test]
    fn a_count_of_none_is_refused() {
        assert_eq!(at_least_one("3"), Ok(3));
        assert!(at_least_one("0").unwrap_err().contains("at least 1") && at_least_one("x").is_err());
    }

    #[test]
    fn records_are_appended_with_commit_machine_and_command() {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = settings(folder.path().join("record"));
        for figure in [1, 2] {
            settings.tell("run", &[json!({"wall_ms": figure})], "").unwrap();
        }
        let text = fs::read_to_string(folder.path().join("record/run.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["commit"], &lines[1]["machine"]["cores"]), (&json!("abc"), &json!(2)));
        assert_eq!((&lines[1]["command"], &lines[1]["figures"]["wall_ms"]), (&json!("perf run a"), &json!(2)));
    }

    #[test]
    fn the_commit_is_that_of_what_is_measured_where_it_says_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = settings(folder.path().to_owned());
        let figures = json!({"side": "uru"});
        settings.tell("run", std::slice::from_ref(&figures), "").unwrap();
        assert_eq!(settings.with_commit(&figures), figures);
        settings.note_revision("def");
        settings.note_revision("abc");
        settings.tell("run", std::slice::from_ref(&figures), "").unwrap();
        let text = fs::read_to_string(folder.path().join("run.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |line: usize| (lines[line]["commit"].clone(), lines[line]["changed"].clone());
        assert_eq!((told(0), told(1)), ((json!("abc"), json!(true)), (json!("def"), Value::Null)));
        assert_eq!(settings.with_commit(&figures)["commit"], "def");
    }

    #[test]
    fn a_run_of_many_draws_each_size_into_a_folder_of_its_own() {
        let mut settings = settings("record".into());
        assert_eq!(settings.flags_again(10_000), ["--record=record"]);
        (settings.record, settings.profile) = (None, Some(Profile { folder: "flames".into() }));
        assert_eq!(settings.flags_again(10_000), ["--profile=flames/10000-series"]);
    }

    #[test]
    fn a_recorded_command_names_programs_and_data_without_their_folders() {
        assert_eq!(
            without_folders("store --bucket=/a/b/c/ --peer-cmd '/x/thanos store' --url http://h:1/p"),
            "store --bucket=c --peer-cmd 'thanos store' --url http://h:1/p"
        );
    }
}
