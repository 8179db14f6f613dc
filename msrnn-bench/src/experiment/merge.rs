//! Runs put together: parts of one experiment, done on several machines, as one run directory.

use std::path::{Path, PathBuf};

use crate::error::BenchError;
use crate::experiment::journal::{self, Samples};
use crate::experiment::manifest::{MANIFEST, Manifest};
use crate::experiment::{Results, registry};

/// A run directory read back: one, or several parts of the same experiment.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Of the whole, without a part.
    pub manifest: Manifest,
    /// Of all parts.
    pub samples: Samples,
}

impl Runs {
    /// Reads run directories.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or they are of different experiments, which is said with what differs.
    pub fn read(directories: &[PathBuf]) -> Result<Self, BenchError> {
        let mut whole: Option<Self> = None;
        for directory in directories {
            let mut manifest = Manifest::read(directory)?;
            manifest.identity.shard = None;
            let samples = journal::read(directory)?;
            match &mut whole {
                None => whole = Some(Self { manifest, samples }),
                Some(whole) => {
                    let differences = whole.manifest.identity.differences(&manifest.identity)?;
                    if !differences.is_empty() {
                        return Err(BenchError::Input(format!(
                            "{} and {} are not parts of one experiment:\n  {}",
                            directories[0].display(),
                            directory.display(),
                            differences.join("\n  ")
                        )));
                    }
                    whole.samples.extend(samples);
                }
            }
        }
        whole.ok_or_else(|| BenchError::Input("give at least one run directory".into()))
    }

    /// Writes manifest and samples into `out`, unless they are already there, and the results: a run
    /// directory like any other.
    ///
    /// # Errors
    ///
    /// When units are missing, `out` holds another run, or something cannot be written.
    pub fn write(&self, out: &Path) -> Result<Results, BenchError> {
        if out.join(MANIFEST).exists() {
            let mut there = Manifest::read(out)?;
            there.identity.shard = None;
            let differences = there.identity.differences(&self.manifest.identity)?;
            if !differences.is_empty() {
                return Err(BenchError::Input(format!(
                    "{} holds another run:\n  {}\nchoose another --out",
                    out.display(),
                    differences.join("\n  ")
                )));
            }
        }
        if !out.join(MANIFEST).exists() || journal::read(out)? != self.samples {
            self.manifest.write(out)?;
            journal::write(out, &self.samples)?;
        }
        registry::finish(&self.manifest, &self.samples, out)
    }
}
