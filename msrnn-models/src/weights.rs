//! From named tensors to a [`Decoder`] and back: the one place that knows Hugging Face's names.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};
use msrnn_core::precision::accumulation;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::decoder::{Decoder, DecoderLayer};
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::rotary::Rotary;

/// A tensor of the model by its name in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `model.layers.0.self_attn.q_proj.weight`
    pub name: String,
    /// As the configuration implies it.
    pub shape: Vec<usize>,
}

impl Named {
    fn new(name: &str, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.to_owned(), shape: shape.into() }
    }
}

/// Every tensor that a model of this configuration consists of, in the order of [`Decoder`]'s
/// fields.
pub fn tensors(config: &ModelConfig) -> Vec<Named> {
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut all = vec![Named::new("model.embed_tokens.weight", [config.vocab_size, d])];
    for layer in 0..config.layers {
        let mut add = |name: &str, shape: &[usize]| {
            all.push(Named { name: format!("model.layers.{layer}.{name}"), shape: shape.to_vec() });
        };
        let linear = |add: &mut dyn FnMut(&str, &[usize]), name: &str, output: usize, input: usize, bias: bool| {
            add(&format!("{name}.weight"), &[output, input]);
            if bias {
                add(&format!("{name}.bias"), &[output]);
            }
        };
        add("input_layernorm.weight", &[d]);
        linear(&mut add, "self_attn.q_proj", q, d, config.attention_bias);
        linear(&mut add, "self_attn.k_proj", kv, d, config.attention_bias);
        linear(&mut add, "self_attn.v_proj", kv, d, config.attention_bias);
        linear(&mut add, "self_attn.o_proj", d, q, config.attention_bias);
        add("post_attention_layernorm.weight", &[d]);
        linear(&mut add, "mlp.gate_proj", ff, d, config.mlp_bias);
        linear(&mut add, "mlp.up_proj", ff, d, config.mlp_bias);
        linear(&mut add, "mlp.down_proj", d, ff, config.mlp_bias);
    }
    all.push(Named::new("model.norm.weight", [d]));
    if !config.tie_word_embeddings {
        all.push(Named::new("lm_head.weight", [config.vocab_size, d]));
    }
    all
}

/// A decoder from its tensors, in the order and of the shapes of [`tensors`], held in `dtype`.
///
/// # Panics
///
/// When `data` has fewer tensors than the configuration asks for.
pub fn decoder(config: &ModelConfig, data: Vec<TensorData>, dtype: DType, device: &Device) -> Decoder {
    let mut parts = Parts { data: data.into_iter().enumerate(), dtype, device };
    let (attention_bias, mlp_bias, epsilon) = (config.attention_bias, config.mlp_bias, config.rms_norm_eps);
    Decoder {
        embedding: parts.param(),
        layers: (0..config.layers)
            .map(|_| DecoderLayer {
                attention_norm: parts.norm(epsilon),
                query: parts.linear(attention_bias),
                key: parts.linear(attention_bias),
                value: parts.linear(attention_bias),
                output: parts.linear(attention_bias),
                feed_forward_norm: parts.norm(epsilon),
                gate: parts.linear(mlp_bias),
                up: parts.linear(mlp_bias),
                down: parts.linear(mlp_bias),
            })
            .collect(),
        norm: parts.norm(epsilon),
        head: (!config.tie_word_embeddings).then(|| parts.linear(false)),
        rotary: Rotary::new(config, accumulation(dtype).into(), device),
        config: config.clone(),
    }
}

/// The tensors of a checkpoint, handed out one by one.
struct Parts<'a> {
    data: std::iter::Enumerate<std::vec::IntoIter<TensorData>>,
    dtype: DType,
    device: &'a Device,
}

impl Parts<'_> {
    fn param<const D: usize>(&mut self) -> Param<Tensor<D>> {
        let (index, data) = self.data.next().expect("a tensor for every name of `tensors`");
        let value = Tensor::from_data(data.convert_dtype(self.dtype), (self.device, self.dtype));
        let value = if self.device.is_autodiff() { value.require_grad() } else { value };
        // An optimiser's state is kept by id: the same model must have the same ids in every run.
        Param::initialized(ParamId::from(index as u64), value)
    }

    fn linear(&mut self, bias: bool) -> Linear {
        Linear { weight: self.param(), bias: bias.then(|| self.param()) }
    }

    fn norm(&mut self, epsilon: f64) -> RmsNorm {
        RmsNorm { weight: self.param(), epsilon }
    }
}

/// Every tensor of a decoder with its name, for saving. Values in the decoder's dtype.
pub fn named_data(decoder: &Decoder) -> Vec<(Named, TensorData)> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut collect = Collect(Vec::new());
    decoder.visit(&mut collect);
    tensors(&decoder.config).into_iter().zip(collect.0).collect()
}

/// A decoder with random weights: normal with deviation 0.02, the two projections that write to
/// the residual stream scaled down by √(2·layers), norms one, biases zero.
pub fn random(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> Decoder {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
    let data = tensors(config).into_iter().map(|named| {
        let deviation = match named.name.as_str() {
            name if name.ends_with("norm.weight") => return filled(&named.shape, 1.0),
            name if name.ends_with(".bias") => return filled(&named.shape, 0.0),
            name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => residual,
            _ => 0.02,
        };
        let values: Vec<f32> =
            (0..named.shape.iter().product()).map(|_| (normal(&mut rng) * deviation) as f32).collect();
        TensorData::new(values, named.shape)
    });
    decoder(config, data.collect(), dtype, device)
}

fn filled(shape: &[usize], value: f32) -> TensorData {
    TensorData::new(vec![value; shape.iter().product()], shape.to_vec())
}

/// One standard normal value (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let unit = |rng: &mut ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}
