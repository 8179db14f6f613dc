//! What is asked of a policy in all of its layers.

use msrnn_core::compression::Compression;
use msrnn_core::needs;
use msrnn_core::placement::Positions;
use msrnn_core::policy::{Cut, Layer, Plan, Policy};

/// Layers that may be named, and of the stack that is looked through.
pub(crate) const LAYERS: usize = 256;

fn layers(states: usize) -> impl Iterator<Item = Layer> {
    needs::layers(states, LAYERS)
}

/// By how many rows k is too low for the layer that lacks most.
pub(crate) fn lacking(policy: &dyn Policy, states: usize) -> usize {
    needs::lacking(policy, states, LAYERS)
}

/// The lowest k that is enough in every layer.
pub(crate) fn fewest_states(policy: &dyn Policy) -> Option<usize> {
    needs::fewest_states(policy, LAYERS)
}

/// Whether rows go in some layer.
pub(crate) fn omits(policy: &dyn Policy) -> bool {
    layers(fewest_states(policy).unwrap_or(1))
        .any(|layer| policy.plan(&layer).parts().iter().any(|part| part.states.is_some()))
}

/// Whether it says in some layer how rows are numbered.
pub(crate) fn says_positions(policy: &dyn Policy) -> bool {
    layers(fewest_states(policy).unwrap_or(1)).any(|layer| policy.plan(&layer).positions.is_some())
}

/// Whether rows are attended as they came in every layer: not merged, not rounded, rotated by original positions.
pub(crate) fn leaves_rows(policy: &dyn Policy) -> bool {
    layers(fewest_states(policy).unwrap_or(1)).all(|layer| {
        let plan = policy.plan(&layer);
        let original = plan.positions.is_none_or(|positions| positions == Positions::Original);
        original && !plan.packs() && !plan.rewrites()
    })
}

/// Whether rows are packed in some layer.
pub(crate) fn packs(policy: &dyn Policy) -> bool {
    layers(fewest_states(policy).unwrap_or(1)).any(|layer| policy.plan(&layer).packs())
}

/// What is wrong with how rows are to be packed in some layer.
pub(crate) fn check_packed(policy: &dyn Policy) -> Result<(), msrnn_core::Error> {
    layers(fewest_states(policy).unwrap_or(1)).try_for_each(|layer| policy.plan(&layer).check_packing(policy))
}

/// Whether a bounded plan can be carried out in every layer.
pub(crate) fn check(compression: &Compression) -> Result<(), msrnn_core::Error> {
    let Some((policy, states)) = compression.planned() else { return Ok(()) };
    layers(states).try_for_each(|layer| policy.plan(&layer).check(policy, &layer))
}

/// Whether every layer has k rows and loses one at every token.
pub(crate) fn is_one_in_one_out(policy: &dyn Policy) -> bool {
    let states = fewest_states(policy).unwrap_or(1) + 100;
    layers(states).all(|layer| {
        let plan = policy.plan(&layer);
        plan.parts().iter().all(|part| (part.states, part.cut) == (Some(states), Cut::EVERY_TOKEN))
    })
}

/// How many rows may be held above k; none where states grow.
pub(crate) fn above(policy: &dyn Policy) -> Option<usize> {
    let above = |layer| {
        let of_part = |part: &Plan| match (part.states, part.cut) {
            (Some(_), Cut::Every(n)) => Some(n),
            _ => None,
        };
        policy.plan(&layer).parts().iter().map(of_part).try_fold(1, |most, above| Some(most.max(above?)))
    };
    layers(1).map(above).try_fold(1, |most, above| Some(most.max(above?)))
}
