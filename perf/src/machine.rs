//! The machine that figures are of, and the commit: what a figure means nothing without.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Letters of a commit that are recorded.
const COMMIT_LEN: usize = 12;

/// Load, as the kernel averages it over a minute, from which on a machine is busy.
const BUSY_LOAD: f64 = 0.5;

/// Where and when something is measured.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Of what is measured, when it says so; otherwise of the sources in the folder that this runs in, when git
    /// knows it.
    pub commit: String,
    /// Whether sources were changed since that commit; nobody knows of another one than git's.
    pub changed: Option<bool>,
    /// Time of the start, RFC 3339 in UTC.
    pub date: String,
    /// Model of the processor.
    pub cpu: String,
    /// Number of cores.
    pub cores: usize,
    /// Memory.
    pub memory_gib: f64,
    /// Version of the kernel.
    pub kernel: String,
    /// Load at the start, averaged over a minute: what else was running.
    pub load: f64,
}

impl Machine {
    /// The one that this runs on, as it is now.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Self {
            commit: said("git", &["rev-parse", "HEAD"]).chars().take(COMMIT_LEN).collect(),
            changed: Some(!said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty()),
            date: said("date", &["-u", "+%FT%TZ"]),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.unwrap_or_default(),
        }
    }

    /// The same, where what is measured says that it is of `commit`.
    pub fn measuring(&self, commit: &str) -> Self {
        let changed = self.changed.filter(|_| self.commit == commit);
        Self { commit: commit.to_owned(), changed, ..self.clone() }
    }

    /// Whether other programs were at work at the start.
    pub fn is_busy(&self) -> bool {
        self.load >= BUSY_LOAD
    }

    /// For records.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_gib": (self.memory_gib * 10.0).round() / 10.0,
            "kernel": self.kernel, "load_at_start": self.load,
        })
    }

    /// For people.
    pub fn describe(&self) -> String {
        let commit = match (self.commit.as_str(), self.changed) {
            ("", _) => "Unknown commit".to_owned(),
            (commit, Some(true)) => format!("Commit {commit} with changes"),
            (commit, _) => format!("Commit {commit}"),
        };
        format!(
            "{commit}, {}, {} cores of {}, {:.1} GiB of memory, Linux {}, load {:.2} at the start",
            self.date, self.cores, self.cpu, self.memory_gib, self.kernel, self.load
        )
    }
}

/// The commit that uru says in its metrics that it was built of; `None` where it knows none.
pub fn revision(metrics: &str) -> Option<String> {
    let labels = metrics.lines().find_map(|line| line.strip_prefix("thanos_build_info{"))?;
    let (_, rest) = labels.split_once("revision=\"")?;
    let revision = rest.split('"').next().filter(|revision| !matches!(*revision, "" | "unknown"))?;
    Some(revision.chars().take(COMMIT_LEN).collect())
}

/// What follows `key` and a colon in the first line that starts with it.
fn after(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

/// What a program prints; nothing when it fails.
fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().ok().filter(|output| output.status.success());
    output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_a_kernel() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && !machine.kernel.is_empty(), "{machine:?}");
        assert_eq!(machine.json()["cores"], machine.cores);
        assert!(machine.describe().starts_with("Commit ") || machine.commit.is_empty());
        assert!(Machine::default().describe().starts_with("Unknown commit, "));
        let other = machine.measuring("0123456789ab");
        assert_eq!((&*other.commit, other.changed, other.cores), ("0123456789ab", None, machine.cores));
        assert_eq!(machine.measuring(&machine.commit).changed, machine.changed);
        assert_eq!(after("a: 1\nmodel name\t: Some CPU\n", "model name"), "Some CPU");
    }

    #[test]
    fn a_revision_is_what_the_metrics_of_a_build_tell() {
        let metrics = |revision: &str| {
            format!(
                "# TYPE thanos_build_info gauge\n\
                 thanos_build_info{{version=\"0.1.0\",goversion=\"\",branch=\"\",revision=\"{revision}\"}} 1\n"
            )
        };
        assert_eq!(revision(&metrics("0123456789abcdef")).as_deref(), Some("0123456789ab"));
        assert_eq!(revision(&metrics("v1")).as_deref(), Some("v1"));
        assert_eq!([revision(&metrics("")), revision(&metrics("unknown")), revision("up 1\n")], [None, None, None]);
    }
}
