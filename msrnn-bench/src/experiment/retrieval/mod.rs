//! Retrieval: a fact stated at a depth of a text, asked for at its end.
//!
//! Length × depth × policy × states. A question is a text that breaks off right before an answer
//! that stands in it once ([`task`]); it is *answered* in two ways (`prompt`):
//!
//! - *exact match*: the greedy continuation begins with the answer, token for token;
//! - *choice*: of several candidate answers the right one has the highest log-likelihood, summed over
//!   its tokens. Who guesses is right once in as many as there are candidates.
//!
//! The state is bounded from the first token on, the question's tokens included: a policy does not
//! know what will be asked for, and the question's own rows take their place in the state. With `ask_after` all before
//! the question is read as one block and cut once, and question and answer are held as they come.

mod fit;
pub mod haystack;
pub(crate) mod prompt;
mod results;
pub mod task;

use std::collections::BTreeSet;

use msrnn_models::Model;
use msrnn_models::length::Length;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::arms::{Bound, is_off};
use crate::experiment::manifest::Source;
use crate::experiment::models::Models;
use crate::experiment::tidy::Row;
use crate::experiment::{Experiment, Results, Unit, Watch, common};
use crate::memory;
use crate::room;
use crate::stories::questions::Question;
use haystack::Haystack;
use prompt::{Prompt, Trial};
use task::Task;

/// The setting of the experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retrieval {
    /// Names of the models.
    pub models: Vec<String>,
    /// What is compared.
    pub arms: Vec<PolicySpec>,
    /// What is hidden.
    pub tasks: Vec<Task>,
    /// Tokens of a text, answer included; ascending.
    pub lengths: Vec<usize>,
    /// Shares of the text before the fact; ascending.
    pub depths: Vec<f64>,
    /// Questions per length and depth; the same for all arms, lengths and depths.
    pub trials: usize,
    /// Of the questions.
    pub seed: u64,
    /// Whether what asks comes after a cut, in which case what is before it enters as one block.
    #[serde(default, skip_serializing_if = "is_off")]
    pub ask_after: bool,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
}

/// Questions per length and depth that are more than a slip of the keyboard.
const MOST_TRIALS: usize = 1_000_000;
/// Bytes of a token of a text that is written, and of its id.
const BYTES: usize = 8;

/// What the experiment works on.
#[derive(Debug)]
pub struct Inputs {
    /// In the order of their names.
    pub models: Models,
    /// What needles are hidden in.
    pub haystack: Haystack,
}

/// What a unit found: all questions of a model, arm, task, length and depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// k, none for the full state.
    pub states: Option<usize>,
    /// What the states held before the answers.
    #[serde(flatten)]
    pub observed: Observed,
    /// By question.
    pub trials: Vec<Trial>,
}

/// Which unit it is, as indices into the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    model: usize,
    arm: usize,
    task: usize,
    length: usize,
    depth: usize,
}

