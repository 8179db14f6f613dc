//! Questions about long documents, answered under bounded states: SQuALITY, QASPER, or any prompts
//! with references.
//!
//! A question's prompt goes through the state token by token and its answer is generated greedily.
//! Answers are scored against what people wrote ([`task`]); beside the full state stands the baseline,
//! the full state on a document that was cut to as many tokens as a bounded state has rows.

mod fit;
mod frame;
mod jackknife;
pub(crate) mod plan;
pub(crate) mod prompt;
pub mod question;
mod results;
pub(crate) mod stories;
pub mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use msrnn_core::budget::Budget;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;
use msrnn_models::sampling::Sampling;
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use task::{Metric, Task};

use super::arms::is_off;
use super::generation::{Generation, Written};
use super::manifest::{Identity, Source};
use super::models::Models;
use super::tidy::Row;
use super::{Experiment, Results, Unit, Watch};
use crate::error::BenchError;
use plan::Plan;
use question::Question;

/// The setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Understanding {
    /// What is asked.
    pub task: Task,
    /// How answers are scored.
    pub metric: Metric,
    /// Whether ROUGE compares stems.
    pub stem: bool,
    /// Policies, with or without a bound of their own.
    pub policies: Vec<PolicySpec>,
    /// Numbers of states, for policies without a bound of their own.
    pub states: Vec<Budget>,
    /// Whether the full state also answers from documents cut to that many tokens.
    pub baseline: bool,
    /// Tokens of prompt and answer together, at most; the model's maximum positions if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// Texts that end an answer, beside those of the question.
    pub stop: Vec<String>,
    /// How the prompt enters the state.
    pub protocol: Protocol,
    /// Whether the question comes after the cut: the protocol's block is the document alone.
    #[serde(default, skip_serializing_if = "is_off")]
    pub ask_after: bool,
    /// Whether prompts are what a user says, in the model's chat template. Templates that ask for the day are told one that
    /// never changes.
    #[serde(default, skip_serializing_if = "is_off")]
    pub chat: bool,
    /// How positions are numbered.
    pub positions: Positions,
    /// Seed of the stories that are asked about, where they are the bundled generator's.
    pub seed: u64,
    /// How texts are read.
    #[serde(flatten)]
    pub reading: TextOptions,
}

/// Models and questions.
pub struct Inputs {
    models: Models,
    questions: Vec<Question>,
    plan: Mutex<Option<Arc<Plan>>>,
}

impl Inputs {
    /// Questions for some models.
    ///
    /// # Errors
    ///
    /// When there is no question, or two have the same id.
    pub fn new(models: Models, questions: Vec<Question>) -> Result<Self, BenchError> {
        let mut ids: Vec<&str> = questions.iter().map(|question| question.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BenchError::Input(format!("two questions have the id {:?}; rename one", pair[0])));
        }
        match questions.is_empty() {
            true => {
                Err(BenchError::Input("there is no question; give a file that has some, or more ‘questions’".into()))
            }
            false => Ok(Self { models, questions, plan: Mutex::new(None) }),
        }
    }

    /// The models.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// What is to be done, worked out once: prompts have to be encoded for it.
    fn plan(&self, setting: &Understanding) -> Result<Arc<Plan>, BenchError> {
        let mut plan = self.plan.lock().expect("planning does not panic");
        if let Some(plan) = &*plan {
            return Ok(plan.clone());
        }
        let made = Arc::new(Plan::new(setting, &self.models, &self.questions)?);
        *plan = Some(made.clone());
        Ok(made)
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// As in `--model`.
    pub model: String,
    /// `tova@64`, `full`, `baseline@64`.
    pub policy: String,
    /// Rows of a bounded state; tokens of the baseline's context.
    pub states: Option<usize>,
    /// The question's id.
    pub question: String,
    /// The document's.
    pub document: String,
    /// SHA-256 of the prompt's ids, as little-endian 32-bit numbers.
    pub prompt_sha256: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Share of the document's bytes that are in the prompt.
    pub kept: f64,
    /// What was asked, and what a reader compares the answer with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Times 100, of the reference that suits each part best.
    pub scores: BTreeMap<String, f64>,
    /// The answer.
    #[serde(flatten)]
    pub written: Written,
}

