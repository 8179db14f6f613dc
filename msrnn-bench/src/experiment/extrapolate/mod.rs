//! Extrapolation: one text far beyond the trained context, and the perplexity up to every position.
//!
//! The paper's figure on 70,000 tokens. The text is one context, begun with what the tokenizer puts
//! before a text. Every policy goes through it with each numbering of positions; the full state, as
//! trained, up to a limit, since its cost grows with the square.

mod curve;
mod figures;
mod fit;

use std::sync::Arc;

use msrnn_core::budget::Budget;
use msrnn_models::Model;
use msrnn_models::length::Length;
use msrnn_models::recurrent::{Positions, state_bytes};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

pub use curve::Curve;
pub use figures::figures;

use crate::error::BenchError;
use crate::evaluate::{Advance, Observed, Scoring, evaluate};
use crate::experiment::manifest::{Identity, Source, hash};
use crate::experiment::models::Models;
use crate::experiment::tidy::Row;
use crate::experiment::{Arm, Experiment, Results, Unit, Watch, common};
use crate::plan::Plan;
use crate::text_ids;
use crate::texts::Text;
use curve::Recorder;

/// The setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Extrapolate {
    /// The text's name. Its hash is in the manifest.
    pub text: String,
    /// Tokens of it, prefix included; fewer where the text is shorter.
    pub tokens: usize,
    /// Tokens of the full state.
    pub full_tokens: usize,
    /// Policies, with or without a bound of their own.
    pub policies: Vec<PolicySpec>,
    /// Bounds of policies without one; a share is one of the trained context.
    pub states: Vec<Budget>,
    /// How positions are numbered.
    pub positions: Vec<Positions>,
    /// About so many points of every curve are kept.
    pub points: usize,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
    /// The models.
    pub models: Vec<ExtrapolateModel>,
}

/// A model of the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtrapolateModel {
    /// As in `--model`.
    pub name: String,
    /// Tokens that it was trained on.
    pub trained: usize,
}

impl ExtrapolateModel {
    /// The models of a grid.
    ///
    /// # Errors
    ///
    /// When a configuration cannot be read.
    pub fn all(models: &Models) -> Result<Vec<Self>, BenchError> {
        let model = |(index, name): (usize, &String)| {
            Ok(Self { name: name.clone(), trained: models.config(index)?.max_position_embeddings })
        };
        models.names().iter().enumerate().map(model).collect()
    }
}

/// Models and the text.
#[derive(Debug)]
pub struct ExtrapolateInputs {
    /// The models of the setting, in its order.
    pub models: Arc<Models>,
    /// The text.
    pub text: Text,
}

/// One policy, number of states and numbering on the whole text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Index of the model in the setting that the sample is read for.
    #[serde(skip)]
    pub model: usize,
    /// `tova`, `full`.
    pub policy: String,
    /// k, none for the full state.
    pub states: Option<usize>,
    /// How positions were numbered.
    pub positions: Positions,
    /// Ids that the text begins with.
    pub prefix: Vec<u32>,
    /// What came out.
    pub curve: Curve,
    /// What the states were seen to hold.
    pub observed: Observed,
}

impl Stretch {
    /// `tova@128, in-state`
    pub fn name(&self) -> String {
        match self.states {
            None => self.policy.clone(),
            Some(states) => format!("{}@{states}, {}", self.policy, self.positions),
        }
    }
}

/// A unit of work.
struct Task {
    model: usize,
    plan: Plan,
    positions: Positions,
}

