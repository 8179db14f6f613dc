//! The run directory: an experiment done, resumed, extended, or put together from parts.
//!
//! ```text
//! manifest.toml    what the run is; before the work starts
//! plan.jsonl       a line per unit that is asked for, in the order of the results; likewise
//! samples.jsonl    a line per finished unit, with its checksum; on disk before the next one counts
//! failures.jsonl   a line per unit that could not be done, with the reason; the next run tries it again
//! times.jsonl      seconds per unit; the only thing that differs between two runs of one manifest
//! metrics.json     what follows from all samples; when the last one is there
//! results.csv      the same as one long table, a value a row; results.parquet likewise
//! report.html      the same to look at, with figures/ beside it
//! writer.lock      while somebody writes here
//! ```
//!
//! One rule for all: a directory is new, or what is finished in it is part of what is asked for. Then that is not done
//! again, and the rest is added. Anything else is refused, and stays as it is.

mod asked;
mod finish;
mod report;
mod settle;
mod trial;
mod work;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

pub use asked::{Asked, Plan};
pub use finish::finish;
pub(crate) use trial::estimate;
pub use trial::in_memory;

use crate::claim::Claim;
use crate::error::BenchError;
use crate::experiment::journal::SAMPLES;
use crate::experiment::lm::TOKENS;
use crate::experiment::manifest::Shard;
use crate::experiment::merge::Runs;
use crate::experiment::retention::TRACE;
use crate::experiment::units::{FAILURES, Failures, PLAN};
use crate::experiment::{Event, Experiment, Missing, Results, Watch};
use crate::memory;
use crate::render;
use finish::checked;
use settle::{settle, take_over};
use work::{Files, Times, Work};

/// File name of the results.
pub(crate) const METRICS: &str = "metrics.json";
/// File name of the times.
pub(crate) const TIMES: &str = "times.jsonl";

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
    /// Whether units whose results meant something else are kept as they are.
    pub accept_version: bool,
    /// Run directories whose finished units are taken over where they are asked for.
    pub reuse: Vec<PathBuf>,
    /// The command line, for the manifest.
    pub command: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found; none unless every unit of the whole experiment is finished or has failed.
    pub results: Option<Results>,
    /// Units of this run, finished ones, and those that were found finished.
    pub units: usize,
    /// Finished.
    pub finished: usize,
    /// Found finished when the run started.
    pub resumed: usize,
    /// Those that could not be done.
    pub failed: Vec<Missing>,
}

impl Outcome {
    /// Whether nothing of this run is left to do.
    pub fn complete(&self) -> bool {
        self.finished + self.failed.len() == self.units
    }
}

/// Does what is left of an experiment in its run directory. The samples and results of a run that
/// was ended and started again are those of one that was not, to the byte; so are those of one that was extended.
///
/// # Errors
///
/// When the directory holds units that are not asked for, which is said with what differs; when no unit could be done;
/// when something cannot be written. What is finished stays.
pub fn run<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    asked: Asked,
    options: &RunOptions,
    watch: Watch<'_>,
) -> Result<Outcome, BenchError> {
    let largest = asked.units.iter().map(|unit| unit.state_bytes).max().unwrap_or(0);
    if options.on_host {
        let side_by_side = options.jobs.clamp(1, asked.units.len().max(1));
        let what = format!("{side_by_side} units of {largest} bytes of states side by side");
        memory::check(memory::product(&[largest, side_by_side]), &what, "give fewer ‘jobs’, states, or shorter texts")?;
    }
    let _claim = Claim::take(&options.out)?;
    let (manifest, units, mut journal, mut done) = settle(asked, options)?;
    take_over(&options.reuse, &units, &mut journal, &mut done)?;
    checked(experiment, &manifest.identity, &units, &done)?;
    let mine = |unit: &usize| options.shard.is_none_or(|shard| shard.holds(*unit));
    let (finished, left): (Vec<usize>, Vec<usize>) =
        (0..units.len()).filter(mine).partition(|&unit| done.contains_key(&units[unit].key));
    let resumed = finished.len();
    (watch.tell)(Event::Left(left.len(), left.iter().map(|&unit| units[unit].tokens).sum()));
    let work = Work {
        experiment,
        inputs,
        units: &units,
        left,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        files: Mutex::new(Files {
            journal,
            times: Times::open(&options.out)?,
            failures: Failures::open(&options.out)?,
            failed: Vec::new(),
        }),
    };
    let finished = resumed + work.all(options.jobs.max(1), watch)?;
    let mut failed = work.files.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).failed;
    failed.sort_unstable_by_key(|(unit, _)| *unit);
    let failed: Vec<Missing> =
        failed.into_iter().map(|(unit, reason)| Missing { unit: units[unit].name.clone(), reason }).collect();
    let outcome = Outcome { results: None, units: resumed + work.left.len(), finished, resumed, failed };
    if !outcome.complete() {
        return Ok(outcome);
    }
    // Read back what was written, so that the results are those of the files, whoever wrote them.
    let runs = Runs::read(std::slice::from_ref(&options.out))?;
    if !runs.is_accounted_for() {
        return Ok(outcome);
    }
    let results = finish::<E>(&runs, Some(&options.out))?;
    Ok(Outcome { results: Some(results), ..outcome })
}

/// Files that a run writes besides its manifest.
pub(super) const WRITTEN: [&str; 11] = [
    SAMPLES,
    TIMES,
    METRICS,
    render::PAGE,
    render::FIGURES,
    TRACE,
    PLAN,
    FAILURES,
    "results.csv",
    "results.parquet",
    TOKENS,
];

#[cfg(test)]
mod tests;
