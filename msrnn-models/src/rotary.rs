//! Rotary position embedding, rotate-half form, with a position per row.
//!
//! Su et al. 2021 (arXiv 2104.09864), in the layout of Hugging Face checkpoints: channel `i` is
//! paired with channel `i + head_dim/2`.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_core::kernels;
use rayon::prelude::*;

use crate::config::{ModelConfig, RopeScaling};

/// Positions are split as `high · SPAN + low`, and the two rotations composed.
const SPAN: usize = 1024;

/// The rotation of every position below [`Rotary::LIMIT`].
///
/// Angles are computed on the host in f64 and looked up on the device from two small tables, one
/// for `position mod 1024` and one for `position div 1024`, which are combined by the addition
/// theorem. So a position of ten million is as exact as a position of ten, nothing is computed
/// from a position that the host would have to know, and the tables do not grow with the text.
#[derive(Clone, Debug)]
pub struct Rotary {
    low: Table,
    high: Table,
}

#[derive(Clone, Debug)]
struct Table {
    /// `[span, head_dim/2]`
    cos: Tensor<2>,
    sin: Tensor<2>,
}

/// Cosines and sines of some positions, to be applied to queries and keys of every layer.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[batch, rows, head_dim/2]`
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotary {
    /// Positions at or beyond this are not supported: 16,777,216.
    pub const LIMIT: usize = SPAN * SPAN * 16;

    /// The tables for a model, in `dtype` (f32 or f64).
    pub fn new(config: &ModelConfig, dtype: DType, device: &Device) -> Self {
        let frequencies = inverse_frequencies(config);
        let table = |stride: usize, rows: usize| Table::new(&frequencies, stride, rows, dtype, device);
        Self { low: table(1, SPAN), high: table(SPAN, Self::LIMIT / SPAN) }
    }

    /// The rotation of `positions`, `[batch, rows]`.
    pub fn at(&self, positions: Tensor<2, Int>) -> Rotation {
        let [batch, rows] = positions.dims();
        let flat = positions.reshape([batch * rows]);
        let high = flat.clone().div_scalar(SPAN as i64);
        let low = flat - high.clone().mul_scalar(SPAN as i64);
        let (low, high) = (self.low.select(low), self.high.select(high));
        let half = low.cos.dims()[1];
        let cos = low.cos.clone() * high.cos.clone() - low.sin.clone() * high.sin.clone();
        let sin = low.sin * high.cos + low.cos * high.sin;
        Rotation { cos: cos.reshape([batch, rows, half]), sin: sin.reshape([batch, rows, half]) }
    }
}

impl Table {
    fn new(frequencies: &[f64], stride: usize, rows: usize, dtype: DType, device: &Device) -> Self {
        let angle = |row: usize, i: usize| (row * stride) as f64 * frequencies[i];
        let table = |f: fn(f64) -> f64| {
            let places = (0..rows * frequencies.len()).into_par_iter();
            let values: Vec<f64> =
                places.map(|place| f(angle(place / frequencies.len(), place % frequencies.len()))).collect();
            let data = TensorData::new(values, [rows, frequencies.len()]).convert_dtype(dtype);
            Tensor::from_data(data, (device, dtype))
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self { cos: self.cos.clone().select(0, rows.clone()), sin: self.sin.clone().select(0, rows) }
    }
}

impl Rotation {
    /// The rotation of `n` of the rows from the `first` on.
    pub fn narrow(&self, first: usize, n: usize) -> Self {
        Self { cos: self.cos.clone().narrow(1, first, n), sin: self.sin.clone().narrow(1, first, n) }
    }

    /// Rotates every head of `x`: `[batch, heads, rows, head_dim]`.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        kernels::rotate(x, self.cos.clone(), self.sin.clone())
    }
}

/// θ^(−2i/head_dim) for every pair i, scaled as the configuration says. `[head_dim/2]`
pub(crate) fn inverse_frequencies(config: &ModelConfig) -> Vec<f64> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|i| config.rope_theta.powf(-(i as f64) / half as f64));
    match config.rope_scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => plain
            .map(|f| {
                // How often this pair turns within the original context decides: slow pairs are
                // slowed down by `factor`, fast ones kept, those between blended.
                let turns = original_max_position_embeddings as f64 * f / std::f64::consts::TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * f / factor + kept * f
            })
            .collect(),
    }
}
