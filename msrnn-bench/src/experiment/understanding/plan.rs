//! Which policies answer which questions, with the prompts that they see.

use msrnn_core::compression::Compression;
use msrnn_models::error::ModelError;
use msrnn_models::rotary::Rotary;
use msrnn_policies::PolicySpec;

use super::Understanding;
use super::frame::Frame;
use super::prompt::{Prompt, fit};
use super::question::Question;
use crate::error::BenchError;
use crate::experiment::arms::{Bound, arms, bounded_or_full};
use crate::experiment::manifest::hash;
use crate::experiment::models::Models;
use crate::experiment::{Unit, common};

/// All there is to do. Every arm answers all questions.
pub(crate) struct Plan {
    /// By model: full, baselines by size, policies as asked for.
    pub arms: Vec<ArmPlan>,
    /// Lists of one prompt per question.
    pub prompts: Vec<Vec<Prompt>>,
}

/// A model under a policy.
pub(crate) struct ArmPlan {
    /// Index of the model.
    pub model: usize,
    /// `tova@64`, `full`, `baseline@64`.
    pub policy: String,
    /// Rows of a bounded state; tokens of the baseline's context.
    pub states: Option<usize>,
    /// How the state is bounded.
    pub compression: Compression,
    /// Index of its list of prompts.
    pub prompts: usize,
    /// Bytes of its states: of one token of an unbounded one, of all of a bounded one.
    state_bytes: usize,
}

impl Plan {
    /// Works out arms and prompts.
    ///
    /// # Errors
    ///
    /// When a model cannot be opened, a policy cannot have its budget, or a question does not fit
    /// the context even without its document.
    pub(crate) fn new(setting: &Understanding, models: &Models, questions: &[Question]) -> Result<Self, BenchError> {
        let mut plan = Self { arms: Vec::new(), prompts: Vec::new() };
        for model in 0..models.names().len() {
            plan.add(setting, models, model, questions)?;
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        setting: &Understanding,
        models: &Models,
        index: usize,
        questions: &[Question],
    ) -> Result<(), BenchError> {
        let model = models.get(index)?;
        let tokenizer = model.tokenizer()?;
        let context = setting.context.unwrap_or(model.decoder.config().max_position_embeddings);
        if context > Rotary::LIMIT {
            return Err(BenchError::Input(format!(
                "‘context’ {context} is too long; positions end at {}",
                Rotary::LIMIT
            )));
        }
        if setting.chat {
            setting.reading.check_for_chat().map_err(|reason| BenchError::Input(reason.into()))?;
        }
        if setting.ask_after
            && let Some(question) = questions.iter().find(|question| question.document.trim().is_empty())
        {
            return Err(BenchError::Input(format!(
                "question {:?} has no document, so that there is nothing to compress before it is asked; give one as \
                 \"document\", or leave ‘ask_after’ out",
                question.id
            )));
        }
        let frames = questions.iter().map(|question| Frame::new(tokenizer, &question.rest, setting.chat));
        let frames = frames.collect::<Result<Vec<_>, _>>()?;
        // The whole list, or the question that does not fit.
        let prompts = |context: usize| -> Result<Result<Vec<Prompt>, &Question>, BenchError> {
            let room = context.saturating_sub(setting.max_new_tokens);
            let mut prompts = Vec::with_capacity(questions.len());
            for (question, frame) in questions.iter().zip(&frames) {
                // Something of the document stands before what is asked apart from it.
                let fits = |prompt: &Prompt| !setting.ask_after || prompt.kept > 0;
                let encode = |document: &str| frame.ids(document, setting.ask_after);
                match fit::<ModelError>(&question.document, room, encode)?.filter(fits) {
                    Some(prompt) => prompts.push(prompt),
                    None => return Ok(Err(question)),
                }
            }
            Ok(Ok(prompts))
        };
        let whole = prompts(context)?.map_err(|question| {
            BenchError::Input(format!(
                "question {:?} and an answer of {} tokens do not fit a context of {context} tokens, even without the \
                 document; give a longer ‘context’ or fewer ‘max_new_tokens’",
                question.id, setting.max_new_tokens
            ))
        })?;
        for prompt in &whole {
            model.check_ids(&prompt.ids)?;
        }
        let full = self.prompts.len();
        self.prompts.push(whole);
        let arm = |policy: String, states, bound: Bound, prompts| {
            let rows = if bound.compression.states().is_some() { 1 } else { context + 1 };
            ArmPlan {
                model: index,
                policy,
                states,
                state_bytes: bound.state_bytes / rows,
                compression: bound.compression,
                prompts,
            }
        };
        let bound = |spec: &PolicySpec| Bound::new(spec, models, index, context);
        let mut bounded = Vec::new();
        for spec in arms(&setting.policies, &setting.states) {
            let bound = bound(&spec)?;
            match bound.compression.states() {
                None => {
                    bounded_or_full(&spec)?;
                    self.arms.push(arm("full".into(), None, bound, full));
                }
                Some(states) => bounded.push(arm(format!("{}@{states}", spec.name()), Some(states), bound, full)),
            }
        }
        let mut sizes: Vec<usize> = bounded.iter().filter_map(|arm| arm.states).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes.into_iter().filter(|&size| setting.baseline && size < context) {
            // Too small even for the question: there is no such baseline, which the results say.
            if let Ok(prompts) = prompts(size)? {
                let list = self.prompts.len();
                self.prompts.push(prompts);
                self.arms.push(arm(format!("baseline@{size}"), Some(size), bound(&PolicySpec::full())?, list));
            }
        }
        self.arms.extend(bounded);
        Ok(())
    }

    /// One unit per arm and question.
    pub(crate) fn units(&self, setting: &Understanding, questions: &[Question]) -> Result<Vec<Unit>, BenchError> {
        // The seed is that of stories and policies, which are seen in prompts and names.
        let common = common(setting, &["policies", "states", "baseline", "context", "seed", "bos", "special_tokens"])?;
        let unit = |arm: &ArmPlan, question: usize| {
            let Prompt { ids, kept, .. } = &self.prompts[arm.prompts][question];
            let tokens = ids.len() + setting.max_new_tokens;
            let rows = if arm.compression.states().is_some() { 1 } else { tokens + 1 };
            let Question { id, document_id, document, references, stop, .. } = &questions[question];
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            Unit {
                name: format!("{}, {id}", arm.policy),
                model: Some(arm.model),
                arm: arm.policy.clone(),
                tokens,
                state_bytes: rows * arm.state_bytes,
                depends: serde_json::json!([
                    arm.policy,
                    hash(&bytes),
                    [kept.to_string(), document.len().to_string(), id.clone(), document_id.clone()],
                    references,
                    stop,
                    common
                ]),
                ..Unit::default()
            }
        };
        let all = self.arms.iter().flat_map(|arm| (0..questions.len()).map(move |question| (arm, question)));
        Ok(all.map(|(arm, question)| unit(arm, question)).collect())
    }
}