impl Retrieval {
    /// The setting in its canonical form: lengths and depths ascending, nothing twice.
    ///
    /// # Errors
    ///
    /// When there is nothing to do, or a depth is no share.
    pub fn checked(mut self) -> Result<Self, BenchError> {
        let wrong = |reason: String| Err(BenchError::Input(reason));
        if let Some(depth) = self.depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) {
            return wrong(format!("a depth of {depth} is no share of the text; give numbers from 0 to 1"));
        }
        if self.trials == 0 || self.lengths.is_empty() || self.depths.is_empty() || self.tasks.is_empty() {
            return wrong("there is nothing to ask; give at least one task, length, depth and trial".into());
        }
        if self.trials > MOST_TRIALS {
            return wrong(format!("{} trials are not asked; give at most {MOST_TRIALS}", self.trials));
        }
        let tokens = self.lengths.iter().copied().max().unwrap_or(0);
        Length { tokens, block: 0, states: None, positions: Positions::Original }.check()?;
        let bytes = memory::product(&[tokens, BYTES]);
        memory::check(bytes, &format!("a text of {tokens} tokens"), "give shorter ‘lengths’")?;
        self.lengths.sort_unstable();
        self.lengths.dedup();
        self.depths.sort_by(f64::total_cmp);
        self.depths.dedup();
        self.tasks.sort_unstable();
        self.tasks.dedup();
        Ok(self)
    }

    /// Checks that all models can be asked all questions. Opens the models.
    ///
    /// # Errors
    ///
    /// When a tokenizer cannot write a question, or the shortest length is too short for one.
    pub fn check_questions(&self, inputs: &Inputs) -> Result<(), BenchError> {
        for index in 0..self.models.len() {
            let model = inputs.models.get(index)?;
            for &task in &self.tasks {
                for trial in 0..self.trials {
                    self.prompt(&model, &inputs.haystack, task, self.lengths[0], 0.0, trial)?;
                }
            }
        }
        Ok(())
    }

    fn cells(&self) -> usize {
        self.models.len() * self.arms.len() * self.tasks.len() * self.lengths.len() * self.depths.len()
    }

    fn cell(&self, mut unit: usize) -> Cell {
        let mut next = |n: usize| {
            let index = unit % n;
            unit /= n;
            index
        };
        let depth = next(self.depths.len());
        let length = next(self.lengths.len());
        let task = next(self.tasks.len());
        let arm = next(self.arms.len());
        Cell { model: unit, arm, task, length, depth }
    }

    fn question(
        &self,
        model: &Model,
        haystack: &Haystack,
        task: Task,
        length: usize,
        depth: f64,
        trial: usize,
    ) -> Result<Question, BenchError> {
        let tokenizer = model.tokenizer()?;
        let prefix = tokenizer.prefix()?.len();
        // A text that cannot be written has no length; `Prompt::new` says why.
        let measure = |text: &str| tokenizer.encode(text).map_or(0, |ids| ids.len());
        let room = length.saturating_sub(prefix);
        task.question(self.seed, trial as u64, room, depth, haystack, &measure).ok_or_else(|| {
            BenchError::Input(format!(
                "{length} tokens are too few for a question of the task {}; give a larger ‘lengths’",
                task.name()
            ))
        })
    }

    fn prompt(
        &self,
        model: &Model,
        haystack: &Haystack,
        task: Task,
        length: usize,
        depth: f64,
        trial: usize,
    ) -> Result<Prompt, BenchError> {
        let question = self.question(model, haystack, task, length, depth, trial)?;
        Prompt::new(&question, model.tokenizer()?)
    }
}

impl Experiment for Retrieval {
    const NAME: &'static str = "retrieval";
    const RECTANGLE: bool = true;
    type Inputs = Inputs;
    type Sample = Sample;

    fn units(&self, inputs: &Inputs) -> Result<Vec<Unit>, BenchError> {
        let haystack = inputs.haystack.digest();
        let common = common(self, &["models", "arms", "tasks", "lengths", "depths"])?;
        let unit = |index| {
            let cell = self.cell(index);
            let (length, depth) = (self.lengths[cell.length], self.depths[cell.depth]);
            let arm = &self.arms[cell.arm];
            let bound = Bound::new(arm, &inputs.models, cell.model, length)?;
            let name = format!("{arm}, {}, {length} tokens, depth {depth}", self.tasks[cell.task].name());
            Ok(Unit {
                model: Some(cell.model),
                arm: arm.to_string(),
                tokens: self.trials * length,
                state_bytes: bound.state_bytes,
                depends: serde_json::json!([name, haystack, common]),
                name,
                ..Unit::default()
            })
        };
        let Self { models, arms, tasks, lengths, depths, .. } = self;
        room::check_units(&[models.len(), arms.len(), tasks.len(), lengths.len(), depths.len()])?;
        (0..self.cells()).map(unit).collect()
    }

