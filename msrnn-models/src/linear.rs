//! A linear map.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use msrnn_core::kernels::{self, Map};

use crate::matrix::Matrix;

/// y = x Wᵀ + b.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Matrix,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Applies the map to the last dimension: `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [y] = forward(x, [self]);
        y
    }

    /// What the kernel takes.
    fn map(&self) -> Map {
        Map { weight: self.weight.weight(), bias: self.bias.as_ref().map(Param::val) }
    }
}

/// Several maps of the last dimension of the same `x`, in one go: `[.., in]` to `[.., out]` each.
pub fn forward<const D: usize, const N: usize>(x: Tensor<D>, maps: [&Linear; N]) -> [Tensor<D>; N] {
    let mut dims = x.dims();
    let rows: usize = dims[..D - 1].iter().product();
    let x = x.reshape([rows, dims[D - 1]]);
    kernels::linear(x, maps.map(Linear::map)).map(|y| {
        dims[D - 1] = y.dims()[1];
        y.reshape(dims)
    })
}
