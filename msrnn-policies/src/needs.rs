//! What is asked of a policy in all of its layers.

use msrnn_core::needs::{fewest_states, layers};
use msrnn_core::policy::{Cut, Policy};

/// Whether every layer has k rows and loses one at every token.
pub(crate) fn is_one_in_one_out(policy: &dyn Policy) -> bool {
    let states = fewest_states(policy).unwrap_or(1) + 100;
    layers(states).all(|layer| {
        let plan = policy.plan(&layer);
        (plan.states, plan.cut) == (Some(states), Cut::EVERY_TOKEN)
    })
}

/// How many rows may be held above k; none where states grow.
pub(crate) fn above(policy: &dyn Policy) -> Option<usize> {
    let above = |layer| {
        let plan = policy.plan(&layer);
        match (plan.states, plan.cut) {
            (Some(_), Cut::Every(n)) => Some(n),
            _ => None,
        }
    };
    layers(1).map(above).try_fold(1, |most, above| Some(most.max(above?)))
}
