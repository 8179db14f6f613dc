//! Policies with their bounds, as an experiment compares them.

use burn::tensor::{Int, Tensor};
use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_core::needs::HEADS;
use msrnn_core::policy::{Cut, Layer, Plan, Policy};
use msrnn_policies::PolicySpec;

use crate::error::BenchError;
use crate::experiment::models::Models;

/// The full state, then every policy under every bound; policies that name a bound have only that.
pub(crate) fn arms(policies: &[PolicySpec], states: &[Budget]) -> Vec<PolicySpec> {
    let bounded = policies.iter().filter(|spec| !spec.is_full()).flat_map(|spec| match spec.budget() {
        Some(_) => vec![spec.clone()],
        None if spec.keeps_all() => vec![spec.clone()],
        None => states.iter().map(|&budget| spec.with_budget(budget)).collect(),
    });
    let mut arms = vec![PolicySpec::full()];
    for arm in bounded {
        if !arms.contains(&arm) {
            arms.push(arm);
        }
    }
    arms
}

/// The same policies as they compress a context of which nobody knows yet what will be asked about it: cut once, after
/// it, and never by what comes later. `full`, and a policy that does so by itself, stay as they are.
///
/// # Errors
///
/// When a policy cannot be cut once.
pub(crate) fn asked_after(policies: &[PolicySpec]) -> Result<Vec<PolicySpec>, BenchError> {
    let once = |spec: &PolicySpec| {
        let Some(policy) = spec.policy() else { return Ok(spec.clone()) };
        // As any layer of a stack has it; those of one that differ are said by `layers(..)` and `heads(..)`.
        let by_itself = |index| policy.plan(&Layer { index, layers: 4, kv_heads: HEADS, states: 4096 });
        let once = |part: &Plan| part.states.is_none() || part.cut == Cut::AfterPrompt;
        if (0..4).map(by_itself).all(|plan| plan.parts().iter().all(once)) {
            return Ok(spec.clone());
        }
        let once: PolicySpec = format!("after-prompt({})", spec.name()).parse()?;
        Ok(spec.budget().map_or_else(|| once.clone(), |budget| once.with_budget(budget)))
    };
    policies.iter().map(once).collect()
}

/// Whether a setting leaves something at its default, which is then not written.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn is_off(on: &bool) -> bool {
    !on
}

/// Whether an arm without a bound is the full state, as where all others are told by their numbers of states.
///
/// # Errors
///
/// When it keeps all and holds rows otherwise.
pub(crate) fn bounded_or_full(spec: &PolicySpec) -> Result<(), BenchError> {
    match spec.is_full() {
        true => Ok(()),
        false => Err(BenchError::Input(format!(
            "{spec} keeps every state, and here policies are told by their numbers of states; bound it, as in int4(tova), or \
             compare it with msrnn compare"
        ))),
    }
}

/// An arm on a model, before the model is opened.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// The policy with its number of states.
    pub compression: Compression,
    /// Bytes of the states of all layers after that many tokens, the free slot included.
    pub state_bytes: usize,
}

impl Bound {
    /// The arm on the model of that index, for contexts of `context` tokens.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be read, or the policy cannot have its budget.
    pub(crate) fn new(spec: &PolicySpec, models: &Models, model: usize, context: usize) -> Result<Self, BenchError> {
        let config = models.config(model)?;
        let device = models.device().open()?;
        let storage = models.precision().on(&device, models.device())?;
        let int = Tensor::<1, Int>::zeros([1], &device).dtype().size();
        let bytes = |policy: Option<&dyn Policy>| storage.bytes_per_state(&config, policy, int);
        let compression = spec.compression(context, |policy| bytes(Some(policy)))?;
        compression.check_named(config.layers, config.kv_heads)?;
        let state_bytes = storage.state_bytes(&config, compression.planned(), context, int);
        Ok(Self { state_bytes, compression })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_comes_first_and_nothing_twice() {
        let specs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<PolicySpec>>();
        let asked = specs(&["tova", "full", "window@8", "int8(full)", "tova@4"]);
        let found = arms(&asked, &[Budget::States(4), Budget::States(8)]);
        assert_eq!(found, specs(&["full", "tova@4", "tova@8", "window@8", "int8(full)"]));
    }

    #[test]
    fn asked_after_every_policy_cuts_once_and_one_that_does_is_left_alone() {
        let specs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<PolicySpec>>();
        let found =
            asked_after(&specs(&["full", "tova", "window+4@25%", "snapkv@8", "every(8, h2o)@16", "random:3@8"]));
        let expected = [
            "full",
            "after-prompt(tova)",
            "after-prompt(window+4)@25%",
            "snapkv@8",
            "after-prompt(every(8, h2o))@16",
            "after-prompt(random:3)@8",
        ];
        assert_eq!(found.unwrap(), specs(&expected));
    }
}
