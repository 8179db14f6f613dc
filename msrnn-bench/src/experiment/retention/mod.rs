//! Retention: which states live how long (Oren et al. 2024, arXiv 2401.06104, section 6).
//!
//! Contexts go through a model under every policy and bound, and everything follows from the step at
//! which each row was omitted (`history`):
//!
//! - a map of the positions held after every step, layer by layer (the paper's figure 8);
//! - how long the first tokens survive (figure 9);
//! - mean steps kept by kind of token (table 2);
//! - the share of recent tokens among the rows held;
//! - the attention that every omission costs (`attention`).
//!
//! A *step kept* is a step in which a row takes part: its own, those after it, and the one that
//! omits it, whose attention still includes it. This is the count with which the average over all
//! rows is the paper's: Σ min(t, k + 1) / n, whatever the policy, which every result is checked against.

pub(crate) mod attention;
mod figures;
mod fit;
pub(crate) mod grid;
pub(crate) mod history;
mod notes;
mod results;
pub(crate) mod sample;

use std::collections::BTreeSet;
use std::path::Path;

use msrnn_models::length::Length;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

use crate::contexts::Contexts;
use crate::error::BenchError;
use crate::experiment::arms::Bound;
use crate::experiment::manifest::{Source, hash};
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Results, Unit, Watch, common, tidy};
use crate::room;
use crate::tagging::tags_of_tokens;
use crate::trace_parquet::{Row, TraceTable};
use grid::Grid;
use sample::{Sample, Trace, Wanted};

/// File name of the trace in a run directory.
pub(crate) const TRACE: &str = "trace.parquet";

/// Most cells of a map along an axis.
pub(crate) const MOST_CELLS: usize = 256;

/// The setting of the experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// Names of the models.
    pub models: Vec<String>,
    /// What is looked at; bounded, all of them.
    pub arms: Vec<PolicySpec>,
    /// Contexts of each model.
    pub contexts: usize,
    /// Tokens of a context, which a share of the context refers to.
    pub context: usize,
    /// How many of the first tokens are followed by themselves.
    pub first: usize,
    /// Cells of a map along an axis, at most.
    pub cells: usize,
    /// Whether attention is measured; see `attention` for what that costs.
    pub attention: bool,
    /// Whether every omission is kept, for `trace.parquet`.
    pub trace: bool,
    /// Of the stories, and of policies that draw at random.
    pub seed: u64,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
}

/// What the experiment works on.
#[derive(Debug)]
pub struct Inputs {
    /// In the order of their names.
    pub models: Models,
    /// Contexts by model.
    pub contexts: Vec<Contexts>,
}

impl Retention {
    /// The setting, if it makes sense. Full states are left out: they omit nothing.
    ///
    /// # Errors
    ///
    /// When there is nothing to look at, or a map would be too fine.
    pub fn checked(mut self) -> Result<Self, BenchError> {
        self.arms.retain(|arm| !arm.keeps_all());
        let wrong = |reason: String| Err(BenchError::Input(reason));
        if self.arms.is_empty() || self.contexts == 0 {
            return wrong("there is nothing to look at; give at least one policy, number of states and context".into());
        }
        if let Some(arm) = self.arms.iter().find(|arm| !arm.is_one_in_one_out()) {
            return wrong(format!(
                "{arm} does not omit one of k + 1 rows at every token in every layer, which how long rows are kept is counted \
                 by; leave it out, or take the policy inside it"
            ));
        }
        if let Some(arm) = self.arms.iter().find(|arm| self.attention && !arm.leaves_rows()) {
            return wrong(format!(
                "{arm} merges or rounds rows, or rotates them by other positions, and what attention loses is computed from rows as \
                 they came; leave it out, or give ‘no_attention’"
            ));
        }
        if !(1..=MOST_CELLS).contains(&self.cells) {
            return wrong(format!("a map of {} cells is not drawn; give ‘cells’ from 1 to {MOST_CELLS}", self.cells));
        }
        Ok(self)
    }

    fn grid(&self) -> Grid {
        Grid::new(self.context, self.cells)
    }

    /// Model, arm and context of a unit.
    fn indices(&self, unit: usize) -> (usize, usize, usize) {
        let per_model = self.arms.len() * self.contexts;
        (unit / per_model, unit % per_model / self.contexts, unit % self.contexts)
    }
}

impl Experiment for Retention {
    const NAME: &'static str = "retention";
    const RECTANGLE: bool = true;
    type Inputs = Inputs;
    type Sample = Sample;

