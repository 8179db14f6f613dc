//! The experiments by name: what reads a run directory back.

use std::path::Path;

use crate::error::BenchError;
use crate::experiment::extrapolate::Extrapolate;
use crate::experiment::journal::Samples;
use crate::experiment::lm::Lm;
use crate::experiment::manifest::Manifest;
use crate::experiment::retention::Retention;
use crate::experiment::retrieval::Retrieval;
use crate::experiment::story::Story;
use crate::experiment::understanding::Understanding;
use crate::experiment::{Experiment, Results, run};

/// How the results of an experiment are made from its manifest and samples.
type Finish = fn(&Manifest, &Samples, Option<&Path>) -> Result<Results, BenchError>;

const fn entry<E: Experiment>() -> (&'static str, Finish) {
    (E::NAME, run::finish::<E>)
}

/// Every experiment: one line each.
const EXPERIMENTS: &[(&str, Finish)] = &[
    entry::<Lm>(),
    entry::<Extrapolate>(),
    entry::<Understanding>(),
    entry::<Story>(),
    entry::<Retrieval>(),
    entry::<Retention>(),
];

/// The results of a run, whichever experiment it is of; written into `out`, if there is one.
///
/// # Errors
///
/// When the experiment is unknown, or as for [`run::finish`].
pub fn finish(manifest: &Manifest, samples: &Samples, out: Option<&Path>) -> Result<Results, BenchError> {
    let name = &manifest.identity.experiment;
    match EXPERIMENTS.iter().find(|(known, _)| known == name) {
        Some((_, finish)) => finish(manifest, samples, out),
        None => Err(BenchError::Input(format!(
            "no experiment is called {name:?}; there are {}",
            EXPERIMENTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        ))),
    }
}
