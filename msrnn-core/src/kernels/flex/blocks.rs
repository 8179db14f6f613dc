//! Weights in blocks, multiplied with f32 in registers, or with activations in 8 bits as integers.

use std::marker::PhantomData;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::access::open_int;
use super::integers::{self, Rounded};
use super::weight::{Arranged, Products, Weight};
use super::wide;
use crate::kernels;
use crate::kernels::activations::Activations;
use crate::kernels::blocks::{
    CHUNK, Chunk, Format, Int8, Iq4Nl, Packed, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, dequantize,
};

/// Calls a function that is generic over a format of blocks.
macro_rules! of_format {
    ($format:expr, $call:ident($($argument:expr),*)) => {
        match $format {
            Format::Q4_0 => $call::<18, Q4_0>($($argument),*),
            Format::Q4_1 => $call::<20, Q4_1>($($argument),*),
            Format::Q5_0 => $call::<22, Q5_0>($($argument),*),
            Format::Q5_1 => $call::<24, Q5_1>($($argument),*),
            Format::Q8_0 => $call::<34, Q8_0>($($argument),*),
            Format::Q2_K => $call::<84, Q2K>($($argument),*),
            Format::Q3_K => $call::<110, Q3K>($($argument),*),
            Format::Q4_K => $call::<144, Q4K>($($argument),*),
            Format::Q5_K => $call::<176, Q5K>($($argument),*),
            Format::Q6_K => $call::<210, Q6K>($($argument),*),
            Format::IQ4_NL => $call::<18, Iq4Nl>($($argument),*),
            Format::Int8 => $call::<68, Int8>($($argument),*),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("floats are held as tensors of floats"),
        }
    };
}

/// Activations of one task that rounds them.
const SEEN: usize = 1 << 14;

/// The blocks of a matrix.
pub(super) struct Blocks {
    bytes: FlexTensor,
    format: Format,
    activations: Activations,
    dims: [usize; 2],
}

impl Blocks {
    pub(super) fn of(weight: kernels::Blocks) -> Self {
        let (dims, format, activations) = (weight.dims(), weight.format, weight.activations);
        let mut bytes = open_int(weight.bytes);
        if bytes.layout().contiguous_offsets().is_none_or(|(start, _)| start != 0) {
            bytes = bytes.to_contiguous();
        }
        Self { bytes, format, activations, dims }
    }

    /// Of some outputs, row by row.
    fn rows(&self, outputs: Range<usize>) -> &[u8] {
        let (bytes, of_row) = (self.bytes.storage::<u8>(), self.format.bytes(self.dims[1]).expect("it is in memory"));
        &bytes[outputs.start * of_row..outputs.end * of_row]
    }
}

impl Weight<f32> for Blocks {
    fn bytes(&self) -> usize {
        self.rows(0..self.dims[0]).len()
    }

    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn rounds(&self) -> bool {
        self.activations != Activations::Float
    }

    fn seen(&self, x: &[f32]) -> Option<Vec<f32>> {
        let activations = Some(self.activations).filter(|_| self.rounds())?;
        let mut seen = vec![0.0; x.len()];
        seen.par_chunks_mut(SEEN).zip(x.par_chunks(SEEN)).for_each(|(seen, x)| {
            wide(
                #[inline(always)]
                || activations.see(x, seen),
            );
        });
        Some(seen)
    }

    fn arranged(&self, x: &[f32]) -> Arranged<f32> {
        match self.activations {
            _ if x.len() > self.dims[1] => Arranged::Values(self.seen(x).unwrap_or_else(|| x.to_vec())),
            Activations::Float => Arranged::Summed(x.to_vec(), sums(x)),
            Activations::Int8 => Arranged::Rounded(Rounded::of(x)),
        }
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<f32>, y: &mut [f32]) {
        let blocks = self.rows(outputs.clone());
        match x {
            Arranged::Summed(x, sums) => of_format!(self.format, products(blocks, x, sums, y)),
            Arranged::Rounded(x) => of_format!(self.format, rounded_products(blocks, x, y)),
            // A row's values are taken out of their blocks once for all rows of x.
            Arranged::Values(x) => {
                let (input, mut buffer) = (self.dims[1], Vec::new());
                let weight = self.values(outputs, &mut buffer);
                Arch::new().dispatch(Products { weight, input, x, y });
            }
        }
    }

    fn values<'a>(&'a self, outputs: Range<usize>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let blocks = self.rows(outputs.clone());
        buffer.resize(outputs.len() * self.dims[1], 0.0);
        of_format!(self.format, dequantized(blocks, buffer));
        buffer
    }
}

fn dequantized<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], values: &mut [f32]) {
    wide(
        #[inline(always)]
        || {
            let blocks = blocks.as_chunks::<BYTES>().0.iter().zip(values.chunks_exact_mut(F::VALUES));
            blocks.for_each(|(block, values)| dequantize::<BYTES, F>(block, values));
        },
    );
}

