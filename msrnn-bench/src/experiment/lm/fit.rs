//! What samples of language modelling look like.

use std::collections::BTreeSet;

use super::sample::{ContextId, RunSample, Sample};
use super::{Lm, Task};
use crate::experiment::fit::{budgets, finite, holds, model, observed, same, states};
use crate::experiment::manifest::Source;
use crate::plan::Kind;

impl Lm {
    pub(super) fn fits(&self, models: &[Source], unit: usize, name: &str, sample: &Sample) -> Result<(), String> {
        let tasks = self.tasks();
        let task = &tasks[unit % tasks.len()];
        let asked =
            self.models.get(sample.model).ok_or_else(|| format!("it has no model numbered {}", sample.model))?;
        same("model", &asked.name[..], model(models, sample.model)?)?;
        self.contexts_fit(sample)?;
        let (what, seed) = match *task {
            Task::References => ("full and baselines".to_owned(), None),
            Task::Policy(policy, None) => (self.policies[policy].to_string(), None),
            Task::Policy(policy, Some(seed)) => (format!("{}, seed {seed}", self.policies[policy]), Some(seed)),
        };
        same("seed", &sample.seed, &seed)?;
        let name_of = |id: &ContextId| format!("{}, context {}", self.texts[id.text], id.context);
        let contexts = match &sample.contexts[..] {
            [one] => name_of(one),
            ids => format!("{} contexts from {}", ids.len(), name_of(&ids[0])),
        };
        same("name", name, &format!("{}: {what}, {contexts}", asked.name))?;
        match *task {
            Task::References => self.references_fit(sample),
            Task::Policy(policy, _) => {
                let spec = &self.policies[policy];
                let asked = budgets(spec, &self.states);
                same("number of runs", &sample.runs.len(), &asked.len())?;
                for (run, &budget) in sample.runs.iter().zip(&asked) {
                    same("kind", &run.kind, &Kind::Policy)?;
                    same("policy", &run.policy, &spec.name())?;
                    states(budget, run.states)?;
                    holds("it was not compared with the full state", run.divergence.is_some())?;
                    run_fits(sample, run)?;
                }
                Ok(())
            }
        }
    }

    fn contexts_fit(&self, sample: &Sample) -> Result<(), String> {
        let n = sample.contexts.len();
        holds(&format!("it has {n} contexts, in batches of {}", self.batch), (1..=self.batch).contains(&n))?;
        let known = |id: &ContextId| id.text < self.texts.len() && self.contexts.is_none_or(|most| id.context < most);
        holds("a context of it is none that was asked for", sample.contexts.iter().all(known))
    }

    fn references_fit(&self, sample: &Sample) -> Result<(), String> {
        let [full, baselines @ ..] = &sample.runs[..] else { return Err("it has no run of the full state".into()) };
        same("kind", &full.kind, &Kind::Full)?;
        same("policy", &full.policy[..], "full")?;
        states(None, full.states)?;
        observed(None, &full.observed)?;
        let most: usize = self.policies.iter().map(|spec| budgets(spec, &self.states).len()).sum();
        holds("it has more baselines than there are numbers of states", baselines.len() <= most)?;
        holds(
            "its baselines are not one for each number of states",
            baselines.is_sorted_by(|a, b| a.states < b.states),
        )?;
        for run in &sample.runs {
            holds("its references were compared with themselves", run.divergence.is_none())?;
            run_fits(sample, run)?;
        }
        for run in baselines {
            same("kind", &run.kind, &Kind::Baseline)?;
            same("policy", &run.policy[..], "baseline")?;
            holds("it has a baseline without a length", run.states.is_some_and(|length| length > 1))?;
            observed(None, &run.observed)?;
        }
        Ok(())
    }

    /// Batches follow each other; all policies saw the same, and predicted as many tokens.
    pub(super) fn all_fit(&self, samples: &[Sample]) -> Result<(), String> {
        let tasks = self.tasks();
        holds("some policy is missing on the last contexts", samples.len().is_multiple_of(tasks.len()))?;
        let mut before: Option<(usize, ContextId)> = None;
        for (group, of_group) in samples.chunks(tasks.len()).enumerate() {
            let first = &of_group[0];
            let at =
                |text: String| format!("units {} to {}: {text}", group * tasks.len(), (group + 1) * tasks.len() - 1);
            for sample in of_group {
                let of = |s: &Sample| (s.model, s.prefix.clone(), s.contexts.clone());
                holds(&at("they are not of the same contexts".into()), of(sample) == of(first))?;
                let tokens = |run: &RunSample| run.scores.iter().map(|score| score.tokens).collect::<Vec<_>>();
                let bounded = sample.runs.iter().filter(|run| run.kind == Kind::Policy);
                holds(
                    &at("they did not predict the same tokens".into()),
                    bounded.clone().all(|run| tokens(run) == tokens(&first.runs[0])),
                )?;
            }
            let runs = of_group.iter().flat_map(|sample| &sample.runs);
            let bounds = runs.filter(|run| run.kind == Kind::Policy).filter_map(|run| run.states).filter(|&k| k > 1);
            let bounds: BTreeSet<usize> = bounds.collect();
            let baselines = first.runs.iter().filter(|run| run.kind == Kind::Baseline).filter_map(|run| run.states);
            holds(&at("its baselines are not one for each number of states".into()), baselines.eq(bounds))?;
            let mut contexts = first.contexts.iter().map(|&id| (first.model, id));
            let follows = |next: (usize, ContextId), before: Option<(usize, ContextId)>| match before {
                None => next.0 == 0,
                Some(before) => {
                    let (model, id) = next;
                    match (model == before.0, id.text == before.1.text) {
                        (true, true) => id.context == before.1.context + 1,
                        (true, false) => id.text > before.1.text && id.context == 0,
                        (false, _) => model == before.0 + 1 && id.context == 0,
                    }
                }
            };
            let in_order = contexts.all(|next| {
                let follows = follows(next, before);
                before = Some(next);
                follows
            });
            holds(&at("their contexts do not follow those before them".into()), in_order)?;
        }
        let last = before.map_or(0, |(model, _)| model + 1);
        holds(&format!("there are samples of {last} models, of {}", self.models.len()), last == self.models.len())
    }
}

/// A value for each context.
fn run_fits(sample: &Sample, run: &RunSample) -> Result<(), String> {
    let contexts = sample.contexts.len();
    same("number of scores", &run.scores.len(), &contexts)?;
    finite("likelihood", &run.scores.iter().map(|score| score.nll).collect::<Vec<_>>())?;
    holds("a context of it predicted nothing", run.scores.iter().all(|score| score.tokens > 0))?;
    holds("more predictions were made under a bound than in all", run.observed.under_bound <= run.observed.predicted)?;
    let Some(divergence) = &run.divergence else { return Ok(()) };
    same("number of divergences", &(divergence.kl.len(), divergence.agreed.len()), &(contexts, contexts))?;
    finite("divergence", &divergence.kl)?;
    let most = divergence.agreed.iter().zip(&run.scores).all(|(&agreed, score)| agreed <= score.tokens);
    holds("it agrees in more tokens than there are", most)
}
