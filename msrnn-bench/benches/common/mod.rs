//! What the benchmarks share: one layer of attention, and random tokens for it.

// Every benchmark uses its own part of these.
#![allow(dead_code)]

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_core::state::MultiState;

/// All built-in policies.
pub(crate) const POLICIES: [&str; 8] =
    ["window", "window+4", "h2o", "h2o-layer", "tova", "tova-head", "tova+4", "random"];

/// Query heads and KV heads of 110 M-parameter Llamas, without and with grouped queries.
pub(crate) const HEADS: [(usize, usize); 2] = [(12, 12), (12, 4)];

const HEAD_DIM: usize = 64;

/// Its last word in the names of benchmarks.
pub(crate) const DEVICE: &str = "cpu";

pub(crate) fn dtype_name(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// A layer of attention, and tokens for it.
pub(crate) struct Layer {
    attention: Attention,
    dtype: DType,
    device: Device,
}

impl Layer {
    pub(crate) fn new((heads, kv_heads): (usize, usize), dtype: DType) -> Self {
        let attention = Attention { heads, kv_heads, head_dim: HEAD_DIM, scale: 0.125, window: None, placement: None };
        Self { attention, dtype, device: Device::flex() }
    }

    /// Query, key and value of `n` tokens.
    pub(crate) fn tokens(&self, n: usize) -> [Tensor<4>; 3] {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let random = |heads| {
            Tensor::<4>::random([1, heads, n, head_dim], Distribution::Normal(0.0, 1.0), &self.device).cast(self.dtype)
        };
        [random(heads), random(kv_heads), random(kv_heads)]
    }

    pub(crate) fn scan(&self, tokens: &[Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        let [query, key, value] = tokens.clone();
        self.attention.scan(query, key, value, state)
    }

    /// One token of [`Layer::tokens`]`(1)`.
    pub(crate) fn step(&self, token: &[Tensor<4>; 3], state: &mut MultiState) -> Tensor<3> {
        let [query, key, value] = token.clone().map(|x| {
            let [batch, heads, _, head_dim] = x.dims();
            x.reshape([batch, heads, head_dim])
        });
        self.attention.step(query, key, value, state)
    }

    /// A state that has seen `n` tokens.
    pub(crate) fn state_after(&self, n: usize, compression: &Compression) -> MultiState {
        let mut state = self.attention.initial_state(1, 0, 1, compression, self.dtype, &self.device);
        self.scan(&self.tokens(n), &mut state);
        state
    }
}
