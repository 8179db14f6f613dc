//! Long stories under bounded states, judged against those of the full state.
//!
//! For every seed the full state and every bounded one continue the same prompt with the same draws. A
//! judge, which is a model behind an OpenAI-compatible endpoint, sees each pair in both orders
//! (`verdict`); without one the stories are kept and can be judged later.

mod fit;
mod judge;
mod results;
mod texts;
pub(crate) mod verdict;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;
use msrnn_models::rotary::Rotary;
use msrnn_models::sampling::{Sampler, Sampling};
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use judge::{Judge, Limits};
use verdict::Judged;

use super::arms::{Bound, arms as arms_of, bounded_or_full};
use super::generation::{Generation, Written};
use super::journal;
use super::manifest::{self, Identity, MANIFEST};
use super::merge::Runs;
use super::models::Models;
use super::tidy::Row;
use super::{Experiment, Results, Unit, Watch, common};
use crate::error::BenchError;
use crate::room;

/// The prompt of the paper's Table 4. Where it breaks lines cannot be seen in print.
pub(crate) const PROMPT: &str = "### Instruction:\nWrite a very long story (at least 4,000 words). The story should include at \
                          least 20 named characters, spans 3 countries and 9 cities, at least 10 chapters and should \
                          have a lot of plot twists.\n\n### Response:\n";

/// How the stories of the bundled generator begin: the bundled model knows no instructions.
pub(crate) const BUNDLED_PROMPT: &str = "The town of";

/// The setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Story {
    /// What is continued.
    pub prompt: String,
    /// Policies, with or without a bound of their own.
    pub policies: Vec<PolicySpec>,
    /// Numbers of states, for policies without a bound of their own.
    pub states: Vec<Budget>,
    /// Stories of every policy, seeded `seed`, `seed + 1` and so on.
    pub seeds: usize,
    /// The first seed.
    pub seed: u64,
    /// Temperature of the draws.
    pub temperature: f64,
    /// Only the most likely tokens that together have this probability.
    pub top_p: f64,
    /// Tokens of prompt and story together, at most; the model's maximum positions if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Tokens of a story, at most; what is left of the context if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// How the prompt enters the state.
    pub protocol: Protocol,
    /// How positions are numbered.
    pub positions: Positions,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
    /// Who judges; nobody if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeSetting>,
}

/// What decides a judge's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeSetting {
    /// Address of the endpoint. Without a key: that is not part of a setting.
    pub url: String,
    /// The model's name there.
    pub model: String,
}

/// Two stories of one seed, and which is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// As in `--model`.
    pub model: String,
    /// `tova@64`.
    pub policy: String,
    /// k.
    pub states: usize,
    /// The seed.
    pub seed: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The full state's story.
    pub full: Written,
    /// The bounded state's.
    pub bounded: Written,
    /// Nothing where they are the same text, or nobody judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

impl Pair {
    /// Whether both are the same text.
    pub fn identical(&self) -> bool {
        self.full.text == self.bounded.text
    }
}

/// Where stories come from, and who judges them.
pub struct Inputs {
    models: Models,
    source: Source,
    judge: Option<Judge>,
}

enum Source {
    /// They are written.
    Models { plan: Mutex<Option<Arc<Vec<Arm>>>>, full: Mutex<HashMap<(usize, u64), Slot>> },
    /// They were written by another run.
    Pairs(Vec<Pair>),
}

/// A full state's story, written by the first who needs it.
type Slot = Arc<Mutex<Option<Written>>>;

/// A model under a policy.
struct Arm {
    model: usize,
    policy: String,
    states: usize,
    compression: Compression,
    prompt: Arc<[u32]>,
    max_new_tokens: usize,
    /// Bytes of the bounded state in all layers.
    state_bytes: usize,
    /// Bytes of one row of the full state in all layers.
    full_row: usize,
}

impl Inputs {
    /// Stories that are to be written.
    pub fn of_models(models: Models, judge: Option<Judge>) -> Self {
        Self { models, source: Source::Models { plan: Mutex::default(), full: Mutex::default() }, judge }
    }

    /// The models; none where the stories are those of another run.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Stories of a finished run, with the setting that they were written under. `models` are none.
    ///
    /// # Errors
    ///
    /// When the directory holds no run of this experiment.
    pub fn of_run(directory: &Path, models: Models, judge: Judge) -> Result<(Story, Self), BenchError> {
        let Runs { manifest, units, mut samples, .. } = Runs::read(&[directory.to_owned()])?;
        let wrong = |reason: String| BenchError::Input(format!("{}: {reason}", directory.display()));
        if manifest.identity.experiment != Story::NAME {
            return Err(wrong(format!(
                "a run of `experiment {}`; ‘stories’ takes a run of `experiment {}`",
                manifest.identity.experiment,
                Story::NAME
            )));
        }
        let setting = manifest.identity.setting.clone().try_into();
        let setting: Story = setting.map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
        if samples.len() < units.len() {
            return Err(wrong(format!(
                "{} of {} pairs of stories are there; finish that run first, or put its parts together with `msrnn \
                 report`",
                samples.len(),
                units.len()
            )));
        }
        let in_order = units.iter().filter_map(|unit| samples.remove(&unit.key));
        let pairs = in_order.map(|finished| serde_json::from_value(finished.sample)).collect::<Result<Vec<Pair>, _>>();
        let pairs = pairs.map_err(|e| wrong(format!("{}: {e}", journal::SAMPLES)))?;
        Ok((setting, Self { models, source: Source::Pairs(pairs), judge: Some(judge) }))
    }
}

