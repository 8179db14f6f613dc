//! The plain twins: burn's operations.

use burn::tensor::{
    Int, Tensor,
    activation::{log_softmax, silu},
};

use crate::kernels::Map;
use crate::precision::{narrow, widen};

pub(super) fn linear<const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    maps.map(|Map { weight, bias }| {
        let output = weight.dims()[0];
        let y = weight.rounding().seen_of(x.clone()).matmul(narrow(weight.float(), x.dtype()).transpose());
        match bias {
            Some(bias) => y + narrow(bias, x.dtype()).reshape([1, output]),
            None => y,
        }
    })
}

pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let wide = widen(x);
    let scale = (wide.clone() * wide.clone()).mean_dim(D - 1).add_scalar(epsilon).sqrt();
    narrow(wide / scale, dtype) * narrow(weight, dtype).unsqueeze()
}

pub(super) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

pub(super) fn rotate(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<4> {
    let [batch, _, rows, head_dim] = x.dims();
    let half = head_dim / 2;
    let dtype = x.dtype();
    let cos = narrow(cos, dtype).reshape([batch, 1, rows, half]);
    let sin = narrow(sin, dtype).reshape([batch, 1, rows, half]);
    let first = x.clone().narrow(3, 0, half);
    let second = x.narrow(3, half, half);
    Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 3)
}

pub(super) fn log_likelihood(logits: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    log_softmax(widen(logits), 1).gather(1, tokens.reshape([rows, 1])).reshape([rows])
}
