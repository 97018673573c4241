//! What a process has used, as the kernel counts it.
//!
//! ```text
//! its CPU clock                nanoseconds on a CPU, user's and system's, of all threads there were
//! /proc/<pid>/stat             its state
//! /proc/<pid>/status           VmHWM: most resident memory, in KiB
//! /proc/<pid>/clear_refs       writing 5 makes the resident memory of now the most
//! ```

use std::fs;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time on a CPU since its start, user's and system's.
    pub cpu: Duration,
    /// Most resident memory in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// Of several processes together.
    pub fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }
}

/// What process `pid` has used up to now.
pub fn of(pid: u32) -> Result<Usage, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| gone(pid, &error))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let peak_kib: u64 = peak.unwrap_or_default();
    Ok(Usage { cpu: cpu(pid)?, peak_bytes: peak_kib << 10 })
}

/// Makes the memory of now the most.
pub fn reset_peak(pid: u32) -> Result<(), String> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(|error| gone(pid, &error))
}

/// Whether a process has ended and waits to be waited for.
pub fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// Whether a process was stopped by a signal and may go on.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "T"))
}

fn cpu(pid: u32) -> Result<Duration, String> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()));
    let time = clock.and_then(ClockId::now).map_err(|error| gone(pid, &error.into()))?;
    Ok(time.into())
}

/// The fields of `/proc/<pid>/stat` from the state on; the name before may hold spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn gone(pid: u32, error: &std::io::Error) -> String {
    format!("process {pid} can't be looked at: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_worked_has_used_cpu_and_memory() {
        let before = of(std::process::id()).unwrap();
        let filled = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = of(std::process::id()).unwrap();
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.peak_bytes >= 32 << 20, "{after:?} after {} bytes", filled.len());
        drop(filled);
        reset_peak(std::process::id()).unwrap();
    }
}
