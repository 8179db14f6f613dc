//! The run directory: an experiment done, resumed, or put together from parts.
//!
//! ```text
//! manifest.toml    what the run is; before the work starts
//! samples.jsonl    a line per finished unit, with its checksum; on disk before the next one counts
//! times.jsonl      seconds per unit; the only thing that differs between two runs of one manifest
//! metrics.json     what follows from all samples; when the last one is there
//! report.html      the same to look at, with figures/ beside it
//! writer.lock      while somebody writes here
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::claim::Claim;
use crate::error::BenchError;
use crate::experiment::journal::{self, Finished, Journal, SAMPLES, Samples};
use crate::experiment::manifest::{Identity, MANIFEST, Manifest, Origin, Shard, Source, table};
use crate::experiment::models::Models;
use crate::experiment::retention::TRACE;
use crate::experiment::{Experiment, Results, Unit, Watch};
use crate::memory;
use crate::output::{open_lines, write_file};
use crate::render;

/// File name of the results.
pub const METRICS: &str = "metrics.json";
/// File name of the times.
pub const TIMES: &str = "times.jsonl";

/// How an experiment is run, without what decides its samples.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run directory.
    pub out: PathBuf,
    /// The part to do; none for all units.
    pub shard: Option<Shard>,
    /// Units side by side.
    pub jobs: usize,
    /// Whether their states lie in the memory of this machine.
    pub on_host: bool,
    /// The command line, for the manifest.
    pub command: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found; none unless every unit of the whole experiment is finished.
    pub results: Option<Results>,
    /// Units of this run, finished ones, and those that were found finished.
    pub units: usize,
    /// Finished.
    pub finished: usize,
    /// Found finished when the run started.
    pub resumed: usize,
}

impl Outcome {
    /// Whether all units of this run are finished.
    pub fn complete(&self) -> bool {
        self.finished == self.units
    }
}

/// What an experiment is about to do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// All units, in order.
    pub units: Vec<Unit>,
    /// Tokens of all units.
    pub tokens: usize,
    /// Bytes of states of the largest unit.
    pub state_bytes: usize,
}

impl Plan {
    /// The plan of an experiment, or of a part of it.
    ///
    /// # Errors
    ///
    /// When its setting cannot be met.
    pub fn of<E: Experiment>(experiment: &E, inputs: &E::Inputs, shard: Option<Shard>) -> Result<Self, BenchError> {
        let units = experiment.units(inputs)?.into_iter().enumerate();
        let units: Vec<Unit> =
            units.filter(|(index, _)| shard.is_none_or(|shard| shard.holds(*index))).map(|(_, unit)| unit).collect();
        Ok(Self {
            tokens: units.iter().map(|unit| unit.tokens).sum(),
            state_bytes: units.iter().map(|unit| unit.state_bytes).max().unwrap_or(0),
            units,
        })
    }
}

/// What a run of an experiment is.
///
/// # Errors
///
/// When the setting cannot be met, or a model cannot be read.
pub fn identity<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    models: &Models,
    data: &[Source],
    shard: Option<Shard>,
) -> Result<Identity, BenchError> {
    let features =
        [("flex", cfg!(feature = "flex")), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];
    Ok(Identity {
        experiment: E::NAME.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: env!("MSRNN_COMMIT").into(),
        features: features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.into()).collect(),
        device: models.device().to_string(),
        dtype: models.precision().to_string(),
        units: experiment.units(inputs)?.len(),
        shard,
        models: models.sources()?,
        data: data.to_vec(),
        setting: table(experiment)?,
    })
}

/// Does what is left of an experiment in its run directory. The samples and results of a run that
/// was ended and started again are those of one that was not, to the byte.
///
/// # Errors
///
/// When the directory holds another run, which is said with what differs; when a unit fails; when
/// something cannot be written. What is finished stays.
pub fn run<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    identity: Identity,
    options: &RunOptions,
    watch: Watch<'_>,
) -> Result<Outcome, BenchError> {
    let units = experiment.units(inputs)?;
    let manifest = Manifest { identity, origin: Origin::here(options.command.clone(), options.jobs) };
    let largest = units.iter().map(|unit| unit.state_bytes).max().unwrap_or(0);
    if options.on_host {
        let side_by_side = options.jobs.clamp(1, units.len().max(1));
        let what = format!("{side_by_side} units of {largest} bytes of states side by side");
        memory::check(memory::product(&[largest, side_by_side]), &what, "give fewer --jobs, states, or shorter texts")?;
    }
    let _claim = Claim::take(&options.out)?;
    let manifest = settle(&options.out, manifest)?;
    let (journal, done) = Journal::open(&options.out, &manifest.identity, &units)?;
    checked(experiment, &manifest.identity, &done)?;
    let mine = |unit: &usize| options.shard.is_none_or(|shard| shard.holds(*unit));
    let left: Vec<usize> = (0..units.len()).filter(mine).filter(|unit| !done.contains_key(unit)).collect();
    let todo = left.len();
    let work = Work {
        experiment,
        inputs,
        units: &units,
        left,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        journal: Mutex::new((journal, Times::open(&options.out)?)),
    };
    let finished = work.all(options.jobs.max(1), watch)?;
    let outcome =
        |results| Outcome { results, units: done.len() + todo, finished: done.len() + finished, resumed: done.len() };
    if finished < todo || manifest.identity.shard.is_some() {
        return Ok(outcome(None));
    }
    // Read back what was written, so that the results are those of the file, whoever wrote it.
    let samples = journal::read(&options.out, &manifest.identity)?;
    let results = finish::<E>(&manifest, &samples, Some(&options.out))?;
    Ok(outcome(Some(results)))
}

