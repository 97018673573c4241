//! The machine that figures are of, and the commit: what a figure means nothing without.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Load, as the kernel averages it over a minute, from which on a machine is busy.
const BUSY_LOAD: f64 = 0.5;

/// Where and when something is measured.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Of the sources in the folder that this runs in, when git knows it.
    pub commit: String,
    /// Whether sources were changed since that commit.
    pub changed: bool,
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
            commit: said("git", &["rev-parse", "--short=12", "HEAD"]),
            changed: !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty(),
            date: said("date", &["-u", "+%FT%TZ"]),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.unwrap_or_default(),
        }
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
        let changed = if self.changed { " with changes" } else { "" };
        format!(
            "Commit {}{changed}, {}, {} cores of {}, {:.1} GiB of memory, Linux {}, load {:.2} at the start",
            self.commit, self.date, self.cores, self.cpu, self.memory_gib, self.kernel, self.load
        )
    }
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
        assert_eq!(after("a: 1\nmodel name\t: Some CPU\n", "model name"), "Some CPU");
    }
}
