//! Models with random weights, made where they run: what is timed does not depend on what was learnt.

use std::convert::Infallible;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use msrnn_models::Model;
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::weights::{self, Named};

/// A model with random weights: normal with deviation 0.02, norms one. Floats never were on the host.
///
/// # Panics
///
/// When [`Storage::check`] refuses the configuration.
pub(crate) fn random_model(config: &ModelConfig, seed: u64, storage: impl Into<Storage>, device: &Device) -> Model {
    let storage = storage.into();
    let decoder = match storage.weights {
        Weights::Int8 | Weights::Stored => weights::random(config, seed, storage, device),
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

/// A model whose weights are all alike: what is timed does not depend on them, and it is made in a moment.
///
/// # Panics
///
/// As [`random_model`].
pub(crate) fn even_model(config: &ModelConfig, storage: impl Into<Storage>, device: &Device) -> Model {
    // So small that what is computed of them stays so.
    let of = |named: Named| Ok(TensorData::new(vec![1e-4f32; named.shape.iter().product()], named.shape));
    let decoder: Result<Decoder, Infallible> =
        weights::decoder(config, weights::tensors(config).into_iter().map(of), storage.into(), device);
    Model::of(decoder.unwrap_or_else(|never| match never {}))
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
    use crate::speed::shape::Shape;

    #[test]
    fn a_random_model_has_the_shapes_of_its_configuration() {
        let config = "2x24x4:2x32x50".parse::<Shape>().unwrap().config();
        let model = random_model(&config, 1, DType::F32, &Device::flex());
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
