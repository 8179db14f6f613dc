//! Language modelling: perplexity over states, and how far predictions move from the full state's.
//!
//! The paper's section 5.1 on any texts. Texts are cut into contexts of N tokens, each begun from an
//! empty state with what the tokenizer puts before a text; a short last context is kept; every
//! predicted token weighs the same. A unit of work is one policy at all its numbers of states on one
//! batch of contexts, compared with what the full state predicts there. Those predictions are
//! computed once per batch and process and kept while units use them: 4 bytes · tokens · vocabulary.
//!
//! A policy that draws at random runs once per seed, all others once: they are deterministic.

mod arms;
mod figures;
mod fit;
mod paper;
mod predicted;
mod sample;
mod summary;

use std::collections::HashSet;
use std::sync::Arc;

use msrnn_core::budget::Budget;
use msrnn_core::policy::Compression;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, state_bytes};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

pub use arms::ArmScores;
pub use figures::figures;
pub use paper::{TABLE_3_STATES, is_llama_2_7b, table_3};
pub use predicted::LmInputs;
pub use sample::{ContextId, Divergences, RunSample, Sample};
pub use summary::{ArmSummary, ModelSummary};

use crate::error::BenchError;
use crate::evaluate::{Advance, Form, Scoring};
use crate::experiment::manifest::Source;
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Results, Unit, Watch};
use crate::plan::Plan;
use crate::room;
use crate::texts::Skipped;
use predicted::Cut;

/// The setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lm {
    /// What is scored: names of texts. Their hashes are in the manifest.
    pub texts: Vec<String>,
    /// Rows and files that lay among them and are none.
    #[serde(default, skip_serializing_if = "Skipped::is_nothing")]
    pub skipped: Skipped,
    /// Policies, with or without a bound of their own.
    pub policies: Vec<PolicySpec>,
    /// Bounds of policies without one, and lengths of the short contexts.
    pub states: Vec<Budget>,
    /// At most so many contexts of each text, its first; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<usize>,
    /// Seeds of policies that draw at random and name none.
    pub seeds: Vec<u64>,
    /// How positions are numbered.
    pub positions: Positions,
    /// How the first tokens enter the state.
    pub protocol: Protocol,
    /// In which order layers and tokens are computed.
    pub form: Form,
    /// Contexts of equal length side by side.
    pub batch: usize,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
    /// The models.
    pub models: Vec<LmModel>,
}

/// A model of the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LmModel {
    /// As in `--model`.
    pub name: String,
    /// Tokens of a context, prefix included.
    pub context: usize,
    /// Whether its configuration is that of LLaMA-2-7B, so that the paper's numbers belong beside it.
    pub llama_2_7b: bool,
}

impl LmModel {
    /// The models of a grid on contexts of so many tokens; each model's maximum if none.
    ///
    /// # Errors
    ///
    /// When a configuration cannot be read.
    pub fn all(models: &Models, context: Option<usize>) -> Result<Vec<Self>, BenchError> {
        let model = |(index, name): (usize, &String)| {
            let config = models.config(index)?;
            Ok(Self {
                name: name.clone(),
                context: context.unwrap_or(config.max_position_embeddings),
                llama_2_7b: is_llama_2_7b(&config),
            })
        };
        models.names().iter().enumerate().map(model).collect()
    }
}

/// What a unit scores on its batch of contexts.
enum Task {
    /// The full state and the short contexts.
    References,
    /// The policy of that index, under a seed if it draws at random.
    Policy(usize, Option<u64>),
}

impl Lm {
    /// What is scored on every batch, in order.
    fn tasks(&self) -> Vec<Task> {
        let mut tasks = vec![Task::References];
        for (index, spec) in self.policies.iter().enumerate().filter(|(_, spec)| !spec.is_full()) {
            match draws(spec) {
                true => tasks.extend(self.seeds.iter().map(|&seed| Task::Policy(index, Some(seed)))),
                false => tasks.push(Task::Policy(index, None)),
            }
        }
        tasks
    }

    /// The runs of one policy on a model. They bear the policy's name without the seed.
    fn plans(&self, model: usize, decoder: &Model, policy: usize, seed: Option<u64>) -> Result<Vec<Plan>, BenchError> {
        let spec = &self.policies[policy];
        let seeded = seed.map_or_else(|| spec.clone(), |seed| spec.clone().seeded(seed));
        let plans = Plan::of_policy(&seeded, &self.states, self.models[model].context, decoder)?;
        Ok(plans.into_iter().map(|plan| Plan { policy: spec.name(), ..plan }).collect())
    }

    /// The runs of all policies, each under one seed.
    fn all_plans(&self, model: usize, decoder: &Model) -> Result<Vec<Plan>, BenchError> {
        let mut plans = Vec::new();
        for policy in 0..self.policies.len() {
            plans.extend(self.plans(model, decoder, policy, None)?);
        }
        let mut known = HashSet::new();
        match plans.iter().find(|plan| !known.insert((&plan.policy, plan.states))) {
            None => Ok(plans),
            Some(Plan { policy, states, .. }) => Err(BenchError::Input(format!(
                "{policy}@{} is asked for twice on contexts of {} tokens; give each policy and number of states once",
                states.unwrap_or(0),
                self.models[model].context
            ))),
        }
    }

    /// What is asked for must be possible before the first unit is done.
    fn check(&self) -> Result<(), BenchError> {
        let wrong = |what: &str| Err(BenchError::Input(what.into()));
        if let Some(model) = self.models.iter().find(|model| model.context < 2) {
            return wrong(&format!("contexts of {} tokens leave nothing to predict; give at least 2", model.context));
        }
        if self.policies.iter().any(draws) && self.seeds.is_empty() {
            return wrong("a policy draws at random but there is no seed; give at least one");
        }
        match self.batch == 0 || self.contexts == Some(0) {
            true => wrong("0 contexts are nothing to score; give at least 1"),
            false => Ok(()),
        }
    }