    fn units(&self, inputs: &Inputs) -> Result<Vec<Unit>, BenchError> {
        let common = common(self, &["models", "arms", "contexts", "seed", "bos", "special_tokens"])?;
        let unit = |index| {
            let (model, arm, context) = self.indices(index);
            let arm = &self.arms[arm];
            let ids = inputs.contexts[model].contexts.get(context).ok_or_else(|| {
                BenchError::Input(format!(
                    "the texts have only {context} contexts of {}; give more text, or fewer ‘contexts’",
                    self.models[model]
                ))
            })?;
            let bound = Bound::new(arm, &inputs.models, model, self.context)?;
            let states = bound.compression.states();
            Length { tokens: ids.len(), block: 0, states, positions: Positions::Original }.check()?;
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            Ok(Unit {
                name: format!("{arm}, context {context}"),
                model: Some(model),
                arm: arm.to_string(),
                tokens: ids.len(),
                state_bytes: bound.state_bytes,
                depends: serde_json::json!([
                    arm.to_string(),
                    // What is seen of a policy that draws.
                    arm.name(),
                    context,
                    hash(&bytes),
                    common
                ]),
                ..Unit::default()
            })
        };
        room::check_units(&[self.models.len(), self.arms.len(), self.contexts])?;
        (0..self.models.len() * self.arms.len() * self.contexts).map(unit).collect()
    }

    fn sample(&self, inputs: &Inputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Sample>, BenchError> {
        let (index, arm, context) = self.indices(unit);
        let model = inputs.models.get(index)?;
        let bound = Bound::new(&self.arms[arm], &inputs.models, index, self.context)?;
        let states = bound.compression.states();
        let recurrent = Recurrent::new(&model.decoder, bound.compression, Positions::Original);
        let ids = &inputs.contexts[index].contexts[context];
        recurrent.check_length(ids.len(), 0)?;
        let Some(history) = history::history(&model, &recurrent, ids, self.attention, watch)? else { return Ok(None) };
        let kinds = tags_of_tokens(ids, model.tokenizer()?)?;
        let wanted = Wanted { grid: self.grid(), first: self.first, kinds: &kinds, trace: self.trace };
        Ok(Some(Sample::new(&history, states, wanted)))
    }

    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, unit, name, sample)
    }

    fn without(mut self, arms: &BTreeSet<String>) -> Self {
        self.arms.retain(|arm| !arms.contains(&arm.to_string()));
        self
    }

    fn check_all(&self, _models: &[Source], samples: &[Self::Sample]) -> Result<(), String> {
        self.all_fit(samples)
    }

    fn rows(&self, samples: &[Sample]) -> Vec<tidy::Row> {
        let of_unit = |(unit, sample): (usize, &Sample)| {
            let (model, arm, context) = self.indices(unit);
            let row = tidy::Row {
                model: self.models[model].clone(),
                policy: self.arms[arm].name(),
                states: sample.states,
                context: Some(context),
                n: Some(sample.tokens),
                ..tidy::Row::default()
            };
            let mut all = sample::Kept::default();
            sample.kinds.values().for_each(|kept| all.add(*kept));
            let decided = (sample.groups * sample.held.len()).max(1) as f64;
            let kept = all.mean().map(|mean| row.of("steps_kept", mean));
            let first = sample.first_kept.first().map(|&steps| row.of("steps_kept_of_first", steps as f64 / decided));
            kept.into_iter().chain(first).collect::<Vec<_>>()
        };
        samples.iter().enumerate().flat_map(of_unit).collect()
    }

    fn results(&self, samples: &[Sample]) -> Result<Results, BenchError> {
        let expected = self.models.len() * self.arms.len() * self.contexts;
        if samples.len() != expected {
            return Err(BenchError::Input(format!("{} samples for {expected} units", samples.len())));
        }
        results::results(self, samples)
    }

    fn write_files(&self, samples: &[Sample], directory: &Path) -> Result<(), BenchError> {
        if !self.trace {
            return Ok(());
        }
        let mut table = TraceTable::create(&directory.join(TRACE))?;
        for (unit, sample) in samples.iter().enumerate() {
            let (model, arm, context) = self.indices(unit);
            let rows: Vec<Row> = sample.trace.iter().flatten().flat_map(Trace::rows).collect();
            let (model, policy) = (&self.models[model], self.arms[arm].name());
            table.add(model, &policy, sample.states.unwrap_or(0), context, &rows)?;
        }
        table.finish()
    }
}
