//! What a step is made of: each kernel a free function on tensors, with a plain twin.
//!
//! The plain twins, in `plain.rs`, are burn's operations. They run on every device, are what
//! gradients flow through, and are the definition of what a kernel computes. Where the device and
//! the dtypes have a kernel of their own it is taken instead, and differs from its twin by rounding:
//!
//! - feature `flex`, the CPU: one pass over memory instead of one per operation, weights in 16 bits or in blocks of
//!   fewer and states in 16 read as they are, all cores where there is enough to read for them;
//! - features `wgpu` and `cuda`, GPUs: steps and blocks of an attention layer without a look back at
//!   the host, and matrix products in the dtype of the weights.
//!
//! | kernel | rows | result |
//! |---|---|---|
//! | [`linear`] | few: one pass over the weights; many: matrix product | x Wᵀ + b |
//! | [`product`] | any | matrix product of activations |
//! | [`rms_norm`] | any | w · x / √(mean(x²) + ε) |
//! | [`swiglu`] | any | silu(gate) · up |
//! | [`rotate`] | any | rotary positions, rotate-half |
//! | [`log_likelihood`] | any | ln p of a token per row |
//!
//! Activations are in the [`accumulation`](crate::precision::accumulation) dtype of the weights: f32
//! for f16, bf16 and f32, else f64.

mod activations;
pub mod blocks;
mod plain;
mod stored;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) mod cube;
#[cfg(feature = "flex")]
pub(crate) mod flex;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{DType, Device, Int, Tensor};

pub use activations::Activations;
pub use blocks::Format;
pub use stored::Blocks;

use crate::precision::narrow;

static ONLY_PLAIN: AtomicBool = AtomicBool::new(false);

/// From now on this process computes with the plain twins only: for tests of them.
#[doc(hidden)]
pub fn only_plain() {
    ONLY_PLAIN.store(true, Ordering::Relaxed);
}

/// Whether kernels may be taken.
#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda"))]
pub(crate) fn allowed() -> bool {
    !ONLY_PLAIN.load(Ordering::Relaxed)
}

/// A matrix of weights, `[out, in]`, and in which form it takes what it is multiplied with.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The matrix.
    pub values: Values,
    /// What is multiplied with it.
    pub activations: Activations,
}

/// What a matrix of weights is held in, `[out, in]`.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // Tensors are large themselves, and one is made a call.
pub enum Values {
    /// Any float dtype.
    Float(Tensor<2>),
    /// Blocks that share scales.
    Blocks(Blocks),
}

impl Weight {
    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.values {
            Values::Float(weight) => weight.dims(),
            Values::Blocks(weight) => weight.dims(),
        }
    }

    /// Activations as this matrix rounds them.
    pub(crate) fn rounding(&self) -> Activations {
        match (&self.values, self.activations) {
            (Values::Blocks(_), Activations::Int8) => Activations::Int8,
            (Values::Float(weight), Activations::Bf16) if weight.dtype() == DType::BF16 => Activations::Bf16,
            _ => Activations::Float,
        }
    }

    /// Whether activations are rounded before they are multiplied with it.
    pub fn rounds(&self) -> bool {
        self.rounding() != Activations::Float
    }

    /// The values as floats.
    pub(crate) fn float(self) -> Tensor<2> {
        match self.values {
            Values::Float(weight) => weight,
            Values::Blocks(weight) => weight.dequantize(),
        }
    }
}

impl From<Tensor<2>> for Weight {
    fn from(weight: Tensor<2>) -> Self {
        Self { values: Values::Float(weight), activations: Activations::Float }
    }
}

/// A linear map: its weight `[out, in]` and its bias `[out]`.
#[derive(Clone, Debug)]
pub struct Map {
    /// `[out, in]`
    pub weight: Weight,
    /// `[out]`
    pub bias: Option<Tensor<1>>,
}

/// Several linear maps of the same rows: y = x Wᵀ + b for each. `[rows, in]` to `[rows, out]`, in
/// x's dtype.
pub fn linear<const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&x) {
        return flex::linear(x, maps);
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if allowed() && cube::is_here(&x) {
        return cube::linear(x, maps);
    }
    plain::linear(x, maps)
}

