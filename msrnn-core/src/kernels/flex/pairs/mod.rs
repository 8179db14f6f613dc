//! Products of activations in bfloat16 with weights in bfloat16: every lane of a register adds two products at once, in f32.
//!
//! Instructions take subnormal numbers for zeros, or round sums in a way of their own.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod registers;

use burn::tensor::bf16;
use rayon::prelude::*;

use super::product::Columns;
use super::wide;
use crate::kernels::activations::to_bf16;

/// Products with rows of a matrix, safe where the processor has the instructions, as it has those of what is found here.
#[derive(Clone, Copy)]
pub(super) struct Products {
    /// `y = x · weightᵀ`. `weight`: the rows of the matrix that y's columns are.
    pub(super) many: unsafe fn(&[bf16], &Pairs, &mut Columns<'_, f32>),
    /// The same of few rows, in one pass over the weight: `y[out][row]`.
    pub(super) few: unsafe fn(&[bf16], &Pairs, &mut [f32]),
}

/// By the fastest instructions for it, if the processor has some.
pub(super) fn products() -> Option<(&'static str, Products)> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return registers::products();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None
}

/// Rows of activations in bfloat16, two neighbours in an integer; what is missing in the last is zero.
pub(super) struct Pairs {
    /// `[rows, pairs]`
    pairs: Vec<u32>,
    /// Of a row.
    of_row: usize,
}

/// Rows of one task that rounds them.
const TASK: usize = 16;

impl Pairs {
    /// `x`: rows of `input` values.
    pub(super) fn of(x: &[f32], input: usize) -> Self {
        let of_row = input.div_ceil(2);
        let mut pairs = vec![0; x.len() / input * of_row];
        let tasks = pairs.par_chunks_mut(TASK * of_row).zip(x.par_chunks(TASK * input));
        tasks.for_each(|(pairs, x)| {
            wide(
                #[inline(always)]
                || {
                    for (pairs, x) in pairs.chunks_exact_mut(of_row).zip(x.chunks_exact(input)) {
                        let (twos, last) = x.as_chunks::<2>();
                        for (pair, two) in pairs.iter_mut().zip(twos) {
                            *pair = u32::from(to_bf16(two[0])) | u32::from(to_bf16(two[1])) << 16;
                        }
                        last.iter().for_each(|x| pairs[of_row - 1] = u32::from(to_bf16(*x)));
                    }
                },
            );
        });
        Self { pairs, of_row }
    }

    pub(super) fn rows(&self) -> usize {
        self.pairs.len() / self.of_row
    }
}
