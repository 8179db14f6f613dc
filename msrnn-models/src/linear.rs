//! A linear map with its weight as Hugging Face stores it.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// y = x Wᵀ + b, with `weight` of shape `[out, in]` as in the checkpoint: it is never transposed
/// in memory, only read through a transposed view.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Applies the map to the last dimension: `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut dims = x.dims();
        let [output, input] = self.weight.dims();
        let rows: usize = dims[..D - 1].iter().product();
        let mut y = x.reshape([rows, input]).matmul(self.weight.val().transpose());
        if let Some(bias) = &self.bias {
            y = y + bias.val().reshape([1, output]);
        }
        dims[D - 1] = output;
        y.reshape(dims)
    }
}
