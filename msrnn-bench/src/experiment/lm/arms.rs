//! Samples put together by policy and number of states.

use std::collections::BTreeMap;

use super::sample::{ContextId, RunSample, Sample};
use crate::error::BenchError;
use crate::evaluate::{ContextScore, Observed};
use crate::plan::Kind;

/// One policy and number of states on all contexts of a model, in their order. Under several seeds,
/// all sums are means over the seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmScores {
    /// Which kind of run it is.
    pub kind: Kind,
    /// `tova`, `full` or `baseline`.
    pub policy: String,
    /// k, or the baseline's context; none for the full state.
    pub states: Option<usize>,
    /// Seeds, 1 for what does not draw.
    pub seeds: usize,
    /// The contexts.
    pub contexts: Vec<ContextId>,
    /// One per context.
    pub scores: Vec<ContextScore>,
    /// Σ KL(full‖policy) per context.
    pub kl: Option<Vec<f64>>,
    /// Tokens with the same most probable next token as under the full state, per context.
    pub agreed: Option<Vec<f64>>,
    /// What the states were seen to hold, over all contexts and seeds.
    pub observed: Observed,
}

/// Sums over the seeds at one context.
#[derive(Default)]
struct Sums {
    seeds: usize,
    nll: f64,
    tokens: usize,
    bytes: Option<u64>,
    kl: Option<f64>,
    agreed: Option<f64>,
}

impl ArmScores {
    /// The arms of one model: the full state, baselines by length, then policies as they come.
    ///
    /// # Errors
    ///
    /// When the samples do not fit together.
    pub fn of_samples(samples: &[&Sample]) -> Result<Vec<Self>, BenchError> {
        let mut arms: Vec<(Self, BTreeMap<ContextId, Sums>)> = Vec::new();
        for sample in samples {
            let run = &sample.run;
            let same = |(arm, _): &(Self, _)| arm.policy == run.policy && arm.states == run.states;
            let at = arms.iter().position(same).unwrap_or_else(|| {
                arms.push((Self::empty(run), BTreeMap::new()));
                arms.len() - 1
            });
            let (arm, sums) = &mut arms[at];
            arm.observed.add(run.observed);
            add(sums, sample, run).ok_or_else(|| {
                BenchError::Input(format!("the samples of {} do not have one score per context", run.policy))
            })?;
        }
        arms.into_iter().map(|(arm, sums)| arm.with(sums)).collect()
    }

    fn empty(run: &RunSample) -> Self {
        Self {
            kind: run.kind,
            policy: run.policy.clone(),
            states: run.states,
            seeds: 0,
            contexts: Vec::new(),
            scores: Vec::new(),
            kl: None,
            agreed: None,
            observed: Observed::default(),
        }
    }

    fn with(self, sums: BTreeMap<ContextId, Sums>) -> Result<Self, BenchError> {
        let seeds = sums.values().next().map_or(0, |sums| sums.seeds);
        if sums.values().any(|sums| sums.seeds != seeds) {
            return Err(BenchError::Input(format!("{} was not run under every seed on every context", self.policy)));
        }
        let n = seeds as f64;
        Ok(Self {
            seeds,
            scores: sums
                .values()
                .map(|sums| ContextScore { nll: sums.nll / n, tokens: sums.tokens, bytes: sums.bytes })
                .collect(),
            kl: sums.values().map(|sums| sums.kl.map(|kl| kl / n)).collect(),
            agreed: sums.values().map(|sums| sums.agreed.map(|agreed| agreed / n)).collect(),
            contexts: sums.into_keys().collect(),
            ..self
        })
    }
}

/// None where a list is shorter than that of the contexts.
fn add(sums: &mut BTreeMap<ContextId, Sums>, sample: &Sample, run: &RunSample) -> Option<()> {
    for (index, id) in sample.contexts.iter().enumerate() {
        let score = run.scores.get(index)?;
        let sums = sums.entry(id.clone()).or_default();
        sums.seeds += 1;
        sums.nll += score.nll;
        sums.tokens = score.tokens;
        sums.bytes = score.bytes;
        if let Some(divergence) = &run.divergence {
            *sums.kl.get_or_insert(0.0) += divergence.kl.get(index)?;
            *sums.agreed.get_or_insert(0.0) += *divergence.agreed.get(index)? as f64;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::lm::sample::Divergences;

    fn sample(text: usize, seed: u64, nll: f64, agreed: usize) -> Sample {
        Sample {
            model: 0,
            prefix: vec![1],
            contexts: vec![ContextId { text, ..ContextId::default() }],
            seed: Some(seed),
            tokens: None,
            run: RunSample {
                kind: Kind::Policy,
                policy: "random".into(),
                states: Some(4),
                scores: vec![ContextScore { nll, tokens: 10, bytes: Some(20) }],
                divergence: Some(Divergences { kl: vec![nll / 10.0], agreed: vec![agreed] }),
                observed: Observed { omitted: 3, max_rows: 4, state_bytes: 64, ..Observed::default() },
            },
        }
    }

    #[test]
    fn seeds_are_averaged_per_context_and_contexts_put_in_order() {
        let samples = [sample(1, 0, 30.0, 4), sample(0, 0, 10.0, 9), sample(0, 1, 14.0, 6), sample(1, 1, 20.0, 5)];
        let arms = ArmScores::of_samples(&samples.each_ref()).unwrap();
        assert_eq!(arms.len(), 1);
        let arm = &arms[0];
        assert_eq!(arm.seeds, 2);
        let score = |nll| ContextScore { nll, tokens: 10, bytes: Some(20) };
        assert_eq!(arm.scores, [score(12.0), score(25.0)]);
        assert_eq!(arm.agreed.as_deref(), Some(&[7.5, 4.5][..]));
        assert_eq!(arm.kl.as_deref(), Some(&[1.2, 2.5][..]));
        assert_eq!(arm.observed, Observed { omitted: 12, max_rows: 4, state_bytes: 64, ..Observed::default() });
    }

    #[test]
    fn samples_that_do_not_fit_together_are_refused() {
        let samples = [sample(0, 0, 10.0, 9), sample(0, 1, 14.0, 6), sample(1, 1, 20.0, 5)];
        let error = ArmScores::of_samples(&samples.each_ref()).unwrap_err().to_string();
        assert!(error.contains("every seed"), "{error}");
        let mut short = sample(0, 0, 10.0, 9);
        short.run.scores.clear();
        let error = ArmScores::of_samples(&[&short]).unwrap_err().to_string();
        assert!(error.contains("one score per context"), "{error}");
    }
}
