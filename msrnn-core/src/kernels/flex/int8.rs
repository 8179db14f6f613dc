//! Weights in 8 bits, multiplied with f32 without being written as f32 first.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::Arch;

use super::access::{Dense, open_int};
use super::weight::Weight;
use super::wide;
use crate::kernels::Int8;

const BLOCK: usize = Int8::BLOCK;

/// Values that are handled side by side.
const LANES: usize = 16;

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
        let rows = x.len() / input;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let weights = values.chunks_exact(input).zip(scales.chunks_exact(input / BLOCK));
                for ((values, scales), y) in weights.zip(y.chunks_exact_mut(rows)) {
                    for (x, y) in x.chunks_exact(input).zip(y) {
                        *y = dot(values, scales, x);
                    }
                }
            },
        );
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

/// Σ over blocks of scale · Σ q · x
#[inline(always)]
fn dot(values: &[i8], scales: &[f32], x: &[f32]) -> f32 {
    let mut sum = [0.0; LANES];
    for ((values, x), &scale) in values.as_chunks::<BLOCK>().0.iter().zip(x.as_chunks::<BLOCK>().0).zip(scales) {
        let mut block = [0.0; LANES];
        for part in (0..BLOCK).step_by(LANES) {
            for lane in 0..LANES {
                block[lane] = f32::from(values[part + lane]).mul_add(x[part + lane], block[lane]);
            }
        }
        for lane in 0..LANES {
            sum[lane] = block[lane].mul_add(scale, sum[lane]);
        }
    }
    sum.into_iter().sum()
}
