//! The experiments by name: what reads a run directory back.

use std::path::Path;

use crate::error::BenchError;
use crate::experiment::extrapolate::Extrapolate;
use crate::experiment::lm::Lm;
use crate::experiment::merge::Runs;
use crate::experiment::retention::Retention;
use crate::experiment::retrieval::Retrieval;
use crate::experiment::story::Story;
use crate::experiment::understanding::Understanding;
use crate::experiment::{Experiment, Results, lm, run};

/// An experiment, without its types.
struct Entry {
    name: &'static str,
    /// How its results are made from a run.
    finish: fn(&Runs, Option<&Path>) -> Result<Results, BenchError>,
    /// How two of its runs become one, where neither is part of the other.
    join: fn(&Runs, &Runs) -> Result<Option<Runs>, BenchError>,
}

const fn entry<E: Experiment>() -> Entry {
    Entry { name: E::NAME, finish: run::finish::<E>, join: |_, _| Ok(None) }
}

/// Every experiment: one line each.
const EXPERIMENTS: &[Entry] = &[
    Entry { join: lm::join, ..entry::<Lm>() },
    entry::<Extrapolate>(),
    entry::<Understanding>(),
    entry::<Story>(),
    entry::<Retrieval>(),
    entry::<Retention>(),
];

fn of(runs: &Runs) -> Result<&'static Entry, BenchError> {
    let name = &runs.manifest.identity.experiment;
    EXPERIMENTS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        BenchError::Input(format!(
            "no experiment is called {name:?}; there are {}",
            EXPERIMENTS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
        ))
    })
}

/// The results of a run, whichever experiment it is of; written into `out`, if there is one.
///
/// # Errors
///
/// When the experiment is unknown, or as for [`run::finish`].
pub fn finish(runs: &Runs, out: Option<&Path>) -> Result<Results, BenchError> {
    (of(runs)?.finish)(runs, out)
}

/// Two runs as one, neither of which is part of the other; none where they do not go together.
///
/// # Errors
///
/// When a run is damaged.
pub(super) fn join(a: &Runs, b: &Runs) -> Result<Option<Runs>, BenchError> {
    match of(a) {
        Ok(experiment) if a.manifest.identity.experiment == b.manifest.identity.experiment => (experiment.join)(a, b),
        _ => Ok(None),
    }
}