impl Story {
    fn sampling(&self, seed: u64) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p, seed, ..Sampling::default() }
    }

    /// The arms of all models, worked out once.
    fn plan(&self, models: &Models, plan: &Mutex<Option<Arc<Vec<Arm>>>>) -> Result<Arc<Vec<Arm>>, BenchError> {
        let mut plan = plan.lock().expect("planning does not panic");
        if let Some(plan) = &*plan {
            return Ok(plan.clone());
        }
        Sampler::new(self.sampling(self.seed))?;
        let mut arms = Vec::new();
        for index in 0..models.names().len() {
            self.add_arms(models, index, &mut arms)?;
        }
        if arms.is_empty() || self.seeds == 0 {
            return Err(BenchError::Input(
                "there is nothing to compare the full state with; give ‘policies’ with ‘states’, and ‘seeds’".into(),
            ));
        }
        let made = Arc::new(arms);
        *plan = Some(made.clone());
        Ok(made)
    }

    fn add_arms(&self, models: &Models, index: usize, arms: &mut Vec<Arm>) -> Result<(), BenchError> {
        let model = models.get(index)?;
        let tokenizer = model.tokenizer()?;
        let prompt: Arc<[u32]> = tokenizer.prompt(&self.prompt)?.into();
        model.check_ids(&prompt)?;
        let context = self.context.unwrap_or(model.decoder.config().max_position_embeddings);
        if context > Rotary::LIMIT {
            return Err(BenchError::Input(format!(
                "‘context’ {context} is too long; positions end at {}",
                Rotary::LIMIT
            )));
        }
        let room = context.saturating_sub(prompt.len());
        let max_new_tokens = self.max_new_tokens.unwrap_or(room);
        if max_new_tokens == 0 || max_new_tokens > room || prompt.is_empty() {
            return Err(BenchError::Input(format!(
                "a prompt of {} tokens and a story of {max_new_tokens} do not fit a context of {context}; give a longer \
                 ‘context’, or other ‘max_new_tokens’ or ‘prompt’",
                prompt.len()
            )));
        }
        let full = Bound::new(&PolicySpec::full(), models, index, context)?.state_bytes / (context + 1);
        for spec in arms_of(&self.policies, &self.states) {
            let bound = Bound::new(&spec, models, index, context)?;
            let Some(states) = bound.compression.states() else {
                bounded_or_full(&spec)?;
                continue;
            };
            arms.push(Arm {
                model: index,
                policy: format!("{}@{states}", spec.name()),
                states,
                state_bytes: bound.state_bytes,
                full_row: full,
                prompt: prompt.clone(),
                max_new_tokens,
                compression: bound.compression,
            });
        }
        Ok(())
    }

    /// Address and name of the judge.
    fn judged_by(&self) -> Option<[&str; 2]> {
        self.judge.as_ref().map(|judge| [&judge.url[..], &judge.model[..]])
    }

    /// Index of arm and seed of a unit: the pairs of a model and seed follow each other.
    fn locate(&self, arms: &[Arm], unit: usize) -> (usize, u64) {
        let mut left = unit;
        let mut first = 0;
        for of_model in arms.chunk_by(|a, b| a.model == b.model) {
            let units = of_model.len() * self.seeds;
            if left < units {
                return (first + left % of_model.len(), self.seed + (left / of_model.len()) as u64);
            }
            left -= units;
            first += of_model.len();
        }
        panic!("there is no unit {unit}")
    }

    fn write(
        &self,
        models: &Models,
        arm: &Arm,
        compression: Compression,
        seed: u64,
        watch: &Watch<'_>,
    ) -> Result<Option<Written>, BenchError> {
        let generation = Generation {
            compression,
            positions: self.positions,
            protocol: self.protocol,
            sampling: self.sampling(seed),
            max_new_tokens: arm.max_new_tokens,
            stop: &[],
        };
        generation.write(&*models.get(arm.model)?, &arm.prompt, &[], watch)
    }

    /// The unit's pair of stories, not yet judged; none when it was interrupted.
    fn pair(&self, inputs: &Inputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Pair>, BenchError> {
        let (plan, full) = match &inputs.source {
            Source::Pairs(pairs) => return Ok(Some(Pair { judged: None, ..pairs[unit].clone() })),
            Source::Models { plan, full } => (plan, full),
        };
        let models = &inputs.models;
        let arms = self.plan(models, plan)?;
        let (index, seed) = self.locate(&arms, unit);
        let arm = &arms[index];
        let slot = full.lock().expect("no writer panics").entry((arm.model, seed)).or_default().clone();
        let full = {
            // Who panicked has written none.
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_none() {
                *slot = self.write(models, arm, Compression::Unbounded, seed, watch)?;
            }
            slot.clone()
        };
        let Some(full) = full else { return Ok(None) };
        let Some(bounded) = self.write(models, arm, arm.compression.clone(), seed, watch)? else { return Ok(None) };
        Ok(Some(Pair {
            model: models.names()[arm.model].clone(),
            policy: arm.policy.clone(),
            states: arm.states,
            seed,
            prompt_tokens: arm.prompt.len(),
            full,
            bounded,
            judged: None,
        }))
    }
}