/// Sums of every 16 values.
fn sums(x: &[f32]) -> Vec<[f32; 2]> {
    let (chunks, _) = x.as_chunks::<CHUNK>();
    chunks.iter().map(|x| [x[..CHUNK / 2].iter().sum(), x[CHUNK / 2..].iter().sum()]).collect()
}

fn rounded_products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
    integers::products::<BYTES, F>(blocks, x, y);
}

fn products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &[f32], sums: &[[f32; 2]], y: &mut [f32]) {
    Arch::new().dispatch(InRegisters::<BYTES, F> { blocks, x, sums, y, format: PhantomData });
}

/// Rows in blocks with one x.
struct InRegisters<'a, const BYTES: usize, F> {
    blocks: &'a [u8],
    x: &'a [f32],
    sums: &'a [[f32; 2]],
    y: &'a mut [f32],
    format: PhantomData<F>,
}

impl<const BYTES: usize, F: Packed<BYTES>> WithSimd for InRegisters<'_, BYTES, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Self { blocks, x, sums, y, .. } = self;
        let row = x.len() / F::VALUES;
        for (blocks, y) in blocks.as_chunks::<BYTES>().0.chunks_exact(row).zip(y) {
            *y = dot::<BYTES, F, V>(simd, blocks, x, sums);
        }
    }
}

/// Σ over groups of scale · Σ (code − zero) · x + shift · Σ x
#[inline(always)]
fn dot<const BYTES: usize, F: Packed<BYTES>, V: Simd>(
    simd: V,
    blocks: &[[u8; BYTES]],
    x: &[f32],
    sums: &[[f32; 2]],
) -> f32 {
    let chunks = F::VALUES / CHUNK;
    let (mut sum, mut shifted) = (simd.splat_f32s(0.0), 0.0);
    let (x, _) = x.as_chunks::<CHUNK>();
    for ((block, x), sums) in blocks.iter().zip(x.chunks_exact(chunks)).zip(sums.chunks_exact(chunks)) {
        for (index, (x, sums)) in x.iter().zip(sums).enumerate() {
            let Chunk { codes, scales, shifts } = F::chunk(block, index);
            let mut wide = [0.0; CHUNK];
            wide.iter_mut().zip(codes).for_each(|(wide, code)| {
                *wide = f32::from(code.wrapping_sub(F::ZERO).cast_signed());
            });
            // A group is a whole number of registers of any width.
            for ((wide, x), scale) in wide.chunks_exact(F::GROUP).zip(x.chunks_exact(F::GROUP)).zip(scales) {
                let (wide, x) = (V::as_simd_f32s(wide).0, V::as_simd_f32s(x).0);
                let mut group = simd.splat_f32s(0.0);
                for (&wide, &x) in wide.iter().zip(x) {
                    group = simd.mul_add_e_f32s(wide, x, group);
                }
                sum = simd.mul_add_e_f32s(group, simd.splat_f32s(scale), sum);
            }
            if F::SHIFTED {
                shifted += match F::GROUP {
                    CHUNK => shifts[0] * (sums[0] + sums[1]),
                    _ => shifts[0] * sums[0] + shifts[1] * sums[1],
                };
            }
        }
    }
    simd.reduce_sum_f32s(sum) + shifted
}

/// |scale| · (code + zero) + |shift| of every value.
#[cfg(test)]
pub(super) fn terms(format: Format, blocks: &[u8]) -> Vec<f64> {
    fn of<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8]) -> Vec<f64> {
        let chunks = blocks.as_chunks::<BYTES>().0.iter();
        let chunks = chunks.flat_map(|block| (0..F::VALUES / CHUNK).map(|index| F::chunk(block, index)));
        let terms = |chunk: Chunk| {
            chunk.codes.into_iter().enumerate().map(move |(i, code)| {
                let (scale, shift) = (chunk.scales[i / 16].abs(), chunk.shifts[i / 16].abs());
                f64::from(scale * (f32::from(code) + f32::from(F::ZERO)) + shift)
            })
        };
        chunks.flat_map(terms).collect()
    }
    of_format!(format, of(blocks))
}

/// Products of rows with one x in integers, as they are taken here and as they would be on any processor.
#[cfg(test)]
pub(super) fn both_products(format: Format, blocks: &[u8], x: &[f32], outputs: usize) -> [Vec<f32>; 2] {
    fn plain<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
        integers::plain::<BYTES, F>(blocks, x, y);
    }
    let (x, mut y) = (Rounded::of(x), [vec![0.0; outputs], vec![0.0; outputs]]);
    of_format!(format, rounded_products(blocks, &x, &mut y[0]));
    of_format!(format, plain(blocks, &x, &mut y[1]));
    y
}
