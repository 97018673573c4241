//! What a process has used, as the kernel counts it.
//!
//! ```text
//! /proc/<pid>/task/<thread>/schedstat   nanoseconds on a CPU, user's and system's, of each thread
//! /proc/<pid>/stat                      the same of the process, also of threads that are gone, in ticks of 10 ms
//! /proc/<pid>/status                    VmHWM: most resident memory, in KiB
//! /proc/<pid>/clear_refs                writing 5 makes the resident memory of now the most
//! ```

use std::fs;
use std::time::Duration;

/// A tick of `/proc/<pid>/stat`.
const TICK: Duration = Duration::from_millis(10);

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time on a CPU since its start, user's and system's, in ticks of 10 ms.
    pub cpu: Duration,
    /// The same of the threads that are, exactly; a thread that ends takes its own along.
    pub threads_cpu: Duration,
    /// Most resident memory in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// Of several processes together.
    pub fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            threads_cpu: sum.threads_cpu + one.threads_cpu,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }

    /// CPU time from `before` to this: exact, unless a thread has ended in between.
    pub fn cpu_since(&self, before: &Self) -> Duration {
        let coarse = self.cpu.saturating_sub(before.cpu);
        match self.threads_cpu.checked_sub(before.threads_cpu) {
            Some(exact) if coarse <= exact + 2 * TICK => exact,
            _ => coarse,
        }
    }
}

/// What process `pid` has used up to now.
pub fn of(pid: u32) -> Result<Usage, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| gone(pid, &error))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let peak_kib: u64 = peak.unwrap_or_default();
    Ok(Usage { cpu: cpu(pid)?, threads_cpu: threads_cpu(pid)?, peak_bytes: peak_kib << 10 })
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

fn threads_cpu(pid: u32) -> Result<Duration, String> {
    let mut exact = Duration::ZERO;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| gone(pid, &error))?;
    for thread in threads.flatten() {
        // A thread may end while the folder is read.
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        exact += Duration::from_nanos(nanos);
    }
    Ok(exact)
}

fn cpu(pid: u32) -> Result<Duration, String> {
    let fields = stat(pid).ok_or_else(|| format!("process {pid} is gone"))?;
    // utime and stime are fields 14 and 15; the first of these is field 3.
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u32>().ok()).unwrap_or_default();
    Ok(TICK * (ticks(11) + ticks(12)))
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
        assert!(after.cpu_since(&before) > Duration::ZERO, "{before:?} {after:?}");
        assert!(after.peak_bytes >= 32 << 20, "{after:?} after {} bytes", filled.len());
        drop(filled);
        reset_peak(std::process::id()).unwrap();
    }
}
