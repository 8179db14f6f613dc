//! Which runs a grid of policies and states asks for, and how each scores the same contexts.

use std::sync::atomic::AtomicBool;

use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::recurrent::bytes_per_state;
use msrnn_policies::{PolicySpec, SpecError};
use serde::{Deserialize, Serialize};

use crate::contexts::{Context, Contexts};
use crate::error::BenchError;
use crate::evaluate::{ContextScore, Evaluation, Observer, Scoring, evaluate};

/// Which kind of run a [`Plan`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The unbounded state: the topline.
    Full,
    /// The unbounded state on contexts of `states` tokens.
    Baseline,
    /// A bounded state.
    Policy,
}

/// A run before it is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which kind of run it is.
    pub kind: Kind,
    /// `tova`, `full` or `baseline`.
    pub policy: String,
    /// k, or the baseline's context; none for the full state.
    pub states: Option<usize>,
    /// How the state is bounded.
    pub compression: Compression,
}

impl Plan {
    /// The unbounded state.
    pub fn full() -> Self {
        Self { kind: Kind::Full, policy: "full".into(), states: None, compression: Compression::Unbounded }
    }

    /// The unbounded state on contexts of `length` tokens.
    pub fn baseline(length: usize) -> Self {
        Self { kind: Kind::Baseline, policy: "baseline".into(), states: Some(length), ..Self::full() }
    }

    /// The runs of one policy: under its own budget where it names one, else under each of `states`.
    /// None for `full`.
    ///
    /// # Errors
    ///
    /// When the policy cannot have a budget.
    pub fn of_policy(
        spec: &PolicySpec,
        states: &[Budget],
        context: usize,
        model: &Model,
    ) -> Result<Vec<Self>, SpecError> {
        if spec.is_full() {
            return Ok(Vec::new());
        }
        let config = model.decoder.config();
        let named = |compression: Compression| -> Result<_, SpecError> {
            compression.check_named(config.layers, config.kv_heads)?;
            Ok(compression)
        };
        if spec.keeps_all() {
            let compression = named(spec.compression(context, |_| 1)?)?;
            return Ok(vec![Self { kind: Kind::Policy, policy: spec.name(), states: None, compression }]);
        }
        let own = spec.budget();
        let budgets = own.as_ref().map_or(states, std::slice::from_ref);
        let plan = |&budget: &Budget| {
            let bytes = |policy: &dyn msrnn_core::policy::Policy| bytes_per_state(&model.decoder, policy);
            let compression = named(spec.with_budget(budget).compression(context, bytes)?)?;
            let states = compression.states();
            Ok(Self { kind: Kind::Policy, policy: spec.name(), states, compression })
        };
        budgets.iter().map(plan).collect()
    }

    /// Baselines of as many tokens as some runs have states, ascending.
    pub fn baselines<'p>(plans: impl IntoIterator<Item = &'p Self>) -> Vec<Self> {
        let mut lengths: Vec<usize> = plans.into_iter().filter_map(|plan| plan.states).filter(|&k| k > 1).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.into_iter().map(Self::baseline).collect()
    }

    /// The contexts that the run goes through.
    pub fn contexts(&self, contexts: &Contexts) -> Contexts {
        match (self.kind, self.states) {
            (Kind::Baseline, Some(length)) => contexts.shorter(length),
            _ => contexts.clone(),
        }
    }

    /// Scores the contexts; a baseline's scores are summed over the context that each was cut from.
    ///
    /// `context`: tokens of a whole context. The compression of `scoring` is not looked at.
    ///
    /// # Errors
    ///
    /// As [`evaluate`].
    pub fn evaluate(
        &self,
        model: &Model,
        contexts: &Contexts,
        context: usize,
        scoring: &Scoring,
        observer: &mut dyn Observer,
        interrupt: &AtomicBool,
    ) -> Result<Evaluation, BenchError> {
        let cut = self.contexts(contexts);
        // As many tokens side by side, however short the contexts are.
        let shorter = (context / self.states.unwrap_or(context).max(1)).max(1);
        let batch = if self.kind == Kind::Baseline { scoring.batch * shorter.min(8) } else { scoring.batch };
        let scoring = Scoring { compression: self.compression.clone(), batch, ..scoring.clone() };
        let mut evaluation = evaluate(model, &cut.contexts, &scoring, observer, interrupt)?;
        if self.kind == Kind::Baseline && evaluation.complete {
            evaluation.contexts = self.regroup(&evaluation.contexts, contexts);
        }
        Ok(evaluation)
    }

    /// Scores of short contexts, summed over the context that each was cut from.
    fn regroup(&self, scores: &[ContextScore], contexts: &Contexts) -> Vec<ContextScore> {
        let length = self.states.unwrap_or(usize::MAX);
        let mut scores = scores.iter();
        let sum = |whole: &Context| {
            let parts = contexts.parts(whole, length).len();
            let none = ContextScore { nll: 0.0, tokens: 0, bytes: Some(0) };
            scores.by_ref().take(parts).fold(none, |sum, score| ContextScore {
                nll: sum.nll + score.nll,
                tokens: sum.tokens + score.tokens,
                bytes: sum.bytes.zip(score.bytes).map(|(a, b)| a + b),
            })
        };
        contexts.contexts.iter().map(sum).collect()
    }
}
