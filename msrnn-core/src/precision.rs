//! Accumulation in at least 32 bits.
//!
//! Softmax weights, norms and what a policy is shown are computed in f32 for f16, bf16 and f32
//! models, and in f64 for f64 models. The authors' code rounds the weights back to the model's
//! dtype before it averages them, so that ties become common in 16 bits; here they stay wide.

use burn::tensor::{DType, FloatDType, Tensor, activation};

use crate::kernels;

/// The dtype in which sums over values of `dtype` are taken: f64 for f64, else f32.
pub fn accumulation(dtype: DType) -> FloatDType {
    match dtype {
        DType::F64 => FloatDType::F64,
        _ => FloatDType::F32,
    }
}

/// `x` in its [`accumulation`] dtype.
pub fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dtype = accumulation(x.dtype());
    x.cast(dtype)
}

/// `x` in the dtype of `like`.
pub fn narrow<const D: usize>(x: Tensor<D>, like: DType) -> Tensor<D> {
    if x.dtype() == like { x } else { x.cast(like) }
}

/// Rows of a state, or weights, in the dtype that is computed in.
pub(crate) fn read<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        DType::F32 => kernels::widen(x),
        _ => narrow(x, dtype),
    }
}

/// Softmax over the last dimension, computed and returned in the [`accumulation`] dtype.
pub fn softmax<const D: usize>(logits: Tensor<D>) -> Tensor<D> {
    activation::softmax(widen(logits), D - 1)
}
