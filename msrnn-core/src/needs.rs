//! How many states a policy needs, looked for in every layer.
//!
//! What a plan protects may depend on its layer and its k, so there is no formula for it.

use std::iter;

use crate::policy::{Layer, Policy};

/// Layers that may be named, and of the stack that is looked through.
pub const LAYERS: usize = 256;

/// More states are never looked for.
const MOST: usize = 1 << 24;

/// The only layer of a stack, and all of a deep one.
pub fn layers(states: usize) -> impl Iterator<Item = Layer> {
    let deep = (0..LAYERS).map(move |index| Layer { index, layers: LAYERS, kv_heads: 1, states });
    iter::once(Layer::only(states)).chain(deep)
}

/// By how many rows k is too low for the layer that lacks most.
pub fn lacking(policy: &dyn Policy, states: usize) -> usize {
    let lacking = |layer: Layer| {
        let plan = policy.plan(&layer);
        Some(plan.fewest_states().saturating_sub(plan.states?))
    };
    layers(states).filter_map(lacking).max().unwrap_or(0)
}

/// The lowest k with which some row may go at every cut in every layer; none where no k up to 2²⁴ is enough.
pub fn fewest_states(policy: &dyn Policy) -> Option<usize> {
    let mut states = 1_usize;
    // Most policies need a number that does not depend on k.
    for _ in 0..64 {
        match lacking(policy, states) {
            0 => return Some(states),
            more => states = states.saturating_add(more),
        }
        if states > MOST {
            return None;
        }
    }
    let mut enough = states;
    while lacking(policy, enough) > 0 {
        enough *= 2;
        if enough > MOST {
            return None;
        }
    }
    let mut too_few = states - 1;
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        match lacking(policy, middle) {
            0 => enough = middle,
            _ => too_few = middle,
        }
    }
    Some(enough)
}
