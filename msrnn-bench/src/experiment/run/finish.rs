//! What an experiment found, from what its units left.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::METRICS;
use crate::error::BenchError;
use crate::experiment::journal::{Finished, SAMPLES, Samples};
use crate::experiment::manifest::Identity;
use crate::experiment::merge::Runs;
use crate::experiment::{Experiment, Results, Unit, tidy};
use crate::output::write_file;

/// The samples that there are of an experiment's units, each what the setting asks of its unit.
pub(super) fn checked<E: Experiment>(
    experiment: &E,
    identity: &Identity,
    units: &[Unit],
    samples: &Samples,
) -> Result<Vec<Option<E::Sample>>, BenchError> {
    let sample = |(index, unit): (usize, &Unit)| {
        let Some(Finished { name, sample }) = samples.get(&unit.key) else { return Ok(None) };
        let good = |mut sample: E::Sample| {
            experiment.place(identity, unit, &mut sample)?;
            experiment.check(&identity.models, index, name, &sample)?;
            Ok(sample)
        };
        let sample = E::Sample::deserialize(sample).map_err(|e| e.to_string()).and_then(good);
        sample.map(Some).map_err(|reason: String| {
            BenchError::Input(format!(
                "unit {index} of a run of `experiment {}`, {name:?}: {reason}. Its line in {SAMPLES} is not of this run, or of \
                 another version of msrnn: remove it, and the command that made this run does the unit again",
                E::NAME
            ))
        })
    };
    units.iter().enumerate().map(sample).collect()
}

/// What an experiment of that type found, from its manifest, plan and all samples. Writes `metrics.json` and the
/// report into `out`, if there is one, which holds the manifest and is claimed.
///
/// Where units have failed, the arms that they are part of are left out, which the notes say.
///
/// # Errors
///
/// When samples are missing or do not fit the setting, before anything is written; when a file cannot be
/// written.
pub fn finish<E: Experiment>(runs: &Runs, out: Option<&Path>) -> Result<Results, BenchError> {
    let Runs { manifest, units, samples, .. } = runs;
    let identity = &manifest.identity;
    let damaged = |e: &dyn std::fmt::Display| {
        BenchError::Input(format!("a run of `experiment {}`: {e}; was it made by another version of msrnn?", E::NAME))
    };
    let experiment: E = identity.setting.clone().try_into().map_err(|e| damaged(&e))?;
    if units.is_empty() {
        return Err(damaged(&"its manifest says that there is nothing to do"));
    }
    if let Some((index, unit)) = runs.unfinished().next() {
        return Err(BenchError::Input(format!(
            "unit {index} of {}, {:?}, is not finished ({} are); give the same command with the same ‘out’ to go on, or the \
             parts that are missing",
            units.len(),
            unit.name,
            samples.len()
        )));
    }
    let samples = checked(&experiment, identity, units, samples)?;
    let missing = runs.failed();
    let arm = |unit: &Unit| (unit.model.filter(|_| !E::RECTANGLE), unit.arm.clone());
    let lost: BTreeSet<_> =
        units.iter().zip(&samples).filter(|(_, sample)| sample.is_none()).map(|(unit, _)| arm(unit)).collect();
    let kept = units.iter().zip(samples).filter(|(unit, _)| !lost.contains(&arm(unit)));
    let samples: Vec<E::Sample> = kept.filter_map(|(_, sample)| sample).collect();
    if let (true, Some(first)) = (samples.is_empty(), missing.first()) {
        return Err(BenchError::Input(format!(
            "no policy has all its units: {} of {} failed, the first of them, {:?}, since {}",
            missing.len(),
            units.len(),
            first.unit,
            first.reason
        )));
    }
    let arms = lost.into_iter().map(|(_, arm)| arm).collect();
    let experiment = if missing.is_empty() { experiment } else { experiment.without(&arms) };
    experiment.check_all(&identity.models, &samples).map_err(|reason| {
        BenchError::Input(format!(
            "the samples do not fit together: {reason}. Some are of another run: run the experiment again, in another ‘out’"
        ))
    })?;
    let mut results = experiment.results(&samples)?;
    if !missing.is_empty() {
        let arms: Vec<String> = arms.into_iter().collect();
        results.notes.insert(
            0,
            format!(
                "MISSING: {} of {} units failed, and what they are part of is left out: {}. The same command tries them again.",
                missing.len(),
                units.len(),
                arms.join(", ")
            ),
        );
        results.notes.extend(missing.iter().map(|missing| format!("failed: {}: {}", missing.unit, missing.reason)));
        results.missing = missing;
    }
    let Some(out) = out else { return Ok(results) };
    experiment.write_files(&samples, out)?;
    tidy::write(experiment.rows(&samples), &results, out)?;
    let mut json =
        serde_json::to_vec_pretty(&results).map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?;
    json.push(b'\n');
    write_file(&out.join(METRICS), &json)?;
    super::report::report(out, &results)?;
    Ok(results)
}