/// A question for readers of results: beginnings of long texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What follows the document in the prompt.
    pub question: String,
    /// The first of the references.
    pub reference: String,
}

impl Asked {
    fn new(question: &Question) -> Self {
        let beginning = |text: &str| text.trim().chars().take(500).collect();
        let reference = question.references.first().map_or_else(String::new, |reference| beginning(reference));
        Self { question: beginning(&question.rest), reference }
    }
}

impl Experiment for Understanding {
    const NAME: &'static str = "understanding";
    type Inputs = Inputs;
    type Sample = Answer;

    fn units(&self, inputs: &Inputs) -> Result<Vec<Unit>, BenchError> {
        inputs.plan(self)?.units(self, &inputs.questions)
    }

    fn sample(&self, inputs: &Inputs, unit: usize, watch: &Watch<'_>) -> Result<Option<Answer>, BenchError> {
        let plan = inputs.plan(self)?;
        let (arm, question) = (&plan.arms[unit / inputs.questions.len()], unit % inputs.questions.len());
        let prompt = &plan.prompts[arm.prompts][question];
        let question = &inputs.questions[question];
        let (context, asked) = prompt.ids.split_at(prompt.ids.len() - prompt.asked);
        let stop: Vec<String> = self.stop.iter().chain(&question.stop).cloned().collect();
        let generation = Generation {
            compression: arm.compression.clone(),
            positions: self.positions,
            protocol: self.protocol,
            sampling: Sampling::default(),
            max_new_tokens: self.max_new_tokens,
            stop: &stop,
        };
        let Some(written) = generation.write(&*inputs.models.get(arm.model)?, context, asked, watch)? else {
            return Ok(None);
        };
        let scores = self.metric.scores(&written.text, &question.references, self.stem);
        let bytes: Vec<u8> = prompt.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Ok(Some(Answer {
            model: inputs.models.names()[arm.model].clone(),
            policy: arm.policy.clone(),
            states: arm.states,
            question: question.id.clone(),
            document: question.document_id.clone(),
            prompt_sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            prompt_tokens: prompt.ids.len(),
            kept: if question.document.is_empty() { 1.0 } else { prompt.kept as f64 / question.document.len() as f64 },
            asked: Some(Asked::new(question)),
            scores: self.metric.parts().iter().map(|part| (*part).to_owned()).zip(scores).collect(),
            written,
        }))
    }

    fn place(&self, identity: &Identity, unit: &Unit, sample: &mut Answer) -> Result<(), String> {
        sample.model = unit.model(identity)?.into();
        Ok(())
    }

    fn check(&self, models: &[Source], _unit: usize, name: &str, sample: &Self::Sample) -> Result<(), String> {
        self.fits(models, name, sample)
    }

    fn check_all(&self, models: &[Source], samples: &[Self::Sample]) -> Result<(), String> {
        self.all_fit(models, samples)
    }

    fn rows(&self, samples: &[Answer]) -> Vec<Row> {
        let of_answer = |answer: &Answer| {
            let bound = answer.states.map_or_else(String::new, |states| format!("@{states}"));
            let row = Row {
                model: answer.model.clone(),
                policy: answer.policy.strip_suffix(&bound[..]).unwrap_or(&answer.policy).into(),
                states: answer.states,
                text: Some(answer.question.clone()),
                n: Some(answer.written.tokens),
                ..Row::default()
            };
            let parts = self.metric.parts().iter().copied();
            let scores = parts.filter_map(|part| Some(row.of(part, *answer.scores.get(part)?)));
            scores.chain([row.of("answer_tokens", answer.written.tokens as f64)]).collect::<Vec<_>>()
        };
        samples.iter().flat_map(of_answer).collect()
    }

    fn results(&self, samples: &[Answer]) -> Result<Results, BenchError> {
        results::results(self, samples)
    }
}
