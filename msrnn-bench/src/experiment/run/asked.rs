//! What is asked for: a run, and its units with their keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::BenchError;
use crate::experiment::journal::{self, SAMPLES, Samples};
use crate::experiment::manifest::{Identity, MANIFEST, MEANING, Manifest, Shard, Source, hash, table};
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Unit, units};

/// What is about to be done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// All units, in order.
    pub units: Vec<Unit>,
    /// Tokens of all units.
    pub tokens: usize,
    /// Bytes of states of the largest unit; of a training, of all that it holds.
    pub state_bytes: usize,
}

impl Plan {
    /// To do these units.
    pub fn of(units: Vec<Unit>) -> Self {
        Self {
            tokens: units.iter().fold(0, |tokens, unit| unit.tokens.saturating_add(tokens)),
            state_bytes: units.iter().map(|unit| unit.state_bytes).max().unwrap_or(0),
            units,
        }
    }
}

/// What is asked for: a run, and its units with their keys.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the run is.
    pub identity: Identity,
    /// Its units, in the order of the results.
    pub units: Vec<Unit>,
}

impl Asked {
    /// A run of an experiment.
    ///
    /// # Errors
    ///
    /// When the setting cannot be met, or a model cannot be read.
    pub fn new<E: Experiment>(
        experiment: &E,
        inputs: &E::Inputs,
        models: &Models,
        data: &[Source],
    ) -> Result<Self, BenchError> {
        let identity = Identity {
            experiment: E::NAME.into(),
            meaning: MEANING,
            device: models.device().kind().into(),
            dtype: models.precision().to_string(),
            units: 0,
            plan: String::new(),
            models: models.sources()?,
            data: data.to_vec(),
            setting: table(experiment)?,
        };
        Self { identity, units: experiment.units(inputs)? }.meaning(MEANING)
    }

    /// The same, of results that mean what they meant in another version.
    ///
    /// # Errors
    ///
    /// Never in practice: units become JSON.
    pub fn meaning(self, meaning: u32) -> Result<Self, BenchError> {
        let identity = Identity { meaning, ..self.identity };
        let units: Vec<Unit> = self.units.into_iter().map(|unit| unit.keyed(&identity)).collect();
        let plan = hash(&units::text(&units)?);
        Ok(Self { identity: Identity { units: units.len(), plan, ..identity }, units })
    }

    /// The plan of all of it, or of a part.
    pub(crate) fn plan(&self, shard: Option<Shard>) -> Plan {
        let mine = |(index, _): &(usize, &Unit)| shard.is_none_or(|shard| shard.holds(*index));
        Plan::of(self.units.iter().enumerate().filter(mine).map(|(_, unit)| unit.clone()).collect())
    }

    /// A run directory for it in `parent`: the first of `lm`, `lm-2` and so on that is new, or of which all that is finished
    /// is part of what is asked for.
    ///
    /// # Errors
    ///
    /// When there are too many to look through.
    pub(crate) fn room_in(&self, parent: &Path) -> Result<PathBuf, BenchError> {
        const MOST: usize = 1000;
        let name = &self.identity.experiment;
        for n in 1..=MOST {
            let directory = parent.join(if n == 1 { name.clone() } else { format!("{name}-{n}") });
            if self.has_room(&directory) {
                if n > 1 {
                    tracing::warn!(
                        "{name} holds another run in {}: this one goes to {}",
                        parent.display(),
                        directory.display()
                    );
                }
                return Ok(directory);
            }
        }
        Err(BenchError::Input(format!("{} holds {MOST} other runs of {name}; choose one with ‘out’", parent.display())))
    }

    fn has_room(&self, directory: &Path) -> bool {
        if directory.join(MANIFEST).symlink_metadata().is_err() {
            return std::fs::read_dir(directory).is_ok_and(|mut files| files.next().is_none()) || !directory.exists();
        }
        let there = Manifest::read(directory).ok();
        let alike = there.is_some_and(|there| {
            (&there.identity.experiment, there.identity.meaning) == (&self.identity.experiment, self.identity.meaning)
        });
        // Where nothing is finished yet there are no samples.
        let done = if directory.join(SAMPLES).exists() { journal::read(directory) } else { Ok(Samples::new()) };
        alike && done.is_ok_and(|done| self.foreign(&done).is_empty())
    }

    /// Finished units that are not asked for, by what they are called.
    pub(super) fn foreign<'s>(&self, samples: &'s Samples) -> Vec<&'s str> {
        let asked: BTreeSet<&str> = self.units.iter().map(|unit| unit.key.as_str()).collect();
        let foreign = samples.iter().filter(|(key, _)| !asked.contains(key.as_str()));
        foreign.map(|(_, finished)| finished.name.as_str()).collect()
    }
}
