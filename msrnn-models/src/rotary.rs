//! Rotary position embedding, rotate-half form, with a position per row.
//!
//! Su et al. 2021 (arXiv 2104.09864), in the layout of Hugging Face checkpoints: channel `i` is
//! paired with channel `i + head_dim/2`.

use std::sync::{Arc, Mutex, PoisonError};

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
///
/// With [`RopeScaling::Dynamic`] frequencies depend on the length of the text once that is beyond the model's
/// context. In a recurrence the text is as long as what has been read: a row is rotated by the frequencies of the text
/// that ends with it, and keeps that rotation, as in transformers when it is given one token at a time. A block that is
/// read as a whole has the frequencies of its end, as in one forward pass there: [`Rotary::block`].
#[derive(Clone, Debug)]
pub struct Rotary {
    low: Table,
    high: Table,
    dynamic: Option<Dynamic>,
    /// Cosines and sines of the first positions, as many as were asked for.
    first: Arc<Mutex<Option<Rotation>>>,
}

#[derive(Clone, Debug)]
struct Table {
    /// `[span, head_dim/2]`
    cos: Tensor<2>,
    sin: Tensor<2>,
}

/// What frequencies beyond the context are computed from.
#[derive(Clone, Debug)]
struct Dynamic {
    factor: f64,
    context: usize,
    /// Of the unscaled embedding, `[1, head_dim/2]`.
    frequencies: Tensor<2>,
    /// How each of them falls with the growth of θ, `[1, head_dim/2]`.
    exponents: Tensor<2>,
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
        let table =
            |stride: usize, rows: usize, scale: f64| Table::new(&frequencies, stride, rows, scale, dtype, device);
        // Every rotation has one row of each table as a factor, so one of them carries the scale.
        let scale = match config.rope_scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        };
        let dynamic = match config.rope_scaling {
            RopeScaling::Dynamic { factor } => Some(Dynamic::new(factor, config, &frequencies, dtype, device)),
            _ => None,
        };
        Self { low: table(1, SPAN, 1.0), high: table(SPAN, Self::LIMIT / SPAN, scale), dynamic, first: Arc::default() }
    }

    /// Whether products of rotated queries and keys depend on the differences of positions alone: frequencies do not change
    /// with the length of the text.
    pub fn is_relative(&self) -> bool {
        self.dynamic.is_none()
    }

    /// The rotation of `positions`, `[batch, rows]`, each as the end of the text so far.
    pub fn at(&self, positions: Tensor<2, Int>) -> Rotation {
        let lengths = positions.clone().add_scalar(1);
        self.rotation(positions, |dynamic| dynamic.growth(lengths))
    }

    /// That of at least the first `n` positions, each as the end of the text so far: `[1, n, head_dim/2]`. Made once for as
    /// many.
    pub fn first(&self, n: usize) -> Rotation {
        // Not held while a rotation is made: what that shares with other threads may lead this one here again.
        let held = || self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rotation) = held().as_ref().filter(|rotation| rotation.cos.dims()[1] >= n) {
            return rotation.clone();
        }
        let rows = n.next_power_of_two();
        let positions = Tensor::<1, Int>::arange(0..rows as i64, &self.low.cos.device()).reshape([1, rows]);
        let rotation = self.at(positions);
        let mut first = held();
        if first.as_ref().is_none_or(|shorter| shorter.cos.dims()[1] < rows) {
            *first = Some(rotation.clone());
        }
        rotation
    }

    /// The rotation of `positions`, `[batch, rows]`, as parts of one text of `length` tokens.
    pub fn block(&self, positions: Tensor<2, Int>, length: usize) -> Rotation {
        let like = positions.clone();
        self.rotation(positions, |dynamic| dynamic.growth(like.full_like(length as i64)))
    }

    /// `growth`: of θ, by position.
    fn rotation(&self, positions: Tensor<2, Int>, growth: impl FnOnce(&Dynamic) -> Tensor<2>) -> Rotation {
        let [batch, rows] = positions.dims();
        let flat = positions.reshape([batch * rows]);
        let high = flat.clone().div_scalar(SPAN as i64);
        let low = flat.clone() - high.clone().mul_scalar(SPAN as i64);
        let (low, high) = (self.low.select(low), self.high.select(high));
        let half = low.cos.dims()[1];
        let mut cos = low.cos.clone() * high.cos.clone() - low.sin.clone() * high.sin.clone();
        let mut sin = low.sin * high.cos + low.cos * high.sin;
        if let Some(dynamic) = &self.dynamic {
            let growth = growth(dynamic).reshape([batch * rows, 1]);
            // The tables are more exact where they hold.
            let grown = growth.clone().greater_elem(1.0).expand([batch * rows, half]);
            let angles = dynamic.angles(flat, growth);
            cos = cos.mask_where(grown.clone(), angles.clone().cos());
            sin = sin.mask_where(grown, angles.sin());
        }
        Rotation { cos: cos.reshape([batch, rows, half]), sin: sin.reshape([batch, rows, half]) }
    }
}

