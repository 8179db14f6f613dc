//! Resident memory of this process, as Linux reports it; none elsewhere.

/// Bytes resident now.
pub(crate) fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// Most bytes that were resident so far.
pub(crate) fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_resident_and_stays_in_the_peak() {
        let before = resident().unwrap();
        let block = vec![1u8; 64 << 20];
        std::hint::black_box(&block);
        assert!(resident().unwrap() >= before + (32 << 20));
        drop(block);
        assert!(peak().unwrap() >= before + (32 << 20));
    }
}
