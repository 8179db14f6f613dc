//! What samples of language modelling look like.

use std::collections::{BTreeMap, BTreeSet};

use super::sample::{ContextId, RunSample, Sample, short_hash};
use super::{Lm, label, name};
use crate::experiment::Unit;
use crate::experiment::fit::{budgets, finite, holds, observed, same, states};
use crate::experiment::manifest::Identity;
use crate::plan::Kind;

/// A context, and the seed under which it was scored.
type Seen<'s> = (&'s ContextId, Option<u64>);

impl Lm {
    /// Counts model and texts as this setting does. The texts must be those that the unit is of, by what is in them.
    pub(super) fn put(&self, identity: &Identity, unit: &Unit, sample: &mut Sample) -> Result<(), String> {
        sample.model = unit.model.unwrap_or(usize::MAX);
        holds("its model is none of this run's", sample.model < self.models.len())?;
        same("number of contexts", &sample.contexts.len(), &unit.texts.len())?;
        for (id, &text) in sample.contexts.iter_mut().zip(&unit.texts) {
            let source = identity.data.get(text).filter(|_| text < self.texts.len());
            let source = source.ok_or("a text of it is none of this run's")?;
            same("text", &id.hash, &short_hash(source))?;
            id.text = text;
        }
        holds("it has no contexts", !sample.contexts.is_empty())?;
        let arm = label(&sample.run.policy, sample.run.states);
        same("policy", &arm, &unit.arm)?;
        same("name", &name(self, &arm, sample.seed, &sample.contexts), &unit.name)
    }

    pub(super) fn fits(&self, sample: &Sample) -> Result<(), String> {
        let n = sample.contexts.len();
        holds(&format!("it has {n} contexts, in batches of {}", self.batch), (1..=self.batch).contains(&n))?;
        let known = |id: &ContextId| self.contexts.is_none_or(|most| id.context < most);
        holds("a context of it is none that was asked for", sample.contexts.iter().all(known))?;
        let follows = |pair: &[ContextId]| match pair[0].text == pair[1].text {
            true => pair[1].context == pair[0].context + 1,
            false => pair[1].context == 0,
        };
        holds("its contexts do not follow each other", sample.contexts.windows(2).all(follows))?;
        let run = &sample.run;
        let lists = sample.tokens.as_ref().map(Vec::len);
        same("number of lists of tokens", &lists, &self.per_token.then_some(n))?;
        run_fits(sample)?;
        match run.kind {
            Kind::Full => {
                same("policy", &run.policy[..], "full")?;
                states(None, run.states)?;
                observed(None, &run.observed)
            }
            Kind::Baseline => {
                same("policy", &run.policy[..], "baseline")?;
                holds("it is a baseline without a length", run.states.is_some_and(|length| length > 1))?;
                holds("it was compared with the full state, and is a baseline", run.divergence.is_none())?;
                observed(None, &run.observed)
            }
            Kind::Policy => {
                let fits = |budget| states(budget, run.states).is_ok();
                let asked = self.policies.iter().filter(|spec| spec.name() == run.policy);
                let asked = asked.flat_map(|spec| budgets(spec, &self.states)).any(fits);
                holds("its policy and number of states are none that were asked for", asked)?;
                holds("it was not compared with the full state", run.divergence.is_some())
            }
        }
    }

    /// All policies saw the same contexts, and predicted as many tokens.
    pub(super) fn all_fit(&self, samples: &[Sample]) -> Result<(), String> {
        let mut prefixes: BTreeMap<usize, &[u32]> = BTreeMap::new();
        let mut tokens: BTreeMap<(usize, &ContextId), usize> = BTreeMap::new();
        let mut seen: BTreeMap<(usize, String), BTreeSet<Seen<'_>>> = BTreeMap::new();
        for sample in samples {
            let arm = label(&sample.run.policy, sample.run.states);
            let prefix = *prefixes.entry(sample.model).or_insert(&sample.prefix);
            holds("contexts of a model begin with different ids", prefix == sample.prefix)?;
            let of_arm = seen.entry((sample.model, arm)).or_default();
            for (id, score) in sample.contexts.iter().zip(&sample.run.scores) {
                holds("a context is there twice", of_arm.insert((id, sample.seed)))?;
                if sample.run.kind != Kind::Baseline {
                    let before = *tokens.entry((sample.model, id)).or_insert(score.tokens);
                    holds("policies did not predict the same tokens", before == score.tokens)?;
                }
            }
        }
        let contexts = |of: &BTreeSet<Seen<'_>>| of.iter().map(|(id, _)| (*id).clone()).collect();
        let mut first: BTreeMap<usize, BTreeSet<ContextId>> = BTreeMap::new();
        for ((model, arm), of_arm) in &seen {
            let mine: BTreeSet<ContextId> = contexts(of_arm);
            let before = first.entry(*model).or_insert_with(|| mine.clone());
            holds(&format!("{arm} saw other contexts than the policies before it"), *before == mine)?;
        }
        Ok(())
    }
}

/// A value for each context.
fn run_fits(sample: &Sample) -> Result<(), String> {
    let RunSample { scores, observed, divergence, .. } = &sample.run;
    let contexts = sample.contexts.len();
    same("number of scores", &scores.len(), &contexts)?;
    finite("likelihood", &scores.iter().map(|score| score.nll).collect::<Vec<_>>())?;
    holds("a context of it predicted nothing", scores.iter().all(|score| score.tokens > 0))?;
    holds("more predictions were made under a bound than in all", observed.under_bound <= observed.predicted)?;
    for (nll, score) in sample.tokens.iter().flatten().zip(scores) {
        same("number of tokens", &nll.len(), &score.tokens)?;
        holds("a token of it is no number", nll.iter().all(|nll| nll.is_finite()))?;
    }
    let Some(divergence) = divergence else { return Ok(()) };
    same("number of divergences", &(divergence.kl.len(), divergence.agreed.len()), &(contexts, contexts))?;
    finite("divergence", &divergence.kl)?;
    let most = divergence.agreed.iter().zip(scores).all(|(&agreed, score)| agreed <= score.tokens);
    holds("it agrees in more tokens than there are", most)
}
