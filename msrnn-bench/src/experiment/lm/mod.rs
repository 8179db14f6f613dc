//! Language modelling: perplexity over states, and how far predictions move from the full state's.
//!
//! The paper's section 5.1 on any texts. Texts are cut into contexts of N tokens, each begun from an
//! empty state with what the tokenizer puts before a text; a short last context is kept; every
//! predicted token weighs the same. A unit of work is one policy and number of states on one
//! batch of contexts, compared with what the full state predicts there. Those predictions are
//! computed once per batch and process and kept while units use them: 4 bytes · tokens · vocabulary.
//!
//! A policy that draws at random runs once per seed, all others once: they are deterministic.

mod arms;
mod figures;
mod fit;
mod join;
mod paper;
mod predicted;
mod rows;
mod sample;
mod summary;
mod tokens;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, state_bytes};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

pub use arms::ArmScores;
pub use figures::figures;
pub(super) use join::join;
pub(crate) use paper::is_llama_2_7b;
pub use predicted::LmInputs;
pub use sample::{ContextId, Divergences, RunSample, Sample};
pub use summary::{ArmSummary, ModelSummary};
pub use tokens::TOKENS;

use crate::error::BenchError;
use crate::evaluate::{Advance, Form, Scoring};
use crate::experiment::manifest::{Identity, Source};
use crate::experiment::models::Models;
use crate::experiment::tidy::Row;
use crate::experiment::{Experiment, Results, Unit, Watch, common};
use crate::plan::{Kind, Plan};
use crate::room;
use crate::texts::Skipped;
use predicted::Cut;
use tokens::Recorder;

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
    /// Whether what every token cost is kept, for `tokens.parquet`.
    #[serde(default)]
    pub per_token: bool,
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
struct Task {
    plan: Plan,
    /// The seed of a policy that draws at random.
    seed: Option<u64>,
}

/// `tova@64`, `full`, `baseline@64`.
fn label(policy: &str, states: Option<usize>) -> String {
    states.map_or_else(|| policy.to_owned(), |states| format!("{policy}@{states}"))
}

/// What a unit is called: `tova@64, seed 3, 2 contexts from book.txt, context 0`.
fn name(lm: &Lm, arm: &str, seed: Option<u64>, contexts: &[ContextId]) -> String {
    let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    let first = format!("{}, context {}", lm.texts[contexts[0].text], contexts[0].context);
    match contexts.len() {
        1 => format!("{arm}{seed}, {first}"),
        n => format!("{arm}{seed}, {n} contexts from {first}"),
    }
}

impl Lm {
    /// A grid of strict scorings in the layer form on all contexts, one after the other.
    pub fn new(texts: Vec<String>, policies: Vec<PolicySpec>, states: Vec<Budget>, models: Vec<LmModel>) -> Self {
        Self {
            texts,
            skipped: Skipped::default(),
            policies,
            states,
            contexts: None,
            seeds: vec![0],
            positions: Positions::default(),
            protocol: Protocol::default(),
            form: Form::default(),
            batch: 1,
            per_token: false,
            reading: TextOptions::default(),
            models,
        }
    }

