//! Products of activations in bfloat16 with weights in bfloat16: every lane of a register adds two products at once, in f32.
//!
//! The instruction takes subnormal numbers for zeros.

use burn::tensor::bf16;
use rayon::prelude::*;

use super::product::Columns;
use super::wide;
use crate::kernels::activations::to_bf16;

/// Whether this processor has the instructions.
pub(super) fn are_here() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    false
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

/// `y = x · weightᵀ` where [`are_here`]. `weight`: the rows of the matrix that y's columns are.
pub(super) fn product(weight: &[bf16], x: &Pairs, y: &mut Columns<'_, f32>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: who calls says that the processor has the instructions, which `are_here` found.
    unsafe {
        x86::by_slabs(weight, x, y);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (weight, x, y);
        unreachable!("no such instructions here");
    }
}

/// As [`product`], of few rows in one pass over the weight: `y[out][row]`.
pub(super) fn few(weight: &[bf16], x: &Pairs, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        x86::row_by_row(weight, x, y);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (weight, x, y);
        unreachable!("no such instructions here");
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use burn::tensor::bf16;

    use super::Pairs;
    use crate::kernels::flex::product::Columns;

    /// Lanes of a register.
    const LANES: usize = 16;

    /// Registers of a slab, and its outputs.
    const REGISTERS: usize = 4;
    const WIDTH: usize = REGISTERS * LANES;

    /// Rows of a tile.
    const ROWS: usize = 6;

    #[inline(always)]
    fn pair(two: [bf16; 2]) -> u32 {
        u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16
    }

    /// sum + the two products of every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: both are 512 bits of any kind.
        let (a, b) =
            unsafe { (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) };
        _mm512_dpbf16_ps(sum, a, b)
    }

    /// W outputs in the order in which they are multiplied: `[pairs][outputs]`.
    fn fill(slab: &mut [[u32; WIDTH]], weight: &[bf16], input: usize) {
        let width = weight.len() / input;
        let pairs = input / 2;
        for (index, slab) in slab.iter_mut().enumerate() {
            for (lane, two) in slab.iter_mut().enumerate().take(width) {
                let at = lane * input + 2 * index;
                *two = match index < pairs {
                    true => pair([weight[at], weight[at + 1]]),
                    false => pair([weight[at], bf16::ZERO]),
                };
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn by_slabs(weight: &[bf16], x: &Pairs, y: &mut Columns<'_, f32>) {
        let outputs = y.range().len();
        if weight.is_empty() {
            return;
        }
        let input = weight.len() / outputs;
        let mut slab = vec![[0; WIDTH]; x.of_row];
        for (index, weight) in weight.chunks(WIDTH * input).enumerate() {
            fill(&mut slab, weight, input);
            let (first, width) = (index * WIDTH, weight.len() / input);
            let mut tiles = x.pairs.chunks_exact(ROWS * x.of_row);
            let mut row = 0;
            let mut put = |values: &[[f32; WIDTH]]| {
                for values in values {
                    y.row(row)[first..][..width].write_copy_of_slice(&values[..width]);
                    row += 1;
                }
            };
            for x in &mut tiles {
                put(&tile::<ROWS>(&slab, x));
            }
            for x in tiles.remainder().chunks_exact(x.of_row) {
                put(&tile::<1>(&slab, x));
            }
        }
    }

    /// M rows of x with a slab.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn tile<const M: usize>(slab: &[[u32; WIDTH]], x: &[u32]) -> [[f32; WIDTH]; M] {
        let of_row = slab.len();
        assert_eq!(x.len(), M * of_row, "rows of a tile");
        let mut sums = [[_mm512_setzero_ps(); REGISTERS]; M];
        for (index, weight) in slab.iter().enumerate() {
            // SAFETY: a slab is REGISTERS registers wide, and x has M rows of as many pairs.
            unsafe {
                let weight: [__m512i; REGISTERS] =
                    std::array::from_fn(|v| _mm512_loadu_si512(weight.as_ptr().add(v * LANES).cast()));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let two = _mm512_set1_epi32(x.get_unchecked(m * of_row + index).cast_signed());
                    for v in 0..REGISTERS {
                        sums[v] = dot(sums[v], weight[v], two);
                    }
                }
            }
        }
        let mut values = [[0.0; WIDTH]; M];
        for (values, sums) in values.iter_mut().zip(sums) {
            for (values, sum) in values.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                // SAFETY: a register's lanes.
                unsafe { _mm512_storeu_ps(values.as_mut_ptr(), sum) };
            }
        }
        values
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn row_by_row(weight: &[bf16], x: &Pairs, y: &mut [f32]) {
        if weight.is_empty() {
            return;
        }
        let rows = x.rows();
        let input = weight.len() * rows / y.len();
        for (weight, y) in weight.chunks_exact(input).zip(y.chunks_exact_mut(rows)) {
            for (x, y) in x.pairs.chunks_exact(x.of_row).zip(y) {
                *y = product(weight, x);
            }
        }
    }

    /// One row with one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn product(weight: &[bf16], x: &[u32]) -> f32 {
        let (weights, weight_rest) = weight.as_chunks::<{ 2 * LANES }>();
        // What is left of the weight may make up a whole register of pairs, the last of them half empty.
        let (xs, x_rest) = x.split_at(weights.len() * LANES);
        let (xs, _) = xs.as_chunks::<LANES>();
        let mut sums = [_mm512_setzero_ps(); 4];
        for (index, (weight, x)) in weights.iter().zip(xs).enumerate() {
            // SAFETY: both are 512 bits.
            let (weight, x) =
                unsafe { (_mm512_loadu_si512(weight.as_ptr().cast()), _mm512_loadu_si512(x.as_ptr().cast())) };
            sums[index % 4] = dot(sums[index % 4], weight, x);
        }
        let mut rest = [0; LANES];
        for (rest, two) in rest.iter_mut().zip(weight_rest.chunks(2)) {
            *rest = pair([two[0], two.get(1).copied().unwrap_or(bf16::ZERO)]);
        }
        let mut x_last = [0; LANES];
        x_last[..x_rest.len()].copy_from_slice(x_rest);
        // SAFETY: both are 512 bits.
        let (weight, x) =
            unsafe { (_mm512_loadu_si512(rest.as_ptr().cast()), _mm512_loadu_si512(x_last.as_ptr().cast())) };
        sums[3] = dot(sums[3], weight, x);
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
    }
}
