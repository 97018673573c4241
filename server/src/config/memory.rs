//! How much memory there is: the machine's, or less where a control group says so.

use super::ConfigError;
use crate::cli::{Values, parse};

/// Assumed where nothing can be found out, in bytes.
const UNKNOWN: u64 = 2 << 30;

/// The share of memory that requests may use where no flag says otherwise: the rest is for column indexes,
/// sockets and the system's cache of files.
const SHARE: u64 = 2;

/// Bytes that the requests of a process that holds blocks share: what the flag says, or half of what there is.
pub fn of_store(values: &Values) -> Result<u64, ConfigError> {
    const FLAG: &str = "store.memory-limit";
    let said = values.text(FLAG).map(parse::parse_bytes).transpose();
    let said = said.map_err(|why| ConfigError::new(FLAG, why))?;
    Ok(said.filter(|bytes| *bytes > 0).unwrap_or_else(share))
}

/// Bytes that requests may use where no flag says otherwise.
pub fn share() -> u64 {
    available() / SHARE
}

/// Bytes that this process may use.
fn available() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_meminfo(&text));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).min();
    machine.into_iter().chain(group).min().unwrap_or(UNKNOWN)
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_machine_is_read() {
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       24000 kB\n"), Some(24_000 << 10));
        assert_eq!(parse_meminfo("MemTotal: lots"), None);
        assert!(available() > 0);
    }
}
