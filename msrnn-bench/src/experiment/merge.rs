//! Runs read back: parts of one experiment, done on several machines, put together; and their report.
//!
//! Reading touches nothing. What is written is a new run directory, which appears whole, or the results and the
//! report of a run directory that nobody else is writing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use msrnn_models::whole::sync_directory;

use crate::claim::{CLAIM, Claim};
use crate::error::BenchError;
use crate::experiment::journal::{self, Samples};
use crate::experiment::manifest::{MANIFEST, Manifest};
use crate::experiment::run::WRITTEN;
use crate::experiment::units::{self, Reasons};
use crate::experiment::{Missing, Results, Unit, registry};

/// Run directories read back: one, or several that overlap or make up a whole.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Of the whole.
    pub manifest: Manifest,
    /// Its units, in the order of the results.
    pub units: Vec<Unit>,
    /// What is finished, in all of them.
    pub samples: Samples,
    /// Why something is not.
    pub reasons: Reasons,
}

impl Runs {
    /// Reads run directories, which may be written meanwhile: what is finished counts.
    ///
    /// # Errors
    ///
    /// When one cannot be read or is damaged, there is no run among them of which the others are parts, which is said with
    /// what differs, or they contradict each other.
    pub fn read<'d>(directories: &'d [PathBuf]) -> Result<Self, BenchError> {
        let read = |directory: &'d PathBuf| Ok::<_, BenchError>((directory, Self::one(directory)?));
        let mut all = directories.iter().map(read);
        let (first, mut whole) =
            all.next().ok_or_else(|| BenchError::Input("give at least one run directory".into()))??;
        for other in all {
            let (directory, mut other) = other?;
            // The wider of the two says what the whole is.
            if !whole.asks_for(&other) && other.asks_for(&whole) {
                std::mem::swap(&mut whole, &mut other);
            }
            if !whole.asks_for(&other) {
                match registry::join(&whole, &other)? {
                    Some(joined) => whole = joined,
                    None => {
                        return Err(BenchError::Input(format!(
                            "{} and {} are not parts of one experiment:\n  {}",
                            first.display(),
                            directory.display(),
                            whole.manifest.identity.differences(&other.manifest.identity)?.join("\n  ")
                        )));
                    }
                }
            }
            whole.add(other, directory)?;
        }
        Ok(whole)
    }

    fn one(directory: &Path) -> Result<Self, BenchError> {
        let manifest = Manifest::read(directory)?;
        let samples = journal::read(directory)?;
        let units = units::read(directory, &manifest.identity)?;
        let runs = Self { manifest, units, samples, reasons: units::reasons(directory)? };
        let asked = runs.keys();
        if let Some((_, foreign)) = runs.samples.iter().find(|(key, _)| !asked.contains(key.as_str())) {
            return Err(BenchError::Input(format!(
                "{}: unit {:?} is none of this run's; remove its line, or put it back where it was",
                directory.join(journal::SAMPLES).display(),
                foreign.name
            )));
        }
        Ok(runs)
    }

    fn keys(&self) -> BTreeSet<&str> {
        self.units.iter().map(|unit| unit.key.as_str()).collect()
    }

    /// Whether all that is asked for there is asked for here.
    fn asks_for(&self, other: &Self) -> bool {
        let asked = self.keys();
        other.units.iter().all(|unit| asked.contains(unit.key.as_str()))
    }

    fn add(&mut self, other: Self, directory: &Path) -> Result<(), BenchError> {
        for (key, finished) in other.samples {
            let Some(before) = self.samples.get_mut(&key) else {
                self.samples.insert(key, finished);
                continue;
            };
            before.sample = journal::joined(&before.sample, &finished.sample).ok_or_else(|| {
                BenchError::Input(format!(
                    "{} says something else of unit {:?} than the directories before it; leave one of them out",
                    directory.display(),
                    finished.name
                ))
            })?;
        }
        self.reasons.extend(other.reasons);
        Ok(())
    }

    /// Units that nobody has tried, with their index.
    pub fn unfinished(&self) -> impl Iterator<Item = (usize, &Unit)> {
        let known = |unit: &Unit| self.samples.contains_key(&unit.key) || self.reasons.contains_key(&unit.key);
        self.units.iter().enumerate().filter(move |(_, unit)| !known(unit))
    }

    /// Units that could not be done.
    pub fn failed(&self) -> Vec<Missing> {
        let left = self.units.iter().filter(|unit| !self.samples.contains_key(&unit.key));
        let missing =
            |unit: &Unit| Some(Missing { unit: unit.name.clone(), reason: self.reasons.get(&unit.key)?.clone() });
        left.filter_map(missing).collect()
    }

    /// Whether every unit is finished or has failed.
    pub fn is_accounted_for(&self) -> bool {
        self.unfinished().next().is_none()
    }

    /// Makes a run directory like any other, under a name that is not taken: whole, or not at all.
    ///
    /// # Errors
    ///
    /// When units are missing, the name is taken, or something cannot be written.
    pub fn write(&self, out: &Path) -> Result<Results, BenchError> {
        let failed = |source| BenchError::Write { path: out.into(), source };
        let mut name = out.file_name().ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?.to_owned();
        name.push(".partial");
        let partial = out.with_file_name(name);
        // Nothing is made for what cannot be finished.
        registry::finish(self, None)?;
        let mut claim = Claim::take(&partial)?;
        clear(&partial)?;
        units::write(&partial, &self.units)?;
        units::write_reasons(&partial, &self.units, &self.reasons)?;
        self.manifest.write(&partial)?;
        journal::write(&partial, &self.units, &self.samples)?;
        let results = registry::finish(self, Some(&partial))?;
        // Takes the place of nothing but an empty directory.
        std::fs::rename(&partial, out).map_err(failed)?;
        claim.renamed(out);
        sync_directory(out).map_err(failed)?;
        Ok(results)
    }
}