    /// What is scored on every batch of a model, in order: the full state, shorter contexts, policies.
    fn tasks(&self, model: usize, decoder: &Model) -> Result<Vec<Task>, BenchError> {
        let once = |plan| Task { plan, seed: None };
        let mut tasks = vec![once(Plan::full())];
        tasks.extend(Plan::baselines(&self.all_plans(model, decoder)?).into_iter().map(once));
        for (index, spec) in self.policies.iter().enumerate().filter(|(_, spec)| !spec.is_full()) {
            let seeds = if draws(spec) { self.seeds.iter().map(|&seed| Some(seed)).collect() } else { vec![None] };
            let all = seeds.iter().map(|&seed| self.plans(model, decoder, index, seed));
            let all = all.collect::<Result<Vec<_>, _>>()?;
            // All seeds of a number of states follow each other.
            for at in 0..all.first().map_or(0, Vec::len) {
                tasks.extend(all.iter().zip(&seeds).map(|(plans, &seed)| Task { plan: plans[at].clone(), seed }));
            }
        }
        Ok(tasks)
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

    fn summaries(&self, samples: &[Sample]) -> Result<Vec<ModelSummary>, BenchError> {
        let of_model = |(index, model)| {
            let of_model: Vec<&Sample> = samples.iter().filter(|sample| sample.model == index).collect();
            let prefix = of_model.first().map_or(&[][..], |sample| &sample.prefix);
            Ok(ModelSummary::new(model, prefix, ArmScores::of_samples(&of_model)?))
        };
        self.models.iter().enumerate().map(of_model).collect()
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

    fn unit(&self, common: &str, model: usize, decoder: &Model, cut: &Cut, group: usize, task: &Task) -> Unit {
        let contexts = cut.group(group);
        let longest = contexts.contexts.iter().map(|context| context.len()).max().unwrap_or(0);
        let bytes =
            |compression: &Compression| state_bytes(&decoder.decoder, compression, longest) * contexts.contexts.len();
        let Task { plan, seed } = task;
        let arm = label(&plan.policy, plan.states);
        // How many short contexts go side by side depends on both.
        let side_by_side = (plan.kind == Kind::Baseline).then_some((self.batch, self.models[model].context));
        Unit {
            name: name(self, &arm, *seed, cut.ids(group)),
            model: Some(model),
            texts: cut.ids(group).iter().map(|id| id.text).collect(),
            tokens: plan.contexts(&contexts).tokens(),
            // The full state is there to be compared with.
            state_bytes: bytes(&plan.compression).max(bytes(&Compression::Unbounded)),
            depends: serde_json::json!([arm, seed, cut.digest(group), common, side_by_side]),
            arm,
            ..Unit::default()
        }
    }
}

/// Whether a policy draws at random and names no seed.
fn draws(spec: &PolicySpec) -> bool {
    spec.clone().seeded(1).name() != spec.name()
}

impl Experiment for Lm {
    const NAME: &'static str = "lm";
    const SHOWN: &'static str = "perplexity";
    type Inputs = LmInputs;
    type Sample = Sample;

    fn units(&self, inputs: &LmInputs) -> Result<Vec<Unit>, BenchError> {
        if let Some(units) = inputs.units.get() {
            return Ok(units.clone());
        }
        self.check()?;
        let common = common(self, &join::GROWS)?;
        let mut units = Vec::new();
        for model in 0..self.models.len() {
            let decoder = inputs.models.get(model)?;
            let cut = inputs.cut(self, model)?;
            let tasks = self.tasks(model, &decoder)?;
            room::check_units(&[cut.groups(), tasks.len()])?;
            for group in 0..cut.groups() {
                units.extend(tasks.iter().map(|task| self.unit(&common, model, &decoder, &cut, group, task)));
            }
        }
        Ok(inputs.units.get_or_init(|| units).clone())
    }

    fn sample(&self, inputs: &LmInputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Sample>, BenchError> {
        let (model, left) = inputs.locate(self, unit)?;
        let (cut, decoder) = (inputs.cut(self, model)?, inputs.models.get(model)?);
        let tasks = self.tasks(model, &decoder)?;
        let (group, Task { plan, seed }) = (left / tasks.len(), &tasks[left % tasks.len()]);
        let contexts = cut.group(group);
        let scoring = self.scoring();
        let context = self.models[model].context;
        let wanted = (plan.kind == Kind::Full, self.per_token);
        let full = match plan.kind {
            Kind::Baseline => None,
            Kind::Full | Kind::Policy => {
                let Some(full) = inputs.full((model, group), &decoder, &contexts, &scoring, watch, wanted)? else {
                    return Ok(None);
                };
                Some(full)
            }
        };
        let sample = |run, tokens| Sample {
            model,
            prefix: contexts.prefix.clone(),
            contexts: cut.ids(group).to_vec(),
            seed: *seed,
            tokens,
            run,
        };
        if let (Kind::Full, Some(full)) = (plan.kind, &full) {
            let run = RunSample::new(plan, full.scores.clone(), full.observed, None);
            return Ok(Some(sample(run, full.tokens.clone())));
        }
        let mut divergence = full.as_ref().map(|full| full.divergence());
        let cut_shorter = plan.contexts(&contexts);
        let mut recorder = Recorder::new(&cut_shorter.contexts, self.per_token);
        let mut observer = (Advance(watch.advance), (divergence.as_mut(), &mut recorder));
        let run = plan.evaluate(&decoder, &contexts, context, &scoring, &mut observer, watch.interrupt)?;
        let divergence = divergence.map(|found| Divergences { kl: found.kl, agreed: found.agreed });
        let tokens = match (plan.kind, plan.states) {
            (Kind::Baseline, Some(length)) => recorder.regrouped(&contexts, length),
            _ => recorder.into_nll(),
        };
        Ok(run.complete.then(|| sample(RunSample::new(plan, run.contexts, run.observed, divergence), tokens)))
    }

    fn place(&self, identity: &Identity, unit: &Unit, sample: &mut Sample) -> Result<(), String> {
        self.put(identity, unit, sample)
    }

    fn check(&self, _models: &[Source], _unit: usize, _name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(sample)
    }

    fn check_all(&self, _models: &[Source], samples: &[Self::Sample]) -> Result<(), String> {
        self.all_fit(samples)
    }

    fn write_files(&self, samples: &[Sample], directory: &Path) -> Result<(), BenchError> {
        if self.per_token { tokens::write(self, samples, directory) } else { Ok(()) }
    }

    fn rows(&self, samples: &[Sample]) -> Vec<Row> {
        rows::rows(self, samples, &self.summaries(samples).unwrap_or_default())
    }

    fn results(&self, samples: &[Sample]) -> Result<Results, BenchError> {
        let summaries = self.summaries(samples)?;
        let notes = summary::notes(self, &summaries);
        Ok(Results {
            metrics: serde_json::to_value(&summaries)
                .map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?,
            arms: summaries.iter().flat_map(ModelSummary::arms).collect(),
            notes,
            figures: figures(&summaries),
            missing: Vec::new(),
        })
    }
}

/// Shared by who opens a model and who scores it.
type Opened = Arc<Model>;