impl Extrapolate {
    fn tasks(&self, inputs: &ExtrapolateInputs) -> Result<Vec<Task>, BenchError> {
        let mut tasks = Vec::new();
        for (model, ExtrapolateModel { trained, .. }) in self.models.iter().enumerate() {
            let opened = inputs.models.get(model)?;
            if self.full_tokens > 1 {
                tasks.push(Task { model, plan: Plan::full(), positions: Positions::Original });
            }
            for spec in &self.policies {
                if spec.says_positions() {
                    return Err(BenchError::Input(format!(
                        "{spec} says how rows are numbered, which this experiment varies; name the policy inside"
                    )));
                }
                for plan in Plan::of_policy(spec, &self.states, *trained, &opened)? {
                    let with = |&positions: &Positions| Task { model, plan: plan.clone(), positions };
                    tasks.extend(self.positions.iter().map(with));
                }
            }
        }
        match tasks.is_empty() {
            true => Err(BenchError::Input("there is no policy; name at least one with ‘policies’".into())),
            false => Ok(tasks),
        }
    }

    /// The text as ids, prefix included.
    fn ids(&self, model: usize, opened: &Model, text: &Text) -> Result<(Vec<u32>, Vec<u32>), BenchError> {
        let tokenizer = opened.tokenizer()?;
        let prefix = tokenizer.prefix()?;
        let mut ids = prefix.clone();
        ids.extend(text_ids::scored(&text.name, &text.text, tokenizer, self.tokens)?);
        ids.truncate(self.tokens);
        opened.check_ids(&ids)?;
        let ExtrapolateModel { name, trained } = &self.models[model];
        match ids.len() > *trained {
            true => Ok((prefix, ids)),
            false => Err(BenchError::Input(format!(
                "{} tokens of {:?} are not beyond the {trained} that {name} was trained on; give a longer text or more \
                 ‘tokens’",
                ids.len(),
                text.name
            ))),
        }
    }

    /// Tokens from one point of a curve to the next.
    fn step(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.points.max(1))
    }

    fn length(&self, plan: &Plan, ids: usize) -> usize {
        if plan.states.is_none() { ids.min(self.full_tokens) } else { ids }
    }
}

impl Experiment for Extrapolate {
    const NAME: &'static str = "extrapolate";
    type Inputs = ExtrapolateInputs;
    type Sample = Stretch;

    fn units(&self, inputs: &ExtrapolateInputs) -> Result<Vec<Unit>, BenchError> {
        let grows = ["text", "tokens", "full_tokens", "policies", "states", "positions", "points", "models"];
        let common = common(self, &[&grows[..], &["bos", "special_tokens"]].concat())?;
        let unit = |task: &Task| {
            let opened = inputs.models.get(task.model)?;
            let ids = self.ids(task.model, &opened, &inputs.text)?.1;
            let tokens = self.length(&task.plan, ids.len());
            Length { tokens, block: 0, states: task.plan.states, positions: task.positions }.check()?;
            let bound = task.plan.states.map_or_else(String::new, |states| format!("@{states}"));
            let name = format!("{}{bound}, {}", task.plan.policy, task.positions);
            let bytes: Vec<u8> = ids[..tokens].iter().flat_map(|id| id.to_le_bytes()).collect();
            Ok(Unit {
                model: Some(task.model),
                depends: serde_json::json!([name, hash(&bytes), self.step(ids.len()), common]),
                tokens,
                state_bytes: state_bytes(&opened.decoder, &task.plan.compression, tokens),
                // As results have it.
                arm: if task.plan.states.is_none() { task.plan.policy.clone() } else { name.clone() },
                name,
                ..Unit::default()
            })
        };
        self.tasks(inputs)?.iter().map(unit).collect()
    }

    fn sample(
        &self,
        inputs: &ExtrapolateInputs,
        unit: usize,
        watch: &Watch<'_>,
    ) -> Result<Option<Stretch>, BenchError> {
        let Task { model, plan, positions } = self.tasks(inputs)?.swap_remove(unit);
        let opened = inputs.models.get(model)?;
        let (prefix, mut ids) = self.ids(model, &opened, &inputs.text)?;
        let whole = ids.len();
        ids.truncate(self.length(&plan, whole));
        let contexts = [ids.into()];
        let scoring = Scoring { positions, ..Scoring::new(plan.compression.clone()) };
        // All curves have their points at the same positions.
        let recorder = Recorder::new(&contexts, self.step(whole));
        let mut observer = (Advance(watch.advance), recorder);
        let found = evaluate(&opened, &contexts, &scoring, &mut observer, watch.interrupt)?;
        let Plan { policy, states, .. } = plan;
        let stretch = |curve| Stretch { model, policy, states, positions, prefix, curve, observed: found.observed };
        Ok(found.complete.then(|| stretch(observer.1.into_curve())))
    }

