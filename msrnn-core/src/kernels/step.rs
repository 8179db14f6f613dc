//! Tokens through an attention layer: one that is appended, attended and may make a row go; or a
//! block of which every row stays.

use burn::tensor::Tensor;

use crate::attention::{Attention, Omission};
use crate::policy::Compression;
use crate::state::MultiState;

/// [`Attention::step`], by the device's kernel where there is one.
///
/// A kernel appends and attends. It also decides and omits where the policy can score in plain
/// numbers; else it hands out the weights, and the policy decides on tensors.
pub(crate) fn step(
    attention: &Attention,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    state: &mut MultiState,
    compression: &Compression,
) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if super::allowed() && super::flex::steps(attention, &query, state) {
        let rows = state.rows_in_step();
        let (attended, weights) = super::flex::step(attention, query, key, value, state, compression);
        return match weights {
            Some(weights) => decide(attention, attended, weights, state, compression, rows),
            None => attended,
        };
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if super::allowed() && super::cube::takes(attention, &query, state) {
        let rows = state.rows_in_step();
        let decision = super::cube::decision(compression, state.shape.layer);
        let (attended, weights) = super::cube::step(attention, [query, key, value], state, decision);
        return match weights {
            Some(weights) => decide(attention, attended, weights, state, compression, rows),
            None => attended,
        };
    }
    step_plain(attention, query, key, value, state, compression)
}

/// `n` tokens at once, by the device's kernels: shapes as in [`Attention::scan`]. None where there are
/// none, or where the policy decides on tensors.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn scan(
    attention: &Attention,
    [query, key, value]: [&Tensor<4>; 3],
    state: &mut MultiState,
    compression: &Compression,
    size: usize,
) -> Option<Tensor<4>> {
    use super::cube::{self, Decision};

    let n = query.dims()[2];
    if !super::allowed() || n == 1 || !cube::takes(attention, query, state) {
        return None;
    }
    let decision = cube::decision(compression, state.shape.layer);
    if matches!(decision, Decision::Elsewhere) {
        return None;
    }
    let blocks = (0..n).step_by(size).map(|first| {
        let part = |x: &Tensor<4>| x.clone().narrow(2, first, size.min(n - first));
        cube::block(attention, [part(query), part(key), part(value)], state, decision)
    });
    Some(Tensor::cat(blocks.collect(), 2))
}

/// The plain twin.
pub(super) fn step_plain(
    attention: &Attention,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    state: &mut MultiState,
    compression: &Compression,
) -> Tensor<3> {
    let rows = state.rows_in_step();
    state.append(key, value);
    let (attended, weights) = attention.attend(query, state, rows, 0);
    decide(attention, attended, weights, state, compression, rows)
}

/// Lets the policy decide on tensors, and counts the token. What was attended becomes NaN where a row had to
/// go by scores that are not numbers: so it is seen in the logits, and nothing has to be read back for it.
fn decide(
    attention: &Attention,
    attended: Tensor<3>,
    weights: Tensor<4>,
    state: &mut MultiState,
    compression: &Compression,
    rows: usize,
) -> Tensor<3> {
    let Some(Omission { slot, unscored }) = attention.omit(weights, state, compression, rows) else {
        state.advance(None);
        return attended;
    };
    state.advance(Some(slot));
    state.note_unscored(unscored.clone());
    let [batch, heads, head_dim] = attended.dims();
    let groups = state.groups();
    let unscored = unscored.reshape([batch, groups, 1, 1]).expand([batch, groups, heads / groups, head_dim]);
    attended.mask_fill(unscored.reshape([batch, heads, head_dim]), f32::NAN)
}

/// `n` tokens none of which makes a row go, by the device's kernel; none where it has no such kernel
/// or some row may have to go. Shapes as in [`Attention::scan`].
///
/// The plain twin is what [`Attention::scan`] does otherwise.
pub(crate) fn block(
    attention: &Attention,
    [query, key, value]: [&Tensor<4>; 3],
    state: &mut MultiState,
) -> Option<Tensor<4>> {
    #[cfg(feature = "flex")]
    if super::allowed() && super::flex::takes_block(attention, query, state, query.dims()[2]) {
        return Some(super::flex::block(attention, query.clone(), key.clone(), value.clone(), state));
    }
    let _ = (attention, query, key, value, state);
    None
}
