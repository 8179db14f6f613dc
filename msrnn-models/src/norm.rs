//! Root-mean-square normalisation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use msrnn_core::kernels;

/// y = w · x / √(mean(x²) + ε) over the last dimension, the mean taken in at least f32
/// (Zhang & Sennrich 2019, arXiv 1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[d]`
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) epsilon: f64,
}

impl RmsNorm {
    /// Normalises the last dimension of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        kernels::rms_norm(x, self.weight.val(), self.epsilon)
    }
}
