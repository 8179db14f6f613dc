//! Weights in blocks.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::Arch;

use super::access::open_int;
use super::integers::Rounded;
use super::product::{self, Columns, Product};
use super::quads;
#[cfg(test)]
use super::row;
use super::row::{Row, products as row_products};
use super::slabs;
use super::weight::{Arranged, FEW, Form, Products, Rows, Weight, seen};
use crate::kernels;
use crate::kernels::activations::Activations;
use crate::kernels::blocks::{Format, Int8, Iq4Nl, Packed, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

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
        self.format.dequantize(self.rows_of(outputs), &mut values);
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

    fn few_at_most(&self) -> usize {
        // Blocks are unpacked for all rows at once only in products of many.
        if slabs::products().next().is_some() { 1 } else { FEW }
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
            Rows::Floats(x) => {
                if !of_format!(self.format, many_products(blocks, x, y)) {
                    f32::product(y, x, product::Rows::Transposed(&self.values(y.range())), 1.0);
                }
            }
            Rows::Bf16(_) => unreachable!("blocks are multiplied with floats or integers"),
        }
    }

    fn arranged(&self, x: &[f32]) -> Arranged<f32> {
        match self.activations {
            activations if x.len() > self.dims[1] => Arranged::Values(seen(activations, x).into_owned()),
            Activations::Int8 => Arranged::Row(of_format!(self.format, rounded(x))),
            _ => Arranged::Row(Row::floats(x)),
        }
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<f32>, y: &mut [f32]) {
        let blocks = self.rows_of(outputs.clone());
        match x {
            Arranged::Row(x) => of_format!(self.format, row_products(blocks, x, y)),
            // A row's values are taken out of their blocks once for all rows of x.
            Arranged::Values(x) => {
                Arch::new().dispatch(Products { weight: &self.values(outputs), input: self.dims[1], x, y });
            }
            Arranged::Bf16(_) => unreachable!("blocks are multiplied with floats or integers"),
        }
    }
}

/// Whether the processor has the registers; the products, if it has.
fn many_products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &[f32], y: &mut Columns<'_, f32>) -> bool {
    // SAFETY: the processor has the registers.
    let product = |(_, product): (_, slabs::ProductWithBlocks)| unsafe { product(blocks, x, y) };
    slabs::products_with_blocks::<BYTES, F>().next().map(product).is_some()
}

fn rounded<const BYTES: usize, F: Packed<BYTES>>(x: &[f32]) -> Row {
    Row::rounded(x, F::ZERO)
}

fn many_rounded_products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut Columns<'_, f32>) {
    let (_, product) = quads::products::<BYTES, F>().next().expect("a form that the processor has");
    // SAFETY: the processor has the instructions.
    unsafe { product(blocks, x, y) };
}

/// |scale| · (code + zero) + |shift| of every value.
#[cfg(test)]
pub(super) fn terms(format: Format, blocks: &[u8]) -> Vec<f64> {
    use crate::kernels::blocks::{CHUNK, Plain, Scales};

    fn of<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8]) -> Vec<f64> {
        let of_block = |block: &[u8; BYTES]| {
            let Scales { scales, shifts } = F::scales::<Plain>(block);
            let terms = |value: usize| {
                let (code, group) = (F::codes::<Plain>(block, value / CHUNK).bytes()[value % CHUNK], value / F::GROUP);
                f64::from(scales[group].abs() * (f32::from(code) + f32::from(F::ZERO)) + shifts[group].abs())
            };
            (0..F::VALUES).map(terms).collect::<Vec<f64>>()
        };
        blocks.as_chunks::<BYTES>().0.iter().flat_map(of_block).collect()
    }
    of_format!(format, of(blocks))
}

/// Products of a matrix with rows of x, `[rows, outputs]`, in every way that this processor has, behind what they are in
/// instructions of any processor: with x as it is, and in integers.
#[cfg(test)]
pub(super) fn every_product(
    format: Format,
    blocks: &[u8],
    x: &[f32],
    [rows, outputs]: [usize; 2],
) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    type Found = Vec<(String, Vec<f32>, Vec<f32>)>;
    fn of<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &[f32], [rows, outputs]: [usize; 2]) -> Found {
        let mut all = Vec::new();
        for form in ["floats", "integers"] {
            let xs = x.chunks_exact(x.len() / rows);
            let xs: Vec<Row> = match form {
                "floats" => xs.map(Row::floats).collect(),
                _ => xs.map(|x| Row::rounded(x, F::ZERO)).collect(),
            };
            let plain = |x: &Row| {
                let mut y = vec![0.0; outputs];
                row::plain::<BYTES, F>(blocks, x, &mut y);
                y
            };
            let expected: Vec<f32> = xs.iter().flat_map(plain).collect();
            for (name, products) in row::kinds::<BYTES, F>() {
                let mut found = vec![0.0; rows * outputs];
                // SAFETY: the processor has the instructions.
                xs.iter().zip(found.chunks_mut(outputs)).for_each(|(x, y)| unsafe { products(blocks, x, y) });
                all.push((format!("{form} by {name}"), expected.clone(), found));
            }
            let mut add = |name: &str, product: &dyn Fn(&mut Columns<'_, f32>)| {
                let mut found = vec![0.0; rows * outputs];
                product(&mut Columns::over(&mut found, outputs));
                all.push((format!("{form} of many rows in {name}"), expected.clone(), found));
            };
            // SAFETY: the processor has the instructions.
            match form {
                "floats" => slabs::products_with_blocks::<BYTES, F>()
                    .for_each(|(name, product)| add(name, &|y| unsafe { product(blocks, x, y) })),
                _ => quads::products::<BYTES, F>()
                    .for_each(|(name, product)| add(name, &|y| unsafe { product(blocks, &Rounded::of(x), y) })),
            }
        }
        all
    }
    of_format!(format, of(blocks, x, [rows, outputs]))
}

/// The values of a matrix, row by row, out of the order in which they are multiplied, by every kind of registers that this
/// processor has.
#[cfg(test)]
pub(super) fn every_unpacking(format: Format, blocks: &[u8], outputs: usize) -> Vec<(&'static str, Vec<f32>)> {
    fn of<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], outputs: usize) -> Vec<(&'static str, Vec<f32>)> {
        let input = blocks.len() / outputs / BYTES * F::VALUES;
        // A row with a single one has a column of the weight for a product.
        let ones: Vec<f32> = (0..input * input).map(|at| if at % (input + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let by_row = |y: Vec<f32>| (0..input * outputs).map(|at| y[at % input * outputs + at / input]).collect();
        let values = |product: slabs::ProductWithBlocks| {
            let mut columns = vec![0.0; input * outputs];
            // SAFETY: the processor has the registers.
            unsafe { product(blocks, &ones, &mut Columns::over(&mut columns, outputs)) };
            by_row(columns)
        };
        slabs::products_with_blocks::<BYTES, F>().map(|(name, product)| (name, values(product))).collect()
    }
    of_format!(format, of(blocks, outputs))
}
