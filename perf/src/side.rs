//! A side of a comparison: a command line, the process that runs it, and what that process has used.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::profile::{Profile, Watched};
use crate::program;
use crate::usage::{self, Usage};

/// Longest time that a process may take until it is ready.
const READY_TIME_MAX: Duration = Duration::from_secs(600);

/// Time that a process has to end when it is told to; it is killed afterwards.
const END_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at a process.
const POLL: Duration = Duration::from_millis(5);

/// A command line in the making.
#[derive(Clone, Debug)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// Splits `text` at spaces; quotes, single or double, hold words together.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut words, mut word, mut quote, mut is_open) = (Vec::new(), String::new(), None, false);
        for c in text.chars() {
            match (c, quote) {
                (_, Some(open)) if c == open => quote = None,
                ('"' | '\'', None) => (quote, is_open) = (Some(c), true),
                (c, None) if c.is_whitespace() => {
                    if std::mem::take(&mut is_open) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                _ => {
                    word.push(c);
                    is_open = true;
                }
            }
        }
        if quote.is_some() {
            return Err(format!("command line {text:?}: a quote is not closed"));
        }
        if is_open {
            words.push(word);
        }
        if words.is_empty() {
            return Err("a command line is empty: give a program and its arguments".into());
        }
        Ok(Self { words })
    }

    /// The program of a component: the line that was said, or else `uru` with these words.
    pub fn uru(said: Option<&str>, words: &[&str]) -> Result<Self, String> {
        match said {
            Some(line) => Self::parse(line),
            None => Ok(Self::of(&program::uru()?, words)),
        }
    }

    /// `program` with these words.
    pub fn of(program: &Path, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned());
        Self { words: std::iter::once(program.display().to_string()).chain(words).collect() }
    }

    /// Adds words at the end.
    pub fn with(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.words.extend(words);
        self
    }

    /// The words after the program.
    pub fn arguments(&self) -> &[String] {
        &self.words[1..]
    }

    /// The value of the flag `--name`; when the line does not say one, it gets `value`.
    pub fn flag(&mut self, name: &str, value: &str) -> String {
        let (alone, with_value) = (format!("--{name}"), format!("--{name}="));
        for (at, word) in self.words.iter().enumerate() {
            if let Some(said) = word.strip_prefix(&with_value) {
                return said.to_owned();
            }
            if *word == alone {
                return self.words.get(at + 1).cloned().unwrap_or_default();
            }
        }
        self.words.push(format!("{with_value}{value}"));
        value.to_owned()
    }

    /// Whether the line says one of the flags.
    pub fn has_flag(&self, names: &[&str]) -> bool {
        self.words.iter().any(|word| {
            let name = word.trim_start_matches("--").split('=').next().unwrap_or_default();
            word.starts_with("--") && names.contains(&name)
        })
    }

    fn spawn(&self, log: &Path) -> Result<Child, String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", self.words[0]);
        let log = File::create(log).map_err(failed)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log).spawn().map_err(failed)
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.words.join(" "))
    }
}

/// `127.0.0.1` with a port that nobody listens on.
pub fn free_address() -> Result<String, String> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    found.map(|address| address.to_string()).map_err(|error| format!("there is no free port: {error}"))
}

/// Copies a folder to `to`, which is not there, by links where the file system allows them.
pub fn link_tree(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} to {}: {error}", from.display(), to.display());
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            link_tree(&path, &target)?;
        } else {
            std::fs::hard_link(&path, &target).or_else(|_| std::fs::copy(&path, &target).map(drop)).map_err(failed)?;
        }
    }
    Ok(())
}

/// A process that runs until it is dropped.
pub struct Side {
    /// Its name in tables.
    pub name: String,
    /// Its process.
    child: Child,
    log: PathBuf,
    /// A folder of its own, gone with it.
    scratch: TempDir,
}

impl Side {
    /// A folder for a process that [`Side::start`] is to start.
    pub fn scratch() -> Result<TempDir, String> {
        TempDir::new().map_err(|error| format!("there is no room for scratch files: {error}"))
    }

