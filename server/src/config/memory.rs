//! How much memory there is: the machine's, or less where a control group says so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::io::freed;
use engine::model::budget::Footprint;
use engine::model::{Budget, Ceiling};

use super::ConfigError;
use crate::cli::{Values, parse};

/// Assumed where nothing can be found out, in bytes.
const UNKNOWN: u64 = 2 << 30;

/// The share of memory that requests may use where no flag says otherwise: the rest is for column indexes,
/// sockets and the system's cache of files.
const SHARE: u64 = 2;

/// The share of a limit, and the bytes at most, for what nobody counts: batches in the making, threads, what clients
/// and endpoints have sent and what the allocator has not given back.
const UNCOUNTED: (u64, u64) = (4, 64 << 20);

/// The share of what there is that the process never passes for a request: the system has some for it, too.
const CEILING: (u64, u64) = (7, 8);

/// Bytes beyond what the process has at its start from which on a limit is one that it can be measured by.
const MEASURED_FROM: u64 = 16 << 20;

/// Hundredths of the memory there is that a process may have before heads take no new series, where no flag says
/// otherwise, and before they take no samples, where that is less than a quarter more than the former.
const HEADS: (u64, u64) = (60, 85);

/// What the process may become by what heads keep, as the flag says; `None` where it may have any size.
pub fn of_heads(values: &Values) -> Result<Option<Arc<Ceiling>>, ConfigError> {
    const FLAG: &str = "tsdb.memory-limit";
    let said = values.text(FLAG).map(parse::parse_bytes).transpose();
    let said = said.map_err(|why| ConfigError::new(FLAG, why))?;
    let marks = heads_marks(said, available());
    Ok(marks.map(|marks| Ceiling::new("--tsdb.memory-limit", marks, Box::new(Statm::open()))))
}

/// Bytes of the process beyond which heads take no new series, and beyond which no samples, where so many are
/// `available`.
fn heads_marks(said: Option<u64>, available: u64) -> Option<(u64, u64)> {
    let (share, share_max) = HEADS;
    let limit = said.unwrap_or(available / 100 * share);
    let most = limit.saturating_add(limit / 4).min(available / 100 * share_max).max(limit);
    (limit > 0).then_some((limit, most))
}

/// Bytes that the requests of a process that holds blocks share: what the flag says, or half of what there is.
pub fn of_store(values: &Values) -> Result<u64, ConfigError> {
    const FLAG: &str = "store.memory-limit";
    let said = values.text(FLAG).map(parse::parse_bytes).transpose();
    let said = said.map_err(|why| ConfigError::new(FLAG, why))?;
    Ok(said.filter(|bytes| *bytes > 0).unwrap_or_else(share))
}

/// The budget of this process, of `limit` bytes by the flag of this name: what it has now, before there is any request,
/// counts, and something for what nobody counts.
pub fn budget(flag: &'static str, limit: u64) -> Arc<Budget> {
    let (share, most) = UNCOUNTED;
    let statm = Statm::open();
    let resident = statm.read().map_or(0, |now| now.resident);
    let own = resident + (limit / share).min(most);
    if limit < resident + MEASURED_FROM {
        return Budget::of_process(flag, limit, own);
    }
    Budget::of_measured(flag, limit, own, (Box::new(statm), available() / CEILING.1 * CEILING.0))
}

/// What such a budget of `limit` bytes has for requests.
pub fn for_requests(limit: u64) -> u64 {
    budget("", limit).room()
}

/// Bytes of this process that are in memory. Its pages have 4 KiB on every platform that this is built for.
#[derive(Clone, Copy, Debug)]
struct Resident {
    /// All of them.
    resident: u64,
    /// Those that are of files, which the system drops where memory is short.
    of_files: u64,
}

/// What the system says of the memory of this process, as `/proc/self/statm` has it.
#[derive(Debug)]
struct Statm {
    file: Option<File>,
    /// Bytes of files that it had when this was opened: its own code, for the most part.
    of_files: u64,
}

impl Statm {
    fn open() -> Self {
        let opened = Self { file: File::open("/proc/self/statm").ok(), of_files: 0 };
        let of_files = opened.read().map_or(0, |now| now.of_files);
        Self { of_files, ..opened }
    }

    /// `None` where the system doesn't say.
    fn read(&self) -> Option<Resident> {
        let mut text = [0; 128];
        let len = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let mut pages = std::str::from_utf8(text.get(..len)?).ok()?.split(' ').skip(1);
        let mut bytes = || pages.next()?.parse::<u64>().ok()?.checked_mul(4096);
        Some(Resident { resident: bytes()?, of_files: bytes()? })
    }
}

impl Footprint for Statm {
    fn bytes(&self) -> Option<u64> {
        let now = self.read()?;
        Some(now.resident.saturating_sub(now.of_files) + self.of_files)
    }

    fn give_back(&self) {
        freed::keep_nothing_freed();
    }
}

/// Bytes that requests may use where no flag says otherwise.
pub fn share() -> u64 {
    available() / SHARE
}

/// Bytes that this process may use.
fn available() -> u64 {
    let text = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = text(Path::new("/proc/meminfo")).and_then(|text| parse_meminfo(&text));
    let groups = text(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let group = group_files(&groups).iter().filter_map(|path| text(path)?.trim().parse::<u64>().ok()).min();
    machine.into_iter().chain(group).min().unwrap_or(UNKNOWN)
}

/// Where the limits of the control groups of a process lie, which `/proc/self/cgroup` names: those of its own
/// group and of all above it, each of which holds. In a container the path may not be there; its root is.
fn group_files(groups: &str) -> Vec<PathBuf> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let own = Path::new(path.trim_start_matches('/'));
        Some(own.ancestors().map(|group| Path::new(root).join(group).join(file)).collect::<Vec<_>>())
    });
    // Also where the process is told of no group.
    let roots = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(PathBuf::from);
    limits.flatten().chain(roots).collect()
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_group_and_of_those_above_it_hold() {
        let found = group_files("12:cpu,cpuacct:/a\n5:memory:/b/c\n0::/system.slice/uru.service\nnonsense\n");
        let expected = [
            "/sys/fs/cgroup/memory/b/c/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/system.slice/uru.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(found[..expected.len()], expected.map(PathBuf::from));
        let roots = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(PathBuf::from);
        assert_eq!(group_files("nonsense"), roots);
    }

    #[test]
    fn memory_that_is_written_to_is_measured() {
        let statm = Statm::open();
        let before = statm.bytes().unwrap();
        assert!(before > statm.of_files && statm.of_files > 0, "{before} {statm:?}");
        let large = std::hint::black_box(vec![1_u8; 256 << 20]);
        let behind = statm.bytes().unwrap();
        // Others free memory meanwhile.
        assert!(behind >= before + large.len() as u64 / 2, "{before} {behind}");
    }

    #[test]
    fn heads_leave_a_part_of_the_memory_alone_unless_a_flag_says_otherwise() {
        for (said, marks) in [
            (None, Some((6000, 7500))),
            (Some(4000), Some((4000, 5000))),
            (Some(8000), Some((8000, 8500))),
            (Some(20_000), Some((20_000, 20_000))),
            (Some(0), None),
        ] {
            assert_eq!(heads_marks(said, 10_000), marks, "{said:?}");
        }
    }

    #[test]
    fn the_total_of_a_machine_is_read() {
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       24000 kB\n"), Some(24_000 << 10));
        assert_eq!(parse_meminfo("MemTotal: lots"), None);
        assert!(available() > 0);
    }
}
