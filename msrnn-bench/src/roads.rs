//! Which way a policy's tokens take on a device.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use burn::tensor::{DType, Device};
use msrnn_core::attention::Attention;
use msrnn_core::attention::Road;
use msrnn_core::compression::Compression;
use msrnn_core::needs::{HEADS, fewest_states};
use msrnn_core::packing::Packing;
use msrnn_core::placement::Placement;
use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::state::MultiState;
use msrnn_models::decoder::Decoder;
use msrnn_models::error::ModelError;
use msrnn_models::placement::Renumbered;
use msrnn_models::recurrent::{Positions, Recurrent};

use crate::error::BenchError;

/// The road of a policy on a device, rows numbered as it says, or else as they came.
///
/// # Errors
///
/// When the policy cannot bound a state.
pub(crate) fn road(policy: Arc<dyn Policy>, device: &Device) -> Result<Road, BenchError> {
    let states = fewest_states(policy.as_ref(), 0).unwrap_or(0).max(8);
    let plan = policy.plan(&Layer { kv_heads: HEADS, ..Layer::only(states) });
    if plan.packs() && !device.supports_dtype(Packing::scales(DType::F32)) {
        return Err(ModelError::PackedScales(policy.name()).into());
    }
    let placement = Renumbered::of(plan.positions.unwrap_or_default(), None);
    let placement = placement.map(|placement| Arc::new(placement) as Arc<dyn Placement>);
    let compression = Compression::bounded(policy, states)?;
    let attention = Attention { heads: 2, kv_heads: 2, head_dim: 4, scale: 0.5, window: None, placement };
    let state = attention.initial_state(1, 0, 1, &compression, DType::F32, device);
    Ok(attention.road(&state))
}

/// The roads of a model's layers under a compression, each once, in words.
pub(crate) fn of(decoder: &Decoder, compression: &Compression) -> String {
    let recurrent = Recurrent::new(decoder, compression.clone(), Positions::Original);
    let states = recurrent.initial_states(1);
    let layers = recurrent.attentions().iter().zip(&states);
    let roads = layers.map(|(attention, state)| attention.road(state).to_string());
    roads.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; in other layers: ")
}

/// Says once for every policy that it goes token by token where it could go faster, and how.
pub(crate) fn warn_where_slow(recurrent: &Recurrent<'_>, states: &[MultiState]) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Some(policy) = recurrent.compression().policy() else { return };
    let mut layers = recurrent.attentions().iter().zip(states).map(|(attention, state)| attention.road(state));
    let road = layers.find(|road| matches!(road, Road::ByToken | Road::ByTokenPacked));
    if let Some(road) = road
        && TOLD.lock().is_ok_and(|mut told| told.insert(policy.name()))
    {
        tracing::warn!("{} goes {road}", policy.name());
    }
}

/// Says once for every policy that its rows take more memory packed than they would whole.
pub(crate) fn warn_where_packing_costs(decoder: &Decoder, compression: &Compression) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Some((policy, states)) = compression.planned() else { return };
    let (config, dtype) = (decoder.config(), decoder.storage().states);
    let costs = |plan: &Plan| {
        let (packing, slots) = (plan.packing?, plan.slots()?);
        let whole = 2 * slots * config.head_dim * dtype.size();
        (packing.bytes(slots, config.head_dim, dtype) > whole).then_some(packing.keys.whole())
    };
    let mut layers =
        (0..config.layers).map(|index| Layer { index, layers: config.layers, kv_heads: config.kv_heads, states });
    let costs = layers.find_map(|layer| policy.plan(&layer).parts().iter().find_map(costs));
    if let Some(whole) = costs
        && TOLD.lock().is_ok_and(|mut told| told.insert(policy.name()))
    {
        tracing::warn!(
            "{} with {states} states takes more memory than as many rows that are whole, of which there is room for {whole} beside \
             those that are packed; give more states, or fewer whole rows, as in int4(.., group=8, recent=0)",
            policy.name()
        );
    }
}
