//! Weights in blocks, multiplied with f32 in registers, or with activations in 8 bits as integers.

use std::marker::PhantomData;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};

use super::access::open_int;
use super::integers::{self, Rounded};
use super::product::{Columns, Product};
use super::quads;
use super::weight::{Arranged, Form, Products, Rows, Weight, seen};
use super::wide;
use crate::kernels;
use crate::kernels::activations::Activations;
use crate::kernels::blocks::{
    CHUNK, Format, Int8, Iq4Nl, Packed, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Scales, dequantize,
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

/// The blocks of a matrix.
pub(super) struct Blocks {
    bytes: FlexTensor,
    format: Format,
    activations: Activations,
    dims: [usize; 2],
}

impl Blocks {
    pub(super) fn of(weight: kernels::Blocks, activations: Activations) -> Self {
        let (dims, format) = (weight.dims(), weight.format);
        let mut bytes = open_int(weight.bytes);
        if bytes.layout().contiguous_offsets().is_none_or(|(start, _)| start != 0) {
            bytes = bytes.to_contiguous();
        }
        Self { bytes, format, activations, dims }
    }

    /// Of some outputs, row by row.
    fn rows_of(&self, outputs: Range<usize>) -> &[u8] {
        let (bytes, of_row) = (self.bytes.storage::<u8>(), self.format.bytes(self.dims[1]).expect("it is in memory"));
        &bytes[outputs.start * of_row..outputs.end * of_row]
    }

    /// What they stand for.
    fn values(&self, outputs: Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; outputs.len() * self.dims[1]];
        let blocks = self.rows_of(outputs);
        of_format!(self.format, dequantized(blocks, &mut values));
        values
    }
}

impl Weight<f32> for Blocks {
    fn bytes(&self) -> usize {
        self.rows_of(0..self.dims[0]).len()
    }

    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn form(&self) -> Form {
        match self.activations {
            Activations::Int8 if quads::are_here() => Form::Integers,
            activations => Form::Floats(activations),
        }
    }

    fn rows<'a>(&self, x: &'a [f32]) -> Rows<'a, f32> {
        match self.form() {
            Form::Integers => Rows::Integers(Rounded::of(x)),
            _ => Rows::Floats(seen(self.activations, x)),
        }
    }

    fn many(&self, x: &Rows<'_, f32>, y: &mut Columns<'_, f32>) {
        let blocks = self.rows_of(y.range());
        match x {
            Rows::Integers(x) => of_format!(self.format, many_rounded_products(blocks, x, y)),
            Rows::Floats(x) => f32::product_into(y, x, &self.values(y.range()), self.dims[1]),
            Rows::Bf16(_) => unreachable!("blocks are multiplied with floats or integers"),
        }
    }

    fn arranged(&self, x: &[f32]) -> Arranged<f32> {
        match self.activations {
            activations if x.len() > self.dims[1] => Arranged::Values(seen(activations, x).into_owned()),
            Activations::Int8 => Arranged::Rounded(Rounded::of(x)),
            _ => Arranged::Summed(x.to_vec(), sums(x)),
        }
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<f32>, y: &mut [f32]) {
        let blocks = self.rows_of(outputs.clone());
        match x {
            Arranged::Summed(x, sums) => of_format!(self.format, products(blocks, x, sums, y)),
            Arranged::Rounded(x) => of_format!(self.format, rounded_products(blocks, x, y)),
            // A row's values are taken out of their blocks once for all rows of x.
            Arranged::Values(x) => {
                Arch::new().dispatch(Products { weight: &self.values(outputs), input: self.dims[1], x, y });
            }
            Arranged::Bf16(_) => unreachable!("blocks are multiplied with floats or integers"),
        }
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

fn many_rounded_products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut Columns<'_, f32>) {
    quads::product::<BYTES, F>(blocks, x, y);
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
        let Scales { scales, shifts } = F::scales(block);
        for (index, (x, sums)) in x.iter().zip(sums).enumerate() {
            let mut wide = [0.0; CHUNK];
            wide.iter_mut().zip(F::codes(block, index)).for_each(|(wide, code)| {
                *wide = f32::from(code.wrapping_sub(F::ZERO).cast_signed());
            });
            // A group is a whole number of registers of any width.
            let size = F::GROUP.min(CHUNK);
            let groups = wide.chunks_exact(size).zip(x.chunks_exact(size)).enumerate();
            for (at, (wide, x)) in groups {
                let (wide, x) = (V::as_simd_f32s(wide).0, V::as_simd_f32s(x).0);
                let mut group = simd.splat_f32s(0.0);
                for (&wide, &x) in wide.iter().zip(x) {
                    group = simd.mul_add_e_f32s(wide, x, group);
                }
                let scale = scales[(index * CHUNK + at * size) / F::GROUP];
                sum = simd.mul_add_e_f32s(group, simd.splat_f32s(scale), sum);
            }
            if F::SHIFTED {
                let of = |half: usize| shifts[(index * CHUNK + half * CHUNK / 2) / F::GROUP];
                shifted += match F::GROUP {
                    ..CHUNK => of(0) * sums[0] + of(1) * sums[1],
                    _ => of(0) * (sums[0] + sums[1]),
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
        let of_block = |block: &[u8; BYTES]| {
            let Scales { scales, shifts } = F::scales(block);
            let terms = |value: usize| {
                let (code, group) = (F::codes(block, value / CHUNK)[value % CHUNK], value / F::GROUP);
                f64::from(scales[group].abs() * (f32::from(code) + f32::from(F::ZERO)) + shifts[group].abs())
            };
            (0..F::VALUES).map(terms).collect::<Vec<f64>>()
        };
        blocks.as_chunks::<BYTES>().0.iter().flat_map(of_block).collect()
    }
    of_format!(format, of(blocks))
}

/// Products of a matrix with rows of x in integers, `[rows, outputs]`, on any processor, and in every way that this one has.
#[cfg(test)]
pub(super) fn every_product(
    format: Format,
    blocks: &[u8],
    x: &[f32],
    [rows, outputs]: [usize; 2],
) -> (Vec<f32>, Vec<(&'static str, Vec<f32>)>) {
    type Found = (Vec<f32>, Vec<(&'static str, Vec<f32>)>);
    fn of<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &[f32], [rows, outputs]: [usize; 2]) -> Found {
        let (mut plain, mut found) = (Vec::new(), quads::each::<BYTES, F>(blocks, &Rounded::of(x), [rows, outputs]));
        let mut one_by_one: Vec<(&'static str, Vec<f32>)> = Vec::new();
        for x in x.chunks_exact(x.len() / rows) {
            let x = Rounded::of(x);
            let mut y = vec![0.0; outputs];
            integers::plain::<BYTES, F>(blocks, &x, &mut y);
            plain.extend(y);
            for (index, (name, y)) in integers::each::<BYTES, F>(blocks, &x, outputs).into_iter().enumerate() {
                match one_by_one.get_mut(index) {
                    Some((_, all)) => all.extend(y),
                    None => one_by_one.push((name, y)),
                }
            }
        }
        found.extend(one_by_one);
        (plain, found)
    }
    of_format!(format, of(blocks, x, [rows, outputs]))
}
