//! How many states a policy needs.
//!
//! What a plan protects may depend on its layer and its k, so there is no formula for it. `deep`: how many layers of a
//! deep stack are asked about beside the only layer of a stack of one; a policy that is made for one model may know
//! nothing of others, for which it is 0.

use std::iter;

use crate::policy::{Layer, Plan, Policy};

/// KV heads of the layers that are asked about: as many as may be named.
pub const HEADS: usize = 64;

/// More states are never looked for.
const MOST: usize = 1 << 24;

/// The only layer of a stack, and all of a deep one.
pub fn layers(states: usize, deep: usize) -> impl Iterator<Item = Layer> {
    let deep = (0..deep).map(move |index| Layer { index, layers: deep, kv_heads: HEADS, states });
    iter::once(Layer { kv_heads: HEADS, ..Layer::only(states) }).chain(deep)
}

/// By how many rows k is too low for the layer that lacks most.
pub fn lacking(policy: &dyn Policy, states: usize, deep: usize) -> usize {
    let lacking = |layer: Layer| {
        let plan = policy.plan(&layer);
        let of_part = |part: &Plan| Some(part.fewest_states().saturating_sub(part.states?));
        plan.parts().iter().filter_map(of_part).max()
    };
    layers(states, deep).filter_map(lacking).max().unwrap_or(0)
}

/// The lowest k with which some row may go at every cut in every layer; none where no k up to 2²⁴ is enough.
pub fn fewest_states(policy: &dyn Policy, deep: usize) -> Option<usize> {
    let mut states = 1_usize;
    // Most policies need a number that does not depend on k.
    for _ in 0..64 {
        match lacking(policy, states, deep) {
            0 => return Some(states),
            more => states = states.saturating_add(more),
        }
        if states > MOST {
            return None;
        }
    }
    let mut enough = states;
    while lacking(policy, enough, deep) > 0 {
        enough *= 2;
        if enough > MOST {
            return None;
        }
    }
    let mut too_few = states - 1;
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        match lacking(policy, middle, deep) {
            0 => enough = middle,
            _ => too_few = middle,
        }
    }
    Some(enough)
}
