//! Experiments: units of work that know nothing of each other, and what follows from all of them.
//!
//! An [`Experiment`] is its setting, as plain data. Everything else follows from that: the run
//! directory ([`run`]) keeps the setting in `manifest.toml` before the work starts and one line of
//! `samples.jsonl` for every finished unit; [`Experiment::results`] is a pure function of the two,
//! so that a run that was killed and resumed, or spread over machines and merged, ends with the same
//! `metrics.json` as one that was not; and the report ([`figure`]) is a function of that file.

pub mod arms;
pub mod extrapolate;
pub mod figure;
mod fit;
pub mod generation;
pub mod journal;
pub mod lm;
pub mod manifest;
pub mod merge;
pub mod models;
pub mod registry;
pub mod retention;
pub mod retrieval;
pub mod run;
pub mod seal;
pub mod story;
pub mod understanding;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::evaluate::Observed;
use figure::Figure;
use manifest::Source;

/// An experiment. The type holds its whole setting: what is serialised here decides every sample,
/// and a run is only resumed, or merged with another, where it is equal.
pub trait Experiment: Serialize + DeserializeOwned + Sync {
    /// Name of the experiment, as in `msrnn experiment NAME`.
    const NAME: &'static str;
    /// What it works on and that is no plain data: models, texts.
    type Inputs: Sync;
    /// What a unit leaves behind: a line of `samples.jsonl`.
    type Sample: Serialize + DeserializeOwned + Send;

    /// The units, in the order of the results. The same setting and inputs give the same units.
    ///
    /// # Errors
    ///
    /// When the setting cannot be met, such as a budget that a policy cannot have.
    fn units(&self, inputs: &Self::Inputs) -> Result<Vec<Unit>, BenchError>;

    /// Does the unit of that index, from nothing but setting and inputs; none when it was interrupted.
    ///
    /// # Errors
    ///
    /// When the work fails.
    fn sample(&self, inputs: &Self::Inputs, unit: usize, watch: &Watch<'_>)
    -> Result<Option<Self::Sample>, BenchError>;

    /// Checks that a sample is what the setting asks of a unit of that index and name: its model, of those named in the
    /// manifest, its policy and bound, and how many values it has.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String>;

    /// Checks what the samples of all units, in their order, must have in common.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    fn check_all(&self, models: &[Source], samples: &[Self::Sample]) -> Result<(), String>;

    /// What follows from the samples of all units, in their order, which were checked. Does not see the inputs.
    ///
    /// # Errors
    ///
    /// When the samples do not fit the setting.
    fn results(&self, samples: &[Self::Sample]) -> Result<Results, BenchError>;

    /// Writes what follows from the samples and is no result into the run directory, such as a trace.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn write_files(&self, _samples: &[Self::Sample], _directory: &Path) -> Result<(), BenchError> {
        Ok(())
    }
}

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// What it is, for people: `tova@64, book.txt, context 3`.
    pub name: String,
    /// Tokens that it goes through, for progress and plan.
    pub tokens: usize,
    /// Bytes of its states at their largest, predicted.
    pub state_bytes: usize,
}

/// How far a unit is, and whether it shall go on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called with the number of tokens that were gone through.
    pub advance: &'a (dyn Fn(usize) + Sync),
    /// Set when the work shall end.
    pub interrupt: &'a AtomicBool,
}

impl Watch<'_> {
    /// Whether the work shall end.
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}

/// What an experiment found: the content of `metrics.json`, and all that a report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The numbers, in a form of the experiment's own, for programs.
    pub metrics: serde_json::Value,
    /// What the states were seen to hold, per policy and bound.
    pub arms: Vec<Arm>,
    /// What a reader must know: definitions, what differs from the paper, what is missing.
    pub notes: Vec<String>,
    /// The numbers, for people.
    pub figures: Vec<Figure>,
}

/// A policy with its bound on a model, and what its states were seen to hold over all samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// As in `--model`.
    pub model: String,
    /// `tova@64`, `full`.
    pub policy: String,
    /// k, none for an unbounded state.
    pub states: Option<usize>,
    /// What was seen.
    #[serde(flatten)]
    pub observed: Observed,
}

impl Results {
    /// Bounded arms in which nothing was omitted: their bound was never reached, and their numbers
    /// are those of the full state.
    pub fn never_bound(&self) -> Vec<&Arm> {
        self.arms.iter().filter(|arm| arm.states.is_some() && arm.observed.omitted == 0).collect()
    }

    /// Bounded arms that omitted rows, but made no prediction after an omission: their numbers too are those of the
    /// full state.
    pub fn before_bound(&self) -> Vec<&Arm> {
        let before = |arm: &&Arm| arm.observed.omitted > 0 && arm.observed.is_of_full_state();
        self.arms.iter().filter(|arm| arm.states.is_some()).filter(before).collect()
    }
}
