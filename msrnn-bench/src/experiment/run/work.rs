//! The work itself: units that are left, side by side, each with what it leaves on disk.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::TIMES;
use crate::error::BenchError;
use crate::experiment::journal::Journal;
use crate::experiment::units::Failures;
use crate::experiment::{Event, Experiment, Unit, Watch};
use crate::output::open_lines;

/// Units that are left, and those who do them.
pub(super) struct Work<'a, E: Experiment> {
    pub(super) experiment: &'a E,
    pub(super) inputs: &'a E::Inputs,
    pub(super) units: &'a [Unit],
    pub(super) left: Vec<usize>,
    pub(super) next: AtomicUsize,
    /// Set when nothing can be written any more.
    pub(super) stop: AtomicBool,
    pub(super) files: Mutex<Files>,
}

/// What is written while units are done.
pub(super) struct Files {
    pub(super) journal: Journal,
    pub(super) times: Times,
    pub(super) failures: Failures,
    /// Units that could not be done, with the reason.
    pub(super) failed: Vec<(usize, String)>,
}

impl<E: Experiment> Work<'_, E> {
    /// Does all units, `jobs` side by side. The number of those finished.
    pub(super) fn all(&self, jobs: usize, watch: Watch<'_>) -> Result<usize, BenchError> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| self.some(watch))).collect();
            let mut finished = 0;
            let mut failed = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(n)) => finished += n,
                    Ok(Err(error)) => failed = failed.or(Some(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failed.map_or(Ok(finished), Err)
        })
    }

    /// Does one unit after the other as long as there are any.
    fn some(&self, watch: Watch<'_>) -> Result<usize, BenchError> {
        let mut finished = 0;
        while !watch.interrupted() && !self.stop.load(Ordering::Relaxed) {
            let Some(&unit) = self.left.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            (watch.tell)(Event::Begins(&self.units[unit]));
            let ended = self.one(unit, watch);
            (watch.tell)(Event::Ends(&self.units[unit]));
            match ended {
                Ok(Ended::Finished) => finished += 1,
                Ok(Ended::Failed) => {}
                Ok(Ended::Interrupted) => break,
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(finished)
    }

    /// Does a unit. What goes wrong with it is its own affair; what goes wrong with files is that of the run.
    fn one(&self, unit: usize, watch: Watch<'_>) -> Result<Ended, BenchError> {
        let started = Instant::now();
        let what = &self.units[unit];
        let sample = catch_unwind(AssertUnwindSafe(|| self.experiment.sample(self.inputs, unit, &watch)));
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reason = match sample.unwrap_or_else(|panic| Err(BenchError::Input(said(&*panic)))) {
            Ok(None) => return Ok(Ended::Interrupted),
            Ok(Some(sample)) => match files.journal.append(what, &sample) {
                Ok(()) => {
                    files.times.add(what, started.elapsed().as_secs_f64())?;
                    return Ok(Ended::Finished);
                }
                Err(error @ BenchError::Write { .. }) => return Err(error),
                Err(error) => error,
            },
            Err(_) if watch.interrupted() => return Ok(Ended::Interrupted),
            Err(error @ (BenchError::Write { .. } | BenchError::Interrupted | BenchError::NobodyReads)) => {
                return Err(error);
            }
            Err(error) => error,
        };
        let reason = reason.to_string();
        tracing::warn!("{} failed: {reason}", what.name);
        files.failures.add(what, &reason)?;
        files.failed.push((unit, reason));
        Ok(Ended::Failed)
    }
}

/// How a unit ended.
enum Ended {
    Finished,
    Failed,
    Interrupted,
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "the program panicked: {}. If it ran out of memory, give fewer ‘jobs’ or states, a smaller ‘batch’, or shorter texts",
        text.unwrap_or("it did not say why")
    )
}

/// Seconds per unit, as lines of JSON.
pub(super) struct Times {
    path: PathBuf,
    file: File,
}

impl Times {
    pub(super) fn open(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(TIMES);
        let (file, _) = open_lines(&path)?;
        Ok(Self { path, file })
    }

    fn add(&mut self, unit: &Unit, seconds: f64) -> Result<(), BenchError> {
        let Unit { key, name, arm, tokens, .. } = unit;
        let line = serde_json::json!({ "key": key, "name": name, "arm": arm, "tokens": tokens, "seconds": seconds });
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}