impl Dynamic {
    fn new(factor: f64, config: &ModelConfig, frequencies: &[f64], dtype: DType, device: &Device) -> Self {
        // θ grows by g^(d/(d−2)), so that the frequency of pair i, θ^(−2i/d), falls by g^(−2i/(d−2)).
        let exponents = (0..frequencies.len()).map(|i| -((2 * i) as f64) / (config.head_dim - 2) as f64).collect();
        let row = |values: Vec<f64>| {
            let data = TensorData::new(values, [1, frequencies.len()]).convert_dtype(dtype);
            Tensor::from_data(data, (device, dtype))
        };
        let context = config.max_position_embeddings;
        Self { factor, context, frequencies: row(frequencies.to_vec()), exponents: row(exponents) }
    }

    /// g = factor · length/context − (factor − 1) for texts beyond the context, 1 for others.
    fn growth(&self, lengths: Tensor<2, Int>) -> Tensor<2> {
        // 1 + factor · excess/context, which is exact where there is no excess.
        let excess = lengths.sub_scalar(self.context as i64).clamp_min(0).float().cast(self.frequencies.dtype());
        excess.mul_scalar(self.factor / self.context as f64).add_scalar(1.0)
    }

    /// Positions `[n]` and growth `[n, 1]` to angles `[n, head_dim/2]`.
    fn angles(&self, positions: Tensor<1, Int>, growth: Tensor<2>) -> Tensor<2> {
        let [n] = positions.dims();
        let positions = positions.float().cast(self.frequencies.dtype()).reshape([n, 1]);
        let fallen = (growth.log() * self.exponents.clone()).exp();
        positions * (self.frequencies.clone() * fallen)
    }
}

impl Table {
    fn new(frequencies: &[f64], stride: usize, rows: usize, scale: f64, dtype: DType, device: &Device) -> Self {
        let angle = |row: usize, i: usize| (row * stride) as f64 * frequencies[i];
        let table = |f: fn(f64) -> f64| {
            let places = (0..rows * frequencies.len()).into_par_iter();
            let values: Vec<f64> =
                places.map(|place| scale * f(angle(place / frequencies.len(), place % frequencies.len()))).collect();
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

    /// Cosines and sines, `[rows, head_dim/2]`, of a batch of one.
    pub(crate) fn angles(self) -> [Tensor<2>; 2] {
        [self.cos, self.sin].map(|x| x.squeeze_dim(0))
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
        RopeScaling::None | RopeScaling::Dynamic { .. } => plain.collect(),
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
        RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_max_position_embeddings, .. } => {
            // The pair, as a fraction, that turns that often within the original context.
            let pair = |turns: f64| {
                let wavelength = original_max_position_embeddings as f64 / (turns * std::f64::consts::TAU);
                half as f64 * wavelength.ln() / config.rope_theta.ln()
            };
            let (mut first, mut last) = (pair(beta_fast), pair(beta_slow));
            if truncate {
                (first, last) = (first.floor(), last.ceil());
            }
            let (first, mut last) = (first.max(0.0), last.min((config.head_dim - 1) as f64));
            if first == last {
                last += 0.001;
            }
            plain
                .enumerate()
                .map(|(i, f)| {
                    let slowed = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    slowed * f / factor + (1.0 - slowed) * f
                })
                .collect()
        }
    }
}
