//! Kernels for GPUs, in CubeCL: one source for wgpu and CUDA.
//!
//! With them a step of an attention layer is three launches, a block of tokens two products with the
//! states, one pass over scalars, and two products, and nothing is read back in either. Which row goes
//! is decided on the device where the policy's score is a program ([`score`](crate::score)); tensor code is shown
//! tensors.

mod access;
mod block;
mod elementwise;
mod overwrite;
mod product;
mod reduce;
mod score;
mod step;
mod take_in;

use burn::tensor::{DType, Int, Tensor};

use crate::kernels::Map;
use crate::precision::narrow;

use crate::attention::Attention;
use crate::state::MultiState;

pub(super) use access::is_here;
use access::is_read;
pub(super) use block::block;
pub(super) use elementwise::{rms_norm, rotate, swiglu};
pub(super) use product::product;
pub(super) use step::step;

/// Whether steps and blocks of this query and state can be taken: rows where the model put them, on
/// a device that runs the kernels.
pub(super) fn takes<const D: usize>(attention: &Attention, query: &Tensor<D>, state: &MultiState) -> bool {
    attention.placement.is_none()
        && state.packed.is_none()
        && is_here(query)
        && is_read(query)
        && is_here(&state.keys)
        && is_read(&state.keys)
        && state.positions.dtype() == DType::I32
}

/// Whether `x` is one that the token-wise kernels compute with.
pub(super) fn takes_tokens<const D: usize>(x: &Tensor<D>) -> bool {
    is_here(x) && is_read(x) && x.shape().num_elements() > 0
}

/// Whether the program of a state, if it has one, can be run in kernels.
pub(super) fn runs(state: &MultiState) -> bool {
    let program = state.bound.as_ref().and_then(|bound| bound.program());
    program.is_none_or(|program| score::Steps::of(program).is_some())
}

/// Writes the values of `from` over those of `to`, in the same buffer.
pub(super) fn overwrite<const D: usize>(to: &Tensor<D>, from: &Tensor<D>) {
    overwrite::overwrite(&access::read(to.clone()), &access::read(from.clone()));
}

/// As [`overwrite`], of integers.
pub(super) fn overwrite_int<const D: usize>(to: &Tensor<D, Int>, from: &Tensor<D, Int>) {
    overwrite::overwrite(&access::read_int(to.clone()), &access::read_int(from.clone()));
}

/// Linear maps, multiplied in the dtype of the weights, as GPUs are fast at; the result in x's.
pub(super) fn linear<const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    let dtype = x.dtype();
    maps.map(|Map { weight, bias }| {
        let weight = weight.float();
        let [output, _] = weight.dims();
        let y = narrow(product(narrow(x.clone(), weight.dtype()), weight.transpose()), dtype);
        match bias {
            Some(bias) => y + narrow(bias, dtype).reshape([1, output]),
            None => y,
        }
    })
}