    fn sample(&self, inputs: &Inputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Sample>, BenchError> {
        let cell = self.cell(unit);
        let model = inputs.models.get(cell.model)?;
        let (task, length, depth) = (self.tasks[cell.task], self.lengths[cell.length], self.depths[cell.depth]);
        let bound = Bound::new(&self.arms[cell.arm], &inputs.models, cell.model, length)?;
        let recurrent = Recurrent::new(&model.decoder, bound.compression.clone(), Positions::Original);
        recurrent.check_length(length, if self.ask_after { length } else { 0 })?;
        let device = model.decoder.device();
        let mut sample =
            Sample { states: bound.compression.states(), observed: Observed::default(), trials: Vec::new() };
        for trial in 0..self.trials {
            let prompt = self.prompt(&model, &inputs.haystack, task, length, depth, trial)?;
            let (tokenizer, storage) = (model.tokenizer()?, model.decoder.storage());
            let answered = prompt.answer(&recurrent, tokenizer, storage, &device, self.ask_after, watch)?;
            let Some((trial, observed)) = answered else {
                return Ok(None);
            };
            sample.observed.add(observed);
            sample.trials.push(trial);
        }
        Ok(Some(sample))
    }

    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, unit, name, sample)
    }

    fn without(mut self, arms: &BTreeSet<String>) -> Self {
        self.arms.retain(|arm| !arms.contains(&arm.to_string()));
        self
    }

    fn check_all(&self, _models: &[Source], _samples: &[Self::Sample]) -> Result<(), String> {
        Ok(())
    }

    fn rows(&self, samples: &[Sample]) -> Vec<Row> {
        let of_unit = |(unit, sample): (usize, &Sample)| {
            let cell = self.cell(unit);
            let (task, length, depth) = (self.tasks[cell.task], self.lengths[cell.length], self.depths[cell.depth]);
            let row = Row {
                model: self.models[cell.model].clone(),
                policy: self.arms[cell.arm].name(),
                states: sample.states,
                text: Some(format!("{}, {length} tokens, depth {depth}", task.name())),
                seed: Some(self.seed),
                ..Row::default()
            };
            let of_trial = |(number, trial): (usize, &Trial)| {
                let row = Row { context: Some(number), n: Some(trial.tokens), ..row.clone() };
                [
                    row.of("exact", f64::from(u8::from(trial.exact))),
                    row.of("choice", f64::from(u8::from(trial.rank == 1))),
                    row.of("rank", trial.rank as f64),
                    row.of("log_likelihood", trial.log_likelihood),
                ]
            };
            sample.trials.iter().enumerate().flat_map(of_trial).collect::<Vec<_>>()
        };
        samples.iter().enumerate().flat_map(of_unit).collect()
    }

    fn results(&self, samples: &[Sample]) -> Result<Results, BenchError> {
        if samples.len() != self.cells() {
            return Err(BenchError::Input(format!("{} samples for {} units", samples.len(), self.cells())));
        }
        results::results(self, samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_run_through_the_whole_grid_depth_first() {
        let setting = Retrieval {
            reading: TextOptions::default(),
            models: vec!["a".into(), "b".into()],
            arms: vec![PolicySpec::full(); 3],
            tasks: vec![Task::Facts, Task::Needle],
            lengths: vec![1, 2, 3],
            depths: vec![0.0, 1.0],
            trials: 1,
            seed: 0,
            ask_after: false,
        };
        let cells: Vec<Cell> = (0..setting.cells()).map(|unit| setting.cell(unit)).collect();
        assert_eq!(cells[0], Cell { model: 0, arm: 0, task: 0, length: 0, depth: 0 });
        assert_eq!(cells[3], Cell { model: 0, arm: 0, task: 0, length: 1, depth: 1 });
        assert_eq!(cells[71], Cell { model: 1, arm: 2, task: 1, length: 2, depth: 1 });
        assert!((0..cells.len()).all(|i| !cells[..i].contains(&cells[i])));
    }
}
