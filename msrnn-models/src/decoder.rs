//! The decoder: embedding, layers, norm, logits.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use msrnn_core::kernels;
use msrnn_core::vanilla::causal_attention;

use crate::config::ModelConfig;
use crate::linear::{Linear, forward};
use crate::matrix::Matrix;
use crate::norm::RmsNorm;
use crate::rotary::{Rotary, Rotation};
use crate::storage::Storage;

/// A decoder of one of the supported architectures: its weights, and the token-wise parts of its computation. What one
/// architecture has and others have not is in the configuration, and absent here where it is not there.
///
/// Weights may be in 16 or 8 bits; everything that is computed from them is in at least f32.
///
/// What runs between the tokens is elsewhere: [`Decoder::forward`] is the vanilla transformer, and
/// [`crate::recurrent`] the same weights as a multi-state RNN.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab, d]`
    pub embedding: Matrix,
    /// From the first to the last.
    pub layers: Vec<DecoderLayer>,
    /// Before the logits.
    pub norm: RmsNorm,
    /// `[vocab, d]`; absent when tied to the embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    pub(crate) rotary: Rotary,
    #[module(skip)]
    pub(crate) config: ModelConfig,
    #[module(skip)]
    pub(crate) storage: Storage,
}

/// One layer: x + Attn(norm(x)), then x + FF(norm(x)).
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Before attention.
    pub attention_norm: RmsNorm,
    /// `[heads · head_dim, d]`
    pub query: Linear,
    /// `[kv_heads · head_dim, d]`
    pub key: Linear,
    /// `[kv_heads · head_dim, d]`
    pub value: Linear,
    /// Of the queries of a head, `[head_dim]`; absent where they are not normalised.
    pub query_norm: Option<RmsNorm>,
    /// Of the keys of a head.
    pub key_norm: Option<RmsNorm>,
    /// `[d, heads · head_dim]`
    pub output: Linear,
    /// Before the feed-forward.
    pub feed_forward_norm: RmsNorm,
    /// `[intermediate, d]`
    pub gate: Linear,
    /// `[intermediate, d]`
    pub up: Linear,
    /// `[d, intermediate]`
    pub down: Linear,
}

impl Decoder {
    /// The configuration that the weights belong to.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// In which dtypes weights and states are held.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// All matrices of weights.
    pub fn matrices(&self) -> Vec<&Matrix> {
        let of_layers = self.layers.iter().flat_map(|layer| {
            let maps = [&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down];
            maps.map(|map| &map.weight)
        });
        [&self.embedding].into_iter().chain(of_layers).chain(self.head.as_ref().map(|head| &head.weight)).collect()
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Logits of a whole text with vanilla causal attention, the plain transformer.
    ///
    /// tokens: `[batch, n]`; logits: `[batch, n, vocab]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, n] = tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..n as i64, &tokens.device()).reshape([1, n]);
        let rotation = self.rotary.block(positions.expand([batch, n]), n);
        let mut x = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, &rotation, &self.config, index);
        }
        self.logits(x)
    }

    /// Rows of the embedding, in the accumulation dtype. `[batch, n]` to `[batch, n, d]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, n] = tokens.dims();
        let rows = self.embedding.rows(tokens.reshape([batch * n])).reshape([batch, n, self.config.hidden_size]);
        scaled(rows, self.config.scales.embedding)
    }

    /// Final norm and output projection. `[batch, n, d]` to `[batch, n, vocab]`
    pub fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, n, d] = x.dims();
        let x = self.norm.forward(x);
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => {
                let map = kernels::Map { weight: self.embedding.weight(), bias: None };
                let [y] = kernels::linear(x.reshape([batch * n, d]), [map]);
                y.reshape([batch, n, self.config.vocab_size])
            }
        };
        scaled(logits, self.config.scales.logits.recip())
    }
}

impl DecoderLayer {
    /// The layer, the `index`-th of its model, over a whole text with vanilla causal attention. `[batch, n, d]`
    pub fn forward(&self, x: Tensor<3>, rotation: &Rotation, config: &ModelConfig, index: usize) -> Tensor<3> {
        let (mut query, mut key, value) = self.project(x.clone(), config);
        if config.rotated.has(index) {
            (query, key) = (rotation.apply(query), rotation.apply(key));
        }
        let attended = causal_attention(query, key, value, config.attention_scale(), config.window(index));
        self.finish(x, attended, config)
    }

    /// Norm and projections to heads: query `[batch, heads, n, head_dim]`, key and value
    /// `[batch, kv_heads, n, head_dim]`, none rotated.
    pub(crate) fn project(&self, x: Tensor<3>, config: &ModelConfig) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let x = self.attention_norm.forward(x);
        let [query, key, value] = forward(x, [&self.query, &self.key, &self.value]);
        let value = heads(value, config.kv_heads, None);
        (self.query_heads(query, config), self.key_heads(key, config), value)
    }

    /// What [`query`](Self::query) gives, by heads and as attention takes it before it is rotated:
    /// `[batch, n, heads · head_dim]` to `[batch, heads, n, head_dim]`
    pub fn query_heads(&self, query: Tensor<3>, config: &ModelConfig) -> Tensor<4> {
        heads(query, config.heads, self.query_norm.as_ref())
    }

    /// The same of [`key`](Self::key): `[batch, n, kv_heads · head_dim]` to `[batch, kv_heads, n, head_dim]`
    pub fn key_heads(&self, key: Tensor<3>, config: &ModelConfig) -> Tensor<4> {
        heads(key, config.kv_heads, self.key_norm.as_ref())
    }

    /// Output projection, residuals and feed-forward. `x` is the layer's input, `attended`
    /// `[batch, heads, n, head_dim]`.
    pub(crate) fn finish(&self, x: Tensor<3>, attended: Tensor<4>, config: &ModelConfig) -> Tensor<3> {
        let [batch, heads, n, head_dim] = attended.dims();
        let attended = attended.swap_dims(1, 2).reshape([batch, n, heads * head_dim]);
        let x = x + scaled(self.output.forward(attended), config.scales.residual);
        let y = self.feed_forward_norm.forward(x.clone());
        let [gate, up] = forward(y, [&self.gate, &self.up]);
        x + scaled(self.down.forward(kernels::swiglu(gate, up)), config.scales.residual)
    }
}

/// `[batch, n, heads · head_dim]` to `[batch, heads, n, head_dim]`, every head normalised where there is a norm.
fn heads(x: Tensor<3>, heads: usize, norm: Option<&RmsNorm>) -> Tensor<4> {
    let [batch, n, width] = x.dims();
    let x = x.reshape([batch, n, heads, width / heads]);
    let x = match norm {
        Some(norm) => norm.forward(x),
        None => x,
    };
    x.swap_dims(1, 2)
}

/// A factor of the model, which is 1 in most.
fn scaled(x: Tensor<3>, factor: f64) -> Tensor<3> {
    if factor == 1.0 { x } else { x.mul_scalar(factor) }
}
