//! A model by name or shape, with random weights made on the device.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use msrnn_models::Model;
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::weights::{self, Named};

use crate::error::BenchError;
use crate::speed::shape::Shape;

/// `llama-2-7b`, or a shape as [`Shape`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThroughputShape {
    /// The paper's model: 6.7 billion parameters, every query head with a KV head of its own.
    Llama2With7B,
    /// Any other.
    Shape(Shape),
}

const LLAMA_2_7B: &str = "llama-2-7b";

impl ThroughputShape {
    /// The configuration that it stands for.
    pub fn config(&self) -> ModelConfig {
        match self {
            Self::Shape(shape) => shape.config(),
            Self::Llama2With7B => {
                let shape = Shape {
                    layers: 32,
                    hidden_size: 4096,
                    heads: 32,
                    kv_heads: 32,
                    intermediate_size: 11_008,
                    vocab_size: 32_000,
                };
                ModelConfig { tie_word_embeddings: false, rms_norm_eps: 1e-5, ..shape.config() }
            }
        }
    }
}

impl fmt::Display for ThroughputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Llama2With7B => f.write_str(LLAMA_2_7B),
            Self::Shape(shape) => shape.fmt(f),
        }
    }
}

impl FromStr for ThroughputShape {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        match text {
            LLAMA_2_7B => Ok(Self::Llama2With7B),
            _ => text.parse().map(Self::Shape).map_err(|e| BenchError::Input(format!("{e}, or {LLAMA_2_7B}"))),
        }
    }
}

/// A model with random weights: normal with deviation 0.02, norms one. Floats never were on the host.
///
/// # Panics
///
/// When [`Storage::check`] refuses the configuration.
pub fn random_model(config: &ModelConfig, seed: u64, storage: Storage, device: &Device) -> Model {
    let decoder = match storage.weights {
        Weights::Int8 => weights::random(config, seed, storage, device),
        Weights::Float(dtype) => {
            device.seed(seed);
            let names = weights::tensors(config);
            let ones = |named: &Named| Ok(TensorData::new(vec![1.0f32], vec![1; named.shape.len()]));
            let placeholders: Result<Decoder, Infallible> =
                weights::decoder(config, names.iter().map(ones), storage, device);
            let decoder = placeholders.unwrap_or_else(|never| match never {});
            let shapes = names.into_iter().map(|named| named.shape).collect::<Vec<_>>().into_iter();
            decoder.map(&mut Randomise { shapes, dtype, device })
        }
    };
    Model::of(decoder)
}

/// Gives every parameter, in order, its shape and random values.
struct Randomise<'d> {
    shapes: std::vec::IntoIter<Vec<usize>>,
    dtype: DType,
    device: &'d Device,
}

impl ModuleMapper for Randomise<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = self.shapes.next().expect("a shape for every parameter");
        let options = (self.device, self.dtype);
        let value = match D {
            1 => Tensor::ones(shape, options),
            _ => Tensor::random(shape, Distribution::Normal(0.0, 0.02), options),
        };
        Param::initialized(param.id, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_shapes_are_read_back() {
        for text in [LLAMA_2_7B, "2x24x4:2x32x50"] {
            assert_eq!(text.parse::<ThroughputShape>().unwrap().to_string(), text);
        }
        let error = "llama-7b".parse::<ThroughputShape>().unwrap_err().to_string();
        assert!(error.contains(LLAMA_2_7B) && error.contains("12x768"), "{error}");
        let parameters = ThroughputShape::Llama2With7B.config().parameters();
        assert_eq!(parameters, 6_738_415_616);
    }

    #[test]
    fn a_random_model_has_the_shapes_of_its_configuration() {
        let config = "2x24x4:2x32x50".parse::<Shape>().unwrap().config();
        let model = random_model(&config, 1, DType::F32.into(), &Device::flex());
        let (names, data): (Vec<_>, Vec<_>) = weights::named_data(&model.decoder).into_iter().unzip();
        assert_eq!(names, weights::tensors(&config));
        for (named, data) in names.iter().zip(data) {
            assert_eq!(data.shape().to_vec(), named.shape, "{}", named.name);
            let values = data.try_into_vec::<f32>().unwrap();
            let differ = values.windows(2).any(|pair| pair[0] != pair[1]);
            assert_eq!(differ, named.shape.len() == 2, "{}", named.name);
        }
    }
}
