//! One process at a time fetches a content.
//!
//! The lock is that of Hugging Face's programs: `flock` on a file that stays empty. Those of some versions remove
//! the file when they are done, so a lock counts only while the file is still the one of that name.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cache::{CacheError, Store};

/// How often it is tried.
const GLANCE: Duration = Duration::from_millis(50);
/// After which time somebody who waits is told why.
const SILENT: Duration = Duration::from_secs(5);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for a lock; none when it was interrupted.
    pub(super) fn take(path: &Path, interrupt: &AtomicBool) -> Result<Option<Self>, CacheError> {
        let failed = |source| CacheError::Write { path: path.into(), source };
        let (started, mut told) = (Instant::now(), false);
        while !interrupt.load(Ordering::Relaxed) {
            let file = Store::open(path)?;
            match file.try_lock() {
                Ok(()) if is_named(&file, path) => return Ok(Some(Self { _file: file })),
                Ok(()) => continue,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told && started.elapsed() > SILENT {
                tracing::warn!(
                    "another program is fetching the same file and holds {}; waiting for it",
                    path.display()
                );
                told = true;
            }
            std::thread::sleep(GLANCE);
        }
        Ok(None)
    }
}

/// Whether a file that is open is still the one of that name.
fn is_named(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (Ok(open), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}
