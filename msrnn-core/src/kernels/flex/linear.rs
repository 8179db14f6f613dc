//! Linear maps: one pass over the weights for few rows, matrix products for many.

use burn::tensor::{DType, Tensor, bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::access::{Dense, is_narrow, takes, tensor};
use super::dot::Dot;
use super::is_worth_cores;
use super::number::Stored;
use crate::kernels::{Map, plain};
use crate::precision::narrow;
use crate::simd::Real;

/// Most rows that are multiplied in one pass over the weights. It reads them once, as the product of
/// matrices does too, but that first copies them into an order of its own.
const FEW: usize = 8;

/// Bytes of weights that one task reads.
const TASK: usize = 1 << 17;

/// Weights that are widened at a time for a product of matrices, so that they stay in the cache.
const PANEL: usize = 1 << 19;

pub(in crate::kernels) fn linear<const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    let rows = x.dims()[0];
    let readable = |map: &Map| match x.dtype() {
        DType::F64 => map.weight.dtype() == DType::F64 && takes(&map.weight),
        _ => is_narrow(&map.weight) || (map.weight.dtype() == DType::F32 && takes(&map.weight)),
    };
    if !maps.iter().all(readable) {
        return plain::linear(x, maps);
    }
    let biases = maps.each_ref().map(|map| map.bias.clone());
    let weights = maps.map(|map| map.weight);
    let products = match x.dtype() {
        _ if rows > FEW => weights.map(|weight| product(&x, weight)),
        DType::F64 => few::<f64, N>(x.clone(), weights),
        _ => few::<f32, N>(x.clone(), weights),
    };
    let mut biases = biases.into_iter();
    products.map(|y| match biases.next().flatten() {
        Some(bias) => {
            let output = y.dims()[1];
            y + narrow(bias, x.dtype()).reshape([1, output])
        }
        None => y,
    })
}

/// Many rows: 16-bit weights are widened panel by panel.
fn product(x: &Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    if !is_narrow(&weight) {
        return x.clone().matmul(weight.transpose());
    }
    let [output, input] = weight.dims();
    let panel = (PANEL / input).max(1);
    let panels = (0..output).step_by(panel).map(|first| {
        let rows = panel.min(output - first);
        x.clone().matmul(super::widen(weight.clone().narrow(0, first, rows)).transpose())
    });
    Tensor::cat(panels.collect(), 1)
}

/// Few rows: y for all maps in one go, so that cores are called once.
fn few<T: Products, const N: usize>(x: Tensor<2>, weights: [Tensor<2>; N]) -> [Tensor<2>; N] {
    let [rows, input] = x.dims();
    let outputs = weights.each_ref().map(|weight| weight.dims()[0]);
    let (x, weights) = (Dense::of(x), weights.map(Dense::of));
    let x: &[T] = x.values::<T, T>();
    // Once for every dtype of weights there is.
    let arranged = weights.each_ref().map(|weight| T::arranged(weight.dtype(), input, x));
    let bytes: usize = weights.iter().map(Dense::bytes).sum();
    // By output, by row of x.
    let mut y = outputs.map(|output| vec![T::ZERO; output * rows]);
    if is_worth_cores(bytes) {
        let mut tasks = Vec::with_capacity(bytes / TASK + N);
        for (((weight, x), y), output) in weights.iter().zip(&arranged).zip(&mut y).zip(outputs) {
            let size = (TASK * output / weight.bytes().max(1)).clamp(1, output.max(1));
            let parts = y.chunks_mut(size * rows).enumerate();
            tasks.extend(parts.map(|(part, y)| (weight, part * size, x, y)));
        }
        tasks.into_par_iter().for_each(|(weight, first, x, y)| T::products(weight, first, input, x, y));
    } else {
        let all = weights.iter().zip(&arranged).zip(&mut y);
        all.for_each(|((weight, x), y)| T::products(weight, 0, input, x, y));
    }
    let mut y = y.into_iter().zip(outputs);
    weights.map(|_| {
        let (y, output) = y.next().expect("a result for every map");
        match rows {
            1 => tensor(y, [1, output]),
            _ => tensor::<T, 2>(y, [output, rows]).transpose(),
        }
    })
}

/// A dtype of activations, and the dtypes of weights that it can be multiplied with.
pub(super) trait Products: Real + Stored<Self> {
    /// The rows of x in the order in which weights of `dtype` are multiplied with them.
    fn arranged(dtype: DType, input: usize, x: &[Self]) -> Vec<Self>;

    /// Products of the weight's rows from the `first` on with all rows of x, arranged: `y[out][row]`.
    fn products(weight: &Dense, first: usize, input: usize, x: &[Self], y: &mut [Self]);
}

/// Row by row.
fn arranged<T: Real, S: Dot<T>>(input: usize, x: &[T]) -> Vec<T> {
    x.chunks_exact(input).flat_map(S::arranged).collect()
}

impl Products for f64 {
    fn arranged(_dtype: DType, _input: usize, x: &[f64]) -> Vec<f64> {
        x.to_vec()
    }

    fn products(weight: &Dense, first: usize, input: usize, x: &[f64], y: &mut [f64]) {
        products::<f64, f64>(&weight.values()[first * input..], input, x, y);
    }
}

impl Products for f32 {
    fn arranged(dtype: DType, input: usize, x: &[f32]) -> Vec<f32> {
        match dtype {
            DType::F16 => arranged::<f32, f16>(input, x),
            DType::BF16 => arranged::<f32, bf16>(input, x),
            _ => x.to_vec(),
        }
    }

    fn products(weight: &Dense, first: usize, input: usize, x: &[f32], y: &mut [f32]) {
        match weight.dtype() {
            DType::F16 => products::<f32, f16>(&weight.values()[first * input..], input, x, y),
            DType::BF16 => products::<f32, bf16>(&weight.values()[first * input..], input, x, y),
            _ => products::<f32, f32>(&weight.values()[first * input..], input, x, y),
        }
    }
}

/// x: arranged for S, row by row.
fn products<T: Real, S: Dot<T>>(weight: &[S], input: usize, x: &[T], y: &mut [T]) {
    struct Products<'a, T, S> {
        weight: &'a [S],
        input: usize,
        x: &'a [T],
        y: &'a mut [T],
    }

    impl<T: Real, S: Dot<T>> WithSimd for Products<'_, T, S> {
        type Output = ();

        #[inline(always)]
        fn with_simd<V: Simd>(self, simd: V) {
            let Self { weight, input, x, y } = self;
            let rows = x.len() / input;
            for (weight, y) in weight.chunks_exact(input).zip(y.chunks_exact_mut(rows)) {
                for (x, y) in x.chunks_exact(input).zip(y) {
                    *y = S::dot(simd, weight, x);
                }
            }
        }
    }

    Arch::new().dispatch(Products { weight, input, x, y });
}
