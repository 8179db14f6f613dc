//! Accumulation in at least 32 bits.
//!
//! Softmax weights, norms and what a policy is shown are computed in f32 for f16, bf16 and f32
//! models, and in f64 for f64 models. The authors' code rounds the weights back to the model's
//! dtype before it averages them, so that ties become common in 16 bits; here they stay wide.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, activation};

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

/// Whether every value is a number that is not infinite. Reads one value back.
pub(crate) fn is_finite<const D: usize>(x: Tensor<D>) -> bool {
    x.is_finite().all().into_scalar::<bool>()
}

/// Softmax over the last dimension, computed and returned in the [`accumulation`] dtype.
pub fn softmax<const D: usize>(logits: Tensor<D>) -> Tensor<D> {
    activation::softmax(widen(logits), D - 1)
}

/// Whether a device computes in a float dtype: it offers it, and its exponentials are those of that
/// dtype. Some drivers offer f64 and take exponentials of it as of something narrower.
pub fn computes_in(device: &Device, dtype: DType) -> bool {
    if !device.supports_dtype(dtype) {
        return false;
    }
    let epsilon = match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => return false,
    };
    let x = [0.0, 1.0, -2.0, 0.75];
    let found = Tensor::<1>::from_data(TensorData::from(x), (device, dtype)).exp().into_data().convert::<f64>();
    let near = |(x, found): (f64, &f64)| (found / x.exp() - 1.0).abs() <= 16.0 * epsilon;
    found.as_slice::<f64>().is_ok_and(|found| x.into_iter().zip(found).all(near))
}