    /// Starts `command`, whose files are in `scratch`.
    pub fn start(name: &str, command: &CommandLine, scratch: TempDir) -> Result<Self, String> {
        Self::start_drawn(name, command, scratch, None).map(|(side, _)| side)
    }

    /// The same; with a profile the start is watched, for the flame graph of this name.
    pub fn start_drawn(
        name: &str,
        command: &CommandLine,
        scratch: TempDir,
        profile: Option<(&Profile, &str)>,
    ) -> Result<(Self, Option<Watched>), String> {
        let log = scratch.path().join("log");
        let (child, watched) = spawn(command, &log, profile)?;
        Ok((Self { name: name.to_owned(), child, log, scratch }, watched))
    }

    /// Ends the process and starts `command` over the same folder; with a profile the start is watched.
    pub fn restart(
        &mut self,
        command: &CommandLine,
        profile: Option<(&Profile, &str)>,
    ) -> Result<Option<Watched>, String> {
        self.end();
        self.start_again(command, profile)
    }

    /// Kills the process, which gets no time to write anything, and starts `command` over the same folder;
    /// with a profile the start is watched.
    pub fn crash(
        &mut self,
        command: &CommandLine,
        profile: Option<(&Profile, &str)>,
    ) -> Result<Option<Watched>, String> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(|error| format!("{}: cannot be killed: {error}", self.name))?;
        self.start_again(command, profile)
    }

    fn start_again(
        &mut self,
        command: &CommandLine,
        profile: Option<(&Profile, &str)>,
    ) -> Result<Option<Watched>, String> {
        let (child, watched) = spawn(command, &self.log, profile)?;
        self.child = child;
        Ok(watched)
    }

    /// Waits until `GET path` at `address` answers 200; returns how long that took.
    pub fn wait_ready(&mut self, address: &str, path: &str) -> Result<Duration, String> {
        self.wait_until(address, path, |status, _| status == 200)
    }

    /// Waits until the status and body of `GET path` at `address` are as they should be.
    pub fn wait_until(
        &mut self,
        address: &str,
        path: &str,
        is_right: impl Fn(u16, &str) -> bool,
    ) -> Result<Duration, String> {
        let begin = Instant::now();
        while get(address, path).is_none_or(|(status, body)| !is_right(status, &body)) {
            let ended = self.child.try_wait().map_err(|error| format!("{}: {error}", self.name))?;
            if ended.is_some() || begin.elapsed() > READY_TIME_MAX {
                let why = ended.map_or("is not ready".into(), |status| format!("has ended: {status}"));
                return Err(format!("{} {why}; its log ends with\n{}", self.name, self.log_end()));
            }
            std::thread::sleep(POLL);
        }
        Ok(begin.elapsed())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its own folder.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// CPU time and peak memory up to now.
    pub fn usage(&self) -> Result<Usage, String> {
        usage::of(self.pid()).map_err(|error| format!("{}: {error}; its log ends with\n{}", self.name, self.log_end()))
    }

    /// From now on the peak of memory is that of what follows.
    pub fn reset_peak(&self) -> Result<(), String> {
        usage::reset_peak(self.pid()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// The last lines that it has logged.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.end();
    }
}

impl Side {
    fn end(&mut self) {
        // Asked first, as a process that is killed leaves its files locked or unwritten.
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        let begin = Instant::now();
        while asked.is_ok() && begin.elapsed() < END_TIME_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        // The process may have ended in between.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process used that has run to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// From start to end.
    pub wall: Duration,
    /// What it used.
    pub usage: Usage,
}

/// Runs `command` to its end; its output goes to `scratch`. A status other than 0 is an error. With a
/// profile, its flame graph gets this name.
pub fn run_to_end(
    name: &str,
    command: &CommandLine,
    scratch: &Path,
    profile: Option<(&Profile, &str)>,
) -> Result<Finished, String> {
    let log = scratch.join("log");
    let begin = Instant::now();
    let (mut child, watched) = spawn(command, &log, profile)?;
    let mut used = Usage::default();
    // A process that has ended keeps its CPU time until it is waited for, its memory it does not.
    while let Ok(now) = usage::of(child.id()) {
        used = Usage { peak_bytes: now.peak_bytes.max(used.peak_bytes), ..now };
        if usage::has_ended(child.id()) {
            break;
        }
        std::thread::sleep(POLL);
    }
    let wall = begin.elapsed();
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if !status.success() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        return Err(format!("{name} has ended: {status}\n{text}"));
    }
    if let Some(watched) = watched {
        watched.draw()?;
    }
    Ok(Finished { wall, usage: used })
}

/// Starts a process. With a profile it is watched from its first instruction: a shell stops itself, is
/// watched, and becomes the program when it goes on.
fn spawn(
    command: &CommandLine,
    log: &Path,
    profile: Option<(&Profile, &str)>,
) -> Result<(Child, Option<Watched>), String> {
    let Some((profile, scene)) = profile else { return Ok((command.spawn(log)?, None)) };
    let shell = CommandLine::of(Path::new("sh"), &["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
    let mut child = shell.with(command.words.iter().cloned()).spawn(log)?;
    while !usage::is_stopped(child.id()) && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(POLL);
    }
    let watched = profile.watch(scene, child.id());
    let pid = child.id().to_string();
    let signal = if watched.is_ok() { "-CONT" } else { "-KILL" };
    let sent = Command::new("kill").args([signal, &pid]).status();
    sent.map_err(|error| format!("kill {signal} {pid}: {error}"))?;
    Ok((child, Some(watched?)))
}

/// A GET over a connection of its own, of HTTP/1.0 so that the body comes in one piece: status and body;
/// `None` when nobody answers.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_at_spaces_outside_quotes() {
        let line = CommandLine::parse("thanos store  --config='{type: F}' \"--a=b c\" ''").unwrap();
        assert_eq!(line.words, ["thanos", "store", "--config={type: F}", "--a=b c", ""]);
        assert!(CommandLine::parse("thanos 'x").is_err());
        assert!(CommandLine::parse("  ").is_err());
    }

    #[test]
    fn a_flag_that_is_said_stays_and_one_that_is_not_is_added() {
        let mut line = CommandLine::parse("uru store --http-address=127.0.0.1:1 --grpc-address 127.0.0.1:2").unwrap();
        assert_eq!(line.flag("http-address", "x"), "127.0.0.1:1");
        assert_eq!(line.flag("grpc-address", "x"), "127.0.0.1:2");
        assert_eq!(line.flag("data-dir", "d"), "d");
        assert_eq!(line.words.last().unwrap(), "--data-dir=d");
        assert!(line.has_flag(&["data-dir"]) && !line.has_flag(&["objstore.config"]));
    }

    #[test]
    fn a_linked_folder_outlives_the_copy() {
        let scratch = TempDir::new().unwrap();
        let (from, to) = (scratch.path().join("a"), scratch.path().join("b"));
        std::fs::create_dir_all(from.join("chunks")).unwrap();
        std::fs::write(from.join("chunks/000001"), "x").unwrap();
        link_tree(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("chunks/000001")).unwrap(), "x");
        std::fs::remove_dir_all(&to).unwrap();
        assert!(from.join("chunks/000001").is_file());
    }

    #[test]
    fn a_process_that_has_run_to_its_end_has_used_memory() {
        let scratch = TempDir::new().unwrap();
        let finished = run_to_end("sleep", &CommandLine::parse("sleep 0.05").unwrap(), scratch.path(), None).unwrap();
        assert!(finished.usage.peak_bytes > 0, "{finished:?}");
        let error = run_to_end("false", &CommandLine::parse("false").unwrap(), scratch.path(), None).unwrap_err();
        assert!(error.contains("exit status: 1"), "{error}");
    }
}