/// Removes what a killed writer left in a directory that is claimed; what is not of a run is in the way.
fn clear(directory: &Path) -> Result<(), BenchError> {
    let failed = |source| BenchError::Write { path: directory.into(), source };
    let mut left = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = name.strip_suffix(".partial").unwrap_or(&name);
        match file {
            CLAIM => {}
            _ if file == MANIFEST || WRITTEN.contains(&file) => left.push(entry.path()),
            _ => {
                return Err(BenchError::Input(format!(
                    "{} is in the way; remove it, or choose another ‘out’",
                    entry.path().display()
                )));
            }
        }
    }
    for path in left {
        let found = path.symlink_metadata().map_err(failed)?;
        if found.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }.map_err(failed)?;
    }
    Ok(())
}

/// What a report says, and where it is.
#[derive(Debug)]
pub struct Reported {
    /// What was found.
    pub results: Results,
    /// The directory that holds it as files; none where another program is writing, whose report it is.
    pub directory: Option<PathBuf>,
}

/// Puts run directories together and writes what they found: into `out`, which must be new; without it into the
/// directory itself, of which there must be one.
///
/// # Errors
///
/// When units are missing or damaged, `out` is taken, or something cannot be written. Then nothing was changed.
pub fn report(directories: &[PathBuf], out: Option<&Path>) -> Result<Reported, BenchError> {
    match (out, directories) {
        (None, [directory]) => in_place(directory),
        (Some(out), [directory]) if is_same(out, directory) => in_place(directory),
        (None, _) => Err(BenchError::Input("say where the whole goes, as ‘out’".into())),
        (Some(out), _) => {
            if let Some(part) = directories.iter().find(|part| is_same(out, part)) {
                return Err(BenchError::Input(format!(
                    "{} is a part and stays as it is; choose another ‘out’ for the whole",
                    part.display()
                )));
            }
            let runs = Runs::read(directories)?;
            let taken = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
            if taken {
                // The same whole, put together before, may have its report written anew.
                refuse_other(&runs, out)?;
                return in_place(out);
            }
            Ok(Reported { results: runs.write(out)?, directory: Some(out.into()) })
        }
    }
}

/// The report of a run directory in that directory.
fn in_place(directory: &Path) -> Result<Reported, BenchError> {
    // Says what is wrong before anything is written.
    Manifest::read(directory)?;
    let claim = Claim::try_take(directory)?;
    let runs = Runs::read(&[directory.into()])?;
    let directory = claim.as_ref().map(|_| directory.to_owned());
    Ok(Reported { results: registry::finish(&runs, directory.as_deref())?, directory })
}

/// Refuses a directory that is not what the runs put together are.
fn refuse_other(runs: &Runs, out: &Path) -> Result<(), BenchError> {
    let there = Runs::read(&[out.to_owned()])
        .map_err(|e| BenchError::Input(format!("{} is not empty; choose another ‘out’ ({e})", out.display())))?;
    let differences = there.manifest.identity.differences(&runs.manifest.identity)?;
    if !differences.is_empty() {
        return Err(BenchError::Input(format!(
            "{} holds another run:\n  {}\nchoose another ‘out’",
            out.display(),
            differences.join("\n  ")
        )));
    }
    match there.samples == runs.samples {
        true => Ok(()),
        false => Err(BenchError::Input(format!(
            "{} holds a run of which {} units are finished, which stays as it is; choose another ‘out’",
            out.display(),
            there.samples.len()
        ))),
    }
}

/// Whether two paths lead to the same directory.
fn is_same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