/// Files that a run writes besides its manifest.
pub(super) const WRITTEN: [&str; 6] = [SAMPLES, TIMES, METRICS, render::PAGE, render::FIGURES, TRACE];

/// Makes the directory, which is claimed, that of a run, or finds that it already is.
fn settle(directory: &Path, manifest: Manifest) -> Result<Manifest, BenchError> {
    if directory.join(MANIFEST).symlink_metadata().is_err() {
        if let Some(file) = WRITTEN.iter().find(|file| directory.join(file).symlink_metadata().is_ok()) {
            return Err(BenchError::Input(format!(
                "{}: there is {file} but no {MANIFEST} that says of what run; choose another --out",
                directory.display()
            )));
        }
        manifest.write(directory)?;
        return Ok(manifest);
    }
    let there = Manifest::read(directory)?;
    let differences = there.identity.differences(&manifest.identity)?;
    match differences.is_empty() {
        true => Ok(there),
        false => Err(BenchError::Input(format!(
            "{} holds another run, which this one cannot resume. There:\n  {}\nGive the same settings, or choose \
             another --out",
            directory.display(),
            differences.join("\n  ")
        ))),
    }
}

/// Units that are left, and those who do them.
struct Work<'a, E: Experiment> {
    experiment: &'a E,
    inputs: &'a E::Inputs,
    units: &'a [Unit],
    left: Vec<usize>,
    next: AtomicUsize,
    /// Set when a unit has failed.
    stop: AtomicBool,
    journal: Mutex<(Journal, Times)>,
}

impl<E: Experiment> Work<'_, E> {
    /// Does all units, `jobs` side by side. The number of those finished.
    fn all(&self, jobs: usize, watch: Watch<'_>) -> Result<usize, BenchError> {
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
            match self.one(unit, watch) {
                Ok(true) => finished += 1,
                Ok(false) => break,
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(finished)
    }

    fn one(&self, unit: usize, watch: Watch<'_>) -> Result<bool, BenchError> {
        let started = Instant::now();
        let Some(sample) = self.experiment.sample(self.inputs, unit, &watch)? else { return Ok(false) };
        let mut journal = self.journal.lock().expect("no writer panicked");
        journal.0.append(unit, &self.units[unit].name, &sample)?;
        journal.1.add(unit, &self.units[unit], started.elapsed().as_secs_f64())?;
        Ok(true)
    }
}

/// Seconds per unit, as lines of JSON.
struct Times {
    path: PathBuf,
    file: File,
}

impl Times {
    fn open(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(TIMES);
        let (file, _) = open_lines(&path)?;
        Ok(Self { path, file })
    }

    fn add(&mut self, unit: usize, what: &Unit, seconds: f64) -> Result<(), BenchError> {
        let line = serde_json::json!({ "unit": unit, "name": what.name, "tokens": what.tokens, "seconds": seconds });
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}

/// The samples of an experiment, each what the setting asks of its unit.
fn checked<E: Experiment>(
    experiment: &E,
    identity: &Identity,
    samples: &Samples,
) -> Result<Vec<E::Sample>, BenchError> {
    let sample = |(&unit, finished): (&usize, &Finished)| {
        let sample = E::Sample::deserialize(&finished.sample).map_err(|e| e.to_string());
        let sample = sample
            .and_then(|sample| experiment.check(&identity.models, unit, &finished.name, &sample).map(|()| sample));
        sample.map_err(|reason| {
            BenchError::Input(format!(
                "unit {unit} of a run of `experiment {}`, {:?}: {reason}. Its line in {SAMPLES} is not of this run, or of \
                 another version of msrnn: remove it, and the command that made this run does the unit again",
                E::NAME, finished.name
            ))
        })
    };
    samples.iter().map(sample).collect()
}

/// What an experiment of that type found, from its manifest and all samples. Writes `metrics.json` and the
/// report into `out`, if there is one, which holds the manifest and is claimed.
///
/// # Errors
///
/// When samples are missing or do not fit the setting, before anything is written; when a file cannot be
/// written.
pub fn finish<E: Experiment>(
    manifest: &Manifest,
    samples: &Samples,
    out: Option<&Path>,
) -> Result<Results, BenchError> {
    let damaged = |e: &dyn std::fmt::Display| {
        BenchError::Input(format!("a run of `experiment {}`: {e}; was it made by another version of msrnn?", E::NAME))
    };
    let experiment: E = manifest.identity.setting.clone().try_into().map_err(|e| damaged(&e))?;
    let units = manifest.identity.units;
    if units == 0 {
        return Err(damaged(&"its manifest says that there is nothing to do"));
    }
    if let Some(missing) = (0..units).find(|unit| !samples.contains_key(unit)) {
        return Err(BenchError::Input(format!(
            "unit {missing} of {units} is not finished ({} are); give the same command with the same --out to \
             go on, or the parts that are missing",
            samples.len()
        )));
    }
    let samples = checked(&experiment, &manifest.identity, samples)?;
    experiment.check_all(&manifest.identity.models, &samples).map_err(|reason| {
        BenchError::Input(format!(
            "the samples do not fit together: {reason}. Some are of another run: run the experiment again, in another --out"
        ))
    })?;
    let results = experiment.results(&samples)?;
    let Some(out) = out else { return Ok(results) };
    experiment.write_files(&samples, out)?;
    let mut json =
        serde_json::to_vec_pretty(&results).map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?;
    json.push(b'\n');
    write_file(&out.join(METRICS), &json)?;
    render::run::report(out, &results)?;
    Ok(results)
}

#[cfg(test)]
mod tests;
