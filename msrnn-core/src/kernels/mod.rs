//! What a step is made of: each kernel a free function on tensors, with a plain twin.
//!
//! The plain twins, in `plain.rs`, are burn's operations. They run on every device, are what
//! gradients flow through, and are the definition of what a kernel computes. Where the device and
//! the dtypes have a kernel of their own it is taken instead, and differs from its twin by rounding:
//!
//! - feature `flex`, the CPU: one pass over memory instead of one per operation, 16-bit weights and
//!   states read as they are, all cores where there is enough to read for them.
//!
//! | kernel | rows | result |
//! |---|---|---|
//! | [`linear`] | few: one pass over the weights; many: matrix product | x Wᵀ + b |
//! | [`rms_norm`] | any | w · x / √(mean(x²) + ε) |
//! | [`swiglu`] | any | silu(gate) · up |
//! | [`rotate`] | any | rotary positions, rotate-half |
//! | step of an attention layer | one per batch row | append, attend, omit in place |
//! | block of an attention layer | any, all of which stay | append and causal attention |
//!
//! Activations are in the [`accumulation`](crate::precision::accumulation) dtype of the weights: f32
//! for f16, bf16 and f32, else f64.

mod plain;
mod step;

#[cfg(feature = "flex")]
mod flex;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;

pub(crate) use step::{block, step};

static ONLY_PLAIN: AtomicBool = AtomicBool::new(false);

/// From now on this process computes with the plain twins only: for tests of them.
#[doc(hidden)]
pub fn only_plain() {
    ONLY_PLAIN.store(true, Ordering::Relaxed);
}

/// Whether kernels may be taken.
#[cfg(feature = "flex")]
fn allowed() -> bool {
    !ONLY_PLAIN.load(Ordering::Relaxed)
}

/// A linear map: its weight `[out, in]` in any float dtype, and its bias `[out]`.
#[derive(Clone, Debug)]
pub struct Map {
    /// `[out, in]`
    pub weight: Tensor<2>,
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
    plain::linear(x, maps)
}

/// y = weight · x / √(mean(x²) + ε) over the last dimension (Zhang & Sennrich 2019,
/// arXiv 1910.07467). weight: `[d]`; the result is in x's dtype, the mean taken in at least f32.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&x) {
        return flex::rms_norm(x, weight, epsilon);
    }
    plain::rms_norm(x, weight, epsilon)
}

/// silu(gate) · up, element by element (Shazeer 2020, arXiv 2002.05202).
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::takes(&gate) && flex::takes(&up) {
        return flex::swiglu(gate, up);
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
    plain::rotate(x, cos, sin)
}

/// Values of `x` in its accumulation dtype: [`widen`](crate::precision::widen), as fast as memory.
pub fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if allowed() && flex::is_narrow(&x) {
        return flex::widen(x);
    }
    crate::precision::widen(x)
}
