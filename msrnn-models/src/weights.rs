//! From named tensors to a [`Decoder`] and back: the one place that knows Hugging Face's names.
//!
//! [`tensors`] are those that a decoder is made of, [`stored`] those of a checkpoint's files, of which one may be several
//! of the others, one below the other.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};
use msrnn_core::kernels::{Blocks, Format};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::decoder::{Decoder, DecoderLayer};
use crate::linear::Linear;
use crate::matrix::{Matrix, Values};
use crate::norm::RmsNorm;
use crate::rotary::Rotary;
use crate::storage::{Storage, Weights};

/// Name of the embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the output projection.
pub(crate) const HEAD: &str = "lm_head.weight";

/// A tensor of the model by its name in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `model.layers.0.self_attn.q_proj.weight`
    pub name: String,
    /// As the configuration implies it.
    pub shape: Vec<usize>,
}

/// A tensor of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name and shape there.
    pub whole: Named,
    /// Which of [`tensors`] its rows are, in their order.
    pub parts: Range<usize>,
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
    let mut all = vec![Named::new(EMBEDDING, [config.vocab_size, d])];
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
        if config.head_norms {
            add("self_attn.q_norm.weight", &[config.head_dim]);
            add("self_attn.k_norm.weight", &[config.head_dim]);
        }
        linear(&mut add, "self_attn.o_proj", d, q, config.output_bias);
        add("post_attention_layernorm.weight", &[d]);
        linear(&mut add, "mlp.gate_proj", ff, d, config.mlp_bias);
        linear(&mut add, "mlp.up_proj", ff, d, config.mlp_bias);
        linear(&mut add, "mlp.down_proj", d, ff, config.mlp_bias);
    }
    all.push(Named::new("model.norm.weight", [d]));
    if !config.tie_word_embeddings {
        all.push(Named::new(HEAD, [config.vocab_size, d]));
    }
    all
}

/// What stands in one tensor in files of fused maps: the first of several, how many they are, and their name together.
const FUSED: [(&str, usize, &str); 2] = [
    ("self_attn.q_proj.weight", 3, "self_attn.qkv_proj.weight"),
    ("mlp.gate_proj.weight", 2, "mlp.gate_up_proj.weight"),
];

/// The tensors of a checkpoint's files: [`tensors`], some of them together where a configuration has
/// [fused](ModelConfig::fused) maps.
pub fn stored(config: &ModelConfig) -> Vec<Stored> {
    let tensors = tensors(config);
    let (mut all, mut next) = (Vec::new(), 0);
    while let Some(first) = tensors.get(next) {
        let fused = FUSED.iter().filter(|_| config.fused).find(|(name, ..)| first.name.ends_with(name));
        let (whole, count) = match fused {
            None => (first.clone(), 1),
            Some((name, count, together)) => {
                let rows = tensors[next..next + count].iter().map(|part| part.shape[0]).sum();
                let name = first.name.replace(name, together);
                (Named { name, shape: [&[rows], &first.shape[1..]].concat() }, *count)
            }
        };
        all.push(Stored { whole, parts: next..next + count });
        next += count;
    }
    all
}

/// A tensor of a checkpoint, read.
#[derive(Clone, Debug)]
pub enum Data {
    /// Its values.
    Values(TensorData),
    /// A matrix `[out, in]` in blocks: their bytes, `[out, bytes of a row]` in u8.
    Blocks(TensorData, Format),
}

impl From<TensorData> for Data {
    fn from(values: TensorData) -> Self {
        Data::Values(values)
    }
}

impl Data {
    /// Its values, out of their blocks.
    pub(crate) fn values(self) -> TensorData {
        match self {
            Data::Values(values) => values,
            Data::Blocks(bytes, format) => {
                let [output, of_row] = bytes.shape().dims();
                let mut values = vec![0.0; output * format.values(of_row)];
                format.dequantize(bytes.as_bytes(), &mut values);
                TensorData::new(values, [output, format.values(of_row)])
            }
        }
    }
}

/// A decoder from its tensors, in the order and of the shapes of [`tensors`], each of which is asked for
/// when it is its turn.
///
/// # Errors
///
/// Those of `data`.
///
/// # Panics
///
/// When `data` has fewer tensors than the configuration asks for, or [`Storage::check`] refuses it.
pub fn decoder<E>(
    config: &ModelConfig,
    data: impl IntoIterator<Item = Result<impl Into<Data>, E>>,
    storage: Storage,
    device: &Device,
) -> Result<Decoder, E> {
    let mut parts = Parts { data: data.into_iter().map(|data| data.map(Into::into)).enumerate(), storage, device };
    let ModelConfig { attention_bias, output_bias, mlp_bias, head_norms, rms_norm_eps: epsilon, .. } = *config;
    Ok(Decoder {
        embedding: parts.matrix()?,
        layers: (0..config.layers)
            .map(|_| {
                Ok(DecoderLayer {
                    attention_norm: parts.norm(epsilon)?,
                    query: parts.linear(attention_bias)?,
                    key: parts.linear(attention_bias)?,
                    value: parts.linear(attention_bias)?,
                    query_norm: head_norms.then(|| parts.norm(epsilon)).transpose()?,
                    key_norm: head_norms.then(|| parts.norm(epsilon)).transpose()?,
                    output: parts.linear(output_bias)?,
                    feed_forward_norm: parts.norm(epsilon)?,
                    gate: parts.linear(mlp_bias)?,
                    up: parts.linear(mlp_bias)?,
                    down: parts.linear(mlp_bias)?,
                })
            })
            .collect::<Result<_, E>>()?,
        norm: parts.norm(epsilon)?,
        head: (!config.tie_word_embeddings).then(|| parts.linear(false)).transpose()?,
        rotary: Rotary::new(config, storage.computes_in().into(), device),
        config: config.clone(),
        storage,
    })
}

