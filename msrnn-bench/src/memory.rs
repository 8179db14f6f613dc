//! How much memory is at hand, and what is refused because it would take more.
//!
//! What a file, a server or an option claims is weighed here before it is allocated: a few bytes may claim any number. At
//! hand is the least of what the system could give without swapping, what is left to the process's control groups, as in
//! a container, and what is left of its address space (`ulimit -v`).

use std::path::{Path, PathBuf};

use crate::error::BenchError;

/// Less than this is never refused, and not worth a look: the program itself takes as much.
pub const SMALL: u64 = 32 << 20;

/// Bytes of memory that this process can still take; none where the system does not say.
pub(crate) fn at_hand() -> Option<u64> {
    match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => [available(&text), of_groups(), of_address_space()].into_iter().flatten().min(),
        Err(_) => {
            let system = sysinfo::System::new_with_specifics(
                sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram()),
            );
            Some(system.available_memory()).filter(|&bytes| bytes > 0)
        }
    }
}

/// Refuses what would take more memory than there is. `what`: a sentence's subject, such as `contexts of 5 tokens`;
/// `remedy`: what to do instead.
///
/// # Errors
///
/// Says how much it would take and how much is at hand.
pub fn check(bytes: u64, what: &str, remedy: &str) -> Result<(), BenchError> {
    match bytes > SMALL {
        true => refuse(bytes, at_hand(), what, remedy),
        false => Ok(()),
    }
}

/// Bytes that texts may take as they come out of files: a quarter of what is at hand, since they become ids and contexts
/// besides.
pub(crate) fn for_texts() -> u64 {
    at_hand().map_or(u64::MAX, |bytes| (bytes / 4).max(SMALL))
}

/// That something was refused because it is, or becomes, larger than what may be taken.
pub fn beyond(limit: u64, what: &str, remedy: &str) -> BenchError {
    BenchError::Input(format!(
        "{what} more than {}, which is the most that the memory at hand allows for; {remedy}",
        in_words(limit)
    ))
}

/// As [`check`], of a memory of which so much is at hand, where that is known.
pub(crate) fn refuse(bytes: u64, at_hand: Option<u64>, what: &str, remedy: &str) -> Result<(), BenchError> {
    match at_hand {
        Some(at_hand) if bytes > at_hand => Err(BenchError::Input(format!(
            "{what} would take {} of memory, and {} are at hand; {remedy}",
            in_words(bytes),
            in_words(at_hand)
        ))),
        _ => Ok(()),
    }
}

/// `3.2 GiB`
pub(crate) fn in_words(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, units[unit]),
    }
}

/// Product of sizes, the largest number where it is none.
pub fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |all, &size| all.saturating_mul(size as u64))
}

/// `MemAvailable` of `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What is left to the control groups of this process, all that it is in.
fn of_groups() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    directories(&groups).iter().filter_map(|directory| left(directory)).min()
}

/// The directories of the groups in `/proc/self/cgroup`, and of those around them. In a container the path may be one of
/// the host, and what is the container's lies at the root.
fn directories(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let root = match parts.next() {
            Some("") => "/sys/fs/cgroup",
            Some(controllers) if controllers.split(',').any(|one| one == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let path = Path::new(parts.next().unwrap_or("/"));
        found.extend(path.ancestors().map(|path| Path::new(root).join(path.strip_prefix("/").unwrap_or(path))));
    }
    found
}

/// What is left to a control group, of either version: its limit less what it uses, but for files that can be dropped.
fn left(directory: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(directory.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = std::fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let files = ["total_inactive_file ", "inactive_file "].iter().find_map(|key| {
        stat.lines().find_map(|line| line.strip_prefix(key)).and_then(|value| value.trim().parse::<u64>().ok())
    });
    Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
}

/// What is left of a limited address space.
fn of_address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let used = std::fs::read_to_string("/proc/self/statm").ok()?;
    address_space(&limits, &used)
}

fn address_space(limits: &str, statm: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let pages: u64 = statm.split_whitespace().next()?.parse().ok()?;
    // Pages of other sizes than 4 KiB would make it more that is used, and less that is left: on the safe side only
    // where they are smaller, of which there are none.
    Some(limit.saturating_sub(pages.saturating_mul(4096)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_says_how_much_it_takes_and_how_much_there_is() {
        let error = refuse(20 << 30, Some(3 << 30), "a batch of 9", "give a smaller ‘batch’").unwrap_err().to_string();
        for part in ["a batch of 9", "20.0 GiB", "3.0 GiB are at hand", "smaller ‘batch’"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(refuse(3 << 30, Some(3 << 30), "", "").is_ok() && refuse(u64::MAX, None, "", "").is_ok());
        assert!(check(u64::MAX, "this", "no").is_err(), "no machine has that");
        assert!(check(1 << 20, "this", "no").is_ok());
        assert_eq!(product(&[usize::MAX, 2, 3]), u64::MAX);
    }

    #[test]
    fn sizes_are_said_in_words() {
        let cases =
            [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 29, "2.5 GiB"), (u64::MAX, "16.0 EiB")];
        for (bytes, words) in cases {
            assert_eq!(in_words(bytes), words);
        }
    }

    #[test]
    fn what_linux_says_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        let limits =
            |limit: &str| format!("Limit Soft Hard Units\nMax address space         {limit}   unlimited   bytes\n");
        assert_eq!(address_space(&limits("8192000"), "1000 5 5"), Some(8_192_000 - 4_096_000));
        assert_eq!(address_space(&limits("unlimited"), "1000 5 5"), None);
        assert_eq!(address_space(&limits("5"), "1000 5 5"), Some(0));
    }

    #[test]
    fn the_groups_of_both_versions_and_those_around_them_count() {
        let found = directories("0::/a/b\n");
        assert_eq!(found, ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"].map(PathBuf::from));
        let found = directories("5:cpu:/x\n4:memory,hugetlb:/\n");
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/memory/")]);

        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        assert_eq!(left(group.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left(group.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left(group.path()), Some(300));
        write("memory.stat", "anon 5\ninactive_file 200\n");
        assert_eq!(left(group.path()), Some(500));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_says_something() {
        assert!(at_hand().unwrap() > 0);
    }
}
