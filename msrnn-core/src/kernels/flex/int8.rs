//! Weights in 8 bits, multiplied with f32 without being written as f32 first.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};

use super::access::{Dense, open_int};
use super::weight::Weight;
use super::wide;
use crate::kernels::Int8;

const BLOCK: usize = Int8::BLOCK;

/// The integers and scales of a matrix.
pub(super) struct Blocks {
    values: FlexTensor,
    scales: Dense,
    dims: [usize; 2],
}

impl Blocks {
    pub(super) fn of(weight: Int8) -> Self {
        let dims = weight.dims();
        let mut values = open_int(weight.values);
        if values.layout().contiguous_offsets().is_none_or(|(start, _)| start != 0) {
            values = values.to_contiguous();
        }
        Self { values, scales: Dense::of(weight.scales), dims }
    }

    /// Of some outputs, row by row.
    fn rows(&self, outputs: Range<usize>) -> (&[i8], &[f32]) {
        let (input, blocks) = (self.dims[1], self.dims[1] / BLOCK);
        let (values, scales): (&[i8], &[f32]) = (self.values.storage(), self.scales.values());
        (&values[outputs.start * input..outputs.end * input], &scales[outputs.start * blocks..outputs.end * blocks])
    }
}

impl Weight<f32> for Blocks {
    fn bytes(&self) -> usize {
        let [output, input] = self.dims;
        output * (input + input / BLOCK * size_of::<f32>())
    }

    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn arranged(&self, x: &[f32]) -> Vec<f32> {
        x.to_vec()
    }

    fn few(&self, outputs: Range<usize>, x: &[f32], y: &mut [f32]) {
        let (values, scales) = self.rows(outputs);
        let input = self.dims[1];
        Arch::new().dispatch(Products { values, scales, input, x, y });
    }

    fn values<'a>(&'a self, outputs: Range<usize>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let (values, scales) = self.rows(outputs);
        buffer.resize(values.len(), 0.0);
        wide(
            #[inline(always)]
            || {
                let blocks = buffer.chunks_exact_mut(BLOCK).zip(values.chunks_exact(BLOCK));
                for ((wide, values), &scale) in blocks.zip(scales) {
                    wide.iter_mut().zip(values).for_each(|(wide, &value)| *wide = f32::from(value) * scale);
                }
            },
        );
        buffer
    }
}

/// Products of rows with all rows of x: `y[out][row]`.
struct Products<'a> {
    values: &'a [i8],
    scales: &'a [f32],
    input: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Self { values, scales, input, x, y } = self;
        let rows = x.len() / input;
        let weights = values.chunks_exact(input).zip(scales.chunks_exact(input / BLOCK));
        for ((values, scales), y) in weights.zip(y.chunks_exact_mut(rows)) {
            for (x, y) in x.chunks_exact(input).zip(y) {
                *y = dot(simd, values, scales, x);
            }
        }
    }
}

/// Σ over blocks of scale · Σ q · x
#[inline(always)]
fn dot<V: Simd>(simd: V, values: &[i8], scales: &[f32], x: &[f32]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    for ((values, x), &scale) in values.as_chunks::<BLOCK>().0.iter().zip(x.as_chunks::<BLOCK>().0).zip(scales) {
        let mut wide = [0.0; BLOCK];
        wide.iter_mut().zip(values).for_each(|(wide, &value)| *wide = f32::from(value));
        // A block is a whole number of registers of any width.
        let (wide, x) = (V::as_simd_f32s(&wide).0, V::as_simd_f32s(x).0);
        let mut block = simd.splat_f32s(0.0);
        for (&wide, &x) in wide.iter().zip(x) {
            block = simd.mul_add_e_f32s(wide, x, block);
        }
        sum = simd.mul_add_e_f32s(block, simd.splat_f32s(scale), sum);
    }
    simd.reduce_sum_f32s(sum)
}