/// Matrix products of the last two dimensions, in the dtype of both: `[.., m, k]` by `[.., k, n]`.
pub fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if allowed() && cube::is_here(&lhs) {
        return cube::product(lhs, rhs);
    }
    lhs.matmul(rhs)
}

/// y = weight · x / √(mean(x²) + ε) over the last dimension (Zhang & Sennrich 2019,
/// arXiv 1910.07467). weight: `[d]`; the result is in x's dtype, the mean taken in at least f32.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&x) {
        return flex::rms_norm(x, weight, epsilon);
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if allowed() && cube::takes_tokens(&x) && cube::takes_tokens(&weight) {
        return cube::rms_norm(x, weight, epsilon);
    }
    plain::rms_norm(x, weight, epsilon)
}

/// silu(gate) · up, element by element (Shazeer 2020, arXiv 2002.05202).
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&gate) && flex::takes(&up) {
        return flex::swiglu(gate, up);
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if allowed() && cube::takes_tokens(&gate) && gate.dtype() == up.dtype() {
        return cube::swiglu(gate, up);
    }
    plain::swiglu(gate, up)
}

/// Rotates channel i of every head against channel i + head_dim/2 (Su et al. 2021,
/// arXiv 2104.09864).
///
/// x: `[batch, heads, rows, head_dim]`; cos, sin: `[batch, rows, head_dim/2]`.
pub fn rotate(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&x) && flex::takes(&cos) && flex::takes(&sin) && x.dtype() == cos.dtype() {
        return flex::rotate(x, cos, sin);
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if allowed() && cube::takes_tokens(&x) && cos.dtype() == sin.dtype() {
        return cube::rotate(x, cos, sin);
    }
    plain::rotate(x, cos, sin)
}

/// ln p of one token per row under the softmax of the row's logits, in nats, in the accumulation dtype.
///
/// logits: `[rows, vocab]`; tokens: `[rows]`, ids below `vocab`.
pub fn log_likelihood(logits: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&logits) {
        return flex::log_likelihood(logits, tokens);
    }
    plain::log_likelihood(logits, tokens)
}

/// Whether what is computed from `x` may be shared among the host's cores: elsewhere a device has an order of its own.
pub(crate) fn is_on_host<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "flex")]
    return flex::takes(x) || flex::is_narrow(x);
    #[cfg(not(feature = "flex"))]
    {
        let _ = x;
        false
    }
}

/// Runs `f`, during which the host's other cores wait for parts of what it computes there: for a token at a time, which is
/// many small steps. Elsewhere it just runs.
pub fn together<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if allowed() && matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_)) {
        // Within the pool, where what is shared with it costs less too.
        return rayon::scope(|_| flex::team::together(f));
    }
    let _ = device;
    f()
}

/// Bytes that one tensor may take on a device, where it says so: adapters for graphics have buffers of some size at most.
pub fn largest_buffer(device: &Device) -> Option<u64> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_)) {
        return Some(cube::largest_buffer(device));
    }
    let _ = device;
    None
}

/// Values of `x` in its accumulation dtype: [`widen`](crate::precision::widen), as fast as memory.
pub fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::is_narrow(&x) {
        return flex::widen(x);
    }
    crate::precision::widen(x)
}

/// Rows of a state, or weights, in the dtype that is computed in.
pub(crate) fn read<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        DType::F32 => widen(x),
        _ => narrow(x, dtype),
    }
}

/// Writes the values of `from` over those of `to` in the buffer that `to` has, whoever else holds it;
/// elsewhere than where [`Attention::captures`](crate::attention::Attention::captures) can be true, `to` may get another buffer. Same shape and dtype.
pub fn overwrite<const D: usize>(to: &mut Tensor<D, Int>, from: &Tensor<D, Int>) {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if matches!(to.device().as_dispatch(), burn::backend::DispatchDevice::Cube(_)) {
        return cube::overwrite_int(to, from);
    }
    *to = from.clone();
}
