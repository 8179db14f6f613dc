//! Tokens through an attention layer: one that is appended, attended and may make rows go; or a
//! block of which every row stays.

use burn::tensor::Tensor;

#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda"))]
use super::Attended;
use super::Attention;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::blocked::Decision;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::cube;
#[cfg(feature = "flex")]
use super::flex;
#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda"))]
use crate::kernels;
use crate::state::MultiState;

/// Who is asked about a token.
#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Nobody: nothing goes, and nothing is remembered.
    Nobody,
    /// The program, of which row goes or only to be shown the token.
    Program,
    /// The rule, on tensors.
    Tensors,
}

#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda"))]
impl Asked {
    /// `merges`: whether who runs the program also merges rows.
    fn about(state: &MultiState, merges: bool) -> Self {
        let Some(bound) = &state.bound else { return Self::Nobody };
        let goes = state.any_full();
        match bound.program() {
            _ if !goes && !state.remembers() => Self::Nobody,
            // Of what is packed rows are merged on tensors.
            Some(_) if goes && bound.merges() && !(merges && state.packed.is_none()) => Self::Tensors,
            Some(_) if state.is_strict() || !goes => Self::Program,
            _ => Self::Tensors,
        }
    }

    /// Whether a kernel can see to it: it hands out no logits.
    fn suits_kernels(self, state: &MultiState) -> bool {
        self != Self::Tensors || state.bound.as_ref().is_none_or(|bound| !bound.sees().logits)
    }
}

/// [`Attention::step`], by the device's kernel where there is one.
///
/// A kernel appends and attends. It also decides and omits where the rule is a program and at most one row goes, and on
/// the host merges it into another;
/// else it hands out the weights, and the rule decides on tensors.
pub(crate) fn step(
    attention: &Attention,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    state: &mut MultiState,
) -> Tensor<3> {
    state.grow(state.rows_in_step());
    let rows = state.rows_in_step();
    #[cfg(feature = "flex")]
    if kernels::allowed()
        && flex::steps(attention, &query, state)
        && let asked = Asked::about(state, true)
        && asked.suits_kernels(state)
    {
        let decides = asked == Asked::Program;
        let (output, weights) = flex::step(attention, query, key, value, state, asked != Asked::Tensors, decides);
        return match weights {
            Some(weights) => attention.decide(Attended { output, weights, logits: None }, state, rows),
            None => output,
        };
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if kernels::allowed()
        && cube::takes_step(attention, &query, state)
        && cube::runs(state)
        && let asked = Asked::about(state, false)
        && asked.suits_kernels(state)
    {
        let bound = state.bound.clone();
        let decision = match asked {
            Asked::Nobody => Some(None),
            Asked::Program => bound.as_ref().map(|bound| {
                let goes = state.is_strict();
                attention.decision(bound, state.newest(0), goes)
            }),
            Asked::Tensors => None,
        };
        let (output, weights) = cube::step(attention, [query, key, value], state, decision);
        return match weights {
            Some(weights) => attention.decide(Attended { output, weights, logits: None }, state, rows),
            None => output,
        };
    }
    step_plain(attention, query, key, value, state, rows)
}

/// One token of a state whose heads are states of their own, none of which it makes compete, by the host's kernel for
/// all of them; none where some head needs more than that. Shapes as in [`Attention::scan`].
///
/// The plain twin is a step of every head.
pub(crate) fn heads(single: &Attention, token: [&Tensor<4>; 3], state: &mut MultiState) -> Option<Tensor<4>> {
    #[cfg(feature = "flex")]
    if token[0].dims()[2] == 1 && kernels::allowed() {
        let asked = |head: &MultiState| {
            let sees_queries = head.bound.as_ref().is_some_and(|bound| bound.sees().queries > 0);
            let asked = Asked::about(head, true);
            let alone = flex::steps(single, token[0], head) && !sees_queries && asked != Asked::Tensors;
            alone.then_some(asked == Asked::Program)
        };
        let decides: Option<Vec<bool>> = state.heads.iter().map(asked).collect();
        if let Some(decides) = decides {
            state.heads.iter_mut().for_each(|head| head.grow(head.held[0] + 1));
            let attended = flex::step_heads(single, token.map(Tensor::clone), &mut state.heads, &decides);
            state.count_in_heads(1);
            return Some(attended);
        }
    }
    let _ = (single, token, state);
    None
}

/// The plain twin.
pub(super) fn step_plain(
    attention: &Attention,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    state: &mut MultiState,
    rows: usize,
) -> Tensor<3> {
    state.append(key, value);
    let attended = attention.attend(query, state, rows, 0);
    attention.decide(attended, state, rows)
}

/// Whether steps of this state are taken by a kernel of the host.
pub(crate) fn on_host(attention: &Attention, state: &MultiState) -> bool {
    #[cfg(feature = "flex")]
    if kernels::allowed() {
        return flex::steps(attention, &state.keys, state);
    }
    let _ = (attention, state);
    false
}

/// Whether blocks in which a program decides have kernels on the device of this state.
pub(crate) fn decides(attention: &Attention, state: &MultiState) -> bool {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if kernels::allowed() {
        return cube::takes(attention, &state.keys, state) && cube::runs(state);
    }
    let _ = (attention, state);
    false
}

/// A block of tokens about which a program decides, or none, by the device's kernels: shapes as in
/// [`Attention::scan`]. None where there are none. The plain twin is `blocked.rs`.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn decide(
    attention: &Attention,
    [query, key, value]: [&Tensor<4>; 3],
    state: &mut MultiState,
    decision: Option<Decision<'_>>,
) -> Option<Tensor<4>> {
    if !kernels::allowed() || !cube::takes(attention, query, state) || !cube::runs(state) {
        return None;
    }
    Some(cube::block(attention, [query.clone(), key.clone(), value.clone()], state, decision))
}

/// `n` tokens none of which makes a row go, by the device's kernel; none where it has no such kernel.
/// Shapes as in [`Attention::scan`].
///
/// The plain twin is what [`Attention::scan`] does otherwise.
pub(crate) fn block(
    attention: &Attention,
    [query, key, value]: [&Tensor<4>; 3],
    state: &mut MultiState,
) -> Option<Tensor<4>> {
    #[cfg(feature = "flex")]
    if kernels::allowed() && query.dims()[2] > 1 && flex::takes_block(attention, query, state) {
        return Some(flex::block(attention, query.clone(), key.clone(), value.clone(), state));
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    {
        /// Queries that are attended at once: bounds the memory of their weights.
        const BLOCK: usize = 32;
        let n = query.dims()[2];
        if kernels::allowed() && cube::takes(attention, query, state) {
            let blocks = (0..n).step_by(BLOCK).map(|first| {
                let part = |x: &Tensor<4>| x.clone().narrow(2, first, BLOCK.min(n - first));
                cube::block(attention, [part(query), part(key), part(value)], state, None)
            });
            return Some(Tensor::cat(blocks.collect(), 2));
        }
    }
    let _ = (attention, query, key, value, state);
    None
}
