//! The laws on what this crate itself provides: the unbounded state, and policies of both levels
//! that use everything the contract offers.

#[path = "policies/merging.rs"]
mod merging_policy;
#[path = "policies/norms.rs"]
mod norms_policy;
#[path = "policies/observing.rs"]
mod observing_policy;
#[path = "policies/planned.rs"]
mod planned;

use std::sync::Arc;

use burn::tensor::Device;
use merging_policy::Merging;
use msrnn_core::policy::{Cut, Plan, Policy};
use msrnn_core::score::{age, key_norm, logit, max_weight, number, weight};
use msrnn_core::{laws, policy_laws};
use norms_policy::{Norms, NormsOfTensors};
use observing_policy::Observing;
use planned::Planned;

#[test]
fn unbounded_state_equals_vanilla_attention() {
    under_law(());
    laws::unbounded_state_equals_vanilla_attention(&Device::default());
}

/// `laws_plain.rs` includes this file to put the plain twins of the kernels through the laws.
fn under_law<P>(policy: P) -> P {
    if module_path!().starts_with("laws_plain") {
        msrnn_core::kernels::only_plain();
    }
    policy
}

/// Looks at what no other policy here does, and protects rows.
const LOGITS: Planned = Planned("logits", |layer| {
    let score = logit() * number(0.1) + max_weight() - key_norm() / (age() + number(2.0));
    Plan::by_score(layer, score).protecting(1, 1)
});
/// A weight now, cut every three tokens.
const EVERY_THREE: Planned = Planned("every-three", |layer| Plan::by_score(layer, weight()).cut(Cut::Every(3)));
/// What remembers, cut every four tokens, head by head.
const EVERY_FOUR: Planned = Planned("every-four", |layer| Norms.plan(layer).cut(Cut::Every(4)));
/// What remembers, in tensor code, cut every two tokens.
const EVERY_TWO: Planned = Planned("every-two", |layer| NormsOfTensors.plan(layer).cut(Cut::Every(2)));
/// Only the end of a prompt cuts.
const AFTER_PROMPT: Planned = Planned("after-prompt", |layer| Norms.plan(layer).cut(Cut::AfterPrompt));

/// Heads compete every three tokens.
const POOLED: Planned = Planned("pooled", |layer| Plan::by_score(layer, weight()).pooled(0.3).cut(Cut::Every(3)));
/// What remembers, with nothing safe.
const POOLED_MEMORY: Planned =
    Planned("pooled-memory", |layer| Norms.plan(layer).pooled(0.0).protecting(1, 0).cut(Cut::Every(2)));
/// By the latest queries, once after the prompt.
const POOLED_PROMPT: Planned =
    Planned("pooled-prompt", |layer| Observing.plan(layer).pooled(0.2).cut(Cut::AfterPrompt));

/// Puts policies through the laws, and keeps a list of them.
macro_rules! under_laws {
    ($($module:ident: $policy:expr),* $(,)?) => {
        $(policy_laws!($module, under_law($policy));)*

        #[test]
        fn what_the_laws_skip_is_written_down() {
            let policies: Vec<Arc<dyn Policy>> = vec![$(Arc::new($policy)),*];
            laws::skips_are_written_down(policies, include_str!("laws_skipped.txt"));
        }
    };
}

under_laws! {
    norms: Norms,
    pooled: POOLED,
    pooled_memory: POOLED_MEMORY,
    pooled_prompt: POOLED_PROMPT,
    norms_of_tensors: NormsOfTensors,
    logits: LOGITS,
    every_three: EVERY_THREE,
    every_four: EVERY_FOUR,
    every_two: EVERY_TWO,
    after_prompt: AFTER_PROMPT,
    observing: Observing,
    merging: Merging,
}
