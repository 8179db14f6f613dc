//! Units that are done without a directory: a second of them, to judge how long all take, or all of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Asked, Plan};
use crate::error::BenchError;
use crate::experiment::manifest::Source;
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Results, Watch};
use crate::trial;

/// How long a plan takes, judged by a second of its experiment's first units; none where that is too little to tell.
/// Nothing is kept.
pub(crate) fn estimate<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    plan: &Plan,
    jobs: usize,
    interrupt: &AtomicBool,
) -> Option<Duration> {
    let next = AtomicUsize::new(0);
    let work = |advance: &(dyn Fn(usize) + Sync), interrupt: &AtomicBool| {
        let watch = &Watch { advance, tell: &|_| {}, interrupt };
        while !watch.interrupted() {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= plan.units.len() || !matches!(experiment.sample(inputs, unit, watch), Ok(Some(_))) {
                break;
            }
        }
    };
    trial::estimate(plan.tokens, jobs.clamp(1, plan.units.len().max(1)), &work, interrupt)
}

/// All units of an experiment one after the other, and what was found, without a run directory.
///
/// # Errors
///
/// When the setting cannot be met, or a unit fails.
pub fn in_memory<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    models: &Models,
    data: &[Source],
) -> Result<Results, BenchError> {
    let asked = Asked::new(experiment, inputs, models, data)?;
    let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &AtomicBool::new(false) };
    let mut samples = Vec::new();
    for (index, unit) in asked.units.iter().enumerate() {
        let mut sample = experiment.sample(inputs, index, &watch)?.ok_or(BenchError::Interrupted)?;
        experiment.place(&asked.identity, unit, &mut sample).map_err(BenchError::Input)?;
        samples.push(sample);
    }
    experiment.results(&samples)
}
