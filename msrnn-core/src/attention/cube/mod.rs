//! Steps and blocks on GPUs: a step is four launches, a block of tokens two products with the states, one pass over
//! scalars, and two products. Nothing is read back in either. Which row goes is decided on the device where the policy's
//! score is a program ([`score`](crate::score)); tensor code is shown tensors.

mod attend;
mod block;
mod packed;
mod score;
mod step;
mod take_in;

use burn::tensor::{DType, Tensor};

use super::Attention;
use crate::kernels::cube::access::{is_here, is_read};
use crate::state::MultiState;

pub(super) use block::block;
pub(super) use step::step;

/// Whether steps and blocks of this query and state can be taken: rows where the model put them, not packed, on a device
/// that runs the kernels.
pub(super) fn takes<const D: usize>(attention: &Attention, query: &Tensor<D>, state: &MultiState) -> bool {
    state.packed.is_none() && takes_step(attention, query, state)
}

/// The same of steps alone, for which rows may be packed.
pub(super) fn takes_step<const D: usize>(attention: &Attention, query: &Tensor<D>, state: &MultiState) -> bool {
    attention.placement.is_none()
        && state.packed.as_ref().is_none_or(|packed| packed::reads(packed, state))
        && is_here(query)
        && is_read(query)
        && is_here(&state.keys)
        && is_read(&state.keys)
        && state.positions.dtype() == DType::I32
}

/// Whether the program of a state, if it has one, can be run in kernels.
pub(super) fn runs(state: &MultiState) -> bool {
    let program = state.bound.as_ref().and_then(|bound| bound.program());
    program.is_none_or(|program| score::Steps::of(program).is_some())
}