    fn place(&self, _identity: &Identity, unit: &Unit, sample: &mut Stretch) -> Result<(), String> {
        sample.model = unit.model.unwrap_or(usize::MAX);
        Ok(())
    }

    fn check(&self, models: &[Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, unit, name, sample)
    }

    fn check_all(&self, _models: &[Source], samples: &[Self::Sample]) -> Result<(), String> {
        fit::all(samples)
    }

    fn rows(&self, samples: &[Stretch]) -> Vec<Row> {
        let of_stretch = |stretch: &Stretch| {
            let row = Row {
                model: self.models[stretch.model].name.clone(),
                policy: format!("{}, {}", stretch.policy, stretch.positions),
                states: stretch.states,
                text: Some(self.text.clone()),
                ..Row::default()
            };
            let Curve { positions, nll } = &stretch.curve;
            // Up to so many tokens: a point of the curve.
            let point = |(&n, &nll): (&usize, &f64)| Row { n: Some(n), ..row.of("nll", nll / n as f64) };
            positions.iter().zip(nll).map(point).collect::<Vec<_>>()
        };
        samples.iter().flat_map(of_stretch).collect()
    }

    fn results(&self, samples: &[Stretch]) -> Result<Results, BenchError> {
        let arms = samples.iter().map(|stretch| Arm {
            model: self.models[stretch.model].name.clone(),
            policy: stretch.name(),
            states: stretch.states,
            observed: stretch.observed,
        });
        let metric = |stretch: &Stretch| {
            serde_json::json!({
                "model": self.models[stretch.model].name,
                "policy": stretch.policy,
                "states": stretch.states,
                "positions": stretch.positions,
                "tokens": stretch.curve.tokens(),
                "perplexity": stretch.curve.perplexity(),
                "observed": stretch.observed,
                "curve": stretch.curve,
            })
        };
        Ok(Results {
            metrics: samples.iter().map(metric).collect(),
            arms: arms.collect(),
            notes: self.notes(samples),
            figures: figures(self, samples),
            missing: Vec::new(),
        })
    }
}

impl Extrapolate {
    fn notes(&self, samples: &[Stretch]) -> Vec<String> {
        let mut notes = Vec::new();
        for (index, model) in self.models.iter().enumerate() {
            let stretches = samples.iter().filter(|stretch| stretch.model == index);
            let Some(longest) = stretches.max_by_key(|stretch| stretch.curve.tokens()) else { continue };
            let tokens = longest.curve.tokens() + 1;
            let short = if tokens < self.tokens { ", which is all of it" } else { "" };
            notes.push(format!(
                "{}: {tokens} tokens of {:?}{short}, as one context, {} (bos: {}).",
                model.name,
                self.text,
                match longest.prefix.is_empty() {
                    true => "with nothing put before it, so that its first token is not predicted".to_owned(),
                    false => format!("begun with {:?}", longest.prefix),
                },
                self.reading.bos
            ));
        }
        notes.push(
            "Running perplexity at a position is that of all tokens before it. One text, so there is no error to give."
                .into(),
        );
        notes.push(format!(
            "full: positions as trained, up to {} tokens, since its cost grows with the square of the length.",
            self.full_tokens
        ));
        notes.push(
            "original: positions are tokens seen. gap-compressed: gaps of the held rows above 10 compressed by the rule \
             of the authors' code (the formula in the paper's text cannot be used as written). in-state: rows numbered \
             within the state, as StreamingLLM does."
                .into(),
        );
        notes
    }
}
