//! Experiments: units of work that know nothing of each other, and what follows from all of them.
//!
//! An [`Experiment`] is its setting, as plain data. Everything else follows from that: the run
//! directory ([`run`]) keeps the setting in `manifest.toml` before the work starts and one line of
//! `samples.jsonl` for every finished unit; [`Experiment::results`] is a pure function of the two,
//! so that a run that was killed and resumed, or spread over machines and merged, ends with the same
//! `metrics.json` as one that was not; and the report ([`figure`](crate::figure)) is a function of that file.
//!
//! A unit is known by what its sample depends on ([`Unit::key`]), not by its place in a setting. So a sample keeps its
//! worth when the setting grows, whichever directory it lies in.

pub(crate) mod arms;
pub mod extrapolate;
mod fit;
pub mod generation;
pub(crate) mod journal;
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
pub(crate) mod tidy;
pub mod understanding;
pub(crate) mod units;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
pub use crate::results::{Arm, Missing, Results};
use manifest::{Identity, Source};

/// An experiment. The type holds its whole setting: what is serialised here decides which units there are.
pub trait Experiment: Serialize + DeserializeOwned + Sync {
    /// Name of the experiment, as in `msrnn experiment NAME`.
    const NAME: &'static str;
    /// What it works on and that is no plain data: models, texts.
    type Inputs: Sync;
    /// What a unit leaves behind: a line of `samples.jsonl`.
    type Sample: Serialize + DeserializeOwned + Send;

    /// Which tables a terminal shows when a run ends, by the beginning of their ids; everything where it is empty.
    const SHOWN: &'static str = "";
    /// Whether every arm must be there for every model: results are of a rectangle.
    const RECTANGLE: bool = false;

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

    /// Gives a sample that was read back the place in this setting that its unit has: other settings count and call
    /// models and texts otherwise.
    ///
    /// # Errors
    ///
    /// When the sample says that it is of something else.
    fn place(&self, _identity: &Identity, _unit: &Unit, _sample: &mut Self::Sample) -> Result<(), String> {
        Ok(())
    }

    /// Checks that a sample, which has its place, is what the setting asks of the unit of that index: its policy and bound,
    /// and how many values it has. `name` is the unit's as the line of the sample has it.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String>;

    /// The setting without some arms, of which units have failed.
    #[must_use]
    fn without(self, _arms: &BTreeSet<String>) -> Self
    where
        Self: Sized,
    {
        self
    }

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

    /// The numbers of all samples, which were checked, a value a row.
    fn rows(&self, samples: &[Self::Sample]) -> Vec<tidy::Row>;

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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// What it is known by, wherever it was done: a hash of all that its sample depends on. Empty until the run is known
    /// that it belongs to.
    pub key: String,
    /// What it is, for people: `tova@64, book.txt, context 3`.
    pub name: String,
    /// Index of its model among those of the run; none where no model runs.
    pub model: Option<usize>,
    /// Its policy with its bound, as results have it: `tova@64`.
    pub arm: String,
    /// Indices of its texts in the setting, where results need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<usize>,
    /// Tokens that it goes through, for progress and plan.
    pub tokens: usize,
    /// Bytes of its states at their largest, predicted.
    pub state_bytes: usize,
    /// What its sample depends on, besides experiment, model, device and precision: an array, whose order is that of
    /// who made it.
    #[serde(skip)]
    pub depends: serde_json::Value,
}

impl Unit {
    /// What its model is called in that run.
    ///
    /// # Errors
    ///
    /// When it has none of the run's.
    pub fn model<'i>(&self, identity: &'i Identity) -> Result<&'i str, String> {
        let model = self.model.and_then(|model| identity.models.get(model));
        model.map(|model| model.name.as_str()).ok_or_else(|| "its model is none of this run's".into())
    }

    /// The same unit as one of that run, with its key.
    fn keyed(self, identity: &Identity) -> Self {
        let Identity { experiment, meaning, device, dtype, models, .. } = identity;
        let model = self.model.and_then(|model| models.get(model)).map(Source::digest);
        let all = serde_json::json!([experiment, meaning, device, dtype, model, self.depends]);
        Self { key: manifest::hash(all.to_string().as_bytes()).split_at(32).0.to_owned(), ..self }
    }
}

/// A setting without what it may have more of and what a unit says better itself, as text: what all its units depend on.
/// An option that is new to a setting is among it, unless somebody takes it out.
///
/// # Errors
///
/// When a number is too large for TOML.
fn common(setting: &impl Serialize, without: &[&str]) -> Result<String, BenchError> {
    let mut table = manifest::table(setting)?;
    table.retain(|key, _| !without.contains(&key));
    Ok(table.to_string())
}

/// How far a unit is, and whether it shall go on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called with the number of tokens that were gone through.
    pub advance: &'a (dyn Fn(usize) + Sync),
    /// Called with what happens.
    pub tell: &'a (dyn Fn(Event<'_>) + Sync),
    /// Set when the work shall end.
    pub interrupt: &'a AtomicBool,
}

/// What happens while a run goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// So many units with so many tokens are left.
    Left(usize, usize),
    /// A unit begins.
    Begins(&'a Unit),
    /// A unit is finished or has failed.
    Ends(&'a Unit),
}

impl Watch<'_> {
    /// Whether the work shall end.
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}