/// The tensors of a checkpoint, handed out one by one.
struct Parts<'a, I> {
    data: std::iter::Enumerate<I>,
    storage: Storage,
    device: &'a Device,
}

impl<E, I: Iterator<Item = Result<Data, E>>> Parts<'_, I> {
    fn next(&mut self) -> Result<(u64, Data), E> {
        let (index, data) = self.data.next().expect("a tensor for every name of `tensors`");
        Ok((index as u64, data?))
    }

    fn param<const D: usize>(&mut self) -> Result<Param<Tensor<D>>, E> {
        let (index, data) = self.next()?;
        Ok(self.param_of(index, data.values(), self.storage.vectors()))
    }

    fn param_of<const D: usize>(&self, index: u64, data: TensorData, dtype: DType) -> Param<Tensor<D>> {
        let value = Tensor::from_data(data.convert_dtype(dtype), (self.device, dtype));
        let value = if self.device.is_autodiff() { value.require_grad() } else { value };
        // An optimiser's state is kept by id: the same model must have the same ids in every run.
        Param::initialized(ParamId::from(index), value)
    }

    fn matrix(&mut self) -> Result<Matrix, E> {
        let ((index, data), activations) = (self.next()?, self.storage.activations);
        Ok(match (self.storage.weights, data) {
            (Weights::Float(dtype), data) => Matrix::float(self.param_of(index, data.values(), dtype), activations),
            (Weights::Int8, data) => {
                let data = data.values().convert::<f32>();
                let (dims, values) = (data.shape().dims(), data.as_slice().expect("it was converted"));
                let blocks = Blocks::quantize(values, dims, Format::Int8, self.device);
                Matrix::blocks(blocks, activations, index)
            }
            (Weights::Stored, Data::Values(values)) => {
                let dtype = match values.dtype() {
                    dtype @ (DType::F16 | DType::BF16) => dtype,
                    _ => DType::F32,
                };
                Matrix::float(self.param_of(index, values, dtype), activations)
            }
            (Weights::Stored, Data::Blocks(bytes, format)) => {
                let bytes = Tensor::from_data(bytes, (self.device, DType::U8));
                Matrix::blocks(Blocks { bytes, format }, activations, index)
            }
        })
    }

    fn linear(&mut self, bias: bool) -> Result<Linear, E> {
        Ok(Linear { weight: self.matrix()?, bias: bias.then(|| self.param()).transpose()? })
    }

    fn norm(&mut self, epsilon: f64) -> Result<RmsNorm, E> {
        Ok(RmsNorm { weight: self.param()?, epsilon })
    }
}

/// Every tensor of a decoder with its name, for saving. Values in the decoder's dtype.
///
/// # Panics
///
/// When a matrix is in blocks: what it was made from is the place to copy it from.
pub fn named_data(decoder: &Decoder) -> Vec<(Named, TensorData)> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let floats = decoder.matrices().iter().all(|matrix| matches!(matrix.values, Values::Float(_)));
    assert!(floats, "weights in blocks are not saved");
    let mut collect = Collect(Vec::new());
    decoder.visit(&mut collect);
    tensors(&decoder.config).into_iter().zip(collect.0).collect()
}

/// A decoder with random weights: normal with deviation 0.02, the two projections that write to
/// the residual stream scaled down by √(2·layers), norms one, biases zero.
///
/// # Panics
///
/// When [`Storage::check`] refuses the configuration.
pub fn random(config: &ModelConfig, seed: u64, storage: impl Into<Storage>, device: &Device) -> Decoder {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
    let data = tensors(config).into_iter().map(|named| {
        let deviation = match named.name.as_str() {
            name if name.ends_with("norm.weight") => return Ok(filled(&named.shape, 1.0)),
            name if name.ends_with(".bias") => return Ok(filled(&named.shape, 0.0)),
            name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => residual,
            _ => 0.02,
        };
        let values: Vec<f32> =
            (0..named.shape.iter().product()).map(|_| (normal(&mut rng) * deviation) as f32).collect();
        Ok(TensorData::new(values, named.shape))
    });
    let made: Result<Decoder, std::convert::Infallible> = decoder(config, data, storage.into(), device);
    made.unwrap_or_else(|never| match never {})
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
