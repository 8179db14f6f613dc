//! Kernels for GPUs, in CubeCL: one source for wgpu and CUDA.
//!
//! What is done to every token by itself, and what kernels of whole steps (`attention/cube`) are made of.

pub(crate) mod access;
mod elementwise;
mod overwrite;
mod product;
pub(crate) mod reduce;

use burn::tensor::{Device, Int, Tensor};

use crate::kernels::Map;
use crate::precision::narrow;

pub(crate) use access::is_here;
use access::is_read;
pub(super) use elementwise::{rms_norm, rotate, swiglu};
pub(crate) use product::product;

/// Whether `x` is one that the token-wise kernels compute with.
pub(super) fn takes_tokens<const D: usize>(x: &Tensor<D>) -> bool {
    is_here(x) && is_read(x) && x.shape().num_elements() > 0
}

/// Bytes of the largest buffer that a device gives out.
pub(super) fn largest_buffer(device: &Device) -> u64 {
    access::read(Tensor::<1>::zeros([1], device)).client.properties().memory.max_page_size
}

/// Writes the values of `from` over those of `to`, in the same buffer.
pub(crate) fn overwrite<const D: usize>(to: &Tensor<D>, from: &Tensor<D>) {
    overwrite::overwrite(&access::read(to.clone()), &access::read(from.clone()));
}

/// As [`overwrite`], of integers.
pub(crate) fn overwrite_int<const D: usize>(to: &Tensor<D, Int>, from: &Tensor<D, Int>) {
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
