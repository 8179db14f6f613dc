//! How much still fits onto a disk.

use std::path::Path;

/// Free bytes where a directory is, for who is no administrator; none where the system does not say.
pub(super) fn free(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(directory).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
