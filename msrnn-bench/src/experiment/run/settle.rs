//! Whose a run directory is: that of what is asked for, or of a part of it, or another's.

use std::path::PathBuf;

use super::{Asked, RunOptions, WRITTEN};
use crate::error::BenchError;
use crate::experiment::journal::{self, Journal, Samples};
use crate::experiment::manifest::{MANIFEST, MEANING, Manifest, Origin};
use crate::experiment::units::PLAN;
use crate::experiment::{Unit, units};

/// Makes the directory, which is claimed, that of a run, or finds that it already is, or that of a part of it.
pub(super) fn settle(
    asked: Asked,
    options: &RunOptions,
) -> Result<(Manifest, Vec<Unit>, Journal, Samples), BenchError> {
    let directory = &options.out;
    let origin = Origin::here(options.command.clone(), options.jobs, options.shard);
    if directory.join(MANIFEST).symlink_metadata().is_err() {
        // A killed run may have written its plan and nothing else.
        let strange = |file: &&&str| **file != PLAN && directory.join(file).symlink_metadata().is_ok();
        if let Some(file) = WRITTEN.iter().find(strange) {
            return Err(BenchError::Input(format!(
                "{}: there is {file} but no {MANIFEST} that says of what run; choose another ‘out’",
                directory.display()
            )));
        }
        let manifest = Manifest::new(asked.identity, vec![origin])?;
        units::write(directory, &asked.units)?;
        manifest.write(directory)?;
        let (journal, done) = Journal::open(directory)?;
        return Ok((manifest, asked.units, journal, done));
    }
    let there = Manifest::read(directory)?;
    let holds_another = |why: String| {
        Err(BenchError::Input(format!("{} holds another run, which stays as it is: {why}", directory.display())))
    };
    let (before, now) = (&there.identity, &asked.identity);
    if before.experiment != now.experiment {
        return holds_another(format!("one of `experiment {}`. Choose another ‘out’", before.experiment));
    }
    if before.meaning != now.meaning && !options.accept_version {
        return holds_another(format!(
            "its results are of meaning {}, and this msrnn gives results of meaning {}: some of its numbers would be \
             others now. Choose another ‘out’ to do all of it anew, or give ‘accept_version’ to keep what is finished and \
             go on",
            before.meaning, now.meaning
        ));
    }
    let asked = match before.meaning == now.meaning {
        true => asked,
        false => {
            tracing::warn!(
                "units are kept that were done when results had meaning {}; now they have meaning {MEANING}",
                before.meaning
            );
            let meaning = before.meaning;
            asked.meaning(meaning)?
        }
    };
    let (journal, done) = Journal::open(directory)?;
    let foreign = asked.foreign(&done);
    if let Some(first) = foreign.first() {
        let differences = there.identity.differences(&asked.identity)?;
        return holds_another(format!(
            "{} of its {} finished units are not asked for, such as {first:?}. There:\n  {}\nGive the same settings, or \
             more of them, or choose another ‘out’",
            foreign.len(),
            done.len(),
            differences.join("\n  ")
        ));
    }
    if let (false, Some(last)) = (done.is_empty(), there.origin.last()) {
        for remark in origin.remarks(last) {
            tracing::warn!("{} units were finished before: {remark}; their numbers are kept", done.len());
        }
    }
    if before.meaning == MEANING && before.units < asked.units.len() && !done.is_empty() {
        tracing::info!("{}: {} units become {}", directory.display(), before.units, asked.units.len());
    }
    let manifest = Manifest::new(asked.identity, there.origin.clone())?.and(origin);
    if units::read(directory, &manifest.identity).is_err() {
        units::write(directory, &asked.units)?;
    }
    if manifest != there {
        manifest.write(directory)?;
    }
    Ok((manifest, asked.units, journal, done))
}

/// Takes over what other run directories have of what is not finished.
pub(super) fn take_over(
    directories: &[PathBuf],
    units: &[Unit],
    journal: &mut Journal,
    done: &mut Samples,
) -> Result<(), BenchError> {
    for directory in directories {
        let samples = journal::read(directory)?;
        for unit in units {
            let Some(finished) = samples.get(&unit.key) else { continue };
            match done.get(&unit.key) {
                None => {
                    journal.adopt(&unit.key, finished)?;
                    done.insert(unit.key.clone(), finished.clone());
                }
                Some(here) if journal::joined(&here.sample, &finished.sample).is_some() => {}
                Some(_) => {
                    return Err(BenchError::Input(format!(
                        "{} says something else of unit {:?} than is known here; leave it out",
                        directory.display(),
                        unit.name
                    )));
                }
            }
        }
    }
    Ok(())
}
