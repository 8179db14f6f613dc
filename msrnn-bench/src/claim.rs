//! A directory that one program writes.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use msrnn_models::whole;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// File name of a claim. It is there while somebody writes, or after a writer was killed.
pub(crate) const CLAIM: &str = "writer.lock";

/// A directory that nobody else writes until this is dropped.
///
/// The claim is a locked file in the directory, which the system lets go of when a writer is killed. Where a
/// file system cannot lock, the file itself is the claim; what a killed writer left has then to be removed by
/// hand, and the refusal says so. Readers need no claim.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// Holds the lock.
    file: Option<File>,
}

/// Who writes, for the one who is refused.
#[derive(Debug, Serialize, Deserialize)]
struct Writer {
    host: String,
    process: u32,
    /// Seconds since 1970.
    started: u64,
}

impl Writer {
    fn here() -> Self {
        Self {
            host: sysinfo::System::host_name().unwrap_or_default(),
            process: std::process::id(),
            started: std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()),
        }
    }

    /// For people: who wrote the claim, as far as can be read.
    fn of(path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        match serde_json::from_str::<Self>(&text) {
            Ok(Self { host, process, started }) => {
                let now = Self::here().started;
                format!("process {process} on {host}, since {} seconds", now.saturating_sub(started))
            }
            Err(_) => "it has not yet said which".into(),
        }
    }
}

impl Claim {
    /// Claims a directory, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// When somebody else has claimed it, or it cannot be written.
    pub(crate) fn take(directory: &Path) -> Result<Self, BenchError> {
        Self::try_take(directory)?.ok_or_else(|| {
            BenchError::Input(format!(
                "{}: another msrnn is writing here ({}); wait for it, or choose another ‘out’",
                directory.display(),
                Writer::of(&directory.join(CLAIM))
            ))
        })
    }

    /// As [`Claim::take`]; none when somebody else is writing there.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or nobody can tell whether somebody is writing there.
    pub(crate) fn try_take(directory: &Path) -> Result<Option<Self>, BenchError> {
        let failed = |source| BenchError::Write { path: directory.into(), source };
        std::fs::create_dir_all(directory).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                let why = "a file is where the directory would be";
                failed(std::io::Error::new(ErrorKind::NotADirectory, why))
            }
            _ => failed(e),
        })?;
        let path = directory.join(CLAIM);
        let file = match whole::lock(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(BenchError::Input(format!(
                    "{e} (it says: {}), or choose another ‘out’",
                    Writer::of(&path)
                )));
            }
            Err(e) => return Err(failed(e)),
        };
        let claim = Self { path, file: Some(file) };
        claim.sign().map_err(failed)?;
        Ok(Some(claim))
    }

    fn sign(&self) -> std::io::Result<()> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        file.set_len(0)?;
        file.write_all(serde_json::json!(Writer::here()).to_string().as_bytes())
    }

    /// Takes note that the directory has another name now.
    pub(crate) fn renamed(&mut self, directory: &Path) {
        self.path = directory.join(CLAIM);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while it is held, so that it is nobody else's; whoever waits for this very file finds that it
        // has lost its name and looks again. If it cannot be removed, it is a file without a lock.
        let _ = std::fs::remove_file(&self.path);
        self.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_writer_and_nothing_is_left_of_the_claim() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("new");
        let first = Claim::take(&directory).unwrap();
        let error = Claim::take(&directory).unwrap_err().to_string();
        let process = std::process::id().to_string();
        assert!(error.contains("another msrnn") && error.contains(&process) && error.contains("‘out’"), "{error}");
        assert!(Claim::try_take(&directory).unwrap().is_none());
        drop(first);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        Claim::take(&directory).unwrap();
    }

    #[test]
    fn a_claim_that_a_killed_writer_left_is_taken_over() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(CLAIM), "{\"process\": 1").unwrap();
        let claim = Claim::take(place.path()).unwrap();
        assert!(Claim::take(place.path()).is_err());
        drop(claim);
    }

    #[test]
    fn of_many_who_come_at_once_one_at_a_time_is_let_in() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let place = tempfile::tempdir().unwrap();
        let (inside, times) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Some(claim) = Claim::try_take(place.path()).unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        times.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
        assert!(times.into_inner() > 0);
    }
}