    fn scoring(&self) -> Scoring {
        Scoring {
            compression: Compression::Unbounded,
            positions: self.positions,
            protocol: self.protocol,
            form: self.form,
            batch: self.batch,
        }
    }

    fn unit(&self, model: usize, decoder: &Model, cut: &Cut, group: usize, task: &Task) -> Result<Unit, BenchError> {
        let contexts = cut.group(group);
        let longest = contexts.contexts.iter().map(|context| context.len()).max().unwrap_or(0);
        let bytes =
            |compression: &Compression| state_bytes(&decoder.decoder, compression, longest) * contexts.contexts.len();
        let full = bytes(&Compression::Unbounded);
        let (what, tokens, bytes) = match *task {
            Task::References => {
                let baselines = Plan::baselines(&self.all_plans(model, decoder)?);
                let shorter: usize = baselines.iter().map(|plan| plan.contexts(&contexts).tokens()).sum();
                ("full and baselines".into(), contexts.tokens() + shorter, full)
            }
            Task::Policy(policy, seed) => {
                let plans = self.plans(model, decoder, policy, seed)?;
                let largest = plans.iter().map(|plan| bytes(&plan.compression)).max().unwrap_or(0);
                let name = self.policies[policy].to_string();
                let name = seed.map_or_else(|| name.clone(), |seed| format!("{name}, seed {seed}"));
                (name, contexts.tokens() * plans.len(), largest.max(full))
            }
        };
        let name = format!("{}: {what}, {}", self.models[model].name, cut.name(group, &self.texts));
        Ok(Unit { name, tokens, state_bytes: bytes })
    }
}

/// Whether a policy draws at random and names no seed.
fn draws(spec: &PolicySpec) -> bool {
    spec.clone().seeded(1).name() != spec.name()
}

impl Experiment for Lm {
    const NAME: &'static str = "lm";
    type Inputs = LmInputs;
    type Sample = Sample;

    fn units(&self, inputs: &LmInputs) -> Result<Vec<Unit>, BenchError> {
        if let Some(units) = inputs.units.get() {
            return Ok(units.clone());
        }
        self.check()?;
        let mut units = Vec::new();
        for model in 0..self.models.len() {
            let decoder = inputs.models.get(model)?;
            let cut = inputs.cut(self, model)?;
            self.all_plans(model, &decoder)?;
            room::check_units(&[cut.groups(), self.tasks().len()])?;
            for group in 0..cut.groups() {
                for task in self.tasks() {
                    units.push(self.unit(model, &decoder, &cut, group, &task)?);
                }
            }
        }
        Ok(inputs.units.get_or_init(|| units).clone())
    }

    fn sample(&self, inputs: &LmInputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Sample>, BenchError> {
        let tasks = self.tasks();
        let (mut at, task) = (unit / tasks.len(), &tasks[unit % tasks.len()]);
        let mut model = 0;
        let cut = loop {
            let cut = inputs.cut(self, model)?;
            if at < cut.groups() {
                break cut;
            }
            at -= cut.groups();
            model += 1;
        };
        let decoder = inputs.models.get(model)?;
        let contexts = cut.group(at);
        let scoring = self.scoring();
        let Some(full) = inputs.full((model, at), &decoder, &contexts, &scoring, watch)? else { return Ok(None) };
        let sample =
            |seed, runs| Sample { model, prefix: contexts.prefix.clone(), contexts: cut.ids(at).to_vec(), seed, runs };

        let context = self.models[model].context;
        let mut runs = Vec::new();
        let (plans, seed) = match *task {
            Task::References => {
                (watch.advance)(contexts.tokens());
                runs.push(RunSample::new(&Plan::full(), full.scores.clone(), full.observed, None));
                (Plan::baselines(&self.all_plans(model, &decoder)?), None)
            }
            Task::Policy(policy, seed) => (self.plans(model, &decoder, policy, seed)?, seed),
        };
        for plan in plans {
            let mut divergence = matches!(task, Task::Policy(..)).then(|| full.divergence());
            let mut observer = (Advance(watch.advance), divergence.as_mut());
            let run = plan.evaluate(&decoder, &contexts, context, &scoring, &mut observer, watch.interrupt)?;
            if !run.complete {
                return Ok(None);
            }
            let divergence = divergence.map(|found| Divergences { kl: found.kl, agreed: found.agreed });
            runs.push(RunSample::new(&plan, run.contexts, run.observed, divergence));
        }
        Ok(Some(sample(seed, runs)))
    }

    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, unit, name, sample)
    }

    fn check_all(&self, _models: &[Source], samples: &[Self::Sample]) -> Result<(), String> {
        self.all_fit(samples)
    }

    fn results(&self, samples: &[Sample]) -> Result<Results, BenchError> {
        let mut summaries = Vec::new();
        for (index, model) in self.models.iter().enumerate() {
            let of_model: Vec<&Sample> = samples.iter().filter(|sample| sample.model == index).collect();
            let prefix = of_model.first().map_or(&[][..], |sample| &sample.prefix);
            summaries.push(ModelSummary::new(model, prefix, ArmScores::of_samples(&of_model)?));
        }
        let notes = summary::notes(self, &summaries);
        Ok(Results {
            metrics: serde_json::to_value(&summaries)
                .map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?,
            arms: summaries.iter().flat_map(ModelSummary::arms).collect(),
            notes,
            figures: figures(&summaries),
        })
    }
}

/// Shared by who opens a model and who scores it.
type Opened = Arc<Model>;