impl Experiment for Story {
    const NAME: &'static str = "story";
    type Inputs = Inputs;
    type Sample = Pair;

    fn units(&self, inputs: &Inputs) -> Result<Vec<Unit>, BenchError> {
        let models = &inputs.models;
        let plan = match &inputs.source {
            Source::Models { plan, .. } => plan,
            Source::Pairs(pairs) => {
                let unit = |pair: &Pair| Unit {
                    name: format!("{}, seed {}", pair.policy, pair.seed),
                    arm: pair.policy.clone(),
                    depends: json!([
                        [&pair.model, &pair.policy, &pair.full.text, &pair.bounded.text],
                        [pair.seed, pair.states as u64],
                        self.prompt,
                        self.judged_by()
                    ]),
                    ..Unit::default()
                };
                return Ok(pairs.iter().map(unit).collect());
            }
        };
        let arms = self.plan(models, plan)?;
        let written = ["prompt", "policies", "states", "seeds", "seed", "context", "max_new_tokens"];
        let common = common(self, &[&written[..], &["bos", "special_tokens"]].concat())?;
        room::check_units(&[arms.len(), self.seeds])?;
        let unit = |unit: usize| {
            let (index, seed) = self.locate(&arms, unit);
            let arm = &arms[index];
            let tokens = arm.prompt.len() + arm.max_new_tokens;
            // The full state's story comes with the first of its pairs.
            let first = index == 0 || arms[index - 1].model != arm.model;
            Unit {
                name: format!("{}, seed {seed}", arm.policy),
                model: Some(arm.model),
                arm: arm.policy.clone(),
                depends: json!([
                    arm.policy,
                    seed,
                    &arm.prompt[..],
                    arm.max_new_tokens,
                    self.judge.is_some().then_some(&self.prompt),
                    common
                ]),
                tokens: if first { 2 * tokens } else { tokens },
                state_bytes: arm.state_bytes.max(if first { tokens * arm.full_row } else { 0 }),
                ..Unit::default()
            }
        };
        Ok((0..arms.len() * self.seeds).map(unit).collect())
    }

    fn sample(&self, inputs: &Inputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Pair>, BenchError> {
        let Some(pair) = self.pair(inputs, unit, watch)? else { return Ok(None) };
        let Some(judge) = inputs.judge.as_ref().filter(|_| !pair.identical()) else { return Ok(Some(pair)) };
        let judged = verdict::judge(&self.prompt, &pair.full.text, &pair.bounded.text, |question| {
            judge.ask(question, watch.interrupt)
        })?;
        Ok(judged.map(|judged| Pair { judged: Some(judged), ..pair }))
    }

    fn place(&self, identity: &Identity, unit: &Unit, sample: &mut Pair) -> Result<(), String> {
        // Stories that another run wrote are judged without models.
        if !identity.models.is_empty() {
            sample.model = unit.model(identity)?.into();
        }
        Ok(())
    }

    fn check(&self, models: &[manifest::Source], unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, unit, name, sample)
    }

    fn check_all(&self, _models: &[manifest::Source], samples: &[Self::Sample]) -> Result<(), String> {
        self.all_fit(samples)
    }

    fn rows(&self, samples: &[Pair]) -> Vec<Row> {
        let of_pair = |pair: &Pair| {
            let bound = format!("@{}", pair.states);
            let row = Row {
                model: pair.model.clone(),
                policy: pair.policy.strip_suffix(&bound[..]).unwrap_or(&pair.policy).into(),
                states: Some(pair.states),
                seed: Some(pair.seed),
                n: Some(pair.bounded.tokens),
                ..Row::default()
            };
            let flag = |metric, it| row.of(metric, f64::from(u8::from(it)));
            let judged = pair.judged.as_ref().map(|judged| judged.outcome);
            let verdict = judged.into_iter().flat_map(|outcome| {
                [flag("win", outcome == verdict::Outcome::Win), flag("loss", outcome == verdict::Outcome::Loss)]
            });
            let own = [flag("identical", pair.identical()), row.of("tokens", pair.bounded.tokens as f64)];
            own.into_iter().chain(verdict).collect::<Vec<_>>()
        };
        samples.iter().flat_map(of_pair).collect()
    }

    fn results(&self, samples: &[Pair]) -> Result<Results, BenchError> {
        Ok(results::results(self, samples))
    }
}
